"""Steppers with a training law of their own."""

from __future__ import annotations

import torch
from torch import nn

from slipstream.errors import InputError
from slipstream.objectives.objective import Loss, Objective
from slipstream.trajectories import Window


class Own(Objective):
    """What the stepper itself says it has to minimise: ``module.loss(window, generator)``, a scalar and named parts.

    For steppers that are not trained frame against frame: a learnt law at points, a denoiser, a flow between distributions. They
    bring no loop of their own, only the loss (or for `slipstream.training.Fit` the fit), and say how many known and later frames it needs
    where that is not their history and none: ``loss_frames``.
    """

    def frames_needed(self, module: nn.Module) -> tuple[int, int]:
        return getattr(module, "loss_frames", (getattr(module, "history", 1), 0))

    def check(self, module: nn.Module) -> None:
        if not callable(getattr(module, "loss", None)):
            raise InputError(
                f"{type(module).__name__} has no training law of its own (loss(window, generator)); "
                "train it with Supervised or PhysicsResidual."
            )

    def __call__(self, module: nn.Module, window: Window, generator: torch.Generator) -> Loss:
        return Loss(*module.loss(window, generator))  # type: ignore[operator]
