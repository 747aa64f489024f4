"""DirectionNet: a pyramid of residual convolutions that guesses the inverse of an elliptic operator, up to a factor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from slipstream.errors import InputError, ShapeError
from slipstream.operators.layers import CONVOLUTIONS, Modulation, Pad, Padding, check_built, check_input
from slipstream.operators.operator import Operator

POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}

BEGIN = 0.1
"""Factor on the initial weights of a block's last convolution: blocks start near the identity."""


class DirectionBlock(nn.Module):
    """``x + conv(g * s(conv(s(x))))``, s a rectifier or nothing, g what the conditions say at every point; scalars scale the result."""

    def __init__(self, channels: int, pad: Pad, linear: bool, bias: bool, num_scalars: int) -> None:
        super().__init__()
        conv = CONVOLUTIONS[pad.num_dims]
        self.pad, self.bend = pad, nn.Identity() if linear else nn.ReLU()
        self.first, self.second = (conv(channels, channels, 3, bias=bias) for _ in range(2))
        self.modulation = Modulation(num_scalars, channels) if num_scalars else None

    def forward(self, x: Tensor, gate: Tensor | None, scalars: Tensor | None) -> Tensor:
        y = self.bend(self.first(self.pad(self.bend(x), 1)))
        y = self.second(self.pad(y if gate is None else y * gate, 1))
        if self.modulation is not None and scalars is not None:
            y = self.modulation(y, scalars)
        return x + y


class DirectionNet(Operator):
    r"""Residual in, search direction out: convolutions on a grid and on its halvings, for `slipstream.solvers.linear.DCDM`.

    What a level has from the next coarser one is added to its own features, residual blocks follow, and so on up to the full grid.
    There are two ways to wire it:

    - ``levels=1, shared=False, linear=False, bias=True`` is the network of Kaneda et al. (2023), but for linear interpolation in place of
      copies: features go down, every level has weights of its own, and it sees some thirty points far, whatever the grid.
    - with `shared`, every level starts from the mean of the residual over its cells and all have the same weights, so that with
      ``levels=None`` a larger grid gets more levels. The inverse of a Laplacian looks the same at every scale: what was learnt
      on one grid serves on a larger one, and all of it is seen.

    Without `bias` it is homogeneous, :math:`f(c\,r) = c f(r)` for c > 0; `linear`, it is a linear map of the residual whose coefficients
    depend on the conditions, which is what the inverse of a matrix is, and learns much sooner.

    Good values: 16 channels; the paper's wiring only where the grid at work is the one in training.

    Parameters
    ----------
    in_channels, out_channels : channels of the fields; the last `conditions` of `in_channels` are conditions.
    num_dims : space axes, 1 to 3.
    hidden_channels : width, the same on every level.
    levels : how many times the grid is halved; None halves while every axis is even and has more than four points.
    blocks : residual blocks before a halving, on the coarsest level, and after what comes back was added.
    shared : whether levels have the same weights, and start from the residual.
    linear : without rectifiers.
    bias : whether convolutions of the fields have biases.
    conditions : channels that describe the system and not the residual (cells, walls). They multiply the features of every block, so
        that homogeneity stays.
    num_scalars : scalars a sample, which scale and shift every block; without effect at initialisation.
    padding : ``"zero"``, ``"reflect"`` or ``"periodic"``, for all axes or one for each.

    References
    ----------
    Kaneda et al., A Deep Conjugate Direction Method for Iteratively Solving Linear Systems, ICML 2023 (arXiv:2205.10763).
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        num_dims: int = 2,
        hidden_channels: int = 16,
        levels: int | None = None,
        blocks: Sequence[int] = (1, 3, 2),
        shared: bool = True,
        linear: bool = True,
        bias: bool = False,
        conditions: int = 0,
        num_scalars: int = 0,
        padding: Padding | Sequence[Padding] = "zero",
    ) -> None:
        super().__init__()
        check_built(self, in_channels=in_channels, out_channels=out_channels, hidden_channels=hidden_channels)
        if num_dims not in CONVOLUTIONS or (levels is not None and levels < 0) or not 0 <= conditions < in_channels:
            raise InputError(
                f"DirectionNet got num_dims={num_dims}, levels={levels}, conditions={conditions} of {in_channels} channels; expected "
                "1 to 3 axes, 0 levels or more, and at least one channel that is no condition."
            )
        if len(blocks) != 3 or min(blocks) < 0:
            raise InputError(f"blocks are three numbers, before, coarsest and after; got {tuple(blocks)}.")
        if levels is None and not shared:
            raise InputError("Levels with weights of their own must be counted: give levels=, or shared=True.")
        self.in_channels, self.out_channels, self.num_dims = in_channels, out_channels, num_dims
        self.hidden_channels, self.levels, self.blocks, self.shared = hidden_channels, levels, tuple(blocks), shared
        self.linear, self.bias, self.conditions, self.num_scalars = linear, bias, conditions, num_scalars
        self.pad = Pad(padding, num_dims)
        conv = CONVOLUTIONS[num_dims]
        width, stacks = hidden_channels, 1 if levels is None or shared else levels

        def stack(count: int) -> nn.ModuleList:
            return nn.ModuleList(DirectionBlock(width, self.pad, linear, bias, num_scalars) for _ in range(count))

        halved = levels != 0
        self.enter = conv(in_channels - conditions, width, 3, bias=bias)
        self.before = nn.ModuleList(stack(self.blocks[0]) for _ in range(stacks if halved else 0))
        self.coarsest = stack(self.blocks[1])
        self.join = nn.ModuleList(conv(width, width, 1, bias=False) for _ in range(stacks if halved else 0))
        self.after = nn.ModuleList(stack(self.blocks[2]) for _ in range(stacks if halved else 0))
        self.gate = conv(conditions, width, 3) if conditions else None
        self.leave = conv(width, out_channels, 1, bias=bias)
        with torch.no_grad():
            self._start()

    def _start(self) -> None:
        """Blocks that change nothing, and what comes back from a grid of twice the spacing counted four times, as in an inverse
        Laplacian: training starts from the additive multilevel preconditioner of Bramble, Pasciak & Xu (1990), up to noise."""
        fields = self.in_channels - self.conditions
        for c in range(self.hidden_channels):
            self.enter.weight[(c, c % fields, *[1] * self.num_dims)] += 1.0
            self.leave.weight[:, c] += 1.0 / self.hidden_channels
        for join in self.join:
            nn.init.dirac_(join.get_parameter("weight")).mul_(4.0)
        for module in self.modules():
            if isinstance(module, DirectionBlock):
                module.second.weight.mul_(BEGIN)
        if self.gate is not None:
            self.gate.weight.mul_(0.1)

    @property
    def padding(self) -> tuple[Padding, ...]:
        return self.pad.padding

    def forward(
        self, x: Float[Tensor, "batch in_channels *space"], scalars: Float[Tensor, "batch num_scalars"] | None = None
    ) -> Float[Tensor, "batch out_channels *space"]:
        """Fields whose numbers of points can be halved `levels` times.

        Raises
        ------
        ShapeError : channels, axes, scalars or numbers of points are not what the operator was built for.
        """
        if not torch.compiler.is_compiling():
            check_input(self, x, scalars, self.in_channels, self.num_dims, self.num_scalars)
            self._check_points(x)
        fields = self.in_channels - self.conditions
        r = x[:, :fields]
        y = r if self.shared else self.enter(self.pad(r, 1))
        return self.leave(self._level(y, x[:, fields:], scalars, 0))

    def _level(self, x: Tensor, conditions: Tensor, scalars: Tensor | None, level: int) -> Tensor:
        gate = None if self.gate is None else 1 + self.gate(self.pad(conditions, 1))
        y = self.enter(self.pad(x, 1)) if self.shared else x
        if not self._halves(x, level):
            return self._through(self.coarsest, y, gate, scalars)
        own = 0 if self.shared else level
        y = self._through(self.before[own], y, gate, scalars)
        pool = POOL[self.num_dims]
        below = pool(conditions, 2) if self.conditions else conditions
        coarse = self._level(pool(x if self.shared else y, 2), below, scalars, level + 1)
        x = y + self._finer(self.join[own](coarse))
        return self._through(self.after[own], x, gate, scalars)

    def _finer(self, x: Tensor) -> Tensor:
        """Linear interpolation between cell centres; beyond the ends lies what the padding says."""
        wide = F.interpolate(self.pad(x, 1), scale_factor=2.0, mode=LINEAR[self.num_dims], align_corners=False)
        for axis in range(2, x.ndim):
            wide = wide.narrow(axis, 2, 2 * x.shape[axis])
        return wide

    def _halves(self, x: Tensor, level: int) -> bool:
        if self.levels is not None:
            return level < self.levels
        return all(n % 2 == 0 and n > 4 for n in x.shape[2:])

    @staticmethod
    def _through(stack: nn.Module, x: Tensor, gate: Tensor | None, scalars: Tensor | None) -> Tensor:
        for block in stack.children():
            x = block(x, gate, scalars)
        return x

    def _check_points(self, x: Tensor) -> None:
        factor = 2 ** (self.levels or 0)
        if any(n % factor for n in x.shape[2:]):
            raise ShapeError(
                f"DirectionNet with levels={self.levels} expects multiples of {factor} points along an axis; got {tuple(x.shape)}. "
                "Build it with fewer levels, or with levels=None, which halves as often as the grid allows."
            )
