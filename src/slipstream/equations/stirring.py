"""A scalar that a steady flow stirs: fronts wind up, filaments thin out, diffusion blurs them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from slipstream.channels import Channel
from slipstream.equations.calculus import Calculus
from slipstream.equations.equation import Equation, Form, Parameter
from slipstream.equations.points import Autograd
from slipstream.equations.spectral import Spectral
from slipstream.equations.symbols import laplacian
from slipstream.grids import Grid
from slipstream.trajectories import Parameters


class Stirring:
    """A steady flow in the plane without divergence, of unit strength, periodic in the box that it is made for."""

    def velocity(self, x: Float[Tensor, "2 *space"]) -> Float[Tensor, "2 *space"]:
        """Velocity (m) for a strength of 1/s, at coordinates (m)."""
        raise TypeError(f"{type(self).__name__} defines no velocity(x).")


@dataclass(frozen=True)
class CellularStirring(Stirring):
    """A chequerboard of eddies, ``psi = sin(k x) sin(k y) / k^2``: the fluid in an eye turns at about strength/s.

    ``k = 2 pi cells / extent``; each square of side ``pi / k`` holds one eddy.
    """

    extent: float = 1.0
    cells: int = 1

    def velocity(self, x: Float[Tensor, "2 *space"]) -> Float[Tensor, "2 *space"]:
        k = 2 * math.pi * self.cells / self.extent
        a, b = k * x[0], k * x[1]
        return torch.stack([-torch.sin(a) * torch.cos(b), torch.cos(a) * torch.sin(b)]) / k


@dataclass(frozen=True)
class VortexStirring(Stirring):
    """One vortex in the middle of the box whose angular velocity is ``exp(-r^2 / (2 w^2))``, ``w = extent / 12``.

    Every circle turns as a whole, so that what is carried is known exactly (`origin`). On the edge of the box the flow has died down
    to 2e-8 of its strength.
    """

    extent: float = 1.0

    def _turning(self, x: Float[Tensor, "2 *space"]) -> tuple[Tensor, Tensor, Tensor]:
        a, b = x[0] - self.extent / 2, x[1] - self.extent / 2
        return a, b, torch.exp(-(a**2 + b**2) * (72 / self.extent**2))

    def velocity(self, x: Float[Tensor, "2 *space"]) -> Float[Tensor, "2 *space"]:
        a, b, turning = self._turning(x)
        return torch.stack([-b * turning, a * turning])

    def origin(self, x: Float[Tensor, "2 *space"], turn: float) -> Float[Tensor, "2 *space"]:
        """Where the fluid that is at `x` was when `turn` (strength times time) began."""
        a, b, turning = self._turning(x)
        c, s = torch.cos(turn * turning), torch.sin(turn * turning)
        return torch.stack([a * c + b * s, b * c - a * s]) + self.extent / 2


class StirredScalar(Equation):
    r"""A concentration in a steady flow of eddies.

    .. math:: \partial_t u + s\, v(x) \cdot \nabla u = \kappa \Delta u, \qquad \nabla \cdot v = 0

    Channels: concentration.
    Behaviour: circles of fluid turn at different speeds, so that gradients grow like ``s t`` until diffusion wipes them out
    after about ``(L^2 / (kappa s^2))^(1/3)``. Extremes are never exceeded, the mean is kept; without diffusion every norm is.
    Good values: filaments of width ``L / (s t)`` or ``(kappa / s)^(1/2)``, the wider, need six points.

    Parameters
    ----------
    stirring : the flow. strength : s, 1/s. diffusivity : kappa >= 0, m^2/s.
    """

    latex = r"\partial_t u + s\, v(x) \cdot \nabla u = \kappa \Delta u"

    def __init__(self, stirring: Stirring | None = None, strength: float = 1.0, diffusivity: float = 1e-3) -> None:
        self.stirring, self.strength, self.diffusivity = stirring or CellularStirring(), strength, diffusivity
        self.channels = (Channel("concentration"),)
        self.parameters = {
            "strength": Parameter("1/s", strength),
            "diffusivity": Parameter("m^2/s", diffusivity, low=0.0),
        }

    def _flow(self, d: Calculus) -> Float[Tensor, "one 2 *space"]:
        x = d.coordinates()
        if isinstance(d, Autograd):
            return self.stirring.velocity(x.movedim(1, 0)).movedim(0, 1)
        return self.stirring.velocity(x)[None]

    def rate(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        v = self._flow(d).expand(u.shape[0], *[-1] * (u.ndim - 1))
        return p["diffusivity"] * d.laplace(u) - p["strength"] * d.advect(v, u)

    def linear(self, grid: Grid, p: Parameters) -> Shaped[Tensor, "batch channel *wavenumber"]:
        return p["diffusivity"] * laplacian(grid, p["diffusivity"])

    def nonlinear(
        self, u_hat: Shaped[Tensor, "batch channel *wavenumber"], d: Spectral, p: Parameters
    ) -> Shaped[Tensor, "batch channel *wavenumber"]:
        return self._carried(d)(u_hat, p)

    def _carried(self, d: Spectral) -> Callable[[Tensor, Parameters], Tensor]:
        """Two transforms up and one down, with all that does not change worked out once."""
        v, down = d.truncate(self._flow(d)), -d.kept
        up = d.kept * torch.stack(torch.broadcast_tensors(d.symbol(0), d.symbol(1)))

        def nonlinear(u_hat: Tensor, p: Parameters) -> Tensor:
            slopes = d.inverse(up * u_hat)
            return p["strength"] * (down * d.forward((v * slopes).sum(1, keepdim=True)))

        return nonlinear

    def form(self, d: Spectral) -> Form:
        return Form(d.forward, d.inverse, lambda half: half, self._carried(d))

    def speed(self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters) -> Float[Tensor, "batch dim"]:
        return (p["strength"] * self._flow(d)).flatten(2).abs().amax(-1).expand(u.shape[0], -1)

    def invariants(self):
        return {
            "mass": lambda u, d, p: u.flatten(1).mean(-1),
            "variance": lambda u, d, p: u.square().flatten(1).mean(-1),
        }
