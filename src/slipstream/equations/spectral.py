"""Spectral calculus: derivatives by Fourier transform on a periodic grid."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from slipstream.equations.calculus import Calculus
from slipstream.grids import Grid


class Spectral(Calculus):
    """Exact derivatives of trigonometric polynomials; products dealiased by the 2/3 rule, or taken at points as they are.

    Parameters
    ----------
    grid : periodic.
    dtype, device : of the fields it is used with.
    dealias : drop from products, before and after, what the 2/3 rule drops.

    Attributes
    ----------
    wavenumbers : one tensor an axis, broadcastable to (*wavenumber).
    square : |k|^2, shape (*wavenumber).
    kept : 1 where |k| lies below 2/3 of the highest wavenumber along every axis, else 0; 1 everywhere without dealiasing.
    """

    def __init__(
        self,
        grid: Grid,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
        dealias: bool = True,
    ) -> None:
        self.grid, self.num_dims, self.dtype, self.device = grid, grid.num_dims, dtype, device
        self.dealias, self.axes = dealias, tuple(range(-grid.num_dims, 0))
        exact = grid.wavenumbers(torch.float64)
        self.wavenumbers = tuple(k.to(dtype=dtype, device=device) for k in exact)
        self.square = sum((k**2 for k in exact[1:]), exact[0] ** 2).to(dtype=dtype, device=device)
        kept = torch.ones((), dtype=torch.float64)
        for k, n, h in zip(exact, grid.shape, grid.spacing, strict=True):
            # n // 3 wavenumbers a side; strictly below n/3 so that no product of two kept modes folds onto a kept one.
            highest = 2 * torch.pi / (n * h) * ((n - 1) // 3 if dealias else n)
            kept = kept * (k.abs() <= highest * (1 + 1e-9))
        self.kept = kept.to(dtype=dtype, device=device)
        self._inverse_square = torch.where(
            self.square > 0, 1 / self.square.clamp(min=1e-30), torch.zeros_like(self.square)
        )
        self._coordinates = grid.coordinates(dtype).to(device=device)
        self._symbols: dict[tuple[int, int], Tensor] = {}

    def forward(self, u: Float[Tensor, "batch channel *space"]) -> Shaped[Tensor, "batch channel *wavenumber"]:
        """Fourier coefficients (real transform, unnormalised) over the space axes."""
        return torch.fft.rfftn(u, dim=self.axes)

    def inverse(
        self, u_hat: Shaped[Tensor, "batch channel *wavenumber"], grid: Grid | None = None
    ) -> Float[Tensor, "batch channel *space"]:
        """Values at the points of the grid, or of another grid over the box as far as that one resolves them."""
        if grid is None or grid.shape == self.grid.shape:
            return torch.fft.irfftn(u_hat, s=self.grid.shape, dim=self.axes)
        return torch.fft.irfftn(self.carry(u_hat, grid), s=grid.shape, dim=self.axes)

    def carry(
        self, u_hat: Shaped[Tensor, "batch channel *wavenumber"], grid: Grid
    ) -> Shaped[Tensor, "batch channel *wavenumber2"]:
        """Coefficients of the same field on another grid over the box: padded with zeros or truncated.

        Unpaired highest modes of the coarser grid are dropped; values keep their size.
        """
        for axis in range(self.num_dims):
            n, m, dim = self.grid.shape[axis], grid.shape[axis], axis - self.num_dims
            kept = (min(n, m) - 1) // 2
            pieces = [u_hat.narrow(dim, 0, kept + 1)]
            if axis == self.num_dims - 1:
                pieces.append(self._zeros(u_hat, dim, m // 2 - kept))
            else:
                pieces += [self._zeros(u_hat, dim, m - 2 * kept - 1), u_hat.narrow(dim, n - kept, kept)]
            u_hat = torch.cat(pieces, dim=dim)
        return u_hat * (grid.size / self.grid.size)

    @staticmethod
    def _zeros(like: Tensor, dim: int, size: int) -> Tensor:
        shape = list(like.shape)
        shape[dim] = size
        return like.new_zeros(shape)

    def symbol(self, axis: int, order: int = 1) -> Tensor:
        """(i k)^order along an axis; the unpaired highest mode of an even axis has no odd derivative."""
        if (axis, order) not in self._symbols:
            with torch.inference_mode(False):
                self._symbols[axis, order] = self._symbol(axis, order)
        return self._symbols[axis, order]

    def _symbol(self, axis: int, order: int) -> Tensor:
        k = self.wavenumbers[axis]
        if order % 2 and self.grid.shape[axis] % 2 == 0:
            k = torch.where(k.abs() < k.abs().max() * (1 - 1e-6), k, torch.zeros_like(k))
        power = k**order
        return power * (-1) ** (order // 2) if order % 2 == 0 else 1j * power * (-1) ** (order // 2)

    def derivative(
        self, u: Float[Tensor, "batch channel *space"], axis: int, order: int = 1
    ) -> Float[Tensor, "batch channel *space"]:
        return self.inverse(self.symbol(axis, order) * self.forward(u))

    def laplace(self, u: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        return self.inverse(-self.square * self.forward(u))

    def inverse_laplace(self, u: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        return self.inverse(-self._inverse_square * self.forward(u))

    def cut(self, u_hat: Shaped[Tensor, "*symbol"]) -> Shaped[Tensor, "*symbol2"]:
        """Coefficients, or a symbol that will meet some, without the wavenumbers that are dropped from products."""
        return self.kept * u_hat if self.dealias else u_hat

    def truncate(self, u: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """The field without the wavenumbers that are dropped from products."""
        return self.inverse(self.cut(self.forward(u))) if self.dealias else u

    def multiply(
        self, a: Float[Tensor, "batch #channel *space"], b: Float[Tensor, "batch #channel *space"]
    ) -> Float[Tensor, "batch channel *space"]:
        """The product of the kept parts of both, exact in every kept wavenumber where products are dealiased."""
        return self.truncate(self.truncate(a) * self.truncate(b))

    def pointwise(self, function: Callable[..., Tensor], *fields: Tensor) -> Tensor:
        """The kept part of a function of the kept parts: exact in the kept wavenumbers for dealiased products of two."""
        return self.truncate(function(*(self.truncate(u) for u in fields)))

    def advect(
        self, v: Float[Tensor, "batch dim *space"], u: Float[Tensor, "batch channel *space"]
    ) -> Float[Tensor, "batch channel *space"]:
        v, u_hat = self.truncate(v), self.cut(self.forward(u))
        terms = [v[:, i : i + 1] * self.inverse(self.symbol(i) * u_hat) for i in range(self.num_dims)]
        return self.truncate(sum(terms[1:], terms[0]))

    def coordinates(self) -> Float[Tensor, "dim *space"]:
        return self._coordinates
