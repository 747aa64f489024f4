"""Padding: what lies beyond the ends of the domain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from slipstream.errors import InputError, ShapeError

Padding = Literal["periodic", "zero", "reflect"]


def per_axis(padding: Padding | Sequence[Padding], num_dims: int) -> tuple[Padding, ...]:
    """One kind of padding an axis; a single kind stands for every axis."""
    kinds = (padding,) * num_dims if isinstance(padding, str) else tuple(padding)
    if len(kinds) != num_dims or any(k not in get_args(Padding) for k in kinds):
        raise InputError(
            f"padding={padding!r} does not fit {num_dims} axes; expected 'periodic', 'zero' or 'reflect', "
            f"or a sequence of {num_dims} of them."
        )
    return kinds


class Pad(nn.Module):
    """Widens a field at both ends of every axis.

    Pad once for a chain of unpadded convolutions, by the sum of their reaches: one copy instead of one a convolution, and under
    periodic padding exactly the same numbers.

    Parameters
    ----------
    padding : ``"periodic"``, ``"zero"`` or ``"reflect"`` (mirrored at the outermost point), or one of them an axis.
    num_dims : space axes.

    Raises
    ------
    ShapeError : a grid too small to take the wanted points from.
    """

    def __init__(self, padding: Padding | Sequence[Padding], num_dims: int) -> None:
        super().__init__()
        self.padding, self.num_dims = per_axis(padding, num_dims), num_dims

    def forward(
        self, x: Float[Tensor, "batch channel *space"], width: int | Sequence[int]
    ) -> Float[Tensor, "batch channel *padded"]:
        """Widen by `width` points at each end; one number, or one an axis."""
        widths = (width,) * self.num_dims if isinstance(width, int) else tuple(width)
        for axis, (kind, w) in enumerate(zip(self.padding, widths, strict=True)):
            if w:
                x = _pad(x, axis + 2, w, kind)
        return x


def _pad(x: Tensor, dim: int, width: int, kind: Padding) -> Tensor:
    n = x.shape[dim]
    if kind == "zero":
        edge = x.new_zeros(1).expand(*x.shape[:dim], width, *x.shape[dim + 1 :])
        return torch.cat([edge, x, edge], dim)
    needed = width if kind == "periodic" else width + 1
    if n < needed:
        raise ShapeError(
            f"{kind.capitalize()} padding by {width} needs at least {needed} points along an axis; got {n} in shape {tuple(x.shape)}. "
            "Use a finer grid or a shallower network."
        )
    if kind == "periodic":
        return torch.cat([x.narrow(dim, n - width, width), x, x.narrow(dim, 0, width)], dim)
    return torch.cat([x.narrow(dim, 1, width).flip(dim), x, x.narrow(dim, n - 1 - width, width).flip(dim)], dim)
