"""U-Net: local stencils on a pyramid of grids."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from slipstream.errors import InputError, ShapeError
from slipstream.operators.layers import (
    CONVOLUTIONS,
    TRANSPOSED,
    Pad,
    Padding,
    ResidualBlock,
    check_built,
    check_input,
)
from slipstream.operators.operator import Operator


class UNet(Operator):
    """Residual blocks on ever coarser grids and back, each level joined with its like on the way down.

    It knows points, not frequencies: its stencils are as wide in points on every grid, so it belongs to the spacing that it was
    trained on. With periodic padding it commutes with shifts by multiples of ``2 ** levels`` points. Two-dimensional ones run
    fastest in the channels-last memory format, which they keep.

    Good values: 16 to 64 hidden channels; levels such that the coarsest grid has 4 to 8 points an axis.

    Parameters
    ----------
    in_channels, out_channels : channels of the fields.
    num_dims : space axes, 1 to 3.
    hidden_channels : width on the finest grid; it doubles with every level.
    levels : how many times the grid is halved. Numbers of points must be divisible by ``2 ** levels``.
    num_scalars : scalars a sample, which scale and shift every block; without effect at initialisation.
    padding : ``"periodic"``, ``"zero"`` or ``"reflect"``, for all axes or one for each.
    output_scale : factor on the last layer's initial weights; near 0 the output starts near 0, as suits steppers that add it to
        their input.

    References
    ----------
    Ronneberger et al., MICCAI 2015 (arXiv:1505.04597); the blocks as in Gupta & Brandstetter, TMLR 2023 (arXiv:2209.15616).
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        num_dims: int = 2,
        hidden_channels: int = 24,
        levels: int = 3,
        num_scalars: int = 0,
        padding: Padding | Sequence[Padding] = "periodic",
        output_scale: float = 1.0,
    ) -> None:
        super().__init__()
        check_built(self, in_channels=in_channels, out_channels=out_channels, hidden_channels=hidden_channels)
        if num_dims not in CONVOLUTIONS or levels < 0:
            raise InputError(
                f"UNet got num_dims={num_dims}, levels={levels}; expected 1, 2 or 3 axes and no fewer than 0 levels."
            )
        self.in_channels, self.out_channels, self.num_dims = in_channels, out_channels, num_dims
        self.hidden_channels, self.levels, self.num_scalars = hidden_channels, levels, num_scalars
        self.output_scale = output_scale
        self.pad = Pad(padding, num_dims)
        conv, transposed = CONVOLUTIONS[num_dims], TRANSPOSED[num_dims]
        width = [hidden_channels * 2**level for level in range(levels + 1)]

        def block(inputs: int, outputs: int) -> ResidualBlock:
            return ResidualBlock(inputs, outputs, self.pad, num_scalars)

        self.enter = block(in_channels, width[0])
        self.shrink = nn.ModuleList(conv(w, w, 2, stride=2) for w in width[:-1])
        self.down = nn.ModuleList(block(a, b) for a, b in pairwise(width))
        self.grow = nn.ModuleList(transposed(b, a, 2, stride=2) for a, b in pairwise(width))
        self.up = nn.ModuleList(block(2 * w, w) for w in width[:-1])
        self.leave = conv(width[0], out_channels, 1)
        with torch.no_grad():
            for parameter in self.leave.parameters():
                parameter.mul_(output_scale)

    @property
    def padding(self) -> tuple[Padding, ...]:
        return self.pad.padding

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
            self._check_points(x)
        x = self.enter(x, scalars)
        passed = []
        for shrink, down in zip(self.shrink, self.down, strict=True):
            passed.append(x)
            x = down(shrink(x), scalars)
        for grow, up in zip(reversed(self.grow), reversed(self.up), strict=True):
            x = up(torch.cat([passed.pop(), grow(x)], dim=1), scalars)
        return self.leave(x)

    def _check_points(self, x: Tensor) -> None:
        factor = 2**self.levels
        for kind, n in zip(self.padding, x.shape[2:], strict=True):
            least = factor * {"zero": 1, "periodic": 2, "reflect": 3}[kind]
            if n % factor or n < least:
                raise ShapeError(
                    f"UNet with levels={self.levels} and {kind} padding expects multiples of {factor} points along an axis, "
                    f"at least {least}; got {tuple(x.shape)}. Resample the field or build it with fewer levels."
                )
