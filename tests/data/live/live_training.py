"""Trainings on live ensembles, to be killed by themselves in a process of their own."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from functools import partial
from pathlib import Path

import torch

from slipstream.data import FIRO, Adaptive, Ensemble, InProcess, Programs, Reservoir
from slipstream.grids import Grid
from slipstream.objectives import Own, Supervised
from slipstream.operators import MLP
from slipstream.problems import HeatedPlate, Recorded, Statistics
from slipstream.steppers import Direct, wrap
from slipstream.training.callbacks import Callback
from slipstream.training.loop import train

STEPS = 30


class Kill(Callback):
    def __init__(self, at: int = 0) -> None:
        self.at = at

    def on_step(self, run):
        if run.step == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def go(folder, kill=0, steps=STEPS):
    """The weights, and the ensemble with all that it holds. States are saved after every step."""
    problem = HeatedPlate(num_points=6)
    torch.manual_seed(0)
    stepper = Direct(partial(MLP, hidden_channels=8, n_layers=1), problem, steps=6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = Ensemble(
            problem,
            steps=7,
            batch=4,
            engine=InProcess(problem, clients=3, calls=0.6),
            buffer=Reservoir(40, 10),
            draws=Adaptive(least=3),
            direct=True,
        )
    train(
        stepper,
        source,
        Own(),
        steps=steps,
        folder=folder,
        callbacks=[Kill(kill)],
        save_every=0.0,
        log_every=5,
        show=False,
    )
    return stepper, source


LINE = Recorded(Grid.box(8, num_dims=1), 1.0, ["u"], Statistics((0.0,), (1.0,), (1.0,)), {"rate": (0.5, 1.5)})
"""The problem that `program.py` computes runs of."""
FRAMES, RUNS = 6, 16


class Counted(Ensemble):
    """Writes down which windows it has given: (run, step of the last frame), over all continuations."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.seen = []

    def next(self, generator):
        window = super().next(generator)
        rates = window.parameters["rate"].tolist()
        for frames, member, rate in zip(window.frames, window.token.tolist(), rates, strict=True):
            seed = frames[0, 0, 0].item()
            step = round((frames[-1, 0, 0].item() - seed) / rate)
            assert step == self.history + self.horizon - 1, "consecutive frames"
            self.seen.append((member, seed))
        return window

    def state_dict(self):
        return {**super().state_dict(), "seen": list(self.seen)}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.seen = [tuple(w) for w in state["seen"]]


def command(fault="good", at=1, *more):
    return [sys.executable, str(Path(__file__).with_name("program.py")), fault, str(at), *map(str, more)]


def counted(engine, runs=RUNS, batch=4, buffer=None, **named):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Counted(LINE, FRAMES, batch, engine, FIRO(48, 8) if buffer is None else buffer, runs=runs, **named)


def line_stepper():
    torch.manual_seed(0)
    return wrap(torch.nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular"), LINE.interval)


def go_with_programs(folder, kill=0, fault="good", transport="pipe"):
    """All windows of all runs once. The programs are called with the folder, so that they can be found."""
    source = counted(Programs(command(fault, 1, folder), clients=3, transport=transport))
    train(
        line_stepper(),
        source,
        Supervised(),
        steps=1000,
        lr=1e-6,
        folder=folder,
        callbacks=[Kill(kill)],
        save_every=0.0,
        show=False,
    )
    return source
