"""A small training that uses everything which could be lost on the way; as a program, it can be made to die."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

import slipstream.pretrained as pretrained
from slipstream.data.source import Source
from slipstream.grids import Grid
from slipstream.objectives.objective import Loss, Objective
from slipstream.training import checkpoint, loop
from slipstream.training.callbacks import Callback, Validate
from slipstream.training.ema import EMA
from slipstream.training.update import Descent
from slipstream.trajectories import Window

GRID = Grid.box(4)
CHECKED = (
    "beartype" in sys.modules
)  # it draws from Python's global generator at every check, and so nobody else can rely on that one


class Net(nn.Module):
    """Dropout draws from torch's global generator; batch normalisation keeps buffers; one weight is complex."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 4))
        self.turn = nn.Parameter(torch.zeros(3, dtype=torch.complex64))
        with torch.no_grad():
            for p in self.layers.parameters():
                p.copy_(torch.randn(p.shape, generator=generator) * 0.5)

    def forward(self, u):
        waves = torch.fft.rfft(u)
        return self.layers(u) + torch.fft.irfft(waves * self.turn, n=4)


class Pool(Source):
    """States that the module itself pushes on; some are drawn anew from every generator there is."""

    def __init__(self) -> None:
        self.states = torch.zeros(12, 4)
        self.given = 0

    def next(self, generator):
        index = torch.randperm(12, generator=generator)[:4]
        shift = float(np.random.rand()) + (0.0 if CHECKED else random.random())  # noqa: NPY002
        self.states[index[0]] = torch.randn(4, generator=generator) + shift
        self.given += 1
        return Window(self.states[index][:, None, None].clone(), GRID, 0.1, token=index)

    def feedback(self, window, outputs, scores=None):
        if outputs is None:
            return
        assert not outputs.requires_grad
        self.states[window.token] = outputs[:, 0, 0].clamp(-3, 3)

    def state_dict(self):
        return {"states": self.states, "given": self.given}

    def load_state_dict(self, state):
        self.states, self.given = state["states"].clone(), state["given"]


class Rotate(Objective):
    """Move every state one point to the right, seen through noise."""

    def __call__(self, module, window, generator):
        u = window.frames[:, 0, 0]
        made = module(u + 0.1 * torch.randn(u.shape, generator=generator))
        error = (made - u.roll(1, -1)).square().mean()
        size = 1e-3 * made.square().mean()
        return Loss(error + size, {"error": error, "size": size}, made[:, None, None])


class Counting(Callback):
    """Its state steers the training, so that losing it shows: every seventh call it shrinks a weight."""

    def __init__(self) -> None:
        self.calls = 0

    def on_step(self, run):
        self.calls += 1
        if self.calls % 7 == 0:
            with torch.no_grad():
                run.module.layers[0].weight.mul_(0.99)

    def state_dict(self):
        return {"calls": self.calls}

    def load_state_dict(self, state):
        self.calls = state["calls"]


class At(Callback):
    """Does something once, after a step."""

    def __init__(self, step, act):
        self.step, self.act = step, act

    def on_step(self, run):
        if run.step == self.step:
            self.act()


def measure(module):
    with torch.random.fork_rng():
        return {"gain": float(module(torch.ones(1, 4)).abs().mean())}


def everything(folder, steps=60, act=None, act_at=0, **changes):
    """Train with all there is, on a clock that ticks once a step; the module, and what `train` returned."""
    module = Net()
    arguments = {
        "steps": steps,
        "update": Descent(lr=0.02, optimiser=partial(torch.optim.Adam, betas=(0.8, 0.95))),
        "ema": EMA(0.9),
        "callbacks": (Counting(), Validate(measure, every=9), At(act_at, act)),
        "folder": folder,
        "save_every": 5.0,
        "log_every": 4,
        "show": False,
        **changes,
    }
    ticks = itertools.count()
    clock, loop.perf_counter = loop.perf_counter, lambda: float(next(ticks))
    try:
        return module, loop.train(module, Pool(), Rotate(), **arguments)
    finally:
        loop.perf_counter = clock


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def die_while_saving() -> None:
    """When the next state is written, only half of it reaches the disk, and the process dies."""

    def cut(number):
        os.ftruncate(number, os.fstat(number).st_size // 2)
        die()

    def write(path, content):
        pretrained.os.fsync = cut
        pretrained.write_whole(path, content)

    checkpoint.write_whole = write


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.optim.Adam(Net().parameters())  # imports more of torch; once is enough
    statuses = []
    for folder, how, step in (argument.rsplit(",", 2) for argument in sys.argv[1:]):
        child = os.fork()
        if child == 0:
            everything(
                Path(folder), act={"die": die, "cut": die_while_saving, "end": end, "go": None}[how], act_at=int(step)
            )
            os._exit(0)
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print(json.dumps(statuses))
