"""The same small network at every point."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


def pointwise(
    x: Float[Tensor, "batch in_channels *space"],
    weight: Float[Tensor, "out_channels in_channels"],
    bias: Float[Tensor, "out_channels 1"] | None = None,
) -> Float[Tensor, "batch out_channels *space"]:
    """The same linear map of the channels at every point; one matrix product."""
    flat, weight = x.flatten(2), weight.expand(x.shape[0], -1, -1)
    y = torch.bmm(weight, flat) if bias is None else torch.baddbmm(bias, weight, flat)
    return y.unflatten(2, x.shape[2:])


class Pointwise(nn.Module):
    """A linear map of the channels at every point, for any number of space axes; one matrix product.

    Parameters
    ----------
    in_channels, out_channels : channels.
    bias : whether to add one.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        bound = 1 / math.sqrt(in_channels)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(out_channels, 1).uniform_(-bound, bound)) if bias else None

    def forward(self, x: Float[Tensor, "batch in_channels *space"]) -> Float[Tensor, "batch out_channels *space"]:
        return pointwise(x, self.weight, self.bias)


class ChannelMLP(nn.Module):
    """Two pointwise linear maps with GELU between them.

    Parameters
    ----------
    in_channels, hidden_channels, out_channels : channels.
    """

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = Pointwise(in_channels, hidden_channels)
        self.second = Pointwise(hidden_channels, out_channels)

    def forward(self, x: Float[Tensor, "batch in_channels *space"]) -> Float[Tensor, "batch out_channels *space"]:
        return self.second(F.gelu(self.first(x)))
