"""Arguments in a recipe, checked against signatures before anything is made.

`Checker` turns nodes into values and `Made` classes; `make` then constructs. Between the two no code of a problem, network or
solver has run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Union

from slipstream.app import hints
from slipstream.app.hints import Argument, arguments_of
from slipstream.app.names import Names, is_kind, nearest
from slipstream.app.nodes import Node, show
from slipstream.errors import ForeignCode, InputError

PROBLEM = "problem"
"""A constructor argument of this name gets the recipe's problem."""


@dataclass(frozen=True)
class Made:
    """A class with checked arguments, not yet constructed.

    `factory` is one that stays a `functools.partial`, for whoever calls it later with what only he knows.
    """

    cls: type
    arguments: dict[str, Any]
    factory: bool
    wants_problem: bool
    node: Node


@dataclass(frozen=True)
class Checker:
    """Checks nodes against what a signature accepts.

    Parameters
    ----------
    names : finds classes.
    has_problem : whether arguments called ``problem`` will be filled.
    filled : base class -> arguments that the caller of a factory supplies, so that a recipe must not.
    """

    names: Names
    has_problem: bool = False
    filled: Mapping[type, Collection[str]] = field(default_factory=dict)

    def call(
        self,
        node: Node,
        keys: Mapping[str, Node],
        target: Callable,
        given: Collection[str] = (),
        partly: bool = False,
    ) -> dict[str, Any]:
        """The arguments of a call of `target`, checked; `given` are supplied by the caller, `partly` lets others be missing."""
        accepted = arguments_of(target)
        open_ = {name: a for name, a in accepted.items() if name not in given}
        title = target.__qualname__
        for name, child in keys.items():
            if name in given:
                raise child.error(f"{title} gets its {name!r} from slipstream; leave it out.")
            if name not in open_:
                known = ", ".join(open_) or "no arguments"
                raise child.error(f"{title} has no argument {name!r}.{nearest(name, open_)} It takes: {known}.")
        missing = [a for a in open_.values() if a.required and a.name not in keys and not partly]
        if missing:
            lacks = ", ".join(f"{a.name} ({hints.words(a.hint)})" for a in missing)
            raise node.error(f"{title} needs {lacks}.")
        return {
            name: self.value(child, open_[name].hint, f"{title} expects for {name}") for name, child in keys.items()
        }

    def made(self, node: Node, expected: type = object, factory: bool = False) -> Made:
        """A ``{class: Name, argument: value, ...}`` that must be an `expected`."""
        keys = dict(node.keys(f"a {expected.__name__}" if expected is not object else "an object"))
        named = keys.pop("class", None)
        if named is None:
            near = nearest("class", keys)
            hint = f" Did you mean 'class' by{near.removeprefix(' Did you mean').removesuffix('?')}?" if near else ""
            raise node.error(f"'class' is missing.{hint} Choose from: {', '.join(self.names.choices(expected))}.")
        try:
            cls = self.names.find(named.value, expected)
        except (InputError, ForeignCode) as error:
            raise type(error)(named.located(str(error))) from None
        given = set()
        if factory:
            given = {name for base, names in self.filled.items() if is_kind(cls, base) for name in names}
        wants_problem = PROBLEM in arguments_of(cls)
        if wants_problem:
            if PROBLEM in keys:
                raise keys[PROBLEM].error(f"{cls.__name__} gets the problem of this recipe; leave it out.")
            if self.has_problem:
                given.add(PROBLEM)
            elif arguments_of(cls)[PROBLEM].required:
                raise node.error(
                    f"{cls.__name__} needs a problem; here, where the problem comes from, there is none yet."
                )
            wants_problem = self.has_problem
        partly = factory and not any(is_kind(cls, base) for base in self.filled)
        return Made(cls, self.call(node, keys, cls, given, partly), factory, wants_problem, node)

    def value(self, node: Node, hint: Any, title: str) -> Any:
        """A node as the value that `hint` asks for: plain, a class, a factory, or a list or mapping of those."""
        kinds = hints.members(hint)
        if isinstance(node.value, dict) and "class" in node.value:
            for kind in kinds:
                made = hints.made_by(kind)
                if made is not None:
                    return self.made(node, made, factory=True)
            classes = [c for c in map(hints.instance_of, kinds) if c is not None]
            if len(classes) == 1:
                return self.made(node, classes[0])
            if classes:
                result = self.made(node)
                if any(is_kind(result.cls, c) for c in classes):
                    return result
                raise node.value["class"].error(f"{title}: {hints.words(hint)}; got {result.cls.__name__}.")
        for kind in kinds:
            if hints.is_plain(kind):
                continue
            if hints.is_anything(kind):
                return _tuples(node.plain())
            if isinstance(node.value, str) and (hints.is_torch(kind, "dtype") or hints.is_torch(kind, "device")):
                return self.torch(node, kind)
            if isinstance(node.value, list):
                inner = [hints.element(kind, i, len(node.value)) for i in range(len(node.value))]
                if None not in inner:
                    return tuple(
                        self.value(v, h, f"{title}, entry {i}")
                        for i, (v, h) in enumerate(zip(node.value, inner, strict=True))
                    )
            if isinstance(node.value, dict) and (inner_hint := hints.entry(kind)) is not None:
                return {k: self.value(v, inner_hint, f"{title}, {k}") for k, v in node.value.items()}
        return self.plain(node, kinds, hint, title)

    def plain(self, node: Node, kinds: tuple[Any, ...], hint: Any, title: str) -> Any:
        plain = tuple(k for k in kinds if hints.is_plain(k))
        refused = node.error(f"{title}: {hints.words(hint)}; got {show(node.plain())}.")
        if not plain:
            classes = [c for c in (hints.made_by(k) or hints.instance_of(k) for k in kinds) if c is not None]
            if isinstance(node.value, str) and any(node.value in self.names.choices(c) for c in classes):
                raise node.error(f"{title}: {hints.words(hint)}. Write {{class: {node.value}}}.")
            raise refused
        wanted = Union[plain]  # noqa: UP007 (the alternatives are data)
        try:
            value = hints.convert(node.plain(), wanted)
        except ValueError:
            raise refused from None
        if isinstance(node.value, str) and hints.is_path(wanted):
            # Relative to the recipe that says so; written back, so that a copy of this tree means the same file.
            node.value = str(node.base / node.value)
            value = hints.convert(node.value, wanted)
        return value

    def torch(self, node: Node, kind: Any) -> Any:
        import torch

        found = getattr(torch, node.value, None)
        if kind is torch.dtype and isinstance(found, torch.dtype):
            return found
        if kind is torch.device:
            try:
                return torch.device(node.value)
            except RuntimeError:
                pass
        raise node.error(f"expected the {hints.words(kind)}; got {show(node.value)}.")


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_tuples(v) for v in value)
    return {k: _tuples(v) for k, v in value.items()} if isinstance(value, dict) else value


def make(value: Any, problem: Any = None) -> Any:
    """Construct what `Checker` has checked. An error of a constructor gets the place in the recipe in front."""
    if isinstance(value, tuple | list):
        return type(value)(make(v, problem) for v in value)
    if isinstance(value, dict):
        return {k: make(v, problem) for k, v in value.items()}
    if not isinstance(value, Made):
        return value
    arguments = {name: make(v, problem) for name, v in value.arguments.items()}
    if value.wants_problem:
        arguments[PROBLEM] = problem
    if value.factory:
        return partial(value.cls, **arguments)
    with value.node.placed():
        return value.cls(**arguments)


def describe(argument: Argument) -> str:
    """An argument as a listing shows it: ``"interval: number = 0.1"``."""
    text = f"{argument.name}: {hints.words(argument.hint)}"
    if argument.required:
        return text
    default = argument.default
    return f"{text} = {default.__name__ if isinstance(default, type) else repr(default)}"
