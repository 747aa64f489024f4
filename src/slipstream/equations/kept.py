"""Half spectra without the wavenumbers that the 2/3 rule drops: less than a third of them in 3D."""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from slipstream.errors import InputError
from slipstream.grids import Grid


class KeptModes:
    """The kept part of a half spectrum, as the half spectrum of an odd grid that resolves just the kept wavenumbers.

    Coefficients keep the scaling of the whole grid. Every method is differentiable.

    Parameters
    ----------
    grid : periodic, at least 4 points an axis.

    Attributes
    ----------
    small : the odd grid, whose wavenumbers are those of the layout.
    """

    def __init__(self, grid: Grid) -> None:
        if not grid.periodic or min(grid.shape) < 4:
            raise InputError(
                f"KeptModes expects a periodic grid of at least 4 points an axis; got {grid.shape} points, "
                f"periodic={[a.periodic for a in grid.axes]}."
            )
        self.grid, self.num_dims = grid, grid.num_dims
        self.half = tuple((n - 1) // 3 for n in grid.shape)
        self.small = grid.with_points([2 * h + 1 for h in self.half])
        self.axes = tuple(range(-grid.num_dims, 0))

    def from_half(self, f_hat: Shaped[Tensor, "*batch"]) -> Shaped[Tensor, "*batch2"]:
        """The kept part of a half spectrum or of a symbol (..., *wavenumber); axes of size 1 stay."""
        for axis, h in enumerate(self.half):
            dim = axis - self.num_dims
            n = f_hat.shape[dim]
            if n == 1:
                continue
            right = f_hat.narrow(dim, 0, h + 1)
            last = axis == self.num_dims - 1
            f_hat = right if last else torch.cat([right, f_hat.narrow(dim, n - h, h)], dim=dim)
        return f_hat

    def to_half(self, kept: Shaped[Tensor, "*batch"]) -> Shaped[Tensor, "*batch2"]:
        """The half spectrum, zero where the 2/3 rule drops."""
        for axis, (h, n) in enumerate(zip(self.half, self.grid.shape, strict=True)):
            dim, shape = axis - self.num_dims, list(kept.shape)
            last = axis == self.num_dims - 1
            shape[dim] = n // 2 - h if last else n - 2 * h - 1
            pieces = [kept.narrow(dim, 0, h + 1), kept.new_zeros(shape)]
            kept = torch.cat(pieces if last else [*pieces, kept.narrow(dim, h + 1, h)], dim=dim)
        return kept

    def forward(self, u: Float[Tensor, "*batch"]) -> Shaped[Tensor, "*batch2"]:
        """The kept coefficients of real fields (..., *space)."""
        return self.from_half(torch.fft.rfftn(u, dim=self.axes))

    def inverse(self, kept: Shaped[Tensor, "*batch"]) -> Float[Tensor, "*batch2"]:
        """The real fields of kept coefficients."""
        return torch.fft.irfftn(self.to_half(kept), s=self.grid.shape, dim=self.axes)
