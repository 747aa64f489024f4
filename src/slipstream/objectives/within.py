"""WithinWindow: as many calls as a window has frames for."""

from __future__ import annotations

import copy

import torch
from torch import nn

from slipstream.errors import InputError
from slipstream.objectives.objective import Loss, Objective
from slipstream.objectives.rollouts import Around
from slipstream.trajectories import Window

LEAD_TIME = "lead_time"


class WithinWindow(Around):
    """The objective with fewer calls where a window is too short for all of them, for sources whose windows change in length.

    Windows of ``frames_needed`` frames are seen by the objective as it is, longer ones too.

    Parameters
    ----------
    objective : one that unrolls ``calls`` of its own, such as `Supervised` (where None) or `PhysicsResidual`.

    Raises
    ------
    InputError : a window too short for a single call; frames that are not one interval apart (``parameters["lead_time"]``) for a stepper
        that knows one interval only, which would be trained on wrong physics.
    """

    def __init__(self, objective: Objective | None = None) -> None:
        super().__init__(objective)
        if not isinstance(getattr(self.objective, "calls", None), int):
            raise InputError(
                f"{type(self.objective).__name__} unrolls no fixed number of calls of its own. "
                "Put this inside: Noise(WithinWindow(Supervised(calls=4)))."
            )
        self._of: dict[int, Objective] = {}
        self._progress = 0.0

    def on_progress(self, progress: float) -> None:
        self._progress = progress
        for objective in self._of.values():
            objective.on_progress(progress)

    def __call__(self, module: nn.Module, window: Window, generator: torch.Generator) -> Loss:
        if LEAD_TIME in window.parameters and not hasattr(module, "lead_times"):
            raise InputError(
                f"{type(module).__name__} steps {getattr(module, 'interval', 'one interval')} and nothing else, and this window has frames "
                "other times apart. Train it on windows of its interval (Multigrid: strides=False), or one that takes lead times."
            )
        calls = int(self.objective.calls)  # type: ignore[attr-defined]
        while calls > 1 and sum(self._with(calls).frames_needed(module)) > window.frames.shape[1]:
            calls -= 1
        return self._with(calls)(module, window, generator)

    def _with(self, calls: int) -> Objective:
        if calls not in self._of:
            twin = copy.copy(self.objective)
            twin.calls = calls  # type: ignore[attr-defined]
            twin.on_progress(self._progress)
            self._of[calls] = twin
        return self._of[calls]
