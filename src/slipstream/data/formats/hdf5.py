"""HDF5: what every format inside it needs, and files of no known convention. Nothing outside the file is followed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from slipstream.data.formats.contents import Array, Contents, check_size, damaged, plain
from slipstream.errors import InputError, SlipstreamError

MOST = 20_000
"""Objects that a file may have."""


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file, open to read; whatever its library says of damage becomes one error."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    except SlipstreamError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise damaged(path, "an HDF5 file", error) from None


def walk(path: Path, group: Any) -> dict[str, Any]:
    """All data sets below a group by their path in it; links out of the file are refused, loops are not walked twice."""
    import h5py

    found: dict[str, Any] = {}
    seen: set[Any] = set()
    waiting: list[tuple[str, Any]] = [("", group)]
    while waiting:
        prefix, here = waiting.pop()
        for name in here:
            link = here.get(name, getlink=True)
            full = f"{prefix}{name}"
            if isinstance(link, h5py.ExternalLink):
                raise InputError(
                    f"{path}: {full!r} is a link into another file, {link.filename}. Copy what it points to into this one."
                )
            if isinstance(link, h5py.SoftLink) and name not in here:
                continue
            item = here[name]
            key = h5py.h5o.get_info(item.id).addr
            if key in seen:
                continue
            seen.add(key)
            if len(seen) > MOST:
                raise InputError(
                    f"{path} holds more than {MOST} objects; take those that matter into a file of their own."
                )
            if isinstance(item, h5py.Group):
                waiting.append((f"{full}/", item))
            elif isinstance(item, h5py.Dataset):
                found[full] = item
    return found


def value_of(path: Path, name: str, data: Any) -> np.ndarray:
    """The numbers of a data set; those that lie in other files are refused."""
    if data.external or data.is_virtual:
        raise InputError(f"{path}: the numbers of {name!r} lie in other files. Copy them into this one.")
    if data.dtype.names != ("real", "imag"):
        plain(path, name, data.dtype, "a data set")
    return np.asarray(data[()])


def read(path: Path, memory: int) -> Contents:
    """Every numeric data set of a file of no known convention, by its path."""
    with opened(path) as file:
        sets = {n: d for n, d in walk(path, file).items() if d.dtype.kind in "biufc"}
        check_size(path, [(n, d.shape, d.dtype.itemsize) for n, d in sets.items()], memory)
        return Contents(path.name, {n: Array(np.asarray(value_of(path, n, d))) for n, d in sets.items()})
