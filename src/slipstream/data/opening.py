"""`slipstream.data.open`: any data in, trajectories out, and said back in words what they were taken for."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from slipstream.data.dataset import Dataset
from slipstream.data.formats import (
    arrays,
    folders,
    hdf5,
    matlab,
    meshes,
    netcdf,
    numpy_files,
    pdebench,
    tables,
    the_well,
    torch_files,
    zarr_folders,
)
from slipstream.data.formats.assemble import Wishes, assembled
from slipstream.data.formats.contents import Contents, damaged
from slipstream.data.formats.inference import named, with_time
from slipstream.data.formats.missing import Missing
from slipstream.data.formats.scattered import gridded
from slipstream.data.formats.words import describe
from slipstream.data.layout import Layout
from slipstream.data.store import Store
from slipstream.errors import InputError, StoreError
from slipstream.trajectories import Trajectories

Reader = Callable[[Path, int], Contents]
log = logging.getLogger("slipstream.data")

MEMORY = 2 * 2**30
HDF5 = b"\x89HDF\r\n\x1a\n"
MAGIC: tuple[tuple[bytes, Reader], ...] = (
    (b"\x93NUMPY", numpy_files.read_npy),
    (b"CDF\x01", netcdf.read_v3),
    (b"CDF\x02", netcdf.read_v3),
    (b"MATLAB 5.0", matlab.read_v5),
    (b"MATLAB 7.3", matlab.read_v73),
)
"""How a file begins -> who reads it."""
INSIDE_HDF5: tuple[tuple[Callable[[Any], bool], Reader], ...] = (
    (the_well.recognises, the_well.read),
    (pdebench.recognises, pdebench.read),
    (netcdf.recognises, netcdf.read_v4),
)
TEXT, MESH = (".csv", ".dat", ".txt", ".tsv"), (".vtk", ".vtu", ".vtp", ".xdmf", ".msh")
KNOWN = (
    ".npy, .npz, .mat, .pt, .nc, .h5/.hdf5 (PDEBench, The Well, others), .csv/.dat/.txt, .vtk/.vtu, Zarr folders, "
    "folders of tables or meshes"
)


def open(
    source: Any,
    *,
    axes: str | None = None,
    channels: str | Sequence[str] | None = None,
    time: str | None = None,
    periodic: bool | str | Sequence[str] | None = None,
    interval: float | None = None,
    extent: Mapping[str, tuple[float, float]] | None = None,
    given: str | Sequence[str] = (),
    resample: Mapping[str, int] | None = None,
    missing: Missing = "refuse",
    dtype: torch.dtype = torch.float32,
    memory: int = MEMORY,
) -> Trajectories:
    """Data that others made, as trajectories.

    The layout is inferred where one reading alone fits, and said: ``slipstream.data.describe(result)``, and one line in the log
    ``slipstream.data``. Where more than one fits, the error tells them; the arguments below settle it. What no word of this house can hold
    (curvilinear grids, meshes, moving points) is refused with what was found. Nothing in a file is ever run.

    Points that are NaN in every frame (land) are masked: they count in no loss, mean or metric (`Trajectories.weights`).

    Parameters
    ----------
    source : a path (NumPy, MATLAB, torch, NetCDF, HDF5 of PDEBench, The Well or of no convention, tables of text, VTK, Zarr, folders of
        tables or meshes), arrays or tensors, a mapping of those, or anything of xarray.
    axes : the dimensions of the (largest) array in the file's order: ``"run time x y channel"``, or any names for the axes of space. Of a
        table without names, the first columns.
    channels : which fields, where there are several.
    time : which dimension is time, where its name does not tell.
    periodic : True, False, or the axes that are. Where None, the file's word, else coordinates and fields together have to say so.
    interval : between frames, against what the file says of times.
    extent : axis -> (start, end), for axes without coordinates.
    given : fields or values that are conditions, not states: they become parameters.
    resample : axis (or ``"time"``) -> points: interpolate linearly what is not equidistant, or scattered.
    missing : ``"interpolate"`` fills gaps along time; masked points are not gaps.
    dtype : of the frames.
    memory : bytes that arrays may take.

    Raises
    ------
    InputError : a layout that is ambiguous or beyond these words; coordinates out of order; gaps; arrays too large.
    StoreError : no such file; a damaged or truncated one.
    MissingExtra : a VTK file without meshio.
    """
    if isinstance(source, Dataset):
        source = source.trajectories()
    if isinstance(source, Trajectories):
        return source
    words = None if axes is None else [_alias(w) for w in axes.replace(",", " ").split()]
    wishes = Wishes(
        _words(channels), periodic if periodic is None or isinstance(periodic, bool) else _words(periodic), interval, extent,
        _words(given) or (), resample, missing, dtype,
    )  # fmt: skip
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if path.is_dir() and _is_store(path):
            return Store.open(path).trajectories().to(dtype)
        contents = _contents(path, memory)
    else:
        contents = arrays.read(source)
    contents = gridded(named(contents, words, time), words, resample or {})
    result = assembled(with_time(contents, time), wishes)
    log.info("%s: %s", contents.source, describe(result))
    return result


def _words(value: str | Sequence[str] | None) -> list[str] | None:
    return value.replace(",", " ").split() if isinstance(value, str) else None if value is None else list(value)


def _alias(word: str) -> str:
    return {"t": "time", "batch": "run", "case": "run", "sample": "run", "c": "channel"}.get(word, word)


def _is_store(path: Path) -> bool:
    try:
        Layout.read(path)
    except StoreError as error:
        if "no store" in str(error):
            return False
        raise
    return True


def _contents(path: Path, memory: int) -> Contents:
    """Who reads it is told by how it begins; names only where nothing else tells."""
    try:
        if path.is_dir():
            return _folder(path, memory)
        with path.open("rb") as file:
            head, size = file.read(1024), path.stat().st_size
    except FileNotFoundError:
        raise StoreError(f"There is no file {path}.") from None
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}.") from None
    if size == 0:
        raise StoreError(f"{path} is empty.")
    for magic, reader in MAGIC:
        if head.startswith(magic):
            return reader(path, memory)
    if head.startswith(HDF5):
        return _in_hdf5(path, memory)
    if head.startswith(b"PK"):
        return _in_zip(path, memory)
    if path.suffix.lower() in MESH:
        return meshes.read(path, memory)
    if path.suffix.lower() in TEXT:
        return tables.read(path, memory)
    raise InputError(
        f"{path} begins with {head[:8]!r}, which is how no known format begins{_contradiction(path)}. Known are: {KNOWN}."
    )


def _contradiction(path: Path) -> str:
    return f" (its name says {path.suffix})" if path.suffix else ""


def _in_hdf5(path: Path, memory: int) -> Contents:
    with hdf5.opened(path) as file:
        reader = next((r for recognises, r in INSIDE_HDF5 if recognises(file)), hdf5.read)
    return reader(path, memory)


def _in_zip(path: Path, memory: int) -> Contents:
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise damaged(path, "a zip archive (.npz or .pt)", error) from None
    if any(n.endswith(("data.pkl", "constants.pkl")) for n in names):
        return torch_files.read(path, memory)
    if any(n.endswith(".npy") for n in names):
        return numpy_files.read_npz(path, memory)
    raise InputError(f"{path} is a zip archive of {names[:5] or 'nothing'}; expected arrays (.npy) or tensors.")


def _folder(path: Path, memory: int) -> Contents:
    if any((path / name).is_file() for name in (".zgroup", "zarr.json", ".zarray", ".zmetadata")):
        return zarr_folders.read(path, memory)
    readers = dict.fromkeys(TEXT, tables.read) | dict.fromkeys(MESH, meshes.read)
    for suffix, reader in readers.items():
        files = sorted(p for p in path.iterdir() if p.suffix.lower() == suffix and p.is_file())
        if files:
            return folders.read(path, files, reader, memory)
    raise InputError(f"{path} is a folder without data. Known are: {KNOWN}.")
