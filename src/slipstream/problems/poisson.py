"""Potentials of random charges, by transforms."""

from __future__ import annotations

import torch
from torch import Tensor

from slipstream.equations import boundary as conditions
from slipstream.equations.elliptic import Poisson
from slipstream.equations.walled import WalledDifferences
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.problems.elliptic import SteadyLinear
from slipstream.solvers.linear.choosing import Candidate
from slipstream.solvers.linear.diffusion import Diffusion
from slipstream.solvers.linear.poisson import FastPoisson
from slipstream.solvers.linear.systems import Systems, gaussian_fields
from slipstream.solvers.linear.transforms import Boundary
from slipstream.trajectories import Parameters

BOUNDARIES = {"dirichlet": Boundary.DIRICHLET, "neumann": Boundary.NEUMANN, "periodic": Boundary.DIRICHLET}
"""What walls there are; on a ring none, whatever is said of them."""
SIDES = {"dirichlet": conditions.Dirichlet(0.0), "neumann": conditions.Neumann(0.0)}


class PoissonPotential(SteadyLinear):
    r"""The potential of a smooth random density in a box.

    .. math:: -\Delta u = f, \qquad u = 0 \text{ or } \partial_n u = 0 \text{ on the walls, or none}

    Cost: two transforms and a division, so no network will be faster: a problem to learn with, and to test on. Without a Dirichlet wall
    the density has mean zero, as it must, and so has the potential.

    Parameters
    ----------
    num_points : cells along each axis, even. num_dims : 2 or 3. boundary : "dirichlet", "neumann" or "periodic". extent : side, m.
    length : correlation length of f in extents. refine : cells of the reference in one of the grid, along each axis.
    """

    fields = ("source",)

    def __init__(
        self,
        num_points: int = 64,
        num_dims: int = 2,
        boundary: str = "dirichlet",
        extent: float = 1.0,
        length: float = 0.1,
        refine: int = 2,
    ) -> None:
        if boundary not in BOUNDARIES:
            raise InputError(f"PoissonPotential expects boundary as one of {sorted(BOUNDARIES)}; got {boundary!r}.")
        if not 0 < length <= 10:
            raise InputError(f"PoissonPotential expects length in (0, 10] extents; got {length}.")
        self.num_points, self.num_dims, self.boundary = num_points, num_dims, boundary
        self.extent, self.length = extent, length
        self.equation = Poisson()
        self.walls = BOUNDARIES[boundary]
        self.way = ("transforms", Candidate(FastPoisson()))
        self.tolerances = (1e-6,)
        self._box(num_points, num_dims, extent, refine, periodic=boundary == "periodic")
        self._settings()

    def draw(self, generator: torch.Generator) -> dict[str, Tensor]:
        f = gaussian_fields(1, self.grid, generator, self.length * self.extent, 2.5)[0]
        return {"source": (f if self.boundary == "dirichlet" else f - f.mean()).float()}

    def systems(self, parameters: Parameters, grid: Grid) -> Systems:
        f = self.cell_values(parameters, "source", grid)
        if self.boundary != "dirichlet":
            mean = f.flatten(1).mean(1)
            if bool((mean.abs() > 1e-4 * f.flatten(1).std(1)).any()):
                raise InputError(
                    f"A {self.boundary} box holds a density of mean zero alone; got means up to {float(mean.abs().max()):.3g}."
                )
            f = f - mean.reshape(-1, *[1] * grid.num_dims)  # what rounding left of it
        one = torch.ones(1, *grid.shape, dtype=f.dtype, device=f.device).expand_as(f)
        return Systems(Diffusion(one, grid, self.walls), f, f)

    def calculus(self, like: Tensor, fine: bool = False):
        """The calculus of this problem: spectral on a ring, differences between walls."""
        if self.boundary == "periodic":
            return super().calculus(like, fine)
        sides = {a.name: SIDES[self.boundary] for a in self.grid.axes}
        return WalledDifferences(
            self.grid, conditions.Conditions(self.channels, sides), dtype=like.dtype, device=like.device
        )
