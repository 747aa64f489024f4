"""Ghost points: what a field looks like beyond the sides of its box, so that the conditions there hold."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations.boundary import Condition, Conditions, Value
from slipstream.errors import InputError, ShapeError
from slipstream.grids import Grid
from slipstream.trajectories import Parameters


def pad(
    u: Float[Tensor, "batch channel *space"],
    grid: Grid,
    conditions: Conditions,
    width: int,
    parameters: Parameters | None = None,
) -> Float[Tensor, "batch channel *padded"]:
    """A field with `width` ghost points beyond each side of every axis; differentiable in the field and in given values.

    Ghost points mirror the field through the wall so that the condition holds there to second order. On node grids a point that lies on
    the wall and has a given value is set to it. Corners follow from both of their sides.

    Raises
    ------
    InputError : the conditions do not fit the grid. ShapeError : the field does not, or is too small to be mirrored.
    """
    conditions.fits(u, grid)
    done: list[tuple[int, int]] = []
    for i in range(grid.num_dims):
        u = pad_axis(u, grid, conditions, i, width, parameters, done)
        done.append((i, width))
    return u


def pad_axis(
    u: Float[Tensor, "batch channel *space"],
    grid: Grid,
    conditions: Conditions,
    axis: int,
    width: int,
    parameters: Parameters | None = None,
    widened: Sequence[tuple[int, int]] = (),
) -> Float[Tensor, "batch channel *padded"]:
    """`pad` along one axis only; `widened` are the (axis, width) that the field already has ghost points on."""
    a, dim = grid.axes[axis], axis + 2
    n = a.num_points
    needed = width if a.periodic or a.centred else width + 1
    if n < needed:
        raise ShapeError(f"{width} ghost points need at least {needed} points along {a.name!r}; got {n}.")
    if width == 0:
        return u
    if a.periodic:
        return torch.cat([u.narrow(dim, n - width, width), u, u.narrow(dim, 0, width)], dim)
    if not a.centred:
        u = pin(u, conditions, grid, axis, parameters or {}, widened)
    lower, upper = (_ghosts(u, grid, conditions, axis, side, width, parameters or {}, widened) for side in (0, 1))
    return torch.cat([lower, u, upper], dim)


def _ghosts(
    u: Tensor,
    grid: Grid,
    conditions: Conditions,
    axis: int,
    side: int,
    width: int,
    parameters: Parameters,
    widened: Sequence[tuple[int, int]],
) -> Tensor:
    a, dim, here = grid.axes[axis], axis + 2, conditions.on(grid, axis, side)
    n, shift = a.num_points, 0 if a.centred else 1
    inner = u.narrow(dim, shift if side == 0 else n - shift - width, width).flip(dim)
    edge = u.narrow(dim, 0 if side == 0 else n - 1, 1)
    distances = [(k + (0.5 if a.centred else 1.0)) * a.spacing for k in range(width)]
    table = torch.tensor([[c.weights(d, a.centred) for d in distances] for c in here], dtype=torch.float64)
    table = table.to(u)  # channel, ghost outwards, (mirror, edge, value)
    if side == 0:
        table = table.flip(1)
    shape = [1, len(here)] + [width if i == axis else 1 for i in range(grid.num_dims)]
    mirror, repeat, given = (w.reshape(shape) for w in table.unbind(-1))
    result = mirror * inner
    if bool(repeat.any()):
        result = result + repeat * edge
    value = _given(u, grid, here, axis, side, parameters, widened)
    return result if value is None else result + given * value


def pin(
    u: Tensor, conditions: Conditions, grid: Grid, axis: int, parameters: Parameters, widened: Sequence[tuple[int, int]]
) -> Tensor:
    """Points on the two walls of a node axis set to what is given there."""
    dim, n = axis + 2, grid.axes[axis].num_points
    ends = []
    for side in (0, 1):
        here, end = conditions.on(grid, axis, side), u.narrow(dim, 0 if side == 0 else n - 1, 1)
        pinned = torch.tensor([c.pins for c in here], device=u.device).reshape([1, -1] + [1] * grid.num_dims)
        value = _given(u, grid, here, axis, side, parameters, widened)
        ends.append(torch.where(pinned, torch.zeros_like(end) if value is None else value, end))
    return torch.cat([ends[0], u.narrow(dim, 1, n - 2), ends[1]], dim)


def _given(
    u: Tensor,
    grid: Grid,
    here: Sequence[Condition],
    axis: int,
    side: int,
    parameters: Parameters,
    widened: Sequence[tuple[int, int]],
) -> Tensor | None:
    """Given values of all channels on a side, broadcastable to (batch, channel, *face); None where all are zero."""
    if all(isinstance(c.given, (int, float)) and c.given == 0 for c in here):
        return None
    each = [_value(c.given, u, grid, axis, side, parameters, widened) for c in here]
    batch = max(v.shape[0] for v in each)
    spread = [max(v.shape[1 + i] for v in each) for i in range(grid.num_dims)]
    return torch.stack([v.expand(batch, *spread) for v in each], dim=1)


def _value(
    given: Value,
    u: Tensor,
    grid: Grid,
    axis: int,
    side: int,
    parameters: Parameters,
    widened: Sequence[tuple[int, int]],
) -> Tensor:
    """One value as (batch or 1, *face or ones), ghost points of the face included."""
    ones, face = [1] * grid.num_dims, [1 if i == axis else n for i, n in enumerate(grid.shape)]
    if isinstance(given, (int, float)):
        return u.new_full([1, *ones], float(given))
    if isinstance(given, str):
        if given not in parameters:
            raise InputError(f"A condition takes its value from the parameter {given!r}; got {sorted(parameters)}.")
        given = parameters[given]
    if not isinstance(given, Tensor):
        return given(_face(u, grid, axis, side, widened)).to(u)[None]
    given = given.to(u)
    if given.ndim == 0:
        return given.reshape([1, *ones])
    if tuple(given.shape) == tuple(face):
        return _widen(given[None], grid, widened)
    if given.ndim == 1 and given.shape[0] in (1, u.shape[0]):
        return given.reshape([-1, *ones])
    if tuple(given.shape[1:]) == tuple(face) and given.shape[0] in (1, u.shape[0]):
        return _widen(given, grid, widened)
    raise ShapeError(
        f"A condition on the {('lower', 'upper')[side]} side of {grid.axes[axis].name!r} has a value of shape {tuple(given.shape)}; "
        f"expected a number, ({u.shape[0]},), {tuple(face)} or ({u.shape[0]}, {', '.join(map(str, face))})."
    )


def _face(u: Tensor, grid: Grid, axis: int, side: int, widened: Sequence[tuple[int, int]]) -> Tensor:
    """Coordinates (dim, *face) of a side, with the ghost points that the field has along other axes."""
    lines = []
    for i, a in enumerate(grid.axes):
        width = dict(widened).get(i, 0)
        line = a.coordinates()[0] + a.spacing * torch.arange(-width, a.num_points + width)
        lines.append(torch.tensor([a.start + side * a.extent]) if i == axis else line)
    return torch.stack(torch.meshgrid(*(x.to(u) for x in lines), indexing="ij"))


def _widen(value: Tensor, grid: Grid, widened: Sequence[tuple[int, int]]) -> Tensor:
    """A given tensor on a face that was widened: around a ring, or as its last point."""
    for i, width in widened:
        n = grid.shape[i]
        index = torch.arange(-width, n + width, device=value.device)
        value = value.index_select(1 + i, index % n if grid.axes[i].periodic else index.clamp(0, n - 1))
    return value
