"""Ready-made problems of reaction and diffusion: fronts, phases and spots."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations.reaction import AllenCahn, FisherKPP, GrayScott
from slipstream.problems.periodic import PeriodicProblem, smooth_field


class PopulationFronts(PeriodicProblem):
    r"""Settlements that grow and spread over empty land until it is full.

    .. math:: \partial_t u = \nu \Delta u + r\, u (1 - u)

    Frames: density, 0 to 1. Fronts are about ``sqrt(nu / r)`` wide: four points for that length.

    Parameters
    ----------
    num_points : along each axis, even. diffusivity : nu. growth : r. Both may be ranges (low, high) over runs.
    interval : time between frames. extent : side of the box. num_dims : 1, 2 or 3.
    """

    def __init__(
        self,
        num_points: int = 128,
        diffusivity: float | Sequence[float] = (5e-4, 2e-3),
        growth: float | Sequence[float] = 1.0,
        interval: float = 0.1,
        extent: float = 2.0,
        num_dims: int = 1,
    ) -> None:
        self.num_points, self.diffusivity, self.growth = num_points, diffusivity, growth
        self.interval, self.extent, self.num_dims = interval, extent, num_dims
        self._box(num_points, extent, interval, num_dims)
        low = self._vary(diffusivity=diffusivity, growth=growth)
        self.equation = FisherKPP(low["diffusivity"], low["growth"], num_dims)
        self._settings(interval / 2, interval / 8, 1.5)

    def initial(self, generator: torch.Generator) -> Float[Tensor, "channel *space"]:
        return 0.6 * torch.sigmoid(3 * smooth_field(self.grid, generator, 3) - 3)[None]


class PhaseOrdering(PeriodicProblem):
    r"""Two phases that separate from noise; domains then shrink by the curvature of their walls.

    .. math:: \partial_t u = \nu \Delta u + r\, (u - u^3)

    Frames: phase, -1 to 1. Walls are ``sqrt(2 nu / r)`` wide: three points for that length.

    Parameters
    ----------
    num_points : along each axis, even. diffusivity : nu, a number or a range (low, high) over runs. reaction : r.
    interval : time between frames. extent : side of the box. num_dims : 1, 2 or 3. highest : periods of the finest initial wave.
    """

    def __init__(
        self,
        num_points: int = 64,
        diffusivity: float | Sequence[float] = (2e-3, 4e-3),
        reaction: float = 2.0,
        interval: float = 0.1,
        extent: float = 2.0,
        num_dims: int = 2,
        highest: int = 5,
    ) -> None:
        self.num_points, self.diffusivity, self.reaction, self.interval = num_points, diffusivity, reaction, interval
        self.extent, self.num_dims, self.highest = extent, num_dims, highest
        self._box(num_points, extent, interval, num_dims)
        low = self._vary(diffusivity=diffusivity, reaction=reaction)
        self.equation = AllenCahn(low["diffusivity"], low["reaction"], num_dims)
        self._settings(interval / 4, interval / 8)

    def initial(self, generator: torch.Generator) -> Float[Tensor, "channel *space"]:
        return smooth_field(self.grid, generator, min(self.highest, self.num_points // 4), 0.4)[None]


class GrayScottPatterns(PeriodicProblem):
    r"""Chemical spots that divide and stripes that grow until the plane is full.

    .. math::
        \partial_t u = D_u \Delta u - u v^2 + F (1 - u), \qquad
        \partial_t v = D_v \Delta v + u v^2 - (F + k) v

    Frames: feed and catalyst. Runs start from a few drops of catalyst.

    Parameters
    ----------
    num_points : along each axis, even. feed : F. kill : k. Both may be ranges (low, high) over runs.
    interval : time between frames. extent : side of the square. warm_up : time before frames count. drops : of catalyst.
    """

    def __init__(
        self,
        num_points: int = 96,
        feed: float | Sequence[float] = (0.03, 0.04),
        kill: float | Sequence[float] = (0.06, 0.063),
        interval: float = 5.0,
        extent: float = 1.0,
        warm_up: float = 200.0,
        drops: int = 6,
    ) -> None:
        self.num_points, self.feed, self.kill, self.interval = num_points, feed, kill, interval
        self.extent, self.warm_up, self.drops = extent, warm_up, drops
        self._box(num_points, extent, interval, 2, warm_up)
        low = self._vary(feed=feed, kill=kill)
        self.equation = GrayScott(low["feed"], low["kill"])
        self._settings(1.25, 0.625)

    def initial(self, generator: torch.Generator) -> Float[Tensor, "channel *space"]:
        x = self.grid.coordinates(torch.float64)
        place = self.extent * torch.rand(self.drops, 2, 1, 1, generator=generator, dtype=torch.float64)
        # Smooth drops with the period of the box, about 0.05 in radius.
        unit = 2 * torch.pi / self.extent
        drops = torch.exp((torch.cos(unit * (x - place)) - 1).sum(1) / (0.05 * unit) ** 2).sum(0)
        drops = 1 - torch.exp(-2 * drops)  # where drops meet they are no stronger
        return torch.stack([1 - 0.5 * drops, 0.25 * drops])
