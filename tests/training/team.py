"""A training on several processes, to be started by torchrun; each process writes what it found into the folder given."""

from __future__ import annotations

import atexit
import json
import os
import sys
from functools import partial
from pathlib import Path

import torch
import trainee
from torch import nn

from slipstream.errors import SlipstreamError
from slipstream.objectives.objective import Loss
from slipstream.training import processes
from slipstream.training.ema import EMA
from slipstream.training.loop import train
from slipstream.training.update import Descent, Update
from slipstream.trajectories import Window


class Share(trainee.Source):
    """Rows of the same stream of data: all of them, or those of one process."""

    def __init__(self, rows: slice) -> None:
        self.rows, self.step = rows, 0

    def next(self, generator):
        self.step += 1
        whole = torch.randn(8, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(self.step))
        return Window(whole[self.rows, None, None], trainee.GRID, 0.1)


class Branching(nn.Module):
    """`never` is used by no process, `sometimes` by those whose first number is positive."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.never, self.sometimes = nn.Linear(4, 4, dtype=torch.float64), nn.Linear(4, 4, dtype=torch.float64)
        self.always = nn.Linear(4, 4, dtype=torch.float64)
        self.turn = nn.Parameter(torch.ones(4, dtype=torch.complex128))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, dtype=torch.float64, generator=generator) * 0.5)

    def forward(self, u):
        made = torch.tanh(self.always(u)) * (self.turn * u).real
        gate = u[:, :1] > 0
        return made + torch.where(gate, self.sometimes(u), 0.0) if gate.any() else made


def copy_error(module, window, generator):
    u = window.frames[:, 0, 0]
    made = module(u)
    return Loss((made - u.roll(1, -1)).square().mean(), outputs=made[:, None, None])


class Copy(trainee.Objective):
    def __call__(self, module, window, generator):
        return copy_error(module, window, generator)


class Alone(Update):
    """Changes weights by the local gradient, past backward()."""

    def step(self, module, objective, window, generator, rate):
        loss = objective(module, window, generator)
        parameters = list(module.always.parameters())
        with torch.no_grad():
            for p, g in zip(parameters, torch.autograd.grad(loss.total, parameters), strict=True):
                p -= 0.1 * g
        return loss


def descend(rows: slice, seed: int = 0, **changes):
    """Clipped descent with momentum and weight decay; weights and losses."""
    module = Branching(seed)
    update = Descent(lr=0.05, optimiser=partial(torch.optim.AdamW, weight_decay=0.1), clip=0.3)
    training = train(module, Share(rows), Copy(), steps=30, update=update, ema=EMA(0.8), show=False, **changes)
    return module.state_dict(), [row["total"] for row in training.history]


class StopOn(trainee.Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, run):
        if run.step == self.step:
            run.stop("enough")


def gloo_threads() -> int:
    """Threads of this process that a group of processes has started."""
    return sum("gloo" in (task / "comm").read_text() for task in Path("/proc/self/task").glob("*"))


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    half = slice(0, 4) if rank == 0 else slice(4, 8)
    weights, losses = descend(half, seed=rank, folder=folder / "half")
    torch.save({"weights": weights, "losses": losses}, folder / f"half-{rank}.pt")

    # A pool on every process; the second one alone asks to stop.
    callbacks = (trainee.Counting(), StopOn(-1))
    whole, _ = trainee.everything(folder / "whole", steps=30, callbacks=callbacks)
    callbacks = (trainee.Counting(), StopOn(13 if rank == 1 else -1))
    _, stopped = trainee.everything(folder / "stopped", steps=30, callbacks=callbacks)
    resumed, _ = trainee.everything(folder / "stopped", steps=30, callbacks=(trainee.Counting(), StopOn(-1)))
    result = {"stopped": stopped.steps, "reason": stopped.reason, "alone": ""}
    torch.save({"whole": whole.state_dict(), "resumed": resumed.state_dict()}, folder / f"pools-{rank}.pt")
    try:
        train(Branching(), Share(half), Copy(), steps=3, update=Alone(), show=False)
    except SlipstreamError as error:
        result["alone"] = str(error)
    before = gloo_threads()
    processes._leave()
    atexit.unregister(processes._leave)
    result["threads"] = [before, gloo_threads()]
    (folder / f"result-{rank}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
