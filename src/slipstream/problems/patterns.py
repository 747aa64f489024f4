"""Ready-made problems of patterns: rolls of convection, and alloys that separate."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations.patterns import CahnHilliard, SwiftHohenberg
from slipstream.problems.periodic import PeriodicProblem, smooth_field
from slipstream.solvers.schemes import ETDRK4


class ConvectionRolls(PeriodicProblem):
    r"""Rolls and hexagons that grow from noise and order.

    .. math:: \partial_t u = r\, u - (1 + \Delta)^2 u + g\, u^2 - u^3

    Frames: amplitude. The wavelength is 2 pi: eight points for that length.

    Parameters
    ----------
    num_points : along each axis, even. drive : r, may be a range (low, high) over runs. asymmetry : g, may be a range.
    interval : time between frames. extent : side of the box. num_dims : 1, 2 or 3. warm_up : time before frames count.
    """

    def __init__(
        self,
        num_points: int = 64,
        drive: float | Sequence[float] = (0.2, 0.6),
        asymmetry: float | Sequence[float] = (0.0, 0.5),
        interval: float = 0.5,
        extent: float = 16 * math.pi,
        num_dims: int = 2,
        warm_up: float = 5.0,
    ) -> None:
        self.num_points, self.drive, self.asymmetry, self.interval = num_points, drive, asymmetry, interval
        self.extent, self.num_dims, self.warm_up = extent, num_dims, warm_up
        self._box(num_points, extent, interval, num_dims, warm_up)
        low = self._vary(drive=drive) | self._vary(False, asymmetry=asymmetry)
        self.equation = SwiftHohenberg(low["drive"], 1.0, low["asymmetry"], num_dims)
        self._settings(0.125, 0.0625, fast=ETDRK4)

    def initial(self, generator: torch.Generator) -> Float[Tensor, "channel *space"]:
        return smooth_field(self.grid, generator, max(2.0, 1.5 * self.extent / (2 * math.pi)), 0.3)[None]


class PhaseSeparation(PeriodicProblem):
    r"""An alloy that separates: domains form from noise and coarsen, and no phase is made or lost.

    .. math:: \partial_t u = M\, \Delta \left( u^3 - u - \epsilon^2 \Delta u \right)

    Frames: composition, -1 to 1. Walls are about ``3 epsilon`` wide: four points for that length.

    Parameters
    ----------
    num_points : along each axis, even. width : epsilon, may be a range (low, high) over runs. mean : composition, the same.
    interval : time between frames. extent : side of the box. num_dims : 1, 2 or 3. warm_up : time before frames count.
    """

    def __init__(
        self,
        num_points: int = 64,
        width: float | Sequence[float] = 0.03,
        mean: float | Sequence[float] = (-0.2, 0.2),
        interval: float = 1e-3,
        extent: float = 1.0,
        num_dims: int = 2,
        warm_up: float = 5e-3,
    ) -> None:
        self.num_points, self.width, self.mean, self.interval = num_points, width, mean, interval
        self.extent, self.num_dims, self.warm_up = extent, num_dims, warm_up
        self._box(num_points, extent, interval, num_dims, warm_up)
        self._mean = self._ends("mean", mean, positive=False)
        self.equation = CahnHilliard(1.0, self._vary(width=width)["width"], num_dims)
        dt = 0.1 * self.equation.width**2
        self._settings(dt, dt / 4, fast=ETDRK4)

    def initial(self, generator: torch.Generator) -> Float[Tensor, "channel *space"]:
        low, high = self._mean
        mean = low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))
        return mean + smooth_field(self.grid, generator, min(8, self.num_points // 4), 0.2)[None]
