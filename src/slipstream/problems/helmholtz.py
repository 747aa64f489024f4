"""Waves of one frequency through an uneven medium."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from slipstream.equations import boundary as conditions
from slipstream.equations.elliptic import Helmholtz
from slipstream.equations.walled import WalledDifferences
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.problems.elliptic import SteadyLinear
from slipstream.problems.media import Medium, SmoothMedium
from slipstream.solvers.linear.choosing import Candidate
from slipstream.solvers.linear.diffusion import Diffusion
from slipstream.solvers.linear.shared import SharedLU
from slipstream.solvers.linear.stencil import Stencil
from slipstream.solvers.linear.systems import Systems
from slipstream.solvers.linear.transforms import Boundary
from slipstream.trajectories import Parameters

POINTS_A_WAVE = 8
"""Least points in a wavelength of the median speed: below, a grid of second order does not carry a wave at all."""


class WaveScattering(SteadyLinear):
    r"""A source sends waves of one frequency through a medium of uneven speed.

    .. math:: -\Delta u - k^2 (1 + i \alpha) u = f, \qquad k = 2 \pi \nu / c(x)

    Walls are open, :math:`\partial_n u = i k u` (waves that meet them squarely leave), or hold u = 0. The fields are ``speed``, c, and
    ``source``, f: a round bump of amplitude 1 at a random place. Frames have two channels, real and imaginary part. Second order needs many
    points a wavelength (10 err by half a radian in ten waves), so the reference is `refine` times as fine.

    Parameters
    ----------
    num_points : cells along each axis, even. frequency : nu, Hz, a number or a range over runs. boundary : "open" or "dirichlet".
    absorption : alpha; a closed box needs a little of it, or resonances have no bound. medium : law of the speed, m/s.
    width : of the source, in extents. num_dims : 2 or 3. extent : side, m. refine : cells of the reference in one of the grid.
    """

    fields = ("speed", "source")
    equation: Helmholtz

    def __init__(
        self,
        num_points: int = 64,
        frequency: float | Sequence[float] = 2.0,
        boundary: str = "open",
        absorption: float = 0.0,
        medium: Medium | None = None,
        width: float = 0.06,
        num_dims: int = 2,
        extent: float = 1.0,
        refine: int = 2,
    ) -> None:
        if boundary not in ("open", "dirichlet"):
            raise InputError(f'WaveScattering expects boundary "open" or "dirichlet"; got {boundary!r}.')
        ends = (frequency, frequency) if isinstance(frequency, (int, float)) else tuple(frequency)
        if len(ends) != 2 or not 0 < ends[0] <= ends[1] < math.inf:
            raise InputError(f"WaveScattering expects frequency as a positive number or a range; got {frequency}.")
        if not (math.isfinite(absorption) and absorption >= 0):
            raise InputError(f"WaveScattering expects absorption >= 0; got {absorption}.")
        if not 0 < width < 1:
            raise InputError(f"WaveScattering expects width in (0, 1) extents; got {width}.")
        self.num_points, self.num_dims, self.extent = num_points, num_dims, extent
        self.frequency, self.boundary, self.absorption, self.width = frequency, boundary, absorption, width
        self.medium: Medium = SmoothMedium(median=1.0, deviation=0.15, length=0.15) if medium is None else medium
        self.equation = Helmholtz(float(ends[0]), absorption)
        self.varying = {"frequency": (float(ends[0]), float(ends[1]))} if ends[0] < ends[1] else {}
        self.walls = Boundary.NEUMANN if boundary == "open" else Boundary.DIRICHLET
        self.way = ("LU", Candidate(SharedLU()))
        self.tolerances = (1e-6,)
        self._box(num_points, num_dims, extent, refine)
        median = getattr(self.medium, "median", None)
        points = math.inf if median is None else median / ends[1] / self.grid.spacing[0]
        if points < POINTS_A_WAVE:
            raise InputError(
                f"WaveScattering has {points:.1f} points a wavelength at {ends[1]:g} Hz; at least {POINTS_A_WAVE} are needed: "
                "more num_points, or a lower frequency."
            )
        self._settings()

    def draw(self, generator: torch.Generator) -> dict[str, Tensor]:
        drawn = super().draw(generator)
        speed = self.medium.draw(self.grid, generator)["medium"]
        place = 0.2 + 0.6 * torch.rand(self.num_dims, generator=generator, dtype=torch.float64)
        x = self.grid.coordinates(torch.float64) / self.extent - place.reshape(-1, *[1] * self.num_dims)
        bump = (-0.5 * x.square().sum(0) / self.width**2).exp()
        return {**drawn, "speed": speed.float(), "source": bump.float()}

    def systems(self, parameters: Parameters, grid: Grid) -> Systems:
        speed = self.cell_values(parameters, "speed", grid, power=-2.0)
        if bool((speed <= 0).any()):
            raise InputError(f"WaveScattering expects a positive speed; the least value is {float(speed.min()):.3g}.")
        f = self.cell_values(parameters, "source", grid)
        frequency = parameters.get("frequency", speed.new_full((1,), self.equation.frequency))
        k = 2 * math.pi * frequency.to(speed).reshape(-1, *[1] * grid.num_dims) / speed
        laplacian = Diffusion(torch.ones_like(speed[:1]), grid, self.walls)
        shift = torch.complex(-(k**2), -self.absorption * k**2)
        if self.boundary == "open":
            shift = shift + _open(k, grid)
        centre = laplacian.centre + shift
        below, above = (
            [c.expand_as(centre).to(centre.dtype) for c in side] for side in (laplacian.below, laplacian.above)
        )
        A = Stencil(centre, below, above, laplacian.ring, hermitian=False)
        return Systems(A, torch.complex(f, torch.zeros_like(f)), speed)

    def calculus(self, like: Tensor, fine: bool = False):
        """Differences between walls that hold u = 0; open ones have no calculus of their own."""
        if self.boundary == "open":
            raise InputError(
                "Open walls mix real and imaginary part, which conditions cannot say; use residual(...) without a calculus."
            )
        sides = {a.name: conditions.Dirichlet(0.0) for a in self.grid.axes}
        return WalledDifferences(
            self.grid, conditions.Conditions(self.channels, sides), dtype=like.dtype, device=like.device
        )


def _open(k: Tensor, grid: Grid) -> Tensor:
    """What open walls add to the centres: ghosts of ``u (1 + i k h / 2) / (1 - i k h / 2)``, so that du/dn = i k u on the wall."""
    added = torch.zeros_like(k, dtype=k.dtype.to_complex())
    for axis, h in enumerate(grid.spacing, start=1):
        n = k.shape[axis]
        leak = torch.complex(torch.zeros_like(k), -k / h) / torch.complex(torch.ones_like(k), -k * h / 2)
        for end in (0, n - 1):
            added.narrow(axis, end, 1).add_(leak.narrow(axis, end, 1))
    return added
