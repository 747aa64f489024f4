"""`slipstream.verify`: accuracy, stability, spectra and honest speed of a stepper, on runs it has not seen."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor

from slipstream.assessment import baselines, speed, stagger
from slipstream.assessment.assessment import MODEL, Assessment, Contestant, Example, Reference, Spectra, Subject
from slipstream.assessment.metrics import (
    applicable,
    correlation,
    correlation_time,
    failure_time,
    invariant_drift,
    relative_l2,
    vrmse,
)
from slipstream.assessment.spectra import energy_spectrum
from slipstream.assessment.verdict import verdict
from slipstream.compression.accelerated import Accelerated
from slipstream.data.dataset import Dataset
from slipstream.data.store import Store
from slipstream.errors import InputError
from slipstream.problems.problem import Problem
from slipstream.stepper import Stepper
from slipstream.steppers.rolling import rollout
from slipstream.trajectories import Trajectories

UNSEEN = 2**20
"""Seed of the runs that verification simulates: training uses small ones."""
THRESHOLDS = (0.8, 0.9, 0.95)
TRUST = 10.0
"""Errors below so many times the reference's own are not told apart."""


def verify(
    stepper: Stepper,
    data: Problem | Trajectories | Dataset | str | os.PathLike,
    *,
    rivals: Mapping[str, Stepper] | None = None,
    runs: int = 4,
    steps: int = 20,
    seed: int = UNSEEN,
    training_seconds: float | None = None,
    ladder: bool = True,
) -> Assessment:
    """Judge a stepper on unseen runs.

    Parameters
    ----------
    stepper : any.
    data : a problem (fresh trusted runs are simulated, and the classical solver is raced), or trajectories, a store or its path
        (everything but the race).
    rivals : other models shown beside it, by name.
    runs, steps : how many runs, and how many new frames each.
    seed : of the simulated runs.
    training_seconds : what the model cost before its first use, for the break-even.
    ladder : False leaves the classical race out.

    Returns
    -------
    An `Assessment`: print it, or save it as ``.html``, ``.json`` or ``.png``.

    Raises
    ------
    InputError : too few frames or runs, or non-finite truth.
    """
    rivals = dict(rivals or {})
    problem = data if isinstance(data, Problem) else None
    before, truth = known_and_truth(stepper, data, runs, steps, seed)
    steady = stepper.history == 0
    known = before if steady else before[:, -(1 if problem is not None else max(1, stepper.history)) :]
    arms = {MODEL: rollout(stepper, known, truth.steps, guard=False)}
    for name, rival in rivals.items():
        # Whoever can make starting frames does, like the model: true ones would be an advantage.
        able = rival.history <= known.steps or rival.starter is not None
        arms[name] = rollout(rival, known if able else before, truth.steps, guard=False)
    predictions = {name: arm.frames for name, arm in arms.items()}
    predictions |= {} if steady else baselines.simple(before.frames, truth.frames)
    if steady:
        predictions["mean"] = baselines.mean(before.frames, truth.frames)
    space = bool(truth.grid.axes)  # without one nothing is coarser, correlated or has a spectrum
    if problem is not None and not steady and space:
        predictions["coarse_classical"] = baselines.coarse_classical(problem, known, truth.steps)

    grid, times = truth.grid, truth.times - (0.0 if steady else float(before.times[-1]))
    metrics = {a: _figures(p, truth) for a, p in predictions.items()}
    per_run = relative_l2(predictions[MODEL], truth.frames, grid, truth.weights)
    failures, failed = _failures(predictions[MODEL], per_run, times)
    matching = {
        a: correlation(p, truth.frames, grid, truth.weights).nan_to_num(0.0)
        for a, p in predictions.items()
        if a != "mean" and space
    }
    result = Assessment(
        verdict="",
        subject=_subject(problem, truth),
        stepper=_contestant(stepper),
        acceleration=stepper.acceleration if isinstance(stepper, Accelerated) else None,
        times=tuple(times.tolist()),
        runs=truth.runs,
        metrics=metrics,
        spread={"relative_l2": (_list(per_run.amin(0)), _list(per_run.amax(0)))},
        reference=None
        if problem is None
        else _reference(problem, before[:, :0] if steady else before[:, -1:], truth.steps),
        one_call={} if steady else _one_call(stepper, before, truth),
        correlation={a: _list(c.mean(0)) for a, c in matching.items()},
        correlation_times={} if steady else {a: _correlation_times(c, times) for a, c in matching.items()},
        failure_times={a: _mean_failure(p, truth, times) for a, p in predictions.items() if a in arms},
        drift={} if problem is None or steady else _drift(problem, predictions, truth),
        spectra=()
        if truth.weights is not None or not space
        else _spectra(predictions, truth, times),  # waves know no mask
        failures=failures,
        baselines={a: baselines.WHAT[a] for a in predictions if a in baselines.WHAT}
        | {name: f"{type(r).__name__}, {_count(r):,} parameters" for name, r in rivals.items()},
        machine=machine(),
        versions=versions(),
        examples=_examples(predictions[MODEL], truth, times, failed),
        notes=(
            *_notes(problem, known, truth, steady),
            *stagger.remarks(stepper, predictions[MODEL], truth),
            *getattr(stepper, "remarks", tuple)(),
        ),
    )
    if problem is not None and ladder and not failed:  # survivors alone would flatter
        rungs = speed.ladder(problem, known, truth)
        error = result.metrics[MODEL]["relative_l2"][-1]
        if math.isfinite(error):
            assert result.reference is not None
            level = max(error, TRUST * result.reference.error[-1])
            cost = speed.measure(stepper, problem, known, truth, rungs, rivals, error, training_seconds, level)
            last = {name: result.metrics[name]["relative_l2"][-1] for name in rivals}
            cost = replace(cost, rivals=tuple(replace(r, error=last[r.name]) for r in cost.rivals))
            result = replace(result, ladder=tuple(r for _, r in rungs), speed=cost)
    return replace(result, verdict=verdict(result))


def known_and_truth(
    stepper: Stepper, data: Problem | Trajectories | Dataset | str | os.PathLike, runs: int, steps: int, seed: int
) -> tuple[Trajectories, Trajectories]:
    """Frames that are known (as many as anyone may want) and those to be predicted."""
    if runs < 1 or steps < 1:
        raise InputError(f"verify needs at least 1 run and 1 step; got runs={runs}, steps={steps}.")
    if isinstance(data, Problem) and data.steady:
        whole = data.simulate(runs, 1, seed)
        return whole, whole
    if isinstance(data, Problem):
        ahead = max(2, stepper.history)
        whole = data.simulate(runs, ahead + steps, seed)
        return whole[:, :ahead], whole[:, ahead:]
    if isinstance(data, (str, os.PathLike)):
        data = Store.open(data)
    whole = data.trajectories() if isinstance(data, Dataset) else data
    if whole.runs < 1:
        raise InputError("verify got no runs to judge on.")
    if not bool(torch.isfinite(whole.frames).all()):
        bad = (~torch.isfinite(whole.frames.flatten(1)).all(1)).nonzero().flatten().tolist()
        raise InputError(f"verify got non-finite truth in runs {bad[:5]}; mend or leave out these runs.")
    whole = whole[:runs] if runs < whole.runs else whole
    if stepper.history == 0:
        return whole, whole
    ahead = min(max(2, stepper.history), whole.steps - 1) if stepper.history <= 1 else stepper.history
    if ahead < 1 or whole.steps <= ahead:
        raise InputError(
            f"{type(stepper).__name__} needs {stepper.history} known frames and at least one to predict; the data have {whole.steps}."
        )
    return whole[:, :ahead], whole[:, ahead : ahead + steps]


def _figures(prediction: Tensor, truth: Trajectories) -> dict[str, tuple[float, ...]]:
    """Every metric at each time, mean over the runs that stayed finite; infinite where none did."""
    result = {}
    for name, metric in applicable(truth.grid, masked=truth.weights is not None).items():
        values = metric(prediction, truth.frames, truth.grid, truth.weights)
        sane = torch.isfinite(values)
        total = torch.where(sane, values, 0.0).sum(0) / sane.sum(0)
        result[name] = _list(torch.where(sane.any(0), total, torch.inf))
    return result


def _failures(prediction: Tensor, per_run: Tensor, times: Tensor) -> tuple[tuple[str, ...], int]:
    """A sentence for each run that left finite numbers, and how many did."""
    bad = ~torch.isfinite(prediction).flatten(2).all(-1)
    sentences = []
    for run in bad.any(1).nonzero().flatten().tolist():
        step = int(bad[run].nonzero()[0])
        sentences.append(
            f"Run {run} left finite numbers at frame {step + 1} (t = {float(times[step]):g}); later frames do not count."
        )
    return tuple(sentences), len(sentences)


def _one_call(stepper: Stepper, before: Trajectories, truth: Trajectories) -> dict[str, float]:
    """Error over the frames of one call from true frames, for the model and for what anyone could say."""
    if before.steps < stepper.history:
        return {}
    count = min(stepper.horizon, truth.steps)
    target = truth[:, :count]
    known = before[:, before.steps - max(1, stepper.history) :]
    arms = {MODEL: rollout(stepper, known, count, guard=False).frames, **baselines.simple(before.frames, target.frames)}
    arms.pop("mean", None)
    return {
        a: float(relative_l2(p, target.frames, truth.grid, truth.weights).nan_to_num(math.inf, math.inf).mean())
        for a, p in arms.items()
    }


def _correlation_times(values: Tensor, times: Tensor) -> dict[str, float | None]:
    """Time until the correlation falls below each threshold; None where most runs never did."""
    result: dict[str, float | None] = {}
    for threshold in THRESHOLDS:
        median = float(correlation_time(values, times.to(values), threshold).median())
        result[f"{threshold:g}"] = median if math.isfinite(median) else None
    return result


def _mean_failure(prediction: Tensor, truth: Trajectories, times: Tensor) -> float | None:
    error = vrmse if truth.grid.axes else relative_l2
    found = failure_time(error(prediction, truth.frames, truth.grid, truth.weights), times.to(prediction))
    failed = found[torch.isfinite(found)]
    return float(failed.mean()) if len(failed) else None


def _drift(
    problem: Problem, predictions: Mapping[str, Tensor], truth: Trajectories
) -> dict[str, dict[str, tuple[float, ...]]]:
    """How far each invariant of the equation lies from its true value, mean over runs."""
    result: dict[str, dict[str, tuple[float, ...]]] = {}
    for name, function in problem.equation.invariants().items():

        def values(frames: Tensor, function=function) -> Tensor:
            flat = frames.flatten(0, 1)
            own = {k: v.repeat_interleave(frames.shape[1], 0) for k, v in truth.parameters.items()}
            d, p = problem.calculus_for(flat, own), problem.equation.ready(own, flat)
            return function(flat, d, p).unflatten(0, frames.shape[:2])

        true = values(truth.frames)
        result[name] = {
            arm: _list(invariant_drift(values(p), true).abs().nan_to_num(math.inf, math.inf).mean(0))
            for arm, p in predictions.items()
            if arm not in ("mean", "linear_extrapolation")
        }
    return result


def _reference(problem: Problem, last: Trajectories, steps: int) -> Reference:
    few = last[: min(1 if problem.steady else 2, last.runs)]
    error = problem.reference_error(few.frames, few.parameters, steps)
    s = problem.reference_setting
    finer = "twice the points" if problem.steady else problem.refinement
    an_interval = "" if problem.steady else " an interval"
    return Reference(_list(error), f"{s}{an_interval} in float64 against {finer}, the largest of {few.runs} runs")


def _spectra(predictions: Mapping[str, Tensor], truth: Trajectories, times: Tensor) -> tuple[Spectra, ...]:
    shown = {
        "truth": truth.frames,
        **{a: p for a, p in predictions.items() if a not in ("mean", "persistence", "linear_extrapolation")},
    }
    result = []
    for step in sorted({0, truth.steps // 2, truth.steps - 1}):
        energy = {}
        for arm, frames in shown.items():
            k, e = energy_spectrum(frames[:, step], truth.grid)
            energy[arm] = _list(e.sum(1).mean(0))
        result.append(Spectra(float(times[step]), _list(k), energy))
    return tuple(result)


def _examples(prediction: Tensor, truth: Trajectories, times: Tensor, failed: int) -> tuple[Example, ...]:
    if truth.grid.num_dims not in (1, 2) or truth.interval < 0:
        return ()
    sane = torch.isfinite(prediction).flatten(1).all(1).nonzero().flatten().tolist()
    run = sane[0] if sane else 0
    return tuple(
        Example(
            f"{c.name}, unseen run {run + 1}",
            tuple(times.tolist()),
            truth.frames[run, :, i],
            prediction[run, :, i],
            c.unit,
        )
        for i, c in enumerate(truth.channels[:3])
    )


def _subject(problem: Problem | None, truth: Trajectories) -> Subject:
    if problem is None:
        return Subject(str(truth.about.get("problem", "data")), truth.grid, truth.channels, truth.interval)
    ranges = {n: f"{low:g} to {high:g}" for n, (low, high) in problem.varying.items()}
    fixed = {n: s.default for n, s in problem.equation.parameters.items() if s.default is not None and n not in ranges}
    return Subject(
        problem.name, problem.grid, problem.channels, problem.interval, problem.equation.latex, {**fixed, **ranges}
    )


def _contestant(stepper: Stepper) -> Contestant:
    settings: dict[str, float | int | str] = {
        "interval": stepper.interval,
        "history": stepper.history,
        "horizon": stepper.horizon,
    }
    original = stepper.stepper if isinstance(stepper, Accelerated) else stepper
    for name in ("space", "time", "fan", "share"):
        if isinstance(value := getattr(original, name, None), (int, float, str, bool)):
            settings[name] = value
    if isinstance(stepper, Accelerated):
        settings["accelerated by"] = ", ".join(t.label for t in stepper.transforms) or "nothing that was tried"
    return Contestant(type(original).__name__, _count(original), settings)


def _count(stepper: Stepper) -> int:
    return sum(p.numel() for p in stepper.parameters())


def _notes(problem: Problem | None, known: Trajectories, truth: Trajectories, steady: bool) -> tuple[str, ...]:
    if steady:
        return (f"Steady fields: {truth.runs} cases, each predicted from its parameters.",)
    source = (
        "simulated by the trusted solver with a seed that training does not use"
        if problem is not None
        else "from the data given"
    )
    return (
        f"{truth.runs} runs {source}; {known.steps} known frame(s) each, then {truth.steps} frames predicted.",
        "Figures are means over runs at each time.",
        "Missing starting frames of a model come from the fast classical solver; their cost is in its seconds.",
    )


def _list(values: Tensor) -> tuple[float, ...]:
    return tuple(float(v) for v in values.flatten())


def machine() -> dict[str, float | int | str]:
    """What the figures were measured on."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            name = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), name)
    except OSError:
        pass
    return {
        "processor": name,
        "cores": os.cpu_count() or 1,
        "system": platform.system(),
        "torch threads": torch.get_num_threads(),
    }


def versions() -> dict[str, str]:
    """Versions of what did the work."""
    found = {"python": platform.python_version()}
    for package in ("slipstream", "torch", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
