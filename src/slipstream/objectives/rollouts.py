"""Objectives around an objective that make rollouts last: training on inputs as a rollout has them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import nn

from slipstream.errors import InputError
from slipstream.objectives.objective import Loss, Objective
from slipstream.objectives.supervised import Supervised, unroll
from slipstream.trajectories import Window


class Around(Objective):
    """An objective seen through another window.

    Parameters
    ----------
    objective : what is minimised there.
    """

    def __init__(self, objective: Objective | None = None) -> None:
        self.objective = objective if objective is not None else Supervised()

    def frames_needed(self, module: nn.Module) -> tuple[int, int]:
        return self.objective.frames_needed(module)

    def check(self, module: nn.Module) -> None:
        if getattr(module, "history", 1) < 1:
            raise InputError(
                f"{type(self).__name__} is for steppers that march; {type(module).__name__} is steady and looks at no frames."
            )
        self.objective.check(module)

    def on_progress(self, progress: float) -> None:
        self.objective.on_progress(progress)


class PushForward(Around):
    """The objective after some calls of the stepper on its own output, without gradients through those.

    The stepper learns to go on from the errors that it makes, at the cost of one unrolled call; labels follow the pushed frames in time.
    The published loss is the sum of both: ``Supervised() + PushForward(Supervised())``.

    Parameters
    ----------
    objective : `Supervised` where None. calls : how many calls before it looks.

    References
    ----------
    Brandstetter, Worrall, Welling: Message passing neural PDE solvers, ICLR 2022 (arXiv:2202.03376).
    """

    def __init__(self, objective: Objective | None = None, calls: int = 1) -> None:
        if calls < 1:
            raise InputError(f"PushForward makes at least 1 call before the objective looks; got calls={calls}.")
        super().__init__(objective)
        self.calls = calls

    def frames_needed(self, module: nn.Module) -> tuple[int, int]:
        past, future = self.objective.frames_needed(module)
        return past, future + (self.calls * module.horizon if future else 0)  # type: ignore[operator, return-value]

    def __call__(self, module: nn.Module, window: Window, generator: torch.Generator) -> Loss:
        past, future = self.frames_needed(module)
        if window.frames.shape[1] < past + future:
            raise InputError(f"PushForward needs windows of {past} + {future} frames; got {window.frames.shape[1]}.")
        known = window.frames[:, :past]
        with torch.no_grad():
            pushed = unroll(module, known, window, self.calls, generator)
        start = torch.cat([known, pushed], dim=1)[:, -past:]
        labels = window.frames[:, past + pushed.shape[1] :]
        loss = self.objective(module, replace(window, frames=torch.cat([start, labels], dim=1)), generator)
        outputs = None if loss.outputs is None else torch.cat([pushed, loss.outputs], dim=1)
        return replace(loss, outputs=outputs)


class Noise(Around):
    """The objective with noise on the frames that the stepper is given; labels stay clean.

    The stepper learns to damp what does not belong to the flow, its own errors among it.

    Parameters
    ----------
    objective : `Supervised` where None.
    scale : standard deviation of the noise, white and Gaussian, in units of that of each frame over space, channel by channel. Good values:
        about the relative error of one call.

    References
    ----------
    Sanchez-Gonzalez et al.: Learning to simulate complex physics with graph networks, ICML 2020 (arXiv:2002.09405).
    """

    def __init__(self, objective: Objective | None = None, scale: float = 0.01) -> None:
        if not 0 <= scale < float("inf"):
            raise InputError(f"Noise expects a scale of at least 0; got scale={scale}.")
        super().__init__(objective)
        self.scale = scale

    def __call__(self, module: nn.Module, window: Window, generator: torch.Generator) -> Loss:
        past, _ = self.frames_needed(module)
        known = window.frames[:, :past]
        size = known.flatten(3).std(-1).reshape(*known.shape[:3], *[1] * (known.ndim - 3))
        noise = torch.randn(known.shape, generator=generator, dtype=known.dtype).to(known.device)
        frames = torch.cat([known + self.scale * size * noise, window.frames[:, past:]], dim=1)
        return self.objective(module, replace(window, frames=frames), generator)


class Curriculum(Around):
    """The objective with more calls unrolled as training goes on.

    Windows hold the frames of the longest stage from the beginning. Which stage it is follows from the share of the budget that is spent,
    so that a training that was stopped goes on in the right one; outside a training it is the first.

    Parameters
    ----------
    objective : one that unrolls ``calls`` of its own, such as `Supervised` (where None), `PhysicsResidual` or `PushForward`.
    calls : of each stage. starts : share of the budget at which each stage begins, the first one 0; None is equal shares.
    """

    def __init__(
        self,
        objective: Objective | None = None,
        calls: Sequence[int] = (1, 2, 4),
        starts: Sequence[float] | None = None,
    ) -> None:
        super().__init__(objective)
        self.calls, self.starts = tuple(calls), starts if starts is None else tuple(starts)
        begins = tuple(i / len(self.calls) for i in range(len(self.calls))) if self.starts is None else self.starts
        rising = all(a < b for a, b in pairwise(begins))
        if not self.calls or min(self.calls) < 1 or len(begins) != len(self.calls) or begins[0] != 0 or not rising:
            raise InputError(
                f"Curriculum expects calls >= 1 and as many rising starts, the first one 0; got calls={self.calls}, starts={self.starts}."
            )
        if not hasattr(self.objective, "calls"):
            raise InputError(
                f"{type(self.objective).__name__} unrolls no calls of its own. Put the curriculum inside: Noise(Curriculum(Supervised()))."
            )
        self._begins = begins
        self._stages = [_with_calls(self.objective, c) for c in self.calls]
        self._stage = 0

    @property
    def now(self) -> int:
        """Calls of the stage that it is in."""
        return self.calls[self._stage]

    def frames_needed(self, module: nn.Module) -> tuple[int, int]:
        needs = [stage.frames_needed(module) for stage in self._stages]
        return max(past for past, _ in needs), max(future for _, future in needs)

    def on_progress(self, progress: float) -> None:
        self._stage = sum(progress >= begin for begin in self._begins[1:])
        for stage in self._stages:
            stage.on_progress(progress)

    def __call__(self, module: nn.Module, window: Window, generator: torch.Generator) -> Loss:
        return self._stages[self._stage](module, window, generator)


def _with_calls(objective: Objective, calls: int) -> Objective:
    twin = copy.copy(objective)
    twin.calls = calls  # type: ignore[attr-defined]
    return twin
