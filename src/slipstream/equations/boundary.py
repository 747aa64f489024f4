"""Boundary conditions as data: one a side and channel. The ghost points that follow from them: `slipstream.equations.ghosts`."""

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
        from slipstream.equations.ghosts import pin  # which knows conditions

        self.fits(u, grid)
        for i, axis in enumerate(grid.axes):
            if not axis.periodic and not axis.centred:
                u = pin(u, self, grid, i, parameters or {}, [])
        if self.obstacle is not None:
            u = torch.where(self.obstacle.inside(grid).to(u.device), self.obstacle.value, u)
        return u

    def fits(self, u: Tensor, grid: Grid) -> None:
        """Refuse a field that these conditions do not fit."""
        self.check(grid)
        grid.check(u, "Conditions")
        if u.shape[1] != len(self.channels):
            raise ShapeError(
                f"Conditions hold for {len(self.channels)} channels {[c.name for c in self.channels]}; "
                f"got a field of shape {tuple(u.shape)}."
            )
