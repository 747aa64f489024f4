"""Multiresolution: an autoregressive stepper that takes any number of points, and where wished any time step up to a longest one."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.errors import InputError
from slipstream.operators.operator import OperatorFactory
from slipstream.problems.problem import Problem, Statistics
from slipstream.steppers.autoregressive import Autoregressive
from slipstream.steppers.learned import position_channels
from slipstream.trajectories import Parameters


class Multiresolution(Autoregressive):
    """`Autoregressive` on every grid over the problem's box, as far as the operator goes along.

    What multigrid training needs, and what a Fourier operator can do after it: the same weights on more points than it was trained on. On
    the problem's own grid it is `Autoregressive` to the bit.

    With ``longest > 1`` it is continuous in the lead time: ``parameters["lead_time"]`` (batch,), from one to `longest` intervals, is a
    scalar condition of the operator, and the change is scaled to it; frames of history lie as far apart. Without that parameter a call
    jumps one interval.

    Parameters
    ----------
    operator, problem, history, horizon, coordinates, statistics : as in `Autoregressive`.
    longest : lead time that it is told about at most, in intervals; 1 ties it to the interval.

    Raises
    ------
    InputError : lead times outside of its range.
    """

    def __init__(
        self,
        operator: OperatorFactory,
        problem: Problem,
        history: int = 1,
        horizon: int = 1,
        coordinates: bool = True,
        statistics: Statistics | None = None,
        longest: float = 1,
    ) -> None:
        if not (longest >= 1 and math.isfinite(longest)):
            raise InputError(f"Multiresolution jumps at least one interval; got longest={longest}.")
        self.longest = longest
        super().__init__(operator, problem, history, horizon, coordinates, statistics)
        if longest > 1:
            self.lead_times = (self.interval, longest * self.interval)

    @property
    def num_scalars(self) -> int:
        return super().num_scalars + (self.longest > 1)

    def check(self, frames: Tensor) -> None:
        """Refuse frames of the wrong layout or channels; any number of points is right."""
        if frames.ndim != 3 + self.grid.num_dims or frames.shape[2] != len(self.channels):
            super().check(frames)

    def forward(
        self, past: Float[Tensor, "batch time channel *space"], parameters: Parameters
    ) -> Float[Tensor, "batch horizon channel *space"]:
        inputs = [self.normalise(past).flatten(1, 2)]
        if self.coordinates:
            inputs.append(self._here(past).expand(past.shape[0], -1, *past.shape[3:]))
        fields = self.field_channels(parameters, past)
        if fields is not None:
            inputs.append(fields)
        x = torch.cat(inputs, dim=1)
        lead = self._lead(parameters, past)
        scalars = self._with_lead(self.scalars(parameters, past), lead)
        change = self.network(x) if scalars is None else self.network(x, scalars)
        return past[:, -1:] + self._scale(lead) * change.unflatten(1, (self.horizon, -1))

    def _here(self, past: Tensor) -> Float[Tensor, "channel *space"]:
        """Coordinates of the points that the frames have; those of the problem's grid are at hand."""
        if tuple(past.shape[3:]) == self.grid.shape:
            return self.here.to(past)
        return position_channels(self.grid.with_points(list(past.shape[3:]))).to(past)

    def _lead(self, parameters: Parameters, like: Tensor) -> Float[Tensor, " batch"] | None:
        """Lead times in intervals; None where it knows one only."""
        if self.longest == 1:
            return None
        if "lead_time" not in parameters:
            return like.new_ones(len(like))
        lead = parameters["lead_time"].to(like) / self.interval
        if not torch.compiler.is_compiling() and not bool(((lead > 1 - 1e-4) & (lead < self.longest + 1e-4)).all()):
            raise InputError(
                f"Multiresolution was built for lead times from {self.interval:g} to {self.longest * self.interval:g}; got some from "
                f"{float(lead.min()) * self.interval:g} to {float(lead.max()) * self.interval:g}."
            )
        return lead

    def _with_lead(self, scalars: Tensor | None, lead: Tensor | None) -> Float[Tensor, "batch scalar"] | None:
        """The conditions with the logarithm of the lead time among them, in [-1, 1] as all others."""
        if lead is None:
            return scalars
        column = (2 * lead.log() / math.log(self.longest) - 1)[:, None]
        return column if scalars is None else torch.cat([scalars, column], dim=1)

    def _scale(self, lead: Tensor | None) -> Float[Tensor, "batch horizon channel *ones"]:
        """Typical changes from the last known frame."""
        if lead is None:
            return torch.stack([self.jump(k) for k in range(1, self.horizon + 1)])[None]
        times = lead[:, None] * torch.arange(1, self.horizon + 1, device=lead.device)
        times = times.reshape(*times.shape, *[1] * self.increment.ndim)
        return torch.minimum(self.increment * times, self.std * math.sqrt(2))
