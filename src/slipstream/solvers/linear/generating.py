"""`generate`: the solutions of a whole set of systems, by the way that is fastest for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Tensor

from slipstream.errors import InputError
from slipstream.solvers.linear.choosing import Candidate, choose_solver
from slipstream.solvers.linear.conjugate import CG, MINRES
from slipstream.solvers.linear.flat import Flat
from slipstream.solvers.linear.gmres import FGMRES, GMRES
from slipstream.solvers.linear.method import Result
from slipstream.solvers.linear.multigrid import Multigrid
from slipstream.solvers.linear.ordering import gray_order, greedy_order
from slipstream.solvers.linear.poisson import FastPoisson
from slipstream.solvers.linear.preconditioners import Jacobi
from slipstream.solvers.linear.recycling import GCRODR
from slipstream.solvers.linear.sequence import solve_sequence
from slipstream.solvers.linear.solve import solve
from slipstream.solvers.linear.stabilised import BiCGStab
from slipstream.solvers.linear.systems import Systems

MANY = (CG, MINRES, GMRES, FGMRES, BiCGStab, FastPoisson, Multigrid)
"""Methods that solve a batch of different systems in one call, and preconditioners that serve such a batch."""
MANY_PRECONDITIONERS = (Jacobi, FastPoisson, Flat, Multigrid)
CACHE = 1 << 19
"""Bytes of one field of a batch that a core's cache keeps together with the handful of others that an iteration touches."""
GREEDY = 1000
"""Up to so many systems are put in order by their nearest neighbours; more by boxes (`gray_order`)."""


@dataclass(frozen=True)
class Generated:
    r"""Solutions and what they cost.

    Attributes
    ----------
    x : (systems, \*space), in the order of the systems.
    iterations : of each system (of the slowest of its batch, where solved in batches). residual : the worst true relative residual.
    seconds : in all, preparation included. solver : in words. order : in which the systems were solved.
    """

    x: Shaped[Tensor, "systems *space"]
    iterations: tuple[int, ...]
    residual: float
    seconds: float
    solver: str
    order: tuple[int, ...]

    @property
    def rate(self) -> float:
        """Systems a second."""
        return len(self.iterations) / self.seconds


def generate(
    systems: Systems,
    solver: Candidate | None = None,
    *,
    order: Sequence[int] | None = None,
    tol: float = 1e-8,
    max_iterations: int = 2000,
    chunk: int | None = None,
    trials: int = 8,
) -> Generated:
    """Solve every system of a set; samples come back in the order of the set, and one that does not converge raises.

    Parameters
    ----------
    systems : as of `slipstream.solvers.linear.systems.darcy`: matrices, right-hand sides, and what they differ in.
    solver : a method and its preconditioner. None measures the standard ones on the first `trials` systems (`choose_solver`) and takes the
        fastest. Methods that can solve batches do; `GCRODR` carries its subspace from system to system.
    order : in which they are solved, for a `GCRODR`; None goes on to the nearest (`greedy_order`; `gray_order` beyond a thousand).
    tol : relative residual of every system. max_iterations : of each solve.
    chunk : systems in a batch; None fits the cache.

    Raises
    ------
    InputError : a system was not solved to the tolerance: which, how far it got, and why.

    Source: Wang et al., "Accelerating Data Generation for Neural Operators via Krylov Subspace Recycling", ICLR 2024, for order and
    recycling.
    """
    count = len(systems)
    if count < 1:
        raise InputError("generate got no systems.")
    begun = time.perf_counter()
    if solver is None:
        few = Systems(systems.A[: min(trials, count)], systems.b[:trials], systems.parameters[:trials])
        choice = choose_solver(few, tol=tol, max_iterations=max_iterations)
        solver = Candidate(choice.method, choice.preconditioner)
    way = list(range(count))
    with torch.no_grad():
        if isinstance(solver.method, GCRODR):
            way = _nearest(systems.parameters) if order is None else [int(i) for i in order]
            results = solve_sequence(
                systems,
                method=solver.method,
                order=way,
                preconditioner=solver.preconditioner,
                tol=tol,
                max_iterations=max_iterations,
            )
            parts = [(slice(i, i + 1), r) for i, r in enumerate(results)]
        else:
            parts = _in_batches(systems, solver, tol, max_iterations, chunk)
    return _gathered(systems, parts, solver, tol, time.perf_counter() - begun, way)


def _nearest(parameters: Tensor) -> list[int]:
    ordering: Callable[[Tensor], list[int]] = greedy_order if len(parameters) <= GREEDY else gray_order
    return ordering(parameters)


def together(solver: Candidate) -> bool:
    """Whether one call solves a batch of different systems."""
    p = solver.preconditioner
    return isinstance(solver.method, MANY) and (p is None or isinstance(p, MANY_PRECONDITIONERS))


def _in_batches(
    systems: Systems, solver: Candidate, tol: float, max_iterations: int, chunk: int | None
) -> list[tuple[slice, Result]]:
    size = systems.b[0].numel() * systems.b.element_size()
    several = (chunk or max(1, CACHE // size)) if together(solver) else 1
    parts = []
    for start in range(0, len(systems), several):
        rows = slice(start, min(start + several, len(systems)))
        result = solve(
            systems.A[rows],
            systems.b[rows],
            method=solver.method,
            preconditioner=solver.preconditioner,
            tol=tol,
            max_iterations=max_iterations,
        )
        parts.append((rows, result))
        if not result.converged:
            break
    return parts


def _gathered(
    systems: Systems,
    parts: list[tuple[slice, Result]],
    solver: Candidate,
    tol: float,
    seconds: float,
    order: list[int],
) -> Generated:
    words = type(solver.method).__name__
    words += "" if solver.preconditioner is None else f" + {getattr(type(solver.preconditioner), '__name__', '')}"
    for rows, result in parts:
        if not result.converged:
            worst = int(result.residuals[-1].argmax())
            raise InputError(
                f"System {rows.start + worst} of {len(systems)} was solved to a relative residual of "
                f"{float(result.residuals[-1].max()):.2g} only (asked: {tol:g}) by {words}: {result.reason}. "
                "Give more max_iterations, a looser tol, or another solver."
            )
    x = torch.cat([r.x.reshape(-1, *systems.b.shape[1:]) for _, r in parts])
    iterations = tuple(r.iterations for rows, r in parts for _ in range(rows.stop - rows.start))
    residual = max(float(r.residuals[-1].max()) for _, r in parts)
    return Generated(x, iterations, residual, seconds, words, tuple(order))
