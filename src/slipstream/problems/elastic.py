"""Ready-made problem of waves in an elastic solid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations.elasticity import LinearElasticity
from slipstream.errors import InputError
from slipstream.problems.periodic import PeriodicProblem, smooth_field


class ElasticWaves(PeriodicProblem):
    r"""Tremors in rock: pressure waves run ahead, shear waves follow, and uneven rock turns one into the other.

    .. math::
        \partial_t u = v, \qquad \partial_t v = \nabla \cdot \sigma / \rho - \gamma v, \qquad
        \sigma / \rho = (c_p^2 - 2 c_s^2) (\nabla \cdot u) I + c_s^2 (\nabla u + \nabla u^T)

    Frames: displacement and velocity along each axis. Runs begin with a random smooth displacement at rest. With ``contrast`` 0 the
    rock is uniform and the classical solver exact; otherwise the parameters ``pressure_speed`` and ``shear_speed`` are fields of a
    fixed ratio, which learnt steppers see as channels.

    Parameters
    ----------
    num_points : along each axis, even. ratio : c_p / c_s, above 1.16 (a positive bulk modulus); the mean of c_s is 1 m/s.
    contrast : largest relative departure of the speeds from their mean, below 0.5. damping : gamma, may be a range (low, high)
        over runs. interval : time between frames. extent : side of the box. num_dims : 2 or 3. highest : periods of the finest
        initial wave.
    """

    def __init__(
        self,
        num_points: int = 64,
        ratio: float = 1.7,
        contrast: float = 0.2,
        damping: float | Sequence[float] = 0.0,
        interval: float = 0.05,
        extent: float = 2 * math.pi,
        num_dims: int = 2,
        highest: int = 4,
    ) -> None:
        self.num_points, self.ratio, self.contrast, self.damping = num_points, ratio, contrast, damping
        self.interval, self.extent, self.num_dims, self.highest = interval, extent, num_dims, highest
        self._box(num_points, extent, interval, num_dims)
        self._share("contrast", contrast, 0.5)
        if not (math.sqrt(4 / 3) < ratio < math.inf and 1 <= highest <= num_points // 4):
            raise InputError(
                f"ElasticWaves expects a ratio above 1.16 and highest from 1 to num_points / 4; got {ratio} and {highest}."
            )
        gamma = self._vary(False, damping=damping)["damping"]
        self.fields = ("pressure_speed", "shear_speed") if contrast else ()
        self.equation = LinearElasticity(ratio, 1.0, gamma, num_dims)
        dt = interval if contrast == 0 else 0.25 * extent / num_points / ratio
        self._settings(dt, dt / 2 if contrast else dt)

    def draw(self, generator: torch.Generator) -> dict[str, Tensor]:
        parameters = super().draw(generator)
        if self.contrast:
            bumps = smooth_field(self.grid, generator, 3)
            uneven = 1 + self.contrast * bumps / bumps.abs().max()
            parameters |= {"pressure_speed": (self.ratio * uneven).float(), "shear_speed": uneven.float()}
        return parameters

    def initial_for(
        self, generator: torch.Generator, parameters: Mapping[str, Tensor]
    ) -> Float[Tensor, "channel *space"]:
        moved = torch.stack([smooth_field(self.grid, generator, self.highest) for _ in range(self.num_dims)])
        return torch.cat([moved, torch.zeros_like(moved)])
