"""Ready-made problems of flow in three dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations.navier_stokes import NavierStokes
from slipstream.equations.spectral import Spectral
from slipstream.problems.periodic import PeriodicProblem, smooth_field


class TaylorGreen(PeriodicProblem):
    r"""The Taylor-Green vortex and its disturbed kin: vortices stretch, roll up and break down to turbulence, which decays.

    .. math:: \partial_t u = P \left( -u \cdot \nabla u \right) + \nu \Delta u, \qquad \nabla \cdot u = 0

    Frames: velocity (m/s). Runs start from the vortex plus a random divergence-free field.
    Reynolds 100 needs about 32 points an axis, 400 about 96.

    Parameters
    ----------
    num_points : along each axis, even. reynolds : 1 / viscosity, a number or a range (low, high) over runs.
    interval : time between frames. extent : side of the cube. disturbance : rms of the random field relative to the vortex; 0 is
        the vortex itself, the same in every run. warm_up : time before frames count.
    """

    def __init__(
        self,
        num_points: int = 32,
        reynolds: float | Sequence[float] = 100.0,
        interval: float = 0.1,
        extent: float = 2 * math.pi,
        disturbance: float = 0.3,
        warm_up: float = 0.0,
    ) -> None:
        self.num_points, self.reynolds, self.interval, self.extent = num_points, reynolds, interval, extent
        self.disturbance, self.warm_up = disturbance, warm_up
        self._box(num_points, extent, interval, 3, warm_up)
        self._share("disturbance", disturbance, 10.0)
        low, high = self._ends("reynolds", reynolds)
        self.equation = NavierStokes(self._vary(viscosity=(1 / high, 1 / low))["viscosity"])
        dt = 0.25 * extent / num_points
        self._settings(dt, dt / 2, 1.5)

    def initial(self, generator: torch.Generator) -> Float[Tensor, "channel *space"]:
        x, y, z = 2 * math.pi / self.extent * self.grid.coordinates(torch.float64)
        vortex = torch.stack([torch.sin(x) * torch.cos(y), -torch.cos(x) * torch.sin(y), torch.zeros_like(x)])
        vortex = vortex * torch.cos(z)
        rough = torch.stack([smooth_field(self.grid, generator, 3) for _ in range(3)])
        noise = NavierStokes.project(rough[None], Spectral(self.grid, torch.float64))[0]
        return vortex + self.disturbance * 0.5 * noise / noise.square().sum(0).mean().sqrt()
