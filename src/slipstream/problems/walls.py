"""Flow between walls: the cavity that a moving lid drives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations.boundary import Conditions, Wall
from slipstream.equations.incompressible import IncompressibleFlow
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.problems.staggered import StaggeredProblem
from slipstream.solvers.linear.method import Method


def smooth_lid(x: Float[Tensor, "dim *space"]) -> Float[Tensor, " *space"]:
    """A speed that rises from rest in both corners to 1 in the middle: no jump, so that solvers keep their order."""
    return 16 * (x[0] * (1 - x[0])).square()


class LidDrivenCavity(StaggeredProblem):
    r"""A square cavity with a moving lid, and eddies in it that the lid stirs and the walls tear apart.

    .. math:: \partial_t u = P \left( -\nabla \cdot (u u) + \nu \Delta u \right), \qquad \nabla \cdot u = 0

    Frames: velocity (m/s) at the lower faces of the cells of a square of side 1 m. The lid slides along x at ``16 x^2 (1 - x)^2`` m/s;
    all other walls hold the fluid. Runs begin with random eddies that vanish on the walls. Beyond Reynolds 1000, 64 points do
    not resolve the boundary layers.

    Parameters
    ----------
    num_points : along each side, even. reynolds : 1 / viscosity, a number or a range (low, high) over runs. interval : time between frames.
    swirl : root mean square speed of the eddies at the start, relative to the lid's; 0 is rest. eddies : waves across the box of
        the smallest of them. warm_up : time before frames count.
    pressure_solver : of the classical solver, such as ``DCDM("folder")``; None is its own choice.
    """

    def __init__(
        self,
        num_points: int = 64,
        reynolds: float | Sequence[float] = (100.0, 1000.0),
        interval: float = 0.1,
        swirl: float = 0.5,
        eddies: int = 3,
        warm_up: float = 0.2,
        pressure_solver: Method | None = None,
    ) -> None:
        if num_points < 8 or num_points % 2:
            raise InputError(f"{self.name} expects an even num_points of at least 8; got {num_points}.")
        self._number(interval=interval, eddies=eddies)
        if not (0 <= swirl < 10 and 0 <= warm_up < math.inf):
            raise InputError(f"{self.name} expects swirl in [0, 10) and warm_up >= 0; got {swirl} and {warm_up}.")
        self.num_points, self.reynolds, self.interval = num_points, reynolds, interval
        self.swirl, self.eddies, self.warm_up = swirl, eddies, warm_up
        self.pressure_solver = pressure_solver
        low, high = self._range("reynolds", reynolds)
        self.grid = Grid.box(num_points, 1.0, num_dims=2, periodic=False)
        self.equation = IncompressibleFlow(1 / high, 2)
        self.conditions = Conditions(
            self.equation.channels, {"x": Wall(), "y": (Wall(), Wall(moving={"velocity_x": smooth_lid}))}
        )
        self._vary(viscosity=(1 / high, 1 / low))
        self._settings(1.2 + 4 * swirl, 1 / low)

    def initial_for(
        self, generator: torch.Generator, parameters: Mapping[str, Tensor]
    ) -> Float[Tensor, "channel *space"]:
        """The curl of a random stream function on the corners of cells: divergence-free to rounding, at rest on the walls."""
        n, h = self.num_points, 1 / self.num_points
        numbers = torch.randn(self.eddies, self.eddies, generator=generator, dtype=torch.float64)
        line = torch.arange(n + 1, dtype=torch.float64) * h
        waves = torch.sin(math.pi * torch.arange(1, self.eddies + 1)[:, None] * line) * torch.sin(math.pi * line)
        stream = torch.einsum("ij,ix,jy->xy", numbers, waves, waves)
        u = torch.stack([stream.diff(dim=1)[:-1] / h, -stream.diff(dim=0)[:, :-1] / h])
        # The size is that of the waves, not of the grid's samples: finer grids see the same flow.
        k = math.pi * torch.arange(1, self.eddies + 1, dtype=torch.float64)
        speed = (numbers.square() * (k[:, None].square() + k.square())).sum().sqrt() / 4
        return self.swirl * u / speed
