"""A learnt spectral map on a handful of latent tokens, reached from the points of a patch by attention."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from slipstream.errors import InputError, ShapeError
from slipstream.operators.layers.convolutions import CONVOLUTIONS
from slipstream.operators.layers.pointwise import Pointwise, pointwise


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


def waves(t: Float[Tensor, "..."], frequencies: Float[Tensor, "frequency"]) -> Float[Tensor, "function ..."]:
    """The cosines of all frequencies, then the sines of all but the first, which is zero."""
    angle = frequencies.reshape(-1, *(1,) * t.ndim) * t
    return torch.cat([angle.cos(), angle[1:].sin()])


class TrigonometricMap(nn.Module):
    r"""The same learnt function of one variable for every token, another for every channel: ``t + f_c(t)``.

    .. math:: f_c(t) = \sum_{k=0}^{K-1} a_{ck} \cos(\omega k t) + \sum_{k=1}^{K-1} b_{ck} \sin(\omega k t), \qquad \omega = \pi / K

    Of the 2 K - 1 functions only about :math:`4 \sqrt K` are formed. With k = i J + j, the theorems of addition split every one
    into products of a function of i and a function of j, and the sum becomes a bilinear form in the two families.

    Parameters
    ----------
    channels : of a token.
    basis : K, at least 1. The shortest period is 2 K / (K - 1), about that of tokens between -1 and 1.
    """

    def __init__(self, channels: int, basis: int = 12) -> None:
        super().__init__()
        self.channels, self.basis = channels, basis
        self.coefficients = nn.Parameter(torch.rand(channels, 2 * basis - 1) / channels)

    def _frequencies(self, t: Tensor) -> Float[Tensor, "basis"]:
        return torch.arange(self.basis, dtype=t.dtype, device=t.device) * (math.pi / self.basis)

    def functions(self, t: Float[Tensor, "..."]) -> Float[Tensor, "... function"]:
        """The K cosines and K - 1 sines whose weighted sum f is."""
        return waves(t, self._frequencies(t)).movedim(0, -1)

    def _form(self, fine: int) -> Float[Tensor, "channels coarse_function fine_function"]:
        """The coefficients as those of products: cos(iJ) cos(j), cos(iJ) sin(j), then sin(iJ) cos(j), sin(iJ) sin(j)."""
        missing = -self.basis % fine
        a, b = self.coefficients.split([self.basis, self.basis - 1], 1)
        a, b = (F.pad(x, (self.basis - x.shape[1], missing)).unflatten(1, (-1, fine)) for x in (a, b))
        cosines, sines = torch.cat([a, b[..., 1:]], 2), torch.cat([b, -a[..., 1:]], 2)
        return torch.cat([cosines, sines[:, 1:]], 1)

    def forward(self, t: Float[Tensor, "batch channels token"]) -> Float[Tensor, "batch channels token"]:
        fine = math.ceil(math.sqrt(self.basis))
        x, k = t.movedim(1, 0).flatten(1), self._frequencies(t)
        # A matrix for every channel, as long as there are tokens: one batched product, no sum over functions of its own.
        forms = self._form(fine) @ waves(x, k[:fine]).movedim(0, 1)
        f = (waves(x, k[::fine]).movedim(0, 1) * forms).sum(1)
        return t + f.unflatten(1, (t.shape[0], -1)).movedim(0, 1)


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
        # Without a bias: it would raise all scores of a token alike, which softmax does not see.
        self.key = Pointwise(channels, channels, bias=False)
        self.value, self.query = Pointwise(channels, channels), Pointwise(channels, channels)
        self.transition = TrigonometricMap(channels, basis) if transition else None

    def _gathered(self, x: Float[Tensor, "batch channels *space"]) -> tuple[Tensor, Tensor, Tensor]:
        """Of every patch and head: scores of the points (token, point), their values and queries (share, point).

        Tokens are the same in every patch, so a score is linear in the field: tokens and keys make one matrix, applied with the
        others in one product.
        """
        asked = (self.tokens @ self.key.weight.unflatten(0, (self.heads, -1))).flatten(0, 1)
        assert self.value.bias is not None
        assert self.query.bias is not None
        weight = torch.cat([asked, self.value.weight, self.query.weight])
        bias = torch.cat([asked.new_zeros(len(asked), 1), self.value.bias, self.query.bias])
        every = split(pointwise(x, weight, bias), self.patch)
        sizes = [len(asked), self.channels, self.channels]
        scores, values, queries = (part.unflatten(1, (self.heads, -1)) for part in every.split(sizes, 1))
        return scores, values, queries

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
        scores, values, queries = self._gathered(x)
        # Attention written out, without the usual scale: its matrices are tiny, and the fused kernels have neither second derivatives
        # nor forward ones. Channels come first, as in fields.
        latent = self.tokens.mT + values @ scores.softmax(-1).mT
        if self.transition is not None:
            latent = self.transition(latent.flatten(1, 2)).unflatten(1, (self.heads, -1))
        answer = latent @ (latent.mT @ queries).softmax(-2)
        return x + join(answer.flatten(1, 2), self.patch, space)
