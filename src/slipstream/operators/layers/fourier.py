"""Truncated Fourier transforms of real fields as products with small real matrices.

A Fourier layer keeps few modes of many. Its transform then is a thin matrix, and a matrix product beats a fast transform that
computes every mode and throws most away; besides, it exports everywhere, since nothing in it is complex.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Kept = tuple[tuple[int, int], ...]
"""Per axis the kept frequencies as a half-open range [low, high); the last axis is the halved one, from 0."""


def kept_modes(n_modes: Sequence[int], space: Sequence[int]) -> Kept:
    """The frequencies that both the layer keeps and the grid resolves.

    ``n_modes = 16`` means -8 ... 7 along a full axis and 0 ... 8 along the halved last one. A grid of N points tells -N/2 ... (N-1)/2
    apart; frequencies beyond are left out, never folded onto others.
    """
    full = tuple((-min(m // 2, n // 2), min((m + 1) // 2, (n + 1) // 2)) for m, n in zip(n_modes, space, strict=True))
    return (*full[:-1], (0, min(n_modes[-1] // 2, space[-1] // 2) + 1))


class Tables(NamedTuple):
    """Matrices of one transform pair: `analysis` from the last axis to the first, `synthesis` from the first to the last."""

    analysis: tuple[Float[Tensor, "in out"], ...]
    synthesis: tuple[Float[Tensor, "in out"], ...]


def _matrices(space: tuple[int, ...], kept: Kept) -> tuple[list[np.ndarray], list[np.ndarray]]:
    analysis, synthesis = [], []
    # (re, im) -> rows (re, -im) and (im, re): what a product with weights (re, im) needs to be a complex product.
    spread = np.zeros((2, 2, 2))
    spread[0, 0, 0] = spread[1, 1, 0] = spread[0, 1, 1] = 1.0
    spread[1, 0, 1] = -1.0
    last = len(space) - 1
    for axis, (n, (low, high)) in enumerate(zip(space, kept, strict=True)):
        k, points = np.arange(low, high), np.arange(n)
        angle = 2 * np.pi * (np.outer(points, k) % n) / n
        cos, sin = np.cos(angle), np.sin(angle)
        if axis == last:
            forward = np.stack([cos, -sin], 1)[:, None] / n  # (point, 1, part, mode)
            # A real field has each mode twice, as k and -k, save 0 and, for even n, n/2, which are their own mirror image.
            weight = np.where((k == 0) | (2 * k == n), 1.0, 2.0)
            backward = np.stack([weight * cos, np.where(weight == 1.0, 0.0, -weight * sin)], 1).transpose(1, 2, 0)
        else:
            forward = np.stack([np.stack([cos, -sin], 1), np.stack([sin, cos], 1)], 1) / n  # (point, part, part, mode)
            turn = np.stack([np.stack([cos, sin]), np.stack([-sin, cos])])  # (part, part', point, mode)
            backward = turn.transpose(0, 3, 2, 1)  # (part, mode, point, part')
        if axis == 0:
            forward = np.einsum("nprk,rqc->npqkc", forward, spread)
        analysis.append(forward.reshape(forward.shape[0] * forward.shape[1], -1))
        synthesis.append(backward.reshape(backward.shape[0] * backward.shape[1], -1))
    return analysis[::-1], synthesis


def _build(space: tuple[int, ...], kept: Kept, dtype: torch.dtype, device: torch.device) -> Tables:
    with torch.inference_mode(False):  # a table made under inference mode could never be used in training
        made = [[torch.tensor(m, dtype=dtype, device=device) for m in part] for part in _matrices(space, kept)]
    return Tables(tuple(made[0]), tuple(made[1]))


_remembered = lru_cache(maxsize=64)(_build)
# What `torch.compiler.assume_constant_result` sets; calling it would import the whole compiler with the package.
_build._dynamo_marked_constant = True  # type: ignore[attr-defined]


def tables(space: Sequence[int], kept: Kept, like: Tensor) -> Tables:
    """The matrices for a grid of `space` points; remembered, except while a graph is traced or tensors are not real ones."""
    arguments = (tuple(space), kept, like.dtype, like.device)
    if torch.compiler.is_compiling():
        return _build(*arguments)
    return _remembered(*arguments) if type(like) is Tensor else _build(*arguments)


def analyse(x: Float[Tensor, "batch channel *space"], matrices: Tables) -> Float[Tensor, "modes two_batch two_channel"]:
    """Kept Fourier coefficients, (real, imaginary) rows and columns laid out for a batched product with real weights."""
    dims = x.ndim - 2
    x = (x @ matrices.analysis[0]).unflatten(-1, (2, -1)) if dims > 1 else x @ matrices.analysis[0]
    for step, matrix in enumerate(matrices.analysis[1:], start=1):
        # (batch, channel, N_1 .. N_j, kept .., part, K) -> (batch, channel, N_1 .., kept .., K, N_j part)
        j = dims - step + 1
        order = [*range(j), *range(j + 1, x.ndim - 2), x.ndim - 1, j, x.ndim - 2]
        x = x.permute(order).flatten(-2) @ matrix
        if step < dims - 1:
            x = x.unflatten(-1, (2, -1))
    x = x.unflatten(-1, (2, -1, 2))  # (batch, channel, K_d .. K_2, row, K_1, column)
    order = [x.ndim - 2, *range(x.ndim - 4, 1, -1), x.ndim - 3, 0, 1, x.ndim - 1]
    return x.permute(order).flatten(-2).flatten(-3, -2).flatten(0, dims - 1)


def synthesise(
    y: Float[Tensor, "modes two_batch channel"],
    kept: Kept,
    matrices: Tables,
    base: Float[Tensor, "batch channel *space"] | None = None,
) -> Float[Tensor, "batch channel *space"]:
    """The real field of coefficients whose rows are (real, imaginary), batch; added to `base`, in place, if one is given."""
    dims = len(kept)
    y = y.unflatten(1, (2, -1)).unflatten(0, [high - low for low, high in kept])
    part, batch, channel = dims, dims + 1, dims + 2
    y = y.permute(batch, channel, *range(dims - 1, 0, -1), part, 0)  # (batch, channel, K_d .. K_2, part, K_1)
    for done, matrix in enumerate(matrices.synthesis[:-1], start=1):
        y = (y.flatten(-2) @ matrix).unflatten(-1, (-1, 2))  # (batch, channel, N_1 .., K_d .. K_(j+1), N_j, part)
        order = [*range(1 + done), y.ndim - 2, *range(1 + done, y.ndim - 3), y.ndim - 1, y.ndim - 3]
        y = y.permute(order)
    y = y.flatten(-2)
    if base is None:
        return y @ matrices.synthesis[-1]
    base.view(-1, base.shape[-1]).addmm_(y.flatten(0, -2), matrices.synthesis[-1])
    return base
