"""Fourier symbols of the operators that equations are made of, in the dtype and on the device of a parameter."""

from __future__ import annotations

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from slipstream.grids import Grid


def laplacian(grid: Grid, like: Float[Tensor, "..."]) -> Float[Tensor, "*wavenumber"]:
    """Symbol of the Laplacian, ``-|k|^2``, on a half spectrum."""
    k = grid.wavenumbers(torch.float64)
    return -sum((q**2 for q in k[1:]), k[0] ** 2).to(like)


def slope(grid: Grid, axis: int, like: Float[Tensor, "..."]) -> Complex[Tensor, "..."]:
    """Symbol ``i k`` of the derivative along an axis; the unpaired highest mode of an even axis has none."""
    k = grid.wavenumbers(torch.float64)[axis]
    if grid.shape[axis] % 2 == 0:
        k = torch.where(k.abs() < k.abs().max() * (1 - 1e-6), k, torch.zeros_like(k))
    return 1j * k.to(like)


def full_wavenumbers(grid: Grid) -> tuple[Float[Tensor, "..."], ...]:
    """Angular wavenumbers of `torch.fft.fftn` over all axes (float64), broadcastable to the points of the grid."""
    return tuple(
        (2 * math.pi * torch.fft.fftfreq(a.num_points, a.spacing, dtype=torch.float64)).reshape(
            [-1 if j == i else 1 for j in range(grid.num_dims)]
        )
        for i, a in enumerate(grid.axes)
    )
