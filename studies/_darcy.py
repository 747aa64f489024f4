"""Darcy flow through two rocks: where a Gaussian field is positive the ground lets four times as much through."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from slipstream.grids import Grid
from slipstream.solvers.linear import LU, Diffusion, Solver
from slipstream.solvers.linear.systems import gaussian_fields, unit_box

PHASES = (3.0, 12.0)


@dataclass(frozen=True)
class Samples:
    """Permeabilities and pressures (sample, 1, x, y), scaled: the inputs to -1 and 1, the pressures by one number for all sets."""

    inputs: Tensor
    targets: Tensor
    grid: Grid


PRESSURE = 0.01
"""Typical pressure; relative errors do not know it."""


def darcy(count: int, num_points: int, seed: int, length: float = 0.1) -> Samples:
    r"""Samples of :math:`-\nabla\cdot(a\nabla u) = 1` on the unit square, u = 0 on its walls.

    By sparse LU, with harmonic means on faces.
    """
    generator, grid = torch.Generator().manual_seed(seed), unit_box(num_points, 2)
    rough = gaussian_fields(count, grid, generator, length, smoothness=2.0)
    a = torch.where(rough > 0, PHASES[1], PHASES[0])
    one = torch.ones(grid.shape, dtype=a.dtype)
    u = torch.stack([Solver(Diffusion(c[None], grid), method=LU(), tol=1e-10).solve(one).x for c in a])
    scaled = (a - sum(PHASES) / 2) / ((PHASES[1] - PHASES[0]) / 2)
    return Samples(scaled[:, None].float(), (u / PRESSURE)[:, None].float(), grid)
