"""Layout: what a store looks like on disk, and how it comes to be there whole.

A store is a Zarr v3 group that any Zarr reader understands:

``frames`` (run, time, channel, \\*axes)
    The fields, in uncompressed chunks with a CRC32C checksum. Turbulent float32 fields shrink by a quarter at best, at a
    fifth of the speed; the checksum costs nothing measurable and finds damaged chunks.
``complete`` (run)
    How many leading frames of each run are on disk. It is written after the frames it speaks of: nothing else counts.
``time``, ``channel`` and one array an axis of the grid
    Coordinates.
one array a parameter, (run, ...)
    What each run was simulated with.

The attributes of the group hold the format number, the version that made it, interval, start time, and as JSON text the grid, the channels
and `about` (text, so that the data set can be handed on to NetCDF).
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import uuid
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import slipstream
from slipstream.channels import Channel
from slipstream.errors import InputError, ShapeError, StoreError
from slipstream.grids import Grid
from slipstream.pretrained import describe, rebuild
from slipstream.trajectories import Parameters

FORMAT = 1
RECORD = "complete"
CHECKSUM_BYTES = 4
CHUNK_BYTES, CHUNK_FRAMES = 4 * 2**20, 16
DTYPES = {"float16": torch.float16, "float32": torch.float32, "float64": torch.float64}
KEYS: dict[str, Any] = {
    "name": "default",
    "separator": ".",
}  # one folder an array: one fsync makes its new names durable


@dataclass(frozen=True)
class Layout:
    """Everything about a store but its numbers. `chunk` is (runs, frames) a chunk file."""

    grid: Grid
    channels: tuple[Channel, ...]
    interval: float
    start_time: float
    runs: int
    steps: int
    block: int
    dtype: torch.dtype
    parameters: tuple[str, ...]
    about: Mapping[str, Any]
    chunk: tuple[int, int]

    def __post_init__(self) -> None:
        for name, value in (("runs", self.runs), ("steps", self.steps), ("block", self.block)):
            if value < 1:
                raise InputError(f"A store needs at least one of each; got {name}={value}.")
        if self.dtype not in DTYPES.values():
            raise InputError(
                f"A store holds {', '.join(DTYPES)}; got {self.dtype}. Complex fields are two real channels."
            )
        names = ["frames", RECORD, "run", "time", "channel", *(a.name for a in self.grid.axes), *self.parameters]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise InputError(
                f"The names {twice} stand for more than one array of the store; rename the axes or parameters."
            )
        unfit = [n for n in names if not re.fullmatch(r"[^\W_][\w.+-]*", n)]
        if unfit:
            raise InputError(
                f"The names {unfit} cannot be arrays of a store: use letters, digits, '_', '.', '+' and '-'."
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all frames: (run, time, channel, *space)."""
        return (self.runs, self.steps, len(self.channels), *self.grid.shape)

    def attributes(self) -> dict[str, Any]:
        try:
            about = json.dumps(dict(self.about), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError(f"`about` must be plain data that JSON can hold: {error}.") from None
        return {
            "format": FORMAT,
            "slipstream": slipstream.__version__,
            "interval": self.interval,
            "start_time": self.start_time,
            "runs": self.runs,
            "steps": self.steps,
            "block": self.block,
            "dtype": str(self.dtype).removeprefix("torch."),
            "chunk": list(self.chunk),
            "parameters": json.dumps(self.parameters),
            "grid": json.dumps(describe(self.grid)),
            "channels": json.dumps(describe(self.channels)),
            "about": about,
        }

    @classmethod
    def read(cls, path: Path) -> Layout:
        """Of the store at `path`; refuses what is none, what is damaged, and what is newer than this release."""
        try:
            group = json.loads((path / "zarr.json").read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            raise StoreError(f"{path} is no store: there is no {path / 'zarr.json'}.") from None
        except (OSError, ValueError) as error:
            raise StoreError(f"{path / 'zarr.json'} could not be read: {error}.") from None
        found = group.get("attributes", {}) if isinstance(group, dict) else {}
        if "format" not in found or "slipstream" not in found:
            raise StoreError(f"{path} is a Zarr {group.get('node_type', 'file')}, but no store of slipstream.")
        if not isinstance(found["format"], int) or found["format"] > FORMAT:
            raise StoreError(
                f"{path} has format {found['format']!r}, written by slipstream {found['slipstream']}; this slipstream "
                f"({slipstream.__version__}) knows formats up to {FORMAT}. Upgrade slipstream to read it."
            )
        try:
            return cls(
                grid=rebuild(json.loads(found["grid"])),
                channels=rebuild(json.loads(found["channels"])),
                parameters=tuple(json.loads(found["parameters"])),
                about=json.loads(found["about"]),
                dtype=DTYPES[found["dtype"]],
                chunk=tuple(found["chunk"]),
                **{k: found[k] for k in ("interval", "start_time", "runs", "steps", "block")},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{path / 'zarr.json'} is damaged: {type(error).__name__}: {error}.") from error


def chunk_of(block: int, steps: int, frame_bytes: int) -> tuple[int, int]:
    """Runs and frames in a chunk of about 4 MiB: at least 16 frames where they fit, and never two blocks in one chunk."""
    most = max(1, CHUNK_BYTES // (min(CHUNK_FRAMES, steps) * frame_bytes))
    runs = max(r for r in range(1, min(block, most) + 1) if block % r == 0)
    return runs, min(steps, max(1, CHUNK_BYTES // (runs * frame_bytes)))


def lay_out(path: Path, layout: Layout, parameters: Parameters) -> None:
    """Make an empty store. It is built beside `path` and renamed, so that it appears whole or not at all."""
    attributes = layout.attributes()
    arrays = {name: _numpy(name, value, layout.runs) for name, value in parameters.items()}
    building = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _build(building, layout, attributes, arrays)
        for entry in sorted(building.rglob("*")):
            sync(entry)
        building.rename(path)
        sync(path.parent)
    except OSError as error:
        raise StoreError(f"Could not make a store at {path}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _build(folder: Path, layout: Layout, attributes: dict[str, Any], parameters: dict[str, np.ndarray]) -> None:
    import zarr
    from zarr.codecs import Crc32cCodec

    group = zarr.open_group(folder, mode="w-", zarr_format=3, attributes=attributes)
    axes = [a.name for a in layout.grid.axes]

    def add(name, values, dims, compressors=None, **about):
        array = group.create_array(
            name,
            shape=values.shape,
            dtype=values.dtype if values.dtype != object else str,
            chunks=values.shape if values.ndim == 1 else (1, *values.shape[1:]),
            compressors=compressors,
            dimension_names=dims,
            chunk_key_encoding=KEYS,
            attributes=about,
            config={"write_empty_chunks": True},
        )
        array[...] = values

    group.create_array(
        "frames",
        shape=layout.shape,
        chunks=(*layout.chunk, *layout.shape[2:]),
        dtype=attributes["dtype"],
        fill_value=math.nan,  # what other readers see where nothing was written yet
        compressors=[Crc32cCodec()],
        dimension_names=["run", "time", "channel", *axes],
        chunk_key_encoding=KEYS,
        attributes={
            "units": _one_or_all([c.unit for c in layout.channels]),
            "location": _one_or_all([c.location for c in layout.channels]),
            "coordinates": " ".join(n for n, v in parameters.items() if v.ndim == 1),
        },
    )
    # Uncompressed, so that the record is nothing but its numbers and can be replaced by one rename.
    add(RECORD, np.zeros(layout.runs, "<i8"), ["run"], description="how many leading frames of the run are on disk")
    add("time", layout.start_time + layout.interval * np.arange(layout.steps), ["time"])
    add("channel", np.array([c.name for c in layout.channels], dtype=object), ["channel"])
    for axis in layout.grid.axes:
        add(axis.name, axis.coordinates().numpy(), [axis.name], units=axis.unit)
    for name, values in parameters.items():
        field = values.shape[1:] == layout.grid.shape
        add(
            name,
            values,
            ["run", *(axes if field else (f"{name}_{i}" for i in range(1, values.ndim)))],
            compressors=[Crc32cCodec()],
        )
    with warnings.catch_warnings():
        # Every reader of the consolidated form is one more that opens the store at once; others ignore it.
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        zarr.consolidate_metadata(folder, zarr_format=3)


def _one_or_all(values: list[str]) -> str | list[str]:
    return values[0] if len(set(values)) == 1 else values


def _numpy(name: str, value: Tensor, runs: int) -> np.ndarray:
    if value.ndim == 0 or value.shape[0] != runs:
        raise ShapeError(
            f"Parameter {name!r} has shape {tuple(value.shape)}; expected {runs} entries along its first axis, one a run."
        )
    try:
        return value.detach().cpu().contiguous().numpy()
    except TypeError as error:
        raise InputError(f"Parameter {name!r} of dtype {value.dtype} cannot be stored: {error}.") from None


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def chunk_files(folder: Path, shape: tuple[int, ...], index: tuple[slice, ...]) -> list[Path]:
    """Files of the chunks of `shape` that a selection touches."""
    touched = [range(s.start // n, (s.stop - 1) // n + 1) for s, n in zip(index, shape, strict=True)]
    return [folder / ".".join(["c", *map(str, position)]) for position in product(*touched)]


def write_chunk(file: Path, values: np.ndarray) -> None:
    """Write a chunk as `frames` has them (little-endian numbers, then their CRC32C) so that it appears whole or not at all.

    Zarr would do the same with two copies more and without waiting for the disk.
    """
    import google_crc32c

    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    content = np.ascontiguousarray(little).reshape(-1).view(np.uint8)
    checksum = np.array([google_crc32c.value(content)], "<u4").view(np.uint8)
    partial = file.with_name(f"{file.name}.partial")
    try:
        with open(partial, "wb", buffering=0) as raw:
            for part in (content, checksum):
                while part.size:
                    part = part[raw.write(part.data) :]
            os.fsync(raw.fileno())
        os.replace(partial, file)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def read_record(path: Path, runs: int) -> np.ndarray:
    """How many leading frames of each run are on disk."""
    file = path / RECORD / "c.0"
    try:
        content = file.read_bytes()
    except OSError as error:
        raise StoreError(f"{path} is damaged: {file} cannot be read: {error.strerror}.") from error
    if len(content) != 8 * runs:
        raise StoreError(f"{path} is damaged: {file} has {len(content)} bytes, expected {8 * runs}.")
    return np.frombuffer(content, "<i8").astype(np.int64)


def read_array(folder: Path, array: Any, index: tuple[slice, ...]) -> np.ndarray:
    """Part of a checksummed array, every chunk of which must be there and whole.

    Zarr alone hands out fill values for a chunk that is missing, and does not say which chunk is damaged.
    """
    index = tuple(slice(*s.indices(n)) for s, n in zip(index, array.shape, strict=True))
    if any(s.stop <= s.start for s in index):
        return array[index]
    expected = math.prod(array.chunks) * array.dtype.itemsize + CHECKSUM_BYTES
    files = chunk_files(folder, array.chunks, index)
    for file in files:
        try:
            found = file.stat().st_size
        except OSError as error:
            raise StoreError(
                f"The chunk {file} cannot be read: {error.strerror}. Simulate its runs again, or restore it."
            ) from None
        if found != expected:
            raise StoreError(
                f"The chunk {file} is damaged: {found} bytes, expected {expected}. Simulate its runs again, or restore it."
            )
    try:
        return array[index]
    except (OSError, ValueError) as error:
        for file in files:
            _check_sum(file)
        raise StoreError(f"{folder} cannot be read: {error}.") from error


def _check_sum(file: Path) -> None:
    import google_crc32c

    content = file.read_bytes()
    if google_crc32c.value(content[:-CHECKSUM_BYTES]) != int.from_bytes(content[-CHECKSUM_BYTES:], "little"):
        raise StoreError(f"The chunk {file} is damaged: its checksum is wrong. Simulate its runs again, or restore it.")


def differences(found: Layout, asked: Layout, stored: Parameters, given: Parameters) -> list[str]:
    """One line for everything in which two stores differ; chunks and versions of the writer are left out."""
    lines = []
    here, there = _leaves(found), _leaves(asked)
    for key in sorted(here.keys() | there.keys()):
        a, b = here.get(key, "nothing"), there.get(key, "nothing")
        if a != b:
            lines.append(f"{key}: {a!r} in the store, {b!r} asked")
    for name in [n for n in given if n in stored]:
        a, b = stored[name], given[name].detach().cpu()
        if a.dtype != b.dtype or a.shape != b.shape:
            lines.append(f"parameters.{name}: {_kind(a)} in the store, {_kind(b)} asked")
        elif (unequal := ((a != b) & ((a == a) | (b == b))).reshape(len(a), -1)).any():  # two NaN are no difference
            run, place = unequal.nonzero()[0].tolist()
            values = [t.reshape(len(a), -1).numpy()[run, place] for t in (a, b)]
            lines.append(
                f"parameters.{name}: {values[0]!s} in the store, {values[1]!s} asked for run {run}"
                f" ({int(unequal.any(1).sum())} of {len(a)} runs differ)"
            )
    return lines


def _leaves(layout: Layout) -> dict[str, Any]:
    attributes = {k: v for k, v in layout.attributes().items() if k not in ("format", "slipstream", "chunk")}
    for key in ("parameters", "grid", "channels", "about"):
        attributes[key] = json.loads(attributes[key])

    def walk(key: str, value: Any) -> dict[str, Any]:
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
        if not items:
            return {key: value}
        return {k: v for name, inner in items for k, v in walk(f"{key}.{name}" if key else str(name), inner).items()}

    return walk("", attributes)


def _kind(t: Tensor) -> str:
    return f"{str(t.dtype).removeprefix('torch.')} {tuple(t.shape)}"
