"""Supervised training: match known frames."""

from __future__ import annotations

import torch
from torch import nn

from slipstream.errors import InputError
from slipstream.objectives.norms import Norm, RelativeL2
from slipstream.objectives.objective import Loss, Objective
from slipstream.trajectories import Window


class Supervised(Objective):
    """Distance between a stepper's frames and the known ones.

    Parameters
    ----------
    norm : how distance is measured; the mean over frames and runs is minimised.
    calls : how many calls of the stepper are unrolled, each on the output of the one before, with gradients through all of them.
    """

    def __init__(self, norm: Norm | None = None, calls: int = 1) -> None:
        if calls < 1:
            raise InputError(f"Supervised unrolls at least 1 call; got calls={calls}.")
        self.norm, self.calls = norm or RelativeL2(), calls

    def frames_needed(self, module: nn.Module) -> tuple[int, int]:
        return module.history, module.horizon * self.calls  # type: ignore[return-value, operator]

    def __call__(self, module: nn.Module, window: Window, generator: torch.Generator) -> Loss:
        past, future = self.frames_needed(module)
        if window.frames.shape[1] < past + future:
            raise InputError(f"Supervised needs windows of {past} + {future} frames; got {window.frames.shape[1]}.")
        new = unroll(module, window.frames[:, :past], window, self.calls, generator)
        target = window.frames[:, past : past + future]
        error = self.norm(new, target, window.grid, window.weights)
        total = error.mean()
        return Loss(total, {"data": total.detach()}, new.detach(), error.detach().mean(1))


def unroll(
    module: nn.Module, past: torch.Tensor, window: Window, calls: int, generator: torch.Generator
) -> torch.Tensor:
    """The new frames of some calls of a stepper, with their graph."""
    state = module.start(past, window.parameters)  # type: ignore[operator]
    pieces = []
    for _ in range(calls):
        state, new = module.advance(state, window.parameters, generator)  # type: ignore[operator]
        pieces.append(new)
    return torch.cat(pieces, dim=1)
