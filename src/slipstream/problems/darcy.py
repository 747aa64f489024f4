"""Flow through random porous media."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations import boundary as conditions
from slipstream.equations.elliptic import Darcy
from slipstream.equations.walled import WalledDifferences
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.problems.elliptic import SteadyLinear
from slipstream.problems.media import LognormalMedium, Medium, TwoPhaseMedium
from slipstream.solvers.linear.choosing import Candidate
from slipstream.solvers.linear.conjugate import CG
from slipstream.solvers.linear.diffusion import Diffusion
from slipstream.solvers.linear.flat import Flat
from slipstream.solvers.linear.poisson import FastPoisson
from slipstream.solvers.linear.systems import Systems
from slipstream.solvers.linear.transforms import Boundary
from slipstream.trajectories import Parameters


class _Porous(SteadyLinear):
    """What problems of Darcy flow share."""

    fields = ("permeability",)
    direct = True
    medium: Medium
    equation: Darcy

    def _solved_by(self) -> None:
        preconditioner = Flat(single=True) if self.medium.jumps else FastPoisson(single=True)
        label = "CG with transforms" if self.medium.jumps else "CG with scaled transforms"
        self.way = (label, Candidate(CG(flexible=True), preconditioner))

    def draw(self, generator: torch.Generator) -> dict[str, Tensor]:
        drawn = self.medium.draw(self.grid, generator)
        return {("permeability" if k == "medium" else k): v.float() for k, v in drawn.items()}

    def permeability(self, parameters: Parameters, grid: Grid) -> Float[Tensor, "run *space"]:
        """In the cells of a grid. In coarser ones the geometric mean of two bounds: mean and harmonic mean (Cardwell & Parsons, 1945)."""
        mean = self.cell_values(parameters, "permeability", grid)
        if bool((mean <= 0).any()):
            raise InputError(
                f"{self.name} expects a positive permeability; the least value is {float(mean.min()):.3g}."
            )
        if grid.size >= self.grid.size:
            return mean
        return (mean * self.cell_values(parameters, "permeability", grid, power=-1.0)).sqrt()


class DarcyFlow(_Porous):
    r"""Seepage out of a square (or cube) of porous rock, fed everywhere, drained at its walls.

    .. math:: -\nabla \cdot (a \nabla u) = f, \qquad u = 0 \text{ on the walls}

    Finite volumes: faces take the harmonic mean of their two cells, which lets the flux through where a jumps. The field ``permeability``
    is constant in each cell. The default medium is that of the Darcy data of the Fourier neural operator.

    Parameters
    ----------
    num_points : cells along each axis, even. medium : law of the permeability (`TwoPhaseMedium`, `SmoothMedium`, `MultiScaleMedium`,
        `LognormalMedium`). source : f > 0, 1/s. num_dims : 2 or 3. extent : side, m.
    refine : cells of the reference in one of the grid, along each axis.
    """

    def __init__(
        self,
        num_points: int = 64,
        medium: Medium | None = None,
        source: float = 1.0,
        num_dims: int = 2,
        extent: float = 1.0,
        refine: int = 2,
    ) -> None:
        if not (math.isfinite(source) and source > 0):
            raise InputError(f"DarcyFlow expects a positive source; got {source}.")
        self.num_points, self.num_dims, self.extent = num_points, num_dims, extent
        self.medium: Medium = TwoPhaseMedium() if medium is None else medium
        self.source = source
        self.equation = Darcy(source)
        self._solved_by()
        self._box(num_points, num_dims, extent, refine)
        self._settings()

    def systems(self, parameters: Parameters, grid: Grid) -> Systems:
        a = self.permeability(parameters, grid)
        return Systems(Diffusion(a, grid), torch.full_like(a, self.source), a)

    def calculus(self, like: Tensor, fine: bool = False):
        """Differences between walls."""
        sides = {a.name: conditions.Dirichlet(0.0) for a in self.grid.axes}
        return WalledDifferences(
            self.grid, conditions.Conditions(self.channels, sides), dtype=like.dtype, device=like.device
        )


class DarcyColumn(_Porous):
    r"""A pressure drop drives flow through a random rock: how much comes through?

    .. math:: -\nabla \cdot (a \nabla u) = 0, \qquad u = \text{drop at } x = 0,\ 0 \text{ at the other end, no flux through the sides}

    `mean_flux` is what is usually asked for: a number that hardly depends on the grid. The default medium is lognormal with exponential
    covariance; its ``modes`` come along as a parameter (run, modes), for surrogates that go from numbers to numbers.

    Parameters
    ----------
    num_points, medium, num_dims, extent, refine : as in `DarcyFlow`. drop : of the pressure, Pa.
    """

    def __init__(
        self,
        num_points: int = 64,
        medium: Medium | None = None,
        drop: float = 1.0,
        num_dims: int = 2,
        extent: float = 1.0,
        refine: int = 2,
    ) -> None:
        if not (math.isfinite(drop) and drop > 0):
            raise InputError(f"DarcyColumn expects a positive drop; got {drop}.")
        self.num_points, self.num_dims, self.extent = num_points, num_dims, extent
        self.medium: Medium = LognormalMedium() if medium is None else medium
        self.drop = drop
        self.walls = [Boundary.DIRICHLET] + [Boundary.NEUMANN] * (num_dims - 1)
        self.equation = Darcy(0.0)
        self._solved_by()
        self._box(num_points, num_dims, extent, refine)
        self._settings()

    def systems(self, parameters: Parameters, grid: Grid) -> Systems:
        a = self.permeability(parameters, grid)
        b = torch.zeros_like(a)
        b[:, 0] = 2 * self.drop * a[:, 0] / grid.spacing[0] ** 2
        return Systems(Diffusion(a, grid, self.walls), b, a)

    def mean_flux(
        self, frames: Float[Tensor, "run time 1 *space"], parameters: Parameters
    ) -> Float[Tensor, "run time"]:
        r"""What flows through the inlet, m/s: the mean of :math:`-a\,\partial_x u` over it, from half a cell on this grid.

        It is the flux through every cross-section of a solution of this grid's own system.
        """
        a = self.permeability(parameters, self.grid)[:, None, :1]
        half = self.grid.spacing[0] / 2
        return (a * (self.drop - frames[:, :, 0, :1]) / half).flatten(2).mean(-1)

    def calculus(self, like: Tensor, fine: bool = False):
        """Differences between walls."""
        ends: list[tuple[conditions.Condition, conditions.Condition]] = [
            (conditions.Dirichlet(self.drop), conditions.Dirichlet(0.0))
        ]
        ends += [(conditions.Neumann(0.0), conditions.Neumann(0.0))] * (self.grid.num_dims - 1)
        sides = {a.name: e for a, e in zip(self.grid.axes, ends, strict=True)}
        return WalledDifferences(
            self.grid, conditions.Conditions(self.channels, sides), dtype=like.dtype, device=like.device
        )
