"""What a classical solver costs at which error: every rung of three problems' ladders, on one picture.

Run ``python benchmarks/fronts.py``; fifteen minutes on one quiet core (``--quick``: small grids, a look). Writes
``benchmarks/results/fronts.json`` and ``fronts.png``.

Chaotic flow in a periodic square, chaos on a line, and a cavity between walls: the ready-made problems at their usual sizes, and every
setting that their ladders hold (grids, time steps, schemes). All march the same runs from the same known frames; errors are relative L2 at
the end, against the trusted solver, means over runs; seconds are those of one run on one thread, by turns in one process, the least of the
rounds. These are the rivals that a neural solver is held against, found and timed by the same functions as in its report. Below ten times
the error that the trusted solver states of itself no two settings can be told apart: what lies there is drawn pale and counts for nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipstream.assessment import speed
from slipstream.assessment.evidence import PACKAGE, Claim, committed, evidence, save
from slipstream.assessment.plots import DASHES, LIGHT
from slipstream.assessment.verification import TRUST
from slipstream.problems import FlameSlope, KolmogorovFlow, LidDrivenCavity

if TYPE_CHECKING:
    from slipstream.problems import Problem

QUESTION = "What does a time unit cost at which error, and how much does it matter which classical setting is chosen?"
SEED, RUNS = 7, 2
FALL = 30.0
"""Least ratio of the errors at the two ends of a front."""
CHOICE, ERROR = 2.0, 0.01
"""Least ratio of the median to the best seconds, over the settings that reach this error."""
RESULT = Path(__file__).parent / "results" / "fronts.json"


def problems(quick: bool) -> dict[str, tuple[Problem, int]]:
    """The problems, and how many frames a run has."""
    if quick:
        return {
            "Kolmogorov flow": (KolmogorovFlow(num_points=32, reynolds=40, interval=0.05, warm_up=2.0), 4),
            "Kuramoto-Sivashinsky": (FlameSlope(num_points=64, extent=32.0, warm_up=10.0), 4),
            "lid-driven cavity": (LidDrivenCavity(num_points=16, reynolds=100.0), 2),
        }
    return {
        "Kolmogorov flow": (KolmogorovFlow(), 40),
        "Kuramoto-Sivashinsky": (FlameSlope(), 20),
        "lid-driven cavity": (LidDrivenCavity(), 10),
    }


def measure(name: str, problem: Problem, steps: int) -> list[dict[str, Any]]:
    """One row a rung."""
    whole = problem.simulate(RUNS, steps + 1, seed=SEED)
    known, truth = whole[:, :1], whole[:, 1:]
    stated = float(problem.reference_error(known.frames, known.parameters, steps)[-1])
    return [
        {
            "problem": name,
            "setting": rung.name,
            "scheme": rung.scheme,
            "num_points": list(rung.num_points),
            "error": rung.error,
            "seconds_a_unit": rung.seconds / (steps * problem.interval),
            "pareto": rung.pareto,
            "counts": rung.error > TRUST * stated,
            "stated_error": stated,
            "time_units": steps * problem.interval,
        }
        for _, rung in speed.ladder(problem, known, truth)
    ]


def of(rows: Sequence[dict[str, Any]], problem: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["problem"] == problem]


def claims(rows: Sequence[dict[str, Any]]) -> Iterator[Claim]:
    for problem in dict.fromkeys(row["problem"] for row in rows):
        mine = of(rows, problem)
        front = [row["error"] for row in mine if row["pareto"] and row["counts"]]
        fall = max(front) / min(front) if front else math.nan
        able = [row["seconds_a_unit"] for row in mine if row["error"] <= ERROR]
        ratio = statistics.median(able) / min(able) if able else math.nan
        yield Claim(
            f"{problem}: the trusted solver can judge an error of {ERROR:.0%}.",
            "effect",
            TRUST * mine[0]["stated_error"],
            ERROR,
            "at most",
        )
        yield Claim(
            f"{problem}: along the front the error falls by a factor of {FALL:g} and more.",
            "effect",
            fall,
            FALL,
            "at least",
        )
        yield Claim(
            f"{problem}: of the settings within {ERROR:.0%}, the best is {CHOICE:g} times as fast as the median and more.",
            "effect",
            ratio,
            CHOICE,
            "at least",
        )


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """A panel a problem: each setting a mark by its scheme, the front as a line."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row["problem"] for row in rows))
    figure = Figure(figsize=(4.6 * len(names), 4.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        mine = of(rows, name)
        front = sorted((r["seconds_a_unit"], r["error"]) for r in mine if r["pareto"] and r["counts"])
        if front:
            axes.plot(*zip(*front, strict=True), color=LIGHT["accent"], lw=1.4, drawstyle="steps-post", zorder=2)
        for i, scheme in enumerate(dict.fromkeys(row["scheme"] for row in mine)):
            style = {"marker": "osD^v<>P"[i % 8], "ls": "", "ms": 4.5, "color": LIGHT[f"c{i % 5 + 1}"], "zorder": 3}
            for counts in (True, False):
                places = [
                    (r["seconds_a_unit"], r["error"]) for r in mine if r["scheme"] == scheme and r["counts"] == counts
                ]
                if places:
                    axes.plot(*zip(*places, strict=True), **style, alpha=1.0 if counts else 0.25)
            axes.plot([], [], **style, label=scheme)
        floor = TRUST * mine[0]["stated_error"]
        axes.set(xscale="log", yscale="log", title=name, xlabel="seconds a time unit (one run, one thread)")
        axes.axhline(floor, color=LIGHT["muted"], lw=0.8, ls=DASHES[2], zorder=1)
        axes.annotate(
            "ten times the trusted solver's own error",
            (1, floor),
            (-4, 3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            color=LIGHT["muted"],
            fontsize=7,
        )
        axes.legend(fontsize=7, frameon=False)
        units = f"after {mine[0]['time_units']:g} time units"
        axes.set_ylabel(f"relative error {units}")
        axes.tick_params(axis="x", which="both", labelsize=6)  # a decade holds up to five of them
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--quick", action="store_true", help="small grids and few frames: a look, not evidence")
    parser.add_argument("--out", type=Path, help="where the JSON goes, and the picture beside it (needed with --quick)")
    parser.add_argument(
        "--dirty", action="store_true", help="let code through that is in no commit; the result is marked"
    )
    arguments = parser.parse_args()
    if arguments.quick and arguments.out is None:
        parser.error("--quick is a look and no evidence: say where it goes with --out FILE.json.")
    commit = committed(PACKAGE, Path(__file__), dirty=arguments.dirty)
    out, began, rows = arguments.out or RESULT, time.perf_counter(), []
    for name, (problem, steps) in problems(arguments.quick).items():
        rows += measure(name, problem, steps)
    result = evidence(
        question=QUESTION,
        rows=rows,
        claims=claims(rows),
        seeds=[SEED],
        minutes=(time.perf_counter() - began) / 60,
        commit=commit,
        packages=["matplotlib"],
    )
    save(out, result)
    draw(rows, out.with_suffix(".png"))
    for entry in [*result["rows"], *result["claims"]]:
        print(json.dumps(entry))


if __name__ == "__main__":
    main()
