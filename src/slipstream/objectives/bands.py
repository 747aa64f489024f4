"""A norm in which every band of wavenumbers counts by its own size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.objectives.norms import Norm


class RelativeSpectral(Norm):
    r"""Relative distance band by band: small scales count as much as large ones, however little energy they have.

    .. math:: \mathrm{distance}^2 = \sum_b w_b \frac{|e|_b^2}{\max(|t|_b^2, \phi |t|^2)} \Big/ \sum_b w_b

    with the error e and the target t restricted to the wavenumbers of each band. With a single band it is `RelativeL2`. It trains away
    what ends most rollouts: errors in the smallest scales, which are a thousandth of the energy and feed back into the others.

    Parameters
    ----------
    edges : where the second and later bands begin, in waves across the longest axis; the defaults are those of fRMSE.
    emphasis : weight of each band, one more than edges; None is 1 for all.
    floor : phi, the smallest share of the target's mean square that a band is measured against, since empty bands have no relative error.
    squared : as in `RelativeL2`.
    """

    def __init__(
        self,
        edges: Sequence[float] = (5.0, 13.0),
        emphasis: Sequence[float] | None = None,
        floor: float = 1e-4,
        squared: bool = False,
    ) -> None:
        self.edges, self.emphasis = tuple(edges), None if emphasis is None else tuple(emphasis)
        self.floor, self.squared = floor, squared
        self._weights = (1.0,) * (len(self.edges) + 1) if self.emphasis is None else self.emphasis
        if list(self.edges) != sorted(self.edges) or len(self._weights) != len(self.edges) + 1:
            raise InputError(
                f"RelativeSpectral expects rising edges and one weight a band; got edges={self.edges}, emphasis={self.emphasis}."
            )
        if min(self._weights) < 0 or sum(self._weights) <= 0 or not floor > 0:
            raise InputError(
                f"RelativeSpectral expects weights of at least 0, not all 0, and floor > 0; got emphasis={self.emphasis}, floor={floor}."
            )

    def __call__(
        self,
        prediction: Float[Tensor, "batch time channel *space"],
        target: Float[Tensor, "batch time channel *space"],
        grid: Grid,
        weights: Tensor | None = None,
    ) -> Float[Tensor, "batch time"]:
        if weights is not None or not grid.periodic:
            raise InputError(
                "RelativeSpectral looks at Fourier modes: it needs a periodic grid and knows no weights or mask."
            )
        bands = _bands(grid, self.edges).to(target)
        there = _powers(target, grid, bands)
        least = self.floor * there.sum(-1, keepdim=True).clamp(min=1e-30)
        emphasis = target.new_tensor(self._weights)
        ratio = _powers(prediction - target, grid, bands) / torch.maximum(there, least) @ (emphasis / emphasis.sum())
        return ratio if self.squared else (ratio + 1e-20).sqrt()


def _powers(u: Tensor, grid: Grid, bands: Tensor) -> Float[Tensor, "batch time band"]:
    modes = torch.fft.rfftn(u, dim=tuple(range(-grid.num_dims, 0)), norm="forward")
    return (modes.real.square() + modes.imag.square()).sum(2).flatten(2) @ bands


@lru_cache(maxsize=16)
def _bands(grid: Grid, edges: tuple[float, ...]) -> Float[Tensor, "mode band"]:
    """How often each mode of the half spectrum counts in each band: twice where it stands for its conjugate too."""
    length = max(grid.extent) / (2 * math.pi)
    waves = sum(
        ((k * length).square() for k in grid.wavenumbers(torch.float64)), torch.zeros((), dtype=torch.float64)
    ).sqrt()
    # Whole numbers come out of float arithmetic a rounding error low or high; bands begin exactly at their edges.
    waves = waves.mul(2**20).round().div(2**20)
    band = torch.bucketize(waves, torch.tensor(edges, dtype=torch.float64), right=True)
    times = torch.ones_like(waves)
    n = grid.shape[-1]
    times[..., 1 : (n + 1) // 2] = 2
    return times.flatten()[:, None] * torch.nn.functional.one_hot(band.flatten(), len(edges) + 1)
