"""Short recurrences for Hermitian systems: conjugate gradients and MINRES, for many right-hand sides or many systems at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from slipstream.solvers.linear.method import Method, Trace, inner, norm

_UNFIT = "the preconditioner is not positive definite"
_INDEFINITE = "A is not positive definite (a direction of no or negative curvature was met): use MINRES() or GMRES()"
_LOST = "CG left finite numbers"


def _dot(a: Tensor, b: Tensor) -> float:
    return float(torch.vdot(a[0], b[0]).real)


class CG(Method):
    """Conjugate gradients, for Hermitian positive definite A (and preconditioner).

    Each right-hand side has its own recurrence, so that one call also solves a batch of different systems. Where a direction of negative
    curvature shows that A is not positive definite, the iteration stops and says so.

    Parameters
    ----------
    flexible : allow a preconditioner that is not the same linear map in every iteration (one in single precision, an inner
        iteration, a network), at the price of one more inner product (Polak-Ribiere).

    Source: Hestenes & Stiefel (1952); Golub & Ye, SIAM J. Sci. Comput. 21 (1999) 1305, for the flexible form.
    """

    def __init__(self, flexible: bool = False) -> None:
        self.flexible = flexible

    def iterate(self, A, x, residual, inverse, target, max_iterations) -> Trace:
        if x.shape[0] == 1:
            return self._one(A, x, residual, inverse, float(target[0]), max_iterations)
        trace = Trace(x.clone())
        x, r = trace.x, residual.clone()
        norms = norm(r)
        active = norms > target
        z = r if inverse is None else inverse(r)
        rho = inner(r, z).real
        p = z.clone()
        while bool(active.any()) and trace.iterations < max_iterations:
            if bool((active & ~(rho > 0)).any()):
                trace.reason = _UNFIT
                break
            q = A(p)
            curvature = inner(p, q).real
            if bool((active & ~(curvature > 0)).any()):
                trace.reason = _LOST if bool(curvature[active].isnan().any()) else _INDEFINITE
                break
            step = torch.where(active, rho / curvature, 0)[:, None]
            x.addcmul_(p, step.to(p.dtype))
            before = r.clone() if self.flexible else r
            r.addcmul_(q, step.to(q.dtype), value=-1)
            norms = norm(r)
            trace.iterations += 1
            trace.norms.append(norms)
            active = norms > target
            z = r if inverse is None else inverse(r)
            fresh = inner(r, z).real
            gain = fresh - inner(before, z).real if self.flexible else fresh
            p = torch.addcmul(z, p, torch.where(active, gain / rho, 0)[:, None].to(p.dtype))
            rho = fresh
        return trace

    def _one(self, A, x, residual, inverse, goal: float, max_iterations: int) -> Trace:
        """The same recurrence for one right-hand side, in plain numbers: half the overhead on small systems."""
        trace = Trace(x.clone())
        lengths: list[float] = []
        x, r = trace.x, residual.clone()
        z = r if inverse is None else inverse(r)
        rho, length = _dot(r, z), float(torch.linalg.vector_norm(r))
        p = z.clone()
        while length > goal and len(lengths) < max_iterations:
            if not rho > 0:
                trace.reason = _UNFIT
                break
            q = A(p)
            curvature = _dot(p, q)
            if not curvature > 0:
                trace.reason = _LOST if math.isnan(curvature) else _INDEFINITE
                break
            x.add_(p, alpha=rho / curvature)
            before = r.clone() if self.flexible else r
            r.add_(q, alpha=-rho / curvature)
            length = float(torch.linalg.vector_norm(r))
            lengths.append(length)
            z = r if inverse is None else inverse(r)
            fresh = _dot(r, z)
            p.mul_((fresh - _dot(before, z) if self.flexible else fresh) / rho).add_(z)
            rho = fresh
        trace.iterations = len(lengths)
        trace.norms = list(torch.tensor(lengths, dtype=r.real.dtype, device=r.device)[:, None])
        return trace


class MINRES(Method):
    """Minimal residuals by a three-term recurrence, for Hermitian A that may be indefinite; the preconditioner must be positive definite.

    Source: Paige & Saunders, SIAM J. Numer. Anal. 12 (1975) 617; the preconditioned form follows Elman, Silvester & Wathen (2014).
    """

    def iterate(self, A, x, residual, inverse, target, max_iterations) -> Trace:
        trace = Trace(x.clone())
        x, r = trace.x, residual.clone()
        norms = norm(r)
        active = norms > target
        if self._skew(A, r):
            trace.reason = "A is not Hermitian, which MINRES needs: use GMRES() or BiCGStab()"
            return trace
        # v: Lanczos vectors; z = M^-1 v; w: search directions and A w, so that the residual itself is at hand.
        v_old, v = torch.zeros_like(r), r.clone()
        z = v if inverse is None else inverse(v)
        gamma_old, gamma = torch.ones_like(norms), _root(inner(z, v).real)
        eta = gamma.clone()
        c_old, c = torch.ones_like(norms), torch.ones_like(norms)
        s_old, s = torch.zeros_like(norms), torch.zeros_like(norms)
        w_old, w, q_old, q = (torch.zeros_like(r) for _ in range(4))
        while bool(active.any()) and trace.iterations < max_iterations:
            if bool((active & ~(gamma > 0)).any()):
                trace.reason = "the preconditioner is not positive definite, or the Krylov space is exhausted"
                break
            safe = torch.where(gamma > 0, gamma, 1)
            z = z / _column(safe, z)
            product = A(z)
            delta = inner(z, product).real
            v_new = product - v * _column(delta / safe, v) - v_old * _column(safe / gamma_old, v)
            z_new = v_new if inverse is None else inverse(v_new)
            gamma_new = _root(inner(z_new, v_new).real)
            a0 = c * delta - c_old * s * gamma
            a1 = torch.sqrt(a0 * a0 + gamma_new * gamma_new)
            a2 = s * delta + c_old * c * gamma
            a3 = s_old * gamma
            if bool((active & (a1 == 0)).any()):
                trace.reason = "A is singular and b is not in its range"
                break
            a1 = torch.where(a1 > 0, a1, 1)
            c_old, s_old, c, s = c, s, a0 / a1, gamma_new / a1
            w_old, w = w, (z - w_old * _column(a3, w) - w * _column(a2, w)) / _column(a1, w)
            q_old, q = q, (product - q_old * _column(a3, q) - q * _column(a2, q)) / _column(a1, q)
            step = _column(torch.where(active, c * eta, 0), w)
            x.addcmul_(w, step)
            r.addcmul_(q, step, value=-1)
            eta = -s * eta
            norms = norm(r)
            trace.iterations += 1
            trace.norms.append(norms)
            active = norms > target
            v_old, v, z, gamma_old, gamma = v, v_new, z_new, safe, gamma_new
        return trace

    @staticmethod
    def _skew(A, r: Tensor) -> bool:
        """Whether <A r, A r> differs from <r, A A r>: one look costs two products and spares a wrong recurrence."""
        once = A(r)
        twice = A(once)
        straight, crossed = inner(once, once).real, inner(r, twice)
        loose = 100 * torch.finfo(straight.dtype).eps ** 0.5
        return bool(((crossed - straight).abs() > loose * (straight + norm(r) * norm(twice))).any())


def _column(s: Tensor, like: Tensor) -> Tensor:
    return s[:, None].to(like.dtype)


def _root(s: Tensor) -> Tensor:
    return torch.where(s > 0, s, 0).sqrt()
