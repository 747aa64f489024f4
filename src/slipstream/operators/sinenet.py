"""SineNet: several thin U-Nets in a row, each of which moves the state a part of the way."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from slipstream.errors import InputError
from slipstream.operators.layers import CONVOLUTIONS, Modulation, Pad, Padding, check_built, check_input
from slipstream.operators.layers.resampling import check_points, enlarge, halve
from slipstream.operators.operator import Operator

LEAST: dict[Padding, int] = {"zero": 1, "periodic": 2, "reflect": 2}
"""Points that the stencils need on the coarsest grid."""


class WaveBlock(nn.Module):
    """Two stencils, normalised over channels and points, scalars steering the second: ``gelu(m(norm(conv(gelu(norm(conv(x)))))))``."""

    def __init__(self, in_channels: int, out_channels: int, pad: Pad, num_scalars: int) -> None:
        super().__init__()
        conv = CONVOLUTIONS[pad.num_dims]
        self.pad = pad
        self.first = conv(in_channels, out_channels, 3, padding=pad.zeros(1))  # type: ignore[arg-type]
        self.second = conv(out_channels, out_channels, 3, padding=pad.zeros(1))  # type: ignore[arg-type]
        self.first_norm, self.second_norm = nn.GroupNorm(1, out_channels), nn.GroupNorm(1, out_channels)
        self.modulation = Modulation(num_scalars, out_channels) if num_scalars else None

    def forward(
        self, x: Float[Tensor, "batch in_channels *space"], scalars: Float[Tensor, "batch num_scalars"] | None = None
    ) -> Float[Tensor, "batch out_channels *space"]:
        x = F.gelu(self.first_norm(self.first(self.pad.around(x, 1))))
        x = self.second_norm(self.second(self.pad.around(x, 1)))
        if self.modulation is not None and scalars is not None:
            x = self.modulation(x, scalars)
        return F.gelu(x)


class Stage(nn.Module):
    """Blocks on one grid, each with a way around it; the first one's leaves out what was only joined to the field."""

    def __init__(self, own: int, joined: int, out_channels: int, blocks: int, pad: Pad, num_scalars: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            WaveBlock(out_channels if i else own + joined, out_channels, pad, num_scalars) for i in range(blocks)
        )
        self.around = CONVOLUTIONS[pad.num_dims](own, out_channels, 1)

    def forward(
        self,
        x: Float[Tensor, "batch joined *space"],
        own: Float[Tensor, "batch own *space"],
        scalars: Float[Tensor, "batch num_scalars"] | None = None,
    ) -> Float[Tensor, "batch out_channels *space"]:
        way = self.around(own)
        for block in self.blocks:
            x = way = block(x, scalars) + way
        return x


class Wave(nn.Module):
    """A U-Net that is added to its input, from `widths[0]` channels to as many.

    Down: averages of two points, then a stage. With `disentangled`, averages of the wave's *input* run along untouched and are
    joined to the field on every grid but the first coarser one (where the field itself is such an average): what was learnt on the way
    down and what was merely made coarse stay apart. Up: cubic interpolation, joined with its like on the way down.
    """

    def __init__(self, widths: Sequence[int], blocks: int, disentangled: bool, pad: Pad, num_scalars: int) -> None:
        super().__init__()
        self.pad, self.disentangled = pad, disentangled
        joined = widths[0] if disentangled else 0
        self.down = nn.ModuleList(
            Stage(a, joined if level else 0, b, blocks, pad, num_scalars)
            for level, (a, b) in enumerate(pairwise(widths))
        )
        self.up = nn.ModuleList(Stage(b, a, a, blocks, pad, num_scalars) for a, b in pairwise(widths))

    def forward(
        self, x: Float[Tensor, "batch channels *space"], scalars: Float[Tensor, "batch num_scalars"] | None = None
    ) -> Float[Tensor, "batch channels *space"]:
        h = coarse = x
        passed = []
        for level, stage in enumerate(self.down):
            passed.append(h)
            h = halve(h)
            if self.disentangled:
                coarse = halve(coarse)
            h = stage(torch.cat([h, coarse], dim=1) if level and self.disentangled else h, h, scalars)
        for stage in reversed(self.up):
            h = enlarge(h, self.pad.padding)
            h = stage(torch.cat([passed.pop(), h], dim=1), h, scalars)
        return x + h


class SineNet(Operator):
    r"""U-Nets in a row ("waves"), each added to its input: for states whose features move far in a step.

    The way down and the way up of a U-Net meet at the same points, but what lies there on the way up has already moved. A wave
    has to move it by only a part of the step, so that what is joined is nearly in place: K waves, a K-th of the misalignment.

    Waves are thinner the more there are. On the grid halved i times a wave has ``int(hidden_channels * multiplier ** i)`` channels, and
    unless told otherwise the multiplier is chosen so that all waves together have as many parameters as one wave with multiplier 2,
    which is a U-Net. Equal parameters are not equal cost: every wave begins with full width on the finest grid.

    It knows points, not frequencies: it belongs to the spacing that it was trained on. With periodic padding it commutes with shifts
    by multiples of ``2 ** levels`` points.

    Parameters
    ----------
    in_channels, out_channels : channels of the fields.
    num_dims : space axes, 1 to 3.
    hidden_channels : width on the finest grid.
    waves : how many; 1 is a U-Net.
    levels : how many times a wave halves the grid. Numbers of points must be divisible by ``2 ** levels``.
    blocks : blocks on each grid of a wave. One wave of K blocks is as deep as K waves of one: the control for depth.
    multiplier : growth of the width from grid to coarser grid; None chooses it by `num_parameters`.
    num_parameters : how many parameters the operator shall have, to the nearest that whole channels allow; None: as many as one wave
        with one block and multiplier 2.
    disentangled : whether averages of a wave's input run along its way down.
    num_scalars : scalars a sample, which scale and shift every block; without effect at initialisation.
    padding : ``"periodic"``, ``"zero"`` or ``"reflect"``, for all axes or one for each.

    Attributes
    ----------
    widths : channels on each grid of a wave, finest first.

    References
    ----------
    Zhang, Helwig et al., SineNet: Learning Temporal Dynamics in Time-Dependent Partial Differential Equations, ICLR 2024
    (arXiv:2403.19507).
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        num_dims: int = 2,
        hidden_channels: int = 64,
        waves: int = 8,
        levels: int = 4,
        blocks: int = 1,
        multiplier: float | None = None,
        num_parameters: int | None = None,
        disentangled: bool = True,
        num_scalars: int = 0,
        padding: Padding | Sequence[Padding] = "periodic",
    ) -> None:
        super().__init__()
        check_built(
            self,
            in_channels=in_channels,
            out_channels=out_channels,
            hidden_channels=hidden_channels,
            waves=waves,
            levels=levels,
            blocks=blocks,
        )
        if num_dims not in CONVOLUTIONS or (multiplier is not None and multiplier <= 0):
            raise InputError(
                f"SineNet got num_dims={num_dims}, multiplier={multiplier}; expected 1 to 3 axes and a multiplier above 0."
            )
        if multiplier is not None and num_parameters is not None:
            raise InputError("SineNet takes a multiplier or a number of parameters to find one for, not both.")
        self.in_channels, self.out_channels, self.num_dims = in_channels, out_channels, num_dims
        self.hidden_channels, self.waves, self.levels, self.blocks = hidden_channels, waves, levels, blocks
        self.multiplier, self.num_parameters = multiplier, num_parameters
        self.disentangled, self.num_scalars = disentangled, num_scalars
        self.pad = Pad(padding, num_dims)
        self.widths = self._chosen_widths()
        conv = CONVOLUTIONS[num_dims]
        self.enter = conv(in_channels, hidden_channels, 3, padding=self.pad.zeros(1))  # type: ignore[arg-type]
        self.chain = nn.ModuleList(Wave(self.widths, blocks, disentangled, self.pad, num_scalars) for _ in range(waves))
        self.leave = conv(hidden_channels, out_channels, 3, padding=self.pad.zeros(1))  # type: ignore[arg-type]

    @property
    def padding(self) -> tuple[Padding, ...]:
        return self.pad.padding

    def _chosen_widths(self) -> tuple[int, ...]:
        def size(waves: int, blocks: int, multiplier: float) -> int:
            widths = widths_of_wave(self.hidden_channels, multiplier, self.levels)
            wave = size_of_wave(widths, blocks, self.disentangled, self.num_dims, self.num_scalars)
            ends = (self.in_channels + self.out_channels) * self.hidden_channels * 3**self.num_dims
            return ends + self.hidden_channels + self.out_channels + waves * wave

        if self.multiplier is not None:
            return widths_of_wave(self.hidden_channels, self.multiplier, self.levels)
        wanted = self.num_parameters or size(1, 1, 2.0)
        low, high = 0.0, 1.0
        if wanted < size(self.waves, self.blocks, low):
            raise InputError(
                f"SineNet with waves={self.waves}, blocks={self.blocks}, hidden_channels={self.hidden_channels} has at least "
                f"{size(self.waves, self.blocks, low)} parameters; got num_parameters={wanted}. Use fewer hidden channels or waves."
            )
        while size(self.waves, self.blocks, high) < wanted:
            low, high = high, 2 * high
        for _ in range(60):  # to the last bit: the size is a staircase in the multiplier
            middle = (low + high) / 2
            low, high = (middle, high) if size(self.waves, self.blocks, middle) < wanted else (low, middle)
        nearest = min((low, high), key=lambda m: abs(size(self.waves, self.blocks, m) - wanted))
        return widths_of_wave(self.hidden_channels, nearest, self.levels)

    def forward(
        self, x: Float[Tensor, "batch in_channels *space"], scalars: Float[Tensor, "batch num_scalars"] | None = None
    ) -> Float[Tensor, "batch out_channels *space"]:
        """Fields whose numbers of points are divisible by ``2 ** levels``.

        Raises
        ------
        ShapeError : channels, axes, scalars or numbers of points are not what the operator was built for.
        """
        if not torch.compiler.is_compiling():
            check_input(self, x, scalars, self.in_channels, self.num_dims, self.num_scalars)
            check_points(self, x, self.padding, 2**self.levels, LEAST, f"levels={self.levels}")
        x = self.enter(self.pad.around(x, 1))
        for wave in self.chain:
            x = wave(x, scalars)
        return self.leave(self.pad.around(x, 1))


def widths_of_wave(hidden_channels: int, multiplier: float, levels: int) -> tuple[int, ...]:
    """Channels on each grid, finest first: whole, at least one."""
    return tuple(max(1, int(hidden_channels * multiplier**level)) for level in range(levels + 1))


def size_of_wave(widths: Sequence[int], blocks: int, disentangled: bool, num_dims: int, num_scalars: int) -> int:
    """Parameters of a wave, counted without building it."""

    def block(inputs: int, outputs: int) -> int:
        stencils = 3**num_dims * (inputs + outputs) * outputs + 2 * outputs
        modulation = (num_scalars + 1) * outputs + (outputs + 1) * 2 * outputs if num_scalars else 0
        return stencils + 4 * outputs + modulation

    def stage(own: int, joined: int, outputs: int) -> int:
        return block(own + joined, outputs) + (blocks - 1) * block(outputs, outputs) + (own + 1) * outputs

    joined = widths[0] if disentangled else 0
    down = sum(stage(a, joined if level else 0, b) for level, (a, b) in enumerate(pairwise(widths)))
    return down + sum(stage(b, a, a) for a, b in pairwise(widths))
