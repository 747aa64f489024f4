"""Space-time operators for callers that keep frames in the channels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.errors import InputError
from slipstream.operators.layers import check_built, check_input
from slipstream.operators.operator import Operator
from slipstream.operators.space_time_fno import SpaceTimeFNO


class Folded(Operator):
    """An operator on frames stacked in the channels, made of one whose last axis is time.

    What lets a stepper with a history and a horizon use `SpaceTimeFNO`: it calls with (batch, history x channel + more, \\*space), oldest
    frame first, where `more` are channels that do not change in time (coordinates, parameter fields), and gets
    (batch, horizon x channel, \\*space). For steppers that add the output to the last frame themselves, build the operator with
    ``residual=False``.

    Parameters
    ----------
    operator : factory of the space-time operator, for example ``partial(SpaceTimeFNO, n_modes=(16, 16, 8), residual=False)``.
    history, horizon : frames in and out.
    in_channels, out_channels : of the stacks. `out_channels` is a multiple of `horizon`; what `in_channels` exceeds `history` frames by
        are the channels that do not change in time.
    num_dims : space axes, without time.
    num_scalars : scalars a sample, handed on.
    """

    def __init__(
        self,
        operator: Callable[..., SpaceTimeFNO],
        history: int = 1,
        horizon: int = 1,
        in_channels: int = 1,
        out_channels: int = 1,
        num_dims: int = 2,
        num_scalars: int = 0,
    ) -> None:
        super().__init__()
        check_built(self, history=history, horizon=horizon, in_channels=in_channels, out_channels=out_channels)
        channels, rest = divmod(out_channels, horizon)
        fixed = in_channels - history * channels
        if rest or fixed < 0:
            raise InputError(
                f"Folded got in_channels={in_channels}, out_channels={out_channels} for history={history}, horizon={horizon}; expected "
                "out_channels = horizon x channels, and in_channels of at least history x channels."
            )
        self.operator, self.history, self.horizon = operator, history, horizon
        self.in_channels, self.out_channels, self.num_dims = in_channels, out_channels, num_dims
        self.num_scalars = num_scalars
        self.inner = operator(
            in_channels=channels + fixed, out_channels=channels, num_dims=num_dims + 1, num_scalars=num_scalars
        )

    def forward(
        self, x: Float[Tensor, "batch in_channels *space"], scalars: Float[Tensor, "batch num_scalars"] | None = None
    ) -> Float[Tensor, "batch out_channels *space"]:
        """Fields on any grid that the operator within accepts.

        Raises
        ------
        ShapeError : channels, axes or scalars are not those that the operator was built for.
        """
        if not torch.compiler.is_compiling():
            check_input(self, x, scalars, self.in_channels, self.num_dims, self.num_scalars)
        moving = self.history * (self.out_channels // self.horizon)
        frames = x[:, :moving].unflatten(1, (self.history, -1)).movedim(1, -1)
        fixed = x[:, moving:, ..., None].expand(*(-1,) * (x.ndim), self.history)
        y = self.inner(torch.cat([frames, fixed], 1), scalars, self.horizon)
        return y.movedim(-1, 1).flatten(1, 2)
