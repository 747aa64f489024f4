"""Meter: reads the losses of many steps at once."""

from __future__ import annotations

import torch
from torch import Tensor

from slipstream.objectives.objective import Loss
from slipstream.training.divergence import Guard
from slipstream.training.logs import Row
from slipstream.training.processes import Processes


class Meter:
    """Collects losses where they are computed, and brings them to the processor in one go when somebody looks."""

    def __init__(self, guard: Guard, processes: Processes) -> None:
        self.guard, self.processes = guard, processes
        self.waiting: list[tuple[list[str], Tensor]] = []
        self.sums: dict[str, list[float]] = {}
        self.latest = float("nan")

    def add(self, loss: Loss) -> None:
        """Take a loss without waiting for it."""
        values = [loss.total.detach(), *(v.detach() for v in loss.parts.values())]
        self.waiting.append((["total", *loss.parts], torch.stack(values)))

    def look(self, step: int) -> tuple[int, str] | None:
        """Judge the waiting losses, the last of which is of `step`; the first bad step and what is wrong with it."""
        if not self.waiting:
            return None
        values = iter(self.processes.mean(torch.cat([v for _, v in self.waiting])).tolist())
        waiting, self.waiting = self.waiting, []
        for i, (names, _) in enumerate(waiting):
            total, *parts = (next(values) for _ in names)
            named = dict(zip(names[1:], parts, strict=True))
            if trouble := self.guard.judge(total, named):
                return step - len(waiting) + 1 + i, trouble
            self.latest = total
            for name, value in {"total": total, **named}.items():
                entry = self.sums.setdefault(name, [0.0, 0.0])
                entry[0] += value
                entry[1] += 1.0
        return None

    def take_means(self) -> Row:
        """The means since they were last taken."""
        means = {name: total / count for name, (total, count) in self.sums.items()}
        self.sums = {}
        return means
