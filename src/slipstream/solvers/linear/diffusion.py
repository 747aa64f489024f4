"""Diffusion with a coefficient that varies, on cell centres: the operator that elliptic problems are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from slipstream.errors import InputError, ShapeError
from slipstream.grids import Grid
from slipstream.solvers.linear.stencil import Stencil
from slipstream.solvers.linear.transforms import Boundary


class Diffusion(Stencil):
    r""":math:`A u = -\nabla \cdot (a \nabla u) + s u`, conservative and second order; one coefficient field a system.

    Unknowns and coefficients lie at cell centres, faces take the harmonic mean of their two cells, walls are half a cell away.
    A is Hermitian if s is real, definite if moreover ``s >= 0`` and a wall is Dirichlet or s is not zero.

    Parameters
    ----------
    coefficient : a > 0, (batch, \*space).
    grid : its axes are periodic, or have their points at cell centres.
    boundary : of the axes that are not periodic, for all or one an axis: `Boundary.DIRICHLET` or `Boundary.NEUMANN`.
    shift : s, (batch, \*space) or (1, \*space), real or complex, or a number.

    Raises
    ------
    ShapeError : coefficient does not fit the grid. InputError : it is not positive and finite.
    """

    def __init__(
        self,
        coefficient: Float[Tensor, "batch *space"],
        grid: Grid,
        boundary: Boundary | Sequence[Boundary] = Boundary.DIRICHLET,
        shift: Shaped[Tensor, "..."] | float | complex = 0.0,
    ) -> None:
        if tuple(coefficient.shape[1:]) != grid.shape:
            raise ShapeError(f"The coefficient must be (batch, {grid.shape}); got {tuple(coefficient.shape)}.")
        if not bool((coefficient > 0).all() & torch.isfinite(coefficient).all()):
            raise InputError("A diffusion coefficient must be positive and finite everywhere.")
        given = [boundary] * grid.num_dims if isinstance(boundary, Boundary) else list(boundary)
        if len(given) != grid.num_dims:
            raise ShapeError(f"boundary must have one entry an axis, {grid.num_dims}; got {len(given)}.")
        for axis, b in zip(grid.axes, given, strict=True):
            if not axis.periodic and (not axis.centred or b is Boundary.PERIODIC):
                raise InputError(
                    f"Axis {axis.name!r} must be periodic, or have its points at cell centres and walls that are DIRICHLET or NEUMANN."
                )
        self.boundaries = tuple(Boundary.PERIODIC if a.periodic else b for a, b in zip(grid.axes, given, strict=True))
        self.coefficient, self.grid, self.shift = coefficient, grid, shift
        s = shift if isinstance(shift, Tensor) else coefficient.new_tensor(1.0) * shift
        if isinstance(shift, Tensor) and shift.ndim != coefficient.ndim:
            raise ShapeError(f"shift must be a number or (batch, {grid.shape}); got {tuple(shift.shape)}.")
        below, above, centre = [], [], torch.zeros_like(coefficient)
        for i, (h, b) in enumerate(zip(grid.spacing, self.boundaries, strict=True), start=1):
            low, high = _faces(coefficient, i, b)
            centre = centre + (low[0] + high[0] + low[1] + high[1]) / h**2
            below.append(-low[0] / h**2)
            above.append(-high[0] / h**2)
        centre = centre + s
        kind = centre.dtype
        super().__init__(
            centre,
            [c.to(kind).expand_as(centre) for c in below],
            [c.to(kind).expand_as(centre) for c in above],
            [b is Boundary.PERIODIC for b in self.boundaries],
            hermitian=not kind.is_complex,
        )

    @property
    def singular(self) -> bool:
        """Whether constants are in the null space."""
        anchored = any(b is Boundary.DIRICHLET for b in self.boundaries)
        zero = not bool((self.shift != 0).any()) if isinstance(self.shift, Tensor) else self.shift == 0
        return zero and not anchored

    def __getitem__(self, i: int | slice) -> Diffusion:
        rows = slice(i, i + 1 or None) if isinstance(i, int) else i
        shift = self.shift[rows] if isinstance(self.shift, Tensor) and self.shift.shape[0] > 1 else self.shift
        return Diffusion(self.coefficient[rows], self.grid, self.boundaries_given, shift)

    @property
    def boundaries_given(self) -> list[Boundary]:
        return list(self.boundaries)

    def coarser(self) -> Diffusion:
        """The same problem with half the points along each axis: coefficients and shifts are averaged over cells."""
        axes = tuple(replace(a, num_points=a.num_points // 2) for a in self.grid.axes)
        shift = _halved(self.shift) if isinstance(self.shift, Tensor) else self.shift
        return Diffusion(_halved(self.coefficient), Grid(axes), self.boundaries_given, shift)


def _faces(a: Tensor, axis: int, boundary: Boundary) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(to the neighbour, to the wall) on the lower and on the upper face of each cell, per unit spacing."""
    n = a.shape[axis]
    ahead = torch.roll(a, -1, axis)
    high = 2 * a * ahead / (a + ahead)
    low = torch.roll(high, 1, axis)
    if boundary is Boundary.PERIODIC:
        nothing = torch.zeros_like(a)
        return (low, nothing), (high, nothing)
    first = torch.zeros(n, dtype=a.dtype, device=a.device)
    last = first.clone()
    first[0], last[-1] = 1, 1
    shape = [1] * a.ndim
    shape[axis] = n
    first, last = first.reshape(shape), last.reshape(shape)
    wall = 2.0 if boundary is Boundary.DIRICHLET else 0.0
    return (low * (1 - first), wall * a * first), (high * (1 - last), wall * a * last)


def _halved(u: Tensor) -> Tensor:
    for axis in range(1, u.ndim):
        n = u.shape[axis]
        u = (u.narrow(axis, 0, n).unflatten(axis, (n // 2, 2))).mean(axis + 1)
    return u
