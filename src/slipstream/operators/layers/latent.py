"""A learnt spectral map on a handful of latent tokens, reached from the points of a patch by attention."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from slipstream.errors import InputError, ShapeError
from slipstream.operators.layers.convolutions import CONVOLUTIONS
from slipstream.operators.layers.pointwise import Pointwise


def split(x: Float[Tensor, "batch channel *space"], patch: int) -> Float[Tensor, "patches channel point"]:
    """The field cut into blocks of ``patch`` points an axis that do not overlap, each an item of the batch."""
    dims = x.ndim - 2
    for axis in range(dims, 0, -1):
        x = x.unflatten(axis + 1, (-1, patch))
    # (batch, channel, N_1, p_1, N_2, p_2 ...) -> (batch, N_1, N_2 .., channel, p_1, p_2 ..)
    x = x.permute(0, *range(2, 2 + 2 * dims, 2), 1, *range(3, 3 + 2 * dims, 2))
    return x.flatten(dims + 2).flatten(0, dims)


def join(
    patches: Float[Tensor, "patches channel point"], patch: int, space: tuple[int, ...]
) -> Float[Tensor, "batch channel *space"]:
    """Undoes `split`."""
    dims = len(space)
    x = patches.unflatten(2, (patch,) * dims).unflatten(0, (-1, *(n // patch for n in space)))
    x = x.permute(0, dims + 1, *(i for axis in range(dims) for i in (1 + axis, dims + 2 + axis)))
    for axis in range(dims):
        x = x.flatten(axis + 2, axis + 3)
    return x


def attend(
    queries: Float[Tensor, "... query width"],
    keys: Float[Tensor, "... key width"],
    values: Float[Tensor, "... key width"],
) -> Float[Tensor, "... query width"]:
    """Attention without the usual scale: ``softmax(Q K^T) V``.

    Written out: its matrices are tiny, and the fused kernels have neither second derivatives nor forward ones.
    """
    return (queries @ keys.mT).softmax(-1) @ values


class TrigonometricMap(nn.Module):
    r"""The same learnt function of one variable for every token, another for every channel: ``t + f_c(t)``.

    .. math:: f_c(t) = \sum_{k=0}^{K-1} a_{ck} \cos(\pi k t / K) + \sum_{k=1}^{K-1} b_{ck} \sin(\pi k t / K)

    Parameters
    ----------
    channels : of a token.
    basis : K, at least 1. The shortest period is 2 K / (K - 1), about that of tokens between -1 and 1.
    """

    def __init__(self, channels: int, basis: int = 12) -> None:
        super().__init__()
        self.channels, self.basis = channels, basis
        self.coefficients = nn.Parameter(torch.rand(channels, 2 * basis - 1) / channels)

    def functions(self, t: Float[Tensor, "..."]) -> Float[Tensor, "... function"]:
        """The K cosines and K - 1 sines; the sine of frequency 0 would be nothing."""
        angle = t[..., None] * (torch.arange(self.basis, dtype=t.dtype, device=t.device) * (math.pi / self.basis))
        return torch.cat([angle.cos(), angle[..., 1:].sin()], -1)

    def forward(self, t: Float[Tensor, "batch channels token"]) -> Float[Tensor, "batch channels token"]:
        return t + torch.einsum("bctk,ck->bct", self.functions(t), self.coefficients)


class NeuralSpectralBlock(nn.Module):
    r"""Solves in a latent space: attention gathers a patch into few tokens, a spectral map moves them, attention hands them back.

    With learnt tokens T and, at every point of a patch, a query, a key and a value linear in the field there:

    .. math:: T' = T + \mathrm{softmax}(T K^\top) V, \qquad T'' = T' + f(T'), \qquad x \leftarrow x + \mathrm{softmax}(Q T''^\top) T''

    The cost is linear in the number of points. Shape is kept, so it fits into any network of fields.

    Parameters
    ----------
    channels : of the field; a multiple of `heads`.
    num_dims : space axes, 1 to 3.
    tokens : latent tokens a patch.
    basis : frequencies of the spectral map (see `TrigonometricMap`).
    patch : points along the edge of a patch; numbers of points must be divisible by it.
    heads : independent attentions, each on its share of the channels.
    transition : whether the tokens are moved by the spectral map; without it attention is all there is.

    References
    ----------
    Wu et al., Solving High-Dimensional PDEs with Latent Spectral Models, ICML 2023 (arXiv:2301.12664).
    """

    def __init__(
        self,
        channels: int,
        num_dims: int = 2,
        tokens: int = 4,
        basis: int = 12,
        patch: int = 4,
        heads: int = 8,
        transition: bool = True,
    ) -> None:
        super().__init__()
        if min(channels, tokens, basis, patch, heads) < 1 or channels % heads or num_dims not in CONVOLUTIONS:
            raise InputError(
                f"NeuralSpectralBlock got channels={channels}, num_dims={num_dims}, tokens={tokens}, basis={basis}, patch={patch}, "
                f"heads={heads}; expected 1 to 3 axes, at least 1 of each, and channels divisible by heads."
            )
        self.channels, self.num_dims, self.heads, self.patch = channels, num_dims, heads, patch
        self.tokens = nn.Parameter(torch.rand(heads, tokens, channels // heads) / channels)
        self.key, self.value, self.query = (Pointwise(channels, channels) for _ in range(3))
        self.transition = TrigonometricMap(channels, basis) if transition else None

    def _heads(self, x: Float[Tensor, "patches channels point"]) -> Float[Tensor, "patches head point share"]:
        return x.unflatten(1, (self.heads, -1)).mT

    def forward(self, x: Float[Tensor, "batch channels *space"]) -> Float[Tensor, "batch channels *space"]:
        """The same field, changed.

        Raises
        ------
        ShapeError : the patches do not fit into the grid.
        """
        space = tuple(x.shape[2:])
        if not torch.compiler.is_compiling() and any(n % self.patch for n in space):
            raise ShapeError(
                f"Patches of {self.patch} points an axis do not fill a grid of {space} points; expected multiples of {self.patch}."
            )
        points = split(x, self.patch)
        latent = self.tokens + attend(self.tokens, self._heads(self.key(points)), self._heads(self.value(points)))
        if self.transition is not None:
            latent = self._heads(self.transition(latent.mT.flatten(1, 2)))
        answer = attend(self._heads(self.query(points)), latent, latent)
        return x + join(answer.mT.flatten(1, 2), self.patch, space)
