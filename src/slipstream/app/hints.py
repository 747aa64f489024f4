"""What a parameter accepts: its annotation, taken apart into plain values, classes and factories.

jsonargparse judges and converts plain values. It never sees a parameter that accepts classes or callables, because there it
would import whatever a string names.
"""

from __future__ import annotations

import collections.abc
import enum
import inspect
import os
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipstream.errors import InputError

_SCALARS = (bool, int, float, str, type(None), Path, os.PathLike)
_LISTS = (list, tuple, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
_MAPPINGS = (dict, collections.abc.Mapping)
_WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "null"}


@dataclass(frozen=True)
class Argument:
    """One parameter that a recipe may set."""

    name: str
    hint: Any
    required: bool
    default: Any


def arguments_of(target: Callable) -> dict[str, Argument]:
    """The named parameters of a function, or of a class's constructor, with their annotations evaluated."""
    function = inspect.unwrap(target.__init__ if inspect.isclass(target) else target)
    if isinstance(function, types.MethodType):
        function = function.__func__
    namespace = getattr(function, "__globals__", {})
    parameters = list(inspect.signature(function).parameters.values())
    result = {}
    for parameter in parameters[1:] if inspect.isclass(target) else parameters:
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            hint = _evaluate(parameter, namespace, target)
            required = parameter.default is parameter.empty
            result[parameter.name] = Argument(parameter.name, hint, required, parameter.default)
    return result


def _evaluate(parameter: inspect.Parameter, namespace: Mapping[str, Any], target: Callable) -> Any:
    if parameter.annotation is parameter.empty:
        return Any
    holder = types.SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    try:
        return typing.get_type_hints(holder, globalns=dict(namespace))[parameter.name]
    except NameError as error:
        raise InputError(
            f"{target.__qualname__} states its argument {parameter.name!r} as {parameter.annotation!r}, which a recipe "
            f"cannot read: {error}. Its module has to import that name at run time."
        ) from None


def members(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a union; a hint that is none is its own only alternative."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(m for part in typing.get_args(hint) for m in members(part))
    if typing.get_origin(hint) is typing.Annotated:
        return members(typing.get_args(hint)[0])
    return (hint,)


def is_plain(hint: Any) -> bool:
    """Whether every value of this hint can be written in YAML."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return True
    if len(members(hint)) > 1:
        return all(is_plain(m) for m in members(hint))
    if origin in (*_LISTS, *_MAPPINGS):
        return all(is_plain(p) for p in parts if p is not Ellipsis)
    is_enum = inspect.isclass(hint) and issubclass(hint, enum.Enum)
    return is_enum or (origin or hint) in (*_SCALARS, *_LISTS, *_MAPPINGS)


def is_anything(hint: Any) -> bool:
    return hint is Any or hint is object or isinstance(hint, typing.TypeVar)


def is_path(hint: Any) -> bool:
    return any((typing.get_origin(m) or m) in (Path, os.PathLike) for m in members(hint))


def element(hint: Any, index: int, length: int) -> Any:
    """The hint of one entry of a list; None where this is not the hint of a list of that length."""
    origin, parts = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin not in _LISTS:
        return None
    if not parts:
        return Any
    if origin is tuple and parts[-1] is not Ellipsis:
        return parts[index] if len(parts) == length else None
    return parts[0]


def entry(hint: Any) -> Any:
    """The hint of the values of a mapping; None where this is not the hint of a mapping."""
    origin, parts = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin not in _MAPPINGS:
        return None
    return parts[1] if parts else Any


def made_by(hint: Any) -> type | None:
    """What a factory makes: X for ``Callable[..., X]`` and ``type[X]``; None where this is not the hint of a factory."""
    origin, parts = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin is type or (origin is collections.abc.Callable and not _is_function(hint)):
        return parts[-1] if parts and inspect.isclass(parts[-1]) else object
    return None


def _is_function(hint: Any) -> bool:
    """Whether a callable gives data (an activation, say): then an object that can be called is meant, not a factory."""
    parts = typing.get_args(hint)
    return typing.get_origin(hint) is collections.abc.Callable and (_is_tensor(parts[-1]) or is_plain(parts[-1]))


def _is_tensor(hint: Any) -> bool:
    return hasattr(hint, "array_type") or any(is_torch(hint, name) for name in _TORCH_DATA)


def instance_of(hint: Any) -> type | None:
    """The class whose objects this hint accepts; None for plain values, factories, and tensors (not written in recipes)."""
    if is_anything(hint) or _is_function(hint):
        return object
    cls = typing.get_origin(hint) or hint
    if not inspect.isclass(cls) or is_plain(hint) or made_by(hint) is not None or _is_tensor(hint):
        return None
    return None if cls in (*_LISTS, *_MAPPINGS) else cls


_TORCH_DATA = ("Tensor", "dtype", "device", "Generator")


def is_torch(hint: Any, name: str) -> bool:
    """Whether the hint is ``torch.<name>``, asked without importing torch."""
    return inspect.isclass(hint) and hint.__module__.partition(".")[0] == "torch" and hint.__name__ == name


def convert(value: Any, hint: Any) -> Any:
    """`value` as the type that a plain hint asks for; ValueError where it is none of that type."""
    from jsonargparse import ArgumentError, ArgumentParser

    kinds = members(hint)
    if value is None:
        # jsonargparse takes null for every type.
        if type(None) not in kinds:
            raise ValueError(value)
        return None
    if isinstance(value, str):
        # jsonargparse would read the number out of a quoted "64".
        if str in kinds:
            return value
        if is_path(hint):
            return Path(value)
        if not any(typing.get_origin(k) is typing.Literal or _is_enum(k) for k in kinds):
            raise ValueError(value)
    kinds = tuple(k for k in kinds if not is_path(k))
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=typing.Union[kinds or (str,)])  # noqa: UP007 (the alternatives are data)
    try:
        return parser.parse_object({"value": value}, defaults=False).value
    except ArgumentError:
        raise ValueError(value) from None


def _is_enum(hint: Any) -> bool:
    return inspect.isclass(hint) and issubclass(hint, enum.Enum)


def words(hint: Any) -> str:
    """A hint as a message says it: ``"whole number or null"``."""
    parts = typing.get_args(hint)
    origin = typing.get_origin(hint)
    alternatives = members(hint)
    if len(alternatives) > 1:
        said = [words(m) for m in alternatives if (typing.get_origin(m) or m) is not os.PathLike]
        return " or ".join(dict.fromkeys(said))
    if hint in _WORDS:
        return _WORDS[hint]
    if origin is typing.Literal:
        return "one of " + ", ".join(repr(p) for p in parts)
    if is_anything(hint):
        return "any value"
    if is_path(hint):
        return "path"
    if _is_enum(hint):
        return "one of " + ", ".join(member.name for member in hint)
    if (origin or hint) in _LISTS:
        if origin is tuple and parts and parts[-1] is not Ellipsis:
            return "[" + ", ".join(words(p) for p in parts) + "]"
        return f"list of ({words(parts[0])})" if parts else "list"
    if (origin or hint) in _MAPPINGS:
        return f"mapping to ({words(parts[1])})" if parts else "mapping"
    made = object if _is_function(hint) else made_by(hint)
    if made is not None:
        return f"{{class: {'Name' if made is object else made.__name__}, ...}}"
    if is_torch(hint, "dtype"):
        return "name of a dtype such as float32"
    if is_torch(hint, "device"):
        return "name of a device such as cpu"
    cls = origin or hint
    if instance_of(cls) is None:
        return getattr(cls, "__name__", str(cls))
    return f"{{class: {cls.__name__}, ...}}"
