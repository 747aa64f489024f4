"""Contents: the arrays of a file with whatever the file says of them, before anybody knows what they mean."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np

from slipstream.errors import InputError, StoreError

RUN, TIME, CHANNEL, POINT = "run", "time", "channel", "point"
"""Names of dimensions that are not axes of a grid."""


@dataclass(frozen=True)
class Array:
    """Numbers, the names of their dimensions where the file tells them, and their unit."""

    values: np.ndarray
    dims: tuple[str, ...] | None = None
    unit: str = ""


@dataclass(frozen=True)
class Contents:
    """What a file holds.

    Parameters
    ----------
    source : name of the file, for messages.
    arrays : by name; coordinates of an axis stand under the axis' name.
    notes : what was left out or changed while reading, one sentence each.
    periodic : what the file itself says of its axes.
    given : names of arrays that are conditions, not states. auxiliary : coordinates that are not those of an axis.
    """

    source: str
    arrays: Mapping[str, Array]
    notes: tuple[str, ...] = ()
    periodic: Mapping[str, bool] = field(default_factory=dict)
    given: tuple[str, ...] = ()
    auxiliary: tuple[str, ...] = ()

    def found(self) -> str:
        """The arrays as words: ``u (256, 101) float64, x (256) float64``."""
        shown = [f"{name} {shape_of(a)} {a.values.dtype}" for name, a in list(self.arrays.items())[:12]]
        rest = len(self.arrays) - len(shown)
        return ", ".join(shown) + (f" and {rest} more" if rest else "") if shown else "no numbers"

    def refuse(self, found: str, expected: str) -> NoReturn:
        """One error: what was found, and what to do."""
        raise InputError(f"{self.source}: {found} It holds {self.found()}. {expected}")


def shape_of(array: Array) -> str:
    """``(time 101, x 256)`` where dimensions have names, else ``(101, 256)``."""
    sizes = array.values.shape
    if array.dims is None:
        return f"({', '.join(map(str, sizes))})"
    return f"({', '.join(f'{d} {n}' for d, n in zip(array.dims, sizes, strict=True))})"


def check_size(path: Path | str, declared: Iterable[tuple[str, tuple[int, ...], int]], memory: int) -> None:
    """Refuse arrays (name, shape, bytes a number) that are larger than what the caller allows, before anything is allocated."""
    total = 0
    for name, shape, itemsize in declared:
        size = math.prod(int(n) for n in shape) * itemsize
        total += size
        if total > memory:
            raise InputError(
                f"{path}: the array {name!r} of shape {tuple(int(n) for n in shape)} brings what the file declares to {amount(total)}, "
                f"more than the {amount(memory)} allowed. If the file is sound, allow more: memory={2 * total}."
            )


def amount(size: float) -> str:
    """Bytes in a unit that a person would use."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.3g} {unit}"
        size /= 1000
    raise AssertionError


def damaged(path: Path | str, what: str, error: BaseException | str) -> StoreError:
    """The error for a file that its own format's reader does not understand."""
    reason = next(iter(str(error).splitlines()), "").strip() or type(error).__name__
    return StoreError(
        f"{path} could not be read as {what}: {reason[:200]}. It may be truncated or damaged; get it again, or convert it."
    )


def plain(path: Path | str, name: str, dtype: np.dtype, what: str) -> None:
    """Refuse arrays of objects, text and records: their reading may run code, and they are no fields."""
    if dtype.kind not in "biufc":
        raise InputError(
            f"{path}: {name!r} is {what} of type {dtype}; only arrays of numbers are read. Save its numbers as arrays of their own."
        )
