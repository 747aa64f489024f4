"""Many ways to compute one state: the error and the time of each, the front of each side, and what equal error costs on either."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Job = Callable[[], np.ndarray]
"""Computes the final state from the initial one, in physical units, whole; as often as it is called."""
Row = dict[str, Any]

OURS = "slipstream"
NEAR, PATIENCE = 1.3, 20.0
"""Ways up to so many times slower than the front at the first look race beside it; a way that would take longer than so many seconds is
left out."""


@dataclass(frozen=True)
class Way:
    """One way to compute the final state.

    Parameters
    ----------
    side : the package. scheme, points, steps : what distinguishes it, with all that is of no number in the scheme's name.
    prepare : sets everything up and compiles what can be compiled without a run.
    """

    side: str
    scheme: str
    points: int
    steps: int
    prepare: Callable[[], Job]

    def __str__(self) -> str:
        return f"{self.scheme}, {self.points} points, {self.steps} steps"


def compare(ways: Iterable[Way], error: Callable[[np.ndarray], float], seconds: float) -> list[Row]:
    """The error and the time of every way; those near the front of their side are timed again, by turns.

    `first` is the time of setting up and of the first run, compilation with it; `seconds` that of later runs, the shortest counts. What
    left finite numbers has an infinite error and no time. Grids of a scheme are expected to become finer: from the time of one
    follows whether the next is worth while.
    """
    from slipstream.assessment.speed import race

    rows: list[Row] = []
    jobs: dict[int, Job] = {}
    pace: dict[tuple[str, str], float] = {}
    for i, way in enumerate(ways):
        family, work = (way.side, way.scheme), way.steps * way.points**2
        row: Row = {"side": way.side, "way": str(way), "scheme": way.scheme, "points": way.points, "error": math.inf}
        rows.append(row)
        if pace.get(family, 0.0) * work > PATIENCE:
            row["left out"] = f"would take more than {PATIENCE:g} s"
            continue
        began = time.perf_counter()
        job = way.prepare()
        state = job()
        row["first"] = time.perf_counter() - began
        if not np.isfinite(state).all():
            row["left out"] = "left finite numbers"
            continue
        began = time.perf_counter()
        job()
        row["seconds"] = time.perf_counter() - began
        row["error"], jobs[i], pace[family] = error(state), job, row["seconds"] / work
    near = {
        str(i): job
        for i, job in jobs.items()
        if rows[i]["seconds"] <= NEAR * cheapest(rows, rows[i]["side"], rows[i]["error"])["seconds"]
    }
    for i, best in race(near, budget=seconds).items():
        rows[int(i)]["seconds"] = min(rows[int(i)]["seconds"], best)
    for row in rows:
        row["front"] = row is cheapest(rows, row["side"], row["error"])
    return rows


def cheapest(rows: Sequence[Row], side: str, error: float) -> Row:
    """The fastest way of one side whose error is at most so large; endless where there is none."""
    able = [row for row in rows if row["side"] == side and "seconds" in row and row["error"] <= error]
    return min(able, key=lambda row: row["seconds"], default={"way": "none", "seconds": math.inf})


def at_equal_error(rows: Sequence[Row], peer: str, uncertain: float, low: float, high: float) -> list[Row]:
    """What each point of a peer's front between two errors costs, and the cheapest way of ours that is no less accurate.

    The errors are those of the peer's own best ways: whatever lies between two of ours counts for the peer. Ours have to be better by
    twice the error of the reference, so that nothing in the reference can have made them so.
    """
    result = []
    for row in sorted(rows, key=lambda row: -row["error"]):
        if row["side"] == peer and row["front"] and low <= row["error"] <= high:
            mine = cheapest(rows, OURS, row["error"] - 2 * uncertain)
            result.append(
                {
                    "error": row["error"],
                    "their way": row["way"],
                    "their seconds": row["seconds"],
                    "our way": mine["way"],
                    "our seconds": mine["seconds"],
                    "ratio": row["seconds"] / mine["seconds"],
                }
            )
    return result


def order(rows: Sequence[Row], side: str, scheme: str) -> float:
    """The order by which the least error of a scheme (all whose names begin so) falls from the second finest grid to the finest."""
    mine = [row for row in rows if row["side"] == side and row["scheme"].startswith(scheme) and "seconds" in row]
    least = {n: min(row["error"] for row in mine if row["points"] == n) for n in {row["points"] for row in mine}}
    if len(least) < 2:
        return math.nan
    coarse, fine = sorted(least)[-2:]
    return math.log(least[coarse] / least[fine]) / math.log(fine / coarse)
