"""What learnt steppers share: normalisation inside, physical units outside, conditions from parameters."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.channels import Channel
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.problems.problem import Problem, Statistics
from slipstream.stepper import Stepper
from slipstream.trajectories import Parameters


class LearnedStepper(Stepper):
    """A stepper whose maps are operators.

    Parameters
    ----------
    problem : gives grid, interval, channels, conditions, and starting frames by its classical solver.
    statistics : typical sizes for normalisation; the problem's own where None.
    """

    problem: Problem
    statistics: Statistics
    grid: Grid
    channels: tuple[Channel, ...]
    mean: Tensor
    std: Tensor
    increment: Tensor

    def __init__(self, problem: Problem, statistics: Statistics | None = None) -> None:
        super().__init__()
        self.problem = problem
        self.statistics = statistics if statistics is not None else problem.statistics
        self.interval, self.channels, self.grid = problem.interval, problem.channels, problem.grid
        self.starter = problem.starter if problem.solvable else None
        shape = [len(self.channels)] + [1] * self.grid.num_dims
        self.register_buffer("mean", torch.tensor(self.statistics.mean).reshape(shape))
        self.register_buffer("std", torch.tensor(self.statistics.std).clamp(min=1e-12).reshape(shape))
        self.register_buffer("increment", torch.tensor(self.statistics.increment).clamp(min=1e-12).reshape(shape))

    @property
    def num_scalars(self) -> int:
        """How many scalar conditions operators are given."""
        return len(self.problem.varying)

    def normalise(self, frames: Float[Tensor, "*batch channel_and_space"]) -> Tensor:
        """Mean 0, standard deviation 1, channel by channel."""
        return (frames - self.mean) / self.std

    def jump(self, intervals: int) -> Tensor:
        """Typical change over some intervals: ballistic at first, never more than between two unrelated states."""
        return torch.minimum(self.increment * intervals, self.std * math.sqrt(2))

    def scalars(self, parameters: Parameters, like: Tensor) -> Float[Tensor, "batch scalar"] | None:
        """Scalar conditions, each in [-1, 1] over the problem's range (of its logarithm where positive)."""
        if not self.problem.varying:
            return None
        columns = []
        for name, (low, high) in self.problem.varying.items():
            if name not in parameters:
                raise InputError(
                    f"{type(self).__name__} was built for runs that differ in {name!r}; the parameters given are {sorted(parameters)}."
                )
            value = parameters[name].to(like)
            if low > 0:
                value, low, high = value.log(), math.log(low), math.log(high)
            columns.append(2 * (value - low) / (high - low) - 1)
        return torch.stack(columns, dim=1)

    def field_channels(self, parameters: Parameters, like: Tensor) -> Float[Tensor, "batch field *space"] | None:
        """Field conditions, normalised, one channel each."""
        if not self.problem.fields:
            return None
        columns = []
        for name in self.problem.fields:
            if name not in parameters:
                raise InputError(
                    f"{type(self).__name__} needs the field {name!r}; the parameters given are {sorted(parameters)}."
                )
            mean, std = self.statistics.fields.get(name, (0.0, 1.0))
            columns.append((parameters[name].to(like) - mean) / max(std, 1e-12))
        return torch.stack(columns, dim=1)


def position_channels(grid: Grid) -> Float[Tensor, "channel *space"]:
    """Coordinates that a network may see: sine and cosine along periodic axes, [-1, 1] along others."""
    channels = []
    for axis, values in zip(grid.axes, grid.coordinates(), strict=True):
        phase = (values - axis.start) / axis.extent
        if axis.periodic:
            channels += [torch.sin(2 * math.pi * phase), torch.cos(2 * math.pi * phase)]
        else:
            channels.append(2 * phase - 1)
    return torch.stack(channels) if channels else torch.empty(0)
