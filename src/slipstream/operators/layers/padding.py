"""Padding: what lies beyond the ends of the domain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

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
        for kind in dict.fromkeys(self.padding):
            own = [w if k == kind else 0 for k, w in zip(self.padding, widths, strict=True)]
            if not any(own):
                continue
            x = _ring(x, own) if kind == "periodic" else F.pad(x, _ends(own), "constant" if kind == "zero" else kind)
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


def _ends(widths: Sequence[int]) -> list[int]:
    """As torch wants them: the last axis first, both ends of each."""
    return [w for width in reversed(widths) for w in (width, width)]


def _ring(x: Tensor, widths: Sequence[int]) -> Tensor:
    """Continued periodically; channels are kept where they lie in memory."""
    last = x.shape[1] > 1 and x.stride(1) == 1
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or (last and len(widths) == 3):
        # Torch goes back through its padding slice by slice, each filled up with zeros.
        for axis, w in enumerate(widths):
            x = _joined(x, axis + 2, w) if w else x
        return x
    if last:
        return F.pad(x.movedim(1, -1)[:, None], [0, 0, *_ends(widths)], "circular")[:, 0].movedim(-1, 1)
    return F.pad(x, _ends(widths), "circular")


def _joined(x: Tensor, dim: int, width: int) -> Tensor:
    """Continued along one axis. In parts, whose gradients are put side by side: those of pieces that overlap would be added up."""
    n = x.shape[dim]
    if n <= 2 * width:
        return torch.cat([x.narrow(dim, n - width, width), x, x.narrow(dim, 0, width)], dim)
    left, middle, right = x.split([width, n - 2 * width, width], dim)
    return torch.cat([right, left, middle, right, left], dim)
