"""Poisson's equation on some cells of a box: obstacles, openings, walls; the system behind the pressure of an incompressible flow."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import scipy.ndimage
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from slipstream.errors import InputError, ShapeError
from slipstream.grids import Grid
from slipstream.solvers.linear.stencil import Stencil
from slipstream.solvers.linear.transforms import Boundary


class CellPoisson(Stencil):
    r""":math:`-\Delta u` on the fluid cells of a box, second order, unknowns at cell centres.

    Nothing flows through a face between fluid and solid; in an open cell (air, an outlet) u = 0. Cells that are not fluid keep a row of
    their own, a number on the diagonal that couples with nothing: where b = 0 there, so is u, and the matrix stays invertible.
    Symmetric; positive definite unless a part of the fluid touches neither an open cell nor a Dirichlet wall, where u is known up to a
    constant: `singular` says so, and `consistent` makes a right-hand side fit.

    Parameters
    ----------
    fluid : (batch, \*space), True where u is sought. A cell without any neighbour to couple with counts as solid.
    grid : its axes are periodic, or have their points at cell centres.
    boundary : of the axes that are not periodic, half a cell away: `Boundary.NEUMANN` or `Boundary.DIRICHLET`; one for all, or one an axis,
        or of an axis the pair (low, high) of its ends.
    open : (batch, \*space), True where u = 0; nowhere if None.
    dtype : of the coefficients.

    Attributes
    ----------
    ends : the pair of boundaries of every axis.

    Raises
    ------
    ShapeError : the masks do not fit the grid. InputError : a cell is fluid and open, or there is no fluid at all.

    Source: Bridson, Fluid Simulation for Computer Graphics (2015), chapter 5.
    """

    def __init__(
        self,
        fluid: Bool[Tensor, "batch *space"],
        grid: Grid,
        boundary: Boundary | Sequence[Boundary | tuple[Boundary, Boundary]] = Boundary.NEUMANN,
        open: Bool[Tensor, "batch *space"] | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        air = torch.zeros_like(fluid) if open is None else open
        if tuple(fluid.shape[1:]) != grid.shape or air.shape != fluid.shape:
            raise ShapeError(
                f"fluid and open must be (batch, {grid.shape}) both; got {tuple(fluid.shape)} and {tuple(air.shape)}."
            )
        given = [boundary] * grid.num_dims if isinstance(boundary, Boundary) else list(boundary)
        if len(given) != grid.num_dims:
            raise ShapeError(f"boundary must have one entry an axis, {grid.num_dims}; got {len(given)}.")
        pairs = [(b, b) if isinstance(b, Boundary) else b for b in given]
        for axis, pair in zip(grid.axes, pairs, strict=True):
            if not axis.periodic and (not axis.centred or Boundary.PERIODIC in pair):
                raise InputError(
                    f"Axis {axis.name!r} must be periodic, or have its points at cell centres and walls that are DIRICHLET or NEUMANN."
                )
        if bool((fluid & air).any()) or not bool(fluid.flatten(1).any(1).all()):
            raise InputError("A cell is fluid or open, not both, and every system needs some fluid.")
        ring = (Boundary.PERIODIC, Boundary.PERIODIC)
        self.ends = tuple(ring if a.periodic else pair for a, pair in zip(grid.axes, pairs, strict=True))
        below: list[Tensor] = []
        above: list[Tensor] = []
        centre = torch.zeros(fluid.shape, dtype=dtype, device=fluid.device)
        for along, (h, pair) in enumerate(zip(grid.spacing, self.ends, strict=True), start=1):
            for shift, couplings, kind in ((1, below, pair[0]), (-1, above, pair[1])):
                end = _end(fluid, along, shift)
                wall = torch.zeros_like(fluid) if kind is Boundary.PERIODIC else end
                inside = fluid & ~wall
                coupled = inside & torch.roll(fluid, shift, along)
                fixed = inside & torch.roll(air, shift, along)
                weight = 2.0 if kind is Boundary.DIRICHLET else 0.0
                centre = centre + (coupled.to(dtype) + fixed.to(dtype) + weight * (fluid & wall).to(dtype)) / h**2
                couplings.append(-coupled.to(dtype) / h**2)
        own = 2 * sum(1 / h**2 for h in grid.spacing)
        self.fluid, self.open, self.grid = fluid & (centre > 0), air, grid
        super().__init__(
            torch.where(centre > 0, centre, own),
            below,
            above,
            [a.periodic for a in grid.axes],
            hermitian=True,
        )

    @property
    def boundaries(self) -> tuple[Boundary | tuple[Boundary, Boundary], ...]:
        """Of every axis: one where both ends are alike, else the pair."""
        return tuple(low if low is high else (low, high) for low, high in self.ends)

    def __getitem__(self, i: int | slice) -> CellPoisson:
        rows = slice(i, i + 1 or None) if isinstance(i, int) else i
        return CellPoisson(self.fluid[rows], self.grid, self.boundaries, self.open[rows], self.dtype)

    @cached_property
    def _enclosed(self) -> list[Tensor]:
        result = []
        for i in range(self.batch):
            labels = self._labels(i)
            sums = self(self.fluid.to(self.dtype))[i].abs()
            anchored = self.fluid[i] & (sums > 1e-12 * self.centre[i])  # a wall or an opening takes part
            held = set(torch.unique(labels[anchored]).tolist())
            parts = [(labels == k).to(self.dtype) for k in range(1, int(labels.max()) + 1) if k not in held]
            result.append(torch.stack(parts) if parts else self.centre.new_zeros(0, *self.space))
        return result

    def enclosed(self) -> list[Float[Tensor, "parts *space"]]:
        """For every system, the parts of the fluid whose constant is free, as indicators of 0 and 1: the null space."""
        return self._enclosed

    @property
    def singular(self) -> bool:
        """Whether some constant is free in any of the systems."""
        return any(len(parts) for parts in self._enclosed)

    def consistent(self, b: Float[Tensor, "batch *space"]) -> Float[Tensor, "batch *space"]:
        """The nearest right-hand side that has a solution with u = 0 outside the fluid: without sources outside it, and without its
        mean over every enclosed part."""
        b = torch.where(self.fluid, b, 0)
        if not self.singular:
            return b
        groups = b[None] if self.batch == 1 else b[:, None]  # those of one system together
        rows = []
        for group, parts in zip(groups, self._enclosed, strict=True):
            flat, indicators = group.flatten(1), parts.flatten(1)
            rows.append(flat - (flat @ indicators.T / indicators.sum(1)) @ indicators)
        return torch.cat(rows).reshape(b.shape)

    def _labels(self, i: int) -> Tensor:
        """Connected parts of the fluid, numbered from 1; parts that meet across a periodic end have one number."""
        found, count = scipy.ndimage.label(self.fluid[i].cpu().numpy())
        parent = np.arange(count + 1)
        for axis, ring in enumerate(self.ring):
            if not ring:
                continue
            for a, b in zip(np.take(found, 0, axis).ravel(), np.take(found, -1, axis).ravel(), strict=True):
                if a and b and parent[a] != parent[b]:
                    parent[parent == parent[b]] = parent[a]
        _, numbers = np.unique(parent, return_inverse=True)
        return torch.from_numpy(numbers[found]).to(self.centre.device)


def _end(mask: Tensor, axis: int, shift: int) -> Tensor:
    """Where `roll(shift)` along an axis brings a value from beyond its end."""
    n = mask.shape[axis]
    places = torch.arange(n, device=mask.device) == (0 if shift == 1 else n - 1)
    return places.reshape([-1 if d == axis else 1 for d in range(mask.ndim)]).expand_as(mask)
