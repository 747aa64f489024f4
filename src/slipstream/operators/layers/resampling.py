"""Half as many points and twice as many, on uniform grids of one to three axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from slipstream.errors import ShapeError
from slipstream.operators.layers.padding import Padding

LINEAR = (0.25, 0.75)
CUBIC = (-0.03515625, 0.26171875, 0.87890625, -0.10546875)
"""Weights of the old points, from left to right, in the left one of the two new points around an old one; mirrored in the right.

The new point lies a quarter of the spacing beside the old one, which is the last but ``len // 2 - 1``. The cubic weights are those of
cubic convolution (Keys, 1981) with the slope -3/4, as in `torch.nn.functional.interpolate`.
"""
_MEAN = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def halve(x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *half"]:
    """The mean of every two points an axis."""
    return _MEAN[x.ndim - 2](x, 2)


def enlarge(
    x: Float[Tensor, "batch channel *space"], padding: Sequence[Padding], weights: Sequence[float] = CUBIC
) -> Float[Tensor, "batch channel *twice"]:
    """Interpolated to twice as many points an axis, each old one between its two new ones.

    A periodic axis is continued periodically, so that this commutes with shifts; any other by its outermost value, which keeps
    constants constant at walls and mirrors alike.

    Parameters
    ----------
    padding : one kind an axis.
    weights : `LINEAR` or `CUBIC`.
    """
    reach = len(weights) // 2
    for dim, kind in enumerate(padding, start=2):
        n = x.shape[dim]
        wide = _widen(x, dim, reach, kind)
        left, right = wide.narrow(dim, 0, n) * weights[0], wide.narrow(dim, 1, n) * weights[-1]
        for k in range(1, 2 * reach):
            left = torch.add(left, wide.narrow(dim, k, n), alpha=weights[k])
            right = torch.add(right, wide.narrow(dim, k + 1, n), alpha=weights[-1 - k])
        x = torch.stack([left, right], dim + 1).flatten(dim, dim + 1)
    return x


def _widen(x: Tensor, dim: int, width: int, kind: Padding) -> Tensor:
    n = x.shape[dim]
    if kind == "periodic":
        return torch.cat([x.narrow(dim, n - width, width), x, x.narrow(dim, 0, width)], dim)
    sizes = [-1] * x.ndim
    sizes[dim] = width
    return torch.cat([x.narrow(dim, 0, 1).expand(sizes), x, x.narrow(dim, n - 1, 1).expand(sizes)], dim)


def check_points(
    owner: object, x: Tensor, padding: Sequence[Padding], factor: int, least: Mapping[Padding, int], because: str
) -> None:
    """Refuse numbers of points that are not multiples of `factor` or too few.

    Parameters
    ----------
    least : points that each kind of padding needs on the coarsest grid.
    because : what asks for it, for the message, as in ``"levels=3"``.

    Raises
    ------
    ShapeError : says which numbers would do.
    """
    for kind, n in zip(padding, x.shape[2:], strict=True):
        lowest = factor * least[kind]
        if n % factor or n < lowest:
            raise ShapeError(
                f"{type(owner).__name__} with {because} and {kind} padding expects multiples of {factor} points along an axis, at least "
                f"{lowest}; got {tuple(x.shape)}. Resample the field or build it with fewer levels."
            )
