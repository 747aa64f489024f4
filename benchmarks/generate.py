"""How fast steady data are made, beside a plain loop of ``scipy.sparse.linalg.spsolve``: Darcy flow and waves of one frequency.

Run ``python benchmarks/generate.py``; six minutes on two quiet cores. Writes ``benchmarks/results/generate.json``.

Both sides solve the same systems of the ready-made problems, to a relative residual of 1e-8 or less, which is looked at. The loop gets its
matrices assembled, in the format that it wants, before the clock starts; `generate` assembles its own, from the fields, on the clock. All
take turns in one process; the least processor time of the rounds counts for one thread, the least time on the clock for two.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slipstream.assessment.evidence import Claim
    from slipstream.problems import SteadyLinear

QUESTION = (
    "How many samples of steady problems a second, against a plain loop of a sparse direct solver at equal residual?"
)
TOLERANCE = 1e-8
BARS = {
    "darcy 64": 3.0,
    "darcy 128": 3.0,
    "lognormal 64": 3.0,
    "lognormal 128": 3.0,
    "waves 64": 1.8,
    "waves 128": 1.8,
}
"""Case: least ratio of samples a second to the plain loop."""
SAMPLES = {64: 32, 128: 16}
LOOPED = 3
"""Samples of a round of the loop: its cost is the same for each."""
RESULT = Path(__file__).parent / "results" / "generate.json"


def problem_of(case: str) -> SteadyLinear:
    """The problem of a case, on its own grid."""
    from slipstream.problems import DarcyColumn, DarcyFlow, LognormalMedium, WaveScattering

    kind, points = case.split()
    n = int(points)
    if kind == "waves":
        return WaveScattering(num_points=n, frequency=4.0)
    return DarcyFlow(num_points=n) if kind == "darcy" else DarcyColumn(num_points=n, medium=LognormalMedium())


def solvers_of(case: str) -> dict[str, Any]:
    """What is compared: the problem's own way, and what else might be it."""
    from slipstream.solvers.linear import LU, Candidate, SharedLU

    if case.startswith("waves"):
        return {
            "ours": problem_of(case).way[1],
            "shared order, single": Candidate(SharedLU(single=True)),
            "LU": Candidate(LU()),
        }
    return {
        "ours": problem_of(case).way[1],
        "shared order, single": Candidate(SharedLU(single=True)),
        "LU": Candidate(LU()),
    }


def measure(case: str, threads: int, seconds: float) -> dict[str, Any]:
    import numpy as np
    from scipy.sparse.linalg import spsolve

    from slipstream.solvers.linear import generate

    problem, n = problem_of(case), int(case.split()[1])
    parameters = problem.sample_parameters(SAMPLES[n], seed=0)
    exact = {k: v.double() for k, v in parameters.items()}
    fixed = problem.systems(exact, problem.grid)
    matrices = [fixed.A.matrix(i).tocsc() for i in range(LOOPED)]
    sides = [fixed.b[i].flatten().numpy() for i in range(LOOPED)]
    worst = dict.fromkeys(["plain loop", *solvers_of(case)], 0.0)

    def loop() -> int:
        for A, b in zip(matrices, sides, strict=True):
            x = spsolve(A, b)
            worst["plain loop"] = max(worst["plain loop"], float(np.linalg.norm(b - A @ x) / np.linalg.norm(b)))
        return LOOPED

    def made(name: str, solver: Any, count: int) -> Callable[[], int]:
        def job() -> int:
            systems = problem.systems({k: v[:count] for k, v in exact.items()}, problem.grid)
            found = generate(systems, solver, tol=TOLERANCE)
            worst[name] = max(worst[name], found.residual)
            return count

        return job

    jobs: dict[str, Callable[[], int]] = {"plain loop": loop}
    for name, solver in solvers_of(case).items():
        jobs[name] = made(name, solver, SAMPLES[n] if name == "ours" and not case.startswith("waves") else 4)
    clock = time.process_time if threads == 1 else time.perf_counter
    best = dict.fromkeys(jobs, math.inf)
    for job in jobs.values():
        job()
    end, rounds = time.perf_counter() + seconds, 0
    while time.perf_counter() < end or rounds < 3:
        rounds += 1
        for name, job in jobs.items():
            start = clock()
            count = job()
            best[name] = min(best[name], (clock() - start) / count)
    return {
        "case": case,
        "threads": threads,
        "rounds": rounds,
        "milliseconds_a_sample": {k: 1e3 * t for k, t in best.items()},
        "ratio": best["plain loop"] / best["ours"],
        "residual": worst,
    }


def work(threads: int, seconds: float) -> None:
    """All cases with one number of threads; one line of JSON each."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    import torch

    torch.set_num_threads(threads)
    for case in BARS:
        print(json.dumps(measure(case, threads, seconds)), flush=True)


def claims(rows: list[dict[str, Any]]) -> Iterator[Claim]:
    from slipstream.assessment.evidence import Claim

    worst = max(r for row in rows for r in row["residual"].values())
    yield Claim("Every sample of every solver ends at this relative residual.", "law", worst, TOLERANCE, "at most")
    for row in rows:
        text = f"{row['case']}^2 points, {row['threads']} thread(s): samples a second against the plain loop."
        yield Claim(text, "effect", row["ratio"], BARS[row["case"]], "at least")


def main() -> None:
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--seconds", type=float, default=20.0, help="a case")
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    parser.add_argument(
        "--dirty", action="store_true", help="let code through that is in no commit; the result is marked"
    )
    arguments = parser.parse_args()
    if arguments.threads:
        return work(arguments.threads, arguments.seconds)

    from slipstream.assessment.evidence import PACKAGE, committed, evidence, save

    commit = committed(PACKAGE, Path(__file__), dirty=arguments.dirty)
    began, rows = time.perf_counter(), []
    for threads in (1, 2):
        if threads > len(os.sched_getaffinity(0)):
            continue
        command = [sys.executable, __file__, "--threads", str(threads), "--seconds", str(arguments.seconds)]
        told = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        child = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=told)
        if child.returncode:
            raise SystemExit(child.returncode)
        rows += [json.loads(line) for line in child.stdout.splitlines()]
    result = evidence(
        question=QUESTION,
        rows=rows,
        claims=claims(rows),
        seeds=[0],
        minutes=(time.perf_counter() - began) / 60,
        commit=commit,
        packages=["scipy"],
    )
    save(RESULT, result)
    for entry in [*result["rows"], *result["claims"]]:
        print(json.dumps(entry))


if __name__ == "__main__":
    main()
