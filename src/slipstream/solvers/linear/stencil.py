"""Stencils: matrices on a box that couple each point with its neighbours along the axes, many of them at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Shaped
from torch import Tensor

from slipstream.errors import ShapeError


class Stencil:
    r"""A matrix on fields (batch, \*space), applied without being stored; or a batch of them, one a field.

    ``(A v)[i] = centre[i] v[i] + sum over axes of below[axis][i] v[i - 1] + above[axis][i] v[i + 1]``, with neighbours around the ends of
    an axis where it is periodic. Differentiable in the coefficients.

    Parameters
    ----------
    centre : (batch, \*space), or (1, \*space) for one matrix that serves every field. below, above : the same, one an axis; what
        reaches beyond the end of an axis that is not periodic must be zero and is never used.
    periodic : one an axis.
    hermitian : say so if it is; it decides what the adjoint is and what methods may be used.
    """

    def __init__(
        self,
        centre: Shaped[Tensor, "batch *space"],
        below: Sequence[Shaped[Tensor, "batch *space"]],
        above: Sequence[Shaped[Tensor, "batch *space"]],
        periodic: Sequence[bool],
        hermitian: bool | None = None,
    ) -> None:
        dims = centre.ndim - 1
        if not (len(below) == len(above) == len(periodic) == dims):
            raise ShapeError(
                f"A stencil in {dims} dimensions needs as many entries of below, above and periodic; "
                f"got {len(below)}, {len(above)} and {len(periodic)}."
            )
        self.centre, self.below, self.above = centre, tuple(below), tuple(above)
        self.ring, self.hermitian = tuple(periodic), hermitian

    @property
    def batch(self) -> int:
        """How many matrices."""
        return self.centre.shape[0]

    @property
    def space(self) -> tuple[int, ...]:
        return tuple(self.centre.shape[1:])

    @property
    def dtype(self) -> torch.dtype:
        return self.centre.dtype

    def __len__(self) -> int:
        return self.batch

    def __getitem__(self, i: int | slice) -> Stencil:
        """One matrix of the batch, or some."""
        rows = slice(i, i + 1 or None) if isinstance(i, int) else i
        return Stencil(
            self.centre[rows], [c[rows] for c in self.below], [c[rows] for c in self.above], self.ring, self.hermitian
        )

    def __call__(self, v: Shaped[Tensor, "batch *space"]) -> Shaped[Tensor, "batch *space"]:
        y = self.centre * v
        for axis, (low, high, ring) in enumerate(zip(self.below, self.above, self.ring, strict=True), start=1):
            n = v.shape[axis]
            y.narrow(axis, 1, n - 1).addcmul_(low.narrow(axis, 1, n - 1), v.narrow(axis, 0, n - 1))
            y.narrow(axis, 0, n - 1).addcmul_(high.narrow(axis, 0, n - 1), v.narrow(axis, 1, n - 1))
            if ring:
                y.narrow(axis, 0, 1).addcmul_(low.narrow(axis, 0, 1), v.narrow(axis, n - 1, 1))
                y.narrow(axis, n - 1, 1).addcmul_(high.narrow(axis, n - 1, 1), v.narrow(axis, 0, 1))
        return y

    def adjoint(self, v: Shaped[Tensor, "batch *space"]) -> Shaped[Tensor, "batch *space"]:
        """The product with the conjugate transpose."""
        below = [torch.roll(c.conj(), 1, i) for i, c in enumerate(self.above, start=1)]
        above = [torch.roll(c.conj(), -1, i) for i, c in enumerate(self.below, start=1)]
        return Stencil(self.centre.conj(), below, above, self.ring)(v)

    def diagonal(self) -> Shaped[Tensor, "batch *space"]:
        return self.centre

    def _places(self) -> tuple[np.ndarray, np.ndarray, list[Tensor]]:
        """Rows, columns and the entries there (batch, places), centre first."""
        index = np.arange(int(np.prod(self.space))).reshape(self.space)
        rows, columns, entries = [index.ravel()], [index.ravel()], [self.centre.flatten(1)]
        for axis, (low, high, ring) in enumerate(zip(self.below, self.above, self.ring, strict=True)):
            n = self.space[axis]
            for coefficients, shift, missing in ((low, 1, 0), (high, -1, n - 1)):
                inside = np.ones(self.space, dtype=bool)
                if not ring:
                    np.moveaxis(inside, axis, 0)[missing] = False
                kept = inside.ravel()
                rows.append(index.ravel()[kept])
                columns.append(np.roll(index, shift, axis).ravel()[kept])
                entries.append(coefficients.flatten(1)[:, torch.from_numpy(kept)])
        return np.concatenate(rows), np.concatenate(columns), entries

    def matrix(self, i: int = 0) -> scipy.sparse.csr_array:
        """The i-th matrix, on flattened fields."""
        rows, columns, entries = self._places()
        values = torch.cat([e.detach()[i] for e in entries]).resolve_conj().cpu().numpy()
        return scipy.sparse.csr_array((values, (rows, columns)), shape=(self.centre[0].numel(),) * 2)

    def dense(self) -> Shaped[Tensor, "batch n n"]:
        """All matrices, on flattened fields; for small ones."""
        rows, columns, entries = self._places()
        n = self.centre[0].numel()
        values = torch.cat(entries, dim=1)
        flat = torch.from_numpy(rows * n + columns).to(values.device)
        return values.new_zeros(self.batch, n * n).index_add(1, flat, values).reshape(-1, n, n)
