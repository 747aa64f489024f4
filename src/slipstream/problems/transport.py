"""Ready-made problems of linear transport and of heat."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations.porous import NonlinearDiffusion
from slipstream.equations.transport import AdvectionDiffusion
from slipstream.problems.periodic import PeriodicProblem, smooth_field


class TracerTransport(PeriodicProblem):
    r"""Clouds of a tracer in a steady uniform stream, spreading while they move.

    .. math:: \partial_t u + c \cdot \nabla u = \nu \Delta u

    Frames: concentration, rms 1. The classical solver is exact: a rival that nothing beats in accuracy.

    Parameters
    ----------
    num_points : along each axis, even. velocity : c along each axis. diffusivity : nu. Both may be ranges (low, high) over runs.
    interval : time between frames. extent : side of the box. num_dims : 1, 2 or 3. highest : periods of the finest initial wave.
    """

    def __init__(
        self,
        num_points: int = 128,
        velocity: float | Sequence[float] = (0.5, 1.5),
        diffusivity: float | Sequence[float] = (1e-4, 1e-3),
        interval: float = 0.01,
        extent: float = 1.0,
        num_dims: int = 1,
        highest: int = 6,
    ) -> None:
        self.num_points, self.velocity, self.diffusivity = num_points, velocity, diffusivity
        self.interval, self.extent, self.num_dims, self.highest = interval, extent, num_dims, highest
        self._box(num_points, extent, interval, num_dims)
        c = self._ends("velocity", velocity, positive=False)
        along = self._vary(False, **{f"velocity_{a}": c for a in "xyz"[:num_dims]})
        nu = self._vary(diffusivity=diffusivity)["diffusivity"]
        self.equation = AdvectionDiffusion(list(along.values()), nu, num_dims)
        self._settings(interval, interval)

    def initial(self, generator: torch.Generator) -> Float[Tensor, "channel *space"]:
        return smooth_field(self.grid, generator, min(self.highest, self.num_points // 4))[None]


class HeatedMaterial(PeriodicProblem):
    r"""Heat in a material that conducts better where it is hot.

    .. math:: \partial_t u = \nabla \cdot \left( D (1 + a u + b u^2) \nabla u \right)

    Frames: temperature relative to a reference, rms 0.5; hot spots flatten and spread, cold ones stay sharp.

    Parameters
    ----------
    num_points, interval, extent, num_dims : as in `TracerTransport`. diffusivity : D. slope : a, may be a range over runs.
    curvature : b. highest : periods of the finest initial wave.
    """

    def __init__(
        self,
        num_points: int = 64,
        diffusivity: float | Sequence[float] = 0.01,
        slope: float | Sequence[float] = (0.2, 0.8),
        curvature: float = 0.3,
        interval: float = 0.02,
        extent: float = 1.0,
        num_dims: int = 1,
        highest: int = 4,
    ) -> None:
        self.num_points, self.diffusivity, self.slope, self.curvature = num_points, diffusivity, slope, curvature
        self.interval, self.extent, self.num_dims, self.highest = interval, extent, num_dims, highest
        self._box(num_points, extent, interval, num_dims)
        low = self._vary(diffusivity=diffusivity) | self._vary(False, slope=slope)
        self.equation = NonlinearDiffusion(low["diffusivity"], low["slope"], curvature, num_dims)
        self._settings(interval / 4, interval / 16)

    def initial(self, generator: torch.Generator) -> Float[Tensor, "channel *space"]:
        return smooth_field(self.grid, generator, min(self.highest, self.num_points // 4), 0.5)[None]
