"""Sparse LU for many matrices of one pattern: what depends on the pattern alone is done once."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from jaxtyping import Integer
from torch import Tensor

from slipstream.errors import InputError
from slipstream.solvers.linear.direct import SYMMETRIC
from slipstream.solvers.linear.maps import LinearMap
from slipstream.solvers.linear.method import Correction, Inverse
from slipstream.solvers.linear.stencil import Stencil

NATURAL = SYMMETRIC | {"permc_spec": "NATURAL", "panel_size": 1}
"""Column by column: panels pay for dense columns, of which a stencil's factors have few (a third of the time on 64 x 64 points)."""
SINGLE = {torch.float64: torch.float32, torch.complex128: torch.complex64}


class SharedLU(Correction):
    r"""`LU` for a `Stencil`, with places of entries and the order of elimination kept for all stencils on one box.

    In a data set every matrix has the pattern of the one before. The order that keeps the fill small (minimum degree) is found once, and
    assembling a matrix is one gather. Pivots stay on the diagonal; the residual is looked at and refined.

    Parameters
    ----------
    single : factors in single precision, at two thirds of the cost; refinement brings the digits back as long as the condition number stays
        well below 1e7, and the result says so where it does not.

    Raises
    ------
    InputError : A is not a `Stencil`, holds several matrices, or a pivot vanishes.
    """

    def __init__(self, single: bool = False) -> None:
        self.single = single

    def build(self, A: LinearMap) -> Inverse:
        source = A.source
        if not isinstance(source, Stencil):
            raise InputError(f"SharedLU works on a Stencil; got {type(source).__name__}. Use LU() for other matrices.")
        if source.batch != 1:
            raise InputError(f"SharedLU factorises one matrix at a time; got {source.batch}. Use generate(systems).")
        kept = pattern(source.space, source.ring)
        kind = SINGLE.get(source.dtype, source.dtype) if self.single else source.dtype
        values = table(source)[0].resolve_conj().to(kind)[kept.gather].cpu().numpy()
        matrix = scipy.sparse.csc_matrix((values, kept.rows, kept.starts), shape=(kept.size, kept.size))
        return Shuffled(_factorised(matrix), kept.order, kind)


class Pattern:
    """Where the entries of a stencil lie in a reordered matrix by columns.

    Attributes
    ----------
    order : the points in the order of elimination. rows, starts : of the columns. gather : which entry of `table` each one is.
    """

    def __init__(self, order: np.ndarray, rows: np.ndarray, starts: np.ndarray, gather: Tensor) -> None:
        self.order = torch.from_numpy(order)
        self.rows, self.starts, self.gather, self.size = rows, starts, gather, len(order)


def table(source: Stencil) -> Tensor:
    """All coefficients of a stencil, (batch, entries): centres, then below and above of each axis, unused ones too."""
    sides = [c for pair in zip(source.below, source.above, strict=True) for c in pair]
    return torch.cat([c.detach().expand_as(source.centre).flatten(1) for c in (source.centre, *sides)], dim=1)


@lru_cache(maxsize=16)
def pattern(space: tuple[int, ...], ring: tuple[bool, ...]) -> Pattern:
    """The pattern of all stencils on a box, in the order that minimum degree finds for it."""
    if any(r and n < 3 for r, n in zip(ring, space, strict=True)):
        raise InputError(f"SharedLU needs at least 3 points around a ring; the box has {space}.")
    size = int(np.prod(space))
    blocks = 1 + 2 * len(space)
    numbers = torch.arange(1, 1 + blocks * size, dtype=torch.float64).reshape(blocks, 1, *space)
    csc = Stencil(numbers[0], list(numbers[1::2]), list(numbers[2::2]), ring).matrix().tocsc()
    like = scipy.sparse.csc_matrix((np.full(csc.nnz, -1.0), csc.indices, csc.indptr), shape=csc.shape)
    like.setdiag(2.0 * blocks)
    place = scipy.sparse.linalg.splu(like, **SYMMETRIC).perm_c
    order = np.argsort(place)
    shuffled = scipy.sparse.csc_matrix(csc[order][:, order])
    shuffled.sort_indices()
    gather = torch.from_numpy(np.rint(shuffled.data).astype(np.int64) - 1)
    return Pattern(order, shuffled.indices, shuffled.indptr, gather)


def _factorised(matrix: scipy.sparse.csc_matrix) -> scipy.sparse.linalg.SuperLU:
    try:
        return scipy.sparse.linalg.splu(matrix, **NATURAL)
    except RuntimeError as error:
        raise InputError(
            f"SharedLU met a zero pivot ({error}); the matrix is singular or needs pivots off the diagonal: use LU()."
        ) from None


class Shuffled:
    """Solves with the factors of a reordered matrix; ``H`` solves with their conjugate transpose."""

    def __init__(
        self, lu: scipy.sparse.linalg.SuperLU, order: Integer[Tensor, " n"], kind: torch.dtype, turned: bool = False
    ) -> None:
        self.lu, self.order, self.kind, self.turned = lu, order, kind, turned

    def __call__(self, r: Tensor) -> Tensor:
        kind = self.kind
        given = r[:, self.order].detach().to(kind).cpu().numpy()
        found = torch.from_numpy(np.ascontiguousarray(self.lu.solve(given.T, "H" if self.turned else "N").T))
        x = torch.empty_like(r)
        x[:, self.order] = found.to(r)
        return x

    @property
    def H(self) -> Shuffled:
        return Shuffled(self.lu, self.order, self.kind, not self.turned)
