"""Zarr folders that xarray wrote, or anything like them: arrays with named dimensions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from slipstream.data.formats.contents import Contents, check_size, damaged
from slipstream.data.formats.conventions import gathered
from slipstream.errors import InputError, SlipstreamError

CODECS = {
    "blosc", "zlib", "gzip", "zstd", "lz4", "bz2", "lzma", "delta", "shuffle", "fixedscaleoffset", "quantize", "bitround", "astype",
    "packbits", "crc32", "crc32c", "adler32", "fletcher32", "bytes", "transpose", "sharding_indexed",
}  # fmt: skip
"""Codecs that only move and squeeze numbers. Others (pickle among them) may run code."""
METADATA = {"zarr.json", ".zarray"}


def read(path: Path, memory: int) -> Contents:
    """Every numeric array of the group, of Zarr version 2 or 3."""
    names, left = [], []
    declared = []
    for file in sorted(p for p in path.glob("*/*") if p.name in METADATA):
        try:
            about = json.loads(file.read_bytes())
            if about.get("node_type", "array") != "array":
                continue
            name, shape = file.parent.name, tuple(int(n) for n in about["shape"])
            size = _bytes_of(about)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise damaged(file, "the description of a Zarr array", error) from None
        if size is None:
            left.append(name)
            continue
        _check_codecs(file, about)
        names.append(name)
        declared.append((name, shape, size))
    check_size(path, declared, memory)
    import zarr

    variables = {}
    try:
        for name in names:
            array = zarr.open_array(path / name, mode="r")
            attributes = dict(array.attrs)
            told: Any = attributes.pop("_ARRAY_DIMENSIONS", None) or getattr(array.metadata, "dimension_names", None)
            values = np.asarray(array[...])
            fill = getattr(array.metadata, "fill_value", None) if array.metadata.zarr_format == 2 else None
            if fill is not None and values.dtype.kind == "f":
                attributes.setdefault("_FillValue", fill)
            unnamed = tuple(f"{name}_{i}" for i in range(values.ndim))
            dims = tuple(map(str, told)) if told and all(told) else unnamed
            variables[name] = (
                values,
                dims,
                {k: v for k, v in attributes.items() if k != "_FillValue" or _is_number(v)},
            )
    except SlipstreamError:
        raise
    except Exception as error:  # whatever damaged chunks make the reader say
        raise damaged(path, "a Zarr group", error) from None
    notes = (f"Left out, not being arrays of numbers: {', '.join(left)}.",) if left else ()
    return gathered(path.name, variables, notes)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number))


def _bytes_of(about: dict[str, Any]) -> int | None:
    """Bytes a number of an array, None where it holds no numbers."""
    named = about["dtype"] if about.get("zarr_format", 2) == 2 else about["data_type"]
    try:
        dtype = np.dtype(named)
    except TypeError:
        return None
    return dtype.itemsize if dtype.kind in "biufc" else None


def _check_codecs(file: Path, about: Any) -> None:
    """Refuse codecs that are not known to leave the machine alone, wherever they stand in the description."""
    found: set[str] = set()
    if about.get("zarr_format", 2) == 2:
        found = {
            str(c.get("id")) for c in [about.get("compressor"), *(about.get("filters") or [])] if isinstance(c, dict)
        }
    else:
        waiting = list(about.get("codecs", []))
        while waiting:
            codec = waiting.pop()
            found.add(str(codec.get("name", codec)) if isinstance(codec, dict) else str(codec))
            inner = codec.get("configuration", {}) if isinstance(codec, dict) else {}
            waiting += [c for key in ("codecs", "index_codecs") for c in inner.get(key, [])]
    strange = sorted(c for c in found if c.removeprefix("numcodecs.") not in CODECS)
    if strange:
        raise InputError(
            f"{file}: the codecs {strange} are not read, for they may run code. Write the array with one of: blosc, zstd, gzip."
        )
