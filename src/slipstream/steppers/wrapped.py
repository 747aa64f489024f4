"""Steppers made elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from slipstream.channels import Channel, as_channels
from slipstream.errors import ShapeError
from slipstream.grids import Grid
from slipstream.stepper import Stepper
from slipstream.trajectories import Parameters


class Wrapped(Stepper):
    """Any callable as a stepper; see `wrap`. It cannot be saved: its code is not ours."""

    def __init__(
        self,
        call: Callable,
        interval: float,
        channels: Sequence[Channel | str] | None,
        history: int,
        horizon: int,
        grid: Grid | None,
    ) -> None:
        super().__init__()
        self.call = call  # a module registers its parameters here
        self.interval, self.history, self.horizon, self.grid = float(interval), history, horizon, grid
        self.channels = None if channels is None else as_channels(channels)

    def forward(
        self, past: Float[Tensor, "batch time channel *space"], parameters: Parameters
    ) -> Float[Tensor, "batch horizon channel *space"]:
        x = past[:, 0] if self.history == 1 else past
        y = self.call(x)
        y = torch.as_tensor(y).to(past) if not isinstance(y, Tensor) else y
        if y.ndim == past.ndim - 1 and self.horizon == 1:
            y = y[:, None]
        expected = (past.shape[0], self.horizon, *past.shape[2:])
        if tuple(y.shape) != expected:
            raise ShapeError(
                f"The wrapped callable returned shape {tuple(y.shape)} for an input of shape {tuple(x.shape)}; "
                f"expected {expected[:1] + expected[2:] if self.horizon == 1 else expected}."
            )
        return y


def wrap(
    call: Callable,
    interval: float,
    channels: Sequence[Channel | str] | None = None,
    history: int = 1,
    horizon: int = 1,
    grid: Grid | None = None,
) -> Stepper:
    """A model made elsewhere as a stepper, to be rolled out, verified and compared like any other.

    Parameters
    ----------
    call : fields (batch, channel, *space) to the next ones, in physical units; with ``history > 1`` it is given (batch, history,
        channel, *space), with ``horizon > 1`` it returns (batch, horizon, channel, *space). A module is put into evaluation mode.
    interval : time it jumps a frame. channels : names of its channels. grid : the only grid it takes; None for any.
    """
    if isinstance(call, nn.Module):
        call.eval()
    return Wrapped(call, interval, channels, history, horizon, grid)
