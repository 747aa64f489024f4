"""A clamped block of uneven stiffness under load, by finite elements."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations.elasticity import StaticElasticity
from slipstream.errors import InputError
from slipstream.grids import Grid, resample
from slipstream.meshes import Mesh
from slipstream.problems.elliptic import SteadyLinear
from slipstream.problems.media import Medium, TwoPhaseMedium
from slipstream.problems.problem import Setting
from slipstream.solvers.elements import Elasticity, Elements
from slipstream.solvers.linear.choosing import Candidate
from slipstream.solvers.linear.direct import LU
from slipstream.solvers.linear.transforms import Boundary
from slipstream.solvers.nodal import NodalMatrix, NodalStepper
from slipstream.solvers.steady import Solved
from slipstream.stepper import Stepper
from slipstream.trajectories import Parameters

LOCKING = 0.45
"""From this ratio on a solid hardly changes its volume, and bilinear elements come out too stiff."""


class ElasticBlock(SteadyLinear):
    r"""A square block with stiff and soft parts, clamped on the left, pulled and sheared on the right: how far does each point move?

    .. math::
        -\nabla \cdot \sigma = 0, \qquad \sigma = \lambda\,(\nabla \cdot u)\,I + \mu\,(\nabla u + \nabla u^T), \qquad
        u = 0 \text{ at } x = 0,\ \ \sigma n = (\text{pull}, \text{shear}) \text{ at } x = 1,\ \ \sigma n = 0 \text{ elsewhere}

    Plane strain on the unit square, by bilinear finite elements. Parameters: ``modulus``, Young's modulus E, a field at the points of the
    grid and linear between them along each axis (a jump of the medium is as wide as one cell), and the tractions ``pull`` and ``shear``.
    The frame is the displacement at the points, those on the sides included: one point more along each axis than there are cells.
    Stresses have no bound in the two clamped corners, where the error falls more slowly than with the square of the cells.

    Parameters
    ----------
    num_points : cells along each axis, even. medium : law of the modulus, GPa. pull, shear : tractions, GPa, numbers or ranges over runs.
    poisson_ratio : from -0.9 to 0.45, the same everywhere. refine : cells of the reference in one of the grid, along each axis.
    """

    fields = ("modulus",)
    walls = Boundary.NEUMANN
    tolerances = (1e-6,)
    equation: StaticElasticity

    def __init__(
        self,
        num_points: int = 32,
        medium: Medium | None = None,
        pull: float | Sequence[float] = (0.005, 0.02),
        shear: float | Sequence[float] = (-0.005, 0.005),
        poisson_ratio: float = 0.3,
        refine: int = 4,
    ) -> None:
        if not -0.9 <= poisson_ratio <= LOCKING:
            raise InputError(
                f"ElasticBlock expects poisson_ratio from -0.9 to {LOCKING}; got {poisson_ratio}. Bilinear elements lock beyond."
            )
        self.num_points, self.poisson_ratio = num_points, poisson_ratio
        self.pull, self.shear = pull, shear
        self.medium: Medium = TwoPhaseMedium(low=1.0, high=10.0, tau=8.0) if medium is None else medium
        ends = {"pull": self._ends("pull", pull), "shear": self._ends("shear", shear)}
        self.varying: Mapping[str, tuple[float, float]] = {k: e for k, e in ends.items() if e[0] < e[1]}
        self.equation = StaticElasticity(poisson_ratio, ends["pull"][0], ends["shear"][0])
        self._box(num_points, 2, 1.0, refine)
        self.grid = Grid.box(num_points + 1, 1.0, num_dims=2, periodic=False, centred=False)
        self.way = ("LU", Candidate(LU()))
        self.reference_setting = Setting(refine * num_points, 0, self._scheme(1e-9))
        self.fast_setting = Setting(num_points, 0, self._scheme(1e-6))

    def _ends(self, name: str, value: float | Sequence[float]) -> tuple[float, float]:
        ends = (value, value) if isinstance(value, (int, float)) else tuple(value)
        if len(ends) != 2 or not all(map(math.isfinite, ends)) or ends[0] > ends[1]:
            raise InputError(f"ElasticBlock expects {name} as a number or a range (low, high); got {value}.")
        return float(ends[0]), float(ends[1])

    def draw(self, generator: torch.Generator) -> dict[str, Tensor]:
        drawn = {**super().draw(generator), **self.medium.draw(self.grid, generator)}
        return {("modulus" if k == "medium" else k): v.float() for k, v in drawn.items()}

    def points(self, setting: Setting) -> tuple[int, ...]:
        """The nodes of the mesh at a setting, which counts its cells."""
        return (setting.num_points + 1, setting.num_points + 1)

    def system(self, parameters: Parameters) -> tuple[NodalMatrix, Tensor]:  # type: ignore[override]
        """``(A, b)`` on the points of the grid, one matrix and one right-hand side a run, in the precision of the parameters."""
        return self._system(parameters, self.grid)

    def _system(self, parameters: Parameters, grid: Grid) -> tuple[NodalMatrix, Tensor]:
        stiff = self.modulus(parameters, grid).flatten(1)
        ratio = self.poisson_ratio
        lame = {
            "lame_lambda": stiff * ratio / ((1 + ratio) * (1 - 2 * ratio)),
            "lame_mu": stiff / (2 * (1 + ratio)),
        }
        # Uniform on the side, so that each point bears the load of its share of it.
        share = grid.axes[1].weights(stiff.dtype).to(stiff.device)
        b = stiff.new_zeros(len(stiff), 2, *grid.shape)
        for i, name in enumerate(("pull", "shear")):
            traction = parameters.get(name, stiff.new_tensor([self.equation.parameters[name].default]))
            self.equation.parameters[name].check(name, traction)
            b[:, i, -1] = traction.to(stiff).reshape(-1, 1) * share
        return NodalMatrix(elements(grid.shape[0] - 1), lame, grid.shape), b

    def modulus(self, parameters: Parameters, grid: Grid) -> Float[Tensor, "run x y"]:
        """Young's modulus in the cells of a mesh with these nodes.

        Where they are larger than those of the problem, the geometric mean of its mean and harmonic mean, which are bounds.
        """
        at_points = self.cell_values(parameters, "modulus", self.grid)
        if bool((at_points <= 0).any()):
            raise InputError(
                f"ElasticBlock expects a positive modulus; the least value is {float(at_points.min()):.3g}."
            )
        coarser = grid.size < self.grid.size
        own = _centres(at_points if coarser else resample(at_points, self.grid, grid))
        if not coarser:
            return own
        fine, coarse = (Grid.box([n - 1 for n in g.shape], 1.0, periodic=False) for g in (self.grid, grid))
        low, high = (1 / resample(1 / own, fine, coarse, "conservative"), resample(own, fine, coarse, "conservative"))
        return (low * high).sqrt()

    def _stepper(self, inner: Grid, scheme: Solved) -> Stepper:
        return NodalStepper(self._system, self.grid, inner, self.channels, scheme)

    def reactions(self, frames: Float[Tensor, "run time 2 x y"], parameters: Parameters) -> Float[Tensor, "run time 2"]:
        """The force with which the clamp holds the block, GN a metre of depth: minus the load, for a solution of this grid's own system."""
        t = frames.shape[1]
        A, _ = self.system({k: v.to(frames).repeat_interleave(t, dim=0) for k, v in parameters.items()})
        free = elements(self.num_points, fixed=())
        force = free.residual(frames.flatten(0, 1).flatten(2), A.parameters).unflatten(2, self.grid.shape)
        return force[:, :, 0].sum(-1).unflatten(0, frames.shape[:2])

    def calculus(self, like: Tensor, fine: bool = False):
        """Refused: tractions tie both displacements together, which conditions a channel at a time cannot say."""
        raise InputError(
            "Tractions mix the two displacements, which conditions cannot say; use residual(...) without a calculus."
        )


@lru_cache(maxsize=8)
def elements(num_cells: int, fixed: tuple[str, ...] = ("left",)) -> Elements:
    """Bilinear elements of a linear solid on the unit square, held on these sides."""
    return Elements(Mesh.rectangle((num_cells, num_cells), quads=True), Elasticity(), fixed)


def _centres(u: Float[Tensor, "run x y"]) -> Float[Tensor, "run x2 y2"]:
    """A bilinear field at the centres of the cells between its nodes."""
    return torch.nn.functional.avg_pool2d(u[:, None], 2, 1)[:, 0]
