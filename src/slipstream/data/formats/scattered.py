"""Columns of points: a grid where the points fill one, else fields interpolated on a grid where that is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from slipstream.data.formats.contents import POINT, Array, Contents
from slipstream.data.formats.inference import PLACES, TIMES

PREFIX = "Points:"
SAME = 1e-9
"""Share of the extent within which two coordinates are the same."""


def gridded(contents: Contents, axes: Sequence[str] | None, resample: Mapping[str, int]) -> Contents:
    """The same fields with axes in place of points; contents without points come back as they are.

    Raises
    ------
    InputError : points that fill no grid, and no resampling asked for.
    """
    if not any(POINT in (a.dims or ()) for a in contents.arrays.values()):
        return contents
    contents = _with_names(contents, axes)
    columns = {n: a for n, a in contents.arrays.items() if a.dims == (POINT,)}
    places = {
        n: a.values.astype(np.float64)
        for n, a in columns.items()
        if (n in axes if axes else n.lower() in PLACES | TIMES)
    }
    flat = [n for n, v in places.items() if np.ptp(v) == 0 and len(places) > 1]
    fields = {n: a for n, a in contents.arrays.items() if POINT in (a.dims or ()) and n not in places}
    for name in flat:
        del places[name]
    if not places or not fields:
        contents.refuse(
            "No columns are the coordinates of the others.",
            "Name the columns, coordinates first: axes='x y', channels='u v'.",
        )
    bad = [n for n, v in places.items() if not np.isfinite(v).all()]
    if bad:
        contents.refuse(f"The coordinates {bad} hold values that are not finite.", "Leave those points out.")
    size = len(next(iter(places.values())))
    lines, index = {}, {}
    for name, v in places.items():
        # Points of one line may differ by the rounding of what wrote them.
        order = np.argsort(v, kind="stable")
        new = np.concatenate([[False], np.diff(v[order]) > SAME * max(np.ptp(v), 1e-300)])
        lines[name] = v[order][~np.concatenate([[False], ~new[1:]])]
        index[name] = np.empty(size, dtype=np.int64)
        index[name][order] = np.cumsum(new)
    shape = tuple(len(v) for v in lines.values())
    rest = {n: a for n, a in contents.arrays.items() if n not in fields and n not in columns}
    notes = contents.notes + tuple(
        f"All points have {n} = {columns[n].values[0]:g}; that coordinate is left out." for n in flat
    )
    if np.prod([float(n) for n in shape]) == size:
        place = np.ravel_multi_index(tuple(index.values()), shape)
        if len(np.unique(place)) < size:
            contents.refuse("Some points are there more than once.", "Leave the repetitions out.")
        made = {n: _placed(a, place, shape, tuple(lines)) for n, a in fields.items()}
        coordinates = {n: Array(v, (n,), columns[n].unit) for n, v in lines.items()}
        return replace(contents, arrays=rest | coordinates | made, notes=notes)
    if len(places) == 1:
        contents.refuse("Some points are there more than once.", "Leave the repetitions out.")
    where = ", ".join(f"{n} in [{v.min():g}, {v.max():g}]" for n, v in places.items())
    if set(resample) != set(places):
        numbers = ", ".join(f"{n!r}: 64" for n in places)
        contents.refuse(
            f"It holds {size} scattered points ({where}), which fill no grid.",
            f"Fields live on uniform grids here. Ask for one: resample={{{numbers}}}; "
            "points of it without a sample within one spacing are masked.",
        )
    return replace(_interpolated(contents, places, fields, rest, resample), notes=(*notes, _said(size, resample)))


def _said(size: int, resample: Mapping[str, int]) -> str:
    numbers = " x ".join(str(n) for n in resample.values())
    return (
        f"Interpolated linearly from {size} scattered points to {numbers}, as asked; points without a sample within one spacing are "
        "masked."
    )


def _with_names(contents: Contents, axes: Sequence[str] | None) -> Contents:
    """``Points:0`` is x; the first columns of a table without names are the axes that the caller names."""
    names = {f"{PREFIX}{i}": a for i, a in enumerate("xyz")}
    columns = [n for n, a in contents.arrays.items() if POINT in (a.dims or ())]
    if axes and not set(axes) & set(columns) and all(c.startswith("column_") for c in columns):
        if len(axes) >= len(columns):
            contents.refuse(f"axes={' '.join(axes)!r} leaves no column for a field.", "Name the coordinates only.")
        names = dict(zip(columns, axes, strict=False)) | {c: f"u{i}" for i, c in enumerate(columns[len(axes) :])}
    lower = {n: n.lower() for n in columns if n in ("X", "Y", "Z", "T")}
    return replace(contents, arrays={(names | lower).get(n, n): a for n, a in contents.arrays.items()})


def _placed(array: Array, place: np.ndarray, shape: tuple[int, ...], axes: tuple[str, ...]) -> Array:
    lead = array.values.shape[:-1]
    values = np.empty_like(array.values)
    values[..., place] = array.values
    return Array(values.reshape(*lead, *shape), (*(array.dims or ())[:-1], *axes), array.unit)


def _interpolated(
    contents: Contents,
    places: Mapping[str, np.ndarray],
    fields: Mapping[str, Array],
    rest: Mapping[str, Array],
    resample: Mapping[str, int],
) -> Contents:
    from scipy.interpolate import LinearNDInterpolator
    from scipy.spatial import KDTree

    points = np.stack(list(places.values()), axis=1)
    new = [np.linspace(v.min(), v.max(), resample[n]) for n, v in places.items()]
    targets = np.stack(np.meshgrid(*new, indexing="ij"), axis=-1)
    flat = np.concatenate([a.values.reshape(-1, len(points)) for a in fields.values()])
    values = np.moveaxis(LinearNDInterpolator(points, flat.T, rescale=True)(targets), -1, 0)
    spacing = np.array([(v[-1] - v[0]) / max(len(v) - 1, 1) for v in new])
    near, _ = KDTree(points / spacing).query(targets / spacing, p=np.inf, distance_upper_bound=1.0)
    values = np.where(np.isfinite(near), values, np.nan)
    made, begin = {}, 0
    for n, a in fields.items():
        count = int(np.prod(a.values.shape[:-1]))
        part = values[begin : begin + count].reshape(*a.values.shape[:-1], *targets.shape[:-1])
        made[n] = Array(part, (*(a.dims or ())[:-1], *places), a.unit)
        begin += count
    coordinates = {n: Array(v, (n,), contents.arrays[n].unit) for n, v in zip(places, new, strict=True)}
    return replace(contents, arrays={**rest, **coordinates, **made})
