"""Stencils of classical geometric multigrid: transfers between grids, and what an operator becomes on a coarser one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from slipstream.errors import InputError

HALVED, KEPT = (0.5, 1.0, 0.5), (0.0, 1.0, 0.0)
_CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_SPREAD = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def prolongation_kernel(factors: Sequence[int]) -> Float[Tensor, "*three"]:
    """Multilinear interpolation: what a coarse point gives to the fine points around it. Factors are 1 or 2, one an axis."""
    kernel = torch.ones((), dtype=torch.float64)
    for factor in factors:
        kernel = kernel[..., None] * torch.tensor(HALVED if factor == 2 else KEPT, dtype=torch.float64)
    return kernel


def restriction_kernel(factors: Sequence[int]) -> Float[Tensor, "*three"]:
    """Full weighting: the weights of the fine points around a coarse one; they sum to 1."""
    kernel = prolongation_kernel(factors)
    return kernel / kernel.sum()


def galerkin(stencil: Float[Tensor, "*three"], factors: Sequence[int]) -> Float[Tensor, "*three"]:
    """The stencil of R A P, by what it makes of a single coarse point far from every end."""
    dims, stride = stencil.ndim, tuple(factors)
    convolve, spread = _CONVOLVE[dims], _SPREAD[dims]
    r, p = restriction_kernel(factors).to(stencil), prolongation_kernel(factors).to(stencil)
    point = stencil.new_zeros(1, 1, *(7,) * dims)
    point[(0, 0, *(3,) * dims)] = 1.0
    fine = convolve(spread(point, p[None, None], stride=stride, padding=1), stencil[None, None], padding=1)
    answer = convolve(fine, r[None, None], stride=stride, padding=1)[0, 0]
    # Entry k of a stencil acts on the neighbour k - 1 away, so the answer at -(k - 1) from the point holds it.
    return answer[(slice(2, 5),) * dims].flip(tuple(range(dims)))


def coarse_stencils(
    stencil: Float[Tensor, "*three"], factors: Sequence[Sequence[int]], coarse: Literal["galerkin", "rescaled"]
) -> list[Float[Tensor, "*three"]]:
    """The operator on every grid, finest first; `factors` holds one factor an axis for each step to a coarser grid.

    Raises
    ------
    InputError : ``"rescaled"`` where some axis keeps its spacing.
    """
    found = [stencil]
    for factor in factors:
        if coarse == "galerkin":
            found.append(galerkin(found[-1], factor))
        elif coarse == "rescaled" and set(factor) == {2}:
            found.append(found[-1] / 4)
        else:
            raise InputError(
                f"coarse={coarse!r} with coarsening factors {tuple(factor)}: expected 'galerkin', or 'rescaled' with every axis halved."
            )
    return found
