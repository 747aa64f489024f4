"""The commands, one small function each: ``(options, house) -> exit code or None``."""

from __future__ import annotations

import re
import shlex
from argparse import Namespace
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console

from slipstream.app import listing, recipes, runfolder, runs
from slipstream.app.arguments import make
from slipstream.app.house import House
from slipstream.app.names import Names, nearest
from slipstream.app.recipes import Recipe, need
from slipstream.errors import InputError
from slipstream.pretrained import CONFIG

ASSIGNMENT = re.compile(r"[A-Za-z_][\w.-]*=")
Houses = Callable[[], House]


def say(text: str) -> None:
    """One line on standard output, never wrapped, so that paths and commands can be copied."""
    Console(soft_wrap=True, highlight=False, markup=False).print(text)


def next_command(*words: str) -> None:
    say(f"next: {shlex.join(['slipstream', *words])}")


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Free words, and assignments of the form key=value."""
    return [w for w in words if not ASSIGNMENT.match(w)], [w for w in words if ASSIGNMENT.match(w)]


def _one(words: list[str], what: str) -> tuple[str, list[str]]:
    free, overrides = _split(words)
    if len(free) != 1:
        raise InputError(f"expected one {what}; got {' '.join(free) or 'none'}.")
    return free[0], overrides


def _work(
    options: Namespace, house: House, section: str, stage: Callable[[runs.Prepared, runfolder.RunFolder], None]
) -> list[tuple[Recipe, list[str]]]:
    """Check all recipes, open all run folders, and only then do the stage for each."""
    paths, overrides = _split(options.words)
    if not paths:
        raise InputError("expected a recipe; got only key=value.")
    if options.out and len(paths) > 1:
        raise InputError("--out is the folder of one run; several recipes go to runs/NAME each.")
    loaded = [recipes.load(Path(p), house, overrides, options.allow) for p in paths]
    names = [r.name for r in loaded]
    if len(set(names)) < len(names):
        raise InputError(f"two recipes have the same name, and so the same run folder: {', '.join(names)}.")
    for recipe in loaded:
        need(recipe, section, options.command)
    prepared = [runs.prepare(r, house, options.allow) for r in loaded]
    with ExitStack() as open_runs:
        folders = []
        for item in prepared:
            path = Path(options.out) if options.out else Path("runs") / item.recipe.name
            run = runfolder.open_run(path, item.recipe.tree, item.inputs, options.force)
            folders.append(open_runs.enter_context(run))
        for item, folder in zip(prepared, folders, strict=True):
            say(f"{item.recipe.name} in {folder.path}")
            stage(item, folder)
    again = ["--out", options.out] if options.out else []
    again += ["--anyway"] if getattr(options, "anyway", False) else []
    again += _imports(options)
    return [(r, [p, *overrides, *again]) for r, p in zip(loaded, paths, strict=True)]


def _imports(options: Namespace) -> list[str]:
    """What the next command must allow, too."""
    return [word for package in options.allow for word in ("--import", package)]


def build(options: Namespace, houses: Houses) -> None:
    def stage(prepared: runs.Prepared, run: runfolder.RunFolder) -> None:
        for report in runs.verify(prepared, run, say, options.anyway):
            say(f"report: {report}")
        next_command("verify", str(run.path), "verify.runs=16", *_imports(options))

    options.command = "build"
    _work(options, houses(), "models", stage)


def train(options: Namespace, houses: Houses) -> None:
    options.command = "train"
    done = _work(options, houses(), "models", lambda prepared, run: runs.train(prepared, run, say, options.anyway))
    for _, words in done:
        next_command("build", *words)


def simulate(options: Namespace, houses: Houses) -> None:
    house = houses()
    target, overrides = _one(options.words, "recipe or problem")
    for name in ("runs", "steps", "seed"):
        if getattr(options, name) is not None:
            overrides.append(f"simulate.{name}={getattr(options, name)}")
    is_recipe = Path(target).suffix in (".yaml", ".yml") or Path(target).exists()
    if is_recipe and not options.out:
        options.words, options.command = [target, *overrides], "simulate"
        ((_, words),) = _work(options, house, "simulate", lambda prepared, run: runs.simulate(prepared, run, say))
        next_command("build", *words)
        return
    if is_recipe:
        recipe = recipes.load(Path(target), house, overrides, options.allow)
    else:
        tree = {"name": target.rpartition(".")[2], "problem": {"class": target}, "simulate": {}}
        recipe = recipes.recall(tree, "command line", house, overrides, options.allow)
    need(recipe, "simulate", "simulate")
    out = Path(options.out or f"{recipe.name}.zarr")
    problem = make(recipe.problem)
    problem.simulate(**make(recipe.simulate, problem), out=out)
    say(f"store: {out}")
    if is_recipe:
        next_command("build", target)


def verify(options: Namespace, houses: Houses) -> None:
    target, overrides = _one(options.words, "run folder or model folder")
    folder = Path(target)
    if not folder.is_dir():
        recipe_like = folder.suffix in (".yaml", ".yml")
        hint = f" Recipes are verified by: slipstream build {target}" if recipe_like else ""
        raise InputError(f"{folder} is no folder of a run or a model.{hint}")
    house = houses()
    is_run = (folder / runfolder.RECORD).exists()
    models = {} if is_run else {folder.absolute().name: house.load(str(folder), options.allow)}
    if options.recipe:
        recipe = recipes.load(Path(options.recipe), house, overrides, options.allow)
    else:
        source = str(folder / (runfolder.RECORD if is_run else CONFIG))
        tree = runfolder.read_record(folder)["recipe"] if is_run else _posed_by(folder, models, house)
        recipe = recipes.recall(tree, source, house, overrides, options.allow)
    prepared = runs.prepare(recipe, house, options.allow)
    out = Path(options.out) if options.out else folder / "verify.html"
    seconds = None
    with nullcontext() if options.out else runfolder.locked(folder):
        if is_run:
            stages = runfolder.read_record(folder)["stages"]
            trained = [s.removeprefix("train ") for s, e in stages.items() if s.startswith("train ") and e["done"]]
            if not trained:
                raise InputError(f"{folder} has no trained model yet. Train with: slipstream build RECIPE")
            models = runs.load_models(prepared, folder, trained, runs.final_folder(prepared, stages, trained))
            seconds = runs.training_seconds(stages, models)
        reports = runs.report_paths(out, recipe.test)
        runs.assess(prepared, models, reports, seconds)
    for report in reports.values():
        say(f"report: {report}")


def _model(word: str) -> Path:
    """The folder of a saved model, or an error that knows what it is instead."""
    folder = Path(word)
    if not (folder / CONFIG).exists():
        is_run = (folder / runfolder.RECORD).exists()
        hint = f" It is the folder of a run; its models are in {folder / 'models'}." if is_run else ""
        raise InputError(f"{folder} is no folder of a saved model.{hint}")
    return folder


def accelerate(options: Namespace, houses: Houses) -> None:
    folder, house = _model(options.words[0]), houses()
    names = ("max_error", "batch", "threads", "steps", "runs")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    model = house.load(str(folder), options.allow)
    faster = house.accelerate(model, options.data, say=say, **given)
    out = Path(options.out) if options.out else folder.with_name(f"{folder.absolute().name}-fast")
    runs.write_faster(faster, out)
    say(f"model: {out}")
    next_command("verify", str(out), *_imports(options))


def export(options: Namespace, houses: Houses) -> None:
    folder, house = _model(options.words[0]), houses()
    out = Path(options.out) if options.out else folder.with_name(f"{folder.absolute().name}.pt2")
    written = house.export(house.load(str(folder), options.allow), out, options.data, batch=options.batch)
    say(written.sentence)
    say(f"graph: {out}")
    say(f"its inputs: {out.with_suffix('.json')}")


def _posed_by(folder: Path, models: Mapping[str, Any], house: House) -> dict[str, Any]:
    """The recipe of the problem that a saved model carries."""
    ((name, model),) = models.items()
    problem = getattr(model, "problem", None)
    if not isinstance(problem, house.problem):
        raise InputError(f"The model in {folder} knows no problem; say what to verify it on: --recipe RECIPE.")
    return recipes.of_problem(problem, name)


def fit(options: Namespace, houses: Houses) -> None:
    from slipstream.assessment import fit as fit_data
    from slipstream.data import describe
    from slipstream.data import open as open_data

    (word,) = options.words
    named = {"axes": options.axes, "channels": options.channels, "time": options.time, "periodic": options.periodic}
    data = open_data(word, **named, interval=options.interval, missing=options.missing or "refuse")
    say(describe(data))
    out = Path(options.out or Path("fits") / Path(word).stem)
    minutes = 5.0 if options.minutes is None else options.minutes
    result = fit_data(data, minutes=minutes, seed=options.seed or 0)
    Console().print(result.report)
    say(result.sentence)
    folder = result.save(out)
    say(f"model: {folder}")
    say(f"report: {folder / 'report.html'}")


def list_(options: Namespace, houses: Houses) -> None:
    house = houses()
    if not options.words:
        listing.rooms(house, house.rooms)
        return
    (word,) = options.words
    if word in house.rooms:
        listing.rooms(house, [word])
        return
    names = Names(house.rooms)
    classes = list(dict.fromkeys(names.called(word).values()))  # of one name there may be several
    if not classes:
        near = nearest(word, house.rooms) or nearest(word.rpartition(".")[2], names.choices())
        raise InputError(f"There is no room or class {word!r}.{near} Rooms: {', '.join(house.rooms)}.")
    for i, cls in enumerate(classes):
        if i:
            print()
        listing.one(word.rpartition(".")[2], cls, house)


def study(options: Namespace, houses: Houses) -> int | None:
    from slipstream.app import harness, studies

    scripts = studies.scripts(folder := studies.find_folder())
    if not options.words:
        listing.table({name: f"{studies.literal(p, 'QUESTION')}  [{studies.state(p)}]" for name, p in scripts.items()})
        return None
    (name,) = options.words
    if name not in scripts:
        raise InputError(
            f"There is no study {name!r}.{nearest(name, scripts)} In {folder} there are: {', '.join(scripts)}."
        )
    if options.quick and options.long:
        raise InputError("--quick and --long are two sizes of one study; give one of them.")
    size: studies.Size = "quick" if options.quick else "long" if options.long else "full"
    outcome = harness.run(
        scripts[name],
        say,
        size=size,
        arms=[a for a in (options.arms or "").split(",") if a],
        threads=options.threads,
        dirty=options.dirty,
        fresh=options.fresh,
    )
    for claim in outcome.claims:
        say(
            f"{'holds' if claim.holds else 'FAILS'}  {claim.claim}  ({claim.measured:.4g}, {claim.comparison} {claim.bar:g})"
        )
    if outcome.path is not None:
        say(f"{'evidence' if size == 'full' else 'a look'}: {outcome.path}")
        if options.quick:
            next_command("study", name)
    return 0 if outcome.good else 1


def cite(options: Namespace, houses: Houses) -> None:
    from slipstream.app.citations import bibliography
    from slipstream.app.used import classes_of

    (word,) = options.words
    found = bibliography(classes_of(Path(word), houses(), options.allow))
    say(found or f"No class that {word} uses names a published source.")
