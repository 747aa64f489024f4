"""Fourier neural operator."""

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


class FourierBlock(nn.Module):
    """``y = gelu(modulate(spectral(x) + linear(x)))``, then ``gelu(mlp(y) + gate * x)`` where there is an MLP.

    Parameters
    ----------
    channels, n_modes, num_scalars, form : as in `FNO`.
    mlp_channels : hidden channels of the MLP at every point; 0 leaves it out.
    activate : whether the block ends with a nonlinearity (the last of a chain does not).
    """

    def __init__(
        self, channels: int, n_modes: Sequence[int], mlp_channels: int, num_scalars: int, form: Form, activate: bool
    ) -> None:
        super().__init__()
        self.activate = activate
        self.spectral = SpectralConv(channels, channels, n_modes, form)
        self.linear = Pointwise(channels, channels)
        self.modulation = Modulation(num_scalars, channels) if num_scalars else None
        self.mlp = ChannelMLP(channels, mlp_channels, channels) if mlp_channels else None
        self.gate = nn.Parameter(torch.ones(channels, *(1,) * len(n_modes))) if mlp_channels else None

    def forward(
        self, x: Float[Tensor, "batch channels *space"], scalars: Float[Tensor, "batch num_scalars"] | None = None
    ) -> Float[Tensor, "batch channels *space"]:
        y = self.spectral(x, self.linear(x))
        if self.modulation is not None and scalars is not None:
            y = self.modulation(y, scalars)
        if self.activate:
            y = F.gelu(y)
        if self.mlp is None or self.gate is None:
            return y
        y = self.mlp(y).addcmul_(self.gate, x)
        return F.gelu(y) if self.activate else y


class FNO(Operator):
    r"""Fourier neural operator: global filters on the lowest modes, pointwise networks between them.

    A block computes :math:`\sigma(\mathcal F^{-1}(R\,\mathcal F x) + W x + b)` followed by a small gated network at every point; a
    lifting network comes first, a projecting one last. With ``padding="periodic"`` and without coordinates it commutes with every
    shift of the grid.

    The filters act on functions: they know frequencies, not points. Evaluated on another grid that resolves the field, the network
    gives the same function up to the aliasing of its nonlinearities, which falls fast with the number of points. Grids may have
    any number of points, odd ones too; with fewer points than modes, unresolved modes are left out.

    Good values: ``n_modes`` of a quarter to a half of the points along an axis, 16 to 64 hidden channels. Axes with ends need
    ``padding="zero"`` or ``"reflect"``: the field is continued by an eighth of its points at each end and cut back before the
    projection (choose numbers of points divisible by eight if resolutions are to be compared).

    Parameters
    ----------
    n_modes : modes kept per axis; their number is the number of space axes.
    in_channels, out_channels : channels of the fields.
    hidden_channels : width.
    n_layers : blocks.
    num_dims : if given, must be ``len(n_modes)``.
    num_scalars : scalars a sample, which scale and shift every block; without effect at initialisation.
    form : how the spectral convolutions are computed, ``"fft"`` or ``"dft"``: see `SpectralConv`. May be changed at any time.
    padding : ``"periodic"``, ``"zero"`` or ``"reflect"``, for all axes or one for each.
    coordinates : whether to append the coordinates of the points, from 0 to 1 (excluded), to the input.
    lifting_channel_ratio, projection_channel_ratio : hidden channels of the first and last network, in units of `hidden_channels`.
    channel_mlp_expansion : hidden channels of the networks in the blocks, in the same units; 0 leaves them out.

    References
    ----------
    Li et al., ICLR 2021 (arXiv:2010.08895); the gated pointwise network as in Kossaifi et al., TMLR 2024 (arXiv:2310.00120).
    """

    def __init__(
        self,
        n_modes: Sequence[int] = (16, 16),
        in_channels: int = 1,
        out_channels: int = 1,
        hidden_channels: int = 32,
        n_layers: int = 4,
        num_dims: int | None = None,
        num_scalars: int = 0,
        form: Form = "fft",
        padding: Padding | Sequence[Padding] = "periodic",
        coordinates: bool = False,
        lifting_channel_ratio: float = 2.0,
        projection_channel_ratio: float = 2.0,
        channel_mlp_expansion: float = 0.5,
    ) -> None:
        super().__init__()
        self.n_modes = tuple(n_modes)
        if num_dims is not None and num_dims != len(self.n_modes):
            raise InputError(
                f"FNO got n_modes={self.n_modes} for {len(self.n_modes)} axes, but num_dims={num_dims}. "
                f"Give one number of modes an axis, for example n_modes={(self.n_modes[:1] or (16,)) * num_dims}."
            )
        check_built(
            self,
            in_channels=in_channels,
            out_channels=out_channels,
            hidden_channels=hidden_channels,
            n_layers=n_layers,
        )
        self.num_dims = len(self.n_modes)
        self.in_channels, self.out_channels, self.hidden_channels = in_channels, out_channels, hidden_channels
        self.n_layers, self.num_scalars, self.coordinates = n_layers, num_scalars, coordinates
        self.lifting_channel_ratio, self.projection_channel_ratio = lifting_channel_ratio, projection_channel_ratio
        self.channel_mlp_expansion = channel_mlp_expansion
        self.pad = Pad(padding, self.num_dims)
        inputs = in_channels + (self.num_dims if coordinates else 0)
        lifted, projected, mlp = (
            round(ratio * hidden_channels)
            for ratio in (lifting_channel_ratio, projection_channel_ratio, channel_mlp_expansion)
        )
        check_built(self, lifting_channel_ratio=lifted, projection_channel_ratio=projected)
        self.lifting = ChannelMLP(inputs, lifted, hidden_channels)
        self.blocks = nn.ModuleList(
            FourierBlock(hidden_channels, self.n_modes, mlp, num_scalars, form, activate=i < n_layers - 1)
            for i in range(n_layers)
        )
        self.projection = ChannelMLP(hidden_channels, projected, out_channels)

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
        if self.coordinates:
            x = torch.cat([x, _coordinates(x)], dim=1)
        x = self.lifting(x)
        margin = [
            0 if kind == "periodic" else math.ceil(n / MARGIN) for kind, n in zip(self.padding, space, strict=True)
        ]
        x = self.pad(x, margin)
        for block in self.blocks:
            x = block(x, scalars)
        for axis, (m, n) in enumerate(zip(margin, space, strict=True)):
            x = x.narrow(axis + 2, m, n) if m else x
        return self.projection(x)


def _coordinates(x: Tensor) -> Float[Tensor, "batch dim *space"]:
    axes = [torch.arange(n, dtype=x.dtype, device=x.device) / n for n in x.shape[2:]]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).expand(x.shape[0], *(-1,) * (x.ndim - 1))
