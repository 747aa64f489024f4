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

    A convolution brings zeros along without a copy. One that pads by `zeros` is given the field widened by `around`, along the other axes.

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
        for n, kind, w in zip(x.shape[2:], self.padding, widths, strict=True):
            _check(x, n, kind, w)
        if not any(widths):
            return x
        if not (torch.is_grad_enabled() or torch.compiler.is_compiling()):
            return _filled(x, self.padding, widths)
        for axis, (kind, w) in enumerate(zip(self.padding, widths, strict=True)):
            if w:
                x = _pad(x, axis + 2, w, kind)
        return x

    def zeros(self, width: int) -> tuple[int, ...]:
        """What a convolution that reaches so far is to pad by itself."""
        return tuple(width if kind == "zero" else 0 for kind in self.padding)

    def around(self, x: Float[Tensor, "batch channel *space"], width: int) -> Float[Tensor, "batch channel *padded"]:
        """Widen by `width` points at each end of the axes where something else than zero lies beyond."""
        return self(x, [0 if kind == "zero" else width for kind in self.padding])


def _check(x: Tensor, n: int, kind: Padding, width: int) -> None:
    needed = {"zero": 0, "periodic": width, "reflect": width + 1}[kind]
    if width and n < needed:
        raise ShapeError(
            f"{kind.capitalize()} padding by {width} needs at least {needed} points along an axis; got {n} in shape {tuple(x.shape)}. "
            "Use a finer grid or a shallower network."
        )


def _filled(x: Tensor, kinds: Sequence[Padding], widths: Sequence[int]) -> Tensor:
    """Widened along all axes in one copy. For gradients `_pad` is the faster."""
    space = tuple(x.shape[2:])
    more = [n + 2 * w for n, w in zip(space, widths, strict=True)]
    last = x.shape[1] > 1 and x.stride(1) == 1  # channels are kept where they lie in memory
    wide = x.new_empty(len(x), *more, x.shape[1]).movedim(-1, 1) if last else x.new_empty(*x.shape[:2], *more)
    inner = wide
    for dim, (n, w) in enumerate(zip(space, widths, strict=True), start=2):
        inner = inner.narrow(dim, w, n)
    inner.copy_(x)
    for dim, (n, w, kind) in enumerate(zip(space, widths, kinds, strict=True), start=2):
        if not w:
            continue
        # What lies in the corners is not right before the last axis was filled.
        left, right = wide.narrow(dim, 0, w), wide.narrow(dim, n + w, w)
        if kind == "zero":
            left.zero_()
            right.zero_()
        elif kind == "periodic":
            left.copy_(wide.narrow(dim, n, w))
            right.copy_(wide.narrow(dim, w, w))
        else:
            left.copy_(wide.narrow(dim, w + 1, w).flip(dim))
            right.copy_(wide.narrow(dim, n - 1, w).flip(dim))
    return wide


def _pad(x: Tensor, dim: int, width: int, kind: Padding) -> Tensor:
    """Widened along one axis."""
    n = x.shape[dim]
    if kind == "zero":
        edge = x.new_zeros(1).expand(*x.shape[:dim], width, *x.shape[dim + 1 :])
        return torch.cat([edge, x, edge], dim)
    if kind == "reflect":
        return torch.cat([x.narrow(dim, 1, width).flip(dim), x, x.narrow(dim, n - 1 - width, width).flip(dim)], dim)
    if n < 2 * width:
        return torch.cat([x.narrow(dim, n - width, width), x, x.narrow(dim, 0, width)], dim)
    # In parts, whose gradients are put side by side: those of pieces that overlap would be filled up with zeros and added.
    left, middle, right = x.split([width, n - 2 * width, width], dim)
    return torch.cat([right, left, middle, right, left], dim)
