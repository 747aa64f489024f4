"""What may stand for a matrix: a function of fields, a SciPy sparse matrix, a torch tensor. All become one thing, a `LinearMap`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from jaxtyping import Shaped
from torch import Tensor

from slipstream.errors import InputError, ShapeError

Matrix = Any
"""A torch tensor (n, n), dense or sparse; a SciPy sparse matrix or array; a SciPy ``LinearOperator``; or a function of fields."""


class LinearMap:
    """A square matrix as a map of rows: (rhs, n) -> (rhs, n). It counts what it is asked to do.

    Attributes
    ----------
    size : n.
    dtype, device : of the rows that it takes and gives.
    hermitian : True or False where known, None where nobody has said.
    batch : number of different matrices, one a row, or None where one matrix serves every row.
    applications : how many rows it has been applied to.
    source : what the caller gave.
    """

    hermitian: bool | None = None
    batch: int | None = None

    def __init__(self, source: Matrix, size: int, dtype: torch.dtype, device: torch.device) -> None:
        self.source, self.size, self.dtype, self.device = source, size, dtype, device
        self.applications = 0

    def __call__(self, v: Shaped[Tensor, "rhs n"]) -> Shaped[Tensor, "rhs n"]:
        self.applications += v.shape[0]
        return self._apply(v)

    def _apply(self, v: Tensor) -> Tensor:
        """The product, for every row."""
        raise TypeError(f"{type(self).__name__} defines no _apply(v).")

    def with_gradient(self, v: Shaped[Tensor, "rhs n"]) -> Shaped[Tensor, "rhs n"]:
        """The product with a graph to whatever the entries depend on."""
        return self(v)

    def adjoint(self) -> LinearMap:
        """The conjugate transpose."""
        raise TypeError(f"{type(self).__name__} defines no adjoint().")

    def entries(self, purpose: str) -> scipy.sparse.csr_array:
        """The entries as a SciPy matrix.

        Raises
        ------
        InputError : for a plain function, whose entries nobody knows, or where every row has a matrix of its own.
        """
        raise InputError(
            f"{purpose} needs the entries of the matrix; got {type(self.source).__name__}, which only applies it. "
            "Give a sparse matrix, or an object with matrix() such as a Stencil."
        )


def _is_hermitian(csr: scipy.sparse.csr_array) -> bool:
    return bool(abs(csr - csr.conj().T).max() == 0)


def _rows_by(product: Callable[[np.ndarray], np.ndarray], v: Tensor) -> Tensor:
    known = v.detach().cpu().numpy()
    found = product(known[0])[None] if known.shape[0] == 1 else np.ascontiguousarray(product(known.T).T)
    return torch.from_numpy(found).to(device=v.device, dtype=v.dtype)


class SparseMap(LinearMap):
    """A SciPy sparse matrix."""

    def __init__(self, source: Matrix, dtype: torch.dtype, device: torch.device) -> None:
        csr = scipy.sparse.csr_array(source)
        super().__init__(source, csr.shape[0], dtype, device)
        if not np.isfinite(csr.data).all():
            raise InputError("The matrix has entries that are not finite; check your data for NaN.")
        self.csr = csr.astype(torch.empty(0, dtype=dtype).numpy().dtype, copy=False)

    @property
    def hermitian(self) -> bool:  # type: ignore[override]
        return _is_hermitian(self.csr)

    def _apply(self, v: Tensor) -> Tensor:
        return _rows_by(lambda x: self.csr @ x, v)

    def adjoint(self) -> LinearMap:
        return SparseMap(self.csr.conj().T.tocsr(), self.dtype, self.device)

    def entries(self, purpose: str) -> scipy.sparse.csr_array:
        return self.csr


class LinearOperatorMap(LinearMap):
    """A SciPy ``LinearOperator``."""

    def _apply(self, v: Tensor) -> Tensor:
        return _rows_by(lambda x: self.source.matvec(x) if x.ndim == 1 else self.source.matmat(x), v)

    def adjoint(self) -> LinearMap:
        return LinearOperatorMap(self.source.H, self.size, self.dtype, self.device)


class TensorMap(LinearMap):
    """A torch matrix, dense or sparse; gradients flow to its values."""

    def __init__(self, source: Tensor, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(source, source.shape[0], dtype, device)
        if source.layout == torch.strided:
            self.kept = source.to(dtype=dtype, device=device)
            self.fast, values = self.kept.detach(), self.kept.detach()
        else:
            self.rows, self.columns, self.values = _coordinates(source)
            self.values = self.values.to(dtype=dtype, device=device)
            values = self.values.detach()
            places = torch.stack([self.rows, self.columns]).to(device)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
                self.fast = torch.sparse_coo_tensor(
                    places, values, source.shape, check_invariants=False
                ).to_sparse_csr()
        if not bool(torch.isfinite(values).all()):
            raise InputError("The matrix has entries that are not finite; check your data for NaN.")

    def _apply(self, v: Tensor) -> Tensor:
        return (self.fast @ v.detach().T).T.contiguous()

    @property
    def hermitian(self) -> bool:  # type: ignore[override]
        return _is_hermitian(self.entries("The look at symmetry"))

    def with_gradient(self, v: Tensor) -> Tensor:
        self.applications += v.shape[0]
        if self.source.layout == torch.strided:
            return v @ self.kept.T
        return v.new_zeros(v.shape).index_add(1, self.rows, self.values * v[:, self.columns])

    def adjoint(self) -> LinearMap:
        if self.source.layout == torch.strided:
            return TensorMap(self.fast.mH, self.dtype, self.device)
        places = torch.stack([self.columns, self.rows])
        entries, shape = self.values.detach().conj().resolve_conj(), (self.size, self.size)
        flipped = torch.sparse_coo_tensor(places, entries, shape, check_invariants=False)
        return TensorMap(flipped, self.dtype, self.device)

    def entries(self, purpose: str) -> scipy.sparse.csr_array:
        if self.source.layout == torch.strided:
            return scipy.sparse.csr_array(self.fast.cpu().numpy())
        where = (self.rows.cpu().numpy(), self.columns.cpu().numpy())
        return scipy.sparse.csr_array((self.values.detach().cpu().numpy(), where), shape=(self.size, self.size))


def _coordinates(sparse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, columns and values; the values keep their graph."""
    if sparse.layout == torch.sparse_coo:
        sparse = sparse.coalesce()
        return sparse.indices()[0], sparse.indices()[1], sparse.values()
    by_rows = sparse.layout == torch.sparse_csr
    if not by_rows and sparse.layout != torch.sparse_csc:
        raise InputError(f"A sparse matrix must be COO, CSR or CSC; got the layout {sparse.layout}.")
    starts = sparse.crow_indices() if by_rows else sparse.ccol_indices()
    inner = sparse.col_indices() if by_rows else sparse.row_indices()
    outer = torch.repeat_interleave(torch.arange(sparse.shape[0], device=starts.device), starts.diff())
    return (outer, inner, sparse.values()) if by_rows else (inner, outer, sparse.values())


class FunctionMap(LinearMap):
    """A function of fields (rhs, *space) -> (rhs, *space); gradients flow to everything that it is made of.

    What it may say of itself, as attributes: `hermitian`, `batch`, `adjoint(v)`, `matrix()`.
    """

    def __init__(
        self, source: Callable[[Tensor], Tensor], space: tuple[int, ...], dtype: torch.dtype, device: torch.device
    ) -> None:
        super().__init__(source, int(np.prod(space)), dtype, device)
        self.space = space
        self.hermitian = getattr(source, "hermitian", None)
        self.batch = getattr(source, "batch", None)

    def _apply(self, v: Tensor) -> Tensor:
        with torch.no_grad():
            return self._checked(v, self.source)

    def with_gradient(self, v: Tensor) -> Tensor:
        self.applications += v.shape[0]
        return self._checked(v, self.source)

    def _checked(self, v: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        field = v.reshape(-1, *self.space)
        found = function(field)
        if found.shape != field.shape:
            raise ShapeError(f"The function A must keep the shape {tuple(field.shape)}; it gave {tuple(found.shape)}.")
        if found.dtype != field.dtype:
            raise InputError(
                f"The function A gave {found.dtype} for {field.dtype}; it must keep the dtype. "
                "For a complex system give the right-hand side as a complex tensor."
            )
        return found.reshape(v.shape)

    def adjoint(self) -> LinearMap:
        if self.hermitian:
            return self
        return _AdjointMap(self)

    def entries(self, purpose: str) -> scipy.sparse.csr_array:
        matrix = getattr(self.source, "matrix", None)
        if matrix is None:
            return super().entries(purpose)
        if self.batch not in (None, 1):
            raise InputError(
                f"{purpose} needs one matrix; got {self.batch} at once. Solve them one by one: [solve(A[i], b[i]) ...]."
            )
        return scipy.sparse.csr_array(matrix())


class _AdjointMap(FunctionMap):
    def __init__(self, straight: FunctionMap) -> None:
        super().__init__(straight.source, straight.space, straight.dtype, straight.device)
        self.straight = straight

    def _apply(self, v: Tensor) -> Tensor:
        with torch.no_grad():
            return self._checked(v, self._transposed)

    def with_gradient(self, v: Tensor) -> Tensor:
        return self(v)

    def _transposed(self, v: Tensor) -> Tensor:
        known = getattr(self.source, "adjoint", None)
        if known is not None:
            return known(v)
        # The gradient of <v, A z> in z is A^H v whatever z is.
        with torch.enable_grad():
            z = torch.zeros_like(v, requires_grad=True)
            found = self.source(z)
            if not found.requires_grad:
                raise InputError(
                    "The adjoint of A is needed and A is not written in differentiable torch operations; "
                    "give A an attribute adjoint(v), or hermitian = True."
                )
            return torch.autograd.grad(found, z, v)[0]

    def adjoint(self) -> LinearMap:
        return self.straight

    def entries(self, purpose: str) -> scipy.sparse.csr_array:
        return self.straight.entries(purpose).conj().T.tocsr()


def as_map(A: Matrix, b: Shaped[Tensor, "rhs *space"]) -> LinearMap:
    """The map of a system whose right-hand sides look like `b`.

    Raises
    ------
    ShapeError : A is not square, or does not fit b. InputError : A is not finite, or nothing that is known here.
    """
    space = tuple(b.shape[1:])
    if isinstance(A, Tensor) or scipy.sparse.issparse(A) or isinstance(A, scipy.sparse.linalg.LinearOperator):
        if len(A.shape) != 2 or A.shape[0] != A.shape[1]:
            raise ShapeError(f"A must be square, (n, n); got {tuple(A.shape)}.")
        if space != (A.shape[0],):
            raise ShapeError(
                f"A is {tuple(A.shape)}, so b must be ({A.shape[0]},) or (rhs, {A.shape[0]}); got right-hand sides {space}."
            )
        theirs = A.dtype if isinstance(A, Tensor) else torch.from_numpy(np.empty(0, A.dtype)).dtype
        dtype = torch.promote_types(theirs, b.dtype)
        if isinstance(A, Tensor):
            return TensorMap(A, dtype, b.device)
        if scipy.sparse.issparse(A):
            return SparseMap(A, dtype, b.device)
        return LinearOperatorMap(A, A.shape[0], dtype, b.device)
    if not callable(A):
        raise InputError(
            f"A must be a function, a SciPy sparse matrix or a torch tensor; got {type(A).__name__}. "
            "A NumPy array becomes a tensor by torch.from_numpy."
        )
    expected = getattr(A, "space", None)
    if expected is not None and tuple(expected) != space:
        raise ShapeError(f"A acts on fields {tuple(expected)}; got right-hand sides {space}.")
    batch = getattr(A, "batch", None)
    if batch not in (None, 1, b.shape[0]):
        raise ShapeError(f"A holds {batch} matrices, one a right-hand side; got {b.shape[0]} right-hand sides.")
    return FunctionMap(A, space, torch.promote_types(getattr(A, "dtype", b.dtype), b.dtype), b.device)
