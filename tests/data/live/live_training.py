"""A training on a live ensemble, to be killed by itself in a process of its own."""

from __future__ import annotations

import os
import signal
import warnings
from functools import partial

import torch

from slipstream.data import Adaptive, Ensemble, InProcess, Reservoir
from slipstream.objectives import Own
from slipstream.operators import MLP
from slipstream.problems import HeatedPlate
from slipstream.steppers import Direct
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
