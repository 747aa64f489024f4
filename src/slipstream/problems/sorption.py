"""Ready-made problem of a contaminant that enters a soil."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations.calculus import Calculus
from slipstream.equations.sorption import SorbingDiffusion
from slipstream.equations.walled import WalledDifferences
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.problems.problem import Problem, Setting
from slipstream.solvers.sorption import IMPLICIT_EULER, SDIRK2, DiagonallyImplicit, SorptionStepper
from slipstream.trajectories import Parameters


class DiffusionSorption(Problem):
    r"""A contaminant diffuses into a metre of soil whose grains take most of it up.

    .. math::
        R(u)\, \partial_t u = D\, \partial_x^2 u, \qquad u(0, t) = 1, \qquad u(1, t) = -D\, \partial_x u(1, t)

    Frames: concentration at the centres of cells. Runs begin with one concentration throughout, drawn uniformly from (0, `highest`); until
    the front arrives at the outlet the solution depends on ``x / sqrt(t)`` alone. The sign at the outlet is the one for which the soil
    loses what arrives there, as in the published solver; the other has solutions that grow without bound.

    Parameters
    ----------
    num_points : cells. interval : time between frames, days (PDEBench: 5, to 500). freundlich : k of the isotherm, m^3/kg, may be a
        range (low, high) over runs. highest : of the concentrations at the start, in (0, 1]. warm_up : days before frames count: with 0
        the first frame has a jump at the inlet, which no grid resolves.

    References
    ----------
    Takamoto et al., PDEBench, NeurIPS 2022 (arXiv:2210.07182): its soil, its start and its walls.
    """

    equation: SorbingDiffusion
    refinement = "three times the points and twice the steps"

    def __init__(
        self,
        num_points: int = 128,
        interval: float = 5.0,
        freundlich: float | Sequence[float] = 3.5e-4,
        highest: float = 0.2,
        warm_up: float = 25.0,
    ) -> None:
        if num_points < 8 or not (0 < interval < math.inf and 0 < highest <= 1 and 0 <= warm_up < math.inf):
            raise InputError(
                f"DiffusionSorption expects num_points >= 8, interval > 0, highest in (0, 1] and warm_up >= 0; got {num_points}, "
                f"{interval}, {highest} and {warm_up}."
            )
        ends = (freundlich, freundlich) if isinstance(freundlich, (int, float)) else tuple(freundlich)
        if len(ends) != 2 or not 0 < ends[0] <= ends[1] < math.inf:
            raise InputError(
                f"DiffusionSorption expects freundlich as a positive number or a range (low, high); got {freundlich}."
            )
        self.num_points, self.interval, self.freundlich = num_points, interval, freundlich
        self.highest, self.warm_up = highest, warm_up
        self.varying = {"freundlich": (float(ends[0]), float(ends[1]))} if ends[0] < ends[1] else {}
        self.equation = SorbingDiffusion(freundlich=float(ends[0]))
        self.grid = Grid.box(num_points, 1.0, num_dims=1, periodic=False)
        self.fast_setting = Setting(num_points, 2, SDIRK2)
        self.reference_setting = Setting(3 * num_points, 8, SDIRK2)

    def initial(self, generator: torch.Generator) -> Float[Tensor, "channel *space"]:
        level = self.highest * (1 - torch.rand((), generator=generator, dtype=torch.float64))
        return level.expand(1, *self.grid.shape).clone()

    def solver(self, setting: Setting | None = None, *, guard: bool = True) -> SorptionStepper:
        s = setting or self.fast_setting
        if not isinstance(s.scheme, DiagonallyImplicit):
            raise InputError(f"{self.name} is solved by implicit steps; got the scheme {s.scheme.name}.")
        return SorptionStepper(self.equation, self.grid, self.interval, s.substeps, s.scheme, s.num_points)

    def ladder(self) -> list[Setting]:
        n = self.num_points
        points = sorted({max(8, round(n * f)) for f in (0.125, 0.25, 0.5, 1, 3)})
        return [Setting(m, k, s) for m in points for s in (IMPLICIT_EULER, SDIRK2) for k in (1, 2, 4)]

    def reference_error(
        self, frames: Float[Tensor, "run time channel *space"], parameters: Parameters, steps: int
    ) -> Float[Tensor, " step"]:
        """How far the reference is from itself with three times the points and twice the steps: relative L2, the largest over runs, for
        each later frame."""
        s, first = self.reference_setting, frames.shape[1]
        finer = Setting(3 * s.num_points, 2 * s.substeps, s.scheme)
        with torch.no_grad():
            u, v = (
                self.march(self.solver(each), frames.double(), parameters, steps + first)[:, first:]
                for each in (s, finer)
            )
        return ((u - v).flatten(2).norm(dim=-1) / v.flatten(2).norm(dim=-1).clamp(min=1e-30)).amax(0)

    def calculus_for(self, like: Tensor, parameters: Parameters) -> WalledDifferences:
        """Central differences that know inlet and outlet."""
        return WalledDifferences(self.grid, self.equation.conditions(), parameters, like.dtype, like.device)

    def rate(
        self, u: Float[Tensor, "batch channel *space"], parameters: Parameters, calculus: Calculus | None = None
    ) -> Float[Tensor, "batch channel *space"]:
        """The equation's time derivative of frames on this problem's grid, by central differences of second order."""
        p = self.equation.ready(parameters, u)
        return self.equation.rate(u, calculus or self.calculus_for(u, parameters), p)
