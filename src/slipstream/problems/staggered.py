"""What problems on staggered grids share: the classical solver, its settings, and rates that know the walls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations.boundary import Conditions
from slipstream.equations.calculus import Calculus
from slipstream.equations.incompressible import IncompressibleFlow
from slipstream.errors import InputError
from slipstream.problems.problem import Problem, Setting
from slipstream.solvers.linear.method import Method
from slipstream.solvers.lines import HEUN, RK4, SSPRK3, Explicit
from slipstream.solvers.projection import CrankNicolson, Fractional, ProjectionStepper, limits
from slipstream.solvers.reconstructions import MUSCL_VAN_LEER
from slipstream.trajectories import Parameters

SCHEMES = (
    Fractional(RK4),
    Fractional(SSPRK3),
    Fractional(CrankNicolson()),
    Fractional(RK4, MUSCL_VAN_LEER),
)


class StaggeredProblem(Problem):
    """Incompressible flow in a box with sides, solved by `ProjectionStepper`.

    Learnt steppers see one value a cell and channel, velocities at the lower faces: what the last faces hold follows from the conditions. A
    frame that a network made is made divergence-free, with walls and solids in place, by `project`.

    Learn from labels: rates on the grid of the frames carry its own second-order error, and in boundary layers that leaves a relative
    residual above the 2 % that `PhysicsResidual` trusts (cavity, interval 0.025: 15 % at 16 points, 11 % at 32); a shorter interval hardly
    mends that.

    A subclass sets `equation`, `grid`, `interval`, `conditions` and calls `_settings` with the largest sum of speeds along the axes
    and the largest viscosity (or diffusivity) that runs reach. It may take a `pressure_solver`, any `Method` that does not need to know the
    box; whichever it is, the pressure is solved to the same tolerance.
    """

    equation: IncompressibleFlow
    conditions: Conditions
    pressure_solver: Method | None = None
    refinement = "twice the points, and at least twice the steps"

    def _number(self, **given: float) -> None:
        """Refuse numbers that are not positive."""
        for name, value in given.items():
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{self.name} expects a positive {name}; got {value}.")

    def _range(self, name: str, value: float | Sequence[float], low: float = 0.0) -> tuple[float, float]:
        """A number or a range above `low` as a range."""
        ends = (value, value) if isinstance(value, (int, float)) else tuple(value)
        if len(ends) != 2 or not (all(map(math.isfinite, ends)) and low < ends[0] <= ends[1]):
            raise InputError(
                f"{self.name} expects {name} as a number above {low:g} or a range (low, high); got {value}."
            )
        return float(ends[0]), float(ends[1])

    def _vary(self, **ranges: tuple[float, float]) -> None:
        self.varying: Mapping[str, tuple[float, float]] = {n: r for n, r in ranges.items() if r[0] < r[1]}

    def _settings(self, speed: float, viscosity: float) -> None:
        self._speed, self._spread, n = speed, viscosity, self.grid.shape[0]
        self.fast_setting = Setting(n, self._steps(n, SCHEMES[0]), SCHEMES[0])
        self.reference_setting = Setting(2 * n, self._steps(2 * n, SCHEMES[0], 0.6), SCHEMES[0])

    def _steps(self, num_points: int, scheme: Fractional, share: float = 0.8) -> int:
        """The steps an interval that a scheme needs on a grid, at a share of its limit."""
        swing, fall = limits(scheme.time)
        explicit = limits(scheme.time if isinstance(scheme.time, Explicit) else HEUN)[1]
        if self.equation.scalars or scheme.advection is MUSCL_VAN_LEER:
            swing = min(swing, explicit / 2)
        h = self.grid.extent[0] / num_points
        stretch = 4 * self.grid.num_dims * self._spread / h**2
        rate = self._speed / h / swing + stretch / (explicit if self.equation.scalars else fall)
        return max(1, math.ceil(self.interval * rate / share))

    def solver(self, setting: Setting | None = None, *, guard: bool = True) -> ProjectionStepper:
        s = setting or self.fast_setting
        if not isinstance(s.scheme, Fractional):
            raise InputError(f"{self.name} is solved by fractional steps; got the scheme {s.scheme.name}.")
        inner = self.grid.with_points(list(self.points(s)))
        outer = None if inner.shape == self.grid.shape else self.grid
        return ProjectionStepper(
            self.equation,
            inner,
            self.interval,
            self.conditions,
            s.substeps,
            s.scheme,
            pressure_solver=self.pressure_solver,
            frames_grid=outer,
            guard=guard,
        )

    def ladder(self) -> list[Setting]:
        n = self.grid.shape[0]
        points = [m for m in (n // 4, n // 2, n, 2 * n) if m >= 8]
        made = [Setting(m, self._steps(m, scheme, 0.9), scheme) for m in points for scheme in SCHEMES]
        # Half the largest stable step, where the error of the grid is small enough for that to tell.
        made += [Setting(m, self._steps(m, scheme, 0.45), scheme) for m in points if m >= n for scheme in SCHEMES]
        return list(dict.fromkeys(made))

    def reference_error(
        self, frames: Float[Tensor, "run time channel *space"], parameters: Parameters, steps: int
    ) -> Float[Tensor, " step"]:
        """How far the reference is from itself on twice the points, with at least twice the steps: relative L2, the largest over runs, for
        each later frame."""
        s, first = self.reference_setting, frames.shape[1]
        assert isinstance(s.scheme, Fractional)
        finer = Setting(2 * s.num_points, max(2 * s.substeps, self._steps(2 * s.num_points, s.scheme)), s.scheme)
        with torch.no_grad():
            u, v = (
                self.march(self.solver(each), frames.double(), parameters, steps + first)[:, first:]
                for each in (s, finer)
            )
        return ((u - v).flatten(2).norm(dim=-1) / v.flatten(2).norm(dim=-1).clamp(min=1e-30)).amax(0)

    @cached_property
    def _own(self) -> ProjectionStepper:
        """The solver on the grid of the frames."""
        return self.solver(Setting(self.grid.shape[0], 1, SCHEMES[0]), guard=False)

    def project(
        self, frames: Float[Tensor, "batch channel *space"], parameters: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        """The nearest divergence-free frames that obey walls and solids; differentiable."""
        return self._own.project(frames, parameters)

    def rate(
        self, u: Float[Tensor, "batch channel *space"], parameters: Parameters, calculus: Calculus | None = None
    ) -> Float[Tensor, "batch channel *space"]:
        """The equation's time derivative of frames: that of the staggered grid, of second order, walls and pressure included."""
        if calculus is not None:
            return self.equation.rate(u, calculus, self.equation.ready(parameters, u))
        return self._own.rate(u, parameters)
