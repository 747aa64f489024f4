"""Which classes a run or a saved model used, found without running anything of it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from slipstream.app import recipes, runfolder
from slipstream.app.arguments import Made, make
from slipstream.app.citations import classes_in
from slipstream.app.house import House
from slipstream.errors import InputError, StoreError
from slipstream.pretrained import CONFIG, find_class, rebuild


def classes_of(folder: Path, house: House, allow: Collection[str] = ()) -> list[type]:
    """Problem, equation and schemes, then steppers, operators and objectives, each class once.

    Raises
    ------
    InputError : the folder is neither a run nor a saved model. ForeignCode : it names a class of a package that is not allowed.
    StoreError : its record cannot be read.
    """
    if (folder / runfolder.RECORD).exists():
        tree = runfolder.read_record(folder)["recipe"]
        recipe = recipes.recall(tree, str(folder / runfolder.RECORD), house, [], allow)
        problem = [] if recipe.problem is None else _problem(make(recipe.problem))
        found = [*problem, *_made([recipe.problem, recipe.data, dict(recipe.test), recipe.models])]
    elif (folder / CONFIG).exists():
        try:
            saved = json.loads((folder / CONFIG).read_text())
            arguments = saved["arguments"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{folder / CONFIG} could not be read: {error}.") from None
        posed = arguments.get("problem")
        problem = [] if posed is None else _problem(rebuild(posed, allow))
        named = classes_in({"class": saved.get("class"), "arguments": arguments})
        found = [*problem, *(find_class(path, allow) for path in named)]
    else:
        raise InputError(
            f"{folder} is no folder of a run or a saved model; expected {runfolder.RECORD} or {CONFIG} in it."
        )
    return list(dict.fromkeys(found))


def _problem(problem: Any) -> list[type]:
    """What a problem rests on; a recorded one has no equation and no solver."""
    parts = [getattr(problem, "equation", None)]
    for name in ("reference_setting", "fast_setting"):
        parts.append(getattr(getattr(problem, name, None), "scheme", None))
    return [type(problem), *(type(p) for p in parts if p is not None)]


def _made(value: Any) -> Iterator[type]:
    """The classes in a checked recipe, wherever they stand."""
    if isinstance(value, Made):
        yield value.cls
        yield from _made(value.arguments)
    elif isinstance(value, dict):
        for v in value.values():
            yield from _made(v)
    elif isinstance(value, (list, tuple)):
        for v in value:
            yield from _made(v)
    elif isinstance(value, recipes.Model):
        yield from _made([value.stepper, [made for _, made in value.terms], value.data, value.train])
