"""Families of linear systems with random parameters: what data sets of steady problems are made of, and what solvers are tried on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from slipstream.grids import Grid
from slipstream.solvers.linear.diffusion import Diffusion
from slipstream.solvers.linear.stencil import Stencil
from slipstream.solvers.linear.transforms import AxisTransform, Boundary


@dataclass(frozen=True)
class Systems:
    r"""A batch of systems. ``systems[i]`` is ``(A, b)`` of one; ``solve(systems.A, systems.b, ...)`` solves all at once.

    Attributes
    ----------
    A : one matrix a right-hand side.
    b : (batch, \*space).
    parameters : what the systems differ in, (batch, ...): what an order is made from.
    """

    A: Stencil
    b: Shaped[Tensor, "batch *space"]
    parameters: Float[Tensor, "batch ..."]

    def __len__(self) -> int:
        return self.b.shape[0]

    def __getitem__(self, i: int) -> tuple[Stencil, Shaped[Tensor, "*space"]]:
        return self.A[i], self.b[i]


def unit_box(num_points: int, dims: int) -> Grid:
    """The unit square or cube, points at cell centres, walls all around."""
    return Grid.box(num_points, 1.0, num_dims=dims, periodic=False)


def gaussian_fields(
    count: int,
    grid: Grid,
    generator: torch.Generator,
    length: float = 0.1,
    smoothness: float = 2.0,
    correlation: float = 0.0,
    dtype: torch.dtype = torch.float64,
) -> Float[Tensor, "count *space"]:
    r"""Gaussian random fields of unit variance with spectrum :math:`(1 + \ell^2 |k|^2)^{-s}` and no flux at walls.

    Parameters
    ----------
    length : l, in the unit of the grid. smoothness : s; at least ``dims / 2`` for a continuous field.
    correlation : of each field with the one before: 0 for independent ones, near 1 for a slow walk (a sweep in time or in a parameter).
    """
    boundaries = [Boundary.PERIODIC if a.periodic else Boundary.NEUMANN for a in grid.axes]
    squared = torch.zeros(grid.shape, dtype=dtype)
    for axis, (b, n, h) in enumerate(zip(boundaries, grid.shape, grid.spacing, strict=True)):
        # Twice the angle of the eigenvalue 4 sin^2 is the wavenumber itself, not that of the second difference.
        k = torch.arange(n, dtype=dtype)
        waves = torch.pi * (k if b is Boundary.NEUMANN else 2 * torch.minimum(k, n - k)) / (n * h)
        shape = [1] * grid.num_dims
        shape[axis] = n
        squared = squared + waves.reshape(shape) ** 2
    spectrum = (1 + length**2 * squared) ** -smoothness
    spectrum = spectrum * (grid.size / spectrum.sum())
    white = torch.randn(count, *grid.shape, generator=generator, dtype=dtype)
    for i in range(1, count if correlation else 0):
        white[i] = correlation * white[i - 1] + (1 - correlation**2) ** 0.5 * white[i]
    fields = white * spectrum.sqrt()
    for axis, (b, n) in enumerate(zip(boundaries, grid.shape, strict=True), start=1):
        fields = AxisTransform(b, n, dtype, fields.device).inverse(fields, axis)
    return fields


def darcy(
    count: int,
    num_points: int,
    generator: torch.Generator,
    dims: int = 2,
    deviation: float = 1.0,
    length: float = 0.1,
    smoothness: float = 2.0,
    correlation: float = 0.0,
) -> Systems:
    r"""Darcy flow :math:`-\nabla\cdot(a\nabla u) = 1`, u = 0 on the walls, ``log a`` Gaussian. Hermitian positive definite.

    Parameters
    ----------
    deviation : standard deviation of log a. length, smoothness, correlation : of log a, see `gaussian_fields`.
    """
    grid = unit_box(num_points, dims)
    log_a = deviation * gaussian_fields(count, grid, generator, length, smoothness, correlation)
    a = log_a.exp()
    return Systems(Diffusion(a, grid), torch.ones_like(a), a)


def helmholtz(
    count: int,
    num_points: int,
    generator: torch.Generator,
    dims: int = 2,
    wavenumber: float = 15.0,
    deviation: float = 1.0,
    absorption: float = 0.02,
    length: float = 0.1,
    smoothness: float = 2.0,
    correlation: float = 0.0,
) -> Systems:
    r"""Waves in an absorbing medium: :math:`-\Delta u - k^2 (1 + i\alpha) u = f`, u = 0 on the walls, one random f for all.

    Complex symmetric, not Hermitian, indefinite. With ``absorption=0`` it is real, Hermitian and indefinite.

    Parameters
    ----------
    wavenumber, deviation : mean and standard deviation of k(x), a Gaussian field, in 1 over the unit of length.
    absorption : alpha.
    """
    grid = unit_box(num_points, dims)
    k = wavenumber + deviation * gaussian_fields(count, grid, generator, length, smoothness, correlation)
    f = gaussian_fields(1, grid, generator, length, smoothness).expand_as(k)
    shift = -(k**2)
    if absorption:
        shift, f = torch.complex(shift, absorption * shift), f.to(torch.complex128)
    return Systems(Diffusion(torch.ones_like(k), grid, shift=shift), f.contiguous(), k)


def convection_diffusion(
    count: int,
    num_points: int,
    generator: torch.Generator,
    dims: int = 3,
    diffusivity: float = 0.02,
    wind: float = 1.0,
    deviation: float = 0.3,
    length: float = 0.2,
    smoothness: float = 2.0,
    correlation: float = 0.0,
) -> Systems:
    r"""Transport in a random wind: :math:`-\nu\Delta u + w\cdot\nabla u = 1`, u = 0 on the walls, first-order upwind. Not Hermitian.

    Parameters
    ----------
    diffusivity : nu.
    wind : mean of w, along the first axis. deviation : standard deviation of each component of w.
    length, smoothness, correlation : of each component of w, see `gaussian_fields`; w need not be free of divergence.
    """
    grid = unit_box(num_points, dims)
    winds = [deviation * gaussian_fields(count, grid, generator, length, smoothness, correlation) for _ in range(dims)]
    winds[0] = winds[0] + wind
    still = Diffusion(torch.full((1, *grid.shape), diffusivity, dtype=torch.float64), grid)
    centre = still.centre.expand(count, *grid.shape)
    below, above = [], []
    for i, (w, h) in enumerate(zip(winds, grid.spacing, strict=True)):
        inside_low, inside_high = still.below[i] != 0, still.above[i] != 0
        centre = centre + w.abs() / h
        below.append(still.below[i] - w.clamp(min=0) / h * inside_low)
        above.append(still.above[i] + w.clamp(max=0) / h * inside_high)
    A = Stencil(centre, below, above, [False] * dims, hermitian=False)
    return Systems(A, torch.ones(count, *grid.shape, dtype=torch.float64), torch.stack(winds, dim=1))
