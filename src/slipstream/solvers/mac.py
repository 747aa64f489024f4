"""Staggered grids: velocities on the faces of cells, walls and solids where nothing passes, and what divergence and gradient are there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from slipstream.channels import Channel
from slipstream.equations.boundary import Condition, Conditions, Neumann, Obstacle, Outflow
from slipstream.equations.ghosts import pad_axis, pin
from slipstream.errors import InputError
from slipstream.grids import Axis, Grid
from slipstream.trajectories import Parameters


class End(Enum):
    """What the velocity across an end of the box does there."""

    RING = "the axis is periodic"
    GIVEN = "its value is given: a wall, an inflow"
    OPEN = "it goes as it likes, and the pressure is zero: an outflow"


@dataclass(frozen=True)
class Margin:
    """Ghost cells of one field along one axis on which it lives at cell centres: a weighted sum, and what is given (see `Given`)."""

    conditions: tuple[Condition, Condition] | None
    spacing: float

    def weights(self, side: int) -> tuple[float, float]:
        """Of the mirror image and of the outermost cell, for the first ghost cell."""
        assert self.conditions is not None
        return self.conditions[side].weights(0.5 * self.spacing, True)[:2]

    def __call__(self, u: Tensor, dim: int, width: int, given: tuple[Tensor | None, Tensor | None]) -> Tensor:
        n = u.shape[dim]
        if self.conditions is None:
            return torch.cat([u.narrow(dim, n - width, width), u, u.narrow(dim, 0, width)], dim)
        lower = [self._ghost(u, dim, 0, k, given[0]) for k in reversed(range(width))]
        upper = [self._ghost(u, dim, 1, k, given[1]) for k in range(width)]
        return torch.cat([*lower, u, *upper], dim)

    def _ghost(self, u: Tensor, dim: int, side: int, k: int, given: Tensor | None) -> Tensor:
        """The k-th ghost cell outwards."""
        assert self.conditions is not None
        n, (mirror, edge, _) = u.shape[dim], self.conditions[side].weights((k + 0.5) * self.spacing, True)
        image, outermost = u.narrow(dim, n - 1 - k if side else k, 1), u.narrow(dim, n - 1 if side else 0, 1)
        ghost = mirror * image if not edge else (edge * outermost if not mirror else mirror * image + edge * outermost)
        return ghost if given is None else ghost + given.narrow(dim, k if side else given.shape[dim] - 1 - k, 1)


@dataclass
class Given:
    """What conditions prescribe for some runs: velocities on the faces of ends, and offsets of ghost cells."""

    faces: list[Tensor | None]
    ghosts: list[list[tuple[Tensor | None, Tensor | None]]]


class MacGrid:
    r"""The cells of a grid, their faces, and which of those move freely.

    A velocity component is a tensor (batch, \*space) with one more point along its own axis than there are cells (on a ring the last is the
    first). Frames hold the lower faces only; `from_frames` adds the last ones: they are given, or follow from continuity.

    Parameters
    ----------
    grid : axes with ends are cell-centred. channels : one velocity an axis, then scalars. conditions : of all channels.
    obstacle : cells whose centre is inside are solid.
    width : ghost cells that will be asked for.
    slip : whether fluid slides along the obstacle.

    Raises
    ------
    InputError : conditions that say nothing of the kind for a velocity; an obstacle that leaves no fluid.
    """

    def __init__(
        self,
        grid: Grid,
        channels: tuple[Channel, ...],
        conditions: Conditions,
        obstacle: Obstacle | None,
        width: int,
        dtype: torch.dtype,
        device: torch.device,
        slip: bool = False,
    ) -> None:
        self.grid, self.dims, self.channels, self.width = grid, grid.num_dims, channels, width
        self.dtype, self.device = dtype, device
        conditions.check(grid)
        resolved = {
            a.name: (conditions.on(grid, i, 0), conditions.on(grid, i, 1))
            for i, a in enumerate(grid.axes)
            if not a.periodic
        }
        self.conditions = [
            Conditions((c,), {name: (low[k], high[k]) for name, (low, high) in resolved.items()})
            for k, c in enumerate(channels)
        ]
        self.ends = [
            (End.RING, End.RING) if a.periodic else (self._end(i, a, 0), self._end(i, a, 1))
            for i, a in enumerate(grid.axes)
        ]
        self.nodes = [self._faces_of(i) for i in range(self.dims)]
        self.margins = [
            [
                Margin(None if a.periodic else (resolved[a.name][0][k], resolved[a.name][1][k]), a.spacing)
                for a in grid.axes
            ]
            for k in range(len(channels))
        ]
        self.fluid = torch.ones(grid.shape, dtype=torch.bool, device=device)
        if obstacle is not None:
            self.fluid = ~obstacle.inside(grid).to(device)
        if not bool(self.fluid.any()):
            raise InputError("The obstacle fills the whole box: no cell is left for the fluid. Make it smaller.")
        self.solid = not bool(self.fluid.all())
        self.open, self.blocked = zip(*(self._passable(i) for i in range(self.dims)), strict=True)
        self.free = [m.to(dtype) for m in self.open]
        self.drag = [self._drag(i, slip) if self.solid else None for i in range(self.dims)]
        self.coordinates = grid.coordinates(torch.float64).to(device, dtype)

    def _end(self, i: int, axis: Axis, side: int) -> End:
        (here,) = self.conditions[i].on(self.grid, i, side)
        if here.pins:
            return End.GIVEN
        if isinstance(here, Outflow) or (isinstance(here, Neumann) and here.flux == 0.0):
            return End.OPEN
        raise InputError(
            f"{self.channels[i].name} crosses the {('lower', 'upper')[side]} side of {axis.name!r}, where the condition is {here}. "
            "Give its value (Dirichlet, Inflow, Wall()), or let it out (Outflow())."
        )

    def _faces_of(self, i: int) -> Grid:
        """The points of one component: on faces along its own axis, the last of a ring repeated."""
        a = self.grid.axes[i]
        start = a.start - a.spacing / 2 if a.periodic else a.start
        own = replace(a, num_points=a.num_points + 1, start=start, periodic=False, centred=False)
        return Grid(tuple(own if k == i else b for k, b in enumerate(self.grid.axes)))

    def _passable(self, i: int) -> tuple[Bool[Tensor, " *face"], Bool[Tensor, " *face"]]:
        """Faces that move freely, and faces beside a solid."""
        f, n = self.fluid, self.grid.shape[i]
        first, last = f.narrow(i, 0, 1), f.narrow(i, n - 1, 1)
        low, high = (last, first) if self.ends[i][0] is End.RING else (first, last)
        both = torch.cat([low & first, f.narrow(i, 0, n - 1) & f.narrow(i, 1, n - 1), last & high], i)
        moving = both.clone()
        for side, end in enumerate(self.ends[i]):
            if end is End.GIVEN:
                moving.narrow(i, side * n, 1).fill_(False)
        return moving, ~both

    def _drag(self, i: int, slip: bool) -> Float[Tensor, " *face"]:
        """What solids beside a face add to the diagonal of its Laplacian: their surface lies halfway, and holds or lets slide."""
        total = torch.zeros(self.nodes[i].shape, dtype=self.dtype, device=self.device)
        wall = self.blocked[i].to(self.dtype)
        for a, h in enumerate(self.grid.spacing):
            if a == i:
                continue
            n = wall.shape[a]
            for shift in (1, -1):
                beside = torch.roll(wall, shift, a)
                if self.ends[a][0] is not End.RING:
                    beside.narrow(a, 0 if shift == 1 else n - 1, 1).zero_()
                total = total + (1.0 if slip else -1.0) * beside / h**2
        return total * self.free[i]

    def given(self, like: Tensor, parameters: Parameters) -> Given:
        """What the conditions prescribe, for the runs of `like` (batch, ...)."""
        faces, ghosts = [], []
        batch = like.shape[0]
        for k in range(len(self.channels)):
            grid = self.nodes[k] if k < self.dims else self.grid
            zero = like.new_zeros(batch, 1, *grid.shape)
            if k < self.dims:
                ends = zero if self.ends[k][0] is End.RING else pin(zero, self.conditions[k], grid, k, parameters, [])
                faces.append(self._only(ends[:, 0] * ~self.blocked[k]))
            offsets: list[tuple[Tensor | None, Tensor | None]] = []
            for a, axis in enumerate(self.grid.axes):
                if a == k or axis.periodic:
                    offsets.append((None, None))
                    continue
                wide = pad_axis(zero, grid, self.conditions[k], a, self.width, parameters)[:, 0]
                n, w = axis.num_points, self.width
                offsets.append((self._only(wide.narrow(a + 1, 0, w)), self._only(wide.narrow(a + 1, n + w, w))))
            ghosts.append(offsets)
        return Given(faces, ghosts)

    @staticmethod
    def _only(u: Tensor) -> Tensor | None:
        return u if u.requires_grad or bool((u != 0).any()) else None

    def hold(self, u: list[Tensor], given: Given) -> list[Tensor]:
        """Velocities with solids and given faces in place."""
        result = []
        for i, v in enumerate(u):
            value = given.faces[i]
            v = v * self.free[i]
            result.append(v if value is None else v + value)
        return result

    def grow(self, u: Tensor, k: int, axis: int, given: Given) -> Tensor:
        """A field with `width` ghost points beyond both ends of an axis."""
        dim, w = axis + 1, self.width
        if k != axis:
            return self.margins[k][axis](u, dim, w, given.ghosts[k][axis])
        n = u.shape[dim] - 1
        if self.ends[k][0] is End.RING:
            return torch.cat([u.narrow(dim, n - w, w), u, u.narrow(dim, 1, w)], dim)
        parts = []
        for side, end in enumerate(self.ends[k]):
            edge = u.narrow(dim, side * n, 1)
            inner = u.narrow(dim, n - w if side else 1, w).flip(dim)
            parts.append(2 * edge - inner if end is End.GIVEN else edge.expand_as(inner))
        return torch.cat([parts[0], u, parts[1]], dim)

    def divergence(self, u: list[Tensor]) -> Float[Tensor, "batch *space"]:
        """What leaves each cell, by volume."""
        total = u[0].diff(dim=1) / self.grid.spacing[0]
        for i in range(1, self.dims):
            total = torch.add(total, u[i].diff(dim=i + 1), alpha=1 / self.grid.spacing[i])
        return total

    def gradient(self, p: Float[Tensor, "batch *space"]) -> list[Tensor]:
        """The differences of a pressure across faces that move freely; zero on all others."""
        result = []
        for i, h in enumerate(self.grid.spacing):
            dim, n = i + 1, p.shape[i + 1]
            first, last = p.narrow(dim, 0, 1), p.narrow(dim, n - 1, 1)
            if self.ends[i][0] is End.RING:
                low, high = last, first
            else:
                low, high = (e if end is End.GIVEN else -e for e, end in zip((first, last), self.ends[i], strict=True))
            slope = torch.cat([low, p, high], dim).diff(dim=dim) / h
            result.append(slope * self.free[i] if self.solid else slope)
        return result

    def from_frames(self, frame: Float[Tensor, "batch channel *space"], given: Given) -> list[Tensor]:
        """Velocities on all faces from those on the lower ones."""
        u = []
        for i in range(self.dims):
            v, dim = frame[:, i], i + 1
            last = v.narrow(dim, 0 if self.ends[i][0] is End.RING else v.shape[dim] - 1, 1)
            u.append(torch.cat([v, last], dim))
        u = self.hold(u, given)
        for i, (_, end) in enumerate(self.ends):
            if end is End.OPEN:  # what streams out of the last cells is what streams in through their other faces
                n, dim = self.grid.shape[i], i + 1
                excess = self.divergence(u).narrow(dim, n - 1, 1) * self.grid.spacing[i]
                tail = u[i].narrow(dim, n, 1) - excess * self.free[i].narrow(i, n, 1)
                u[i] = torch.cat([u[i].narrow(dim, 0, n), tail], dim)
        return u

    def to_frames(self, u: list[Tensor]) -> Float[Tensor, "batch channel *space"]:
        """Velocities on lower faces, scalars as they are."""
        return torch.stack(
            [v.narrow(i + 1, 0, self.grid.shape[i]) if i < self.dims else v for i, v in enumerate(u)], dim=1
        )
