"""MgNO: networks whose every linear map is a multigrid cycle."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from slipstream.operators.layers import Modulation, Padding, Pointwise, check_built, check_input
from slipstream.operators.layers.multigrid import Cycle, MultigridConv, Restriction
from slipstream.operators.operator import Operator

FIVE_GRIDS = ((1, 0), (1, 0), (1, 0), (1, 0), (2, 0))


class MultigridBlock(nn.Module):
    """``gelu(modulate(W x + K x + b))`` with a multigrid cycle W and, with `shortcut`, a map K of the channels at every point."""

    def __init__(self, multigrid: MultigridConv, num_scalars: int, shortcut: bool) -> None:
        super().__init__()
        inputs, outputs = multigrid.in_channels, multigrid.out_channels
        self.multigrid = multigrid
        self.shortcut = Pointwise(inputs, outputs, bias=False) if shortcut else None
        bound = 1 / math.sqrt(inputs)
        self.bias = nn.Parameter(torch.empty(outputs, *(1,) * multigrid.num_dims).uniform_(-bound, bound))
        self.modulation = Modulation(num_scalars, outputs) if num_scalars else None

    def forward(
        self, x: Float[Tensor, "batch in_channels *space"], scalars: Float[Tensor, "batch num_scalars"] | None = None
    ) -> Float[Tensor, "batch out_channels *space"]:
        y = self.multigrid(x) + self.bias
        if self.shortcut is not None:
            y = y + self.shortcut(x)
        if self.modulation is not None and scalars is not None:
            y = self.modulation(y, scalars)
        return F.gelu(y)


class MgNO(Operator):
    r"""Multigrid neural operator: a fully connected network of functions, its weights linear operators, its biases functions.

    A layer computes :math:`\sigma(W x + K x + b)` for all its channels at once, W a `MultigridConv`: as wide as the domain for the
    price of a few small stencils, and with the ends of the domain (walls, mirrors, none) built into each of them. There is no
    lifting and no projecting network: the first layer takes the input's channels, a linear map of the last layer's gives the output.

    It knows points, not frequencies: its stencils belong to the spacing that it was trained on. Grids may have any number of points,
    odd ones too, enough for the number of grids in its cycle. With periodic padding it commutes with shifts by
    ``2 ** (len(cycle) - 1)`` points.

    Good values: 16 to 32 hidden channels, 4 or 5 layers, so many grids that the coarsest has one to four points an axis. Padding
    as the walls are: ``"zero"`` where the solution vanishes at them, ``"reflect"`` where its normal derivative does.

    Parameters
    ----------
    in_channels, out_channels : channels of the fields.
    num_dims : space axes, 1 to 3.
    hidden_channels : width.
    n_layers : layers with a nonlinearity.
    cycle, restriction, coarsen, norm : of every layer's cycle, as in `MultigridConv`. One grid makes it a plain convolutional network.
    num_scalars : scalars a sample, which scale and shift every layer; without effect at initialisation.
    padding : ``"periodic"``, ``"zero"`` or ``"reflect"``, for all axes or one for each.
    shortcut : whether to add the map K of channels at every point.

    References
    ----------
    He, Liu & Xu, MgNO: Efficient Parameterization of Linear Operators via Multigrid, ICLR 2024 (arXiv:2310.19809).
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        num_dims: int = 2,
        hidden_channels: int = 24,
        n_layers: int = 4,
        cycle: Cycle = FIVE_GRIDS,
        num_scalars: int = 0,
        padding: Padding | Sequence[Padding] = "periodic",
        restriction: Restriction = "field",
        coarsen: Sequence[Sequence[int]] | None = None,
        norm: bool = False,
        shortcut: bool = True,
    ) -> None:
        super().__init__()
        check_built(
            self, in_channels=in_channels, out_channels=out_channels, hidden_channels=hidden_channels, n_layers=n_layers
        )
        self.in_channels, self.out_channels, self.num_dims = in_channels, out_channels, num_dims
        self.hidden_channels, self.n_layers, self.num_scalars = hidden_channels, n_layers, num_scalars
        self.restriction, self.norm, self.shortcut = restriction, norm, shortcut
        widths = (in_channels, *(hidden_channels,) * (n_layers - 1))
        layers = [
            MultigridConv(width, hidden_channels, num_dims, cycle, padding, restriction, coarsen, norm)
            for width in widths
        ]
        self.cycle, self.coarsen, self.pad = layers[0].cycle, layers[0].coarsen, layers[0].pad
        self.blocks = nn.ModuleList(MultigridBlock(layer, num_scalars, shortcut) for layer in layers)
        self.last = Pointwise(hidden_channels, out_channels, bias=False)

    @property
    def padding(self) -> tuple[Padding, ...]:
        return self.pad.padding

    def forward(
        self, x: Float[Tensor, "batch in_channels *space"], scalars: Float[Tensor, "batch num_scalars"] | None = None
    ) -> Float[Tensor, "batch out_channels *space"]:
        """Fields on a grid with enough points for the cycle.

        Raises
        ------
        ShapeError : channels, axes or scalars are not those that the operator was built for; too few points.
        """
        if not torch.compiler.is_compiling():
            check_input(self, x, scalars, self.in_channels, self.num_dims, self.num_scalars)
        for block in self.blocks:
            x = block(x, scalars)
        return self.last(x)
