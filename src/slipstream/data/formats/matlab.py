"""MATLAB files: version 5 to 7.2 through SciPy, version 7.3 through HDF5. Numbers only: cells, structures and objects are left out."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np

from slipstream.data.formats.contents import Array, Contents, check_size, damaged
from slipstream.data.formats.hdf5 import opened, value_of, walk
from slipstream.errors import SlipstreamError

NUMBERS = {
    "double": 8, "single": 4, "logical": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8,
    "uint64": 8,
}  # fmt: skip
COMPRESSED, MATRIX, HEADER, TAG = 15, 14, 128, 8


def read_v5(path: Path, memory: int) -> Contents:
    """Every numeric array, by its name."""
    import scipy.io

    try:
        file = _inflated(path, memory)
        listed = scipy.io.whosmat(file)
        wanted = [(name, shape) for name, shape, kind in listed if kind in NUMBERS]
        sizes = {name: NUMBERS[kind] for name, _, kind in listed if kind in NUMBERS}
        # Complex numbers are twice as long, which the list does not say.
        check_size(path, [(name, tuple(shape), sizes[name]) for name, shape in wanted], memory)
        names = [name for name, _ in wanted]
        file.seek(0)
        loaded = scipy.io.loadmat(file, variable_names=names) if names else {}
    except SlipstreamError:
        raise
    except Exception as error:  # whatever a damaged file makes the reader say
        raise damaged(path, "a MATLAB file", error) from None
    left = [f"{name} ({kind})" for name, _, kind in listed if kind not in NUMBERS]
    notes = (f"Left out, not being arrays of numbers: {', '.join(left)}.",) if left else ()
    return Contents(path.name, {n: Array(np.asarray(loaded[n])) for n in names if n in loaded}, notes)


def _inflated(path: Path, memory: int) -> io.BytesIO:
    """The file with its arrays uncompressed, each exactly as long as its first bytes declare: whatever follows is never unpacked.

    Raises
    ------
    InputError : more is declared than is allowed; known before anything is unpacked.
    """
    content = path.read_bytes()
    order = "<" if content[126:128] == b"IM" else ">"
    result, at, total = io.BytesIO(), HEADER, 0
    result.write(content[:HEADER])
    while at + TAG <= len(content):
        kind, size = struct.unpack_from(f"{order}II", content, at)
        body = content[at + TAG : at + TAG + size]
        at += TAG + size
        if kind != COMPRESSED:
            result.write(struct.pack(f"{order}II", kind, size) + body)
            continue
        inflate = zlib.decompressobj()
        inner = inflate.decompress(body, TAG)
        if len(inner) < TAG:
            raise damaged(path, "a MATLAB file", "a compressed array ends before it begins")
        declared = struct.unpack(f"{order}II", inner)[1]
        total += declared
        check_size(path, [("compressed arrays", (total,), 1)], memory)
        rest = inflate.decompress(inflate.unconsumed_tail, declared) if declared else b""
        if len(rest) < declared:
            raise damaged(
                path, "a MATLAB file", f"a compressed array declares {declared} bytes and unpacks to {len(rest)}"
            )
        result.write(inner + rest)
    if not _fits(result.getbuffer(), order):
        raise damaged(path, "a MATLAB file", "a part of an array declares more bytes than the array has")
    result.seek(0)
    return result


def _fits(content: memoryview, order: str) -> bool:
    """Whether every part lies within what contains it: readers make room for what a part declares before they look for it."""
    waiting = [(HEADER, len(content))]
    while waiting:
        at, end = waiting.pop()
        while at + TAG <= end:
            kind, size = struct.unpack_from(f"{order}II", content, at)
            if kind >> 16:  # four bytes or fewer, within the tag
                at += TAG
                continue
            if at + TAG + size > end:
                return False
            if kind == MATRIX and size:
                waiting.append((at + TAG, at + TAG + size))
            at += TAG + size + (-size % TAG if kind != MATRIX else 0)
    return True


def read_v73(path: Path, memory: int) -> Contents:
    """Every numeric array, by its name. HDF5 holds MATLAB's arrays with their axes in reverse order; they are turned back."""
    arrays: dict[str, Array] = {}
    left: list[str] = []
    with opened(path) as file:
        sets = {n: d for n, d in walk(path, file).items() if not n.startswith("#")}
        kinds = {n: _text(d.attrs.get("MATLAB_class", b"double")) for n, d in sets.items()}
        fine = {n: d for n, d in sets.items() if kinds[n] in NUMBERS and "MATLAB_empty" not in d.attrs}
        left = [f"{n} ({kinds[n]})" for n in sets if n not in fine]
        check_size(path, [(n, d.shape, d.dtype.itemsize) for n, d in fine.items()], memory)
        for name, data in fine.items():
            values = value_of(path, name, data)
            if values.dtype.names == ("real", "imag"):
                values = values["real"] + 1j * values["imag"]
            arrays[name.replace("/", ".")] = Array(values.T)
    notes = (f"Left out, not being arrays of numbers: {', '.join(left)}.",) if left else ()
    return Contents(path.name, arrays, notes)


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
