"""`slipstream.fit`: a user's own data become a stepper, compared with persistence and a linear model on data that none has seen."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from slipstream.assessment.assessment import MODEL, Assessment
from slipstream.assessment.metrics import relative_l2
from slipstream.assessment.verification import known_and_truth, verify
from slipstream.data.opening import open as open_data
from slipstream.data.windows import Windows
from slipstream.errors import InputError
from slipstream.objectives.supervised import Supervised
from slipstream.operators.anysize import AnySize
from slipstream.operators.layers import Padding
from slipstream.operators.mlp import MLP
from slipstream.operators.operator import OperatorFactory
from slipstream.operators.unet import UNet
from slipstream.problems.recorded import Recorded
from slipstream.stepper import Stepper
from slipstream.steppers.affine import Affine
from slipstream.steppers.autoregressive import Autoregressive, Steady
from slipstream.steppers.dmd import DMD
from slipstream.steppers.held import Held
from slipstream.steppers.persistence import Persistence
from slipstream.steppers.rolling import rollout
from slipstream.training import Descent, train
from slipstream.trajectories import Trajectories, take

NETWORK, LINEAR, NOTHING = "network", "linear", "persistence"
MEAN = "mean answer"
SHARE = 0.15
"""Of the data, held back for choosing between candidates, and as much again for the report."""
FEWEST_FRAMES, FEWEST_CASES, LONGEST = 12, 5, 20
TRAINED = 0.9
"""Share of the budget after which training ends: the rest is for judging."""
WIDTH = {1: 16, 2: 16, 3: 8}
ENERGIES = (0.9, 0.99, 0.999, 0.9999, 0.999999)
RANKS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Parts:
    """Data to learn from, to choose by, and to report on; none shares a frame with another."""

    train: Trajectories
    choose: Trajectories
    test: Trajectories
    how: str


@dataclass(frozen=True)
class Fit:
    """What `slipstream.fit` returns.

    Parameters
    ----------
    stepper : the best candidate; `slipstream.rollout` goes on with it.
    report : its assessment on held-out data, with the others as rivals.
    sentence : which it is, and by how much.
    chosen_by : error of every candidate on the data that the choice was made by (relative L2, mean over runs and frames).
    """

    stepper: Stepper
    report: Assessment
    sentence: str
    chosen_by: Mapping[str, float]

    def save(self, folder: str | os.PathLike) -> Path:
        """Write the model (`Stepper.save_pretrained`), ``report.html`` and ``report.json`` into a folder."""
        folder = self.stepper.save_pretrained(folder, {"sentence": self.sentence, "chosen_by": dict(self.chosen_by)})
        self.report.save(folder / "report.html")
        self.report.save(folder / "report.json")
        return folder


def fit(
    source: Any,
    minutes: float | None = None,
    *,
    steps: int | None = None,
    operator: OperatorFactory | None = None,
    history: int = 2,
    calls: int = 2,
    batch: int = 8,
    seed: int = 0,
    show: bool = True,
) -> Fit:
    """The best stepper for some data within a budget.

    Three candidates: a small U-Net marching in time, a linear model (dynamic mode decomposition), and persistence; for steady data a U-Net
    from conditions to field, an affine map, and the mean answer. They learn from one part of the data, the choice is made on a second, and
    the report is about a third. Whole runs are held out where there are at least five, else the last stretch of time of each.

    Parameters
    ----------
    source : trajectories, or anything that `slipstream.data.open` takes; where that needs words of yours, open the data first.
    minutes : everything together: reading, training, judging (5 where neither is given). steps : of training, instead; then the result
        is the same on every call.
    operator : factory of another network.
    history : frames it looks back. calls : how many of its own steps it is trained through.
    batch, seed, show : as in `slipstream.train`.

    Raises
    ------
    InputError : too few runs or frames to hold any out, or whatever `slipstream.data.open` refuses.
    DivergedTraining : the network's training diverged.
    """
    begin = perf_counter()
    if minutes is not None and steps is not None:
        raise InputError(f"Give one budget, minutes= or steps=; got minutes={minutes}, steps={steps}.")
    minutes = 5.0 if minutes is None and steps is None else minutes
    if not (minutes or steps or 0) > 0:
        raise InputError(f"A budget is above 0; got minutes={minutes}, steps={steps}.")
    data = open_data(source)
    parts = parted(data, history, seed)
    candidates = _steady_rivals(parts) if data.steps == 1 else _rivals(parts)
    network = _network(parts.train, operator, history, seed)
    budget: dict[str, Any] = {"steps": steps}
    if minutes is not None:
        budget = {"minutes": max(TRAINED * minutes - (perf_counter() - begin) / 60, 0.05 * minutes)}
    longest = parts.train.steps - network.history
    objective = Supervised(calls=1 if data.steps == 1 else max(1, min(calls, longest)))
    length = sum(objective.frames_needed(network))
    windows = Windows(parts.train, length, min(batch, parts.train.runs * (parts.train.steps - length + 1)))
    train(network, windows, objective, update=Descent(), seed=seed, show=show, **budget)
    candidates = {NETWORK: network, **candidates}
    errors = {name: _error(stepper, parts.choose) for name, stepper in candidates.items()}
    best = min(errors, key=lambda name: errors[name])
    rivals = {n: s for n, s in candidates.items() if n not in (best, NOTHING)}
    report = verify(candidates[best], parts.test, rivals=rivals, runs=parts.test.runs, steps=LONGEST, ladder=False)
    report = replace(report, notes=(parts.how, *report.notes))
    return Fit(candidates[best], report, _sentence(best, candidates, parts, report), errors)


# ---- data ---------------------------------------------------------------------------------------------------------------------------


def parted(data: Trajectories, history: int = 1, seed: int = 0) -> Parts:
    """Three parts: by whole runs where there are at least five, else each run's time cut in three, in order.

    Raises
    ------
    InputError : too few of either.
    """
    if data.runs >= FEWEST_CASES and (data.steps == 1 or data.steps > max(2, history)):
        order = torch.randperm(data.runs, generator=torch.Generator().manual_seed(seed))
        n = max(1, round(SHARE * data.runs))
        how = f"{data.runs - 2 * n} runs were learnt from, {n} chosen by, and these {n} kept for the report."
        held = [_runs(data, order[i : i + n].sort().values) for i in (0, n)]
        choose, test = (h if data.steps == 1 else _pieces(h, history) for h in held)
        return Parts(_runs(data, order[2 * n :].sort().values), choose, test, how)
    if data.steps == 1:
        raise InputError(
            f"The data have {data.runs} cases; at least {FEWEST_CASES} are needed to learn from some and be judged on others."
        )
    if data.steps < FEWEST_FRAMES:
        raise InputError(
            f"The data have {data.runs} runs of {data.steps} frames; at least {FEWEST_FRAMES} frames, or {FEWEST_CASES} runs, are needed "
            "to learn from some and be judged on others."
        )
    n = max(max(2, history) + 1, round(SHARE * data.steps))
    first = data.steps - 2 * n
    how = f"Of {data.steps} frames the first {first} were learnt from, the next {n} chosen by, and the last {n} kept for this report."
    return Parts(
        data[:, :first], _pieces(data[:, first : first + n], history), _pieces(data[:, first + n :], history), how
    )


def _runs(data: Trajectories, index: Tensor) -> Trajectories:
    return replace(data, frames=data.frames[index], parameters=take(data.parameters, index))


def _pieces(data: Trajectories, history: int) -> Trajectories:
    """Runs cut into stretches of some known frames and a few to be predicted, each a run of its own: a judgement on many starts."""
    known = max(2, history)
    length = known + min(LONGEST, max(1, data.steps // 3 - known))
    count = max(1, data.steps // length)
    frames = data.frames[:, data.steps - count * length :] if count * length < data.steps else data.frames
    parameters = {n: v.repeat_interleave(count, dim=0) for n, v in data.parameters.items()}
    return replace(
        data, frames=frames.unflatten(1, (count, length)).flatten(0, 1), parameters=parameters, start_time=0.0
    )


# ---- candidates -----------------------------------------------------------------------------------------------------------------------


def _network(data: Trajectories, operator: OperatorFactory | None, history: int, seed: int) -> Stepper:
    torch_state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        problem, make = (
            Recorded.of(data),
            operator or (_unet(data) if data.grid.axes else partial(MLP, output_scale=0.1)),
        )
        if data.steps == 1:
            return Steady(make, problem)
        stepper = Autoregressive(make, problem, history=max(1, min(history, data.steps - 1)))
        return stepper if data.weights is None else Held(stepper, data.weights > 0)
    finally:
        torch.set_rng_state(torch_state)


def _unet(data: Trajectories) -> OperatorFactory:
    """As many levels as leave four points an axis, three at most; axes that do not halve so often are widened."""
    levels = max(0, min(3, int(math.log2(min(data.grid.shape) / 4)))) if min(data.grid.shape) >= 4 else 0
    multiple = 2**levels
    fits = [n % multiple == 0 for n in data.grid.shape]
    kinds: list[Padding] = [
        "periodic" if a.periodic and ok else "zero" for a, ok in zip(data.grid.axes, fits, strict=True)
    ]
    scale = 1.0 if data.steps == 1 else 0.1
    unet = partial(
        UNet, hidden_channels=WIDTH[data.grid.num_dims], levels=levels, padding=tuple(kinds), output_scale=scale
    )
    if all(fits):
        return unet
    return partial(AnySize, operator=unet, multiple=multiple, periodic=tuple(a.periodic for a in data.grid.axes))


def _rivals(parts: Parts) -> dict[str, Stepper]:
    """The linear model of the rank that does best on the data to choose by, and persistence."""
    made = {m.rank: m for m in (DMD.of(parts.train, energy=e) for e in ENERGIES)}
    best = min(made.values(), key=lambda m: _error(m, parts.choose))
    d = parts.train
    return {LINEAR: best, NOTHING: Persistence(d.grid, d.interval, d.channels)}


def _steady_rivals(parts: Parts) -> dict[str, Stepper]:
    made = {m.rank: m for m in (Affine.of(parts.train, r) for r in RANKS)}
    best = min(made.values(), key=lambda m: _error(m, parts.choose))
    return {LINEAR: best, MEAN: Affine.of(parts.train, 0)}


def _error(stepper: Stepper, data: Trajectories) -> float:
    """Mean relative L2 over runs and frames; infinite where a forecast left finite numbers."""
    before, truth = known_and_truth(stepper, data, data.runs, LONGEST, 0)
    made = rollout(stepper, before, truth.steps, guard=False).frames
    error = float(relative_l2(made, truth.frames, truth.grid, truth.weights).mean())
    return error if math.isfinite(error) else math.inf


# ---- words ----------------------------------------------------------------------------------------------------------------------------


def _sentence(best: str, candidates: Mapping[str, Stepper], parts: Parts, report: Assessment) -> str:
    def error(arm: str) -> float:
        values = report.metrics[MODEL if arm == best else arm][report.main_metric]
        return sum(values) / len(values)

    def name(arm: str) -> str:
        stepper = candidates[arm]
        if arm == NETWORK:
            return f"the network ({sum(p.numel() for p in stepper.parameters()):,} parameters)"
        if arm == LINEAR:
            return f"the linear model (rank {stepper.rank})"
        return arm if arm == NOTHING else f"the {arm}"

    span = "on unseen cases" if report.subject.interval == 0 else f"over {len(report.times)} unseen frames"
    others = sorted((a for a in candidates if a != best), key=error)
    figures = ", ".join(f"{name(a)} {_percent(error(a))}" for a in others)
    mean = f"a mean error of {_percent(error(best))} {span}"
    lazy = NOTHING if NOTHING in candidates else MEAN
    if best == lazy:
        return f"Nothing beats {name(lazy)}, which is what you get: {mean}; {figures}."
    if error(best) >= error(lazy):
        return (
            f"{_capital(name(best))} was chosen on held-back data, but on the unseen rest it does not beat {name(lazy)}: {mean}; "
            f"{figures}. "
            "Do not rely on it; more data or a longer budget may help."
        )
    return f"{_capital(name(best))} is the best: {mean}; {figures}."


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _percent(x: float) -> str:
    return (
        f"{100 * x:.2g} %" if x < 0.1 else f"{100 * x:.3g} %" if math.isfinite(x) else "none (it left finite numbers)"
    )
