"""Ready-made problems of two-dimensional incompressible flow."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations.flow import Forcing, ShearForcing, VorticityFlow
from slipstream.grids import Grid
from slipstream.problems.periodic import PeriodicProblem


def random_waves(
    grid: Grid, generator: torch.Generator, peak: float, width: float, rms: float, count: int = 64
) -> Float[Tensor, " *space"]:
    """A sum of plane waves with random directions and phases and |k| around `peak` (float64, mean zero, given rms).

    The random numbers belong to waves, not to points: finer grids see the same field.
    """
    angles = 2 * math.pi * torch.rand(count, generator=generator, dtype=torch.float64)
    phases = 2 * math.pi * torch.rand(count, generator=generator, dtype=torch.float64)
    radii = (peak + width * torch.randn(count, generator=generator, dtype=torch.float64)).clamp(min=1.0)
    unit = 2 * math.pi / torch.tensor(grid.extent, dtype=torch.float64)[:, None]
    waves = torch.round(radii * torch.stack([torch.cos(angles), torch.sin(angles)]) / unit) * unit
    waves = torch.where(waves.abs().sum(0) > 0, waves, unit)
    x = grid.coordinates(torch.float64).flatten(1)
    field = torch.cos(waves.T @ x + phases[:, None]).sum(0)
    return (rms * field / field.square().mean().sqrt()).reshape(grid.shape)


class _PlaneFlow(PeriodicProblem):
    """What the plane flows share: a square, and a viscosity that may vary."""

    equation: VorticityFlow

    def _pose(
        self,
        num_points: int,
        reynolds: float | Sequence[float],
        interval: float,
        extent: float,
        drag: float,
        forcing: Forcing | None,
    ) -> None:
        self._box(num_points, extent, interval, 2, self.warm_up)
        ends = self._ends("reynolds", reynolds)
        self._vary(viscosity=(1 / ends[1], 1 / ends[0]))
        self.equation = VorticityFlow(viscosity=1 / ends[0], drag=drag, forcing=forcing)


class KolmogorovFlow(_PlaneFlow):
    r"""Turbulence driven by a steady shear in a periodic square: chaotic, statistically steady.

    .. math:: \partial_t \omega + u \cdot \nabla \omega = \nu \Delta \omega - \mu \omega - k \cos(k y)

    Frames: vorticity (1/s). Initial states are random waves marched for `warm_up` time units onto the attractor.
    At Reynolds 100 and ``wavenumber=2`` a grid of 64 x 64 resolves the flow; a shear of 4 leaves filaments below it.

    Parameters
    ----------
    num_points : along each axis, even.
    reynolds : 1 / viscosity; a range (low, high) draws one viscosity a run.
    interval : time between frames.
    extent : side of the square. wavenumber : of the shear (angular). amplitude : of the force. drag : mu, 1/s.
    warm_up : time before frames count.
    """

    stationary = True

    def __init__(
        self,
        num_points: int = 64,
        reynolds: float | Sequence[float] = 100.0,
        interval: float = 0.025,
        extent: float = 2 * math.pi,
        wavenumber: float = 2.0,
        amplitude: float = 1.0,
        drag: float = 0.1,
        warm_up: float = 15.0,
    ) -> None:
        self.num_points, self.reynolds, self.extent, self.wavenumber = num_points, reynolds, extent, wavenumber
        self.amplitude, self.drag, self.warm_up, self.interval = amplitude, drag, warm_up, interval
        self._pose(num_points, reynolds, interval, extent, drag, ShearForcing(wavenumber, amplitude))
        scale = 64 * extent / (num_points * 2 * math.pi)
        self._settings(0.00625 * scale, 0.00625 * scale)

    def initial(self, generator: torch.Generator) -> Float[Tensor, "channel *space"]:
        unit = 2 * math.pi / self.extent
        return random_waves(self.grid, generator, 3 * unit, 1.5 * unit, 3.0 * math.sqrt(self.amplitude))[None]


class DecayingFlow(_PlaneFlow):
    r"""Freely decaying turbulence in a periodic square: vortices merge, energy falls slowly, enstrophy fast.

    .. math:: \partial_t \omega + u \cdot \nabla \omega = \nu \Delta \omega

    Frames: vorticity (1/s), rms `strength` at the start.

    Parameters
    ----------
    num_points, reynolds, interval, extent : as in `KolmogorovFlow`; viscosity = 1 / reynolds.
    peak : wavenumber around which the initial spectrum lies. strength : initial rms vorticity.
    warm_up : time before frames count.
    """

    def __init__(
        self,
        num_points: int = 128,
        reynolds: float | Sequence[float] = 200.0,
        interval: float = 0.05,
        extent: float = 2 * math.pi,
        peak: float = 5.0,
        strength: float = 4.0,
        warm_up: float = 0.5,
    ) -> None:
        self.num_points, self.reynolds, self.interval, self.extent = num_points, reynolds, interval, extent
        self.peak, self.strength, self.warm_up = peak, strength, warm_up
        self._pose(num_points, reynolds, interval, extent, 0.0, None)
        scale = 64 * extent / (num_points * 2 * math.pi)
        self._settings(0.00625 * scale, 0.00425 * scale)

    def initial(self, generator: torch.Generator) -> Float[Tensor, "channel *space"]:
        unit = 2 * math.pi / self.extent
        return random_waves(self.grid, generator, self.peak * unit, 1.5 * unit, self.strength)[None]
