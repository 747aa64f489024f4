"""Autoregressive and steady steppers: one operator on the whole grid."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.errors import InputError
from slipstream.operators.operator import OperatorFactory
from slipstream.problems.problem import Problem, Statistics
from slipstream.steppers.learned import LearnedStepper, position_channels
from slipstream.trajectories import Parameters


class Autoregressive(LearnedStepper):
    """The last frames in, the change to the next ones out, again and again.

    Parameters
    ----------
    operator : factory, called with in_channels, out_channels, num_dims, num_scalars.
    problem, statistics : as in `LearnedStepper`.
    history : frames it looks back. horizon : frames a call gives.
    coordinates : whether the operator sees where it is (needed where the problem is not translation invariant).
    """

    def __init__(
        self,
        operator: OperatorFactory,
        problem: Problem,
        history: int = 1,
        horizon: int = 1,
        coordinates: bool = True,
        statistics: Statistics | None = None,
    ) -> None:
        super().__init__(problem, statistics)
        self.operator, self.history, self.horizon, self.coordinates = operator, history, horizon, coordinates
        here = position_channels(problem.grid) if coordinates else torch.empty(0, *self.grid.shape)
        self.register_buffer("here", here, persistent=False)
        channels = len(self.channels)
        self.network = operator(
            in_channels=history * channels + len(problem.fields) + len(here),
            out_channels=horizon * channels,
            num_dims=self.grid.num_dims,
            num_scalars=self.num_scalars,
        )

    here: Tensor

    def forward(
        self, past: Float[Tensor, "batch time channel *space"], parameters: Parameters
    ) -> Float[Tensor, "batch horizon channel *space"]:
        inputs = [self.normalise(past).flatten(1, 2), self.here.to(past).expand(past.shape[0], *self.here.shape)]
        fields = self.field_channels(parameters, past)
        if fields is not None:
            inputs.append(fields)
        scalars = self.scalars(parameters, past)
        x = torch.cat(inputs, dim=1)
        change = self.network(x) if scalars is None else self.network(x, scalars)
        scale = torch.stack([self.jump(k) for k in range(1, self.horizon + 1)])
        return past[:, -1:] + scale * change.unflatten(1, (self.horizon, -1))


class Steady(LearnedStepper):
    """Parameters in, one field out: no past, no time.

    Parameters
    ----------
    operator, problem, coordinates, statistics : as in `Autoregressive`; the problem has field parameters.
    """

    history = 0

    def __init__(
        self,
        operator: OperatorFactory,
        problem: Problem,
        coordinates: bool = True,
        statistics: Statistics | None = None,
    ) -> None:
        super().__init__(problem, statistics)
        self.operator, self.coordinates = operator, coordinates
        self.network = operator(
            in_channels=len(problem.fields) + (len(position_channels(problem.grid)) if coordinates else 0),
            out_channels=len(self.channels),
            num_dims=self.grid.num_dims,
            num_scalars=self.num_scalars,
        )

    def check(self, frames: Tensor) -> None:
        """Steady maps look at parameters alone."""

    def forward(
        self, past: Float[Tensor, "batch time channel *space"], parameters: Parameters
    ) -> Float[Tensor, "batch horizon channel *space2"]:
        x = self.field_channels(parameters, self.mean)
        if x is None:
            raise InputError("Steady needs a problem with field parameters; this one names none (problem.fields).")
        if self.coordinates:
            # Any grid over the same box will do, as far as the operator goes along.
            here = position_channels(self.problem.grid.with_points(list(x.shape[2:])))
            x = torch.cat([x, here.to(x).expand(x.shape[0], *here.shape)], dim=1)
        scalars = self.scalars(parameters, x)
        y = self.network(x) if scalars is None else self.network(x, scalars)
        return (self.mean + self.std * y)[:, None]
