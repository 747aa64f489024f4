"""The Kuramoto-Sivashinsky equation, for slopes and for heights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from slipstream.channels import Channel
from slipstream.equations.calculus import Calculus
from slipstream.equations.equation import Equation, Form, Parameter
from slipstream.equations.spectral import Spectral
from slipstream.equations.symbols import laplacian
from slipstream.grids import Grid
from slipstream.trajectories import Parameters


class KuramotoSivashinsky(Equation):
    r"""Chaos in one dimension: long waves are fed, short ones damped, and steepening carries energy from one to the other.

    .. math:: \partial_t u + u\, \partial_x u + a\, \partial_x^2 u + b\, \partial_x^4 u = 0

    Channels: slope of a flame front (or velocity).
    Behaviour: cells about ``2 pi sqrt(2 b / a)`` wide merge and split without end; neighbouring states part at a rate of about 0.1
    a time unit (a = b = 1).
    Good values: a = b = 1 on a box of 20 to 200; 16 points a cell, that is ``2 num_points >= 4 extent``.

    Parameters
    ----------
    instability : a. hyperviscosity : b > 0.
    """

    latex = r"\partial_t u + u\, \partial_x u + a\, \partial_x^2 u + b\, \partial_x^4 u = 0"

    def __init__(self, instability: float = 1.0, hyperviscosity: float = 1.0) -> None:
        self.instability, self.hyperviscosity = instability, hyperviscosity
        self.channels = (Channel("slope"),)
        self.parameters = {
            "instability": Parameter("", instability),
            "hyperviscosity": Parameter("", hyperviscosity, low=1e-12),
        }

    def rate(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        stiff = p["instability"] * d.derivative(u, 0, 2) + p["hyperviscosity"] * d.derivative(u, 0, 4)
        return -stiff - 0.5 * d.dx(d.multiply(u, u))

    def linear(self, grid: Grid, p: Parameters) -> Shaped[Tensor, "batch channel *wavenumber"]:
        s = laplacian(grid, p["instability"])
        return -p["instability"] * s - p["hyperviscosity"] * s**2

    def nonlinear(
        self, u_hat: Shaped[Tensor, "batch channel *wavenumber"], d: Spectral, p: Parameters
    ) -> Shaped[Tensor, "batch channel *wavenumber"]:
        return self._steepen(d)(u_hat, p)

    def form(self, d: Spectral) -> Form:
        return replace(super().form(d), nonlinear=self._steepen(d))

    @staticmethod
    def _steepen(d: Spectral) -> Callable[[Tensor, Parameters], Tensor]:
        down = -0.5 * d.kept * d.symbol(0)  # once: on a line every call costs as much as a transform
        return lambda u_hat, p: down * d.forward(d.inverse(d.kept * u_hat).square())

    def speed(self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters) -> Float[Tensor, "batch dim"]:
        return u.flatten(2).abs().amax(-1)

    def invariants(self):
        return {"mass": lambda u, d, p: u.flatten(1).mean(-1)}


class KuramotoSivashinskyFront(Equation):
    r"""The same front by its height, in one or two dimensions: a surface of cells that never settles.

    .. math:: \partial_t h + \tfrac12 \left( |\nabla h|^2 - \langle |\nabla h|^2 \rangle \right) + a\, \Delta h + b\, \Delta^2 h = 0

    Channels: height above the mean front, which moves on by itself: its mean is taken out, so that the mean height is kept.
    Behaviour: as `KuramotoSivashinsky`, whose unknown is the slope of this one; in 2D cells of about ``2 pi sqrt(2 b / a)``.
    Good values: a = b = 1 on boxes of 20 to 60, two points a unit of length.

    Parameters
    ----------
    instability : a. hyperviscosity : b > 0. num_dims : 1 or 2.
    """

    latex = (
        r"\partial_t h + \tfrac12 ( |\nabla h|^2 - \langle |\nabla h|^2 \rangle ) + a\, \Delta h + b\, \Delta^2 h = 0"
    )

    def __init__(self, instability: float = 1.0, hyperviscosity: float = 1.0, num_dims: int = 2) -> None:
        self.instability, self.hyperviscosity, self.num_dims = instability, hyperviscosity, num_dims
        self.channels = (Channel("height"),)
        self.parameters = {
            "instability": Parameter("", instability),
            "hyperviscosity": Parameter("", hyperviscosity, low=1e-12),
        }

    def rate(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        curvature = d.laplace(u)
        steep = d.pointwise(lambda g: g.square().sum(1, keepdim=True), d.grad(u))
        without_mean = d.inverse_laplace(d.laplace(steep))
        return -p["instability"] * curvature - p["hyperviscosity"] * d.laplace(curvature) - 0.5 * without_mean

    def linear(self, grid: Grid, p: Parameters) -> Shaped[Tensor, "batch channel *wavenumber"]:
        s = laplacian(grid, p["instability"])
        return -p["instability"] * s - p["hyperviscosity"] * s**2

    def nonlinear(
        self, u_hat: Shaped[Tensor, "batch channel *wavenumber"], d: Spectral, p: Parameters
    ) -> Shaped[Tensor, "batch channel *wavenumber"]:
        kept = d.kept * u_hat
        g = d.inverse(torch.cat([d.symbol(i) * kept for i in range(self.num_dims)], dim=1))
        return (-0.5 * d.kept * (d.square > 0)) * d.forward(g.square().sum(1, keepdim=True))

    def speed(self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters) -> Float[Tensor, "batch dim"]:
        return d.grad(u).flatten(2).abs().amax(-1)

    def invariants(self):
        return {"mean height": lambda u, d, p: u.flatten(1).mean(-1)}
