"""A problem and steppers whose errors are known and whose work takes exactly the time they say, on a clock of their own."""

from __future__ import annotations

import math

import torch

from slipstream.channels import Channel
from slipstream.grids import Grid
from slipstream.problems.problem import Problem, Setting
from slipstream.solvers.schemes import ETDRK4
from slipstream.stepper import Stepper
from slipstream.trajectories import Trajectories

GRID = Grid.box(8)
RATE = 0.5


class Clock:
    """Time stands still until somebody works."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Grower(Stepper):
    """u grows by a factor a step; each call takes its time, by run and by thread."""

    def __init__(self, factor: float, seconds: float = 0.0, clock: Clock | None = None) -> None:
        super().__init__()
        self.interval, self.factor, self.seconds, self.clock = 0.1, factor, seconds, clock
        self.calls: list[tuple[int, int]] = []

    def forward(self, past, parameters):
        self.calls.append((torch.get_num_threads(), past.shape[0]))
        if self.clock is not None:
            self.clock.now += self.seconds * past.shape[0] / torch.get_num_threads()
        return past * self.factor


class Growth(Problem):
    """u' = RATE u, solved by Euler's method with as many substeps as the setting says; a substep costs 1 ms."""

    grid, interval, steady = GRID, 0.1, False
    channels = (Channel("u"),)  # type: ignore[assignment]

    def __init__(self, clock: Clock, substeps=(1, 2, 4, 8, 16, 32)) -> None:
        self.clock, self.substeps = clock, substeps
        self.solvers: list[Grower] = []

    def ladder(self):
        return [Setting(8, n, ETDRK4) for n in self.substeps]

    def solver(self, setting=None, *, guard=True):
        n = setting.substeps
        factor = (1 + RATE * self.interval / n) ** n if n else math.inf
        self.solvers.append(Grower(factor, 1e-3 * n, self.clock))
        return self.solvers[-1]

    def simulate(self, runs, steps=1, seed=0, out=None):
        times = 0.1 * torch.arange(steps)
        amplitude = 1 + torch.arange(runs)
        frames = (amplitude[:, None] * torch.exp(RATE * times))[:, :, None, None].expand(runs, steps, 1, 8)
        return Trajectories(frames.contiguous(), GRID, 0.1, self.channels)
