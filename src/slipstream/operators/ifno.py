"""Implicit Fourier neural operator: one Fourier layer, many times."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from slipstream.errors import InputError
from slipstream.operators.layers import (
    ChannelMLP,
    Form,
    Modulation,
    Pad,
    Padding,
    Pointwise,
    SpectralConv,
    check_built,
    check_input,
)
from slipstream.operators.operator import Operator

MARGIN = 8
"""An axis with ends is continued by one part in this many of its points at each end."""


class FourierRate(nn.Module):
    """``modulate(spectral(x) + linear(x))``: how fast a field of features moves on, before the nonlinearity.

    Parameters
    ----------
    channels, n_modes, num_scalars, form : as in `IFNO`.
    """

    def __init__(self, channels: int, n_modes: Sequence[int], num_scalars: int, form: Form) -> None:
        super().__init__()
        self.spectral = SpectralConv(channels, channels, n_modes, form)
        self.linear = Pointwise(channels, channels)
        self.modulation = Modulation(num_scalars, channels) if num_scalars else None

    def forward(
        self, x: Float[Tensor, "batch channels *space"], scalars: Float[Tensor, "batch num_scalars"] | None = None
    ) -> Float[Tensor, "batch channels *space"]:
        y = self.spectral(x, self.linear(x))
        return y if self.modulation is None or scalars is None else self.modulation(y, scalars)


class IFNO(Operator):
    r"""Implicit Fourier neural operator: depth without parameters.

    One Fourier layer is applied ``n_iterations`` = L times as a small step,
    :math:`x \leftarrow x + \tfrac1L \sigma(\mathcal F^{-1}(R\,\mathcal F x) + W x + b)`, the last time without :math:`\sigma`. That is
    Euler's method for a differential equation over one unit of time: with more iterations the answer converges, so that
    `n_iterations` may be changed after training (a trained network with twice as many starts near where it was).

    The number of parameters is that of a single layer. Otherwise as `FNO`: filters act on functions, not on points; with
    ``padding="periodic"`` it commutes with every shift; axes with ends are continued by an eighth of their points at each end.

    Good values: 10 to 20 iterations, somewhat wider than an FNO of four layers.

    Parameters
    ----------
    n_modes : modes kept per axis; their number is the number of space axes.
    in_channels, out_channels : channels of the fields.
    hidden_channels : width.
    n_iterations : how often the layer is applied. May be changed at any time if `shared`.
    num_dims : if given, must be ``len(n_modes)``.
    num_scalars : scalars a sample, which scale and shift every application; without effect at initialisation.
    form : how the spectral convolution is computed: see `SpectralConv`.
    padding : ``"periodic"``, ``"zero"`` or ``"reflect"``, for all axes or one for each.
    shared : whether one layer serves all iterations; otherwise each has its own (a residual FNO).
    lifting_channel_ratio, projection_channel_ratio : hidden channels of the first and last network, in units of `hidden_channels`.

    References
    ----------
    You, Zhang, Ross, Lee & Yu, Comput. Methods Appl. Mech. Eng. 398 (2022) (arXiv:2203.08205); for turbulence: Li et al., Phys. Fluids 35
    (2023) 075145, Zhao et al., J. Comput. Phys. 537 (2025) 114125 (arXiv:2411.04502).
    """

    def __init__(
        self,
        n_modes: Sequence[int] = (16, 16),
        in_channels: int = 1,
        out_channels: int = 1,
        hidden_channels: int = 48,
        n_iterations: int = 20,
        num_dims: int | None = None,
        num_scalars: int = 0,
        form: Form = "fft",
        padding: Padding | Sequence[Padding] = "periodic",
        shared: bool = True,
        lifting_channel_ratio: float = 2.0,
        projection_channel_ratio: float = 2.0,
    ) -> None:
        super().__init__()
        self.n_modes = tuple(n_modes)
        if num_dims is not None and num_dims != len(self.n_modes):
            raise InputError(
                f"IFNO got n_modes={self.n_modes} for {len(self.n_modes)} axes, but num_dims={num_dims}. "
                f"Give one number of modes an axis, for example n_modes={(self.n_modes[:1] or (16,)) * num_dims}."
            )
        lifted, projected = (round(r * hidden_channels) for r in (lifting_channel_ratio, projection_channel_ratio))
        check_built(
            self,
            in_channels=in_channels,
            out_channels=out_channels,
            hidden_channels=hidden_channels,
            n_iterations=n_iterations,
            lifting_channel_ratio=lifted,
            projection_channel_ratio=projected,
        )
        self.num_dims = len(self.n_modes)
        self.in_channels, self.out_channels, self.hidden_channels = in_channels, out_channels, hidden_channels
        self.num_scalars, self.shared = num_scalars, shared
        self.lifting_channel_ratio, self.projection_channel_ratio = lifting_channel_ratio, projection_channel_ratio
        self.pad = Pad(padding, self.num_dims)
        self.lifting = ChannelMLP(in_channels, lifted, hidden_channels)
        self.rates = nn.ModuleList(
            FourierRate(hidden_channels, self.n_modes, num_scalars, form) for _ in range(1 if shared else n_iterations)
        )
        self.projection = ChannelMLP(hidden_channels, projected, out_channels)
        self.n_iterations = n_iterations

    @property
    def n_iterations(self) -> int:
        return self._iterations

    @n_iterations.setter
    def n_iterations(self, n: int) -> None:
        if n < 1 or not (self.shared or n == len(self.rates)):
            raise InputError(
                f"IFNO cannot be iterated {n} times: expected "
                + (
                    "at least 1."
                    if self.shared
                    else f"{len(self.rates)}, because shared=False gave each its own layer."
                )
            )
        self._iterations = n

    @property
    def padding(self) -> tuple[Padding, ...]:
        return self.pad.padding

    @property
    def form(self) -> Form:
        return next(m.form for m in self.modules() if isinstance(m, SpectralConv))

    @form.setter
    def form(self, form: Form) -> None:
        for module in self.modules():
            if isinstance(module, SpectralConv):
                module.form = form

    def forward(
        self, x: Float[Tensor, "batch in_channels *space"], scalars: Float[Tensor, "batch num_scalars"] | None = None
    ) -> Float[Tensor, "batch out_channels *space"]:
        """Fields on any grid.

        Raises
        ------
        ShapeError : channels, axes or scalars are not those that the operator was built for.
        """
        if not torch.compiler.is_compiling():
            check_input(self, x, scalars, self.in_channels, self.num_dims, self.num_scalars)
        space = x.shape[2:]
        margin = [
            0 if kind == "periodic" else math.ceil(n / MARGIN) for kind, n in zip(self.padding, space, strict=True)
        ]
        x = self.pad(self.lifting(x), margin)
        for i in range(self._iterations):
            y = self.rates[0 if self.shared else i](x, scalars)
            x = torch.add(x, y if i == self._iterations - 1 else F.gelu(y), alpha=1 / self._iterations)
        for axis, (m, n) in enumerate(zip(margin, space, strict=True)):
            x = x.narrow(axis + 2, m, n) if m else x
        return self.projection(x)
