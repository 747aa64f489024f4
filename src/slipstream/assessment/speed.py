"""Honest speed: cost at equal error, against the cheapest classical setting that reaches it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch

from slipstream.assessment.assessment import MODEL, Rung, Speed, Timing, mark_pareto
from slipstream.assessment.metrics import relative_l2
from slipstream.problems.problem import Problem, Setting
from slipstream.stepper import Stepper
from slipstream.steppers.rolling import rollout
from slipstream.trajectories import Trajectories

HOW = (
    "Whole rollouts from one known frame, warm, float32, normalisation, transfers and starting frames included; "
    "arms take turns in one process and the minimum of the rounds counts."
)

PATIENCE = 4.0
"""Seconds that a batch may take which is timed for throughput."""

TURN, CALLS = 0.05, 20
"""Seconds that a turn lasts at least, and the most calls in it. The first calls after another job find cold caches and memory given back: a
call of 2 ms after one of 300 ms took 20 ms, the next one 7, and only then 2.5."""


@contextmanager
def threads(count: int):
    """Run with so many threads, then as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def race(jobs: Mapping[str, Callable[[], object]], rounds: int = 7, budget: float = 20.0) -> dict[str, float]:
    """Seconds of each job: the shortest call of all interleaved rounds, after one warm-up round that does not count.

    A turn lasts `TURN` seconds or one call, whichever is longer.

    Parameters
    ----------
    rounds : how many at the most. budget : seconds after which no further round is begun (three always are).
    """
    for job in jobs.values():
        job()
    best = dict.fromkeys(jobs, math.inf)
    begun = time.perf_counter()
    for done in range(rounds):
        if done >= 3 and time.perf_counter() - begun > budget:
            break
        for name, job in jobs.items():
            turn = time.perf_counter()
            for _ in range(CALLS):
                start = time.perf_counter()
                job()
                end = time.perf_counter()
                best[name] = min(best[name], end - start)
                if end - turn >= TURN:
                    break
    return best


def job_of(problem: Problem, steps: int) -> str:
    """What is timed, as a phrase."""
    return "the field" if problem.steady else f"{steps} frames ({steps * problem.interval:g} time units)"


def final_error(stepper: Stepper, known: Trajectories, truth: Trajectories) -> float:
    """Relative L2 error of a rollout at its end, mean over runs; infinite where it left finite numbers."""
    new = rollout(stepper, known, truth.steps, guard=False).frames[:, -1:]
    error = relative_l2(new, truth.frames[:, -1:], truth.grid).mean()
    return float(error) if bool(torch.isfinite(error)) else math.inf


def ladder(problem: Problem, known: Trajectories, truth: Trajectories) -> list[tuple[Setting, Rung]]:
    """Error of every classical setting over whole runs and seconds for one run (one thread), Pareto flags set."""
    settings = problem.ladder()
    one, steps = known[:1], truth.steps
    errors = {str(s): final_error(problem.solver(s, guard=False), known, truth) for s in settings}
    sane = [s for s in settings if math.isfinite(errors[str(s)]) and errors[str(s)] < 2.0]

    def job(setting: Setting) -> Callable[[], object]:
        solver = problem.solver(setting, guard=False)
        return lambda: rollout(solver, one, steps)

    with threads(1):
        seconds = race({str(s): job(s) for s in sane}, rounds=5, budget=15.0)
    rungs = mark_pareto(
        Rung(
            str(s),
            errors[str(s)],
            seconds[str(s)],
            problem.points(s),
            s.scheme.name,
            None if problem.steady or not s.substeps else problem.interval / s.substeps,
        )
        for s in sane
    )
    return list(zip(sane, rungs, strict=True))


def measure(
    stepper: Stepper,
    problem: Problem,
    known: Trajectories,
    truth: Trajectories,
    rungs: Sequence[tuple[Setting, Rung]],
    rivals: Mapping[str, Stepper],
    error: float,
    training_seconds: float | None,
    level: float | None = None,
    batch: int = 16,
) -> Speed:
    """Model, matched classical setting and rivals, timed in turns: latency (one run) and throughput, one and two threads.

    The setting that is matched is the cheapest with an error of at most `level` (`error` where None). Where a run of it takes seconds,
    fewer than `batch` are timed together.
    """
    level, steps = error if level is None else level, truth.steps
    able = sorted((r for r in rungs if r[1].error <= level), key=lambda r: r[1].seconds)
    one = known[:1]
    # The fastest few by the first look race again beside the model: the matched one is the winner of that race.
    finalists = {str(s): problem.solver(s, guard=False) for s, _ in able[:3]}
    with threads(1):
        jobs = {MODEL: stepper, **rivals, **finalists}
        latency = race({name: _job(s, one, steps) for name, s in jobs.items()})
    model = Rung(type(stepper).__name__, error, latency[MODEL], problem.grid.shape)
    matched = None
    if able:
        setting, rung = min(able[:3], key=lambda r: latency[str(r[0])])
        matched = replace(rung, seconds=latency[str(setting)])
    slowest = latency[MODEL] if matched is None else max(latency[MODEL], matched.seconds)
    batch = min(batch, max(2, round(PATIENCE / slowest)))
    many = known[torch.arange(batch) % known.runs]
    timings = [Timing(MODEL, 1, 1, latency[MODEL])]
    pair: dict[str, Stepper] = {MODEL: stepper}
    if matched is not None:
        timings.append(Timing("classical", 1, 1, matched.seconds))
        pair["classical"] = finalists[matched.name]
    for count, size, frames in ((1, batch, many), (2, 1, one), (2, batch, many)):
        with threads(count):
            seconds = race({name: _job(s, frames, steps) for name, s in pair.items()}, rounds=5, budget=6.0)
        timings += [Timing(name, count, size, value / size) for name, value in seconds.items()]
    gain = None if matched is None else matched.seconds - model.seconds
    within = [r.error for _, r in rungs if r.seconds <= model.seconds]
    return Speed(
        job=f"{job_of(problem, steps)} of one run",
        model=model,
        matched=matched,
        timings=tuple(timings),
        ratio_at_matched_error=None if matched is None else matched.seconds / model.seconds,
        error_at_matched_time=min(within) if within else None,
        training_seconds=training_seconds,
        break_even_runs=None if gain is None or training_seconds is None or gain <= 0 else training_seconds / gain,
        rivals=tuple(Rung(name, math.nan, latency[name]) for name in rivals),
        how=HOW,
        level=level,
    )


def _job(stepper: Stepper, known: Trajectories, steps: int) -> Callable[[], object]:
    return lambda: rollout(stepper, known, steps, guard=False)
