"""Persistence: nothing changes."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from slipstream.channels import Channel, as_channels
from slipstream.grids import Grid
from slipstream.stepper import Stepper
from slipstream.trajectories import Parameters


class Persistence(Stepper):
    """The last frame for ever: what every other stepper has to beat, and the honest answer where none does.

    Parameters
    ----------
    grid, interval, channels : of the frames.
    """

    grid: Grid
    channels: tuple[Channel, ...]

    def __init__(self, grid: Grid, interval: float, channels: Sequence[Channel | str]) -> None:
        super().__init__()
        self.grid, self.interval, self.channels = grid, float(interval), as_channels(channels)

    def forward(
        self, past: Float[Tensor, "batch time channel *space"], parameters: Parameters
    ) -> Float[Tensor, "batch horizon channel *space"]:
        return past[:, -1:]
