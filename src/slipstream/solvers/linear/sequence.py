"""Many systems one after the other, the hard subspace carried along."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from slipstream.errors import InputError
from slipstream.solvers.linear.method import Preconditioner, Result
from slipstream.solvers.linear.recycling import GCRODR
from slipstream.solvers.linear.solve import solve


def solve_sequence(
    systems: Any,
    *,
    method: GCRODR,
    order: Sequence[int] | None = None,
    preconditioner: Preconditioner | Callable | None = None,
    tol: float = 1e-8,
    max_iterations: int = 1000,
) -> list[Result]:
    """Solve systems in an order, each starting from the subspace that the last one left; results come in the original order.

    Parameters
    ----------
    systems : ``len(systems)`` and ``systems[i] -> (A, b)``: a list of pairs, or `slipstream.solvers.linear.systems.Systems`. It is asked
        for one system at a time.
    method : a `GCRODR`; its `space`, if any, starts the first system.
    order : every index once, such as ``greedy_order(parameters)``; as they come if None.
    preconditioner, tol, max_iterations : of each solve.

    Raises
    ------
    InputError : `order` is not a permutation.
    """
    count = len(systems)
    sequence = list(range(count)) if order is None else [int(i) for i in order]
    if sorted(sequence) != list(range(count)):
        raise InputError(f"order must hold each of 0 ... {count - 1} once; got {len(sequence)} indices.")
    found: dict[int, Result] = {}
    space = method.space
    for i in sequence:
        A, b = systems[i]
        current = GCRODR(method.restart, method.recycle, space)
        found[i] = solve(A, b, method=current, preconditioner=preconditioner, tol=tol, max_iterations=max_iterations)
        space = found[i].recycled or space
    return [found[i] for i in range(count)]
