"""Classical stepper for steady linear problems: parameters in, one field out, by one linear solve a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.channels import Channel, as_channels
from slipstream.errors import InputError
from slipstream.grids import Grid, resample
from slipstream.solvers.linear.choosing import Candidate
from slipstream.solvers.linear.generating import generate, together
from slipstream.solvers.linear.solve import solve
from slipstream.solvers.linear.systems import Systems
from slipstream.stepper import State, Stepper
from slipstream.trajectories import Parameters

SINGLE = 1e-4
"""Down to this tolerance single precision is enough, and twice as quick."""


@dataclass(frozen=True)
class Solved:
    """How the systems of a steady problem are solved: the scheme of its settings.

    `label` names it; `solver` is a method with its preconditioner, `tolerance` the relative residual of every system.
    """

    label: str
    solver: Candidate
    tolerance: float = 1e-9
    max_iterations: int = 2000

    @property
    def name(self) -> str:
        return f"{self.label} (tolerance {self.tolerance:g})"


class LinearStepper(Stepper):
    """Solves ``A(p) u = b(p)``; the frame holds the means of u over the cells of `grid`. Differentiable where it solves batches.

    It works in double precision (single from a tolerance of 1e-4 on) and gives the frame in the precision of the parameters.
    `State.stats` counts ``iterations`` of each run.

    Parameters
    ----------
    system : from parameters on `grid` and the grid to solve on to matrices and right-hand sides, one a run.
    grid : of the frames and of parameter fields. inner : where it is solved: as fine, or finer or coarser by a whole factor.
    channels : one, or real and imaginary part. scheme : how it is solved.

    Raises
    ------
    InputError : a run was not solved to the tolerance.
    """

    history = 0
    interval = 0.0
    grid: Grid
    channels: tuple[Channel, ...]

    def __init__(
        self,
        system: Callable[[Parameters, Grid], Any],
        grid: Grid,
        inner: Grid,
        channels: Sequence[Channel | str],
        scheme: Solved,
    ) -> None:
        super().__init__()
        self.system, self.grid, self.inner, self.scheme = system, grid, inner, scheme
        self.channels = as_channels(channels)

    def advance(
        self, state: State, parameters: Parameters, generator: torch.Generator | None = None
    ) -> tuple[State, Float[Tensor, "batch horizon channel *space"]]:
        known = [v for v in parameters.values() if v.is_floating_point()]
        outer = known[0].dtype if known else torch.get_default_dtype()
        kind = torch.float32 if self.scheme.tolerance >= SINGLE else torch.float64
        systems = self.system(
            {k: v.to(kind) if v.is_floating_point() else v for k, v in parameters.items()}, self.inner
        )
        x, iterations = self._solved(systems)
        parts = torch.stack([x.real, x.imag], dim=1) if x.is_complex() else x.reshape(len(x), -1, *self.inner.shape)
        return replace(state, stats={"iterations": torch.tensor(iterations)}), self._carried(parts).to(outer)[:, None]

    def _carried(self, u: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch2"]:
        return carried(u, self.inner, self.grid)

    def _solved(self, systems: Systems) -> tuple[Tensor, tuple[int, ...]]:
        s = self.scheme
        needed = torch.is_grad_enabled() and (systems.A.centre.requires_grad or systems.b.requires_grad)
        if not needed:
            made = generate(systems, s.solver, tol=s.tolerance, max_iterations=s.max_iterations)
            return made.x, made.iterations
        pieces = [slice(0, len(systems))] if together(s.solver) else [slice(i, i + 1) for i in range(len(systems))]
        return self._in_pieces(systems.A, systems.b, pieces)

    def _in_pieces(self, A: Any, b: Tensor, pieces: Sequence[slice]) -> tuple[Tensor, tuple[int, ...]]:
        s = self.scheme
        how = {"method": s.solver.method, "preconditioner": s.solver.preconditioner}
        found = [solve(A[i], b[i], **how, tol=s.tolerance, max_iterations=s.max_iterations) for i in pieces]  # type: ignore[arg-type]
        if not all(r.converged for r in found):
            reason = next(r.reason for r in found if not r.converged)
            raise InputError(f"A steady solve to {s.tolerance:g} did not converge ({s.name}): {reason}.")
        return torch.cat([r.x for r in found]), tuple(r.iterations for r in found)

    def forward(
        self, past: Float[Tensor, "batch time channel *space"], parameters: Parameters
    ) -> Float[Tensor, "batch horizon channel *space2"]:
        return self.advance(State(past), parameters)[1]


def carried(u: Float[Tensor, "*batch"], source: Grid, target: Grid) -> Float[Tensor, "*batch2"]:
    """Cell values on another grid: means over cells downwards; upwards as they are in each cell, or linear between frames' points.

    Frames go upwards linearly, because a frame of copies would have steps.
    """
    return resample(u, source, target, "conservative" if source.size > target.size else "pointwise")
