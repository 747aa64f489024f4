"""Coordinates become axes: equidistant or not, running upwards, with ends or periodic, at points or in the middle of cells."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from slipstream.errors import InputError
from slipstream.grids import Axis

TOLERANCE = 1e-3
"""Share of a spacing by which a point may lie beside its place."""
SEAM = 3.0
"""A field is taken for periodic where its step over the seam is at most so many times its usual step."""
SINGLE = 2e-7
"""What single precision may put a number off by, and a difference of a few."""
CALENDAR = {"month": (28.0, 31.0), "year": (365.0, 366.0)}
SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}


@dataclass(frozen=True)
class Line:
    """Equidistant coordinates: first, spacing, how many; and whether they were stored in single precision."""

    first: float
    spacing: float
    size: int
    single: bool = False

    @property
    def last(self) -> float:
        return self.first + self.spacing * (self.size - 1)


def line(source: str, name: str, values: np.ndarray, hint: str) -> Line:
    """The line that coordinates lie on.

    Raises
    ------
    InputError : fewer than two, not finite, not in order, or not equidistant.
    """
    x = values.astype(np.float64)
    if not np.isfinite(x).all():
        raise InputError(
            f"{source}: the coordinates {name!r} hold {int((~np.isfinite(x)).sum())} values that are not finite. Mend them."
        )
    steps = np.diff(x)
    if len(x) < 2 or not (steps > 0).all():
        where = int((steps <= 0).argmax()) if len(x) > 1 else 0
        found = f"{x[where]:.6g} is followed by {x[where + 1]:.6g}" if len(x) > 1 else "there is one value only"
        raise InputError(
            f"{source}: the coordinates {name!r} do not increase from point to point ({found}). Sort them, and the fields with them."
        )
    spacing = (x[-1] - x[0]) / (len(x) - 1)
    off = np.abs(x - (x[0] + spacing * np.arange(len(x)))).max()
    rounding = 8 * np.finfo(values.dtype if values.dtype.kind == "f" else np.float64).eps * np.abs(x).max()
    if off > TOLERANCE * spacing + rounding:
        raise InputError(
            f"{source}: the coordinates {name!r} are not equidistant ({len(x)} from {x[0]:.6g} to {x[-1]:.6g}, "
            f"steps from {steps.min():.4g} to {steps.max():.4g}); a grid is uniform. {hint}"
        )
    return Line(float(x[0]), float(spacing), len(x), values.dtype == np.float32)


def calendar(values: np.ndarray, unit: str) -> str | None:
    """``"month"`` or ``"year"`` where times are consecutive ones of those, whose lengths differ; else None."""
    size = next((s for word, s in SECONDS.items() if unit.lower().startswith(word)), None)
    if size is None or len(values) < 3:
        return None
    days = np.diff(values.astype(np.float64)) * size / 86400.0
    return next((n for n, (low, high) in CALENDAR.items() if low <= days.min() and days.max() <= high), None)


def axis(
    name: str, found: Line, unit: str, periodic: bool | None, fields: list[tuple[np.ndarray, int]]
) -> tuple[Axis, bool]:
    """The axis, and whether its last point only repeats the first.

    Parameters
    ----------
    periodic : what is known; None decides by coordinates and fields together.
    fields : arrays with the place of this axis in each.
    """
    h, n = found.spacing, found.size
    a = _clean(found.first, h)
    joined = [seam(u, i) for u, i in fields]
    if periodic is None:
        periodic = leaves_one_end_out(found, unit) and bool(joined) and all(j <= SEAM for j in joined)
    if periodic:
        repeated = (
            n > 2 and not leaves_one_end_out(found, unit) and bool(fields) and all(_repeats(u, i) for u, i in fields)
        )
        n = n - 1 if repeated else n
        start, extent = _rounded(found, a, n * h)
        return Axis(name, n, start, extent, periodic=True, unit=unit), repeated
    ends = digits(a) + digits(found.last)
    centred = digits(a - h / 2) + digits(found.last + h / 2) < ends
    start = _clean(a - h / 2, h) if centred else a
    start, extent = _rounded(found, start, n * h if centred else (n - 1) * h)
    return Axis(name, n, start, extent, periodic=False, centred=centred, unit=unit), False


def _rounded(found: Line, *values: float) -> list[float]:
    """The round numbers that single precision could not hold, where that is all that parts them."""
    if not found.single:
        return list(values)
    return [r if abs((r := float(f"{v:.6g}")) - v) <= SINGLE * abs(v) else v for v in values]


def _clean(x: float, spacing: float) -> float:
    """Zero where a coordinate is zero but for rounding."""
    return 0.0 if abs(x) < 1e-9 * spacing else x


def leaves_one_end_out(found: Line, unit: str) -> bool:
    """Whether coordinates look like those of a periodic box: symmetric or round with one more point, and not without."""
    a, b, h, n = found.first, found.last, found.spacing, found.size
    near = 0.01 * h
    if unit.startswith("degree") and abs(n * h - 360.0) < near:
        return True
    if abs(a + b) < near:
        return False
    if abs(a + b + h) < near or abs(a - h + b) < near:
        return True
    if abs(a) < near:
        return digits(b + h) < digits(b)
    if abs(a - h) < near:
        return digits(b) < digits(b - h)
    return digits(a) + digits(b + h) < digits(a) + digits(b) and digits(b + h) <= digits(a)


def digits(x: float) -> int:
    """How many digits a number needs, or its ratio to pi where that is rounder: how round it is."""
    return min(_digits(x), _digits(x / math.pi) + 1)


def _digits(x: float) -> int:
    if abs(x) < 1e-12:
        return 0
    return next((k for k in range(1, 8) if abs(float(f"{x:.{k - 1}e}") - x) < 1e-6 * abs(x)), 8)


def seam(u: np.ndarray, dim: int) -> float:
    """Root mean square step from the last point to the first, over that between neighbours."""
    u = np.moveaxis(u, dim, -1)
    inside, across = _mean_square(np.diff(u, axis=-1)), _mean_square(u[..., 0] - u[..., -1])
    return math.sqrt(across / inside) if 0 < inside < math.inf else (0.0 if across == 0 else math.inf)


def _mean_square(u: np.ndarray) -> float:
    """Over what is there; infinite where nothing is."""
    known = np.isfinite(u)
    return float(np.square(np.abs(u[known])).mean()) if known.any() else math.inf


def _repeats(u: np.ndarray, dim: int) -> bool:
    first, last = np.take(u, 0, dim), np.take(u, -1, dim)
    return bool(
        np.allclose(first, last, rtol=1e-5, atol=1e-6 * float(np.nanmax(np.abs(u), initial=0.0)), equal_nan=True)
    )


def equidistant(values: np.ndarray, dim: int, x: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Linear interpolation along one axis onto `size` equidistant points between the outermost; (values, new coordinates)."""
    new = np.linspace(float(x[0]), float(x[-1]), size)
    right = np.clip(np.searchsorted(x, new), 1, len(x) - 1)
    w = (new - x[right - 1]) / (x[right] - x[right - 1])
    w = w.reshape([-1] + [1] * (values.ndim - dim - 1))
    return np.take(values, right - 1, dim) * (1 - w) + np.take(values, right, dim) * w, new
