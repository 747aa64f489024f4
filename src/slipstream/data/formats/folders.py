"""Folders of files, one a time: tables or meshes on the same points, in the order of the numbers in their names."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from slipstream.data.formats.contents import POINT, TIME, Array, Contents, amount
from slipstream.errors import InputError

NUMBER = re.compile(r"(\d+(?:\.\d+)?)(?!.*\d)")
Reader = Callable[[Path, int], Contents]


def read(path: Path, files: list[Path], reader: Reader, memory: int) -> Contents:
    """All files as one. The number in a name is the time; it is said so, for nobody else did."""
    numbers = [NUMBER.search(f.stem) for f in files]
    if not all(numbers):
        bad = next(f.name for f, n in zip(files, numbers, strict=True) if n is None)
        raise InputError(
            f"{path}: {bad} has no number in its name, so its time is not known. Call the files name_0001, name_0002, ..."
        )
    found = sorted(zip([float(n[1]) for n in numbers if n], files, strict=True))
    times = [t for t, _ in found]
    if len(set(times)) < len(times):
        raise InputError(f"{path}: two files have the same number in their name; expected one file a time.")
    total = sum(f.stat().st_size for f in files)
    if 4 * total > memory:
        raise InputError(
            f"{path}: {len(files)} files of {amount(total)} may need more than the {amount(memory)} allowed; "
            f"allow more: memory={8 * total}."
        )
    first = reader(found[0][1], memory)
    frames = {n: [a.values] for n, a in first.arrays.items()}
    for _, file in found[1:]:
        contents = reader(file, memory)
        same = {n: a.values.shape for n, a in contents.arrays.items()} == {n: v[0].shape for n, v in frames.items()}
        if not same:
            raise InputError(
                f"{path}: {file.name} differs from {found[0][1].name}: it holds {contents.found()}, not {first.found()}. "
                "One set of points and names is expected."
            )
        for name, array in contents.arrays.items():
            frames[name].append(array.values)
    arrays = {}
    for name, values in frames.items():
        fixed = all(np.array_equal(v, values[0]) for v in values)
        stacked = first.arrays[name].values if fixed else np.stack(values)
        arrays[name] = Array(stacked, (POINT,) if fixed else (TIME, POINT), first.arrays[name].unit)
    arrays[TIME] = Array(np.array(times), (TIME,))
    note = f"Times are the numbers in the names of the files: {times[0]:g} to {times[-1]:g}."
    return replace(first, source=path.name, arrays=arrays, notes=(*first.notes, note))
