"""What anyone could say without a model: the forecasts that a model has to beat."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.problems.problem import Problem, Setting
from slipstream.steppers.rolling import rollout
from slipstream.trajectories import Trajectories

Frames = Float[Tensor, "run time channel *space"]
Known = Float[Tensor, "run known channel *space"]


def persistence(known: Known, truth: Frames) -> Frames:
    """Nothing changes: the last known frame for ever."""
    return known[:, -1:].expand_as(truth)


def mean(known: Known, truth: Frames) -> Frames:
    """The spatial mean of the truth in every channel: VRMSE 1 by definition."""
    axes = tuple(range(3, truth.ndim))
    return truth.mean(axes, keepdim=True).expand_as(truth)


def linear_extrapolation(known: Known, truth: Frames) -> Frames:
    """The last change goes on at its pace; needs two known frames."""
    ahead = torch.arange(1, truth.shape[1] + 1, dtype=truth.dtype, device=truth.device).reshape(
        [1, -1] + [1] * (truth.ndim - 2)
    )
    return known[:, -1:] + ahead * (known[:, -1:] - known[:, -2:-1])


def simple(known: Known, truth: Frames) -> dict[str, Frames]:
    """All that fit what is known."""
    result = {"persistence": persistence(known, truth)}
    if truth.ndim > 3:  # a mean over space needs one
        result["mean"] = mean(known, truth)
    if known.shape[1] > 1:
        result["linear_extrapolation"] = linear_extrapolation(known, truth)
    return result


WHAT = {
    "persistence": "the last known frame for ever",
    "mean": "the spatial mean of the truth (VRMSE 1)",
    "linear_extrapolation": "the last change goes on at its pace",
    "coarse_classical": "the classical solver on a quarter of the points along each axis, interpolated",
}


def coarse_setting(problem: Problem) -> Setting:
    """The classical solver on a quarter of the points along each axis."""
    fast = problem.fast_setting
    return Setting(max(8, fast.num_points // 4), max(1, fast.substeps // 2), fast.scheme)


def coarse_classical(problem: Problem, known: Trajectories, steps: int) -> Frames:
    """Frames of the classical solver on a quarter of the points along each axis, interpolated."""
    return rollout(problem.solver(coarse_setting(problem), guard=False), known, steps, guard=False).frames
