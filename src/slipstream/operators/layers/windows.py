"""Attention among the tokens of a window, in windows that may be shifted. Tokens have their channels last."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from slipstream.errors import InputError, ShapeError

Attention = Literal["cosine", "product"]

SHARPEST = math.log(100.0)
"""Bound on the logarithm of the learnt sharpness of cosine attention."""
STRONGEST = 16.0
"""Bound on the position bias."""
REACH = 8.0
"""Offsets of a whole window are scaled to so much before their logarithm is taken."""


def fit_window(space: Sequence[int], window: int) -> tuple[int, ...]:
    """Tokens along the edges of the windows that tile a grid of tokens.

    The whole axis where it is no longer than `window`, else the largest divisor of its length that is not longer.

    Raises
    ------
    ShapeError : such a divisor is less than half of `window`, or 1: windows that hardly see each other are no use.
    """
    sizes = []
    for n in space:
        size = n if n <= window else max(k for k in range(1, window + 1) if n % k == 0)
        if size < n and (2 * size < window or size == 1):
            raise ShapeError(
                f"Windows of up to {window} tokens do not tile an axis of {n} tokens (grid of tokens: {tuple(space)}): the largest that "
                f"does has {size}. Use another number of points, patch or window, so that {n} has a divisor of {window} or little less."
            )
        sizes.append(size)
    return tuple(sizes)


def partition(
    x: Float[Tensor, "batch *token channels"], window: Sequence[int]
) -> Float[Tensor, "batch windows tokens channels"]:
    """Cut into windows, in order; `join` puts them together again."""
    d = len(window)
    for axis in range(d, 0, -1):
        x = x.unflatten(axis, (-1, window[axis - 1]))
    x = x.permute(0, *range(1, 2 * d, 2), *range(2, 2 * d + 1, 2), 2 * d + 1)
    return x.flatten(d + 1, 2 * d).flatten(1, d)


def join(
    x: Float[Tensor, "batch windows tokens channels"], window: Sequence[int], space: Sequence[int]
) -> Float[Tensor, "batch *token channels"]:
    """Undo `partition` on a grid of `space` tokens."""
    d = len(window)
    x = x.unflatten(2, list(window)).unflatten(1, [n // w for n, w in zip(space, window, strict=True)])
    x = x.permute(0, *(i for axis in range(1, d + 1) for i in (axis, axis + d)), 2 * d + 1)
    for axis in range(1, d + 1):
        x = x.flatten(axis, axis + 1)
    return x


def _strangers(
    space: tuple[int, ...], window: tuple[int, ...], walls: tuple[int, ...], device: torch.device
) -> Bool[Tensor, "windows tokens tokens"]:
    """Pairs that only the cyclic shift brought together, across the end of an axis.

    `walls` holds the shift along axes with ends and 0 along periodic ones.
    """
    side = np.zeros(space, dtype=np.int64)
    for axis, (n, shift) in enumerate(zip(space, walls, strict=True)):
        shape = [-1 if i == axis else 1 for i in range(len(space))]
        side = side + (np.arange(n) >= n - shift).reshape(shape) * 2**axis
    cut = [part for n, w in zip(space, window, strict=True) for part in (n // w, w)]
    d = len(space)
    side = side.reshape(cut).transpose([*range(0, 2 * d, 2), *range(1, 2 * d, 2)]).reshape(-1, math.prod(window))
    with torch.inference_mode(False):
        return torch.tensor(side[:, :, None] != side[:, None, :], device=device)


def _offsets(
    window: tuple[int, ...], unit: int, dtype: torch.dtype, device: torch.device
) -> tuple[Float[Tensor, "offsets dims"], Int64[Tensor, "tokens tokens"]]:
    """Every offset within a window, log-spaced, and which of them lies between each pair of tokens."""
    axes = np.meshgrid(*(np.arange(1 - w, w) for w in window), indexing="ij")
    scaled = np.stack(axes, -1).reshape(-1, len(window)) * (REACH / max(unit - 1, 1))
    spaced = np.sign(scaled) * np.log2(np.abs(scaled) + 1) / np.log2(REACH)
    place = np.stack(np.meshgrid(*(np.arange(w) for w in window), indexing="ij"), -1).reshape(-1, len(window))
    between = place[:, None] - place[None] + np.array(window) - 1
    index = np.ravel_multi_index(tuple(np.moveaxis(between, -1, 0)), [2 * w - 1 for w in window])
    with torch.inference_mode(False):  # a table made under inference mode could never be used in training
        return torch.tensor(spaced, dtype=dtype, device=device), torch.tensor(index, device=device)


_remembered_strangers = lru_cache(maxsize=64)(_strangers)
_remembered_offsets = lru_cache(maxsize=64)(_offsets)
# What `torch.compiler.assume_constant_result` sets; calling it would import the whole compiler with the package.
_strangers._dynamo_marked_constant = True  # type: ignore[attr-defined]
_offsets._dynamo_marked_constant = True  # type: ignore[attr-defined]


class PositionBias(nn.Module):
    """What the offset between two tokens adds to their attention: a small network of log-spaced offsets, so that it has a value for any.

    Offsets are counted in tokens and scaled by the window that the layer was built for, so that the same offset means the same on every
    grid, also where windows are smaller.

    Parameters
    ----------
    heads : of the attention. window : tokens along the edge of the largest window. num_dims : space axes. hidden : of the network.

    References
    ----------
    Liu et al., Swin Transformer V2, CVPR 2022 (arXiv:2111.09883).
    """

    def __init__(self, heads: int, window: int, num_dims: int, hidden: int) -> None:
        super().__init__()
        self.window = window
        self.first = nn.Linear(num_dims, hidden)
        self.second = nn.Linear(hidden, heads, bias=False)

    def forward(self, window: tuple[int, ...]) -> Float[Tensor, "heads tokens tokens"]:
        like = self.first.weight
        build = _offsets if torch.compiler.is_compiling() else _remembered_offsets
        spaced, index = build(window, self.window, like.dtype, like.device)
        bias = STRONGEST * torch.sigmoid(self.second(F.relu(self.first(spaced))))
        return bias.t()[:, index]


class WindowAttention(nn.Module):
    r"""Multi-head attention within the windows of a grid of tokens.

    ``"cosine"``: :math:`\mathrm{softmax}(\cos(q, k) / \tau + B) v`, with a learnt :math:`\tau \ge 0.01` a head; ``"product"``:
    :math:`\mathrm{softmax}(q \cdot k / \sqrt{d} + B) v`. Shifted, the windows lie half a window further along every axis that has more
    than one; along an axis with ends, tokens from either end do not see each other in the window that the shift wraps round.

    Parameters
    ----------
    channels : of a token. heads : divide the channels. window : tokens along the edge of a window, at most; see `fit_window`.
    num_dims : space axes. periodic : which of them have no ends.
    shifted : whether the windows are.
    attention : how tokens are compared.
    position_channels : hidden channels of the position bias; 0 leaves it out.

    References
    ----------
    Liu et al., Swin Transformer V2, CVPR 2022 (arXiv:2111.09883). There every axis has ends.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        window: int,
        periodic: Sequence[bool],
        shifted: bool = False,
        attention: Attention = "cosine",
        position_channels: int = 512,
    ) -> None:
        super().__init__()
        if channels % heads:
            raise InputError(
                f"WindowAttention got {channels} channels for {heads} heads; the heads must divide the channels."
            )
        if attention not in get_args(Attention):
            raise InputError(f"WindowAttention compares by 'cosine' or 'product', not {attention!r}.")
        self.heads, self.window, self.periodic, self.shifted = heads, window, tuple(periodic), shifted
        self.attention = attention
        bound = 1 / math.sqrt(channels)
        self.weight = nn.Parameter(torch.empty(3 * channels, channels).uniform_(-bound, bound))
        self.query_bias, self.value_bias = nn.Parameter(torch.zeros(channels)), nn.Parameter(torch.zeros(channels))
        self.sharpness = nn.Parameter(torch.full((heads, 1, 1), math.log(10.0))) if attention == "cosine" else None
        dims = len(self.periodic)
        self.bias = PositionBias(heads, window, dims, position_channels) if position_channels else None
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Float[Tensor, "batch *token channels"]) -> Float[Tensor, "batch *token channels"]:
        space = tuple(int(n) for n in x.shape[1:-1])
        window = fit_window(space, self.window)
        shift = [w // 2 if self.shifted and w < n else 0 for n, w in zip(space, window, strict=True)]
        axes = tuple(range(1, len(space) + 1))
        if any(shift):
            x = x.roll([-s for s in shift], axes)
        x = join(self._attend(partition(x, window), window, self._mask(space, window, shift, x)), window, space)
        return x.roll(shift, axes) if any(shift) else x

    def _mask(
        self, space: tuple[int, ...], window: tuple[int, ...], shift: Sequence[int], x: Tensor
    ) -> Bool[Tensor, "windows 1 tokens tokens"] | None:
        walls = tuple(0 if periodic else s for s, periodic in zip(shift, self.periodic, strict=True))
        if not any(walls):
            return None
        build = _strangers if torch.compiler.is_compiling() else _remembered_strangers
        return build(space, window, walls, x.device)[:, None]

    def _attend(self, x: Tensor, window: tuple[int, ...], strangers: Tensor | None) -> Tensor:
        bias = torch.cat([self.query_bias, torch.zeros_like(self.query_bias), self.value_bias])
        q, k, v = F.linear(x, self.weight, bias).unflatten(-1, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)
        if self.sharpness is None:
            q = q / math.sqrt(q.shape[-1])
        else:
            q = F.normalize(q, dim=-1) * self.sharpness.clamp(max=SHARPEST).exp()
            k = F.normalize(k, dim=-1)
        scores = q @ k.transpose(-2, -1)
        if self.bias is not None:
            scores = scores + self.bias(window)
        if strangers is not None:
            scores = scores.masked_fill(strangers, -math.inf)
        return self.out((scores.softmax(-1) @ v).transpose(2, 3).flatten(3))
