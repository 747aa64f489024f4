"""Fields seen on a coarser grid: nothing aliases, and integrals stay what they were."""

from __future__ import annotations

import math

import torch
from jaxtyping import Shaped
from torch import Tensor

from slipstream.errors import InputError
from slipstream.grids import Axis, Grid, resample


def coarser_grid(grid: Grid, share: float, multiple: int = 1) -> Grid:
    """The same box with about `share` of the points along each axis, a multiple of `multiple`.

    Axes with ends keep a divisor of their number of points, because cells have to be made of whole cells.

    Raises
    ------
    InputError : an axis has no such number of points, or has points on both of its ends.
    """
    if share == 1:
        return grid
    return grid.with_points([_points(axis, share, multiple) for axis in grid.axes])


def _points(axis: Axis, share: float, multiple: int) -> int:
    n = axis.num_points
    if not axis.periodic and not axis.centred:
        raise InputError(
            f"Axis {axis.name!r} has points on both ends, and cells around those are halves: such data cannot be averaged over cells. "
            "Use levels with space=1."
        )
    found = [m for m in range(multiple, n + 1, multiple) if m > 1 and (axis.periodic or n % m == 0)]
    if not found:
        kind = "multiple" if axis.periodic else "divisor and multiple"
        raise InputError(
            f"Axis {axis.name!r} has {n} points and no coarser number of them that is a {kind} of {multiple}. "
            "Use a smaller multiple, or levels with space=1."
        )
    return min(found, key=lambda m: (round(abs(math.log(m / (share * n))), 9), m))


def coarsen(
    u: Shaped[Tensor, "*batch"], grid: Grid, coarse: Grid, weights: Tensor | None = None
) -> Shaped[Tensor, "*batch2"]:
    """A field, or frames of fields, on a coarser grid over the same box.

    Periodic axes drop the wavenumbers that `coarse` does not resolve and are sampled, exactly for a field without such waves; axes with
    ends are averaged over cells. With `weights` (*space) or (batch, *space) all is a weighted average around the coarse points, so that
    what a mask hides stays hidden.

    Raises
    ------
    InputError : a field of whole numbers or of truth values. ShapeError : numbers of points that cannot be averaged over.
    """
    if not u.is_floating_point():
        raise InputError(f"Fields of {u.dtype} have no coarser view; give them as floating numbers.")
    if weights is None:
        for i, (a, b) in enumerate(zip(grid.axes, coarse.axes, strict=True)):
            u = _along(u, i - grid.num_dims, a, b)
        return u
    w = weights.to(u)
    w = w if w.ndim == grid.num_dims else w.reshape(len(w), *[1] * (u.ndim - w.ndim), *w.shape[1:])
    there = _averaged(w, grid, coarse)
    return _averaged(w * u, grid, coarse) / torch.where(there == 0, 1.0, there)


def summed(weights: Shaped[Tensor, "*batch"], grid: Grid, coarse: Grid) -> Shaped[Tensor, "*batch2"]:
    """Quadrature weights on a coarser grid; their sum is the same."""
    return _averaged(weights, grid, coarse) * (grid.size / coarse.size)


def _along(u: Tensor, dim: int, a: Axis, b: Axis) -> Tensor:
    if a == b:
        return u
    method = "truncate" if a.periodic else "conservative"
    return resample(u.movedim(dim, -1), Grid((a,)), Grid((b,)), method).movedim(-1, dim)


def _averaged(u: Tensor, grid: Grid, coarse: Grid) -> Tensor:
    """Block means; along periodic axes around the coarse points, which lie at the left end of their blocks."""
    for i, (a, b) in enumerate(zip(grid.axes, coarse.axes, strict=True)):
        dim, factor = i - grid.num_dims, a.num_points // b.num_points
        if a == b:
            continue
        line, target = Grid((a,)), Grid((b,))
        # A block with an even number of points has no middle: the mean of two blocks, one point apart, has.
        shifts = (factor // 2, (factor - 1) // 2) if a.periodic else (0, 0)
        u = u.movedim(dim, -1)
        u = sum(resample(u.roll(s, -1), line, target, "conservative") for s in shifts) / 2  # type: ignore[assignment]
        u = u.movedim(-1, dim)
    return u
