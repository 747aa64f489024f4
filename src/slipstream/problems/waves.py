"""Ready-made problems of waves: in uneven media, with mass, and on shallow water."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations.shallow_water import ShallowWater
from slipstream.equations.waves import DampedWave, KleinGordon
from slipstream.problems.periodic import PeriodicProblem, smooth_field


class UnevenMedium(PeriodicProblem):
    r"""Sound through a medium whose speed of sound differs from place to place, and from run to run.

    .. math:: \partial_t u = v, \qquad \partial_t v = c(x)^2 \Delta u - \gamma v

    Frames: displacement and velocity. The parameter ``wave_speed`` is a field: learnt steppers see it as a channel.

    Parameters
    ----------
    num_points : along each axis, even. contrast : largest relative departure of c from 1, below 1. damping : gamma, may be a
        range (low, high) over runs. interval : time between frames. extent : side of the box. num_dims : 1, 2 or 3.
    """

    fields = ("wave_speed",)

    def __init__(
        self,
        num_points: int = 64,
        contrast: float = 0.4,
        damping: float | Sequence[float] = 0.0,
        interval: float = 0.05,
        extent: float = 2 * math.pi,
        num_dims: int = 2,
    ) -> None:
        self.num_points, self.contrast, self.damping, self.interval = num_points, contrast, damping, interval
        self.extent, self.num_dims = extent, num_dims
        self._box(num_points, extent, interval, num_dims)
        self._share("contrast", contrast)
        gamma = self._vary(False, damping=damping)["damping"]
        self.equation = DampedWave(1.0, gamma, num_dims)
        self._settings(0.25 * extent / num_points, 0.125 * extent / num_points)

    def draw(self, generator: torch.Generator) -> dict[str, Tensor]:
        parameters = super().draw(generator)
        bumps = smooth_field(self.grid, generator, 3)
        parameters["wave_speed"] = (1 + self.contrast * torch.sin(bumps)).float()
        return parameters

    def initial(self, generator: torch.Generator) -> Float[Tensor, "channel *space"]:
        u = smooth_field(self.grid, generator, 4)
        return torch.stack([u, torch.zeros_like(u)])


class MassiveField(PeriodicProblem):
    r"""A field with mass and a restoring force that stiffens: waves disperse and exchange energy.

    .. math:: \partial_t u = v, \qquad \partial_t v = \Delta u - m^2 u - g\, u^3

    Frames: displacement and velocity; the energy is kept.

    Parameters
    ----------
    num_points : along each axis, even. mass : m. cubic : g. Both may be ranges (low, high) over runs.
    interval : time between frames. extent : side of the box. num_dims : 1, 2 or 3.
    """

    def __init__(
        self,
        num_points: int = 128,
        mass: float | Sequence[float] = (0.5, 1.5),
        cubic: float | Sequence[float] = 1.0,
        interval: float = 0.1,
        extent: float = 20.0,
        num_dims: int = 1,
    ) -> None:
        self.num_points, self.mass, self.cubic, self.interval = num_points, mass, cubic, interval
        self.extent, self.num_dims = extent, num_dims
        self._box(num_points, extent, interval, num_dims)
        low = self._vary(mass=mass, cubic=cubic)
        self.equation = KleinGordon(low["mass"], 1.0, low["cubic"], 0.0, num_dims)
        self._settings(interval / 2, interval / 8)

    def initial(self, generator: torch.Generator) -> Float[Tensor, "channel *space"]:
        return torch.stack([smooth_field(self.grid, generator, 5, 0.8) for _ in range(2)])


class BasinWaves(PeriodicProblem):
    r"""Shallow water on a turning plane: an uneven surface radiates waves, and a balanced part stays as vortices.

    .. math::
        \partial_t h = -\nabla \cdot \left( (H + h)\, u \right), \qquad
        \partial_t u = -u \cdot \nabla u - f\, \hat z \times u - g \nabla h + \nu \Delta u

    Frames: elevation (m) and velocity (m/s); g = H = 1, so that gravity waves run at 1 m/s.

    Parameters
    ----------
    num_points : along each axis, even. coriolis : f, may be a range (low, high) over runs. viscosity : nu, the same.
    interval : time between frames. extent : side of the square. steepness : rms elevation over depth, below 0.3.
    """

    def __init__(
        self,
        num_points: int = 64,
        coriolis: float | Sequence[float] = (0.5, 2.0),
        viscosity: float | Sequence[float] = 0.01,
        interval: float = 0.05,
        extent: float = 2 * math.pi,
        steepness: float = 0.05,
    ) -> None:
        self.num_points, self.coriolis, self.viscosity, self.interval = num_points, coriolis, viscosity, interval
        self.extent, self.steepness = extent, steepness
        self._box(num_points, extent, interval, 2)
        self._share("steepness", steepness, 0.3)
        low = self._vary(viscosity=viscosity) | self._vary(False, coriolis=coriolis)
        self.equation = ShallowWater(low["viscosity"], 1.0, 1.0, low["coriolis"])
        self._settings(interval / 2, interval / 4)

    def initial(self, generator: torch.Generator) -> Float[Tensor, "channel *space"]:
        return self.steepness * torch.stack([smooth_field(self.grid, generator, 4) for _ in range(3)])
