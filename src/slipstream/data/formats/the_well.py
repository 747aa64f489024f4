"""The Well's HDF5 files: scalars, vectors and tensors of many runs on one uniform grid, read and written."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slipstream.data.formats.contents import RUN, TIME, Array, Contents, check_size, damaged
from slipstream.data.formats.conventions import text
from slipstream.data.formats.hdf5 import opened, value_of, walk
from slipstream.errors import InputError, StoreError
from slipstream.trajectories import Trajectories

ORDERS = ("t0_fields", "t1_fields", "t2_fields")
CARTESIAN = "cartesian"


def recognises(file: Any) -> bool:
    """Whether an open HDF5 file has the groups that the format asks for."""
    return "dimensions" in file and "t0_fields" in file


def read(path: Path, memory: int) -> Contents:
    """All fields by name; a vector along x and y becomes ``velocity_x`` and ``velocity_y``.

    Periodic axes are those whose boundary conditions say so. Fields that do not vary in time are conditions.
    """
    with opened(path) as file:
        kind = text(file.attrs.get("grid_type", CARTESIAN))
        if kind != CARTESIAN:
            raise InputError(
                f"{path} lies on a {kind} grid; only cartesian grids are uniform boxes. Resample the fields on one."
            )
        numbers = {n: d for n, d in walk(path, file).items() if d.dtype.kind in "biufc"}
        check_size(path, [(n, d.shape, d.dtype.itemsize) for n, d in numbers.items()], memory)
        dims = file["dimensions"]
        space = [text(n) for n in np.ravel(dims.attrs.get("spatial_dims", []))]
        if not space or any(n not in dims for n in space):
            raise damaged(path, "a file of The Well", f"it names the axes {space}, its coordinates are {sorted(dims)}")
        arrays: dict[str, Array] = {}
        for name in space:
            data = dims[name]
            if bool(data.attrs.get("sample_varying", False)) or bool(data.attrs.get("time_varying", False)):
                raise InputError(
                    f"{path}: the coordinates {name!r} move from run to run or in time; a fixed grid is expected."
                )
            arrays[name] = Array(np.ravel(value_of(path, name, data)), (name,))
        if TIME in dims:
            arrays[TIME] = Array(_times(path, dims[TIME]), (TIME,))
        given: list[str] = []
        for order, group in enumerate(ORDERS):
            for name, data in file.get(group, {}).items():
                _field(path, name, data, order, space, arrays, given)
        scalars = file.get("scalars", {})
        notes = []
        for name, data in scalars.items():
            if bool(data.attrs.get("time_varying", False)):
                notes.append(f"Left out: the scalar {name!r}, which varies in time.")
                continue
            varies = bool(data.attrs.get("sample_varying", False))
            values = np.ravel(value_of(path, name, data))
            arrays[name] = Array(values if varies else values[:1].reshape(()), (RUN,) if varies else ())
        return Contents(path.name, arrays, tuple(notes), _periodic(file, space), tuple(given))


def _times(path: Path, data: Any) -> np.ndarray:
    values = np.asarray(value_of(path, TIME, data))
    if values.ndim > 1:
        if not np.allclose(values, values[:1]):
            raise InputError(f"{path}: runs have times of their own; the same times for all are expected.")
        values = values[0]
    return values


def _periodic(file: Any, space: list[str]) -> dict[str, bool]:
    periodic = dict.fromkeys(space, False)
    for condition in file.get("boundary_conditions", {}).values():
        if text(condition.attrs.get("bc_type", "")).lower() == "periodic":
            for name in np.ravel(condition.attrs.get("associated_dims", [])):
                periodic[text(name)] = True
    return periodic


def _field(
    path: Path, name: str, data: Any, order: int, space: list[str], arrays: dict[str, Array], given: list[str]
) -> None:
    """Name the dimensions that the field has, spread it over those that it is constant along, and part its components."""
    runs, times = (bool(data.attrs.get(k, True)) for k in ("sample_varying", "time_varying"))
    along = [bool(v) for v in np.ravel(data.attrs.get("dim_varying", [True] * len(space)))]
    values = np.asarray(value_of(path, name, data))
    dims = [d for d, there in ((RUN, runs), (TIME, times)) if there]
    dims += [d for d, there in zip(space, along, strict=True) if there]
    if values.ndim != len(dims) + order:
        raise damaged(
            path, "a file of The Well", f"{name!r} has shape {values.shape}, its attributes say ({', '.join(dims)})"
        )
    place = len(dims) - sum(along)
    for i, d in enumerate(space):
        if not along[i]:
            values = np.broadcast_to(
                np.expand_dims(values, place + i),
                (*values.shape[: place + i], len(arrays[d].values), *values.shape[place + i :]),
            )
    dims = dims[:place] + space
    if order == 0:
        parts = {name: values}
    else:
        flat = values.reshape(*values.shape[: len(dims)], -1)
        names = space if order == 1 else [a + b for a in space for b in space]
        parts = {f"{name}_{n}": flat[..., i] for i, n in enumerate(names)}
    for part, numbers in parts.items():
        arrays[part] = Array(numbers, tuple(dims))
        if not times:
            given.append(part)


def write(path: str | os.PathLike, data: Trajectories, name: str | None = None) -> Path:
    """Write trajectories as a file of The Well: whole or not at all.

    Channels ``velocity_x``, ``velocity_y`` (one an axis, in the grid's order) become one vector; all others are scalars. Units stand in
    an attribute of each field. Numbers are single precision, as the format says.

    Parameters
    ----------
    name : of the data set; where None the problem's, else the file's.

    Raises
    ------
    StoreError : the file cannot be written.
    InputError : masked data (the format has no place for a mask).
    """
    import h5py

    path = Path(path)
    if data.weights is not None:
        raise InputError("The Well's format has no place for a mask; write these data to a folder of another format.")
    space = [a.name for a in data.grid.axes]
    scalars = {n: v for n, v in data.parameters.items() if v.ndim == 1}
    fields = {n: v for n, v in data.parameters.items() if tuple(v.shape[1:]) == data.grid.shape}
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with h5py.File(partial, "w") as file:
            about = {
                "dataset_name": name or str(data.about.get("problem", path.stem)), "grid_type": CARTESIAN,
                "n_spatial_dims": len(space), "n_trajectories": data.runs,
            }  # fmt: skip
            for key, value in about.items():
                file.attrs[key] = value
            file.attrs["simulation_parameters"] = list(scalars)
            dims = file.create_group("dimensions")
            dims.attrs["spatial_dims"] = space
            _put(dims, TIME, data.times, sample_varying=False)
            for axis in data.grid.axes:
                made = _put(dims, axis.name, axis.coordinates(), sample_varying=False, time_varying=False)
                made.attrs["unit"] = axis.unit
            group = file.create_group("scalars")
            group.attrs["field_names"] = list(scalars)
            for key, value in scalars.items():
                _put(group, key, value, sample_varying=True, time_varying=False)
            _conditions(file.create_group("boundary_conditions"), data)
            groups = [file.create_group(g) for g in ORDERS]
            varying = {"dim_varying": [True] * len(space), "sample_varying": True}
            vectors = _vectors(data, space)
            inside = {i for place in vectors.values() for i in place}
            for i, channel in enumerate(data.channels):
                if i not in inside:
                    _put(groups[0], channel.name, data.frames[:, :, i], time_varying=True, **varying).attrs["unit"] = (
                        channel.unit
                    )
            for key, value in fields.items():
                _put(groups[0], key, value, time_varying=False, **varying)
            for key, place in vectors.items():
                made = _put(groups[1], key, data.frames[:, :, place].movedim(2, -1), time_varying=True, **varying)
                made.attrs["unit"] = data.channels[place[0]].unit
            for made in groups:
                made.attrs["field_names"] = list(made)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StoreError(f"Could not write {path}: {error.strerror or error}. Nothing there was changed.") from error
    return path


def _vectors(data: Trajectories, space: list[str]) -> dict[str, list[int]]:
    """Channels that are the components of one vector, by its name."""
    names = [c.name for c in data.channels]
    stems = (
        {m[1] for n in names if (m := re.fullmatch(r"(.+)_([^_]+)", n)) and m[2] == space[0]}
        if len(space) > 1
        else set()
    )
    return {
        s: [names.index(f"{s}_{a}") for a in space] for s in sorted(stems) if all(f"{s}_{a}" in names for a in space)
    }


def _conditions(group: Any, data: Trajectories) -> None:
    for axis in data.grid.axes:
        kind = "periodic" if axis.periodic else "open"
        made = group.create_group(f"{axis.name}_{kind}")
        made.attrs.update(
            {"bc_type": kind.upper(), "associated_fields": [], "sample_varying": False, "time_varying": False}
        )
        made.attrs["associated_dims"] = [axis.name]
        mask = np.zeros(axis.num_points, dtype=bool)
        mask[[0, -1]] = True
        made.create_dataset("mask", data=mask)


def _put(group: Any, name: str, values: torch.Tensor, **attributes: Any) -> Any:
    made = group.create_dataset(name, data=values.detach().cpu().to(torch.float32).numpy())
    for key, value in attributes.items():
        made.attrs[key] = value
    return made
