"""GMRES: the smallest residual over a Krylov space, restarted; and its form for preconditioners that change."""

from __future__ import annotations

import numpy as np
import torch

from slipstream.errors import InputError
from slipstream.solvers.linear.arnoldi import Arnoldi
from slipstream.solvers.linear.method import Method, Trace, norm


class FGMRES(Method):
    """Flexible GMRES: the preconditioner, from the right, may be another map in every iteration (an inner solve, a network).

    Parameters
    ----------
    restart : steps after which the basis is thrown away; it is also what bounds the memory (two bases of `restart` vectors).

    Source: Saad, SIAM J. Sci. Comput. 14 (1993) 461.
    """

    keep = True

    def __init__(self, restart: int = 40) -> None:
        if restart < 1:
            raise InputError(f"restart must be at least 1; got {restart}.")
        self.restart = restart

    def iterate(self, A, x, residual, inverse, target, max_iterations) -> Trace:
        trace = Trace(x)
        r, norms = residual, norm(residual)
        goal = target.cpu().numpy()
        while bool((norms > target).any()) and trace.iterations < max_iterations:
            active = (norms > target)[:, None]
            steps = min(self.restart, max_iterations - trace.iterations)
            space = Arnoldi(A, inverse, r, steps, keep=self.keep)
            for _ in range(steps):
                found = space.step()
                trace.iterations += 1
                trace.norms.append(torch.where(active[:, 0], torch.from_numpy(found).to(norms), norms))
                if not np.isfinite(found).all():
                    trace.reason = f"{type(self).__name__} left finite numbers"
                    return trace
                if (found <= goal).all():
                    break
            change = torch.where(active, space.combine(space.coefficients()), 0)
            trace.x = trace.x + change
            r, before = r - A(change), norms
            norms = norm(r)
            stuck = active[:, 0] & (norms > target) & (norms > (1 - 1e-6) * before)
            if bool(stuck.any()):
                trace.reason = (
                    f"{type(self).__name__}({self.restart}) stagnates: give a larger restart or a better preconditioner"
                )
                break
        return trace


class GMRES(FGMRES):
    """GMRES(restart), preconditioned from the right, so that the residual it minimises is the true one.

    Parameters
    ----------
    restart : steps after which the basis is thrown away; it is also what bounds the memory.

    Source: Saad & Schultz, SIAM J. Sci. Stat. Comput. 7 (1986) 856.
    """

    keep = False
