"""What steady linear problems share: systems on any grid over the box, a reference on a finer one, and a ladder of cheap settings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations.calculus import Calculus
from slipstream.equations.elliptic import SteadyEquation
from slipstream.errors import InputError
from slipstream.grids import Grid, resample
from slipstream.problems.problem import Problem, Setting
from slipstream.solvers.linear.choosing import Candidate
from slipstream.solvers.linear.shared import SharedLU
from slipstream.solvers.linear.stencil import Stencil
from slipstream.solvers.linear.systems import Systems
from slipstream.solvers.linear.transforms import Boundary
from slipstream.solvers.steady import LinearStepper, Solved
from slipstream.stepper import Stepper
from slipstream.trajectories import Parameters


class SteadyLinear(Problem):
    """A steady linear problem on a box of cells. Subclasses write `systems`, and set `equation`, `grid`, `fields` and `way`.

    Parameter fields are constant in each cell of the grid: that is the problem as posed, which finer grids solve more exactly. Frames hold
    means over cells.

    Attributes
    ----------
    way : how systems are solved, and its name. refine : cells of the reference in one of the grid, along each axis.
    """

    equation: SteadyEquation
    steady = True
    interval = 0.0
    way: tuple[str, Candidate]
    refine: int
    walls: Boundary | Sequence[Boundary] = Boundary.DIRICHLET
    """Of the axes that are not periodic; what stands for them where walls are open."""
    tolerances: tuple[float, ...] = (1e-2, 1e-3, 1e-6)
    """Of the ladder, where the way is iterative; a direct one has no choice."""
    direct: bool = False
    """Whether the ladder holds a sparse direct solver beside the way: on few points it is the quickest."""

    def _box(
        self, num_points: int, num_dims: int, extent: float, refine: int, periodic: bool = False, least: int = 8
    ) -> None:
        if num_dims not in (2, 3):
            raise InputError(f"{self.name} expects num_dims 2 or 3; got {num_dims}.")
        if num_points % 2 or num_points < least:
            raise InputError(f"{self.name} expects an even num_points of at least {least}; got {num_points}.")
        if not (math.isfinite(extent) and extent > 0):
            raise InputError(f"{self.name} expects a positive extent; got {extent}.")
        if refine < 1:
            raise InputError(f"{self.name} expects refine of at least 1; got {refine}.")
        self.grid = Grid.box(num_points, extent, num_dims=num_dims, periodic=periodic)
        self.refine = refine

    def _settings(self) -> None:
        n = self.grid.shape[0]
        self.reference_setting = Setting(self.refine * n, 0, self._scheme(1e-9))
        self.fast_setting = Setting(n, 0, self._scheme(1e-6))

    def _scheme(self, tolerance: float) -> Solved:
        return Solved(self.way[0], self.way[1], tolerance)

    def systems(self, parameters: Parameters, grid: Grid) -> Systems:
        """Matrices and right-hand sides on a grid over the box, from parameter fields on this problem's."""
        raise TypeError(f"{self.name} defines no systems(parameters, grid).")

    def system(self, parameters: Parameters) -> tuple[Stencil, Tensor]:
        """``(A, b)`` on this problem's own grid, one matrix and one right-hand side a run, in the precision of the parameters."""
        made = self.systems(parameters, self.grid)
        return made.A, made.b

    def solver(self, setting: Setting | None = None, *, guard: bool = True) -> Stepper:
        s, n = setting or self.fast_setting, self.fast_setting.num_points
        if not isinstance(s.scheme, Solved):
            raise InputError(f"{self.name} is solved by linear systems (`Solved`); got the scheme {s.scheme.name}.")
        if s.num_points % n and n % s.num_points:
            raise InputError(
                f"{self.name} has {n} points; a setting needs a multiple or a divisor, got {s.num_points}."
            )
        return self._stepper(self.grid.with_points(list(self.points(s))), s.scheme)

    def _stepper(self, inner: Grid, scheme: Solved) -> Stepper:
        return LinearStepper(self.systems, self.grid, inner, self.channels, scheme)

    def ladder(self) -> list[Setting]:
        n = self.fast_setting.num_points
        points = [m for m in range(4, n) if n % m == 0 and m * 8 >= n] + [n]
        points += [2 * n] if self.refine > 2 else []
        rungs = [Setting(m, 0, self._scheme(t)) for m in points for t in self.tolerances]
        direct = Solved("LU", Candidate(SharedLU()), 1e-6)
        return rungs + [Setting(m, 0, direct) for m in points if self.direct and m <= n]

    def cell_values(
        self, parameters: Parameters, name: str, grid: Grid, power: float = 1.0
    ) -> Float[Tensor, "run *space"]:
        """A parameter field in the cells of a grid: copies in finer ones; in coarser ones the mean of this power of it."""
        if name not in parameters:
            raise InputError(f"{self.name} needs the field {name!r}; the parameters given are {sorted(parameters)}.")
        value = parameters[name]
        self.grid.check(value, f"{self.name}, parameter {name!r},")
        if value.ndim != 1 + self.grid.num_dims:
            raise InputError(f"{self.name} expects {name!r} as (run, *space); got {tuple(value.shape)}.")
        self.equation.parameters[name].check(name, value)
        if grid.size >= self.grid.size or power == 1.0:
            return resample(value, self.grid, grid, "conservative")
        return resample(value**power, self.grid, grid, "conservative") ** (1 / power)

    def residual(
        self,
        frames: Float[Tensor, "batch time channel *space"],
        parameters: Parameters,
        calculus: Calculus | None = None,
    ) -> Float[Tensor, "batch time channel *space"]:
        """What frames leave over: ``A u - b`` of the system on this grid; with a `calculus`, that of the equation in it."""
        b, t = frames.shape[:2]
        repeated: Mapping[str, Tensor] = {k: v.to(frames).repeat_interleave(t, dim=0) for k, v in parameters.items()}
        u = frames.flatten(0, 1)
        if calculus is not None:
            return self.equation.residual(u, calculus, self.equation.ready(repeated, u)).unflatten(0, (b, t))
        A, right = self.system(repeated)
        field = torch.complex(u[:, 0], u[:, 1]) if right.is_complex() else u.reshape(len(u), *right.shape[1:])
        left = A(field) - right
        parts = torch.stack([left.real, left.imag], dim=1) if left.is_complex() else left.reshape(u.shape)
        return parts.unflatten(0, (b, t))

    def reference_residual(self) -> float:  # type: ignore[override]
        """Refused: what consecutive frames leave over has no meaning without time."""
        raise InputError(
            f"{self.name} is steady and has no residual between frames, as PhysicsResidual takes; use SystemResidual(problem)."
        )
