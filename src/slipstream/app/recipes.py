"""Recipes: what a file says, checked whole before any work starts.

A recipe is ``name``, ``problem`` or ``data`` (which pose a problem themselves), ``simulate``, ``models`` (each a ``stepper``, an
``objective``, ``train`` and perhaps ``data`` of its own), ``accelerate``, ``verify`` and ``test``. Everything below these words is
a class of a room with its arguments, or the arguments of one function of the Python interface.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from slipstream.app.arguments import Checker, Made, make
from slipstream.app.house import House
from slipstream.app.names import Names, nearest
from slipstream.app.nodes import Node, from_plain, override, read
from slipstream.errors import InputError
from slipstream.pretrained import describe

SECTIONS = ("name", "problem", "data", "simulate", "models", "accelerate", "verify", "test")
MODEL = ("stepper", "objective", "train", "data")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Model:
    """One model of a recipe: a stepper, its objective as weighted terms, how it is trained, and on which data of its own."""

    name: str
    stepper: Made
    terms: tuple[tuple[float, Made], ...]
    train: dict[str, Any]
    data: Made | None
    node: Node


@dataclass(frozen=True)
class Recipe:
    """A checked recipe. Nothing in it has been constructed.

    Parameters
    ----------
    tree : the recipe as plain values, overrides applied, paths absolute: what a run folder records and compares.
    accelerate : how trained models are made faster before they are verified; None leaves them as they are.
    test : name -> data to verify on; empty means fresh runs of the problem.
    """

    name: str
    tree: Mapping[str, Any]
    root: Node
    problem: Made | None = None
    data: Made | None = None
    simulate: dict[str, Any] | None = None
    models: Mapping[str, Model] = field(default_factory=dict)
    accelerate: dict[str, Any] | None = None
    verify: dict[str, Any] = field(default_factory=dict)
    test: Mapping[str, Made] = field(default_factory=dict)


def load(path: Path, house: House, overrides: Collection[str] = (), allow: Collection[str] = ()) -> Recipe:
    """The recipe in a file, with ``key=value`` overrides, checked."""
    root = read(path)
    return check(_overridden(root, overrides), house, allow)


def recall(
    tree: Mapping[str, Any], source: str, house: House, overrides: Collection[str] = (), allow: Collection[str] = ()
) -> Recipe:
    """The recipe in plain values, for example the one that a run folder recorded."""
    return check(_overridden(from_plain(tree, source, Path.cwd()), overrides), house, allow)


def of_problem(problem: Any, name: str) -> dict[str, Any]:
    """The recipe that poses a problem as it is, in plain values."""
    return {"name": name, "problem": _spelled(describe(problem))}


def _spelled(description: Any) -> Any:
    """What `slipstream.pretrained.describe` says, as a recipe says it."""
    if isinstance(description, list):
        return [_spelled(v) for v in description]
    if not isinstance(description, dict):
        return description
    if set(description) == {"dtype"}:
        return description["dtype"]
    spelled = {k: _spelled(v) for k, v in description.items()}
    arguments = spelled.pop("arguments", None)
    if arguments is None:
        return spelled
    return {"class": spelled.get("class") or spelled.get("factory"), **arguments}


def _overridden(root: Node, overrides: Collection[str]) -> Node:
    for assignment in overrides:
        override(root, assignment)
    return root


def check(root: Node, house: House, allow: Collection[str] = ()) -> Recipe:
    """Everything in a recipe, against the signatures of the classes and functions that it names.

    Raises
    ------
    InputError : with file, line, key, what was found, what was expected, and the nearest right name.
    ForeignCode : a class outside slipstream and the packages in `allow`.
    """
    keys = root.keys("a recipe")
    _known(keys, SECTIONS, "A recipe")
    if "name" not in keys:
        raise root.error("'name' is missing: it names the run folder.")
    name = _word(keys["name"], keys["name"].value)
    if "problem" in keys and "data" in keys:
        raise keys["data"].error("a recipe has a problem or data, not both; test data belong under 'test'.")
    if "problem" not in keys and "data" not in keys:
        raise root.error("'problem' or 'data' is missing: problem: {class: ...} or data: {class: ...}.")

    names = Names(house.rooms, tuple(allow))
    filled = {house.operator: house.filled}
    outside = Checker(names, filled=filled)
    inside = replace(outside, has_problem=True)  # data pose a problem, too

    problem = outside.made(keys["problem"], house.problem) if "problem" in keys else None
    data = outside.made(keys["data"]) if "data" in keys else None
    simulate = None
    if "simulate" in keys:
        node = keys["simulate"]
        if problem is None:
            raise node.error("there is no problem to simulate: this recipe has data.")
        simulate = inside.call(node, node.keys("simulate"), problem.cls.simulate, ("self", "out"))  # type: ignore[attr-defined]
    models = {}
    if "models" in keys:
        nodes = keys["models"].keys("models")
        models = {key: _model(node, key, list(nodes), inside, house) for key, node in nodes.items()}
    accelerate = None
    if "accelerate" in keys:
        node = keys["accelerate"]
        if not models:
            raise node.error("there are no models to accelerate in this recipe.")
        accelerate = inside.call(node, node.keys("accelerate"), house.accelerate, house.given_to_accelerate)
    verify: dict[str, Any] = {}
    if "verify" in keys:
        node = keys["verify"]
        verify = inside.call(node, node.keys("verify"), house.verify, house.given_to_verify)
    tests = keys["test"].keys("test") if "test" in keys else {}
    test = {_word(node, key): inside.made(node) for key, node in tests.items()}
    if models and problem is None and not test:
        raise root.error(
            "'test' is missing: without a problem the models are verified on data: test: {name: {class: ...}}."
        )
    return Recipe(name, root.plain(), root, problem, data, simulate, models, accelerate, verify, test)


def _model(node: Node, name: str, siblings: Collection[str], checker: Checker, house: House) -> Model:
    _word(node, name)
    keys = node.keys("a model")
    _known(keys, MODEL, "A model")
    for needed in ("stepper", "objective", "train"):
        if needed not in keys:
            others = [s for s in siblings if s != name]
            raise node.error(f"{needed!r} is missing from this model.{nearest(name, others)}")
    stepper = checker.made(keys["stepper"], house.stepper)
    train = keys["train"].keys("train")
    arguments = checker.call(keys["train"], train, house.train, house.given_to_train)
    budget = [arguments[unit] for unit in ("minutes", "steps") if arguments.get(unit) is not None]
    if len(budget) != 1 or not budget[0] > 0:
        raise keys["train"].error("train needs minutes or steps, one of the two and above 0.")
    data = checker.made(keys["data"]) if "data" in keys else None
    return Model(name, stepper, _terms(keys["objective"], checker, house), arguments, data, node)


def _terms(node: Node, checker: Checker, house: House) -> tuple[tuple[float, Made], ...]:
    """One objective, or a list of objectives each with a ``weight`` (1 if it has none)."""
    if not isinstance(node.value, list):
        return ((1.0, checker.made(node, house.objective)),)
    if not node.value:
        raise node.error("the list of objectives is empty.")
    terms = []
    for child in node.value:
        keys = dict(child.keys("an objective"))
        weight = keys.pop("weight", None)
        factor = 1.0 if weight is None else checker.value(weight, float, "the sum of objectives expects for weight")
        terms.append((factor, checker.made(replace(child, value=keys), house.objective)))
    return tuple(terms)


def _known(keys: Mapping[str, Node], known: Collection[str], title: str) -> None:
    for key, node in keys.items():
        if key not in known:
            raise node.error(f"{title} has no key {key!r}.{nearest(key, known)} It has: {', '.join(known)}.")


def _word(node: Node, word: Any) -> str:
    """Names become names of files."""
    if not isinstance(word, str) or not NAME.fullmatch(word):
        raise node.error(f"a name has letters, digits, - and _ only, because a folder is called so; got {word!r}.")
    return word


def objective(model: Model, problem: Any) -> Any:
    """The objective of a model; a sum where the recipe lists several."""
    (weight, first), *rest = model.terms
    total = make(first, problem)
    if weight != 1.0:
        total = weight * total
    for weight, term in rest:
        total = total + weight * make(term, problem)
    return total


def need(recipe: Recipe, section: str, command: str) -> None:
    """Refuse a recipe that lacks what a command is about."""
    if not getattr(recipe, section):
        raise InputError(f"{recipe.root.where}: {section!r} is missing: {command} needs it.")
