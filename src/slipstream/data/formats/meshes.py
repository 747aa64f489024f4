"""VTK and VTU files: point data of a mesh, through meshio (extra ``vtk``)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from slipstream.data.formats.contents import POINT, Array, Contents, check_size, damaged
from slipstream.errors import InputError, MissingExtra

DECLARED = re.compile(rb"NumberOf(?:Points|Cells)\s*=\s*[\"'](\d+)[\"']|^(?:POINTS|CELLS)\s+(\d+)", re.MULTILINE)
BYTES_A_POINT = 24


def read(path: Path, memory: int) -> Contents:
    """Points and every field on them; cells are not kept, for no word of this house holds fields on a mesh yet."""
    with open(path, "rb") as file:
        declared = [int(a or b) for a, b in DECLARED.findall(file.read(2**20))]
    check_size(
        path, [("points", (n,), BYTES_A_POINT) for n in declared] + [("file", (path.stat().st_size,), 4)], memory
    )
    try:
        import meshio
    except ImportError:
        raise MissingExtra("meshio", "vtk", f"Reading {path.name}") from None
    try:
        mesh = meshio.read(path)
    except (
        Exception,
        SystemExit,
    ) as error:  # whatever a damaged file makes the reader say: it may even leave the program
        raise damaged(path, "a VTK file", error) from None
    if not mesh.point_data:
        raise InputError(f"{path} has no fields at its points; cells alone hold {sorted(mesh.cell_data) or 'nothing'}.")
    arrays = {a: Array(np.asarray(mesh.points)[:, i], (POINT,)) for i, a in enumerate("xyz"[: mesh.points.shape[1]])}
    for name, values in mesh.point_data.items():
        values = np.asarray(values)
        parts = {name: values} if values.ndim == 1 else {f"{name}_{i}": values[:, i] for i in range(values.shape[1])}
        arrays |= {n: Array(v, (POINT,)) for n, v in parts.items()}
    return Contents(path.name, arrays)
