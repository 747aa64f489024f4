"""The words of this room: a `Method` iterates, a `Preconditioner` builds an approximate inverse, a `Correction` is both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from slipstream.errors import InputError
from slipstream.solvers.linear.maps import LinearMap

if TYPE_CHECKING:
    from slipstream.solvers.linear.recycling import Recycled

Inverse = Callable[[Tensor], Tensor]
"""Residuals (rhs, n) -> corrections (rhs, n). It may carry an attribute ``H``, the adjoint of itself."""


@dataclass
class Result:
    """What a solve gives back.

    Attributes
    ----------
    x : of the shape and kind (tensor or array) of b. Look at `converged` before use.
    iterations : steps of the method, the largest over the right-hand sides; restarts and warm starts are counted.
    residuals : relative residual norms, (iterations + 1, rhs); the last row is the true ``||b - A x|| / ||b||``.
    seconds : of the whole solve, preparation that was not done before included.
    converged : whether every true relative residual is at or below the tolerance.
    applications : products of A with one vector, all of them.
    reason : why it stopped, where it did not converge.
    recycled : the subspace to hand to the next system (`GCRODR` only).
    fallback : iterations in which some right-hand side went on without what was learnt (`DCDM` only).
    """

    x: Any
    iterations: int
    residuals: Float[Tensor, "steps rhs"]
    seconds: float
    converged: bool
    applications: int
    reason: str = ""
    recycled: Recycled | None = None
    fallback: int = 0


@dataclass
class Trace:
    """What a method did: where it got to, and the norms of the residuals (rhs,) after each iteration."""

    x: Shaped[Tensor, "rhs n"]
    norms: list[Float[Tensor, " rhs"]] = field(default_factory=list)
    iterations: int = 0
    reason: str = ""
    recycled: Any = None
    fallback: int = 0


class Method:
    """A way to solve ``A x = b``, for one or several right-hand sides at once."""

    def iterate(
        self,
        A: LinearMap,
        x: Shaped[Tensor, "rhs n"],
        residual: Shaped[Tensor, "rhs n"],
        inverse: Inverse | None,
        target: Float[Tensor, " rhs"],
        max_iterations: int,
    ) -> Trace:
        """Improve `x`, whose residual is `residual`, until every residual norm is at or below `target`.

        Rows that are there already stay as they are. A breakdown ends the iteration with a reason; the caller checks the true residual.
        """
        raise TypeError(f"{type(self).__name__} defines no iterate(...).")

    def for_adjoint(self) -> Method:
        """The method that solves with the conjugate transpose."""
        return self


class Preconditioner:
    """Builds an approximate inverse of a matrix."""

    def build(self, A: LinearMap) -> Inverse:
        """The function that applies the approximate inverse to rows (rhs, n)."""
        raise TypeError(f"{type(self).__name__} defines no build(A).")


class Correction(Method, Preconditioner):
    """A method that is a good inverse by itself: ``x <- x + B (b - A x)`` until the residual is small. Also a preconditioner."""

    def check(self, A: LinearMap) -> None:
        """Refuse what this cannot solve alone (it may still be a good preconditioner of it)."""

    def iterate(self, A, x, residual, inverse, target, max_iterations) -> Trace:
        assert inverse is not None
        self.check(A)
        trace = Trace(x)
        r, norms = residual, norm(residual)
        while bool((norms > target).any()) and trace.iterations < max_iterations:
            active = (norms > target)[:, None]
            new = torch.where(active, trace.x + inverse(r), trace.x)
            r = residual - A(new - x)
            fresh = norm(r)
            trace.iterations += 1
            trace.norms.append(fresh)
            if not bool(torch.isfinite(fresh).all()):
                trace.reason = f"{type(self).__name__} left finite numbers"
                break
            trace.x = new
            if trace.iterations >= 3 and bool((fresh[active[:, 0]] > 0.99 * norms[active[:, 0]]).any()):
                trace.reason = f"{type(self).__name__} no longer reduces the residual"
                break
            norms = fresh
        return trace


def norm(v: Shaped[Tensor, "rhs n"]) -> Float[Tensor, " rhs"]:
    """Euclidean norm of every row."""
    return torch.linalg.vector_norm(v, dim=-1)


def inner(a: Shaped[Tensor, "rhs n"], b: Shaped[Tensor, "rhs n"]) -> Shaped[Tensor, " rhs"]:
    """``a^H b`` of every row."""
    return torch.linalg.vecdot(a, b, dim=-1)


def adjoint_of(
    inverse: Inverse | None, given: Preconditioner | Inverse | None, A: LinearMap, adjoint: LinearMap
) -> Inverse | None:
    """The preconditioner of the adjoint system: what the inverse offers as ``H``, itself for a Hermitian system, a new one, or none."""
    if inverse is None:
        return None
    offered = getattr(inverse, "H", None)
    if offered is not None:
        return offered
    if A.hermitian:
        return inverse
    return given.build(adjoint) if isinstance(given, Preconditioner) else None


def ready(preconditioner: Preconditioner | Inverse | None, A: LinearMap) -> Inverse | None:
    """An inverse from whatever the caller gave."""
    if preconditioner is None:
        return None
    if isinstance(preconditioner, Preconditioner):
        return preconditioner.build(A)
    if not callable(preconditioner):
        raise InputError(
            f"preconditioner must be a Preconditioner or a function r -> approximately A^-1 r; got {type(preconditioner).__name__}."
        )
    return preconditioner
