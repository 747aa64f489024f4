"""Sine, cosine and Hartley transforms: the orthonormal eigenvectors of second differences on cell centres and on a ring."""

from __future__ import annotations

import math
from enum import Enum

import torch
from jaxtyping import Float
from torch import Tensor

DENSE = 128
"""Up to so many points a product with the matrix is quicker than a fast transform."""


class Boundary(Enum):
    """What holds at both ends of an axis; unknowns lie at cell centres, half a cell from the wall."""

    DIRICHLET = "zero on the wall"
    NEUMANN = "no flux through the wall"
    PERIODIC = "a ring"


def eigenvalues(boundary: Boundary, n: int, dtype: torch.dtype = torch.float64) -> Float[Tensor, " n"]:
    """Of the negative second difference with unit spacing, in the order of `forward`'s coefficients."""
    k = torch.arange(n, dtype=dtype)
    angle = {
        Boundary.DIRICHLET: math.pi * (k + 1) / n,
        Boundary.NEUMANN: math.pi * k / n,
        Boundary.PERIODIC: 2 * math.pi * k / n,
    }[boundary]
    return 4 * torch.sin(angle / 2) ** 2


def basis(boundary: Boundary, n: int, dtype: torch.dtype = torch.float64) -> Float[Tensor, "n n"]:
    """Orthonormal eigenvectors as rows."""
    k, x = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)[None]
    if boundary is Boundary.PERIODIC:
        angle = 2 * math.pi * torch.remainder(k * x, n) / n
        rows = torch.cos(angle) + torch.sin(angle)
    elif boundary is Boundary.NEUMANN:
        rows = torch.cos(math.pi * k * (x + 0.5) / n)
    else:
        rows = torch.sin(math.pi * (k + 1) * (x + 0.5) / n)
    return (rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True)).to(dtype)


class AxisTransform:
    """Coefficients along one axis of real fields, and back.

    Parameters
    ----------
    dense : by a product with the matrix (True), by a fast transform (False), or whichever is quicker (None).
    """

    def __init__(
        self, boundary: Boundary, n: int, dtype: torch.dtype, device: torch.device, dense: bool | None = None
    ) -> None:
        self.boundary, self.n = boundary, n
        self.dense = n <= DENSE if dense is None else dense
        if self.dense:
            self.rows = basis(boundary, n, dtype).to(device)
            self.columns = self.rows.T.contiguous()
            return
        k = torch.arange(n, dtype=torch.float64)
        self.turn = torch.exp(-0.5j * math.pi * k / n).to(dtype=dtype.to_complex(), device=device)
        size = torch.full((n,), math.sqrt(2 / n), dtype=torch.float64)
        size[0] = math.sqrt(1 / n)
        self.size = size.to(dtype=dtype, device=device)
        self.flip = (1 - 2 * torch.remainder(k, 2)).to(dtype=dtype, device=device)

    def forward(self, u: Float[Tensor, "..."], axis: int = -1) -> Float[Tensor, "..."]:
        """Coefficients along an axis."""
        if self.dense:
            return _times(self.rows, self.columns, u, axis)
        u = u.movedim(axis, -1)
        if self.boundary is Boundary.PERIODIC:
            c = _hartley(u)
        elif self.boundary is Boundary.NEUMANN:
            c = self._cosine(u)
        else:
            c = self._cosine(u * self.flip).flip(-1)
        return c.movedim(-1, axis)

    def inverse(self, c: Float[Tensor, "..."], axis: int = -1) -> Float[Tensor, "..."]:
        """The field with these coefficients."""
        if self.dense:
            return _times(self.columns, self.rows, c, axis)
        c = c.movedim(axis, -1)
        if self.boundary is Boundary.PERIODIC:
            u = _hartley(c)
        elif self.boundary is Boundary.NEUMANN:
            u = self._uncosine(c)
        else:
            u = self._uncosine(c.flip(-1)) * self.flip
        return u.movedim(-1, axis)

    def _cosine(self, u: Tensor) -> Tensor:
        # Makhoul (1980): a cosine transform is a Fourier transform of the even points followed by the odd ones backwards.
        folded = torch.cat([u[..., ::2], u[..., 1::2].flip(-1)], -1)
        return (torch.fft.fft(folded) * self.turn).real * self.size

    def _uncosine(self, c: Tensor) -> Tensor:
        a = c / self.size
        mirrored = torch.cat([torch.zeros_like(a[..., :1]), a[..., 1:].flip(-1)], -1)
        # Real parts of X_k and of X_{n-k} are the real and minus the imaginary part of the same Fourier coefficient, turned.
        folded = torch.fft.ifft(torch.complex(a, -mirrored) * self.turn.conj()).real
        half = (self.n + 1) // 2
        u = torch.empty_like(folded)
        u[..., ::2], u[..., 1::2] = folded[..., :half], folded[..., half:].flip(-1)
        return u


def _hartley(u: Tensor) -> Tensor:
    found = torch.fft.fft(u, norm="ortho")
    return found.real - found.imag


def _times(left: Tensor, right: Tensor, u: Tensor, axis: int) -> Tensor:
    """A matrix along one axis: from the right on the last, from the left on any other (no axis is moved)."""
    axis %= u.ndim
    if axis == u.ndim - 1:
        return u @ right
    n = u.shape[axis]
    return torch.matmul(left, u.reshape(-1, n, math.prod(u.shape[axis + 1 :]))).reshape(u.shape)
