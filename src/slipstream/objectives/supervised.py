"""Supervised training: match known frames."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.utils.checkpoint
from torch import Tensor, nn

from slipstream.errors import InputError
from slipstream.objectives.norms import Norm, RelativeL2
from slipstream.objectives.objective import Loss, Objective
from slipstream.stepper import State
from slipstream.trajectories import Parameters, Window


class Supervised(Objective):
    """Distance between a stepper's frames and the known ones.

    Parameters
    ----------
    norm : how distance is measured; the mean over frames and runs is minimised.
    calls : how many calls of the stepper are unrolled, each on the output of the one before, with gradients through all of them.
    checkpoint : keep the states between calls only, and compute each call once more on the way back: the same gradients with the memory of
        one call instead of all, for a third more time.
    """

    def __init__(self, norm: Norm | None = None, calls: int = 1, checkpoint: bool = False) -> None:
        if calls < 1:
            raise InputError(f"Supervised unrolls at least 1 call; got calls={calls}.")
        self.norm, self.calls, self.checkpoint = norm or RelativeL2(), calls, checkpoint

    def frames_needed(self, module: nn.Module) -> tuple[int, int]:
        return module.history, module.horizon * self.calls  # type: ignore[return-value, operator]

    def __call__(self, module: nn.Module, window: Window, generator: torch.Generator) -> Loss:
        past, future = self.frames_needed(module)
        if window.frames.shape[1] < past + future:
            raise InputError(f"Supervised needs windows of {past} + {future} frames; got {window.frames.shape[1]}.")
        new = unroll(module, window.frames[:, :past], window, self.calls, generator, self.checkpoint)
        target = window.frames[:, past : past + future]
        error = self.norm(new, target, window.grid, window.weights)
        total = error.mean()
        return Loss(total, {"data": total.detach()}, new.detach(), error.detach().mean(1))


def unroll(
    module: nn.Module,
    past: torch.Tensor,
    window: Window,
    calls: int,
    generator: torch.Generator,
    checkpoint: bool = False,
) -> torch.Tensor:
    """The new frames of some calls of a stepper, with their graph; with `checkpoint` the inside of a call is computed again backwards."""
    state = module.start(past, window.parameters)  # type: ignore[operator]
    advance: Callable = module.advance  # type: ignore[assignment]
    advance = partial(_again, advance) if checkpoint else advance
    pieces = []
    for _ in range(calls):
        state, new = advance(state, window.parameters, generator)
        pieces.append(new)
    return torch.cat(pieces, dim=1)


def _again(advance: Callable, state: State, parameters: Parameters, generator: torch.Generator) -> tuple[State, Tensor]:
    """One call that keeps its inputs only."""
    before, first = generator.get_state(), True

    def call(state: State) -> tuple[State, Tensor]:
        nonlocal first
        if first:
            first = False
            return advance(state, parameters, generator)
        # Backwards it has to draw the numbers that it drew forwards, and leave the generator where others have brought it.
        now = generator.get_state()
        generator.set_state(before)
        try:
            return advance(state, parameters, generator)
        finally:
            generator.set_state(now)

    return torch.utils.checkpoint.checkpoint(call, state, use_reentrant=False)
