"""SimulatedWindows: windows of runs that the problem simulates first."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slipstream.data.source import Source, check_layout
from slipstream.data.windows import Windows
from slipstream.errors import InputError
from slipstream.problems.problem import Problem
from slipstream.trajectories import Window


class SimulatedWindows(Source):
    """`Windows` of trusted runs, simulated when the first window is asked for: what a recipe puts into sources that change windows.

    Parameters
    ----------
    problem : simulates. length : frames in a window. batch : windows in a batch. runs, steps, seed : of the simulation.
    out : keeps the frames in a store, which a training that is continued, or another one, opens again; None simulates again.
    """

    def __init__(
        self,
        problem: Problem,
        length: int,
        batch: int = 8,
        runs: int = 32,
        steps: int = 64,
        seed: int = 0,
        out: str | os.PathLike | None = None,
    ) -> None:
        if not 1 <= length <= steps or not 1 <= batch <= runs * (steps - length + 1):
            raise InputError(
                f"SimulatedWindows cuts windows from runs of {steps} frames; got length={length}, and batch={batch} of the "
                f"{max(runs * (steps - length + 1), 0)} windows that there are."
            )
        self.problem, self.length, self.batch = problem, length, batch
        self.runs, self.steps, self.seed, self.out = runs, steps, seed, out
        self._windows: Windows | None = None
        self._state: dict[str, Any] | None = None

    @property
    def windows(self) -> Windows:
        """Made when it is first asked for."""
        if self._windows is None:
            out = None if self.out is None else Path(self.out)
            self._windows = Windows(
                self.problem.simulate(self.runs, self.steps, self.seed, out), self.length, self.batch
            )
            if self._state is not None:
                self._windows.load_state_dict(self._state)
        return self._windows

    def next(self, generator: torch.Generator) -> Window:
        return self.windows.next(generator)

    def feedback(self, window: Window, outputs: Tensor | None, scores: Tensor | None = None) -> None:
        return None

    def state_dict(self) -> dict[str, Any]:
        state = self._state if self._windows is None else self._windows.state_dict()
        return {"windows": state, "layout": self._layout()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        check_layout("SimulatedWindows", state, self._layout())
        if self._windows is not None and state["windows"] is not None:
            self._windows.load_state_dict(state["windows"])
        elif self._windows is not None:
            self._windows = Windows(self._windows.data, self.length, self.batch)
        self._state = state["windows"]

    def _layout(self) -> dict[str, Any]:
        return {
            "problem": self.problem.name,
            "length": self.length,
            "batch": self.batch,
            "runs": self.runs,
            "steps": self.steps,
            "seed": self.seed,
        }
