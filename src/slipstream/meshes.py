"""Meshes: points and cells of any shape of domain. They know where things lie, and nothing of what lives there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from slipstream.errors import InputError, MissingExtra, ShapeError

OUTSIDE = -1
TOLERANCE = 1e-9
"""A point so near to a cell, in units of the cell, still lies in it."""


@dataclass(frozen=True)
class Shape:
    """One kind of cell: its name, the corners of its facets, the edges that are halved, and the parts that it falls into.

    `children` counts corners first, then the middles of `edges`, then (quadrilaterals) the middle of the cell.
    """

    name: str
    facets: tuple[tuple[int, ...], ...]
    edges: tuple[tuple[int, int], ...]
    children: tuple[tuple[int, ...], ...]
    middle: bool = False


TRIANGLE = Shape(
    "triangle", ((0, 1), (1, 2), (2, 0)), ((0, 1), (1, 2), (2, 0)), ((0, 3, 5), (3, 1, 4), (5, 4, 2), (3, 4, 5))
)
QUAD = Shape(
    "quad",
    ((0, 1), (1, 2), (2, 3), (3, 0)),
    ((0, 1), (1, 2), (2, 3), (3, 0)),
    ((0, 4, 8, 7), (4, 1, 5, 8), (8, 5, 2, 6), (7, 8, 6, 3)),
    middle=True,
)
TETRA = Shape(
    "tetra",
    ((1, 2, 3), (0, 3, 2), (0, 1, 3), (0, 2, 1)),
    tuple(combinations(range(4), 2)),
    ((0, 4, 5, 6), (4, 1, 7, 8), (5, 7, 2, 9), (6, 8, 9, 3), (4, 5, 6, 8), (4, 5, 7, 8), (5, 6, 8, 9), (5, 7, 8, 9)),
)
KINDS: Mapping[tuple[int, int], Shape] = {(2, 3): TRIANGLE, (2, 4): QUAD, (3, 4): TETRA}
"""By space axes and corners a cell."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """Points and cells: the domain of fields with layout (batch, channel, point).

    Parameters
    ----------
    points : coordinates (point, dim), dim 2 or 3; kept in float64.
    cells : corners of each cell: triangles, quadrilaterals (counterclockwise) or tetrahedra (positive volume).
    boundaries : name -> facets (facet, corner), each a facet of exactly one cell: edges in 2D, triangles in 3D.

    Raises
    ------
    InputError : non-finite points, cells that are inverted, flat or not convex, corners that do not exist, points in no cell,
        boundaries that are not.
    """

    points: Float[Tensor, "point dim"]
    cells: Int[Tensor, "cell corner"]
    boundaries: Mapping[str, Int[Tensor, "facet facet_corner"]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", self.points.detach().double())
        object.__setattr__(self, "cells", self.cells.detach().long())
        object.__setattr__(self, "boundaries", {k: v.detach().long() for k, v in self.boundaries.items()})
        key = (self.points.shape[1], self.cells.shape[1])
        if key not in KINDS or not len(self.cells):
            raise InputError(
                f"A mesh has triangles or quadrilaterals in 2D or tetrahedra in 3D, at least one; got {len(self.cells)} cells of {key[1]} "
                f"corners in {key[0]}D."
            )
        if not bool(torch.isfinite(self.points).all()):
            bad = (~torch.isfinite(self.points).all(1)).nonzero()[:, 0]
            raise InputError(
                f"{len(bad)} points of the mesh are not finite, the first is point {int(bad[0])}; mend them."
            )
        if int(self.cells.min()) < 0 or int(self.cells.max()) >= len(self.points):
            raise InputError(
                f"Cells of the mesh name points from {int(self.cells.min())} to {int(self.cells.max())}; there are {len(self.points)}."
            )
        used = torch.zeros(len(self.points), dtype=torch.bool)
        used[self.cells.flatten()] = True
        if not bool(used.all()):
            idle = (~used).nonzero()[:, 0]
            raise InputError(
                f"{len(idle)} points of the mesh belong to no cell, the first is point {int(idle[0])}; leave them out (Mesh.trimmed does)."
            )
        size = self._jacobians().amin(1) / self._jacobians().abs().amax()
        if not bool((size > 1e-14).all()):
            bad = (~(size > 1e-14)).nonzero()[:, 0]
            raise InputError(
                f"{len(bad)} cells of the mesh are inverted, flat or not convex, the first is cell {int(bad[0])} with corners "
                f"{self.cells[bad[0]].tolist()}; order corners counterclockwise (2D) or for a positive volume (3D)."
            )
        for name, facets in self.boundaries.items():
            self._check_boundary(name, facets)

    @classmethod
    def trimmed(
        cls,
        points: Float[Tensor, "point dim"],
        cells: Int[Tensor, "cell corner"],
        boundaries: Mapping[str, Int[Tensor, "facet facet_corner"]] | None = None,
    ) -> Mesh:
        """A mesh of those points only that belong to cells: what files of mesh generators need (centres of arcs ...)."""
        used, cells = torch.unique(cells, return_inverse=True)
        place = torch.full((len(points),), -1)
        place[used] = torch.arange(len(used))
        return cls(points[used], cells, {k: place[v] for k, v in (boundaries or {}).items()})

    @classmethod
    def rectangle(
        cls, num_cells: tuple[int, int], extent: tuple[float, float] = (1.0, 1.0), quads: bool = False
    ) -> Mesh:
        """A rectangle from the origin, cut into equal cells (each into two triangles); sides ``left right bottom top``."""
        nx, ny = num_cells
        x, y = (torch.linspace(0, e, n + 1, dtype=torch.float64) for e, n in zip(extent, num_cells, strict=True))
        node = torch.arange((nx + 1) * (ny + 1)).reshape(nx + 1, ny + 1)
        a, b, c, d = (t.flatten() for t in (node[:-1, :-1], node[1:, :-1], node[1:, 1:], node[:-1, 1:]))
        cells = torch.stack([a, b, c, d], 1)
        if not quads:
            cells = torch.cat([cells[:, [0, 1, 2]], cells[:, [0, 2, 3]]])
        sides = {"left": node[0], "right": node[-1], "bottom": node[:, 0], "top": node[:, -1]}
        return cls(torch.cartesian_prod(x, y), cells, {k: torch.stack([v[:-1], v[1:]], 1) for k, v in sides.items()})

    @classmethod
    def from_skfem(cls, mesh: Any) -> Mesh:
        """From a mesh of scikit-fem (MeshTri, MeshQuad or MeshTet of straight cells), with its named boundaries."""
        points, cells = torch.from_numpy(mesh.p.T.copy()), torch.from_numpy(mesh.t.T.copy()).long()
        cells = _oriented(points, cells)
        named = {k: torch.from_numpy(mesh.facets[:, v].T.copy()).long() for k, v in (mesh.boundaries or {}).items()}
        return cls(points, cells, named)

    def to_skfem(self) -> Any:
        """The mesh of scikit-fem with the same points, cells and named boundaries. Needs the extra ``[fem]``."""
        try:
            import skfem
        except ImportError:
            raise MissingExtra("scikit-fem", "fem", "Finite elements by assembly") from None
        import numpy as np

        kind = {"triangle": skfem.MeshTri, "quad": skfem.MeshQuad, "tetra": skfem.MeshTet}[self.kind]
        made = kind(self.points.T.numpy().copy(), self.cells.T.numpy().copy())
        index = {tuple(f): i for i, f in enumerate(np.sort(made.facets.T, axis=1).tolist())}
        named = {
            k: np.array([index[tuple(sorted(f))] for f in v.tolist()], dtype=int) for k, v in self.boundaries.items()
        }
        return made.with_boundaries(named) if named else made

    @classmethod
    def read(cls, path: str | os.PathLike) -> Mesh:
        """From any file that meshio reads (Gmsh, VTK, Abaqus ...): its cells of highest dimension, and physical groups as boundaries.

        Points in no cell are left out, and cells turned to positive volume. Needs the extra ``[vtk]``.
        """
        try:
            import meshio
        except ImportError:
            raise MissingExtra("meshio", "vtk", "Reading meshes from files") from None
        try:
            found = meshio.read(path)
        except (OSError, meshio.ReadError, SystemExit) as error:
            raise InputError(f"{path} could not be read as a mesh: {error}.") from None
        blocks = {name: [b.data for b in found.cells if b.type == name] for name in ("tetra", "triangle", "quad")}
        kinds = [name for name, b in blocks.items() if b]
        top = ["tetra"] if blocks["tetra"] else kinds
        if len(top) != 1:
            raise InputError(
                f"{path} holds {[b.type for b in found.cells]}; expected tetrahedra, or one kind of triangles or quadrilaterals."
            )
        dim, flat = (3, "triangle") if top == ["tetra"] else (2, "line")
        points = torch.from_numpy(found.points.astype(float))
        if points.shape[1] > dim and bool((points[:, dim:] != points[0, dim:]).any()):
            raise InputError(f"{path} holds a curved surface in 3D; a mesh of {top[0]}s lies in a plane z = const.")
        points = points[:, :dim]
        cells = torch.cat([torch.from_numpy(b.astype("int64")) for b in blocks[top[0]]])
        facets = [torch.from_numpy(b.data.astype("int64")) for b in found.cells if b.type == flat]
        chosen = {k: v[flat] for k, v in found.cell_sets_dict.items() if flat in v and not k.startswith("gmsh:")}
        tags = found.cell_data_dict.get("gmsh:physical", {}).get(flat)
        if tags is not None:
            chosen |= {k: (tags == tag).nonzero()[0] for k, (tag, d) in found.field_data.items() if d == dim - 1}
        named = {k: torch.cat(facets)[torch.from_numpy(v.astype("int64"))] for k, v in chosen.items()}
        return cls.trimmed(points, _oriented(points, cells), named)

    # ---- what it is -----------------------------------------------------------------------------------------------------------------

    @property
    def _shape(self) -> Shape:
        return KINDS[self.points.shape[1], self.cells.shape[1]]

    @property
    def kind(self) -> str:
        """``"triangle"``, ``"quad"`` or ``"tetra"``."""
        return self._shape.name

    @property
    def num_dims(self) -> int:
        """Axes of the space that the points lie in; fields on them have one axis, ``point``."""
        return self.points.shape[1]

    @property
    def shape(self) -> tuple[int]:
        """The ``*space`` part of a field."""
        return (len(self.points),)

    @property
    def size(self) -> int:
        return len(self.points)

    def coordinates(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "dim point"]:
        """Coordinates of every point, one leading entry an axis."""
        return self.points.T.to(dtype)

    @cached_property
    def cell_volumes(self) -> Float[Tensor, " cell"]:
        """Area or volume of each cell (float64)."""
        j = self._jacobians()
        return 0.5 * (j[:, 0] + j[:, 2]) if self._shape is QUAD else j[:, 0] / (6 if self.num_dims == 3 else 2)

    @property
    def volume(self) -> float:
        return float(self.cell_volumes.sum())

    def cell_weights(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, " point"]:
        """Quadrature weights of the points, integrals of their shape functions; they sum to the volume."""
        if self._shape is QUAD:
            # The Jacobian is linear, so products with bilinear functions are integrated exactly by its corner values.
            mass = torch.tensor([[4.0, 2, 1, 2], [2, 4, 2, 1], [1, 2, 4, 2], [2, 1, 2, 4]], dtype=torch.float64) / 36
            share = self._jacobians() @ mass
        else:
            share = (self.cell_volumes / self.cells.shape[1])[:, None].expand(self.cells.shape)
        total = torch.zeros(self.size, dtype=torch.float64)
        return total.index_add(0, self.cells.flatten(), share.flatten()).to(dtype)

    @cached_property
    def boundary_facets(self) -> Int[Tensor, "facet facet_corner"]:
        """Every facet that belongs to one cell only."""
        facets = self.cells[:, self._shape.facets].flatten(0, 1)
        _, index, count = torch.unique(facets.sort(1).values, dim=0, return_inverse=True, return_counts=True)
        return facets[count[index] == 1]

    def boundary(self, *names: str) -> Int[Tensor, " boundary_point"]:
        """The points of some boundaries by name, or of the whole one, in ascending order."""
        unknown = [n for n in names if n not in self.boundaries]
        if unknown:
            raise InputError(f"The mesh has no boundary {unknown}; it has {sorted(self.boundaries)}.")
        facets = [self.boundaries[n] for n in names] if names else [self.boundary_facets]
        return torch.unique(torch.cat([f.flatten() for f in facets]))

    def check(self, u: Shaped[Tensor, "..."], what: str) -> None:
        """Refuse a field whose last axis is not this mesh's points."""
        if not u.ndim or u.shape[-1] != self.size:
            raise ShapeError(f"{what} expects fields on {self.size} points; got a tensor of shape {tuple(u.shape)}.")

    # ---- finer, and in between ----------------------------------------------------------------------------------------------------------

    def refine(self, times: int = 1) -> Mesh:
        """Every cell cut into four (2D) or eight (3D) of half the size; the first points stay the first."""
        mesh = self
        for _ in range(times):
            mesh = mesh._halved()
        return mesh

    def _halved(self) -> Mesh:
        s, n = self._shape, self.size
        pairs = self.cells[:, s.edges].sort(-1).values  # (cell, edge, 2)
        edges, index = torch.unique(pairs.flatten(0, 1), dim=0, return_inverse=True)
        parts = [self.cells, n + index.reshape(len(self.cells), -1)]
        points = [self.points, self.points[edges].mean(1)]
        if s.middle:
            parts.append(n + len(edges) + torch.arange(len(self.cells))[:, None])
            points.append(self.points[self.cells].mean(1))
        nodes = torch.cat(parts, dim=1)
        places = torch.cat(points)
        children = _oriented(places, nodes[:, s.children].flatten(0, 1))
        key = edges[:, 0] * n + edges[:, 1]  # ascending, because unique sorts

        def middle(facets: Tensor, a: int, b: int) -> Tensor:
            pair = facets[:, [a, b]].sort(1).values
            return n + torch.searchsorted(key, pair[:, 0] * n + pair[:, 1])

        named = {}
        for name, f in self.boundaries.items():
            if f.shape[1] == 2:
                m = middle(f, 0, 1)
                named[name] = torch.cat([torch.stack([f[:, 0], m], 1), torch.stack([m, f[:, 1]], 1)])
            else:
                all_nodes = torch.cat([f, torch.stack([middle(f, a, b) for a, b in TRIANGLE.edges], 1)], 1)
                named[name] = all_nodes[:, TRIANGLE.children].flatten(0, 1)
        return Mesh(places, children, named)

    def locate(self, points: Float[Tensor, "query dim"]) -> tuple[Int[Tensor, " query"], Float[Tensor, "query corner"]]:
        """The cell that each point lies in (-1 outside the mesh), and the shape functions of its corners there (float64)."""
        if points.ndim != 2 or points.shape[1] != self.num_dims:
            raise ShapeError(f"locate expects points (query, {self.num_dims}); got {tuple(points.shape)}.")
        q = points.detach().double().cpu()
        bins = self._bins
        spot = ((q - bins.low) / bins.width).floor().long()
        near = ((spot >= 0) & (spot < bins.count)).all(1) & torch.isfinite(q).all(1)
        flat = (spot.clamp(min=0).minimum(bins.count - 1) * bins.stride).sum(1)
        number = torch.where(near, bins.start[flat + 1] - bins.start[flat], 0)
        # Every pair of a point and a cell that reaches into its bin.
        who = torch.repeat_interleave(torch.arange(len(q)), number)
        rank = torch.arange(len(who)) - (number.cumsum(0) - number)[who]
        cell = bins.cells[bins.start[flat[who]] + rank]
        shapes = self._shapes_at(cell, q[who])
        within = shapes.amin(1) >= -TOLERANCE
        # Of the cells that share an edge or a corner the first one wins.
        pairs = within.nonzero()[:, 0]
        first = torch.full((len(q),), len(who)).scatter_reduce(0, who[pairs], pairs, "amin")
        hit = first < len(who)
        found = torch.full((len(q),), OUTSIDE)
        values = torch.zeros(len(q), self.cells.shape[1], dtype=torch.float64)
        found[hit], values[hit] = cell[first[hit]], shapes[first[hit]]
        return found, values

    def inside(self, points: Float[Tensor, "query dim"]) -> Bool[Tensor, " query"]:
        """Which points lie in the mesh, its boundary included."""
        return self.locate(points)[0] != OUTSIDE

    def interpolate(self, u: Float[Tensor, "*batch"], points: Float[Tensor, "query dim"]) -> Float[Tensor, "*batch2"]:
        """Values of a field (..., point) at other places, by shape functions; not a number outside the mesh."""
        self.check(u, "Mesh.interpolate")
        cell, shapes = self.locate(points)
        values = (u[..., self.cells[cell.clamp(min=0)]] * shapes.to(u)).sum(-1)
        return torch.where((cell == OUTSIDE).to(u.device), torch.nan, values)

    # ---- inside -----------------------------------------------------------------------------------------------------------------------

    def _jacobians(self) -> Float[Tensor, "cell place"]:
        """Determinant of the map from the reference cell: one a simplex, one a corner of a quadrilateral."""
        p = self.points[self.cells]
        if self._shape is QUAD:
            ahead, back = p.roll(-1, 1) - p, p.roll(1, 1) - p
            return ahead[..., 0] * back[..., 1] - ahead[..., 1] * back[..., 0]
        return torch.linalg.det(p[:, 1:] - p[:, :1])[:, None]

    def _shapes_at(self, cell: Tensor, q: Tensor) -> Tensor:
        """Shape functions of each cell's corners at a point beside it."""
        p = self.points[self.cells[cell]]
        if self._shape is not QUAD:
            x = torch.linalg.solve((p[:, 1:] - p[:, :1]).mT, (q - p[:, 0])[..., None])[..., 0]
            return torch.cat([1 - x.sum(1, keepdim=True), x], 1)
        # Newton's method for the inverse of the bilinear map; the map of a convex quadrilateral is one to one.
        x = torch.full_like(q, 0.5)
        a, b, c = p[:, 1] - p[:, 0], p[:, 3] - p[:, 0], p[:, 0] - p[:, 1] + p[:, 2] - p[:, 3]
        for _ in range(12):
            left = p[:, 0] + x[:, :1] * a + x[:, 1:] * b + x[:, :1] * x[:, 1:] * c - q
            slope = torch.stack([a + x[:, 1:] * c, b + x[:, :1] * c], dim=-1)
            x = (x - torch.linalg.solve_ex(slope, left[..., None])[0][..., 0]).nan_to_num(-1.0).clamp(-1, 2)
        s, t = x[:, 0], x[:, 1]
        shapes = torch.stack([(1 - s) * (1 - t), s * (1 - t), s * t, (1 - s) * t], 1)
        here = ((shapes[..., None] * p).sum(1) - q).norm(dim=1) <= 1e-9 * (p.amax(1) - p.amin(1)).norm(dim=1)
        return torch.where((here & (x >= -TOLERANCE).all(1) & (x <= 1 + TOLERANCE).all(1))[:, None], shapes, -1.0)

    @cached_property
    def _bins(self) -> _Bins:
        """A uniform grid over the mesh and, for each of its boxes, the cells that reach into it."""
        p = self.points[self.cells]
        extent = self.points.amax(0) - self.points.amin(0)
        margin = 1e-6 * extent
        low = self.points.amin(0) - margin
        count = torch.full((self.num_dims,), max(1, round(len(self.cells) ** (1 / self.num_dims))))
        width = (extent + 2 * margin) / count
        first = ((p.amin(1) - margin - low) / width).floor().long().clamp(min=0)
        last = torch.minimum(((p.amax(1) + margin - low) / width).floor().long(), count - 1)
        spans = last - first + 1
        number = spans.prod(1)
        cell = torch.repeat_interleave(torch.arange(len(self.cells)), number)
        rank = torch.arange(len(cell)) - (number.cumsum(0) - number)[cell]
        flat, stride = torch.zeros_like(rank), torch.ones(self.num_dims, dtype=torch.long)
        for axis in reversed(range(self.num_dims)):
            if axis + 1 < self.num_dims:
                stride[axis] = stride[axis + 1] * count[axis + 1]
            flat += (first[cell, axis] + rank % spans[cell, axis]) * stride[axis]
            rank = rank // spans[cell, axis]
        order = flat.argsort(stable=True)
        start = torch.searchsorted(flat[order], torch.arange(int(count.prod()) + 1))
        return _Bins(low, width, count, stride, start, cell[order])

    def _check_boundary(self, name: str, facets: Tensor) -> None:
        corners = len(self._shape.facets[0])
        if facets.ndim != 2 or facets.shape[1] != corners:
            raise ShapeError(f"Boundary {name!r} expects facets of {corners} corners; got shape {tuple(facets.shape)}.")
        known = self.boundary_facets.sort(1).values
        both = torch.cat([known, facets.sort(1).values])
        _, index = torch.unique(both, dim=0, return_inverse=True)
        strange = ~torch.isin(index[len(known) :], index[: len(known)])
        if bool(strange.any()):
            raise InputError(
                f"{int(strange.sum())} facets of boundary {name!r} do not lie on the boundary of the mesh, the first is "
                f"{facets[strange][0].tolist()}."
            )


@dataclass(frozen=True)
class _Bins:
    low: Tensor
    width: Tensor
    count: Tensor
    stride: Tensor
    start: Tensor
    cells: Tensor


def _oriented(points: Tensor, cells: Tensor) -> Tensor:
    """Cells with the corners of negative ones reversed."""
    p = points[cells].double()
    if cells.shape[1] == 4 and points.shape[1] == 2:
        a, b = p[:, 2] - p[:, 0], p[:, 3] - p[:, 1]
        negative = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0] < 0
    else:
        negative = torch.linalg.det(p[:, 1:] - p[:, :1]) < 0
    turned = (
        cells.flip(1)
        if cells.shape[1] == 4 and points.shape[1] == 2
        else cells[:, [*range(cells.shape[1] - 2), -1, -2]]
    )
    return torch.where(negative[:, None], turned, cells)
