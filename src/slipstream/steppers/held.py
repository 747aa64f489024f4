"""Held: a stepper for data with a mask."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from slipstream.errors import InputError, ShapeError
from slipstream.grids import Grid
from slipstream.stepper import Stepper
from slipstream.trajectories import Parameters


class Held(Stepper):
    """A memoryless stepper whose masked points keep what they held, so that what it says there never comes back as input.

    Parameters
    ----------
    stepper : writes `forward`; knows its grid.
    counts : (*space), False at masked points.
    """

    def __init__(self, stepper: Stepper, counts: Bool[Tensor, " *space"]) -> None:
        super().__init__()
        if stepper.grid is None or stepper.history < 1:
            raise InputError(
                f"Held needs a stepper with a grid and a past; {type(stepper).__name__} has history {stepper.history}."
            )
        if tuple(counts.shape) != stepper.grid.shape:
            raise ShapeError(
                f"Held got a mask of shape {tuple(counts.shape)}; the stepper's grid has {stepper.grid.shape} points."
            )
        self.stepper = stepper
        self.register_buffer("counts", counts, persistent=False)
        self.interval, self.history, self.horizon = stepper.interval, stepper.history, stepper.horizon
        self.channels, self.grid, self.starter = stepper.channels, stepper.grid, stepper.starter

    counts: Tensor
    grid: Grid | None

    def forward(
        self, past: Float[Tensor, "batch time channel *space"], parameters: Parameters
    ) -> Float[Tensor, "batch horizon channel *space"]:
        return torch.where(self.counts, self.stepper(past, parameters), past[:, -1:])
