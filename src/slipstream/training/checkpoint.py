"""Checkpoints: the whole state of a training in one safetensors file, two generations kept."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from slipstream.errors import InputError, StoreError
from slipstream.lock import Lock
from slipstream.pretrained import describe, path_of, write_whole

FORMAT = 1


class Damaged(StoreError):
    """The content of a checkpoint is not what was written."""


def pack(state: Any) -> bytes:
    """A nest of mappings, lists, tuples, tensors, numbers and text as one safetensors file; `unpack` gives back an equal nest.

    Tensors lie under their path in the nest, readable by any tool; everything else is JSON in the file's header, with a
    checksum over both. One file, because two could be of different ages.

    Raises
    ------
    InputError : something else is in the nest; says where.
    """
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(_take_apart(state, "", tensors))
    about = {"format": str(FORMAT), "state": tree, "checksum": str(_checksum(tree, tensors))}
    return save(tensors, metadata=about)


def unpack(content: bytes) -> Any:
    """Undo `pack`. Tensors come back on the CPU.

    Raises
    ------
    Damaged : the content is not what was written. StoreError : a newer version wrote it.
    """
    try:
        about = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
        tensors = load(content)
        found = int(about["format"])
        whole = found != FORMAT or _checksum(about["state"], tensors) == int(about["checksum"])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise Damaged(f"truncated or garbled ({type(error).__name__}: {error})") from None
    if found > FORMAT:
        raise StoreError(
            f"The checkpoint has format {found}; this slipstream knows formats up to {FORMAT}. Upgrade slipstream to go on."
        )
    if not whole:
        raise Damaged("the checksum differs")
    return _put_together(json.loads(about["state"]), tensors)


def checksum(state: Any) -> int:
    """One number for a whole nest, the same wherever the nest is the same to the bit."""
    tensors: dict[str, Tensor] = {}
    return _checksum(json.dumps(_take_apart(state, "", tensors)), tensors)


def _take_apart(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """JSON in which every container but a list, and every tensor, is a mapping from its kind to its content."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, list):
        return [_take_apart(v, f"{path}/{i}", tensors) for i, v in enumerate(value)]
    if isinstance(value, tuple):
        return {"tuple": [_take_apart(v, f"{path}/{i}", tensors) for i, v in enumerate(value)]}
    if isinstance(value, Mapping):  # keys may be numbers (optimisers), which JSON's own mappings would turn into text
        return {"mapping": [[k, _take_apart(v, f"{path}/{k}", tensors)] for k, v in value.items()]}
    if isinstance(value, Tensor):
        name = path.removeprefix("/")
        while name in tensors:
            name += "'"
        plain = value.detach().cpu()
        plain = torch.view_as_real(plain.resolve_conj()) if plain.is_complex() else plain
        tensors[name] = plain.contiguous().clone()
        return {"complex" if value.is_complex() else "tensor": name}
    raise InputError(
        f"A training's state holds tensors, numbers, text and nested mappings, lists or tuples of those; "
        f"at {path.removeprefix('/')!r} there is a {type(value).__name__}. Change the state_dict that gives it."
    )


def _put_together(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(tree, list):
        return [_put_together(v, tensors) for v in tree]
    if not isinstance(tree, dict):
        return tree
    ((kind, content),) = tree.items()
    if kind == "tuple":
        return tuple(_put_together(v, tensors) for v in content)
    if kind == "mapping":
        return {k: _put_together(v, tensors) for k, v in content}
    return torch.view_as_complex(tensors[content]) if kind == "complex" else tensors[content]


def _checksum(tree: str, tensors: Mapping[str, Tensor]) -> int:
    total = zlib.crc32(tree.encode())
    for name in sorted(tensors):
        content = tensors[name].reshape(-1).view(torch.uint8).numpy().data
        total = zlib.crc32(content, zlib.crc32(name.encode(), total))
    return total


class Checkpoints:
    """The two newest generations of a training's state in a folder, which belongs to one process at a time.

    Each file appears whole or not at all. A damaged one is set aside under another name, and the one before it is read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The folder made, and no other process in it. The lock falls with the process, however it ends."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"Could not make the folder {self.folder}: {error.strerror or error}.") from error
        with Lock(self.folder / "lock", f"The training in {self.folder}", "give another folder"):
            for pattern in (".state-*", ".log.csv.*"):  # what a process killed while writing left
                for half in self.folder.glob(pattern):
                    half.unlink(missing_ok=True)
            yield

    def generations(self) -> list[Path]:
        """The files, newest first."""
        return sorted(self.folder.glob("state-*.safetensors"), reverse=True)

    def write(self, step: int, state: Any) -> None:
        """Add a generation; all but the two newest go."""
        write_whole(self.folder / f"state-{step:010d}.safetensors", pack(state))
        for old in self.generations()[2:]:
            old.unlink(missing_ok=True)

    def read(self) -> tuple[Any, str]:
        """The newest whole state (None where there is none), and what had to be set aside for it, as a sentence.

        Raises
        ------
        StoreError : there are files, and all are damaged, or one is from a newer version.
        """
        damaged: list[tuple[Path, str]] = []
        for path in self.generations():
            try:
                state = unpack(path.read_bytes())
            except Damaged as error:
                damaged.append((path, str(error)))
                continue
            except StoreError as error:
                raise StoreError(f"{path}: {error}") from None
            except OSError as error:
                raise StoreError(f"Could not read {path}: {error.strerror or error}.") from error
            for bad, _ in damaged:  # or it would count as the newest generation, and push out whole ones
                bad.rename(bad.with_suffix(".damaged"))
            return state, " ".join(f"{p.name} is damaged ({why}); going on from {path.name}." for p, why in damaged)
        if damaged:
            raise StoreError(
                f"No state in {self.folder} is whole: {'; '.join(f'{p.name}: {why}' for p, why in damaged)}. "
                "Give another folder, or resume=False and force=True to start again here."
            )
        return None, ""

    def clear(self) -> None:
        """Remove every generation."""
        for path in self.generations():
            path.unlink()


def identity(obj: Any) -> Any:
    """What decides what an object does, for comparison: its class and arguments, or where it keeps those to itself its class alone."""
    try:
        return describe(obj)
    except InputError:
        return path_of(obj if hasattr(obj, "__qualname__") else type(obj))


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """One line for every place where two nests of JSON differ: where, what it was, what it is."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(k for k in new if k not in old)]
        return [d for k in keys for d in differences(old.get(k), new.get(k), f"{path}.{k}" if path else str(k))]
    return [] if old == new else [f"{path}: {_short(old)} -> {_short(new)}"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:60]} ... ({len(text)} characters)"
