"""Stepper: anything that advances a state in time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.channels import Channel
from slipstream.errors import ShapeError
from slipstream.grids import Grid
from slipstream.pretrained import Pretrained
from slipstream.trajectories import Parameters


@dataclass(frozen=True)
class State:
    """What a stepper carries from call to call; only the stepper that made it knows what is inside.

    `values` is a pytree of tensors (frames, Fourier coefficients, memories, step sizes ...).
    `stats` holds differentiable figures about the last call (solver cost, error estimates).
    `starter_steps` counts the classical solver steps spent on missing starting frames.
    """

    values: Any
    stats: dict[str, Tensor] = field(default_factory=dict)
    starter_steps: int = 0

    def detach(self) -> State:
        """The same state, cut from the graph that made it."""
        values = torch.utils._pytree.tree_map(lambda t: t.detach() if isinstance(t, Tensor) else t, self.values)
        return replace(self, values=values, stats={k: v.detach() for k, v in self.stats.items()})


class Starter(Protocol):
    """Makes the frames that a stepper with a longer history lacks; counts what that cost."""

    def __call__(self, frames: Tensor, missing: int, parameters: Parameters) -> tuple[Tensor, int]: ...


class Stepper(Pretrained):
    """Advances a state in time, `horizon` frames a call, `interval` apart.

    A memoryless stepper writes only ``forward(past, parameters) -> next``. One with a state of its own writes `start` and
    `advance` instead. History 0 means steady: parameters in, one field out.

    Attributes
    ----------
    interval : time between consecutive frames.
    history : how many frames `start` needs.
    horizon : how many new frames one `advance` gives.
    channels, grid : of the frames; None means any.
    starter : makes missing starting frames (`slipstream.problems.Problem.starter`); None refuses short starts.
    """

    interval: float
    history: int = 1
    horizon: int = 1
    channels: tuple[Channel, ...] | None = None
    grid: Grid | None = None
    starter: Starter | None = None

    def forward(
        self, past: Float[Tensor, "batch time channel *space"], parameters: Parameters
    ) -> Float[Tensor, "batch horizon channel *space2"]:
        """The next `horizon` frames after the last `history` frames, in physical units."""
        raise TypeError(f"{type(self).__name__} keeps a state of its own: call start and advance, not forward.")

    def start(self, frames: Float[Tensor, "batch time channel *space"], parameters: Parameters) -> State:
        """A state from the last known frames. Missing frames are made by the classical solver and counted."""
        self.check(frames)
        steps = 0
        missing = self.history - frames.shape[1]
        if missing > 0:
            if self.starter is None:
                raise ShapeError(
                    f"{type(self).__name__} needs {self.history} frames to start and got {frames.shape[1]}; "
                    "give it more, or a problem whose classical solver can make them (starter=)."
                )
            frames, steps = self.starter(frames, missing, parameters)
        past = frames[:, frames.shape[1] - self.history :]
        return State(past, starter_steps=steps)

    def advance(
        self, state: State, parameters: Parameters, generator: torch.Generator | None = None
    ) -> tuple[State, Float[Tensor, "batch horizon channel *space"]]:
        """One call: the new state and `horizon` new frames. Randomness comes from `generator` alone."""
        new = self(state.values, parameters)
        known = new if new.shape[1] >= self.history else torch.cat([state.values, new], dim=1)
        return replace(state, values=known[:, known.shape[1] - self.history :]), new

    def check(self, frames: Tensor) -> None:
        """Refuse frames of the wrong layout, channels or grid."""
        dims = self.grid.num_dims if self.grid is not None else frames.ndim - 3
        if frames.ndim != 3 + dims or (dims < 1 and self.grid is None):
            raise ShapeError(
                f"{type(self).__name__} expects frames (batch, time, channel, *space) with {dims} space axes; got {tuple(frames.shape)}."
            )
        if self.channels is not None and frames.shape[2] != len(self.channels):
            raise ShapeError(
                f"{type(self).__name__} expects {len(self.channels)} channels {[c.name for c in self.channels]}; "
                f"got {frames.shape[2]} in shape {tuple(frames.shape)}."
            )
        if self.grid is not None:
            self.grid.check(frames, type(self).__name__)

    def advice(self, frames: Float[Tensor, "batch time channel *space"], parameters: Parameters) -> str:
        """What might help when a rollout from here left finite numbers; added to the error's text."""
        return ""

    def march(
        self, frames: Tensor, parameters: Parameters, generator: torch.Generator | None = None
    ) -> Iterator[Tensor]:
        """Endless new frames, one call's worth at a time."""
        state = self.start(frames, parameters)
        while True:
            state, new = self.advance(state, parameters, generator)
            yield new
