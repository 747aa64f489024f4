"""Norms of fields, weighted by the domain: how far apart two sets of frames are, one number a frame."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations.spectral import Spectral
from slipstream.grids import Grid


class Norm:
    """Distance of frames (batch, time, channel, *space), relative to the target: (batch, time)."""

    def __call__(
        self,
        prediction: Float[Tensor, "batch time channel *space"],
        target: Float[Tensor, "batch time channel *space"],
        grid: Grid,
        weights: Tensor | None = None,
    ) -> Float[Tensor, "batch time"]:
        raise TypeError(f"{type(self).__name__} defines no distance.")


def mean_square(u: Tensor, grid: Grid, weights: Tensor | None) -> Float[Tensor, "batch time"]:
    """Weighted mean of squares over channels and space."""
    if weights is None and all(a.periodic or a.centred for a in grid.axes):
        return u.square().flatten(2).mean(-1)
    w = grid.cell_weights(u.dtype).to(u.device) if weights is None else weights.to(u)
    w = w if w.ndim == grid.num_dims else w[:, None, None]
    return (w * u.square()).flatten(2).sum(-1) / (w.expand_as(u).flatten(2).sum(-1)).clamp(min=1e-30)


class RelativeL2(Norm):
    """``|prediction - target| / |target|``, by frame.

    Parameters
    ----------
    squared : the square of it: smoother near zero, and heavier on the worst frames.
    """

    def __init__(self, squared: bool = False) -> None:
        self.squared = squared

    def __call__(self, prediction, target, grid, weights=None):
        ratio = mean_square(prediction - target, grid, weights) / mean_square(target, grid, weights).clamp(min=1e-30)
        return ratio if self.squared else (ratio + 1e-20).sqrt()


class RelativeH1(Norm):
    """Relative distance of values and of first derivatives (in units of the box), by frame.

    Spectral derivatives on periodic grids, second-order differences elsewhere.

    Parameters
    ----------
    squared : as in `RelativeL2`. gradient : weight of the derivatives against the values.
    """

    def __init__(self, squared: bool = False, gradient: float = 1.0) -> None:
        self.squared, self.gradient = squared, gradient

    def __call__(self, prediction, target, grid, weights=None):
        difference = self._size(prediction - target, grid, weights)
        ratio = difference / self._size(target, grid, weights).clamp(min=1e-30)
        return ratio if self.squared else (ratio + 1e-20).sqrt()

    def _size(self, u: Tensor, grid: Grid, weights: Tensor | None) -> Tensor:
        total = mean_square(u, grid, weights)
        flat = u.flatten(0, 1)
        for axis, box in enumerate(grid.extent):
            slope = _derivative(flat, grid, axis).unflatten(0, u.shape[:2])
            total = total + self.gradient * (box / (2 * torch.pi)) ** 2 * mean_square(slope, grid, weights)
        return total


def _derivative(u: Tensor, grid: Grid, axis: int) -> Tensor:
    if grid.periodic:
        return Spectral(grid, u.dtype, u.device).derivative(u, axis)
    if grid.axes[axis].periodic:
        dim = axis - grid.num_dims
        return (u.roll(-1, dim) - u.roll(1, dim)) / (2 * grid.spacing[axis])
    (slope,) = torch.gradient(u, spacing=grid.spacing[axis], dim=axis - grid.num_dims)
    return slope
