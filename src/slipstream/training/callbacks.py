"""Callbacks: what happens beside the training, once a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from slipstream.errors import InputError
from slipstream.objectives.objective import Loss
from slipstream.training.ema import EMA


@dataclass
class Run:
    """A training under way, as its callbacks see it.

    Attributes
    ----------
    module, ema : what is trained, and its average where there is one.
    step : how many steps are done, over all continuations. seconds : how long they took.
    progress : share of the budget that is spent, in [0, 1]. rate : factor of the learning rate in this step.
    loss : of this step; reading its tensors waits for the device.
    """

    module: nn.Module
    ema: EMA | None = None
    step: int = 0
    seconds: float = 0.0
    progress: float = 0.0
    rate: float = 1.0
    loss: Loss | None = None
    noted: dict[str, float] = field(default_factory=dict)
    reason: str = ""

    def note(self, **values: float) -> None:
        """Put named numbers into the next row of the log."""
        self.noted.update({name: float(value) for name, value in values.items()})

    def stop(self, reason: str) -> None:
        """End the training after this step; everything is saved."""
        self.reason = reason

    @contextmanager
    def evaluation(self) -> Iterator[nn.Module]:
        """The module as training would leave it now: averaged weights, evaluation mode, no gradients. Put back afterwards."""
        modes = [(m, m.training) for m in self.module.modules()]
        with torch.no_grad(), nullcontext() if self.ema is None else self.ema.worn():
            self.module.eval()
            try:
                yield self.module
            finally:
                for m, mode in modes:
                    m.training = mode


class Callback:
    """Called after every step, on every process. What it keeps between steps is in `state_dict`, so that training continues exactly."""

    def on_step(self, run: Run) -> None:
        raise TypeError(f"{type(self).__name__} does nothing: a callback defines on_step(run).")

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state:
            raise InputError(f"{type(self).__name__} keeps no state, but got {sorted(state)}.")


class Validate(Callback):
    """Measures the module every few steps and puts the figures into the log.

    Parameters
    ----------
    measure : called with the module (averaged weights, evaluation mode, no gradients); returns name -> number.
    every : steps between measurements.
    """

    def __init__(self, measure: Callable[[nn.Module], Mapping[str, float]], every: int = 100) -> None:
        if every < 1:
            raise InputError(f"Validate measures every 1 step at the most; got every={every}.")
        self.measure, self.every = measure, every

    def on_step(self, run: Run) -> None:
        if run.step % self.every == 0:
            with run.evaluation() as module:
                run.note(**self.measure(module))
