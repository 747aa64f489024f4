"""Fourier neural operator in space and time: a stretch of frames in, the next stretch out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from slipstream.errors import InputError, ShapeError
from slipstream.operators.layers import ChannelMLP, Form, Modulation, Pointwise, SpectralConv, check_built, check_input
from slipstream.operators.layers.projection import without_divergence
from slipstream.operators.operator import Operator

FRAMES = 100
"""Frames that the clock of the time features runs through in one unit."""
EXPANSION = 4
"""Hidden channels of the networks in the blocks, in units of the width."""


class SpaceTimeBlock(nn.Module):
    """``gelu(modulate(mlp(spectral(x))) + around)``; the filter may give its result at another number of frames.

    Parameters
    ----------
    channels, n_modes, num_scalars, form : as in `SpaceTimeFNO`.
    """

    def __init__(self, channels: int, n_modes: Sequence[int], num_scalars: int, form: Form) -> None:
        super().__init__()
        self.spectral = SpectralConv(channels, channels, n_modes, form)
        self.mlp = ChannelMLP(channels, EXPANSION * channels, channels)
        self.linear = Pointwise(channels, channels)
        self.modulation = Modulation(num_scalars, channels) if num_scalars else None

    def forward(
        self,
        x: Float[Tensor, "batch channels *space_time"],
        scalars: Float[Tensor, "batch num_scalars"] | None = None,
        frames: int | None = None,
    ) -> Float[Tensor, "batch channels *result"]:
        """With `frames`, the way around carries the last frame to all of them."""
        if frames is None:
            y, around = self.mlp(self.spectral(x)), self.linear(x)
        else:
            y = self.mlp(self.spectral(x, space=(*x.shape[2:-1], frames)))
            around = self.linear(x[..., -1:]).expand_as(y)
        if self.modulation is not None and scalars is not None:
            y = self.modulation(y, scalars)
        return F.gelu(y + around)


class SpaceTimeFNO(Operator):
    r"""Fourier neural operator whose transforms run over space and time: any number of frames in, any number of frames out.

    Fields are (batch, channel, \*space, time): **the last axis is time**, and `num_dims` counts it. (For steppers, which keep frames in
    the channels, see `Folded`.) The periodic box is filtered in space; time is not periodic, and is treated so:

    - the first block's filter gives its result at ``latent_steps`` moments, however many frames came in;
    - before the last layer the latest input frame is put in front, and as many zeros as frames before that, so that nothing wraps round;
    - the last layer is a filter alone, *linear in its parameters* `last` and `source` (what a correction by the residual of an equation
      needs), evaluated at as many moments as are asked for, and added to the latest input frame.

    Output frames k = 1 ... n lie at k / (n + 1) of the horizon that the network was trained for: asked for 2 n + 1 frames it gives the
    same ones and one between each two. In space, filters act on functions: finer grids give the same answer, as with `FNO`.

    Since the last layer is a filter alone, what is added to the latest frame has no waves beyond `n_modes`: they have to cover all that
    moves. Good values: as many modes in space as the field has, up to all points; few in time (8 to 12); 8 to 20 hidden channels.

    Parameters
    ----------
    n_modes : modes kept per axis, time last; their number is `num_dims`.
    in_channels, out_channels : channels of the fields.
    hidden_channels : width.
    n_layers : blocks before the last layer; the first changes the number of frames.
    latent_steps : frames within the network.
    out_steps : frames that come out; as many as come in where None.
    num_dims : if given, must be ``len(n_modes)``.
    num_scalars : scalars a sample, which scale and shift every block; without effect at initialisation.
    form : how the spectral convolutions are computed: see `SpectralConv`.
    coordinates : whether the network sees where in space it is; without, and with ``source=0``, it commutes with shifts in space.
    time_features : waves of the frame number that it sees, :math:`e^{\beta t} \sin((k + 1) \pi t)` and cosines in turn.
    growth : :math:`\beta`, of the order of the growth rate of the energy; t runs through 1 in 100 frames.
    norm : whether the lifted fields are normalised over all points, frames and channels, which makes up for a scale of the data.
    zero_padding : whether zeros keep the two ends of time apart before the last layer.
    source : factor on a field that the last layer adds, learnt mode by mode; 0 leaves it out. It starts at zero.
    residual : whether the latest input frame is added to the output (through a linear map of the channels where their numbers differ).
    extent : of the box in space. If given, what the last layer adds is made free of divergence, for velocities: `out_channels` is then
        the number of space axes.

    References
    ----------
    Cao, Brarda, Li & Xi, Spectral-Refiner, ICLR 2025 (arXiv:2405.17211).
    """

    def __init__(
        self,
        n_modes: Sequence[int] = (16, 16, 8),
        in_channels: int = 1,
        out_channels: int = 1,
        hidden_channels: int = 20,
        n_layers: int = 4,
        latent_steps: int = 10,
        out_steps: int | None = None,
        num_dims: int | None = None,
        num_scalars: int = 0,
        form: Form = "fft",
        coordinates: bool = True,
        time_features: int = 8,
        growth: float = 0.0,
        norm: bool = True,
        zero_padding: bool = True,
        source: float = 0.1,
        residual: bool = True,
        extent: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.n_modes = tuple(n_modes)
        if num_dims is not None and num_dims != len(self.n_modes):
            raise InputError(
                f"SpaceTimeFNO got n_modes={self.n_modes} for {len(self.n_modes)} axes, time the last, but num_dims={num_dims}. "
                f"Give one number of modes an axis, for example n_modes={(self.n_modes[:1] or (16,)) * num_dims}."
            )
        check_built(
            self,
            in_channels=in_channels,
            out_channels=out_channels,
            hidden_channels=hidden_channels,
            n_layers=n_layers,
            latent_steps=latent_steps,
            out_steps=1 if out_steps is None else out_steps,
        )
        self.num_dims = len(self.n_modes)
        self.extent = None if extent is None else tuple(extent)
        if self.extent is not None and not len(self.extent) == out_channels == self.num_dims - 1:
            raise InputError(
                f"SpaceTimeFNO got the extent {self.extent} for {out_channels} channels and {self.num_dims - 1} space axes; a field "
                "free of divergence needs one entry and one channel for each space axis."
            )
        self.in_channels, self.out_channels, self.hidden_channels = in_channels, out_channels, hidden_channels
        self.n_layers, self.latent_steps, self.out_steps = n_layers, latent_steps, out_steps
        self.num_scalars, self.coordinates, self.time_features = num_scalars, coordinates, time_features
        self.growth, self.norm, self.zero_padding, self.residual = growth, norm, zero_padding, residual
        inputs = in_channels + time_features + (self.num_dims - 1 if coordinates else 0)
        self.lifting = Pointwise(inputs, hidden_channels)
        self.level = nn.GroupNorm(1, hidden_channels, eps=1e-7) if norm else nn.Identity()
        self.enter = Pointwise(hidden_channels, hidden_channels)
        self.blocks = nn.ModuleList(
            SpaceTimeBlock(hidden_channels, self.n_modes, num_scalars, form) for _ in range(n_layers)
        )
        self.leave = Pointwise(hidden_channels, out_channels)
        self.carry = Pointwise(in_channels, out_channels) if in_channels != out_channels else nn.Identity()
        self.last = SpectralConv(out_channels, out_channels, self.n_modes, form)
        self.source = source
        self.added = SpectralConv(1, out_channels, self.n_modes, form) if source else None
        if self.added is not None:
            nn.init.zeros_(self.added.weight)

    @property
    def form(self) -> Form:
        return self.last.form

    @form.setter
    def form(self, form: Form) -> None:
        for module in self.modules():
            if isinstance(module, SpectralConv):
                module.form = form

    def forward(
        self,
        x: Float[Tensor, "batch in_channels *space_time"],
        scalars: Float[Tensor, "batch num_scalars"] | None = None,
        steps: int | None = None,
    ) -> Float[Tensor, "batch out_channels *space_later"]:
        """The next `steps` frames; by default `out_steps`, or as many as came in.

        Raises
        ------
        ShapeError : channels, axes or scalars are not those that the operator was built for, or no frames are asked for.
        """
        if not torch.compiler.is_compiling():
            check_input(self, x, scalars, self.in_channels, self.num_dims, self.num_scalars)
            if steps is not None and steps < 1:
                raise ShapeError(f"SpaceTimeFNO was asked for {steps} frames; expected at least 1.")
        wanted = steps or self.out_steps or x.shape[-1]
        return self.decode(self.encode(x, scalars), x[..., -1:], wanted)

    def encode(
        self,
        x: Float[Tensor, "batch in_channels *space_time"],
        scalars: Float[Tensor, "batch num_scalars"] | None = None,
    ) -> Float[Tensor, "batch out_channels *space_latent"]:
        """All but the last layer: `latent_steps` latent frames with the channels of the output."""
        v = self.enter(self.level(self.lifting(torch.cat([x, *self._features(x)], 1))))
        for i, block in enumerate(self.blocks):
            v = block(v, scalars, self.latent_steps if i == 0 else None)
        return self.leave(v)

    def decode(
        self,
        latent: Float[Tensor, "batch out_channels *space_latent"],
        latest: Float[Tensor, "batch in_channels *space_one"],
        steps: int,
    ) -> Float[Tensor, "batch out_channels *space_later"]:
        """The last layer: affine in the parameters of `last` and `added`.

        Parameters
        ----------
        latent : from `encode`. latest : the latest input frame, with a time axis of one entry. steps : frames that come out.
        """
        start = self.carry(latest)
        z = torch.cat([start, latent], -1)
        moments = steps + 1
        if self.zero_padding:
            z, moments = torch.cat([torch.zeros_like(z), z], -1), 2 * moments
        space = (*z.shape[2:-1], moments)
        y = self.last(z, space=space)
        if self.added is not None:
            # A spike has the same coefficient, 1, in every mode: what a filter makes of it is the field with its weights as coefficients.
            spike = z.new_full((1, 1, *(1,) * self.num_dims), float(math.prod(z.shape[2:])))
            spike = F.pad(spike, [entry for n in reversed(z.shape[2:]) for entry in (0, n - 1)])
            y = y + self.source * self.added(spike, space=space)
        y = y[..., -steps:]
        if self.extent is not None:
            y = without_divergence(y, self.extent)
        return y + start if self.residual else y

    def _features(self, x: Tensor) -> list[Tensor]:
        """What the network sees besides the fields, each (batch, features, *space, time)."""
        shape = x.shape[2:]
        parts = []
        if self.coordinates and self.num_dims > 1:
            axes = [torch.arange(n, dtype=x.dtype, device=x.device) / n for n in shape[:-1]]
            here = torch.stack(torch.meshgrid(*axes, indexing="ij"))[..., None]
            parts.append(here.expand(x.shape[0], -1, *shape))
        if self.time_features:
            t = torch.arange(1, shape[-1] + 1, dtype=x.dtype, device=x.device) / FRAMES
            k = torch.arange(self.time_features, dtype=x.dtype, device=x.device)[:, None]
            angle = (k + 1) * math.pi * t
            waves = torch.exp(self.growth * t) * torch.where(k % 2 == 0, angle.sin(), angle.cos())
            parts.append(waves.reshape(-1, *(1,) * (self.num_dims - 1), len(t)).expand(x.shape[0], -1, *shape))
        return parts
