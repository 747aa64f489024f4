"""NumPy's files: ``.npy`` (one array) and ``.npz`` (a zip of them)."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from slipstream.data.formats.contents import Array, Contents, check_size, damaged, plain
from slipstream.errors import InputError, SlipstreamError


def read_npy(path: Path, memory: int) -> Contents:
    """One array, called ``u``."""
    with open(path, "rb") as file:
        shape, dtype, begin = _header(path, file, path.name)
        check_size(path, [(path.stem, shape, dtype.itemsize)], memory)
        there, declared = path.stat().st_size - begin, math.prod(shape) * dtype.itemsize
        if there < declared:
            raise damaged(path, "an .npy file", f"its header declares {declared} bytes of numbers, {there} are there")
    return Contents(path.name, {"u": Array(np.load(path, allow_pickle=False))})


def read_npz(path: Path, memory: int) -> Contents:
    """Every array, by its name in the archive."""
    arrays: dict[str, Array] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if m.filename.endswith(".npy")]
            declared, begins = [], []
            for member in members:
                name = member.filename.removesuffix(".npy")
                with archive.open(member) as file:
                    shape, dtype, begin = _header(path, file, name)
                declared.append((name, shape, dtype.itemsize))
                begins.append(begin)
            check_size(path, declared, memory)
            for member, begin, (name, shape, size) in zip(members, begins, declared, strict=True):
                if member.file_size < begin + math.prod(shape) * size:
                    reason = f"{name!r} declares shape {shape}, its member has {member.file_size} bytes"
                    raise damaged(path, "an .npz file", reason)
                with archive.open(member) as file:
                    values = np.lib.format.read_array(file, allow_pickle=False)
                arrays[name] = Array(values.reshape(shape))
    except SlipstreamError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise damaged(path, "an .npz file", error) from None
    return Contents(path.name, arrays)


def _header(path: Path, file: Any, name: str) -> tuple[tuple[int, ...], np.dtype, int]:
    """Shape, type and length of an .npy header; the numbers are not touched."""
    try:
        version = np.lib.format.read_magic(file)
        read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}.get(version[0])
        if read is None:
            raise InputError(
                f"{path}: {name!r} has version {version} of the .npy format; save it again with numpy.save."
            )
        shape, _, dtype = read(file)
    except SlipstreamError:
        raise
    except (ValueError, EOFError, SyntaxError, TypeError) as error:
        raise damaged(path, "a NumPy array", error) from None
    plain(path, name, dtype, "an array")
    return shape, dtype, file.tell()
