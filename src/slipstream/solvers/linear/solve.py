"""`solve`: one verb for every linear system, differentiable, and never silent about a wrong answer."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from slipstream.errors import InputError, ShapeError
from slipstream.solvers.linear.maps import LinearMap, Matrix, as_map
from slipstream.solvers.linear.method import (
    Correction,
    Inverse,
    Method,
    Preconditioner,
    Result,
    Trace,
    adjoint_of,
    norm,
    ready,
)

Vectors = Shaped[Tensor, "..."] | Shaped[np.ndarray, "..."]


def solve(
    A: Matrix,
    b: Vectors,
    x0: Vectors | None = None,
    *,
    method: Method,
    preconditioner: Preconditioner | Inverse | None = None,
    tol: float = 1e-8,
    max_iterations: int = 1000,
) -> Result:
    r"""Solve :math:`A x = b` for one or several right-hand sides.

    Gradients flow to b and to whatever A is made of (entries of a torch matrix, tensors inside a function) by one solve with the adjoint,
    whatever the method did inside. Second derivatives are refused.

    Parameters
    ----------
    A : a torch tensor (n, n), dense or sparse; a SciPy sparse matrix or ``LinearOperator``; or a function of fields
        (rhs, \*space) -> (rhs, \*space), which may hold one matrix a right-hand side.
    b : (n,) or (rhs, n) for a matrix. For a function that has an attribute ``space``: space or (rhs, \*space); for any other function
        (n,) or (rhs, n). Real or complex, tensor or array; x is of the same kind.
    x0 : where to start; zero if None.
    method : `CG`, `GMRES`, `LU` ... (an object, with its own arguments).
    preconditioner : `Jacobi`, `ILU`, `AMG` ..., or a function r (rhs, n) -> approximately A^-1 r.
    tol : of the relative residual ``||b - A x|| / ||b||`` of each right-hand side.
    max_iterations : at the most.

    Raises
    ------
    ShapeError : A is not square or does not fit b or x0.
    InputError : A, b or x0 is not finite; a matrix that is to be factorised is singular; the method cannot use this kind of A.
    """
    return Solver(A, method=method, preconditioner=preconditioner, tol=tol, max_iterations=max_iterations).solve(b, x0)


class Solver:
    """A system made ready once (factorised, preconditioner built) for many right-hand sides, one call after the other.

    Parameters are those of `solve`. The entries of A are read at the first solve: after changing them, make a new `Solver`.
    """

    def __init__(
        self,
        A: Matrix,
        *,
        method: Method,
        preconditioner: Preconditioner | Inverse | None = None,
        tol: float = 1e-8,
        max_iterations: int = 1000,
    ) -> None:
        if isinstance(method, type) or not isinstance(method, Method):
            raise InputError(f"method must be an object such as CG() or GMRES(restart=40); got {method!r}.")
        if isinstance(method, Correction) and preconditioner is not None:
            raise InputError(
                f"{type(method).__name__} takes no preconditioner: it is one. "
                f"Use method=CG() or GMRES() with preconditioner={type(method).__name__}(...)."
            )
        if not (tol > 0 and max_iterations >= 1):
            raise InputError(
                f"tol must be positive and max_iterations at least 1; got tol={tol}, max_iterations={max_iterations}."
            )
        self.A, self.method, self.preconditioner = A, method, preconditioner
        self.tol, self.max_iterations = float(tol), int(max_iterations)
        self._ready: dict[Any, tuple[LinearMap, Inverse | None]] = {}

    def solve(self, b: Vectors, x0: Vectors | None = None) -> Result:
        """The solution for `b`, starting from `x0`; see `slipstream.solvers.linear.solve`."""
        start = time.perf_counter()
        right = torch.from_numpy(b) if isinstance(b, np.ndarray) else b
        if not (right.is_floating_point() or right.is_complex()):
            raise InputError(f"b must hold real or complex numbers; got {right.dtype}. Use b.to(torch.float64).")
        space = getattr(self.A, "space", None)
        single = right.ndim == (1 if space is None else len(space))
        fields = right[None] if single else right
        if fields.ndim < 2 or fields.numel() == 0:
            raise ShapeError(f"b must be (n,) or (rhs, n), or fields of the shape of A's; got {tuple(right.shape)}.")
        if space is None and fields.ndim != 2:
            raise ShapeError(
                f"b must be (n,) or (rhs, n) for an A without attribute `space`; got {tuple(right.shape)}."
            )
        A, inverse = self._made_ready(fields)
        counted = A.applications
        flat = fields.reshape(fields.shape[0], -1).to(A.dtype)
        if not bool(torch.isfinite(flat).all()):
            raise InputError("b has values that are not finite; check your data for NaN.")
        x = self._start(x0, right, flat)
        solution, trace, residuals, converged = self._run(A, inverse, flat, x)
        shaped = solution.reshape(fields.shape)
        shaped = shaped[0] if single else shaped
        return Result(
            x=shaped.detach().cpu().numpy() if isinstance(b, np.ndarray) else shaped,
            iterations=trace.iterations,
            residuals=residuals,
            seconds=time.perf_counter() - start,
            converged=converged,
            applications=A.applications - counted,
            reason="" if converged else trace.reason or f"{self.max_iterations} iterations were not enough",
            recycled=trace.recycled,
            fallback=trace.fallback,
        )

    def _made_ready(self, fields: Tensor) -> tuple[LinearMap, Inverse | None]:
        key = (fields.dtype, fields.device, tuple(fields.shape[1:]), getattr(self.A, "batch", None) and fields.shape[0])
        if key not in self._ready:
            A = as_map(self.A, fields)
            with torch.no_grad():
                self._ready[key] = (A, ready(self._given(), A))
        return self._ready[key]

    def _given(self) -> Preconditioner | Inverse | None:
        return self.method if isinstance(self.method, Correction) else self.preconditioner

    def _start(self, x0: Vectors | None, right: Tensor, flat: Tensor) -> Tensor | None:
        if x0 is None:
            return None
        given = torch.from_numpy(x0) if isinstance(x0, np.ndarray) else x0
        if given.shape != right.shape:
            raise ShapeError(f"x0 must have the shape of b, {tuple(right.shape)}; got {tuple(given.shape)}.")
        x = given.detach().to(dtype=flat.dtype, device=flat.device).reshape(flat.shape)
        if not bool(torch.isfinite(x).all()):
            raise InputError("x0 has values that are not finite.")
        return torch.where((norm(flat.detach()) == 0)[:, None], torch.zeros_like(x), x)

    def _run(self, A: LinearMap, inverse: Inverse | None, b: Tensor, x: Tensor | None):
        """Iterate, look at the true residual, and go on from there where a recurrence had promised too much."""
        graph = torch.is_grad_enabled()
        with torch.no_grad():
            known = b.detach()
            scale = norm(known)
            scale = torch.where(scale == 0, torch.ones_like(scale), scale)
            target = self.tol * scale
            with torch.set_grad_enabled(graph):
                differentiable = b if x is None else b - A.with_gradient(x)
            r = differentiable.detach()
            x = torch.zeros_like(known) if x is None else x
            if not bool(torch.isfinite(r).all()):
                raise InputError("A gave values that are not finite for a finite x0; check it for NaN.")
            norms, error = [norm(r)], norm(r)
            total = Trace(x)
            while bool((error > target).any()) and total.iterations < self.max_iterations:
                left = self.max_iterations - total.iterations
                part = self.method.iterate(A, total.x, r, inverse, target, left)
                # Rows that left finite numbers go back to where this part began; their residual then says so.
                finite = torch.isfinite(part.x).all(dim=1, keepdim=True)
                total.x = torch.where(finite, part.x, total.x)
                total.iterations += part.iterations
                total.reason, total.recycled = part.reason, part.recycled
                total.fallback += part.fallback
                norms += part.norms
                with torch.set_grad_enabled(graph):
                    differentiable = b - A.with_gradient(total.x)
                r, before = differentiable.detach(), error
                error = norm(r)
                norms[-1] = error
                open_rows = error > target
                if part.iterations == 0 or bool((error[open_rows] > 0.5 * before[open_rows]).any()):
                    if bool(open_rows.any()) and not total.reason and total.iterations < self.max_iterations:
                        total.reason = "the residual stopped falling: the tolerance is below what rounding allows, or A is singular"
                    break
            converged = bool((error <= target).all())
        residuals = torch.stack(norms) / scale
        if graph and differentiable.requires_grad:
            return total.x + _Implicit.apply(differentiable, self, A, inverse, converged), total, residuals, converged
        return total.x, total, residuals, converged

    def _solve_adjoint(self, A: LinearMap, inverse: Inverse | None, g: Tensor) -> Tensor:
        adjoint = A.adjoint()
        with torch.no_grad():
            transposed = adjoint_of(inverse, self._given(), A, adjoint)
        helper = Solver(self.A, method=self.method.for_adjoint(), tol=self.tol, max_iterations=self.max_iterations)
        found, trace, residuals, converged = helper._run(adjoint, transposed, g, None)
        if not converged:
            raise InputError(
                f"The adjoint system, which the gradient needs, was solved to {float(residuals[-1].max()):.2g} only "
                f"({trace.reason or 'too few iterations'}). Give more max_iterations, or a preconditioner with an attribute H."
            )
        return found


class _Implicit(torch.autograd.Function):
    r"""Nothing forward; backward, the solve with the adjoint.

    With :math:`r(\theta) = b(\theta) - A(\theta) x` at fixed x, implicit differentiation says :math:`dx = A^{-1} dr`. So x plus this
    function of r has the value x and the derivative of x in everything that r depends on.
    """

    @staticmethod
    def forward(
        ctx, residual: Tensor, solver: Solver, A: LinearMap, inverse: Inverse | None, converged: bool
    ) -> Tensor:
        ctx.needed = (solver, A, inverse, converged)
        return torch.zeros_like(residual)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        solver, A, inverse, converged = ctx.needed
        if torch.is_grad_enabled():
            # x stands fixed inside r, so a second derivative would silently miss a part.
            raise InputError(
                "Second derivatives through solve (create_graph=True) are not available; difference the gradient instead."
            )
        if not converged:
            raise InputError(
                "The gradient of a solve that did not converge was asked for; look at result.converged first."
            )
        return solver._solve_adjoint(A, inverse, gradient), None, None, None, None
