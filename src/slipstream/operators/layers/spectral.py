"""Spectral convolution: a learnt filter on the lowest Fourier modes."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from slipstream.errors import InputError
from slipstream.operators.layers.fourier import Kept, analyse, kept_modes, synthesise, tables

Form = Literal["fft", "dft"]


class SpectralConv(nn.Module):
    """Multiplies the lowest Fourier modes of a field by learnt complex matrices; a convolution as wide as the domain.

    The result depends on the field, not on the grid: a field without content at or beyond half the sampling rate gives the same
    function on any grid that resolves it. On a grid with fewer points than modes, the modes that it does not resolve are left out.
    Any numbers of points, odd ones too.

    Two forms of the same layer, equal to rounding; `form` may be changed at any time. ``"fft"`` transforms one axis at a time,
    dropping modes as soon as it can, and suits many modes and fine grids. ``"dft"`` multiplies by thin real matrices: faster for
    few modes, and made of products only, so that it exports everywhere (``torch.export``, ONNX) and compiles without gaps.

    Parameters
    ----------
    in_channels, out_channels : channels.
    n_modes : per axis; 16 means the frequencies -8 ... 7, and 0 ... 8 along the last axis (a real field has no others).
    form : how it is computed.

    Attributes
    ----------
    weight : (*modes, in, 2, out), real and imaginary parts next to each other. Modes come first, so that mixing channels is one
        batched real product without a copy of the weights.

    References
    ----------
    Li et al., Fourier Neural Operator for Parametric Partial Differential Equations, ICLR 2021 (arXiv:2010.08895).
    """

    def __init__(self, in_channels: int, out_channels: int, n_modes: Sequence[int], form: Form = "fft") -> None:
        super().__init__()
        if not n_modes or min(n_modes) < 1:
            raise InputError(f"SpectralConv got n_modes={tuple(n_modes)}; expected one positive number an axis.")
        self.in_channels, self.out_channels, self.n_modes = in_channels, out_channels, tuple(n_modes)
        self.form = form
        std = math.sqrt(1 / (in_channels + out_channels))
        modes = (*self.n_modes[:-1], self.n_modes[-1] // 2 + 1)
        self.weight = nn.Parameter(std * torch.randn(*modes, in_channels, 2, out_channels))

    @property
    def form(self) -> Form:
        return self._form

    @form.setter
    def form(self, form: Form) -> None:
        if form not in get_args(Form):
            raise InputError(f"SpectralConv has the forms 'fft' and 'dft', not {form!r}.")
        self._form: Form = form

    def forward(
        self,
        x: Float[Tensor, "batch in_channels *space"],
        base: Float[Tensor, "batch out_channels *result"] | None = None,
        space: Sequence[int] | None = None,
    ) -> Float[Tensor, "batch out_channels *result"]:
        """The filtered field; added to `base` if one is given.

        `base` is used up: it must be contiguous, and its memory may become that of the result, which saves two passes over it.
        `space` asks for the same function on another number of points along each axis. Where the number changes, the highest frequency
        that the smaller one tells apart is left out if that number is even: samples do not tell its phase.
        """
        # Counts, never symbols: tables are made for one grid, and a compiled graph is made again for another.
        given = tuple(operator.index(n) for n in x.shape[2:])
        wanted = given if space is None else tuple(operator.index(n) for n in space)
        kept = kept_modes(
            self.n_modes, [n if n == m else (min(n, m) - 1) | 1 for n, m in zip(given, wanted, strict=True)]
        )
        if self._form == "dft":
            matrices = tables(given, kept, x)
            y = torch.bmm(analyse(x, matrices), self._mixing(kept))
            return synthesise(y, kept, matrices if wanted == given else tables(wanted, kept, x), base)
        y = torch.bmm(_rows(_transform(x, kept)), self._mixing(kept))
        y = y.unflatten(1, (2, -1)).unflatten(0, [high - low for low, high in kept])
        part = y.ndim - 3
        z = torch.complex(y.select(part, 0), y.select(part, 1))  # (*modes, batch, out)
        field = _inverse(z.permute(part, part + 1, *range(part)), kept, wanted)
        return field if base is None else field.add_(base)

    def _mixing(self, kept: Kept) -> Float[Tensor, "modes two_in out"]:
        """Weights of the kept modes, ready for `torch.bmm`: a view, unless the grid resolves too few."""
        weight: Tensor = self.weight
        for axis, (low, high) in enumerate(kept):
            zero = 0 if axis == len(kept) - 1 else self.n_modes[axis] // 2
            if high - low < weight.shape[axis]:
                weight = weight.narrow(axis, zero + low, high - low)
        return weight.flatten(-3, -2).flatten(0, len(kept) - 1)


def _transform(x: Tensor, kept: Kept) -> Complex[Tensor, "batch channel *modes"]:
    """Kept coefficients in ascending order of frequency; each later axis is transformed for kept modes only."""
    z = torch.fft.rfft(x, norm="forward").narrow(-1, 0, kept[-1][1])
    for axis in range(len(kept) - 2, -1, -1):
        low, high = kept[axis]
        z = torch.fft.fft(z, dim=axis + 2, norm="forward")
        z = torch.cat([z.narrow(axis + 2, z.shape[axis + 2] + low, -low), z.narrow(axis + 2, 0, high)], axis + 2)
    return z


def _inverse(z: Tensor, kept: Kept, space: Sequence[int]) -> Float[Tensor, "batch channel *space"]:
    """The real field of such coefficients."""
    for axis, (low, high) in enumerate(kept[:-1]):
        dim, n = axis + 2, space[axis]
        gap = z.new_zeros([*z.shape[:dim], n - (high - low), *z.shape[dim + 1 :]])
        z = torch.fft.ifft(
            torch.cat([z.narrow(dim, -low, high), gap, z.narrow(dim, 0, -low)], dim), dim=dim, norm="forward"
        )
    return torch.fft.irfft(z, n=space[-1], norm="forward")


def _rows(z: Tensor) -> Float[Tensor, "modes two_batch two_channel"]:
    """Rows (re, -im) and (im, re): a product with weights (re, im) then is the complex product."""
    dims = z.ndim - 2
    z = z.permute(*range(2, z.ndim), 0, 1).conj()
    rows = torch.view_as_real(torch.stack([z, z * 1j], dims))  # i * conj(z) = im + i re
    return rows.flatten(-2).flatten(-3, -2).flatten(0, dims - 1)
