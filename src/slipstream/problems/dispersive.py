"""Ready-made problems of dispersive waves: solitons and wave packets."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations.kdv import KortewegDeVries
from slipstream.equations.schroedinger import Schroedinger
from slipstream.problems.periodic import PeriodicProblem, smooth_field
from slipstream.solvers.schemes import ETDRK4


class Solitons(PeriodicProblem):
    r"""Long water waves: solitons of different height that overtake each other and come out unchanged.

    .. math:: \partial_t u + 6\, u\, \partial_x u + b\, \partial_x^3 u = 0

    Frames: elevation. Each run starts as a sum of `count` solitons of random speed and place, and small waves between them.

    Parameters
    ----------
    num_points : even. dispersion : b, a number or a range (low, high) over runs. interval : time between frames.
    extent : length of the box. count : solitons. fastest : the highest speed of one.
    """

    def __init__(
        self,
        num_points: int = 128,
        dispersion: float | Sequence[float] = 1.0,
        interval: float = 0.02,
        extent: float = 32.0,
        count: int = 3,
        fastest: float = 4.0,
    ) -> None:
        self.num_points, self.dispersion, self.interval = num_points, dispersion, interval
        self.extent, self.count, self.fastest = extent, count, fastest
        self._box(num_points, extent, interval, 1)
        self._ends("fastest", fastest)
        self._b = self._vary(dispersion=dispersion)["dispersion"]
        self.equation = KortewegDeVries(self._b, 6.0)
        dt = 0.1 * extent / num_points / (3 * fastest)
        self._settings(dt, dt / 2, fast=ETDRK4)

    def initial(self, generator: torch.Generator) -> Float[Tensor, "channel *space"]:
        speed, place = torch.rand(2, self.count, 1, generator=generator, dtype=torch.float64)
        c = self.fastest * (0.2 + 0.8 * speed)
        x = self.grid.coordinates(torch.float64)
        # Solitons of their periodic images too: the state has no seam.
        images = torch.arange(-2, 3, dtype=torch.float64)[:, None, None] * self.extent
        hump = 0.5 * c / torch.cosh(0.5 * torch.sqrt(c / self._b) * (x - self.extent * place - images)) ** 2
        return hump.sum((0, 1))[None] + 0.01 * smooth_field(self.grid, generator, 6)


class WavePackets(PeriodicProblem):
    r"""Packets of waves that focus themselves, pass through each other and beat.

    .. math:: i\, \partial_t \psi + \tfrac12 \Delta \psi + g\, |\psi|^2 \psi = 0

    Frames: real and imaginary part of psi.

    Parameters
    ----------
    num_points : along each axis, even. attraction : g, a number or a range (low, high) over runs; negative repels.
    interval : time between frames. extent : side of the box. num_dims : 1, 2 or 3. count : packets.
    """

    def __init__(
        self,
        num_points: int = 128,
        attraction: float | Sequence[float] = (0.5, 1.0),
        interval: float = 0.05,
        extent: float = 20.0,
        num_dims: int = 1,
        count: int = 3,
    ) -> None:
        self.num_points, self.attraction, self.interval = num_points, attraction, interval
        self.extent, self.num_dims, self.count = extent, num_dims, count
        self._box(num_points, extent, interval, num_dims)
        self.equation = Schroedinger(self._vary(False, attraction=attraction)["attraction"], 0.5, num_dims)
        self._settings(interval / 4, interval / 8)

    def initial(self, generator: torch.Generator) -> Float[Tensor, "channel *space"]:
        x = self.grid.coordinates(torch.float64)
        shape = (-1, *[1] * self.num_dims)
        total = torch.zeros(self.grid.shape, dtype=torch.complex128)
        for _ in range(self.count):
            place, wave = torch.rand(2, self.num_dims, generator=generator, dtype=torch.float64)
            size, phase = torch.rand(2, generator=generator, dtype=torch.float64)
            k = 2 * math.pi / self.extent * torch.round(6 * (wave - 0.5)).reshape(shape)
            # A bump with the period of the box: exp(cos - 1) is a Gaussian near its top.
            near = (torch.cos(2 * math.pi / self.extent * x - 2 * math.pi * place.reshape(shape)) - 1).sum(0)
            bump = torch.exp(near * (self.extent / (2 * math.pi * 1.5)) ** 2)
            total = total + (0.6 + 0.6 * size) * bump * torch.exp(1j * ((k * x).sum(0) + 2 * math.pi * phase))
        return torch.stack([total.real, total.imag])
