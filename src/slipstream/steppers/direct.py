"""Direct: from parameters and time straight to the frame, with nothing in between."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.errors import InputError, ShapeError
from slipstream.operators.operator import OperatorFactory
from slipstream.problems.problem import Problem, Statistics
from slipstream.stepper import State
from slipstream.steppers.learned import LearnedStepper
from slipstream.trajectories import Parameters, Window

LEAD_TIME = "lead_time"


class Direct(LearnedStepper):
    """u(X, t): a network is given the parameters of a run and a time, and says the frame. No error is carried from frame to frame.

    For problems whose parameters decide the whole run, the initial state included. A state is nothing but the time of the last frame: the
    first of the frames that a rollout is given has to be the initial one, time 0, and nothing else of them is looked at.

    Trained by ``objectives.Own()`` on windows of one frame that know their time (`slipstream.data.Ensemble` with ``direct=True``).

    Parameters
    ----------
    operator : factory, called with in_channels (numbers and time), out_channels (all values of a frame), num_dims=0 and num_scalars=0, for
        example `slipstream.operators.MLP`.
    problem, statistics : as in `LearnedStepper`.
    steps : the last frame, counted from the initial one, for which it is trained; a rollout beyond it is refused.

    References
    ----------
    Meyer et al., ICML 2023 (arXiv:2306.16133): its fully connected network.
    """

    history = 1
    loss_frames = (0, 1)

    def __init__(
        self, operator: OperatorFactory, problem: Problem, steps: int = 63, statistics: Statistics | None = None
    ) -> None:
        super().__init__(problem, statistics)
        if steps < 1 or problem.fields or not problem.varying:
            raise InputError(
                f"Direct goes from numbers and time to a frame: it expects steps >= 1 and a problem whose runs differ in numbers alone; "
                f"got steps={steps}, numbers {sorted(problem.varying)} and fields {list(problem.fields)}."
            )
        self.operator, self.steps = operator, steps
        self.network = operator(
            in_channels=self.num_scalars + 1,
            out_channels=len(self.channels) * math.prod(self.grid.shape),
            num_dims=0,
            num_scalars=0,
        )

    def at(self, time: Float[Tensor, " batch"], parameters: Parameters) -> Float[Tensor, "batch channel *space"]:
        """Frames at some times, one a run, in physical units."""
        scalars = self.scalars(parameters, self.mean)
        assert scalars is not None
        clock = 2 * time.to(scalars) / (self.steps * self.interval) - 1
        values = self.network(torch.cat([scalars, clock[:, None]], dim=1))
        return self.mean + self.std * values.unflatten(1, (len(self.channels), *self.grid.shape))

    def loss(self, window: Window, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor], Tensor, Tensor]:
        """Mean square error relative to the spread of the data, as total and part; the frames; and the root of each sample's own error."""
        if LEAD_TIME not in window.parameters or window.frames.shape[1] != 1:
            raise InputError(
                f"Direct learns from windows of one frame with its time as the parameter {LEAD_TIME!r}; got "
                f"{window.frames.shape[1]} frames and the parameters {sorted(window.parameters)}. Ensemble(direct=True) gives such windows."
            )
        found = self.at(window.parameters[LEAD_TIME], window.parameters)
        error = ((found - window.frames[:, 0]) / self.std).square().flatten(1).mean(1)
        return error.mean(), {"data": error.mean().detach()}, found.detach()[:, None], error.detach().sqrt()

    def start(self, frames: Float[Tensor, "batch time channel *space"], parameters: Parameters) -> State:
        self.check(frames)
        if not frames.shape[1]:
            raise ShapeError("Direct needs the initial frame to start; got none.")
        return State(torch.full((len(frames),), frames.shape[1] - 1, dtype=torch.long, device=frames.device))

    def advance(
        self, state: State, parameters: Parameters, generator: torch.Generator | None = None
    ) -> tuple[State, Float[Tensor, "batch horizon channel *space"]]:
        clock = state.values + 1
        if not torch.compiler.is_compiling() and len(clock) and int(clock.max()) > self.steps:
            raise InputError(
                f"Direct was built for {self.steps} frames after the initial one; frame {int(clock.max())} was asked for."
            )
        frame = self.at(clock.to(self.mean) * self.interval, parameters)
        return replace(state, values=clock), frame[:, None]
