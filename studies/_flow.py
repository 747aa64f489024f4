"""Decaying turbulence stepped by a network: what studies of architectures share."""

from __future__ import annotations

from pathlib import Path

import torch
from _clock import budget

import slipstream as ss
from slipstream.data.windows import Windows
from slipstream.objectives import Supervised
from slipstream.objectives.norms import RelativeL2
from slipstream.operators import OperatorFactory
from slipstream.steppers import Autoregressive, rollout
from slipstream.training import Descent
from slipstream.training.loop import train

STEPS = 20
INTERVAL = 0.5
"""In which features move by 4 cells of 64 (root mean square) and up to 14."""


def march(
    factory: OperatorFactory, *, seed: int, minutes: float, runs: int, folder: Path, lr: float = 1e-3
) -> tuple[Autoregressive, dict[str, float]]:
    """Train on one step for minutes of the processor, measure after 1 and after 20, on runs that it has not seen.

    Nothing in the flow knows where it is.
    """
    problem = ss.problems.DecayingFlow(num_points=64, reynolds=200.0, interval=INTERVAL)
    known = problem.simulate(runs=runs, steps=STEPS + 1, seed=1000).to(torch.float32)
    new = problem.simulate(runs=max(runs // 2, 1), steps=STEPS + 1, seed=2000).to(torch.float32)
    torch.manual_seed(seed)
    stepper = Autoregressive(factory, problem, coordinates=False)
    clock, spend = budget(minutes, None)
    source, objective = Windows(known, 2, 8), Supervised()
    done = train(stepper, source, objective, update=Descent(lr), seed=seed, folder=folder, show=False, **spend)
    found = rollout(stepper, new[:, :1], steps=STEPS, guard=False)
    errors = RelativeL2()(found.frames, new.frames[:, 1:], new.grid).mean(0)
    row = {"error_1": errors[0].item(), "error_mean": errors.mean().item(), "error_20": errors[-1].item()}
    return stepper, {**row, "steps_done": done.steps, "seconds_a_step": clock.spent / max(done.steps, 1)}
