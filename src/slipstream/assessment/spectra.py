"""Where in wavenumber a field has its variance. Every sum here equals the mean square of the field (Parseval)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.grids import Axis, Grid


def even_extension(u: Float[Tensor, "*lead"], grid: Grid) -> tuple[Float[Tensor, "*lead2"], Grid]:
    """A periodic field of equal mean square: axes with ends are continued by reflection, without a jump.

    A periodic grid passes unchanged. Cell centres are reflected about the end faces (2 n points), points on the ends about
    themselves (2 n - 2 points); in both cases the plain mean over the new points is the mean over the old ones with the
    grid's own weights, so the Fourier modes below are the cosine modes of the box.

    Parameters
    ----------
    u : any leading axes, then the points of `grid`.
    """
    grid.check(u, "even_extension")
    axes = []
    for i, a in enumerate(grid.axes):
        dim = i - grid.num_dims
        if a.periodic:
            axes.append(a)
            continue
        mirrored = u.flip(dim)
        if not a.centred:
            mirrored = mirrored.narrow(dim, 1, a.num_points - 2)
        u = torch.cat([u, mirrored], dim=dim)
        axes.append(Axis(a.name, u.shape[dim], a.start, 2 * a.extent, unit=a.unit))
    return u, Grid(tuple(axes))


def mode_power(u: Float[Tensor, "*lead"], grid: Grid) -> Float[Tensor, "*lead2"]:
    """Mean square carried by each mode of `torch.fft.rfftn` on a periodic grid; the sum over modes is the mean square.

    Modes of the halved axis that stand for themselves and their conjugate count twice.
    """
    dims = tuple(range(-grid.num_dims, 0))
    power = torch.fft.rfftn(u, dim=dims, norm="forward").abs().square()
    n = grid.shape[-1]
    power[..., 1 : (n + 1) // 2] *= 2
    return power


def wave_count(box: Grid, grid: Grid) -> Float[Tensor, " *wavenumber"]:
    """How many waves each mode of `box` (see `even_extension`) lays across the longest axis of `grid`: |k| L / (2 pi).

    On a periodic square this is the length of the integer wave vector; axes with ends also carry half waves. Where the axes
    have different units (space and angle) lengths cannot be compared, and every axis counts its own waves.
    """
    squared = torch.zeros((), dtype=torch.float64)
    for k, a in zip(box.wavenumbers(torch.float64), grid.axes, strict=True):
        length = max(grid.extent) if _one_unit(grid) else a.extent
        squared = squared + (k * length / (2 * math.pi)).square()
    # Whole numbers come out of float arithmetic a rounding error low or high; shells and bands begin exactly at their edges.
    return squared.sqrt().mul(2**20).round().div(2**20)


def _one_unit(grid: Grid) -> bool:
    return len({a.unit for a in grid.axes}) == 1


def energy_spectrum(
    u: Float[Tensor, "*lead"], grid: Grid
) -> tuple[Float[Tensor, " shell"], Float[Tensor, "*lead2 shell"]]:
    """Mean square per shell of wavenumbers, shell j holding j - 1/2 <= |k| / k1 < j + 1/2.

    Parameters
    ----------
    u : any leading axes (batch, time, channel ...), then the points of `grid`, 1-3 axes.

    Returns
    -------
    wavenumber : j k1 with k1 = 2 pi / L of the longest axis, radians per unit of length (j where the axes differ in unit).
    energy : (*leading, shell) in squared units of `u`. Shells reach into the corners of Fourier space, so the sum over them
        equals the mean square of `u` with the grid's weights (no factor 1/2; add the channels of a velocity).
    """
    u, box = even_extension(u, grid)
    count = wave_count(box, grid)
    shells = int(count.max() + 0.5) + 1
    edges = torch.arange(1, shells, dtype=torch.float64) - 0.5
    unit = 2 * math.pi / max(grid.extent) if _one_unit(grid) else 1.0
    return unit * torch.arange(shells, dtype=torch.float64), _binned(mode_power(u, box), count, edges)


def band_power(u: Float[Tensor, "*lead"], grid: Grid, edges: tuple[float, ...]) -> Float[Tensor, "*lead2 band"]:
    """Mean square in the bands [0, e1), [e1, e2), ..., [e_last, inf) of `wave_count`."""
    u, box = even_extension(u, grid)
    return _binned(mode_power(u, box), wave_count(box, grid), torch.tensor(edges, dtype=torch.float64))


def _binned(power: Tensor, count: Tensor, edges: Tensor) -> Tensor:
    """Sum over the modes between consecutive edges."""
    bins = torch.bucketize(count, edges, right=True).flatten().to(power.device)
    flat = power.flatten(-count.ndim)
    return flat.new_zeros((*flat.shape[:-1], len(edges) + 1)).index_add_(-1, bins, flat)
