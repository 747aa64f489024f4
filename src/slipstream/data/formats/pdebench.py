"""PDEBench's HDF5 files: one array for all runs with coordinates beside it, or one group a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from slipstream.data.formats.contents import CHANNEL, RUN, TIME, Array, Contents, check_size
from slipstream.data.formats.hdf5 import opened, value_of, walk
from slipstream.errors import InputError

SPACE = ("x", "y", "z")


def recognises(file: Any) -> bool:
    """Whether an open HDF5 file has coordinates called ``x-coordinate``, or runs called ``0000`` with ``data`` and ``grid``."""
    return "x-coordinate" in file or any(n.isdigit() and "data" in file[n] and "grid" in file[n] for n in file)


def read(path: Path, memory: int) -> Contents:
    """Runs, times and coordinates under their own names. Coordinates are centres of cells; the last time is an end without a frame."""
    with opened(path) as file:
        sets = walk(path, file)
        numbers = {n: d for n, d in sets.items() if d.dtype.kind in "biufc"}
        check_size(path, [(n, d.shape, d.dtype.itemsize) for n, d in numbers.items()], memory)
        if "x-coordinate" in file:
            return _together(path, numbers)
        return _apart(path, numbers)


def _together(path: Path, numbers: dict[str, Any]) -> Contents:
    space = [a for a in SPACE if f"{a}-coordinate" in numbers]
    arrays = {a: Array(_floats(path, f"{a}-coordinate", numbers), (a,)) for a in space}
    times = numbers.get("t-coordinate")
    given = []
    for name, data in numbers.items():
        if name.endswith("-coordinate"):
            continue
        sizes, expected = tuple(data.shape), tuple(len(arrays[a].values) for a in space)
        inner = sizes[len(sizes) - len(space) :]
        lead = {0: (), 1: (RUN,), 2: (RUN, TIME)}.get(len(sizes) - len(space))
        if lead is None or inner != expected:
            raise InputError(
                f"{path}: {name!r} has shape {sizes}; expected (run, time, {', '.join(space)}) with {expected} points, "
                "as its coordinates say."
            )
        if lead == (RUN, TIME) and sizes[1] == 1:  # a steady answer with an axis for channels
            arrays[name] = Array(_floats(path, name, numbers)[:, 0], (RUN, *space))
            continue
        arrays[name] = Array(_floats(path, name, numbers), (*lead, *space))
    lengths = {a.values.shape[1] for a in arrays.values() if a.dims and TIME in a.dims}
    if times is not None and len(lengths) == 1 and times.ndim == 1 and times.shape[0] in (n := lengths.pop(), n + 1):
        arrays[TIME] = Array(_floats(path, "t-coordinate", numbers)[:n], (TIME,))
    if "nu" in arrays and "tensor" in arrays and TIME not in (arrays["tensor"].dims or ()):
        given.append("nu")
    return Contents(path.name, arrays, given=tuple(given))


def _apart(path: Path, numbers: dict[str, Any]) -> Contents:
    """Groups 0000, 0001, ... each with data (time, *space, channel) and grid."""
    runs = sorted({n.partition("/")[0] for n in numbers if n.partition("/")[0].isdigit()})
    first = runs[0]
    space = [a for a in SPACE if f"{first}/grid/{a}" in numbers]
    shape = numbers[f"{first}/data"].shape
    if len(shape) != len(space) + 2:
        raise InputError(f"{path}: {first}/data has shape {shape}; expected (time, {', '.join(space)}, channel).")
    odd = [r for r in runs if f"{r}/data" not in numbers or numbers[f"{r}/data"].shape != shape]
    if odd:
        raise InputError(
            f"{path}: the runs {odd[:5]} have no data of shape {shape}, as run {first} has. Leave them out of the file."
        )
    arrays = {a: Array(_floats(path, f"{first}/grid/{a}", numbers), (a,)) for a in space}
    if f"{first}/grid/t" in numbers:
        arrays[TIME] = Array(_floats(path, f"{first}/grid/t", numbers)[: shape[0]], (TIME,))
    for a in space:
        other = [r for r in runs if not np.array_equal(numbers.get(f"{r}/grid/{a}", np.empty(0))[()], arrays[a].values)]
        if other:
            raise InputError(
                f"{path}: the runs {other[:5]} lie on another grid along {a} than run {first}; one grid for all is expected."
            )
    arrays["u"] = Array(np.stack([_floats(path, f"{r}/data", numbers) for r in runs]), (RUN, TIME, *space, CHANNEL))
    return Contents(path.name, arrays)


def _floats(path: Path, name: str, numbers: dict[str, Any]) -> np.ndarray:
    return np.asarray(value_of(path, name, numbers[name]))
