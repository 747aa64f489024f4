"""Lanczos with full reorthogonalisation: approximate eigenvectors of Hermitian matrices, many matrices at once."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.errors import InputError
from slipstream.solvers.linear.maps import LinearMap
from slipstream.solvers.linear.method import inner, norm


def ritz(
    A: LinearMap, start: Float[Tensor, "systems n"], steps: int
) -> tuple[Float[Tensor, "systems steps"], Float[Tensor, "systems steps n"]]:
    """Ritz values, ascending, and orthonormal Ritz vectors as rows, from the Krylov space of each row of `start`.

    Plain Lanczos loses orthogonality as soon as a Ritz value converges, and finds it again and again; every new vector is made
    orthogonal to all others twice instead. Where a Krylov space is exhausted before, the rest are zero rows of value zero (which are
    in their place of the order).

    Raises
    ------
    InputError : A is complex, says that it is not symmetric, or gives values that are not finite.
    """
    if A.dtype.is_complex or getattr(A.source, "hermitian", None) is False:
        raise InputError("Ritz vectors are those of a real symmetric matrix, and this one says that it is not.")
    systems, n = start.shape
    Q = start.new_zeros(systems, steps, n)
    T = start.new_zeros(systems, steps, steps)
    q = start / norm(start).clamp_min(torch.finfo(start.dtype).tiny)[:, None]
    size = torch.zeros_like(norm(start))
    for j in range(steps):
        Q[:, j] = q
        w = A(q)
        size = torch.maximum(size, norm(w))
        T[:, j, j] = inner(q, w)
        known = Q[:, : j + 1]
        for _ in range(2):
            w = w - ((known @ w[..., None]).mT @ known)[:, 0]
        beta = norm(w)
        if not bool(torch.isfinite(beta).all()):
            raise InputError("A gave values that are not finite; check it for NaN.")
        beta = torch.where(beta > 1e-10 * size, beta, 0)
        q = torch.where(beta[:, None] > 0, w / torch.where(beta > 0, beta, 1)[:, None], 0)
        if j + 1 < steps:
            T[:, j, j + 1] = T[:, j + 1, j] = beta
    values, weights = torch.linalg.eigh(T)
    return values, weights.mT @ Q
