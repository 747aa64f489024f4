"""What the dimensions of arrays are, where a file does not name them: by the lengths of its coordinates, and only if one reading fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations, permutations

import numpy as np

from slipstream.data.formats.contents import CHANNEL, POINT, RUN, TIME, Array, Contents

TIMES = {"t", "tt", "time", "times", "ts", "tspan", "t_array", "time_counter"}
PLACES = {
    "x", "y", "z", "xx", "yy", "zz", "lon", "lat", "longitude", "latitude", "height", "depth", "level", "altitude", "angle", "theta",
    "phi", "r", "radius",
}  # fmt: skip
GIVEN, SOUGHT = "x", "y"
"""Names of a pair of fields: a condition and an answer."""
AXIS_NAMES = "xyz"


def named(contents: Contents, axes: Sequence[str] | None, time: str | None) -> Contents:
    """The same contents with every dimension named: run, time, channel, point, or an axis of the grid.

    Parameters
    ----------
    axes : the layout of the largest arrays in the caller's words. time : which of the file's names is time.
    """
    for name, array in contents.arrays.items():
        if array.values.size == 0:
            contents.refuse(f"The array {name!r} is empty.", "Leave it out, or fill it.")
    if any(a.dims is None for a in contents.arrays.values()):
        contents = _guessed(contents, axes, time)
    elif axes and not any(POINT in (a.dims or ()) for a in contents.arrays.values()):
        contents = _renamed_by_layout(contents, axes)
    return contents


def is_time(name: str, unit: str = "", time: str | None = None) -> bool:
    return name == time if time is not None else name.lower() in TIMES or " since " in unit


def with_time(contents: Contents, time: str | None) -> Contents:
    """Time called ``time`` whatever its name in the file."""
    dims = {d for a in contents.arrays.values() for d in a.dims or ()}
    if time is not None and time not in dims | set(contents.arrays):
        contents.refuse(
            f"There is no dimension or array {time!r} to be time.", f"Its dimensions are: {', '.join(sorted(dims))}."
        )
    units = {n: a.unit for n, a in contents.arrays.items()}
    candidates = [d for d in sorted(dims) if d != POINT and is_time(d, units.get(d, ""), time)]
    if len(candidates) > 1:
        if TIME not in candidates:
            contents.refuse(
                f"More than one dimension looks like time: {candidates}.", f"Say which: time={candidates[0]!r}."
            )
        candidates = [TIME]
    if not candidates or candidates == [TIME]:
        return contents
    return _renamed(contents, {candidates[0]: TIME})


def _renamed(contents: Contents, names: Mapping[str, str]) -> Contents:
    arrays = {
        names.get(n, n): replace(a, dims=tuple(names.get(d, d) for d in a.dims or ()))
        for n, a in contents.arrays.items()
    }
    periodic = {names.get(n, n): p for n, p in contents.periodic.items()}
    return replace(contents, arrays=arrays, periodic=periodic)


def _renamed_by_layout(contents: Contents, axes: Sequence[str]) -> Contents:
    largest = max(contents.arrays.values(), key=lambda a: len(a.dims or ()))
    dims = largest.dims or ()
    if len(dims) != len(axes):
        contents.refuse(
            f"axes={' '.join(axes)!r} names {len(axes)} dimensions, the largest array has {len(dims)}.",
            f"Expected {len(dims)} names.",
        )
    return _renamed(contents, dict(zip(dims, axes, strict=True)))


def _guessed(contents: Contents, axes: Sequence[str] | None, time: str | None) -> Contents:
    arrays = {
        n: a if a.dims is not None else replace(a, values=np.squeeze(a.values)) for n, a in contents.arrays.items()
    }
    arrays = {_short(n): _reduced(n, a) for n, a in arrays.items()}
    scalars = {n: replace(a, dims=()) for n, a in arrays.items() if a.values.ndim == 0}
    vectors = {n: a for n, a in arrays.items() if a.values.ndim == 1}
    fields = {n: a for n, a in arrays.items() if a.values.ndim > 1}
    if not fields:
        lengths = {len(a.values) for a in vectors.values()}
        if axes and len(vectors) == 1 and len(axes) == 1:
            return replace(contents, arrays={n: replace(a, dims=tuple(axes)) for n, a in vectors.items()} | scalars)
        if len(vectors) < 2 or len(lengths) > 1:
            contents.refuse("No array has two dimensions, and no two have one length.", _expected())
        return replace(contents, arrays={n: replace(a, dims=(POINT,)) for n, a in vectors.items()} | scalars)
    if axes:
        return replace(contents, arrays=_as_told(contents, fields, vectors, axes) | scalars)
    if not vectors and (pair := _pair(contents, fields, scalars)) is not None:
        return pair
    dims = _layout(contents, fields, vectors, time)
    return replace(contents, arrays=_spread(fields, vectors, dims) | scalars)


def _short(name: str) -> str:
    return name.removesuffix("-coordinate")


def _reduced(name: str, array: Array) -> Array:
    """A coordinate that was repeated over a mesh of points, once."""
    v = array.values
    if v.ndim < 2 or _short(name).lower() not in TIMES | PLACES or v.dtype.kind not in "iuf":
        return array
    moving = [i for i in range(v.ndim) if not np.array_equal(v, np.broadcast_to(np.take(v, [0], i), v.shape))]
    if len(moving) != 1:
        return array
    return replace(array, values=v[tuple(slice(None) if i in moving else 0 for i in range(v.ndim))])


def _as_told(
    contents: Contents, fields: Mapping[str, Array], vectors: Mapping[str, Array], axes: Sequence[str]
) -> dict[str, Array]:
    if len(set(axes)) < len(axes):
        contents.refuse(f"axes={' '.join(axes)!r} names a dimension twice.", "Expected differing names.")
    whole = {n: a for n, a in fields.items() if a.values.ndim == len(axes)}
    if not whole:
        contents.refuse(
            f"No array has the {len(axes)} dimensions of axes={' '.join(axes)!r} (those of length 1 left out).",
            _expected(),
        )
    sizes = dict(zip(axes, next(iter(whole.values())).values.shape, strict=True))
    odd = [n for n, a in whole.items() if a.values.shape != tuple(sizes.values())]
    if odd:
        contents.refuse(f"The arrays {odd} have another shape than {next(iter(whole))!r}.", "Choose some: channels=.")
    result = {n: replace(a, dims=tuple(axes)) for n, a in whole.items()}
    for n, a in vectors.items():
        if n in sizes and len(a.values) != sizes[n]:
            contents.refuse(
                f"The coordinates {n!r} have {len(a.values)} values, axes={' '.join(axes)!r} makes that axis {sizes[n]} long.",
                _expected(),
            )
        if n in sizes or (sizes.get(RUN) == len(a.values)):
            result[n] = replace(a, dims=(n,) if n in sizes else (RUN,))
        elif TIME in sizes and is_time(n) and len(a.values) == sizes[TIME]:
            result[TIME] = replace(a, dims=(TIME,))
    return result


def _pair(contents: Contents, fields: Mapping[str, Array], scalars: Mapping[str, Array]) -> Contents | None:
    """Two fields x and y: of one shape, a condition and its answer; or y with times whose first frame is x."""
    if set(fields) != {GIVEN, SOUGHT}:
        return None
    x, y = fields[GIVEN].values, fields[SOUGHT].values
    if x.shape == y.shape and 2 <= x.ndim <= 4:
        dims = (RUN, *AXIS_NAMES[: x.ndim - 1])
        answer, condition = "solution", "input"
        arrays = {condition: Array(x.astype(np.float32), dims), answer: replace(fields[SOUGHT], dims=dims)}
        note = "x is what is given and y what is sought, case by case; they are called input and solution, for x is an axis."
        return replace(contents, arrays=arrays | dict(scalars), given=(condition,), notes=(*contents.notes, note))
    if y.ndim == x.ndim + 1 and (y.shape[0], *y.shape[2:]) == x.shape and np.array_equal(y[:, 0], x):
        dims = (RUN, TIME, *AXIS_NAMES[: x.ndim - 1])
        note = "x is the first frame of y, run by run; y is called u."
        return replace(
            contents, arrays={"u": replace(fields[SOUGHT], dims=dims)} | dict(scalars), notes=(*contents.notes, note)
        )
    return None


def _layout(
    contents: Contents, fields: Mapping[str, Array], vectors: Mapping[str, Array], time: str | None
) -> tuple[str, ...]:
    """The dimensions of the largest array, if one reading alone fits."""
    name, largest = max(fields.items(), key=lambda item: (item[1].values.ndim, item[1].values.size))
    sizes = largest.values.shape
    known = {n: len(a.values) for n, a in vectors.items() if n.lower() in TIMES | PLACES or n == time}
    if not any(v in sizes for v in known.values()):
        known = {n: len(a.values) for n, a in vectors.items() if _increasing(a.values)}
    found: set[tuple[str, ...]] = set()
    for count in range(min(len(known), len(sizes)), 0, -1):
        for chosen in combinations(known, count):
            for places in permutations(range(len(sizes)), count):
                if all(known[c] == sizes[p] for c, p in zip(chosen, places, strict=True)):
                    named_so = dict(zip(places, chosen, strict=True))
                    found.add(tuple(named_so.get(p, "") for p in range(len(sizes))))
        if found:
            break
    if not found:
        contents.refuse(f"No coordinates have the length of a dimension of {name!r}.", _expected())
    if len(found) > 1:
        layouts = " or ".join(f"axes={' '.join(d or '?' for d in dims)!r}" for dims in sorted(found)[:4])
        contents.refuse(f"{name!r} can be read in more than one way.", f"Say which is right: {layouts}.")
    (dims,) = found
    rest = [i for i, d in enumerate(dims) if not d]
    if rest not in ([], [0], [len(sizes) - 1]):
        shown = " ".join(d or "?" for d in dims)
        contents.refuse(f"{name!r} reads as {shown!r}; what ? stands for is not told.", _expected())
    word = RUN if rest == [0] else CHANNEL
    return tuple(d or word for d in dims)


def _increasing(v: np.ndarray) -> bool:
    return v.dtype.kind in "iuf" and bool((np.diff(v) > 0).all())


def _spread(fields: Mapping[str, Array], vectors: Mapping[str, Array], dims: tuple[str, ...]) -> dict[str, Array]:
    """The layout of the largest array, carried to the smaller ones where one way alone fits; the others keep no names and are dropped."""
    largest = max(fields.values(), key=lambda a: (a.values.ndim, a.values.size))
    sizes = dict(zip(dims, largest.values.shape, strict=True))
    result = {}
    for n, a in fields.items():
        ways = [c for c in combinations(dims, a.values.ndim) if tuple(sizes[d] for d in c) == a.values.shape]
        if len(ways) == 1:
            result[n] = replace(a, dims=ways[0])
    for n, a in vectors.items():
        if n in sizes:
            result[n] = replace(a, dims=(n,))
        elif sizes.get(RUN) == len(a.values):
            result[n] = replace(a, dims=(RUN,))
    return result


def _expected() -> str:
    return (
        "Say what the dimensions are, in the file's order and those of length 1 left out: axes='t x', axes='run t x y', "
        "axes='run t x y channel'; coordinates are arrays of those names."
    )
