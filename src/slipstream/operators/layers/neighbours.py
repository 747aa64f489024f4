"""Who is near whom: neighbour lists of scattered points and of uniform grids, and sums over them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from slipstream.errors import InputError, ShapeError
from slipstream.operators.layers.checks import check_input

TOLERANCE = 1e-9
"""Relative excess at which a distance still counts as within the radius."""


@dataclass(frozen=True)
class Neighbours:
    """Edges between points, in no particular order; nothing that uses them depends on the order.

    Several geometries make one by joining their points into one list and shifting the numbers.

    Parameters
    ----------
    receiver, sender : numbers of the points that an edge leads to and comes from.
    offset : from receiver to sender, in units of `length`, the short way round in periodic boxes.
    weight : share of the edge in the mean of its receiver; the shares of a receiver sum to 1.
    num_receivers : points that receive.
    length : the radius that was searched, or where the nearest were sought the mean distance to the farthest of them.
    """

    receiver: Int64[Tensor, " edge"]
    sender: Int64[Tensor, " edge"]
    offset: Float[Tensor, "edge dims"]
    weight: Float[Tensor, " edge"]
    num_receivers: int
    length: float

    def mean(self, messages: Float[Tensor, "edge *rest"]) -> Float[Tensor, "point *rest"]:
        """Weighted mean over the edges of every receiver."""
        weighted = messages * self.weight.to(messages).reshape(-1, *(1,) * (messages.ndim - 1))
        return messages.new_zeros(self.num_receivers, *messages.shape[1:]).index_add(0, self.receiver, weighted)

    def to(self, like: Tensor) -> Neighbours:
        """On the device of a tensor, offsets and weights in its dtype."""
        return replace(
            self,
            receiver=self.receiver.to(like.device),
            sender=self.sender.to(like.device),
            offset=self.offset.to(like),
            weight=self.weight.to(like),
        )


def find_neighbours(
    points: Float[Tensor, "point dims"],
    radius: float | None = None,
    nearest: int | None = None,
    box: Sequence[float] | None = None,
    volumes: Float[Tensor, " point"] | None = None,
    with_self: bool = False,
    taper: bool = False,
) -> Neighbours:
    """Neighbours of scattered points: all within `radius`, or the `nearest` so many.

    Offsets are differentiable in the points; who is a neighbour is not.

    Parameters
    ----------
    box : periods, one an axis; 0 for an axis that is not periodic. None for no periodic axis.
    volumes : of the cells around the points, for means over space rather than over points; all equal where None.
    with_self : whether a point is its own neighbour.
    taper : whether weights fall to zero towards the radius as (1 - d^2)^2, so that means change smoothly as points come and go.

    Raises
    ------
    InputError : not exactly one of `radius` and `nearest`; a radius of half a period or more; a point without neighbours; `taper` without
        a radius; fewer points than `nearest` asks for.
    ShapeError : a box with another number of axes.
    """
    from scipy.spatial import cKDTree

    if (radius is None) == (nearest is None) or (taper and radius is None):
        raise InputError(
            f"find_neighbours takes either a radius or a number of nearest points, and tapers towards a radius only; got radius={radius}, "
            f"nearest={nearest}, taper={taper}."
        )
    n, dims = points.shape
    if box is not None and len(box) != dims:
        raise ShapeError(f"find_neighbours got a box of {len(box)} periods for points in {dims} dimensions: {box}.")
    if radius is not None and (radius <= 0 or (box and any(0 < period <= 2 * radius for period in box))):
        raise InputError(
            f"A radius of {radius} does not fit a box of periods {box}: expected a positive number below half of every period, "
            "so that no point is met twice."
        )
    if nearest is not None and not 1 <= nearest <= n - (not with_self):
        raise InputError(f"The {nearest} nearest of {n} points were asked for; expected 1 to {n - (not with_self)}.")
    period = np.zeros(dims) if box is None else np.asarray(box, dtype=np.float64)
    places = points.detach().cpu().double().numpy()
    wrapped = np.where(period > 0, np.mod(places, np.where(period > 0, period, 1.0)), places)
    # The remainder of a tiny negative number may be rounded up to the period itself, which the tree refuses.
    wrapped = np.where((period > 0) & (wrapped >= period), 0.0, wrapped)
    tree = cKDTree(wrapped, boxsize=period if period.any() else None)
    if radius is not None:
        found = tree.query_ball_point(wrapped, radius * (1 + TOLERANCE))
        receiver = np.repeat(np.arange(n), [len(f) for f in found])
        sender = np.concatenate([np.asarray(f, dtype=np.int64) for f in found])
        if not with_self:
            receiver, sender = receiver[receiver != sender], sender[receiver != sender]
    else:
        assert nearest is not None
        count = nearest + (not with_self)
        index = tree.query(wrapped, count)[1].reshape(n, count)
        if not with_self:  # a twin at the same place may come before the point itself, or push it out
            own = index == np.arange(n)[:, None]
            index = np.take_along_axis(index, np.argsort(own, axis=1, kind="stable"), 1)[:, :nearest]
        receiver, sender = np.repeat(np.arange(n), nearest), index.reshape(-1).astype(np.int64)
    lonely = np.flatnonzero(np.bincount(receiver, minlength=n) == 0)
    if lonely.size:
        raise InputError(
            f"{lonely.size} of {n} points have no neighbour within {radius}, the first is point {lonely[0]}. "
            "Use a larger radius, or ask for the nearest points."
        )
    to, come = (torch.as_tensor(i, device=points.device) for i in (receiver, sender))
    offset = points.index_select(0, come) - points.index_select(0, to)
    if period.any():
        p = torch.as_tensor(period).to(points)
        turns = torch.where(p > 0, (offset.detach() / torch.where(p > 0, p, torch.ones_like(p))).round(), 0.0)
        offset = offset - turns * p
    length = float(radius) if radius is not None else _farthest(offset.detach(), to, n)
    return _weighted(to, come, offset / length, volumes, n, length, taper)


def _farthest(offset: Tensor, receiver: Tensor, n: int) -> float:
    distance = offset.norm(dim=1)
    return float(distance.new_zeros(n).scatter_reduce(0, receiver, distance, "amax").mean())


def _weighted(
    receiver: Tensor, sender: Tensor, offset: Tensor, volumes: Tensor | None, n: int, length: float, taper: bool
) -> Neighbours:
    share = torch.ones_like(offset[:, 0]) if volumes is None else volumes.to(offset).index_select(0, sender)
    if taper:
        share = share * (1 - offset.square().sum(1)).clamp(min=0).square()
    total = share.new_zeros(n).index_add(0, receiver, share)
    total = total + (total == 0).to(total)  # all of a point's neighbours may lie just where the taper ends
    return Neighbours(receiver, sender, offset, share / total.index_select(0, receiver), n, length)


def grid_neighbours(
    shape: Sequence[int],
    spacing: Sequence[float],
    radius: float,
    periodic: Sequence[bool],
    like: Tensor,
    with_self: bool = False,
    taper: bool = False,
) -> Neighbours:
    """Neighbours of the points of a uniform grid, without a search; remembered.

    Parameters
    ----------
    shape, spacing, periodic : of the grid, axis by axis; points are numbered as in ``field.flatten()``.
    radius : in the units of `spacing`.
    like : gives dtype and device.
    with_self, taper : as in `find_neighbours`.

    Raises
    ------
    ShapeError : the radius reaches nobody, or half round a periodic axis, where a point would be met twice.
    """
    reach = tuple(int(radius * (1 + TOLERANCE) / h) for h in spacing)
    if not any(reach):
        raise ShapeError(
            f"A radius of {radius} reaches no neighbour on a grid with spacing {tuple(spacing)} ({tuple(shape)} points). "
            "Use a finer grid or a larger radius."
        )
    if any(closed and 2 * r >= n for n, r, closed in zip(shape, reach, periodic, strict=True)):
        raise ShapeError(
            f"A radius of {radius} reaches {reach} points along the axes of a periodic grid of {tuple(shape)} points; expected less than "
            "half way round. Use more points or a smaller radius."
        )
    arguments = (
        (tuple(int(n) for n in shape), tuple(float(h) for h in spacing), float(radius)),
        (tuple(periodic), with_self, taper),
        (like.dtype, like.device),
    )
    build = _grid if torch.compiler.is_compiling() or type(like) not in (Tensor, nn.Parameter) else _remembered
    receiver, sender, offset, weight = build(*arguments)
    n = int(np.prod(shape))
    return Neighbours(receiver, sender, offset, weight, n, float(radius))


def _grid(
    place: tuple[tuple[int, ...], tuple[float, ...], float],
    kind: tuple[tuple[bool, ...], bool, bool],
    made_as: tuple[torch.dtype, torch.device],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    (shape, spacing, radius), (periodic, with_self, taper), (dtype, device) = place, kind, made_as
    steps = [range(-int(radius * (1 + TOLERANCE) / h), int(radius * (1 + TOLERANCE) / h) + 1) for h in spacing]
    stencil = np.array(list(itertools.product(*steps)))
    distance = np.linalg.norm(stencil * np.array(spacing), axis=1)
    near = (distance <= radius * (1 + TOLERANCE)) & (with_self | (distance > 0))
    stencil = stencil[near]
    points = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1).reshape(-1, 1, len(shape))
    there = points + stencil
    n, closed = np.array(shape), np.array(periodic)
    inside = (closed | ((there >= 0) & (there < n))).all(-1)
    receiver, which = np.nonzero(inside)
    sender = np.ravel_multi_index(tuple(np.moveaxis(there % n, -1, 0)), shape)[inside]
    offset = (stencil * np.array(spacing) / radius)[which]
    with torch.inference_mode(False):  # a table made under inference mode could never be used in training
        to, come = torch.tensor(receiver, device=device), torch.tensor(sender, device=device)
        made = _weighted(
            to, come, torch.tensor(offset, dtype=torch.float64, device=device), None, len(points), 1.0, taper
        )
    return to, come, made.offset.to(dtype), made.weight.to(dtype)


_remembered = lru_cache(maxsize=32)(_grid)
# What `torch.compiler.assume_constant_result` sets; calling it would import the whole compiler with the package.
_grid._dynamo_marked_constant = True  # type: ignore[attr-defined]


class PairFeatures(nn.Module):
    """A linear map of what an edge knows: what both its ends are, their difference in some values, and the offset between them.

    Equal to one matrix applied to all of that joined edge by edge, but the ends are mapped point by point, before they are gathered.
    Tensors are (point, batch, channel).

    Parameters
    ----------
    states : channels that both ends contribute, by a matrix each. differences : channels of which the difference (receiver less sender)
    contributes. num_dims : of the offset; 0 leaves it out. channels : of the result.
    """

    def __init__(self, states: int, differences: int, num_dims: int, channels: int) -> None:
        super().__init__()
        self.receiver = nn.Linear(states, channels) if states else None
        self.sender = nn.Linear(states, channels, bias=False) if states else None
        self.difference = nn.Linear(differences, channels, bias=False) if differences else None
        self.place = nn.Linear(num_dims, channels, bias=not states) if num_dims else None

    def forward(
        self,
        states: Float[Tensor, "point batch states"],
        values: Float[Tensor, "point batch values"],
        neighbours: Neighbours,
    ) -> Float[Tensor, "edge batch_or_one channels"]:
        """Where neither states nor differences are looked at, all samples share the result, whose batch axis then has one entry."""
        parts: list[Tensor] = []
        if self.place is not None:
            parts.append(self.place(neighbours.offset)[:, None])
        to: Tensor | None = None
        come: Tensor | None = None
        if self.receiver is not None and self.sender is not None:
            to, come = self.receiver(states), self.sender(states)
        if self.difference is not None:
            d = self.difference(values)
            to, come = (d, -d) if to is None or come is None else (to + d, come - d)
        if to is not None and come is not None:
            parts.append(to.index_select(0, neighbours.receiver) + come.index_select(0, neighbours.sender))
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def check_points(
    owner: object,
    x: Tensor,
    neighbours: Neighbours,
    scalars: Tensor | None,
    in_channels: int,
    num_dims: int,
    num_scalars: int,
) -> None:
    """Refuse values, scalars and neighbours that do not belong to an operator or to each other.

    Raises
    ------
    ShapeError : `x` is not (batch, in_channels, point), or `scalars` not (batch, num_scalars).
    InputError : the neighbours are those of another number of points, or of points in another number of dimensions.
    """
    name = type(owner).__name__
    if x.ndim != 3 or x.shape[1] != in_channels:
        raise ShapeError(
            f"{name} expects values of shape (batch, {in_channels}, point) because in_channels={in_channels}; got {tuple(x.shape)}. "
            "Points come last, and all samples share them."
        )
    check_input(owner, x, scalars, in_channels, 1, num_scalars)
    if neighbours.num_receivers != x.shape[-1] or neighbours.offset.shape[1] != num_dims:
        raise InputError(
            f"{name} got values at {x.shape[-1]} points and neighbours of {neighbours.num_receivers} points with offsets in "
            f"{neighbours.offset.shape[1]} dimensions; expected the same points, and num_dims={num_dims}."
        )
