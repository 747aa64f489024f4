"""Staggered fields carried between grids over one box."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from slipstream.solvers.mac import End, Given, MacGrid


def regrid(fields: list[Tensor], source: MacGrid, target: MacGrid, given: Given) -> list[Tensor]:
    """Velocities on all faces, then scalars, of a source grid on a target grid.

    To a grid whose cells are made of whole cells, faces take the mean of the faces that they are made of and cells that of their
    cells: what is divergence-free stays so. Elsewhere by polynomials through the four nearest points (fourth order), of which the wall
    is one.
    """
    whole = all(m % n == 0 for m, n in zip(source.grid.shape, target.grid.shape, strict=True))
    ratios = [m // n for m, n in zip(source.grid.shape, target.grid.shape, strict=True)]
    result = []
    for k, u in enumerate(fields):
        for axis, ratio in enumerate(ratios):
            dim = axis + 1
            if source.grid.shape[axis] == target.grid.shape[axis]:
                continue
            if whole:
                if axis == k:
                    index = torch.arange(0, u.shape[dim], ratio, device=u.device)
                    u = u.index_select(dim, index)
                else:
                    u = u.unflatten(dim, (u.shape[dim] // ratio, ratio)).mean(dim + 1)
            else:
                u = _interpolate(u, k, axis, source, target, given)
        result.append(u)
    return result


def _interpolate(u: Tensor, k: int, axis: int, source: MacGrid, target: MacGrid, given: Given) -> Tensor:
    dim, h, a = axis + 1, source.grid.spacing[axis], source.grid.axes[axis]
    own = axis == k
    grid = source.nodes[k] if own else source.grid
    places = grid.axes[axis].coordinates().tolist()
    points = (target.nodes[k] if own else target.grid).axes[axis].coordinates().tolist()
    n = u.shape[dim]
    if source.ends[axis][0] is End.RING:
        wide = torch.cat([u.narrow(dim, n - 2 - own, 2), u, u.narrow(dim, own, 2)], dim)
        places = [places[0] - 2 * h, places[0] - h, *places, places[-1] + h, places[-1] + 2 * h]
    elif own:
        wide = u
    else:
        conditions = source.margins[k][axis].conditions
        assert conditions is not None
        before: list[tuple[Tensor, float]] = []
        after: list[tuple[Tensor, float]] = []
        for side, condition in enumerate(conditions):
            # Other axes may have been carried over already, so a given value is that of the nearest old point.
            edge = u.narrow(dim, n - 1 if side else 0, 1)
            mirror, repeat, _ = condition.weights(0.5 * h, True)
            ghost = (mirror + repeat) * edge
            offset = given.ghosts[k][axis][side]
            if offset is not None:
                first = offset.narrow(dim, 0 if side else offset.shape[dim] - 1, 1)
                for other in range(1, u.ndim):
                    if other != dim and first.shape[other] != u.shape[other]:
                        index = (
                            (torch.arange(u.shape[other], device=u.device) + 0.5) * first.shape[other] / u.shape[other]
                        )
                        first = first.index_select(other, index.long().clamp(max=first.shape[other] - 1))
                ghost = ghost + first
            wall = a.start + side * a.extent
            value, place = (0.5 * (ghost + edge), wall) if condition.pins else (ghost, wall + (side - 0.5) * h)
            (after if side else before).append((value, place))
        parts = [before[0][0], u, after[0][0]]
        places = [before[0][1], *places, after[0][1]]
        wide = torch.cat(parts, dim)
    matrix = _matrix(tuple(places), tuple(points)).to(u)
    return torch.tensordot(wide, matrix, dims=([dim], [1])).movedim(-1, dim)


@lru_cache(maxsize=64)
def _matrix(places: tuple[float, ...], points: tuple[float, ...]) -> Tensor:
    """Weights (points, places) of the cubic through the four places nearest to each point."""
    with torch.inference_mode(False):
        x, y = torch.tensor(places, dtype=torch.float64), torch.tensor(points, dtype=torch.float64)
        first = (torch.searchsorted(x, y) - 2).clamp(0, len(x) - 4)
        index = first[:, None] + torch.arange(4)
        near = x[index]
        weights = torch.ones_like(near)
        for i in range(4):
            for j in range(4):
                if i != j:
                    weights[:, i] *= (y - near[:, j]) / (near[:, i] - near[:, j])
        return torch.zeros(len(y), len(x), dtype=torch.float64).scatter_(1, index, weights)
