"""Ready-made problem of mixing: a front that a steady flow winds up."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations.stirring import CellularStirring, StirredScalar, Stirring, VortexStirring
from slipstream.errors import InputError
from slipstream.problems.periodic import PeriodicProblem


class FlowMixing(PeriodicProblem):
    r"""Two fluids with a front between them, stirred by steady eddies.

    .. math:: \partial_t u + s\, v(x) \cdot \nabla u = \kappa \Delta u, \qquad \nabla \cdot v = 0

    Frames: concentration, near 1 on one side of a front and near -1 on the other. Each run draws the direction of the front and where it
    lies. With the vortex and no diffusion the solution is known: ``u(x, t) = u(stirring.origin(x, s t), 0)``; in the eyes of the eddies
    the front is wound up ``s t / (2 pi)`` times.

    Parameters
    ----------
    num_points : along each axis, even. strength : s, 1/s. diffusivity : kappa, m^2/s. Both may be ranges (low, high) over runs;
        a diffusivity of 0 is allowed. interval : time between frames. extent : side of the square. cells : periods of a chequerboard
        of eddies along each side; 0 is one vortex in the middle. sharpness : the front is ``tanh(sharpness * sin(...))``.

    References
    ----------
    The vortex is a smooth, periodic kin of the level-set test of Tamamidis & Assanis, Int. J. Numer. Methods Fluids 16 (1993) 931.
    """

    equation: StirredScalar

    def __init__(
        self,
        num_points: int = 64,
        strength: float | Sequence[float] = (2.0, 6.0),
        diffusivity: float | Sequence[float] = 1e-3,
        interval: float = 0.05,
        extent: float = 1.0,
        cells: int = 1,
        sharpness: float = 2.0,
    ) -> None:
        self.num_points, self.strength, self.diffusivity, self.interval = num_points, strength, diffusivity, interval
        self.extent, self.cells, self.sharpness = extent, cells, sharpness
        self._box(num_points, extent, interval, 2)
        if not (0 <= cells <= num_points // 8 and 0 < sharpness < math.inf):
            raise InputError(
                f"FlowMixing expects cells from 0 to num_points / 8 and a positive sharpness; got {cells} and {sharpness}."
            )
        low = self._vary(strength=strength)
        kappa = 0.0 if diffusivity == 0 else self._vary(diffusivity=diffusivity)["diffusivity"]
        self.stirring: Stirring = CellularStirring(extent, cells) if cells else VortexStirring(extent)
        self.equation = StirredScalar(self.stirring, low["strength"], kappa)
        fastest = self._ends("strength", strength)[1] * float(
            self.stirring.velocity(self.grid.coordinates(torch.float64)).abs().amax((1, 2)).sum()
        )
        dt = 0.4 * extent / num_points / fastest
        self._settings(dt, dt)

    def initial(self, generator: torch.Generator) -> Float[Tensor, "channel *space"]:
        across = torch.tensor([[0, 1], [1, 0], [1, 1], [1, -1]])[int(torch.randint(4, (), generator=generator))]
        phase = 2 * math.pi * torch.rand((), generator=generator, dtype=torch.float64)
        x = self.grid.coordinates(torch.float64) * (2 * math.pi / self.extent)
        return torch.tanh(self.sharpness * torch.sin((across[:, None, None] * x).sum(0) + phase))[None]
