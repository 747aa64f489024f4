"""Samples of a law at points, computed by the classical solver."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from slipstream.data.source import Source, check_layout
from slipstream.errors import InputError
from slipstream.problems.two_scale import LAW_INPUTS, LAW_OUTPUTS, TwoScaleConduction
from slipstream.trajectories import Window


class LawSamples(Source):
    """What the small scale of a two-scale problem answers, at points drawn from the box in which a law has to hold.

    The samples are computed when the first window is asked for, so that their cost is part of the training's. A window has no frames;
    `slipstream.steppers.Upscaled` knows where to look.

    Parameters
    ----------
    problem : gives box and cell solver (`TwoScaleConduction.law_data`).
    samples : how many are computed. micro : pixels along a side of a cell; the problem's where None. seed : of the points.
    batch : samples a window; all where None.
    """

    def __init__(
        self,
        problem: TwoScaleConduction,
        samples: int = 12000,
        micro: int | None = None,
        seed: int = 0,
        batch: int | None = None,
    ) -> None:
        if samples < 1 or (batch is not None and not 1 <= batch <= samples):
            raise InputError(f"LawSamples expects 1 <= batch <= samples; got samples={samples}, batch={batch}.")
        self.problem, self.samples, self.micro, self.seed, self.batch = problem, samples, micro, seed, batch
        self._data: tuple[Tensor, Tensor] | None = None

    def next(self, generator: torch.Generator) -> Window:
        if self._data is None:
            self._data = self.problem.law_data(self.samples, self.seed, self.micro)
        x, y = self._data
        if self.batch is not None:
            chosen = torch.randint(self.samples, (self.batch,), generator=generator)
            x, y = x[chosen], y[chosen]
        grid = self.problem.grid
        return Window(
            torch.empty(len(x), 0, 1, *grid.shape), grid, 0.0, {LAW_INPUTS: x.clone(), LAW_OUTPUTS: y.clone()}
        )

    def state_dict(self) -> dict[str, Any]:
        return {"layout": self._layout()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        check_layout("LawSamples", state, self._layout())

    def _layout(self) -> dict[str, Any]:
        return {"samples": self.samples, "micro": self.micro, "seed": self.seed, "batch": self.batch}
