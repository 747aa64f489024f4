"""Ready-made problems of Burgers' equation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations.burgers import Burgers
from slipstream.problems.periodic import PeriodicProblem, smooth_field


class SteepeningWaves(PeriodicProblem):
    r"""Random waves that steepen into fronts, which meet, merge and decay.

    .. math:: \partial_t u + (u \cdot \nabla) u = \nu \Delta u

    Frames: velocity (m/s), rms 1 at the start. Fronts are about ``4 nu`` wide: four points for that length.

    Parameters
    ----------
    num_points : along each axis, even. viscosity : nu, a number or a range (low, high) over runs.
    interval : time between frames. extent : side of the box. num_dims : 1, 2 or 3. highest : periods of the finest initial wave.
    """

    def __init__(
        self,
        num_points: int = 256,
        viscosity: float | Sequence[float] = (5e-3, 2e-2),
        interval: float = 0.005,
        extent: float = 1.0,
        num_dims: int = 1,
        highest: int = 3,
    ) -> None:
        self.num_points, self.viscosity, self.interval = num_points, viscosity, interval
        self.extent, self.num_dims, self.highest = extent, num_dims, highest
        self._box(num_points, extent, interval, num_dims)
        self.equation = Burgers(self._vary(viscosity=viscosity)["viscosity"], num_dims)
        dt = 0.4 * extent / num_points / 3
        self._settings(dt, dt / 2)

    def initial(self, generator: torch.Generator) -> Float[Tensor, "channel *space"]:
        return torch.stack([smooth_field(self.grid, generator, self.highest) for _ in range(self.num_dims)])
