"""What a multigrid cycle does on one grid, and between two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from slipstream.operators.layers.convolutions import CONVOLUTIONS, TRANSPOSED
from slipstream.operators.layers.padding import Pad

Restriction = Literal["field", "residual"]


class Smoothing(nn.Module):
    """One smoothing step, ``u + S (f - A u)``; ``S f`` where it starts from zero (None)."""

    def __init__(self, in_channels: int, out_channels: int, pad: Pad, from_zero: bool) -> None:
        super().__init__()
        conv, zeros = CONVOLUTIONS[pad.num_dims], pad.zeros(1)
        self.pad = pad
        self.operator = None if from_zero else conv(out_channels, in_channels, 3, padding=zeros, bias=False)  # type: ignore[arg-type]
        self.smoother = conv(in_channels, out_channels, 3, padding=zeros, bias=False)  # type: ignore[arg-type]

    def forward(
        self, f: Float[Tensor, "batch in_channels *space"], u: Float[Tensor, "batch out_channels *space"] | None
    ) -> Float[Tensor, "batch out_channels *space"]:
        if self.operator is None or u is None:
            return self.smoother(self.pad.around(f, 1))
        return u + self.smoother(self.pad.around(f - self.operator(self.pad.around(u, 1)), 1))


class Smoothings(nn.ModuleList):
    """Smoothing steps, one after the other."""

    def forward(
        self, f: Float[Tensor, "batch in_channels *space"], u: Float[Tensor, "batch out_channels *space"] | None
    ) -> Float[Tensor, "batch out_channels *space"] | None:
        for step in self:
            u = step(f, u)
        return u


class Transfer(nn.Module):
    """Between a grid and the next coarser one, whose points are every second point, chosen for the ends to stay where they are.

    Under zero padding the walls lie one spacing beyond the outermost points: the coarse grid starts at the second point, and its
    farther wall is the fine one, or for even numbers of points the last point (so that whatever it holds, the fine grid does too).
    Mirrors lie on the outermost points: the coarse grid starts at the first and ends at the last, or for even numbers one point on.
    """

    def __init__(
        self, in_channels: int, out_channels: int, pad: Pad, factors: Sequence[int], restriction: Restriction
    ) -> None:
        super().__init__()
        conv, transposed, stride = CONVOLUTIONS[pad.num_dims], TRANSPOSED[pad.num_dims], tuple(factors)
        self.pad, self.factors = pad, stride
        # Every second point between walls has all its neighbours: only where none is left out a wall comes into it.
        zeros = tuple(z if f == 1 else 0 for z, f in zip(pad.zeros(1), stride, strict=True))
        residual = restriction == "residual"
        self.operator = conv(out_channels, in_channels, 3, padding=pad.zeros(1), bias=False) if residual else None  # type: ignore[arg-type]
        self.restrict = conv(in_channels, in_channels, 3, stride=stride, padding=zeros, bias=False)  # type: ignore[arg-type]
        self.guess = (
            None if residual else conv(out_channels, out_channels, 3, stride=stride, padding=zeros, bias=False)  # type: ignore[arg-type]
        )
        # Reaches of a fine point: coarse ones at most 1 away along a halved axis (two of them), or itself and its neighbours.
        width = tuple(4 if f == 2 else 3 for f in stride)
        # What the points bring that were added around the coarse grid, or what reaches over a wall, is not worked out.
        beyond = tuple(2 - f if kind == "zero" else f + 1 for kind, f in zip(pad.padding, stride, strict=True))
        self.prolong = transposed(out_channels, out_channels, width, stride=stride, padding=beyond, bias=False)  # type: ignore[arg-type]

    def coarsened(self, space: Sequence[int]) -> tuple[int, ...]:
        """Points of the coarser grid."""
        halves = {"periodic": 1, "zero": -1, "reflect": 2}
        each = zip(space, self.pad.padding, self.factors, strict=True)
        return tuple((n + halves[kind]) // 2 if f == 2 else n for n, kind, f in each)

    def _aligned(self, x: Tensor) -> Tensor:
        """The field widened so that a stencil on every coarse point finds its neighbours.

        Points on the far side that are left over are not cut off, which would be a copy: the stencils do not get there. Between walls
        nothing is widened; a convolution on all points brings the zeros along.
        """
        space, coarse = x.shape[2:], self.coarsened(x.shape[2:])
        lengths = [f * (m - 1) + 3 for m, f in zip(coarse, self.factors, strict=True)]
        each = zip(self.pad.padding, lengths, space, strict=True)
        reach = [0 if kind == "zero" else 2 if length > n + 2 else 1 for kind, length, n in each]
        x = self.pad(x, reach)
        for axis, (r, length) in enumerate(zip(reach, lengths, strict=True)):
            if r == 2:
                x = x.narrow(axis + 2, 1, length)
        return x

    def down(
        self, f: Float[Tensor, "batch in_channels *space"], u: Float[Tensor, "batch out_channels *space"]
    ) -> tuple[Float[Tensor, "batch in_channels *coarse"], Float[Tensor, "batch out_channels *coarse"] | None]:
        """Right-hand side and first guess on the coarser grid; None is zero."""
        if self.operator is not None:
            f = f - self.operator(self.pad.around(u, 1))
        return self.restrict(self._aligned(f)), None if self.guess is None else self.guess(self._aligned(u))

    def up(
        self, u: Float[Tensor, "batch out_channels *coarse"], space: Sequence[int]
    ) -> Float[Tensor, "batch out_channels *space"]:
        """The field on the finer grid of `space` points."""
        u = self.prolong(self.pad.around(u, 1))
        for axis, n in enumerate(space):
            u = u.narrow(axis + 2, 0, n)
        return u
