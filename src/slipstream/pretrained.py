"""Models on disk: safetensors for numbers, JSON for everything else, and never code.

One convention makes this work without any registration: a class that can be saved keeps every constructor argument
under its own name (as scikit-learn estimators do), and the arguments are numbers, text, lists, mappings, grids, channels, classes of an
allowed package (or `functools.partial` of one), or objects that follow the same convention.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import inspect
import json
import math
import os
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from slipstream.errors import ForeignCode, InputError, ShapeError, StoreError

FORMAT = 1
CODE = tuple(f"slipstream.{room}." for room in ("app", "data", "training"))
"""Rooms whose objects start programs or write files: no part of a model."""
MEMORY = 2**27
"""Bytes that a model may take beside what its weights account for: constant tables of its domain are not on disk."""
Model = TypeVar("Model", bound="Pretrained")
WEIGHTS, CONFIG = "model.safetensors", "model.json"


def path_of(cls: Any) -> str:
    """``package.module.Class``."""
    return f"{cls.__module__}.{cls.__qualname__}"


def find_class(path: str, allow: Iterable[str] = ()) -> type:
    """The class at a dotted path, if its package is slipstream or named in `allow`."""
    packages = ("slipstream", *allow)
    if not any(path.startswith(p + ".") for p in packages):
        raise ForeignCode(
            f"{path!r} lies outside {', '.join(packages)}: importing it could run a stranger's code. "
            f"If you trust it, allow its package: --import {path.split('.')[0]} or allow=({path.split('.')[0]!r},)."
        )
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"There is no class {path!r} in this version: {error}.") from None
    if not inspect.isclass(found):
        raise InputError(f"{path!r} is not a class but {type(found).__name__}.")
    if not any(f"{found.__module__}.".startswith(p + ".") for p in packages):
        raise ForeignCode(
            f"{path!r} is really {found.__module__}.{found.__qualname__}, outside {', '.join(packages)}. "
            f"If you trust it, allow its package: --import {found.__module__.partition('.')[0]}."
        )
    return found


def arguments_of(obj: Any) -> dict[str, Any]:
    """The constructor arguments of an object that keeps each under its own name."""
    result = {}
    for name, parameter in inspect.signature(type(obj).__init__).parameters.items():
        if name == "self":
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise InputError(f"{type(obj).__name__} takes *{name}: it cannot be saved; name every argument.")
        if not hasattr(obj, name):
            raise InputError(
                f"{type(obj).__name__} does not keep its argument {name!r} under that name: it cannot be saved."
            )
        result[name] = getattr(obj, name)
    return result


def describe(obj: Any) -> Any:
    """JSON-able description of an argument, from which `rebuild` makes an equal one."""
    if obj is None or isinstance(obj, (bool, int, float, str)):
        return obj
    if isinstance(obj, (list, tuple)):
        return [describe(v) for v in obj]
    if isinstance(obj, Mapping):
        return {str(k): describe(v) for k, v in obj.items()}
    if isinstance(obj, torch.dtype):
        return {"dtype": str(obj).removeprefix("torch.")}
    if isinstance(obj, Tensor):
        return {"tensor": obj.detach().cpu().tolist(), "of": str(obj.dtype).removeprefix("torch.")}
    if isinstance(obj, partial):
        return {"factory": path_of(obj.func), "arguments": describe(obj.keywords)}
    if inspect.isclass(obj):
        return {"factory": path_of(obj), "arguments": {}}
    if dataclasses.is_dataclass(obj):
        values = {f.name: getattr(obj, f.name) for f in dataclasses.fields(obj) if f.init}
        return {"class": path_of(type(obj)), "arguments": describe(values)}
    if type(obj).__module__ == "builtins" or inspect.isroutine(obj):
        raise InputError(f"{obj!r} cannot be written to a model file: only data and classes can.")
    return {"class": path_of(type(obj)), "arguments": describe(arguments_of(obj))}


def rebuild(description: Any, allow: Iterable[str] = ()) -> Any:
    """Undo `describe`. Lists come back as tuples."""
    if isinstance(description, list):
        return tuple(rebuild(v, allow) for v in description)
    if not isinstance(description, dict):
        return description
    if set(description) == {"dtype"}:
        return _dtype(description["dtype"])
    if set(description) == {"tensor", "of"}:
        return torch.tensor(description["tensor"], dtype=_dtype(description["of"]))
    if set(description) == {"factory", "arguments"}:
        return partial(find_class(description["factory"], allow), **rebuild(description["arguments"], allow))
    if set(description) == {"class", "arguments"}:
        return find_class(description["class"], allow)(**rebuild(description["arguments"], allow))
    return {k: rebuild(v, allow) for k, v in description.items()}


def _dtype(name: Any) -> torch.dtype:
    found = getattr(torch, name, None) if isinstance(name, str) else None
    if not isinstance(found, torch.dtype):
        raise InputError(f"{name!r} is no kind of number that torch knows.")
    return found


def _names(description: Any) -> Iterator[Any]:
    """Every class that a description would make."""
    for value in description.values() if isinstance(description, dict) else description:
        if isinstance(value, (dict, list)):
            yield from _names(value)
    if isinstance(description, dict) and set(description) in ({"factory", "arguments"}, {"class", "arguments"}):
        yield description.get("factory", description.get("class"))


class _Bounded(TorchFunctionMode):
    """Refuses tensors that no model of so many weights needs, before their memory is asked for."""

    TENSORS = 3000
    """That may be made beside 100 a weight: layers upon layers of nothing take no memory, but time."""
    MADE = frozenset(
        {"empty", "zeros", "ones", "full", "rand", "randn", "eye", "new_empty", "new_zeros", "new_ones", "new_full"}
    )
    COUNTED = frozenset({"arange", "linspace", "randperm"})
    COPIED = frozenset({"repeat", "tile"})

    def __init__(self, weights: Mapping[str, Tensor], memory: int) -> None:
        super().__init__()
        self.numbers = memory // 4 + 8 * sum(w.numel() for w in weights.values())
        self.tensors = self.TENSORS + 100 * len(weights)
        self.made = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        tensors = [t for a in args for t in (a if isinstance(a, (list, tuple)) else [a]) if isinstance(t, Tensor)]
        if name in self.MADE | self.COUNTED | self.COPIED:
            asked = self._asked(name, [a for a in args if not isinstance(a, Tensor)], kwargs)
            asked *= tensors[0].numel() if name in self.COPIED else 1
            self.made += asked
            self.tensors -= 1
        else:
            try:
                asked = math.prod(torch.broadcast_shapes(*(t.shape for t in tensors)))
            except RuntimeError:  # a product, a gather ...: its operands are there already
                asked = 0
        if max(asked, self.made) > self.numbers or self.tensors < 0:
            raise InputError(
                "it would need far more memory than its weights take on disk. "
                f"If you trust it, allow more: memory={8 * max(asked, self.made)}."
            )
        return func(*args, **kwargs)

    def _asked(self, name: str, told: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
        """Numbers in a tensor that is made from a size, or from a length."""
        given = [v for k, v in kwargs.items() if k in ("size", "end", "steps", "n", "m", "repeats", "dims")]
        sizes = [*told, *given]
        if name in self.COUNTED:
            return int(max((abs(n) for n in sizes), default=0))
        whole = next((n for n in sizes if isinstance(n, (list, tuple))), None)
        if whole is None:  # one number an axis
            whole = [n for n in sizes if isinstance(n, int)]
            whole = whole * 2 if name == "eye" and len(whole) == 1 else whole
        return math.prod(whole)


def _build(
    folder: Path, config: Mapping[str, Any], weights: Mapping[str, Tensor], allow: Iterable[str], memory: int
) -> Any:
    """The model that a description tells of, its weights yet to be filled in."""
    description = {"class": config.get("class", ""), "arguments": config.get("arguments", {})}
    try:
        for path in _names(description):
            found = path_of(find_class(path, allow))  # where it is at home, whatever the description calls it
            if found.startswith(CODE) and not any(found.startswith(f"{p}.") for p in allow):
                raise ForeignCode(f"{path!r} in {folder / CONFIG} is no part of a model: making it could run programs.")
        with _Bounded(weights, memory):
            return rebuild(description, allow)
    except (InputError, ShapeError) as error:
        raise InputError(f"{folder / CONFIG} describes no model that can be made: {error}") from None
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        reason = textwrap.shorten(str(error).partition("\n")[0], 300)
        raise InputError(
            f"{folder / CONFIG} describes no model that can be made ({type(error).__name__}: {reason}). "
            "Save it again with the version that reads it, or take the arguments that its class has."
        ) from error


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StoreError(f"Could not write {path}: {error.strerror or error}. Nothing there was changed.") from error


class Pretrained(nn.Module):
    """Saves and loads an `nn.Module` whole: ``save_pretrained(folder)``, ``Class.from_pretrained(folder)``."""

    def save_pretrained(self, folder: str | os.PathLike, about: Mapping[str, Any] | None = None) -> Path:
        """Write ``model.safetensors`` and ``model.json`` (class, arguments, and `about`: units, validity, figures ...)."""
        from safetensors.torch import save

        import slipstream

        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"Could not make the folder {folder}: {error.strerror or error}.") from error
        weights = save({k: v.detach().contiguous().clone() for k, v in self.state_dict().items()})
        config = {
            "format": FORMAT,
            "slipstream": slipstream.__version__,
            **describe(self),
            "weights": hashlib.sha256(weights).hexdigest(),
            "about": dict(about or {}),
        }
        write_whole(folder / WEIGHTS, weights)
        write_whole(folder / CONFIG, json.dumps(config, indent=1).encode())
        return folder

    @classmethod
    def from_pretrained(
        cls: type[Model], folder: str | os.PathLike, allow: Iterable[str] = (), memory: int = MEMORY
    ) -> Model:
        """Read what `save_pretrained` wrote. Classes outside slipstream need their package in `allow`.

        `memory` is how many bytes the model may take beside eight times its weights: more for large domains, if you trust the folder.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder, file = Path(folder), CONFIG
        try:
            config = json.loads((folder / CONFIG).read_text())
            file = WEIGHTS
            state = load_file(folder / WEIGHTS)
            with open(folder / WEIGHTS, "rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
        except FileNotFoundError:
            raise StoreError(f"{folder} is no saved model: {file} is missing.") from None
        except SafetensorError as error:
            raise StoreError(f"{folder / WEIGHTS} is damaged: {error}.") from None
        except (OSError, ValueError, RecursionError) as error:
            raise StoreError(f"{folder / file} could not be read: {error}.") from None
        found = config.get("format") if isinstance(config, dict) else None
        if not isinstance(found, int) or found > FORMAT:
            raise StoreError(
                f"{folder} has format {found!r}; this slipstream knows formats up to {FORMAT}. Upgrade slipstream to read it."
            )
        model = _build(folder, config, state, allow, memory)
        if not isinstance(model, cls):
            raise InputError(f"{folder} holds a {type(model).__name__}, not a {cls.__name__}.")
        differ = model.state_dict().keys() ^ state.keys()
        if differ:
            raise StoreError(f"{folder / WEIGHTS} does not fit {type(model).__name__}: {sorted(differ)[:5]} differ.")
        broken = [k for k, _ in model.named_parameters() if not torch.isfinite(state[k]).all()]
        if broken:
            raise StoreError(
                f"{folder / WEIGHTS} holds weights that are not finite: {broken[:5]}; take an earlier copy."
            )
        kinds = {v.dtype for v in state.values() if v.is_floating_point()}
        if len(kinds) == 1:
            model.to(kinds.pop())
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise StoreError(f"{folder / WEIGHTS} does not fit {type(model).__name__}: {reason}") from None
        if config.get("weights") != digest:
            raise StoreError(
                f"{folder / WEIGHTS} is damaged, or not what {CONFIG} beside it was saved with; save the model again."
            )
        return model
