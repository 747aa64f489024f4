"""BiCGStab: short recurrences for any system, at two products an iteration and without a guarantee."""

from __future__ import annotations

import torch

from slipstream.solvers.linear.method import Method, Trace, inner, norm


class BiCGStab(Method):
    """Stabilised bi-conjugate gradients, preconditioned from the right: little memory, any A, residuals that may jump.

    Source: van der Vorst, SIAM J. Sci. Stat. Comput. 13 (1992) 631.
    """

    def iterate(self, A, x, residual, inverse, target, max_iterations) -> Trace:
        trace = Trace(x.clone())
        x, r = trace.x, residual.clone()
        shadow = residual.clone()
        p, v = torch.zeros_like(r), torch.zeros_like(r)
        one = torch.ones_like(inner(r, r))
        rho, alpha, omega = one, one, one
        active = norm(r) > target
        tiny = torch.finfo(r.dtype).eps ** 2
        while bool(active.any()) and trace.iterations < max_iterations:
            rho_new = inner(shadow, r)
            if bool((active & (rho_new.abs() <= tiny * norm(shadow) * norm(r))).any()):
                trace.reason = "BiCGStab broke down (the residual became orthogonal to its shadow): use GMRES()"
                break
            beta = torch.where(active, (rho_new / rho) * (alpha / omega), 0)[:, None]
            rho = torch.where(active, rho_new, 1)
            p = r + beta * (p - omega[:, None] * v)
            p_hat = p if inverse is None else inverse(p)
            v = A(p_hat)
            denominator = inner(shadow, v)
            if bool((active & (denominator == 0)).any()):
                trace.reason = "BiCGStab broke down (a direction without projection): use GMRES()"
                break
            alpha = torch.where(active, rho / denominator, 0)
            s = r - alpha[:, None] * v
            s_hat = s if inverse is None else inverse(s)
            t = A(s_hat)
            square = inner(t, t)
            omega_new = torch.where(active & (square.abs() > 0), inner(t, s) / square, 0)
            x.add_(alpha[:, None] * p_hat + omega_new[:, None] * s_hat)
            r = torch.where(active[:, None], s - omega_new[:, None] * t, r)
            norms = norm(r)
            trace.iterations += 1
            trace.norms.append(norms)
            active = active & (norms > target)
            if bool((active & (omega_new == 0)).any()):
                trace.reason = "BiCGStab broke down (the stabilising step is zero): use GMRES()"
                break
            alpha, omega = torch.where(active, alpha, 1), torch.where(active, omega_new, 1)
        return trace
