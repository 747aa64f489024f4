"""Patches: from points to tokens, from fine tokens to coarse ones, and back. Tokens have their channels last."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from slipstream.operators.layers.convolutions import CONVOLUTIONS, TRANSPOSED
from slipstream.operators.layers.norms import ConditionedLayerNorm
from slipstream.operators.layers.padding import Pad

SEAM = 5
"""Points across the stencil that heals the seams between patches."""


class PatchEmbedding(nn.Module):
    """One token for every block of ``patch`` points an axis: a linear map of all its values, normalised.

    Parameters
    ----------
    in_channels : of the field. channels : of a token. patch : points along the edge of a block.
    num_dims : space axes. num_scalars : conditions of the normalisation.
    """

    def __init__(self, in_channels: int, channels: int, patch: int, num_dims: int, num_scalars: int = 0) -> None:
        super().__init__()
        self.projection = CONVOLUTIONS[num_dims](in_channels, channels, patch, stride=patch)
        self.norm = ConditionedLayerNorm(channels, num_scalars)

    def forward(
        self, x: Float[Tensor, "batch in_channels *space"], scalars: Float[Tensor, "batch num_scalars"] | None = None
    ) -> Float[Tensor, "batch *token channels"]:
        return self.norm(self.projection(x).movedim(1, -1), scalars)


class PatchRecovery(nn.Module):
    """The field of such tokens: every token fills its block, then one stencil heals the seams between blocks.

    Parameters
    ----------
    channels : of a token. out_channels : of the field. patch : points along the edge of a block.
    pad : what lies beyond the ends.
    """

    def __init__(self, channels: int, out_channels: int, patch: int, pad: Pad) -> None:
        super().__init__()
        self.pad = pad
        self.projection = TRANSPOSED[pad.num_dims](channels, out_channels, patch, stride=patch)
        conv, zeros = CONVOLUTIONS[pad.num_dims], pad.zeros(SEAM // 2)
        self.heal = conv(out_channels, out_channels, SEAM, padding=zeros, bias=False)  # type: ignore[arg-type]

    def forward(self, x: Float[Tensor, "batch *token channels"]) -> Float[Tensor, "batch out_channels *space"]:
        return self.heal(self.pad.around(self.projection(x.movedim(-1, 1)), SEAM // 2))


class PatchMerging(nn.Module):
    """Two tokens an axis become one of twice the width: joined, mapped linearly, normalised.

    Parameters
    ----------
    channels : of a token. num_dims : space axes. num_scalars : conditions of the normalisation.
    """

    def __init__(self, channels: int, num_dims: int, num_scalars: int = 0) -> None:
        super().__init__()
        self.num_dims = num_dims
        self.reduction = nn.Linear(2**num_dims * channels, 2 * channels, bias=False)
        self.norm = ConditionedLayerNorm(2 * channels, num_scalars)

    def forward(
        self, x: Float[Tensor, "batch *token channels"], scalars: Float[Tensor, "batch num_scalars"] | None = None
    ) -> Float[Tensor, "batch *coarse wide"]:
        for axis in range(self.num_dims, 0, -1):
            x = x.unflatten(axis, (-1, 2))
        d = self.num_dims
        x = x.permute(0, *range(1, 2 * d, 2), *range(2, 2 * d + 1, 2), 2 * d + 1).flatten(d + 1)
        return self.norm(self.reduction(x), scalars)


class PatchExpansion(nn.Module):
    """Undoes the shape of `PatchMerging`: one token becomes two an axis of half the width, normalised, mixed linearly.

    Parameters
    ----------
    channels : of a token that comes in, an even number. num_dims, num_scalars : as in `PatchMerging`.
    """

    def __init__(self, channels: int, num_dims: int, num_scalars: int = 0) -> None:
        super().__init__()
        self.num_dims = num_dims
        self.expansion = nn.Linear(channels, 2**num_dims * (channels // 2), bias=False)
        self.norm = ConditionedLayerNorm(channels // 2, num_scalars)
        self.mix = nn.Linear(channels // 2, channels // 2, bias=False)

    def forward(
        self, x: Float[Tensor, "batch *token channels"], scalars: Float[Tensor, "batch num_scalars"] | None = None
    ) -> Float[Tensor, "batch *fine narrow"]:
        d = self.num_dims
        x = self.expansion(x).unflatten(-1, (*(2,) * d, -1))
        order = [i for axis in range(1, d + 1) for i in (axis, axis + d)]
        x = x.permute(0, *order, 2 * d + 1)
        for axis in range(1, d + 1):
            x = x.flatten(axis, axis + 1)
        return self.mix(self.norm(x, scalars))


class DropPath(nn.Module):
    """Leaves out a branch for some samples while training, at random, and scales up the others to keep the mean.

    Parameters
    ----------
    rate : share of samples that go without, at least 0 and below 1.

    References
    ----------
    Huang et al., Deep Networks with Stochastic Depth, ECCV 2016 (arXiv:1603.09382).
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Float[Tensor, "batch *rest"]) -> Float[Tensor, "batch *rest"]:
        if self.rate == 0.0 or not self.training:
            return x
        stays = torch.rand(x.shape[0], *(1,) * (x.ndim - 1), device=x.device) >= self.rate
        return x * stays / (1 - self.rate)
