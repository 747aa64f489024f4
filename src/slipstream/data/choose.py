"""The source that fits what was given and what is to be minimised."""

from __future__ import annotations

import os

from torch import nn

from slipstream.data.dataset import Dataset
from slipstream.data.pool import StatePool
from slipstream.data.source import Source
from slipstream.data.store import Store
from slipstream.data.windows import Windows
from slipstream.errors import InputError
from slipstream.objectives.objective import Objective
from slipstream.problems.problem import Problem
from slipstream.trajectories import Trajectories

RUNS, STEPS = 32, 64
"""Trajectories that a problem is asked for when training needs labels and none are given."""

POOL = 256
"""States in a pool, unless a batch is larger."""

Data = Source | Problem | Trajectories | Dataset | str | os.PathLike


def as_source(data: Data, module: nn.Module, objective: Objective, batch: int = 8, seed: int = 0) -> Source:
    """Windows for training a module with an objective.

    Parameters
    ----------
    data : a source (taken as it is), trajectories, a data set, the path of a store; or a problem, which is then simulated (with labels:
        `RUNS` trusted trajectories of `STEPS` frames; label-free: starts for a state pool, see `StatePool.of`).
    module, objective : decide how many frames a window needs, and whether labels are among them.
    batch : windows a training step sees.
    seed : of what a problem is simulated with.
    """
    if isinstance(data, Source):
        return data
    past, future = objective.frames_needed(module)
    if isinstance(data, Problem):
        if future == 0:
            return StatePool.of(data, past, batch, seed=seed, size=max(POOL, batch))
        data = data.simulate(RUNS, 1 if data.steady else max(STEPS, past + future), seed)
    if isinstance(data, (str, os.PathLike)):
        data = Store.open(data)
    if not isinstance(data, (Trajectories, Dataset)):
        raise InputError(f"Training needs a problem, trajectories, a data set or a source; got {type(data).__name__}.")
    if isinstance(data, Dataset) and (future == 0 or not isinstance(data, Store)):
        data = data.trajectories()
    if future == 0:
        assert isinstance(data, Trajectories)
        return StatePool(data, past, batch, size=max(POOL, batch))
    assert isinstance(data, (Trajectories, Store))
    return Windows(data, past + future, batch)
