"""CycleNet: a multigrid cycle whose smoothers are learnt, for systems whose couplings it is told."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from slipstream.errors import InputError
from slipstream.operators.layers import CONVOLUTIONS, Pad, Padding, check_built, check_input
from slipstream.operators.layers.couplings import POOL, Couplings
from slipstream.operators.operator import Operator

DAMPING = 0.7
"""What a smoother adds of the residual at first."""

BEGIN = 0.1
"""Factor on initial weights beside those of a multigrid cycle."""


class Smoother(nn.Module):
    """``y + a r + conv(g * s(conv(r)))`` with the residual ``r = D^-1 (f - A y)`` of every feature, D the diagonal of A, s a rectifier or
    nothing, and g what the couplings say at every point; nothing outside the cells that take part."""

    def __init__(self, channels: int, pad: Pad, linear: bool) -> None:
        super().__init__()
        conv = CONVOLUTIONS[pad.num_dims]
        self.pad, self.bend = pad, nn.Identity() if linear else nn.ReLU()
        self.damping = nn.Parameter(torch.full((channels, *[1] * pad.num_dims), DAMPING))
        self.first, self.second = (conv(channels, channels, 3, bias=False) for _ in range(2))

    def forward(self, y: Tensor, f: Tensor, gate: Tensor, system: Couplings) -> Tensor:
        r = (f - system(y)) * system.inverse
        more = self.second(self.pad(self.bend(self.first(self.pad(r, 1))) * gate, 1))
        return y + (self.damping * r + more) * system.cells


class CycleNet(Operator):
    r"""Residual and couplings in, search direction out, for `slipstream.solvers.linear.DCDM`.

    The residual is averaged on halved grids; from the coarsest one up, features are interpolated, and smoothers correct them by
    convolutions of what the system of that level still leaves. Interpolation and systems know walls, obstacles and coefficients
    (`Couplings`); the smoothers, which are learnt, are the same on all levels, so a larger grid gets more levels and no more weights.

    It starts as a multigrid cycle with damped Jacobi smoothing, up to noise. It is homogeneous in the residual, and `linear`, it is a
    linear map of it, as the inverse of a matrix is.

    Good values: 16 channels; for Poisson's equation with obstacles, a minute or two of training on grids of 16 to 64 points an axis.
    Numbers of points with many factors of two: the coarsest grid is solved by smoothing alone.

    Parameters
    ----------
    in_channels : ``2 + 2 * num_dims``: the residual and what `Couplings` takes, as `DCDM` gives it.
    out_channels, num_dims : of the answer; space axes, 1 to 3.
    hidden_channels : width, the same on every level.
    smoothings, coarsest : smoothers on every level but the coarsest, and there.
    linear : without rectifiers.
    padding : ``"zero"``, ``"reflect"`` or ``"periodic"`` for the convolutions, for all axes or one for each.

    Raises
    ------
    InputError : numbers out of range.

    References
    ----------
    Greenfeld et al., Learning to Optimize Multigrid PDE Solvers, ICML 2019, who learn the interpolation; here it is the smoothers.
    """

    def __init__(
        self,
        in_channels: int = 6,
        out_channels: int = 1,
        num_dims: int = 2,
        hidden_channels: int = 16,
        smoothings: int = 1,
        coarsest: int = 2,
        linear: bool = True,
        padding: Padding | tuple[Padding, ...] = "zero",
    ) -> None:
        super().__init__()
        check_built(
            self,
            out_channels=out_channels,
            hidden_channels=hidden_channels,
            smoothings=smoothings,
            coarsest=coarsest,
        )
        if num_dims not in CONVOLUTIONS or in_channels != 2 + 2 * num_dims:
            raise InputError(
                f"CycleNet takes the residual, 2 couplings an axis and the excess: {2 + 2 * num_dims} channels in {num_dims} "
                f"dimensions, of which there may be 1 to 3; got in_channels={in_channels}."
            )
        self.in_channels, self.out_channels, self.num_dims = in_channels, out_channels, num_dims
        self.hidden_channels, self.smoothings, self.coarsest, self.linear = (
            hidden_channels,
            smoothings,
            coarsest,
            linear,
        )
        self.pad = Pad(padding, num_dims)
        conv, width = CONVOLUTIONS[num_dims], hidden_channels
        self.enter = conv(1, width, 3, bias=False)
        self.gate = conv(in_channels - 1, width, 3)
        self.join = conv(width, width, 1, bias=False)
        self.bottom, self.after = (
            nn.ModuleList(Smoother(width, self.pad, linear) for _ in range(count)) for count in (coarsest, smoothings)
        )
        self.leave = conv(width, out_channels, 1, bias=False)
        with torch.no_grad():
            self._start()

    def _start(self) -> None:
        for layer in (self.enter, self.leave, self.gate):
            layer.get_parameter("weight").mul_(BEGIN)
        self.enter.weight.flatten(2)[:, 0, 3**self.num_dims // 2] += 1.0  # the centre
        self.leave.weight += 1.0 / self.hidden_channels
        nn.init.dirac_(self.join.get_parameter("weight")).mul_(4.0)  # twice the spacing, four times the inverse
        for module in self.modules():
            if isinstance(module, Smoother):
                module.second.weight.mul_(BEGIN)

    @property
    def padding(self) -> tuple[Padding, ...]:
        return self.pad.padding

    def forward(self, x: Float[Tensor, "batch in_channels *space"]) -> Float[Tensor, "batch out_channels *space"]:
        """Raises ShapeError : channels or axes are not what the operator was built for."""
        if not torch.compiler.is_compiling():
            check_input(self, x, None, self.in_channels, self.num_dims, 0)
        return self.leave(self._level(x[:, :1], Couplings(x[:, 1:])))

    def _level(self, r: Tensor, system: Couplings) -> Tensor:
        gate = 1 + self.gate(self.pad(system.channels, 1))
        f = self.enter(self.pad(r, 1)) * system.cells
        if all(n % 2 == 0 and n > 4 for n in r.shape[2:]):
            below = system.coarser()
            coarse = self._level(POOL[self.num_dims](r, 2), below)
            y, smoothers = below.finer(self.join(coarse)) * system.cells, self.after
        else:
            y, smoothers = f * system.inverse, self.bottom
        for smoother in smoothers:
            y = smoother(y, f, gate, system)
        return y
