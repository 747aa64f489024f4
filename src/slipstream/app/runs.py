"""What a recipe does: simulate, train each model, accelerate them, verify; each stage kept in the run folder."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from slipstream.app.arguments import make
from slipstream.app.house import TABLE, House
from slipstream.app.recipes import Model, Recipe, objective
from slipstream.app.runfolder import RunFolder
from slipstream.errors import InputError
from slipstream.pretrained import describe

FRAMES, REPORT, FASTER = "frames.zarr", "report.html", "accelerated"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """A recipe whose problem, data, steppers and objectives have been constructed, so that none can be refused later.

    Parameters
    ----------
    models : name -> (stepper, objective, data of its own, whether it learns from labels).
    inputs : stage -> the part of the recipe that it depends on, in the order of the work.
    """

    recipe: Recipe
    house: House
    problem: Any
    data: Any
    test: Mapping[str, Any]
    models: Mapping[str, tuple[Any, Any, Any, bool]]
    inputs: Mapping[str, Any]
    allow: tuple[str, ...]


def prepare(recipe: Recipe, house: House, allow: Collection[str] = ()) -> Prepared:
    """Construct everything that a recipe names. A constructor's refusal carries the place in the recipe."""
    data = make(recipe.data)
    if recipe.data is None:
        problem = make(recipe.problem)
    else:
        with recipe.data.node.placed():
            problem = house.pose(data)
    test = make(dict(recipe.test), problem)
    tree = recipe.tree
    base = {"problem": tree.get("problem"), "data": tree.get("data")}
    inputs: dict[str, Any] = {}
    if recipe.simulate is not None:
        inputs["simulate"] = {**base, "simulate": tree["simulate"]}
    if recipe.models and recipe.data is None:
        inputs["budget"] = {**base, "steppers": {n: tree["models"][n]["stepper"] for n in recipe.models}}
    models = {}
    for name, model in recipe.models.items():
        models[name] = _prepare_model(model, problem, data is not None, recipe.simulate is not None)
        learns = models[name][3]
        inputs[f"train {name}"] = {
            **base,
            "simulate": tree.get("simulate") if learns else None,
            "model": tree["models"][name],
        }
        if recipe.accelerate is not None:
            inputs[f"accelerate {name}"] = {"train": inputs[f"train {name}"], "accelerate": tree["accelerate"]}
    if models:
        inputs["verify"] = {k: v for k, v in tree.items() if k != "name"}
    return Prepared(recipe, house, problem, data, test, models, inputs, tuple(allow))


def _prepare_model(model: Model, problem: Any, has_data: bool, simulates: bool) -> tuple[Any, Any, Any, bool]:
    with torch.random.fork_rng():
        torch.manual_seed(model.train.get("seed") or 0)
        stepper = make(model.stepper, problem)
    with model.stepper.node.placed():
        describe(stepper)  # what cannot be saved is refused now, not after the training
    minimised = objective(model, problem)
    with model.node.placed():
        minimised.check(stepper)
    own = make(model.data, problem)
    labels = minimised.frames_needed(stepper)[1]
    if labels > 0 and own is None and not has_data and not simulates:
        raise model.node.error(
            f"its objective needs {labels} later frames as labels, and this recipe simulates none. "
            "Add simulate: {runs: 8, steps: 60}, or an objective without labels."
        )
    return stepper, minimised, own, labels > 0


def simulate(prepared: Prepared, run: RunFolder, say: Say) -> None:
    """The frames that labels come from; nothing where the recipe simulates none."""
    if "simulate" not in prepared.inputs or _kept("simulate", run, say):
        return
    say("simulate")
    with run.stage("simulate", prepared.inputs["simulate"], [FRAMES]):
        _frames(prepared, run)


def _frames(prepared: Prepared, run: RunFolder) -> Any:
    """Simulated frames; a store that is already complete is only opened."""
    return prepared.problem.simulate(**make(prepared.recipe.simulate, prepared.problem), out=run.path / FRAMES)


def check_budget(prepared: Prepared, run: RunFolder, say: Say, anyway: bool) -> None:
    """Say what a network may cost; stop where the classical solver cannot be beaten, unless told to go on."""
    if "budget" not in prepared.inputs:
        return
    if not run.done("budget"):
        say("budget")
        with run.stage("budget", prepared.inputs["budget"], []) as result:
            found = prepared.house.budget(prepared.problem, {n: m[0] for n, m in prepared.models.items()})
            result["sentence"], result["worthwhile"] = str(found), found.worthwhile
    result = run.stages["budget"]["result"]
    say(result["sentence"])
    if not (result["worthwhile"] or anyway):
        raise InputError("The classical solver wins before training has begun. Train all the same with --anyway.")


def train(prepared: Prepared, run: RunFolder, say: Say, anyway: bool = False) -> None:
    """Train every model that is not trained yet."""
    check_budget(prepared, run, say, anyway)
    simulate(prepared, run, say)
    for name, (stepper, minimised, own, learns) in prepared.models.items():
        stage = f"train {name}"
        if _kept(stage, run, say):
            continue
        for later in (f"accelerate {name}", "verify"):
            run.forget(later)  # it would speak of the model that was there before
        say(stage)
        data = next((d for d in (own, prepared.data) if d is not None), None)
        if data is None:
            data = _frames(prepared, run) if learns else prepared.problem
        folder, saved = f"training/{name}", f"models/{name}"
        with run.stage(stage, prepared.inputs[stage], [folder, saved]) as result:
            arguments = make(prepared.recipe.models[name].train, prepared.problem)
            training = prepared.house.train(stepper, data, minimised, folder=run.path / folder, **arguments)
            result["seconds"] = training.seconds
            stepper.save_pretrained(run.path / saved)


def accelerate(prepared: Prepared, run: RunFolder, say: Say) -> None:
    """Make every trained model faster, where the recipe asks for it; nothing else of it changes."""
    if prepared.recipe.accelerate is None:
        return
    for name in prepared.models:
        stage = f"accelerate {name}"
        if _kept(stage, run, say):
            say(run.stages[stage]["result"]["sentence"])
            continue
        run.forget("verify")
        say(stage)
        with run.stage(stage, prepared.inputs[stage], [f"{FASTER}/{name}"]) as result:
            (model,) = load_models(prepared, run.path, [name]).values()
            target = prepared.problem if prepared.data is None else prepared.data
            arguments = make(prepared.recipe.accelerate, prepared.problem)
            faster = prepared.house.accelerate(model, target, say=say, **arguments)
            write_faster(faster, run.path / FASTER / name)
            result["sentence"] = faster.acceleration.sentence


def write_faster(model: Any, folder: Path) -> None:
    """Show the table of an acceleration, and save the model with the table beside it."""
    Console(width=None if sys.stdout.isatty() else 140).print(model.acceleration)
    model.save_pretrained(folder, about={"acceleration": model.acceleration.sentence})
    model.acceleration.save(folder / TABLE)


def verify(prepared: Prepared, run: RunFolder, say: Say, anyway: bool = False) -> list[Path]:
    """Train what is missing, accelerate, then roll every model out on unseen runs (or the test data) and write the reports."""
    train(prepared, run, say, anyway)
    accelerate(prepared, run, say)
    reports = report_paths(run.path / REPORT, prepared.recipe.test)
    if _kept("verify", run, say):
        for verdict in run.stages["verify"]["result"]["verdicts"]:
            say(verdict)
        return list(reports.values())
    say("verify")
    written = [name for p in reports.values() for name in (p.name, p.with_suffix(".json").name)]
    with run.stage("verify", prepared.inputs["verify"], written) as result:
        names = list(prepared.models)
        models = load_models(prepared, run.path, names, final_folder(prepared, run.stages, names))
        result["verdicts"] = assess(prepared, models, reports, training_seconds(run.stages, models))
    return list(reports.values())


def load_models(prepared: Prepared, folder: Path, names: Collection[str], part: str = "models") -> dict[str, Any]:
    return {name: prepared.house.load(str(folder / part / name), prepared.allow) for name in names}


def final_folder(prepared: Prepared, stages: Mapping[str, Any], names: Collection[str]) -> str:
    """Where the models that are verified lie: the accelerated ones, once every model has been."""
    done = all(stages.get(f"accelerate {name}", {}).get("done") for name in names)
    return FASTER if prepared.recipe.accelerate is not None and done else "models"


def report_paths(path: Path, test: Collection[str]) -> dict[str, Path]:
    """Where the report on each test set goes; on fresh runs of the problem there is one, called ``""``."""
    return {name: path.with_stem(f"{path.stem}-{name}") for name in test} or {"": path}


def training_seconds(stages: Mapping[str, Any], models: Mapping[str, Any]) -> float:
    """What the model that is judged cost before its first use: continuations, and simulated labels where it learnt from them.

    The training's own count includes what was spent before a kill, the stage's what was spent beside the training.
    """
    train = stages[f"train {next(iter(models))}"]
    labels = stages["simulate"]["seconds"] if train["inputs"]["simulate"] is not None else 0.0
    return max(train["seconds"], train["result"].get("seconds", 0.0)) + labels


def assess(
    prepared: Prepared, models: Mapping[str, Any], reports: Mapping[str, Path], seconds: float | None = None
) -> list[str]:
    """Judge the first model, show the others beside it, and write each report; the verdict sentences."""
    judged, *_ = models.values()
    rivals = dict(list(models.items())[1:])
    verdicts = []
    for name, path in reports.items():
        target = prepared.test[name] if name else prepared.problem
        arguments = make(prepared.recipe.verify, prepared.problem)
        assessment = prepared.house.verify(judged, target, rivals=rivals, training_seconds=seconds, **arguments)
        Console(width=None if sys.stdout.isatty() else 120).print(assessment)
        assessment.save(path)
        assessment.save(path.with_suffix(".json"))
        verdicts.append(f"{name}: {assessment.verdict}" if name else assessment.verdict)
    return verdicts


def _kept(stage: str, run: RunFolder, say: Say) -> bool:
    if run.done(stage):
        say(f"{stage}: done before, kept")
    return run.done(stage)
