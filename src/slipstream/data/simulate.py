"""Simulations that go to disk while they run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from slipstream.data.store import Store
from slipstream.errors import UnstableStep
from slipstream.pretrained import describe
from slipstream.problems.problem import Problem
from slipstream.trajectories import take

BLOCK = 8
"""Runs that are marched together; what an interruption loses is at most one block."""


def simulate(
    problem: Problem, runs: int, steps: int, seed: int, path: Path, tell: Callable[[int, int], None] | None = None
) -> Store:
    """Trusted trajectories of a problem in a store, made where they are missing.

    The same call continues an interrupted store; one with other arguments is refused. The numbers do not depend on interruptions.

    Parameters
    ----------
    problem, runs, steps, seed : as in `Problem.simulate`.
    path : of the store.
    tell : called with (frames done, frames in all) as they are written.

    Raises
    ------
    StoreError : the store is of other arguments, locked, damaged, or the disk is full.
    UnstableStep : the solver left finite numbers; nothing from there on is written.
    """
    about = {"problem": describe(problem), "seed": seed, "solver": str(problem.reference_setting)}
    parameters = problem.sample_parameters(runs, seed)
    stepper, done = problem.reference(), 0
    with Store.create(
        path,
        grid=problem.grid,
        channels=problem.channels,
        interval=problem.interval,
        runs=runs,
        steps=steps,
        parameters=parameters,
        about=about,
        block=BLOCK,
    ) as store:
        missing = store.missing()
        done = (runs - sum(b.stop - b.start for b in missing)) * steps
        for block in missing:
            frames, _ = problem.sample(range(block.start, block.stop), seed)
            filled = frames.shape[1]
            if filled:
                store.write(block, 0, frames)
            exact = {k: v.double() if v.is_floating_point() else v for k, v in take(parameters, block).items()}
            with torch.no_grad():
                for new in stepper.march(frames.double(), exact):
                    if filled >= steps:
                        break
                    new = new[:, : steps - filled]
                    _check(problem, new, block.start, filled)
                    store.write(block, filled, new)
                    filled += new.shape[1]
                    if tell is not None:
                        tell(done + (block.stop - block.start) * filled, runs * steps)
            done += (block.stop - block.start) * steps
    return Store.open(path)


def _check(problem: Problem, frames: Tensor, first_run: int, first_frame: int) -> None:
    bad = ~torch.isfinite(frames).flatten(2).all(-1)
    if bad.any():
        run, frame = bad.nonzero()[0].tolist()
        raise UnstableStep(
            f"{problem.name} left finite numbers at frame {first_frame + frame} of run {first_run + run} "
            f"({problem.reference_setting}). A finer reference setting, a shorter interval or milder parameters would help."
        )
