"""A cavity whose lid begins to move: our projection on a staggered grid, and the reference for both sides."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from _equal import OURS, Job, Way

REYNOLDS, DURATION = 100.0, 1.0


def at(points: int) -> Any:
    """The problem: fluid at rest, and a lid whose speed vanishes smoothly in the corners."""
    import slipstream as ss

    return ss.problems.LidDrivenCavity(points, reynolds=REYNOLDS, interval=DURATION, swirl=0.0, warm_up=0.0)


def our_job(points: int, setting: Any) -> Job:
    import torch

    stepper = at(points).solver(setting, guard=False)
    rest = torch.zeros(1, 1, 2, points, points, dtype=torch.float64)

    def job() -> np.ndarray:
        with torch.no_grad():
            return stepper.advance(stepper.start(rest, {}), {})[1][0, -1].numpy()

    return job


def our_ways(points: tuple[int, ...]) -> Iterator[Way]:
    """The ladder's schemes with their longest steps: the grid decides the error."""
    for n in points:
        settings = [s for s in at(n).ladder() if s.num_points == n]
        for scheme in dict.fromkeys(s.scheme for s in settings):
            longest = min((s for s in settings if s.scheme == scheme), key=lambda s: s.substeps)
            yield Way(OURS, scheme.name, n, longest.substeps, lambda n=n, s=longest: our_job(n, s))


def reference(points: int) -> tuple[np.ndarray, float, float]:
    """A solution on a grid, its error, and the order by which that is known: from two grids with 1/2 and 1/4 the points.

    Steps are so short that the grid alone decides the error.
    """
    from slipstream.problems.problem import Setting
    from slipstream.solvers.projection import CrankNicolson, Fractional

    def solution(n: int) -> np.ndarray:
        return our_job(n, Setting(n, math.ceil(1.5 * n * DURATION), Fractional(CrankNicolson())))()

    fine, half, quarter = (solution(points // k) for k in (1, 2, 4))
    u, v, w = (sampled(each, points // 16) for each in (fine, half, quarter))
    order = math.log2(float(np.linalg.norm(w - v) / np.linalg.norm(v - u)))
    return fine, float(np.linalg.norm(v - u) / np.linalg.norm(u)) / (2**order - 1), order


def sampled(frames: np.ndarray, points: int) -> np.ndarray:
    """Velocities of a fine grid at the faces of one that is three times coarser or more.

    Across an axis the middles of coarse faces are those of fine ones, or lie between them: then cubics through the four nearest.
    """
    every = frames.shape[-1] // points
    if every < 3 or every * points != frames.shape[-1]:
        raise ValueError(
            f"Expected a grid that is finer by a whole factor of at least 3; got {frames.shape} for {points}."
        )
    result = []
    for axis, u in enumerate(frames):
        own = np.moveaxis(u, axis, 0)[::every]
        if every % 2:
            middle = own[:, every // 2 :: every]
        else:
            a, b, c, d = (own[:, every // 2 + k :: every] for k in (-2, -1, 0, 1))
            middle = (9 * (b + c) - a - d) / 16
        result.append(np.moveaxis(middle, 0, axis))
    return np.stack(result)


def error_of(fine: np.ndarray) -> Callable[[np.ndarray], float]:
    def error(frames: np.ndarray) -> float:
        exact = sampled(fine, frames.shape[-1])
        return float(np.linalg.norm(frames - exact) / np.linalg.norm(exact))

    return error
