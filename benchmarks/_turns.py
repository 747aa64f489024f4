"""What benchmarks beside a compiled rival share: both in one process, in turn, a process for each number of threads, and one result."""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slipstream.assessment.evidence import Claim

Block = Callable[[int], Any]
"""Does as many steps as it is told."""


def shortest(blocks: dict[str, Block], seconds: float, unit: int = 1) -> dict[str, float]:
    """Microseconds a step: the best block of each, the blocks in turn.

    Blocks are some milliseconds long, in multiples of `unit` steps; those named "a frame" cannot do less than `unit` at a time.
    """
    sizes = {}
    for name, block in blocks.items():
        block(unit)
        start = time.perf_counter()
        block(unit)
        sizes[name] = unit * max(1, round(2e-3 / (time.perf_counter() - start)))
    best = dict.fromkeys(blocks, math.inf)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, block in blocks.items():
            block(unit if "a frame" in name else 2)
            start = time.perf_counter()
            block(sizes[name])
            best[name] = min(best[name], (time.perf_counter() - start) / sizes[name])
    return {name: 1e6 * t for name, t in best.items()}


def pin(threads: int) -> None:
    """Keep this process to so many cores: to be called before the rival counts them."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def by_threads(script: str, arguments: Sequence[str], counts: Sequence[int] = (1, 2)) -> list[dict[str, Any]]:
    """The lines of JSON that a script prints with ``--threads``, one process after the other, as far as there are cores."""
    rows: list[dict[str, Any]] = []
    for threads in counts:
        if threads > len(os.sched_getaffinity(0)):
            continue
        command = [sys.executable, script, "--threads", str(threads), *arguments]
        child = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if child.returncode:
            raise SystemExit(child.returncode)
        rows += [json.loads(line) for line in child.stdout.splitlines()]
    return rows


def run(
    script: Path,
    question: str,
    work: Callable[[int, float], None],
    claims: Callable[[list[dict[str, Any]]], Iterable[Claim]],
    packages: Sequence[str],
    files: Sequence[str] = (),
    counts: Sequence[int] = (1, 2),
    quick: Callable[[int, float], None] | None = None,
) -> None:
    """The command line of such a benchmark: ``work(threads, seconds)`` prints rows in processes of its own; result and claims are saved.

    `files` stand beside the script and have to be committed too. Where there is a `quick`, ``--quick`` does that instead and saves nothing.
    """
    parser = argparse.ArgumentParser(description=question)
    parser.add_argument("--seconds", type=float, default=20.0, help="a case")
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    if quick is not None:
        parser.add_argument("--quick", action="store_true", help="small sizes: a look, no evidence; writes nothing")
    parser.add_argument(
        "--dirty", action="store_true", help="let code through that is in no commit; the result is marked"
    )
    arguments = parser.parse_args()
    looking = quick is not None and arguments.quick
    if arguments.threads:
        pin(arguments.threads)
        return (quick if looking and quick else work)(arguments.threads, arguments.seconds)

    from slipstream.assessment.evidence import PACKAGE, committed, evidence, save

    beside = [script.with_name(name) for name in files]
    commit = committed(PACKAGE, script, Path(__file__), *beside, dirty=arguments.dirty or looking)
    began = time.perf_counter()
    options = ["--seconds", str(arguments.seconds), *(["--quick"] if looking else [])]
    rows = by_threads(str(script), options, counts)
    minutes = (time.perf_counter() - began) / 60
    result = evidence(
        question=question,
        rows=rows,
        claims=claims(rows),
        seeds=[0],
        minutes=minutes,
        commit=commit,
        packages=packages,
    )
    if not looking:
        save(script.parent / "results" / f"{script.stem}.json", result)
    for entry in [*result["rows"], *result["claims"]]:
        print(json.dumps(entry))
