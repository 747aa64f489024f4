"""Approximate inverses made of the entries: Jacobi, incomplete LU, incomplete Cholesky."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import Tensor

from slipstream.errors import InputError
from slipstream.solvers.linear.maps import LinearMap
from slipstream.solvers.linear.method import Inverse, Preconditioner


class Diagonal:
    """Division by a diagonal."""

    def __init__(self, diagonal: Tensor) -> None:
        self.diagonal = diagonal

    def __call__(self, r: Tensor) -> Tensor:
        return r / self.diagonal

    def forward(self, v: Tensor) -> Tensor:
        """The product with what is inverted."""
        return v * self.diagonal

    @property
    def H(self) -> Diagonal:
        return Diagonal(self.diagonal.conj().resolve_conj())


class Jacobi(Preconditioner):
    """The diagonal of A. Works for batches of systems; for a function A needs ``A.diagonal()`` or ``A.matrix()``."""

    def build(self, A: LinearMap) -> Inverse:
        known = getattr(A.source, "diagonal", None)
        if known is not None and not isinstance(A.source, Tensor) and not scipy.sparse.issparse(A.source):
            diagonal = known().reshape(-1, A.size).to(dtype=A.dtype, device=A.device)
        else:
            diagonal = torch.from_numpy(A.entries("Jacobi").diagonal()).to(dtype=A.dtype, device=A.device)[None]
        if bool((diagonal == 0).any()):
            raise InputError(
                f"Jacobi divides by the diagonal, which has {int((diagonal == 0).sum())} zeros. Use ILU()."
            )
        return Diagonal(diagonal)


class Factors:
    """Solves with the factors of SuperLU; ``H`` solves with their conjugate transpose."""

    def __init__(self, lu: scipy.sparse.linalg.SuperLU, kind: np.dtype, adjoint: bool = False) -> None:
        self.lu, self.kind, self.adjoint = lu, kind, adjoint

    def __call__(self, r: Tensor) -> Tensor:
        given = r.detach().cpu().numpy().astype(self.kind)
        found = self.lu.solve(np.asfortranarray(given.T), "H" if self.adjoint else "N")
        return torch.from_numpy(np.ascontiguousarray(found.T)).to(r)

    def forward(self, v: Tensor) -> Tensor:
        """The product with what is inverted: ``Pr^T L U Pc^T``, as SuperLU factorises ``Pr A Pc``."""
        rows = v.detach().cpu().numpy().astype(self.kind).T
        product = (self.lu.L @ (self.lu.U @ rows[np.argsort(self.lu.perm_c)]))[self.lu.perm_r]
        return torch.from_numpy(np.ascontiguousarray(product.T)).to(v)

    @property
    def H(self) -> Factors:
        return Factors(self.lu, self.kind, not self.adjoint)


def factorised(
    matrix: scipy.sparse.csr_array, name: str, how: dict[str, Any] | None = None, incomplete: bool = False
) -> Factors:
    """SuperLU of a matrix, in double precision, by ``splu`` or, incomplete, ``spilu``, with the arguments `how`.

    Raises
    ------
    InputError : the matrix is singular to working precision.
    """
    kind = np.dtype(np.complex128 if np.iscomplexobj(matrix.data) else np.float64)
    columns = scipy.sparse.csc_array(matrix.astype(kind))
    columns.indices, columns.indptr = columns.indices.astype(np.int32), columns.indptr.astype(np.int32)
    try:
        make = scipy.sparse.linalg.spilu if incomplete else scipy.sparse.linalg.splu
        return Factors(make(columns, **(how or {})), kind)
    except RuntimeError as error:
        raise InputError(
            f"{name} met a singular matrix ({error}). Check boundary conditions, or fix one unknown; "
            "for a consistent system with a known null space use CG(), MINRES() or GMRES()."
        ) from error


class ILU(Preconditioner):
    """Incomplete LU with threshold, by SuperLU.

    Parameters
    ----------
    drop : entries below this, relative to their column, are dropped. fill : the most entries, relative to A.
    """

    def __init__(self, drop: float = 1e-4, fill: float = 10.0) -> None:
        self.drop, self.fill = drop, fill

    def build(self, A: LinearMap) -> Inverse:
        how = {"drop_tol": self.drop, "fill_factor": self.fill}
        return factorised(A.entries("ILU"), "ILU", how, incomplete=True)


class IC(Preconditioner):
    r"""Incomplete Cholesky without fill, ``L L^H = A`` on the pattern of A, for Hermitian positive definite A.

    The factor is the fixed point of :math:`L_{ij} = (A_{ij} - \sum_{k<j} L_{ik} \bar L_{jk}) / L_{jj}`, swept for all entries at once.

    Parameters
    ----------
    shift : added to the diagonal, relative to it; where a factor does not exist it is doubled from 1e-3 until one does.
    sweeps : at the most.

    Source: Chow & Patel, SIAM J. Sci. Comput. 37 (2015) C169; Manteuffel (1980) for the shift.
    """

    def __init__(self, shift: float = 0.0, sweeps: int = 200) -> None:
        self.shift, self.sweeps = shift, sweeps

    def build(self, A: LinearMap) -> Inverse:
        matrix = A.entries("IC").astype(np.complex128 if A.dtype.is_complex else np.float64)
        if abs(matrix - matrix.conj().T).max() > 1e-5 * abs(matrix).max():
            raise InputError("IC needs a Hermitian matrix; this one is not. Use ILU().")
        if (matrix.diagonal().real <= 0).any():
            raise InputError("IC needs a positive diagonal; this matrix is not positive definite. Use ILU().")
        shift = self.shift
        while True:
            lower = incomplete_cholesky(matrix, shift, self.sweeps)
            if lower is not None:
                return _Cholesky(lower)
            shift = max(2 * shift, 1e-3)
            if shift > 4:
                raise InputError(
                    "IC found no factor, even of a matrix with a much larger diagonal. Use ILU() or Jacobi()."
                )


def incomplete_cholesky(matrix: scipy.sparse.csr_array, shift: float, sweeps: int) -> scipy.sparse.csr_array | None:
    """The lower factor on the pattern of a Hermitian matrix, or None where a pivot is not positive."""
    scale = 1 / np.sqrt(matrix.diagonal().real)
    scaled = scipy.sparse.csr_array(scipy.sparse.diags_array(scale) @ matrix @ scipy.sparse.diags_array(scale))
    target = scipy.sparse.csr_array(scipy.sparse.tril(scaled))
    target.sort_indices()
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(target.indptr))
    columns = target.indices
    own = rows == columns
    wanted = target.data + np.where(own, shift, 0)
    lower = target.copy()
    lower.data = np.where(own, 1.0, wanted).astype(wanted.dtype)
    pattern = target.copy()
    pattern.data = np.ones_like(wanted)
    for _ in range(sweeps):
        product = scipy.sparse.csr_array((lower @ lower.conj().T).multiply(pattern))
        gap = wanted - _on_pattern(product, target)
        diagonal = lower.data[own][columns].real
        fresh = np.where(own, np.abs(lower.data) ** 2 + gap.real, lower.data + gap / diagonal)
        if (fresh[own].real <= 1e-3 * shift).any() or not np.isfinite(fresh).all():
            return None
        lower.data = np.where(own, np.sqrt(np.where(own, fresh.real, 1)), fresh).astype(wanted.dtype)
        if np.abs(gap).max() < 1e-13:
            break
    else:
        if np.abs(gap).max() > 1e-3:
            return None
    return scipy.sparse.csr_array(scipy.sparse.diags_array(1 / scale) @ lower)


def _on_pattern(product: scipy.sparse.csr_array, target: scipy.sparse.csr_array) -> np.ndarray:
    n = target.shape[0]
    product.sort_indices()
    rows = np.repeat(np.arange(n, dtype=np.int64), np.diff(product.indptr))
    keys = rows * n + product.indices
    wanted = np.repeat(np.arange(n, dtype=np.int64), np.diff(target.indptr)) * n + target.indices
    places = np.minimum(np.searchsorted(keys, wanted), keys.size - 1)
    return np.where(keys[places] == wanted, product.data[places], 0)


class _Cholesky:
    """``L^-H L^-1``, Hermitian, so its own adjoint; SuperLU in the given order does the triangular solves."""

    def __init__(self, lower: scipy.sparse.csr_array) -> None:
        self.lower = lower
        columns = scipy.sparse.csc_array(lower)
        columns.indices, columns.indptr = columns.indices.astype(np.int32), columns.indptr.astype(np.int32)
        self.lu = scipy.sparse.linalg.splu(
            columns, permc_spec="NATURAL", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
        )

    def __call__(self, r: Tensor) -> Tensor:
        given = np.asfortranarray(r.detach().cpu().numpy().astype(self.lower.dtype).T)
        found = self.lu.solve(self.lu.solve(given), "H")
        return torch.from_numpy(np.ascontiguousarray(found.T)).to(r)

    def forward(self, v: Tensor) -> Tensor:
        """The product with what is inverted."""
        product = self.lower @ (self.lower.conj().T @ v.detach().cpu().numpy().T)
        return torch.from_numpy(np.ascontiguousarray(product.T)).to(v)

    @property
    def H(self) -> _Cholesky:
        return self
