"""Stiff kinetics in many cells at once: each cell its own steps, all cells one vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations.kinetics import MassAction
from slipstream.equations.systems import NoSpace
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.solvers.adaptive import Tolerance, integrate
from slipstream.solvers.pairs import First, Slope, Step, combine
from slipstream.solvers.rosenbrock import RODAS4, Rosenbrock
from slipstream.stepper import State, Stepper
from slipstream.trajectories import Parameters

Entries = Mapping[tuple[int, int], Tensor]
"""(row, column) -> the values of that entry in every cell."""


@dataclass(frozen=True)
class Elimination:
    """How a sparse matrix is factorised without pivoting, worked out once for all cells.

    Attributes
    ----------
    size : rows. pattern : entries of the matrix. order : of the pivots, fewest neighbours first (Markowitz), so that little fills in.
    """

    size: int
    pattern: tuple[tuple[int, int], ...]

    @cached_property
    def steps(self) -> tuple[tuple[int, tuple[int, ...], tuple[int, ...]], ...]:
        """Pivot, rows below it, columns right of it."""
        rows = {i: {i} | {j for a, j in self.pattern if a == i} for i in range(self.size)}
        left, result = set(range(self.size)), []
        while left:

            def growth(k: int) -> int:
                return sum(k in rows[i] for i in left if i != k) * (len(rows[k] & left) - 1)

            pivot = min(sorted(left), key=growth)
            left.remove(pivot)
            below = tuple(sorted(i for i in left if pivot in rows[i]))
            right = tuple(sorted(rows[pivot] & left))
            for i in below:
                rows[i] |= set(right)
            result.append((pivot, below, right))
        return tuple(result)

    def factorise(self, matrix: Entries) -> dict[tuple[int, int], Tensor]:
        """L and U in one mapping; the pivots are kept as their reciprocals. Each operation is one over all cells."""
        a = dict(matrix)
        for pivot, below, right in self.steps:
            inverse = a[pivot, pivot].reciprocal()
            a[pivot, pivot] = inverse
            for i in below:
                share = a[i, pivot] * inverse
                a[i, pivot] = share
                for j in right:
                    known = a.get((i, j))
                    a[i, j] = (
                        -share * a[pivot, j] if known is None else torch.addcmul(known, share, a[pivot, j], value=-1)
                    )
        return a

    def solve(self, factors: Entries, right: Float[Tensor, "row cell"]) -> Float[Tensor, "row cell"]:
        """The solution for one right-hand side a cell."""
        x = list(right.unbind(0))
        for pivot, below, _ in self.steps:
            for i in below:
                x[i] = torch.addcmul(x[i], factors[i, pivot], x[pivot], value=-1)
        for pivot, _, columns in reversed(self.steps):
            for j in columns:
                x[pivot] = torch.addcmul(x[pivot], factors[pivot, j], x[j], value=-1)
            x[pivot] = x[pivot] * factors[pivot, pivot]
        return torch.stack(x)


@cache
def elimination(size: int, pattern: tuple[tuple[int, int], ...]) -> Elimination:
    """The plan for a pattern; made once."""
    return Elimination(size, pattern)


class CellRosenbrock(Rosenbrock):
    """A Rosenbrock method whose linear algebra knows the mechanism: exact sparse Jacobian, elimination without pivots and without zeros.

    States are (cell, species); inside a step species come first, so that every operation runs over all cells. The matrix of a mechanism,
    ``1 - gamma h J``, has a dominant diagonal as far as species consume themselves: that is why no pivots are sought.
    """

    @classmethod
    def of(cls, method: Rosenbrock, equation: MassAction, p: Parameters) -> CellRosenbrock:
        """A method made for the reactions of an equation, in cells with these parameters (ready for (cell, species))."""
        result = cls(**{name: getattr(method, name) for name in method.__dataclass_fields__})
        object.__setattr__(result, "_equation", equation)
        object.__setattr__(result, "_p", p)
        return result

    _equation: MassAction
    _p: Parameters

    def opening(self, numbers: int) -> int:
        return 2

    def first(self, slope: Slope, t: Float[Tensor, " batch"], u: Float[Tensor, "batch channel"]) -> First:
        return First(slope(t, u))

    def step(
        self,
        slope: Slope,
        t: Float[Tensor, " batch"],
        u: Float[Tensor, "batch channel"],
        h: Float[Tensor, " batch"],
        first: First,
    ) -> Step:
        plan = elimination(u.shape[1], self._equation.pattern)
        size = self.gamma * h.to(u.dtype)
        matrix = {place: -size * value for place, value in self._equation.slopes(u, self._p).items()}
        for i in range(u.shape[1]):
            known = matrix.get((i, i))
            matrix[i, i] = torch.ones_like(size) if known is None else known + 1
        factors = plan.factorise(matrix)

        def solve(right: Tensor) -> Tensor:
            return plan.solve(factors, right.mT).mT

        column = size[:, None]
        values = [solve(column * first.slope)]
        states, slopes = [u], [first.slope]
        for c, row, link in zip(self.nodes[1:], self.rows, self.links, strict=True):
            moved = combine(row, values)
            states.append(u if moved is None else u + moved)
            slopes.append(slope(t + c * h, states[-1]))
            right, linked = column * slopes[-1], combine(link, values)
            values.append(solve(right if linked is None else torch.add(right, linked, alpha=self.gamma)))
        moved = combine(self.weights, values)
        assert moved is not None
        return Step(u + moved, values[-1], tuple(values), (slopes[-1], slopes[-2], states[-1], states[-2]))


class CellStepper(Stepper):
    """Marches the kinetics of every cell of a grid with steps of its own; computes in float64, whatever the frames are in.

    Cells of all runs make one batch. A batch takes as many attempts as its slowest cell; step sizes carry over from frame to frame.
    Differentiable in states and parameters.

    Parameters
    ----------
    equation : reactions. grid : of the cells, one without axes for a single cell. interval : time between frames.
    rtol, atol : an error of ``atol + rtol |u|`` a step is accepted. method : a Rosenbrock method. max_steps : attempts a frame.
    """

    grid: Grid

    def __init__(
        self,
        equation: MassAction,
        grid: Grid,
        interval: float,
        rtol: float = 1e-3,
        atol: float = 1e-9,
        method: Rosenbrock = RODAS4,
        max_steps: int = 10_000,
    ) -> None:
        super().__init__()
        if not (interval > 0 and max_steps >= 1):
            raise InputError(
                f"CellStepper needs interval > 0 and max_steps at least 1; got {interval} and {max_steps}."
            )
        self.equation, self.grid, self.interval = equation, grid, float(interval)
        self.rtol, self.atol, self.method, self.max_steps = rtol, atol, method, max_steps
        self.channels = equation.channels

    def start(self, frames: Float[Tensor, "batch time channel *space"], parameters: Parameters) -> State:
        self.check(frames)
        return State((frames.dtype, frames[:, -1].double(), None, None))

    def advance(
        self, state: State, parameters: Parameters, generator: torch.Generator | None = None
    ) -> tuple[State, Float[Tensor, "batch horizon channel *space"]]:
        dtype, u, size, previous = state.values
        cells = u.flatten(2).movedim(1, -1).flatten(0, -2) if self.grid.axes else u
        p = self._cells(parameters, u)
        method = CellRosenbrock.of(self.method, self.equation, p)
        d = NoSpace()
        path = integrate(
            lambda t, v: self.equation.rate(v, d, p),
            cells,
            torch.tensor([0.0, self.interval], dtype=torch.float64),
            method=method,
            tolerance=Tolerance(self.rtol, self.atol),
            max_steps=self.max_steps,
            size=size,
            previous=previous,
        )
        new = path.frames[:, -1].unflatten(0, (u.shape[0], -1)).movedim(-1, 1).reshape(u.shape)
        values = (dtype, new, path.size, path.previous)
        return replace(state, values=values, stats=path.stats), new[:, None].to(dtype)

    def _cells(self, parameters: Parameters, u: Tensor) -> dict[str, Tensor]:
        """Every parameter with one entry a cell, shaped for (cell, species)."""
        ready = self.equation.ready({k: v.double() for k, v in parameters.items()}, u.double())
        whole = (u.shape[0], 1, *u.shape[2:])
        for name, spec in self.equation.parameters.items():
            spec.check(name, ready[name])
        return {name: value.expand(whole).reshape(-1, 1) for name, value in ready.items()}
