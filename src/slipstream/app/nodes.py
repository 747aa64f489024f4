"""Recipes as text: a tree of plain values in which every value knows its file, line and key.

YAML is read with PyYAML's safe loader up to its node graph and no further, so that no tag can construct anything. Numbers
follow YAML 1.2 (``1e-3`` is a number, ``on`` is text).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import yaml

from slipstream.app.names import nearest
from slipstream.errors import ForeignCode, InputError, SlipstreamError

MAX_NODES = 100_000
COMMAND_LINE = "command line"


@dataclass
class Node:
    """One value of a recipe.

    Parameters
    ----------
    value : None, bool, int, float, str, a list of nodes, or a dict of nodes by key.
    where : ``"file.yaml:7"`` or ``"command line"``.
    key : dotted path from the top, ``"models.label-free.train.minutes"``; ``""`` at the top.
    base : the folder that a relative path in this value starts from.
    """

    value: Any
    where: str
    key: str
    base: Path

    def plain(self) -> Any:
        """The value without its places."""
        if isinstance(self.value, dict):
            return {k: v.plain() for k, v in self.value.items()}
        if isinstance(self.value, list):
            return [v.plain() for v in self.value]
        return self.value

    def located(self, text: str) -> str:
        return f"{self.where}: {self.key}: {text}" if self.key else f"{self.where}: {text}"

    def error(self, text: str) -> InputError:
        """An error about this value, with its place."""
        return InputError(self.located(text))

    @contextmanager
    def placed(self) -> Iterator[None]:
        """Puts this place in front of the message of whatever goes wrong inside."""
        try:
            yield
        except SlipstreamError as error:
            error.args = (self.located(str(error)),)
            raise
        except (ValueError, TypeError, OSError) as error:
            raise self.error(f"{type(error).__name__}: {error}") from error

    def keys(self, what: str) -> dict[str, Node]:
        """The children by key; refuses anything but a mapping."""
        if not isinstance(self.value, dict):
            raise self.error(f"{what} is a mapping of keys to values; got {show(self.plain())}.")
        return self.value


def show(value: Any) -> str:
    """A value as a message names it."""
    kinds = {bool: "true or false", int: "whole number", float: "number", str: "text", list: "list", dict: "mapping"}
    if value is None:
        return "nothing (null)"
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({kinds.get(type(value), type(value).__name__)})"


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: ClassVar[dict] = {}  # type: ignore[misc]


_TAG = "tag:yaml.org,2002:"
for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), _first)


def _float(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


_SCALARS: dict[str, Callable[[str], Any]] = {
    _TAG + "null": lambda text: None,
    _TAG + "bool": lambda text: text.lower() == "true",
    _TAG + "int": int,
    _TAG + "float": _float,
    _TAG + "str": str,
}


class _Reader:
    """Turns YAML nodes into ours; aliases become copies, so that an override changes one place only."""

    def __init__(self, source: str, base: Path, numbered: bool = True) -> None:
        self.source, self.base, self.numbered = source, base, numbered
        self.open: list[yaml.Node] = []
        self.count = 0

    def place(self, node: yaml.Node) -> str:
        return f"{self.source}:{node.start_mark.line + 1}" if self.numbered else self.source

    def read(self, text: str, key: str = "") -> Node:
        loader = None
        try:
            loader = _Loader(text)
            root = loader.get_single_node()
            if root is None:
                return Node(None, self.source, key, self.base)
            return self.convert(root, key, self.place(root))
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f"{self.source}:{mark.line + 1}" if mark and self.numbered else self.source
            problem = getattr(error, "problem", None) or str(error)
            context = getattr(error, "context", None)
            raise InputError(f"{where}: not YAML: {problem}{f' ({context})' if context else ''}.") from None
        except RecursionError:
            raise InputError(f"{self.source}: values are nested too deeply for a recipe.") from None
        finally:
            if loader is not None:
                loader.dispose()

    def convert(self, node: yaml.Node, key: str, where: str) -> Node:
        self.count += 1
        if any(node is outer for outer in self.open) or self.count > MAX_NODES:
            raise InputError(f"{where}: {key}: aliases (*name) that contain themselves or each other have no end.")
        self.open.append(node)
        value: Any
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            value = self.mapping(node, key)
        elif isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            value = [self.convert(v, _join(key, str(i)), self.place(v)) for i, v in enumerate(node.value)]
        elif isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
            try:
                value = _SCALARS[node.tag](node.value)
            except ValueError:
                kind = node.tag.removeprefix(_TAG)
                raise InputError(f"{where}: {key}: {node.value[:40]!r} is no {kind}.") from None
        else:
            raise ForeignCode(
                f"{where}: {key}: the tag {node.tag!r} is refused: a recipe is plain data and runs no code. "
                "Name a class with {class: Name, argument: value}."
            )
        self.open.pop()
        return Node(value, where, key, self.base)

    def mapping(self, node: yaml.MappingNode, key: str) -> dict[str, Node]:
        result: dict[str, Node] = {}
        for k, v in node.value:
            where = self.place(k)
            if not isinstance(k, yaml.ScalarNode) or not k.value:
                raise InputError(f"{where}: {key}: a key of a mapping is a word.")
            name = k.value
            if name == "<<":
                raise InputError(f"{where}: {key}: merging with << is not part of recipes; an alias *name is.")
            if name in result:
                raise InputError(f"{where}: {_join(key, name)}: given twice, first at {result[name].where}. Keep one.")
            result[name] = self.convert(v, _join(key, name), where)
        return result


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def read(path: Path) -> Node:
    """The recipe in a YAML file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        folder = path.parent
        others = [str(p) for p in folder.glob("*.y*ml")] if folder.is_dir() else []
        raise InputError(f"There is no recipe {path}.{nearest(str(path), others)}") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"The recipe {path} could not be read: {reason}.") from None
    root = _Reader(str(path), path.parent.absolute()).read(text)
    if not isinstance(root.value, dict):
        raise InputError(f"{root.where}: a recipe is a mapping of keys to values; got {show(root.plain())}.")
    return root


def from_plain(value: Any, where: str, base: Path, key: str = "") -> Node:
    """A tree of nodes from plain values that all come from one place."""
    if isinstance(value, dict):
        value = {k: from_plain(v, where, base, _join(key, k)) for k, v in value.items()}
    elif isinstance(value, list):
        value = [from_plain(v, where, base, _join(key, str(i))) for i, v in enumerate(value)]
    return Node(value, where, key, base)


def override(root: Node, assignment: str) -> None:
    """Set one value in place: ``"problem.reynolds=200"``. The value is YAML. Unknown keys are left for the check to refuse."""
    key, equals, text = assignment.partition("=")
    names = key.split(".")
    if not equals or not all(names):
        raise InputError(f"{COMMAND_LINE}: {assignment!r} sets nothing; write key=value, as in problem.reynolds=200.")
    here = Path.cwd()
    node = root
    for i, name in enumerate(names):
        path = ".".join(names[: i + 1])
        children = node.value
        if isinstance(children, list):
            if not (name.isdecimal() and int(name) < len(children)):
                raise InputError(f"{COMMAND_LINE}: {path}: {node.key} has the entries 0 to {len(children) - 1}.")
            slot: Any = int(name)
        elif isinstance(children, dict):
            slot = name
            children.setdefault(name, Node({}, COMMAND_LINE, path, here))
        else:
            raise InputError(f"{COMMAND_LINE}: {path}: {node.key} is {show(node.plain())} and has no keys.")
        if i == len(names) - 1:
            children[slot] = _Reader(COMMAND_LINE, here, numbered=False).read(text, path)
        node = children[slot]


def differences(old: Any, new: Any, key: str = "") -> list[str]:
    """What changed between two plain trees, one line a value: ``"problem.reynolds: 100 -> 200"``."""
    if isinstance(old, dict) and isinstance(new, dict):
        lines = []
        for name in [*old, *(k for k in new if k not in old)]:
            path = _join(key, name)
            if name not in new:
                lines.append(f"{path}: {old[name]!r} -> (left out)")
            elif name not in old:
                lines.append(f"{path}: (left out) -> {new[name]!r}")
            else:
                lines += differences(old[name], new[name], path)
        return lines
    return [] if _same(old, new) else [f"{key}: {old!r} -> {new!r}"]


def _same(old: Any, new: Any) -> bool:
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and not any(differences(a, b) for a, b in zip(old, new, strict=True))
    return (old == new and isinstance(old, bool) == isinstance(new, bool)) or (old != old and new != new)
