"""NetCDF: version 4 is HDF5 with named dimensions and is read as such; version 3 is read through SciPy."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from slipstream.data.formats.contents import Contents, check_size, damaged
from slipstream.data.formats.conventions import gathered
from slipstream.data.formats.hdf5 import opened, value_of, walk
from slipstream.errors import SlipstreamError

NO_VARIABLE = b"This is a netCDF dimension but not a netCDF variable"


def recognises(file: Any) -> bool:
    """Whether an open HDF5 file names its dimensions as NetCDF does."""
    return "_NCProperties" in file.attrs or any(
        getattr(item, "attrs", {}).get("CLASS") == b"DIMENSION_SCALE" for item in file.values()
    )


def read_v4(path: Path, memory: int) -> Contents:
    """Every numeric variable with its dimensions."""
    with opened(path) as file:
        sets, variables = walk(path, file), {}
        numbers = {}
        for name, data in sets.items():
            if data.dtype.kind in "biufc" and not bytes(data.attrs.get("NAME", b"")).startswith(NO_VARIABLE):
                numbers[name] = data
        check_size(path, [(n, d.shape, d.dtype.itemsize) for n, d in numbers.items()], memory)
        for name, data in numbers.items():
            attributes = {k: data.attrs[k] for k in data.attrs if k not in ("DIMENSION_LIST", "REFERENCE_LIST")}
            variables[name] = (np.asarray(value_of(path, name, data)), _dims(name, data), attributes)
    return gathered(path.name, variables)


def _dims(name: str, data: Any) -> tuple[str, ...]:
    if data.attrs.get("CLASS") == b"DIMENSION_SCALE" and data.ndim == 1:
        return (name,)
    found = []
    for i in range(data.ndim):
        scales = list(data.dims[i].values())
        found.append(scales[0].name.rpartition("/")[2] if scales else f"dim_{i}")
    return tuple(found)


def read_v3(path: Path, memory: int) -> Contents:
    """Every numeric variable of a classic file (CDF-1, CDF-2)."""
    from scipy.io import netcdf_file

    variables = {}
    check_size(path, [("file", (path.stat().st_size,), 1)], memory)
    try:
        with netcdf_file(io.BytesIO(path.read_bytes()), "r", mmap=False) as file:
            there = path.stat().st_size
            declared = [(n, tuple(v.shape), v.data.dtype.itemsize) for n, v in file.variables.items()]
            check_size(path, declared, memory)
            if sum(v.data.nbytes for v in file.variables.values()) > there:
                raise damaged(path, "a NetCDF file", f"it declares more numbers than its {there} bytes can hold")
            for name, v in file.variables.items():
                values = np.array(v.data).astype(v.data.dtype.newbyteorder("="))
                if values.dtype.kind in "biuf":
                    variables[name] = (values, tuple(v.dimensions), dict(v._attributes))
    except SlipstreamError:
        raise
    except Exception as error:  # whatever a damaged file makes the reader say
        raise damaged(path, "a classic NetCDF file", error) from None
    return gathered(path.name, variables)
