"""Fit: modules that know how to fit themselves to samples, in one step of the loop."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from slipstream.errors import InputError
from slipstream.objectives.objective import Loss, Objective
from slipstream.training.update import Update
from slipstream.trajectories import Window


class Fit(Update):
    """Calls ``module.fit(window)``: least squares, a table, Gauss-Newton steps; one step of training is the whole of it.

    What polynomials, tables and radial functions are trained with, so that they stand beside networks in one recipe::

        train: {steps: 1, update: {class: Fit}}

    The log has the loss before and, as ``fitted``, after; both on the samples of the fit, so verification has the last word.
    """

    def prepare(self, module: nn.Module) -> None:
        if not callable(getattr(module, "fit", None)):
            raise InputError(f"{type(module).__name__} cannot fit itself (fit(window)); train it with Descent.")

    def step(
        self, module: nn.Module, objective: Objective, window: Window, generator: torch.Generator, rate: float
    ) -> Loss:
        with torch.no_grad():
            state = generator.get_state()
            loss = objective(module, window, generator)
            if rate == 0:
                return loss
            module.fit(window)  # type: ignore[operator]
            after = objective(module, window, generator.set_state(state))
        return replace(loss, parts={**loss.parts, "fitted": after.total})
