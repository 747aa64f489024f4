"""Ready-made problems of flame fronts: the Kuramoto-Sivashinsky equation on its attractor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations.kuramoto_sivashinsky import KuramotoSivashinsky, KuramotoSivashinskyFront
from slipstream.problems.periodic import PeriodicProblem, smooth_field
from slipstream.solvers.schemes import ETDRK4


class FlameSlope(PeriodicProblem):
    r"""Chaos on a line: cells of a flame front that merge and split without end.

    .. math:: \partial_t u + u\, \partial_x u + \partial_x^2 u + b\, \partial_x^4 u = 0

    Frames: slope of the front; statistically steady after the warm-up. Neighbouring states part at about 0.1 a time unit.

    Parameters
    ----------
    num_points : even. hyperviscosity : b, a number or a range (low, high) over runs.
    interval : time between frames. extent : length of the box. warm_up : time before frames count.
    """

    stationary = True

    def __init__(
        self,
        num_points: int = 128,
        hyperviscosity: float | Sequence[float] = 1.0,
        interval: float = 0.25,
        extent: float = 64.0,
        warm_up: float = 100.0,
    ) -> None:
        self.num_points, self.hyperviscosity, self.interval = num_points, hyperviscosity, interval
        self.extent, self.warm_up = extent, warm_up
        self._box(num_points, extent, interval, 1, warm_up)
        self.equation = KuramotoSivashinsky(1.0, self._vary(hyperviscosity=hyperviscosity)["hyperviscosity"])
        self._settings(0.0625, 0.03125, fast=ETDRK4)

    def initial(self, generator: torch.Generator) -> Float[Tensor, "channel *space"]:
        return smooth_field(self.grid, generator, max(2.0, min(self.extent / 10, self.num_points / 4)))[None]


class FlameSurface(PeriodicProblem):
    r"""The same front as a surface: cells that boil in the plane.

    .. math:: \partial_t h + \tfrac12 \left( |\nabla h|^2 - \langle |\nabla h|^2 \rangle \right) + \Delta h + b\, \Delta^2 h = 0

    Frames: height above the mean front; statistically steady after the warm-up.

    Parameters
    ----------
    num_points : along each axis, even. hyperviscosity, interval, warm_up : as in `FlameSlope`. extent : side of the square.
    """

    stationary = True

    def __init__(
        self,
        num_points: int = 64,
        hyperviscosity: float | Sequence[float] = 1.0,
        interval: float = 0.125,
        extent: float = 32.0,
        warm_up: float = 50.0,
    ) -> None:
        self.num_points, self.hyperviscosity, self.interval = num_points, hyperviscosity, interval
        self.extent, self.warm_up = extent, warm_up
        self._box(num_points, extent, interval, 2, warm_up)
        self.equation = KuramotoSivashinskyFront(1.0, self._vary(hyperviscosity=hyperviscosity)["hyperviscosity"])
        self._settings(0.0625, 0.03125, fast=ETDRK4)

    def initial(self, generator: torch.Generator) -> Float[Tensor, "channel *space"]:
        return smooth_field(self.grid, generator, max(2.0, min(self.extent / 10, self.num_points / 4)))[None]
