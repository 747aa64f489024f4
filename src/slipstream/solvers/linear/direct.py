"""A sparse factorisation: in two dimensions, and for many right-hand sides, usually the one to beat."""

from __future__ import annotations

import numpy as np
import scipy.sparse

from slipstream.errors import InputError
from slipstream.solvers.linear.maps import LinearMap
from slipstream.solvers.linear.method import Correction, Inverse
from slipstream.solvers.linear.preconditioners import Factors, factorised

SYMMETRIC = {"permc_spec": "MMD_AT_PLUS_A", "diag_pivot_thresh": 0.0, "options": {"SymmetricMode": True}}
"""Minimum degree on A + A^T, pivots from the diagonal: half the fill of the default where the pattern is symmetric."""


class LU(Correction):
    """Sparse LU (SuperLU), refined until the true residual is below the tolerance.

    The factors are made once for a `Solver`, which then solves for as many right-hand sides as come, and with the adjoint for gradients.
    Where the pattern is symmetric, pivots are taken from the diagonal, which is two to three times as fast; the factors are tried on a
    vector, and where that was too bold they are made again with full pivoting.

    Raises
    ------
    InputError : the matrix is singular to working precision.
    """

    def build(self, A: LinearMap) -> Inverse:
        matrix = A.entries("LU")
        factors = _bold(matrix) or factorised(matrix, "LU")
        pivots = abs(factors.lu.U.diagonal())
        if pivots.min() <= 1e-14 * pivots.max():
            raise InputError(
                f"LU met a matrix that is singular to working precision (pivots from {pivots.min():.1e} to {pivots.max():.1e}). "
                "Check boundary conditions, or fix one unknown; "
                "for a consistent system with a known null space use CG() or MINRES()."
            )
        return factors


def _bold(matrix: scipy.sparse.csr_array) -> Factors | None:
    """Factors with pivots from the diagonal, if the pattern allows it and they pass a trial."""
    matrix, flipped = matrix.sorted_indices(), scipy.sparse.csr_array(matrix.T).sorted_indices()
    same = np.array_equal(matrix.indptr, flipped.indptr) and np.array_equal(matrix.indices, flipped.indices)
    if not same or not matrix.diagonal().all():
        return None
    try:
        factors = factorised(matrix, "LU", SYMMETRIC)
    except InputError:
        return None  # a zero pivot on the diagonal; full pivoting says whether the matrix is singular
    b = np.cos(np.arange(matrix.shape[0], dtype=float)).astype(factors.kind)
    x = factors.lu.solve(b)
    good = np.isfinite(x).all() and np.linalg.norm(b - matrix @ x) <= 1e-9 * np.linalg.norm(b)
    return factors if good else None
