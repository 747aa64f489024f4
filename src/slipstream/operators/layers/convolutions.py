"""Convolutional blocks on uniform grids of one, two or three axes."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from slipstream.operators.layers.modulation import Modulation
from slipstream.operators.layers.padding import Pad

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
MAX_GROUPS = 8


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation with as many groups as divide the channels evenly, at most eight."""
    return nn.GroupNorm(math.gcd(MAX_GROUPS, channels), channels)


class ResidualBlock(nn.Module):
    """Two convolutions, normalised, modulated by scalars, with a way around: ``gelu(m(norm(conv(gelu(conv(x))))) + skip(x))``.

    The field is padded once, by two points; the normalisation comes after both convolutions, where no padded point is left to
    enter its mean. So periodic padding keeps the block exactly equivariant under shifts.

    Parameters
    ----------
    in_channels, out_channels : channels.
    pad : how to widen the field.
    num_scalars : 0 for none.
    """

    def __init__(self, in_channels: int, out_channels: int, pad: Pad, num_scalars: int = 0) -> None:
        super().__init__()
        conv = CONVOLUTIONS[pad.num_dims]
        self.pad = pad
        self.first = conv(in_channels, out_channels, 3, padding=pad.zeros(2))  # type: ignore[arg-type]
        self.second = conv(out_channels, out_channels, 3, bias=False)
        self.norm = group_norm(out_channels)
        self.modulation = Modulation(num_scalars, out_channels) if num_scalars else None
        self.skip = conv(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(
        self, x: Float[Tensor, "batch in_channels *space"], scalars: Float[Tensor, "batch num_scalars"] | None = None
    ) -> Float[Tensor, "batch out_channels *space"]:
        y = self.norm(self.second(F.gelu(self.first(self.pad.around(x, 2)))))
        if self.modulation is not None and scalars is not None:
            y = self.modulation(y, scalars)
        return F.gelu(y + self.skip(x))
