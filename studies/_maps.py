"""What studies of operators share: maps from field to field, trained by the one loop, judged by relative errors."""

from __future__ import annotations

from pathlib import Path

import torch
from _clock import budget
from torch import Tensor, nn

from slipstream.data import Source
from slipstream.grids import Grid
from slipstream.objectives.norms import Norm, RelativeL2
from slipstream.objectives.objective import Loss, Objective
from slipstream.training import Descent
from slipstream.training.loop import train
from slipstream.trajectories import Window


class Maps(Source):
    """Batches of a data set in memory: inputs (sample, channel, *space) -> targets (sample, channel, *space)."""

    def __init__(self, inputs: Tensor, targets: Tensor, grid: Grid, batch: int) -> None:
        self.inputs, self.targets, self.grid, self.batch = inputs, targets, grid, batch

    def next(self, generator: torch.Generator) -> Window:
        chosen = torch.randint(len(self.inputs), (self.batch,), generator=generator)
        return Window(self.targets[chosen][:, None], self.grid, 0.0, {"input": self.inputs[chosen]})


class Match(Objective):
    """The distance of an operator's answer from the target."""

    def __init__(self, norm: Norm) -> None:
        self.norm = norm

    def __call__(self, module: nn.Module, window: Window, generator: torch.Generator) -> Loss:
        error = self.norm(module(window.parameters["input"])[:, None], window.frames, window.grid).mean()
        return Loss(error, {"data": error.detach()})


def fit(
    module: nn.Module,
    source: Source,
    norm: Norm,
    *,
    seed: int,
    folder: Path,
    minutes: float | None = None,
    steps: int | None = None,
    lr: float = 1e-3,
) -> dict[str, float]:
    """Train in place, for so many minutes of the processor or so many steps; what was spent, in seconds of the processor."""
    clock, spend = budget(minutes, steps)
    done = train(module, source, Match(norm), update=Descent(lr), seed=seed, folder=folder, show=False, **spend)
    return {"steps_done": done.steps, "seconds_a_step": clock.spent / max(done.steps, 1)}


def relative_errors(module: nn.Module, inputs: Tensor, targets: Tensor, grid: Grid) -> Tensor:
    """Relative L2 of every sample."""
    return RelativeL2()(answers(module, inputs)[:, None], targets[:, None], grid)[:, 0]


def answers(module: nn.Module, inputs: Tensor, chunk: int = 32) -> Tensor:
    """What the module makes of the inputs, without gradients."""
    module.eval()
    with torch.no_grad():
        return torch.cat([module(x) for x in inputs.split(chunk)])


def size(module: nn.Module) -> int:
    """Parameters."""
    return sum(p.numel() for p in module.parameters())
