"""What it costs to write an equation as text instead of as a class: two-dimensional Burgers and Gray-Scott.

Run ``python benchmarks/parsed.py``; two minutes on one core. Writes ``benchmarks/results/parsed.json``.

The same spectral stepper marches both forms from the same state, and they must agree before anything is timed. Steps of both run
in one process, in turn, ten at a time; what counts is the time of the processor, not that of the clock, and the shortest block of each.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slipstream.assessment.evidence import Claim

QUESTION = "Is an equation that is written as text marched as fast as one that is written as a class?"
BAR, AGREEMENT = 1.1, 1e-5
BURGERS = "v_t = nu*laplace(v) - advect(v, v)"
GRAY_SCOTT = "u_t = Du*laplace(u) - u*v**2 + F*(1 - u); v_t = Dv*laplace(v) + u*v**2 - (F + k)*v"
CASES = [("burgers", 64), ("burgers", 128), ("gray-scott", 64), ("gray-scott", 128)]
STEPS = 10
RESULT = Path(__file__).parent / "results" / "parsed.json"


def pair(name: str, n: int) -> tuple[list[Any], Any]:
    """The stepper of the class, that of the text, and a state to start from."""
    import torch

    import slipstream as ss
    from slipstream.grids import Grid
    from slipstream.problems.periodic import smooth_field

    generator = torch.Generator().manual_seed(0)
    grid = Grid.box(n, num_dims=2)
    u = torch.stack([smooth_field(grid, generator, 4, 0.3) for _ in range(2)])[None, None].float()
    if name == "burgers":
        written = ss.equations.Burgers(0.02, num_dims=2)
        parsed, dt = ss.equations.parse(BURGERS, {"nu": 0.02}, num_dims=2), 0.005
    else:
        written = ss.equations.GrayScott(0.04, 0.06, 2e-3, 1e-3)
        values = {"Du": 2e-3, "Dv": 1e-3, "F": 0.04, "k": 0.06}
        parsed, dt, u = ss.equations.parse(GRAY_SCOTT, values, num_dims=2), 0.5, (0.5 + 0.2 * u)
    steppers = [ss.solvers.SpectralStepper(e, grid, STEPS * dt, STEPS, ss.solvers.ETDRK2) for e in (written, parsed)]
    return steppers, u


def measure(name: str, n: int, seconds: float) -> dict[str, Any]:
    steppers, u = pair(name, n)
    states = [s.start(u, {}) for s in steppers]
    a, b = (s.advance(state, {})[1] for s, state in zip(steppers, states, strict=True))
    difference, change = float((a - b).norm() / a.norm()), float((a[:, 0] - u[:, 0]).norm() / a.norm())
    if not difference <= AGREEMENT:
        raise SystemExit(f"{name}: the solutions differ by {difference:.1e} after {STEPS} steps; nothing was timed.")
    best = [math.inf, math.inf]
    end = time.process_time() + seconds
    while time.process_time() < end:
        for i, (stepper, state) in enumerate(zip(steppers, states, strict=True)):
            start = time.process_time()
            stepper.advance(state, {})
            best[i] = min(best[i], time.process_time() - start)
    micro = {"class": 1e6 * best[0] / STEPS, "text": 1e6 * best[1] / STEPS}
    return {
        "equation": name,
        "num_points": n,
        "difference": difference,
        "change": change,
        "microseconds_a_step": micro,
        "ratio": best[1] / best[0],
    }


def claims(rows: list[dict[str, Any]]) -> Iterator[Claim]:
    from slipstream.assessment.evidence import Claim

    worst = max(row["difference"] for row in rows)
    yield Claim(f"Both forms compute the same solution ({STEPS} steps).", "law", worst, AGREEMENT, "at most")
    for row in rows:
        text = f"{row['equation']}, {row['num_points']}^2 points: the text takes at most {BAR} times the time of the class."
        yield Claim(text, "effect", row["ratio"], BAR, "at most")


def main() -> None:
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--seconds", type=float, default=25.0, help="of processor time a case")
    parser.add_argument(
        "--dirty", action="store_true", help="let code through that is in no commit; the result is marked"
    )
    arguments = parser.parse_args()

    import torch

    from slipstream.assessment.evidence import PACKAGE, committed, evidence, save

    torch.set_num_threads(1)
    commit = committed(PACKAGE, Path(__file__), dirty=arguments.dirty)
    began = time.perf_counter()
    with torch.no_grad():
        rows = [measure(name, n, arguments.seconds) for name, n in CASES]
    minutes = (time.perf_counter() - began) / 60
    result = evidence(question=QUESTION, rows=rows, claims=claims(rows), seeds=[0], minutes=minutes, commit=commit)
    save(RESULT, result)
    for entry in [*result["rows"], *result["claims"]]:
        print(json.dumps(entry))


if __name__ == "__main__":
    main()
