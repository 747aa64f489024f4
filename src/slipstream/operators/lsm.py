"""Latent spectral models: a U-Net that solves in a few latent tokens on every scale."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from slipstream.errors import InputError
from slipstream.operators.layers import (
    CONVOLUTIONS,
    ChannelMLP,
    Pad,
    Padding,
    Pointwise,
    ResidualBlock,
    check_built,
    check_input,
)
from slipstream.operators.layers.latent import NeuralSpectralBlock
from slipstream.operators.layers.resampling import LINEAR, check_points, enlarge, halve
from slipstream.operators.operator import Operator

LEAST: dict[Padding, int] = {"zero": 1, "periodic": 2, "reflect": 3}
"""Points that the blocks need on the coarsest grid."""


class LSM(Operator):
    """Latent spectral model: U-shaped, with a neural spectral block on every scale's way to the decoder.

    The blocks cut their grid into patches, gather each into a few tokens by attention, move these by a learnt trigonometric map
    and hand them back (see `NeuralSpectralBlock`); the trunk around them joins the scales. The cost is linear in the number of points.

    It knows points, not frequencies: it belongs to the spacing that it was trained on. With periodic padding and without coordinates
    it commutes with shifts by multiples of ``patch * 2 ** levels`` points. Numbers of points must be such multiples along periodic
    axes; an axis with ends is filled up with zeros at its far end and cut back.

    The trunk is built of the residual blocks that `UNet` has, with group normalisation, instead of plain convolutions with batch
    normalisation, whose statistics drift when a network is fed its own output. Points are halved by means instead of maxima, which
    leave kinks in derivatives, and doubled so that shifts survive.

    Good values: 32 to 64 hidden channels, levels such that the coarsest grid is one to four patches.

    Parameters
    ----------
    in_channels, out_channels : channels of the fields.
    num_dims : space axes, 1 to 3.
    hidden_channels : width on the finest grid, a multiple of `heads`; it doubles with every level but the last.
    levels : how many times the grid is halved.
    tokens, basis, patch, heads : of every neural spectral block.
    num_scalars : scalars a sample, which scale and shift every block of the trunk; without effect at initialisation.
    padding : ``"periodic"``, ``"zero"`` or ``"reflect"``, for all axes or one for each.
    coordinates : whether to append the coordinates of the points to the input, from 0 to 1 (excluded along periodic axes).
    latent : whether there are neural spectral blocks; without them it is a U-Net.
    transition : whether these move their tokens by the trigonometric map; without it they are attention alone.

    References
    ----------
    Wu et al., Solving High-Dimensional PDEs with Latent Spectral Models, ICML 2023 (arXiv:2301.12664).
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        num_dims: int = 2,
        hidden_channels: int = 32,
        levels: int = 4,
        tokens: int = 4,
        basis: int = 12,
        patch: int = 4,
        heads: int = 8,
        num_scalars: int = 0,
        padding: Padding | Sequence[Padding] = "periodic",
        coordinates: bool = False,
        latent: bool = True,
        transition: bool = True,
    ) -> None:
        super().__init__()
        check_built(
            self,
            in_channels=in_channels,
            out_channels=out_channels,
            hidden_channels=hidden_channels,
            tokens=tokens,
            basis=basis,
            patch=patch,
            heads=heads,
        )
        if num_dims not in CONVOLUTIONS or levels < 0 or hidden_channels % heads:
            raise InputError(
                f"LSM got num_dims={num_dims}, levels={levels}, hidden_channels={hidden_channels}, heads={heads}; expected 1, 2 or 3 "
                "axes, no fewer than 0 levels, and hidden_channels divisible by heads."
            )
        self.in_channels, self.out_channels, self.num_dims = in_channels, out_channels, num_dims
        self.hidden_channels, self.levels, self.num_scalars = hidden_channels, levels, num_scalars
        self.tokens, self.basis, self.patch, self.heads = tokens, basis, patch, heads
        self.coordinates, self.latent, self.transition = coordinates, latent, transition
        self.pad = Pad(padding, num_dims)
        width = [hidden_channels * 2 ** min(level, max(levels - 1, 0)) for level in range(levels + 1)]
        self.lifting = Pointwise(in_channels + (num_dims if coordinates else 0), hidden_channels)
        self.enter = ResidualBlock(hidden_channels, hidden_channels, self.pad, num_scalars)
        self.down = nn.ModuleList(ResidualBlock(a, b, self.pad, num_scalars) for a, b in pairwise(width))
        self.up = nn.ModuleList(ResidualBlock(a + b, a, self.pad, num_scalars) for a, b in pairwise(width))
        self.solve = nn.ModuleList(
            NeuralSpectralBlock(w, num_dims, tokens, basis, patch, heads, transition) if latent else nn.Identity()
            for w in width
        )
        self.projection = ChannelMLP(hidden_channels, 2 * hidden_channels, out_channels)

    @property
    def padding(self) -> tuple[Padding, ...]:
        return self.pad.padding

    def forward(
        self, x: Float[Tensor, "batch in_channels *space"], scalars: Float[Tensor, "batch num_scalars"] | None = None
    ) -> Float[Tensor, "batch out_channels *space"]:
        """Fields on a grid that the patches of every level fill, or are made to fill.

        Raises
        ------
        ShapeError : channels, axes, scalars or numbers of points are not what the operator was built for.
        """
        space = tuple(x.shape[2:])
        if not torch.compiler.is_compiling():
            check_input(self, x, scalars, self.in_channels, self.num_dims, self.num_scalars)
        if self.coordinates:
            x = torch.cat([x, _coordinates(x, self.padding)], dim=1)
        x = self._filled_up(self.lifting(x))
        if not torch.compiler.is_compiling():
            because = f"levels={self.levels}, patch={self.patch}"
            least = {kind: -(-n // self.patch) for kind, n in LEAST.items()}
            check_points(self, x, self.padding, self.patch * 2**self.levels, least, because)
        x = self.enter(x, scalars)
        passed = [x]
        for down in self.down:
            passed.append(down(halve(passed[-1]), scalars))
        x = self.solve[-1](passed.pop())
        for up, solve in reversed(list(zip(self.up, self.solve[:-1], strict=True))):
            x = up(torch.cat([solve(passed.pop()), enlarge(x, self.padding, LINEAR)], dim=1), scalars)
        for axis, n in enumerate(space):
            x = x.narrow(axis + 2, 0, n)
        return self.projection(x)

    def _filled_up(self, x: Tensor) -> Tensor:
        factor = self.patch * 2**self.levels
        missing = [0 if k == "periodic" else -n % factor for k, n in zip(self.padding, x.shape[2:], strict=True)]
        return F.pad(x, [w for m in reversed(missing) for w in (0, m)]) if any(missing) else x


def _coordinates(x: Tensor, padding: Sequence[Padding]) -> Float[Tensor, "batch dim *space"]:
    intervals = [n if kind == "periodic" else max(n - 1, 1) for n, kind in zip(x.shape[2:], padding, strict=True)]
    axes = [torch.arange(n, dtype=x.dtype, device=x.device) / i for n, i in zip(x.shape[2:], intervals, strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).expand(x.shape[0], *(-1,) * (x.ndim - 1))
