"""Reaction and diffusion: what grows where it is, and spreads."""

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


class FisherKPP(Equation):
    r"""A population that multiplies until the land is full, and spreads.

    .. math:: \partial_t u = \nu \Delta u + r\, u (1 - u)

    Channels: density, relative to what the land bears.
    Behaviour: fronts run into empty land (u = 0) at ``2 sqrt(nu r)`` or faster, about ``sqrt(nu / r)`` wide; u = 1 is stable.
    Good values: u in [0, 1]; nu = 1e-3, r = 1 on a box of unit length. Four points for the width of a front.

    Parameters
    ----------
    diffusivity : nu, m^2/s. growth : r, 1/s. num_dims : number of axes.
    """

    latex = r"\partial_t u = \nu \Delta u + r\, u (1 - u)"
    dealias = False

    def __init__(self, diffusivity: float = 1e-3, growth: float = 1.0, num_dims: int = 1) -> None:
        self.diffusivity, self.growth, self.num_dims = diffusivity, growth, num_dims
        self.channels = (Channel("density"),)
        self.parameters = {
            "diffusivity": Parameter("m^2/s", diffusivity, low=0.0),
            "growth": Parameter("1/s", growth),
        }

    def rate(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        return p["diffusivity"] * d.laplace(u) + p["growth"] * (u - d.multiply(u, u))

    def linear(self, grid: Grid, p: Parameters) -> Shaped[Tensor, "batch channel *wavenumber"]:
        return p["diffusivity"] * laplacian(grid, p["diffusivity"]) + p["growth"]

    def nonlinear(
        self, u_hat: Shaped[Tensor, "batch channel *wavenumber"], d: Spectral, p: Parameters
    ) -> Shaped[Tensor, "batch channel *wavenumber"]:
        return d.cut(-p["growth"]) * d.forward(d.inverse(d.cut(u_hat)).square())


class AllenCahn(Equation):
    r"""Two phases, u = 1 and u = -1, that separate and coarsen.

    .. math:: \partial_t u = \nu \Delta u + r\, (u - u^3)

    Channels: phase.
    Behaviour: noise becomes domains within a few 1 / r; walls ``sqrt(2 nu / r)`` wide then move by their
    curvature, until one phase is left.
    Good values: nu = 1e-4, r = 5 on a box of 2; four points for the width of a wall. The free energy never rises.

    Parameters
    ----------
    diffusivity : nu, m^2/s. reaction : r, 1/s. num_dims : number of axes.
    """

    latex = r"\partial_t u = \nu \Delta u + r\, (u - u^3)"
    dealias = False

    def __init__(self, diffusivity: float = 1e-4, reaction: float = 5.0, num_dims: int = 1) -> None:
        self.diffusivity, self.reaction, self.num_dims = diffusivity, reaction, num_dims
        self.channels = (Channel("phase"),)
        self.parameters = {
            "diffusivity": Parameter("m^2/s", diffusivity, low=0.0),
            "reaction": Parameter("1/s", reaction),
        }

    def rate(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        return p["diffusivity"] * d.laplace(u) + p["reaction"] * (u - d.pointwise(_cube, u))

    def linear(self, grid: Grid, p: Parameters) -> Shaped[Tensor, "batch channel *wavenumber"]:
        return p["diffusivity"] * laplacian(grid, p["diffusivity"]) + p["reaction"]

    def nonlinear(
        self, u_hat: Shaped[Tensor, "batch channel *wavenumber"], d: Spectral, p: Parameters
    ) -> Shaped[Tensor, "batch channel *wavenumber"]:
        return d.cut(-p["reaction"]) * d.forward(_cube(d.inverse(d.cut(u_hat))))

    def invariants(self):
        def energy(u: Tensor, d: Calculus, p: Parameters) -> Tensor:
            steep = d.grad(u).square().sum(1, keepdim=True)
            density = 0.5 * p["diffusivity"] * steep + 0.25 * p["reaction"] * (1 - u.square()).square()
            return density.flatten(1).mean(-1)

        return {"free energy": energy}


class GrayScott(Equation):
    r"""Two chemicals: one is fed, the other eats it and multiplies.

    .. math::
        \partial_t u = D_u \Delta u - u v^2 + F (1 - u), \qquad
        \partial_t v = D_v \Delta v + u v^2 - (F + k) v

    Channels: feed u, catalyst v (relative concentrations).
    Behaviour: spots divide, stripes grow, worms and spirals form, depending on (F, k); it takes some 1000 time units to fill a box of 2.5.
    Good values: D_u = 2e-5, D_v = 1e-5 on a box of 2.5 with 128 to 256 points; (F, k) = (0.035, 0.065) spots, (0.03, 0.057) labyrinths,
    (0.014, 0.054) moving spots (Pearson, Science 261 (1993) 189).

    Parameters
    ----------
    feed : F, 1/s. kill : k, 1/s. diffusivity_u, diffusivity_v : D_u, D_v, m^2/s. num_dims : number of axes.
    """

    latex = r"\partial_t u = D_u \Delta u - u v^2 + F (1 - u), \quad \partial_t v = D_v \Delta v + u v^2 - (F + k) v"
    dealias = False

    def __init__(
        self,
        feed: float = 0.035,
        kill: float = 0.065,
        diffusivity_u: float = 2e-5,
        diffusivity_v: float = 1e-5,
        num_dims: int = 2,
    ) -> None:
        self.feed, self.kill, self.num_dims = feed, kill, num_dims
        self.diffusivity_u, self.diffusivity_v = diffusivity_u, diffusivity_v
        self.channels = (Channel("feed"), Channel("catalyst"))
        self.parameters = {
            "feed": Parameter("1/s", feed, low=0.0),
            "kill": Parameter("1/s", kill, low=0.0),
            "diffusivity_u": Parameter("m^2/s", diffusivity_u, low=0.0),
            "diffusivity_v": Parameter("m^2/s", diffusivity_v, low=0.0),
        }

    def rate(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        a, b = u.split(1, dim=1)
        spread = d.laplace(u)
        eaten = d.pointwise(lambda x, y: x * y * y, a, b)
        return torch.cat(
            [
                p["diffusivity_u"] * spread[:, :1] - eaten + p["feed"] * (1 - a),
                p["diffusivity_v"] * spread[:, 1:] + eaten - (p["feed"] + p["kill"]) * b,
            ],
            dim=1,
        )

    def linear(self, grid: Grid, p: Parameters) -> Shaped[Tensor, "batch channel *wavenumber"]:
        s = laplacian(grid, p["feed"])
        parts = [p["diffusivity_u"] * s - p["feed"], p["diffusivity_v"] * s - (p["feed"] + p["kill"])]
        return torch.cat(torch.broadcast_tensors(*parts), dim=1)

    def nonlinear(
        self, u_hat: Shaped[Tensor, "batch channel *wavenumber"], d: Spectral, p: Parameters
    ) -> Shaped[Tensor, "batch channel *wavenumber"]:
        return self._eat(d)(u_hat, p)

    def form(self, d: Spectral) -> Form:
        return replace(super().form(d), nonlinear=self._eat(d))

    @staticmethod
    def _eat(d: Spectral) -> Callable[[Tensor, Parameters], Tensor]:
        # What one loses the other gains: one product comes down, once.
        signed = d.cut(d.square.new_tensor([-1.0, 1.0]).reshape(2, *[1] * d.num_dims))

        def nonlinear(u_hat: Tensor, p: Parameters) -> Tensor:
            a, b = d.inverse(d.cut(u_hat)).split(1, dim=1)
            return signed * d.forward(a * b * b)

        return nonlinear

    def force(self, d: Spectral, p: Parameters) -> Shaped[Tensor, "batch channel *wavenumber"]:
        fed = (d.square == 0) * p["feed"] * d.grid.size
        return torch.cat([fed, torch.zeros_like(fed)], dim=1).to(d.dtype.to_complex())


def _cube(u: Tensor) -> Tensor:
    return u * u * u
