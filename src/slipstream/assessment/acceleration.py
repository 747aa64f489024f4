"""`slipstream.accelerate`: the fastest form of a stepper whose rollouts stay as good as they were."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from slipstream.assessment import speed
from slipstream.assessment.metrics import relative_l2
from slipstream.assessment.table import duration
from slipstream.assessment.tried import Acceleration, Row, percent
from slipstream.assessment.verification import UNSEEN, known_and_truth, machine, versions
from slipstream.compression.accelerated import Accelerated, operators_of, transformed
from slipstream.compression.batching import Batched
from slipstream.compression.combine import Combination, Found, Job, Judgement, Trial, search
from slipstream.compression.compiled import Compiled
from slipstream.compression.memory_format import ChannelsLast
from slipstream.compression.onnx import Onnx
from slipstream.compression.precision import Bfloat16
from slipstream.compression.quantised import Int8Linear
from slipstream.compression.spectral_form import SpectralForm
from slipstream.compression.transform import Cost, Stage, Transform, cost_of, count_flops
from slipstream.data.dataset import Dataset
from slipstream.errors import InputError
from slipstream.problems.problem import Problem
from slipstream.stepper import Stepper
from slipstream.steppers.rolling import rollout
from slipstream.trajectories import Trajectories

SEED = UNSEEN + 2
"""Of the runs that candidates are judged on: neither those of training nor those of verification."""
TIMED_CALLS = 4
BUDGET = 8.0
"""Seconds after which a race begins no further round; three it always has."""


def candidates(batch: int = 1) -> tuple[Transform, ...]:
    """What `accelerate` tries where nothing else is said."""
    parts = tuple(Batched(size) for size in (1, 4) if size < batch)
    return (
        SpectralForm("dft"),
        SpectralForm("fft"),
        Bfloat16(),
        Int8Linear(),
        ChannelsLast(),
        Compiled(freeze=True),
        Onnx(),
        *parts,
    )


def accelerate(
    stepper: Stepper,
    data: Problem | Trajectories | Dataset | str | os.PathLike | None = None,
    *,
    max_error: float = 0.01,
    steps: int = 20,
    runs: int = 4,
    batch: int = 1,
    threads: int = 1,
    transforms: Sequence[Transform] | None = None,
    width: int = 3,
    seed: int = SEED,
    say: Callable[[str], None] | None = None,
) -> Accelerated:
    """The fastest form of a stepper whose rollouts are no worse by more than `max_error`.

    Combinations of memory layout, number format, exact reformulation, compilation and parts of batches are applied to the operators
    of the stepper, judged by whole rollouts and timed by turns with the original, which is a candidate itself: the result is
    never slower than what was given. What wins for one run at a time may lose for sixteen: say which job counts.

    Parameters
    ----------
    stepper : any with operators inside.
    data : where rollouts start and what they should be: a problem (fresh trusted runs are simulated), trajectories, a store or its
        path; the problem of the stepper where None. Trajectories no longer than the stepper's history have no truth: then the
        distance from the original's rollout counts.
    max_error : the most that the rollout error (relative L2, mean over runs, at any frame) may grow, as a fraction: 0.01 is one percent of
        the field's norm. At frames at which the original is as wrong as a guess (an error of 1 or more), truth says nothing and the
        distance from the original counts.
    steps, runs : frames and runs of the rollouts that judge.
    batch, threads : the job that is timed: so many runs at a time, on so many threads.
    transforms : what to try; `candidates` where None. width : combinations that go on from stage to stage.
    seed : of the simulated runs. say : is told of every trial, a line each.

    Returns
    -------
    The stepper with what won, which may be nothing; ``.acceleration`` is the table, with preparation (compile) time apart.

    Raises
    ------
    InputError : nothing to judge on, no operators inside, or accelerated before.
    """
    if isinstance(stepper, Accelerated):
        raise InputError("This stepper is accelerated already; give the one that it keeps: stepper.stepper.")
    if not operators_of(stepper):
        raise InputError(f"{type(stepper).__name__} has no operators inside: there is nothing to make cheaper.")
    if not max_error >= 0 or min(steps, runs, batch, threads, width) < 1:
        raise InputError(
            "accelerate needs max_error >= 0 and steps, runs, batch, threads and width of at least 1; "
            f"got {max_error}, {steps}, {runs}, {batch}, {threads}, {width}."
        )
    known, truth = judged_on(stepper, data, steps, runs, seed)
    count = 1 if stepper.history == 0 else min(steps, TIMED_CALLS * stepper.horizon)
    timed = known[torch.arange(batch) % known.runs]

    def job(module: nn.Module) -> Job:
        assert isinstance(module, Stepper)
        return lambda: rollout(module, timed, count, chunk=batch, guard=False)

    def make(combination: Combination) -> Stepper:
        if not combination:
            return stepper
        fast = Accelerated(stepper, combination)
        _ = fast.fast  # what suits no operator is refused here, before anything runs
        return fast

    def tell(trial: Trial) -> None:
        if say is not None and trial.status != "unsuitable":
            error = "" if trial.judgement is None else f", extra error {percent(trial.judgement.error)}"
            first = "" if trial.first is None else f", first job {duration(trial.first)}"
            say(f"{trial.label}: {trial.status}{error}{first}{f', {trial.why}' if trial.why else ''}")

    with speed.threads(threads):
        judge = Judge(stepper, known, truth, steps, batch)
        found = search(
            make,
            candidates(batch) if transforms is None else transforms,
            judge=judge,
            job=job,
            race=lambda jobs: speed.race(jobs, rounds=5, budget=BUDGET),
            clock=time.perf_counter,
            cost=_Count(stepper, known[:1]),
            max_error=max_error,
            width=width,
            say=tell,
        )
    result = found.module if isinstance(found.module, Accelerated) else Accelerated(stepper)
    frames = "the field" if stepper.history == 0 else f"{count} frames"
    result.acceleration = Acceleration(
        type(stepper).__name__,
        found.winner.label,
        f"{frames} of {batch} run{'s' * (batch > 1)}",
        batch,
        threads,
        max_error,
        judge.how,
        _rows(found),
        {**machine(), "torch threads": threads},
        versions(),
    )
    return result


class Judge:
    """Compares the rollouts of a module with those of the original, and with the truth where that is known.

    Rollouts go in batches of the timed job's size: compiled graphs are judged in the very form that is timed.
    """

    def __init__(
        self, original: Stepper, known: Trajectories, truth: Trajectories | None, steps: int, batch: int
    ) -> None:
        self.runs, self.batch = known.runs, batch
        self.known = known[torch.arange(-(-known.runs // batch) * batch) % known.runs]
        self.truth = truth
        self.steps = steps if truth is None else truth.steps
        self.grid = known.grid
        self.expected = self._rollout(original)
        self.own = None if truth is None else relative_l2(self.expected, truth.frames, self.grid).mean(0)
        if not bool(torch.isfinite(self.expected).all()):
            raise InputError(
                f"{type(original).__name__} leaves finite numbers within {self.steps} frames: there is no rollout to compare with. "
                "Ask for fewer steps, or train it longer."
            )
        against = "from the original's rollout" if truth is None else "against the truth, beyond the original's own"
        self.how = f"Extra error: largest relative L2 error {against}, mean over {self.runs} runs, over {self.steps} frames of rollout."

    def _rollout(self, stepper: Stepper) -> Tensor:
        return rollout(stepper, self.known, self.steps, chunk=self.batch, guard=False).frames[: self.runs]

    def __call__(self, module: nn.Module) -> Judgement:
        assert isinstance(module, Stepper)
        frames = self._rollout(module)
        away = relative_l2(frames, self.expected, self.grid).mean(0)
        if self.truth is None or self.own is None:
            return Judgement(_worst(away), _worst(away))
        more = relative_l2(frames, self.truth.frames, self.grid).mean(0) - self.own
        return Judgement(_worst(torch.where(self.own < 1, more.clamp(min=0), away)), _worst(away))


def _worst(values: Tensor) -> float:
    """The largest; infinite where one is not finite, so that no comparison lets it through."""
    return float(values.nan_to_num(torch.inf, torch.inf).max())


class _Count:
    """Parameters, bytes and operations of a combination. Operations follow from the structure alone, and are counted once for each."""

    def __init__(self, stepper: Stepper, known: Trajectories) -> None:
        self.stepper, self.known = stepper, known
        self.flops: dict[Combination, int] = {}

    def __call__(self, module: nn.Module, combination: Combination) -> Cost:
        fast = module.fast if isinstance(module, Accelerated) else module
        structure = tuple(t for t in combination if t.stage is Stage.STRUCTURE)
        if structure not in self.flops:
            plain = transformed(self.stepper, structure)
            state = plain.start(self.known.frames, self.known.parameters)
            self.flops[structure] = count_flops(lambda: plain.advance(state, self.known.parameters))
        whole = cost_of(fast)
        return Cost(whole.parameters, whole.bytes, self.flops[structure])


def judged_on(
    stepper: Stepper,
    data: Problem | Trajectories | Dataset | str | os.PathLike | None,
    steps: int,
    runs: int,
    seed: int,
) -> tuple[Trajectories, Trajectories | None]:
    """Frames to start from, and what should follow where that is known."""
    if data is None:
        data = getattr(stepper, "problem", None)
        if not isinstance(data, Problem) or not data.solvable:
            raise InputError(
                f"{type(stepper).__name__} carries no problem that could be simulated; say what to judge it on: data=, a problem, "
                "trajectories or a store."
            )
    history = max(1, stepper.history)
    if isinstance(data, Trajectories) and stepper.history and data.steps <= stepper.history:
        return data[:runs], None
    before, truth = known_and_truth(stepper, data, runs, steps, seed)
    return (before if stepper.history == 0 else before[:, -history:]), truth


def _rows(found: Found) -> tuple[Row, ...]:
    rows = []
    for t in found.trials:
        error, deviation = (None, None) if t.judgement is None else t.judgement
        cost = t.cost or Cost(0, 0)
        sizes = (None, None, None) if t.cost is None else (cost.parameters, cost.bytes, cost.flops)
        rows.append(Row(t.label, t.status, t.why, error, deviation, t.seconds, t.preparation, *sizes))
    return tuple(rows)
