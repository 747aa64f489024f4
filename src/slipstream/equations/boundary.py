"""Boundary conditions as data: one a side and channel, and the ghost points that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from slipstream.channels import Channel, as_channels
from slipstream.errors import InputError, ShapeError
from slipstream.grids import Grid
from slipstream.trajectories import Parameters

Value = float | str | Tensor | Callable[[Tensor], Tensor]
"""What holds on a side: a number; the name of a parameter; a tensor (batch,), (*face) or (batch, *face) where the side's own axis has one
point; or a function of the coordinates (dim, *face) of its points."""

Weights = tuple[float, float, float]


class Condition:
    """What holds on one side for one channel.

    A ghost point at a distance d beyond the wall is a weighted sum of its mirror image, of the outermost point and of the given value:
    `weights` are these three numbers.
    """

    @property
    def given(self) -> Value:
        """The value that the condition prescribes."""
        return 0.0

    def weights(self, distance: float, centred: bool) -> Weights:
        """Of mirror image, outermost point and given value, for a ghost point so far beyond the wall."""
        raise TypeError(f"{type(self).__name__} says nothing about a side.")

    @property
    def pins(self) -> bool:
        """Whether a point that lies on the wall has the given value."""
        return False


@dataclass(frozen=True)
class Periodic(Condition):
    """The two sides of a periodic axis: there is nothing to say."""


@dataclass(frozen=True)
class Robin(Condition):
    """``a u + b du/dn = value`` on the wall, n pointing outwards; a and b have the same sign, and one of them may be zero."""

    a: float
    b: float
    value: Value = 0.0

    def __post_init__(self) -> None:
        if self.a * self.b < 0 or self.a == self.b == 0:
            raise InputError(
                f"Robin(a={self.a}, b={self.b}) must have a and b of one sign, not both zero (b = 0 is Dirichlet)."
            )

    @property
    def given(self) -> Value:
        return self.value

    def weights(self, distance: float, centred: bool) -> Weights:
        a, b = self.a, self.b / (2 * distance)
        if centred:  # the wall lies halfway: u = (ghost + mirror) / 2, du/dn = (ghost - mirror) / 2d
            return (b - a / 2) / (b + a / 2), 0.0, 1 / (b + a / 2)
        return (-1.0, 0.0, 2 / a) if b == 0 else (1.0, -a / b, 1 / b)

    @property
    def pins(self) -> bool:
        return self.b == 0


@dataclass(frozen=True)
class Dirichlet(Robin):
    """``u = value`` on the wall."""

    a: float = field(default=1.0, init=False)
    b: float = field(default=0.0, init=False)
    value: Value = 0.0


@dataclass(frozen=True)
class Neumann(Robin):
    """``du/dn = flux`` on the wall, n pointing outwards."""

    a: float = field(default=0.0, init=False)
    b: float = field(default=1.0, init=False)
    value: Value = field(default=0.0, init=False)
    flux: Value = 0.0

    @property
    def given(self) -> Value:
        return self.flux


@dataclass(frozen=True)
class Inflow(Condition):
    """What streams in: ghost cells hold the given value itself."""

    value: Value

    @property
    def given(self) -> Value:
        return self.value

    def weights(self, distance: float, centred: bool) -> Weights:
        return 0.0, 0.0, 1.0

    @property
    def pins(self) -> bool:
        return True


@dataclass(frozen=True)
class Outflow(Condition):
    """What streams out freely: ghost cells repeat the outermost one."""

    def weights(self, distance: float, centred: bool) -> Weights:
        return 0.0, 1.0, 0.0


@dataclass(frozen=True)
class Wall(Condition):
    """An impermeable wall, for all channels of a side at once.

    Vector components (channels named ``..._x`` after an axis) across the wall vanish there; along it they vanish too (no-slip), have the
    speed of the wall where `moving` names it, or have no gradient (``slip=True``). Every other channel has no gradient.
    """

    slip: bool = False
    moving: Mapping[str, Value] = field(default_factory=dict)

    def on(self, channel: Channel, axis: str, names: Sequence[str]) -> Robin:
        """The condition of one channel on a side of an axis."""
        one_dimensional = len(names) == 1 and channel.name in ("velocity", "momentum")
        direction = axis if one_dimensional else channel.name.rpartition("_")[2]
        if channel.name in self.moving:
            return Dirichlet(self.moving[channel.name])
        if direction == axis or (direction in names and not self.slip):
            return Dirichlet(0.0)
        return Neumann(0.0)


Side = Condition | Mapping[str, Condition]
"""One condition for every channel, or channel name -> condition."""


@dataclass(frozen=True)
class Obstacle:
    """A solid inside the domain.

    Parameters
    ----------
    signed_distance : function of coordinates (dim, *space), negative inside; or its values on the grid; or a mask, True inside.
    value : what a field has inside.
    """

    signed_distance: Tensor | Callable[[Tensor], Tensor]
    value: float = 0.0

    def distance(self, grid: Grid, dtype: torch.dtype = torch.float32) -> Float[Tensor, " *space"]:
        """Signed distance at the points of a grid; from a mask, that to the nearest point on the other side."""
        given = self.signed_distance
        values = given(grid.coordinates(dtype)) if callable(given) and not isinstance(given, Tensor) else given
        assert isinstance(values, Tensor)
        grid.check(values, "Obstacle")
        if values.dtype != torch.bool:
            return values.to(dtype)
        from scipy.ndimage import distance_transform_edt

        inside = values.cpu().numpy()
        away = (distance_transform_edt(m, sampling=grid.spacing) for m in (~inside, inside))
        outer, inner = (torch.from_numpy(d).to(device=values.device, dtype=dtype) for d in away)
        return outer - inner

    def inside(self, grid: Grid) -> Bool[Tensor, " *space"]:
        """Which points lie in the solid."""
        given = self.signed_distance
        if isinstance(given, Tensor) and given.dtype == torch.bool:
            return given
        return self.distance(grid, torch.float64) < 0


class Conditions:
    """The conditions on all sides of a box, for all channels of a field.

    Parameters
    ----------
    channels : of the field, names or channels.
    sides : axis name -> condition on both sides, or (lower, upper). Each is one condition for all channels or a mapping channel name ->
        condition. Periodic axes need not be named.
    obstacle : a solid inside.

    Example
    -------
    ``Conditions(("temperature",), {"x": (Dirichlet(1.0), Neumann(0.0))})``
    """

    def __init__(
        self,
        channels: Sequence[Channel | str],
        sides: Mapping[str, Side | Sequence[Side]],
        obstacle: Obstacle | None = None,
    ) -> None:
        self.channels, self.sides, self.obstacle = as_channels(channels), dict(sides), obstacle

    def check(self, grid: Grid) -> None:
        """Refuse a grid that these conditions do not fit."""
        names = [a.name for a in grid.axes]
        unknown = sorted(set(self.sides) - set(names))
        if unknown:
            raise InputError(f"Conditions are given on the axes {unknown}, but the grid has {names}.")
        for i, axis in enumerate(grid.axes):
            if not axis.periodic and axis.name not in self.sides:
                raise InputError(
                    f"The axis {axis.name!r} has ends and no conditions there: add {axis.name!r}: (lower, upper), "
                    "for example Neumann(0.0), or make the axis periodic."
                )
            given = self.sides.get(axis.name)
            periodic = given is None or isinstance(given, Periodic)
            if axis.periodic and not periodic:
                raise InputError(
                    f"The axis {axis.name!r} is periodic and has no sides, but conditions are given: {given}."
                )
            if not axis.periodic:
                if periodic:
                    raise InputError(f"The axis {axis.name!r} has ends, but its condition is Periodic().")
                for side in (0, 1):
                    self.on(grid, i, side)

    def on(self, grid: Grid, axis: int, side: int) -> tuple[Condition, ...]:
        """The conditions of all channels on the lower (0) or upper (1) side of an axis with ends."""
        name, names = grid.axes[axis].name, [a.name for a in grid.axes]
        given = self.sides[name]
        if isinstance(given, Sequence):
            if len(given) != 2:
                raise InputError(f"The axis {name!r} has two sides; got {len(given)} conditions: {given}.")
            here = given[side]
        else:
            here = given
        result: list[Condition] = []
        for channel in self.channels:
            one = here.get(channel.name) if isinstance(here, Mapping) else here
            if one is None or isinstance(one, Periodic):
                raise InputError(
                    f"The {('lower', 'upper')[side]} side of {name!r} says nothing about the channel {channel.name!r}; got {here}."
                )
            result.append(one.on(channel, name, names) if isinstance(one, Wall) else one)
        if isinstance(here, Mapping) and set(here) - {c.name for c in self.channels}:
            raise InputError(
                f"Conditions on {name!r} name {sorted(here)}; the channels are {[c.name for c in self.channels]}."
            )
        return tuple(result)

    def paddings(self, grid: Grid) -> tuple[str, ...]:
        """The padding of convolutions that comes nearest, one an axis: "periodic", "zero" where a value is given, else "reflect"."""
        self.check(grid)
        result = []
        for i, axis in enumerate(grid.axes):
            fixed = not axis.periodic and any(c.pins for side in (0, 1) for c in self.on(grid, i, side))
            result.append("periodic" if axis.periodic else "zero" if fixed else "reflect")
        return tuple(result)

    def distance(self, grid: Grid, dtype: torch.dtype = torch.float32) -> Float[Tensor, "1 *space"]:
        """Distance to the nearest side or obstacle, 0 inside solids: a channel that tells a network where walls are."""
        self.check(grid)
        x = grid.coordinates(dtype)
        found = torch.full(grid.shape, float("inf"), dtype=dtype)
        for i, axis in enumerate(grid.axes):
            if not axis.periodic:
                found = torch.minimum(found, torch.minimum(x[i] - axis.start, axis.start + axis.extent - x[i]))
        if self.obstacle is not None:
            found = torch.minimum(found, self.obstacle.distance(grid, dtype).clamp(min=0))
        if bool(torch.isinf(found).any()):
            raise InputError("A periodic box without an obstacle has no wall, and so no distance to one.")
        return found[None]

    def mask(self, grid: Grid) -> Bool[Tensor, "channel *space"]:
        """False where a point's value is given: on sides of node grids with a Dirichlet condition, and in solids."""
        self.check(grid)
        free = torch.ones(len(self.channels), *grid.shape, dtype=torch.bool)
        for i, axis in enumerate(grid.axes):
            if axis.periodic or axis.centred:
                continue
            for side in (0, 1):
                pinned = torch.tensor([c.pins for c in self.on(grid, i, side)])
                edge = free.narrow(i + 1, -side % axis.num_points, 1)
                edge &= ~pinned.reshape([-1] + [1] * grid.num_dims)
        if self.obstacle is not None:
            free = free & ~self.obstacle.inside(grid)
        return free

    def impose(
        self, u: Float[Tensor, "batch channel *space"], grid: Grid, parameters: Parameters | None = None
    ) -> Float[Tensor, "batch channel *space"]:
        """The field with given values where `mask` is False: makes the output of any network obey them exactly."""
        self._fits(u, grid)
        for i, axis in enumerate(grid.axes):
            if not axis.periodic and not axis.centred:
                u = _pin(u, self, grid, i, parameters or {}, [])
        if self.obstacle is not None:
            u = torch.where(self.obstacle.inside(grid).to(u.device), self.obstacle.value, u)
        return u

    def _fits(self, u: Tensor, grid: Grid) -> None:
        self.check(grid)
        grid.check(u, "Conditions")
        if u.shape[1] != len(self.channels):
            raise ShapeError(
                f"Conditions hold for {len(self.channels)} channels {[c.name for c in self.channels]}; "
                f"got a field of shape {tuple(u.shape)}."
            )


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
    conditions._fits(u, grid)
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
        u = _pin(u, conditions, grid, axis, parameters or {}, widened)
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


def _pin(
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
