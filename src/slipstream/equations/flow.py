"""Incompressible flow in the plane, in vorticity form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from slipstream.channels import Channel
from slipstream.equations.calculus import Calculus
from slipstream.equations.equation import Equation, Form, Parameter
from slipstream.equations.spectral import Spectral
from slipstream.equations.vorticity import VorticityAdvection
from slipstream.grids import Grid
from slipstream.trajectories import Parameters


class Forcing:
    """A steady body force, given as its curl."""

    def curl(self, x: Float[Tensor, "dim *space"]) -> Float[Tensor, " *space"]:
        """Curl of the force (1/s^2) at coordinates `x`."""
        raise TypeError(f"{type(self).__name__} defines no curl(x).")


@dataclass(frozen=True)
class ShearForcing(Forcing):
    """Kolmogorov's shear: force ``amplitude * sin(wavenumber * y)`` along x (angular wavenumber, m/s^2)."""

    wavenumber: float = 4.0
    amplitude: float = 1.0

    def curl(self, x: Float[Tensor, "dim *space"]) -> Float[Tensor, " *space"]:
        return -self.amplitude * self.wavenumber * torch.cos(self.wavenumber * x[1])


@dataclass(frozen=True)
class DiagonalForcing(Forcing):
    """Curl of the force ``amplitude * (sin(a) + cos(a))``, ``a = wavenumber * (x + y)``: usual in operator-learning data sets."""

    wavenumber: float = 1.0
    amplitude: float = 0.1

    def curl(self, x: Float[Tensor, "dim *space"]) -> Float[Tensor, " *space"]:
        a = self.wavenumber * (x[0] + x[1])
        return self.amplitude * (torch.sin(a) + torch.cos(a))


class VorticityFlow(Equation):
    r"""Two-dimensional incompressible Navier-Stokes on the periodic plane.

    .. math::
        \partial_t \omega + u \cdot \nabla \omega = \nu \Delta \omega - \mu \omega + \nabla \times f, \qquad
        u = (\partial_y \psi, -\partial_x \psi), \quad \Delta \psi = -\omega

    Channels: vorticity (1/s); the mean flow is zero.
    Behaviour: vortices of one sign merge and grow, filaments between them are stretched until viscosity takes them.
    Good values: the smallest scale is about ``(nu^3 / chi)^(1/6)`` with chi the rate at which enstrophy is dissipated.

    Parameters
    ----------
    viscosity : nu, m^2/s. drag : mu, 1/s. Both are defaults; a problem may give one value a run.
    forcing : steady body force, or None. A run may add its own curl of a force, the parameter ``forcing`` of shape
        (batch, *space).
    """

    latex = r"\partial_t \omega + u \cdot \nabla \omega = \nu \Delta \omega - \mu \omega + \nabla \times f"

    def __init__(self, viscosity: float = 1e-2, drag: float = 0.0, forcing: Forcing | None = None) -> None:
        self.viscosity, self.drag, self.forcing = viscosity, drag, forcing
        self.channels = (Channel("vorticity", "1/s"),)
        self.parameters = {
            "viscosity": Parameter("m^2/s", viscosity, low=0.0),
            "drag": Parameter("1/s", drag, low=0.0),
            "forcing": Parameter("1/s^2", 0.0),
        }

    def velocity(self, w: Float[Tensor, "batch 1 *space"], d: Calculus) -> Float[Tensor, "batch 2 *space"]:
        """The divergence-free, mean-free velocity (m/s) of a vorticity."""
        psi = -d.inverse_laplace(w)
        return torch.cat([d.dy(psi), -d.dx(psi)], dim=1)

    def rate(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        push = p["forcing"] if self.forcing is None else p["forcing"] + self.forcing.curl(d.coordinates())
        return p["viscosity"] * d.laplace(u) - p["drag"] * u - d.advect(self.velocity(u, d), u) + push

    def linear(self, grid: Grid, p: Parameters) -> Shaped[Tensor, "batch channel *wavenumber"]:
        nu = p["viscosity"]
        kx, ky = (k.to(nu) for k in grid.wavenumbers(nu.dtype))
        return -nu * (kx**2 + ky**2) - p["drag"]

    def nonlinear(
        self, u_hat: Shaped[Tensor, "batch channel *wavenumber"], d: Spectral, p: Parameters
    ) -> Shaped[Tensor, "batch channel *wavenumber"]:
        # curl div(u u) = (dxx - dyy)(u v) + dxy(v^2 - u^2): two transforms down, two up.
        kx, ky = d.wavenumbers
        psi = d.kept * d._inverse_square * u_hat
        u, v = d.inverse(torch.cat([1j * ky * psi, -1j * kx * psi], dim=1)).split(1, dim=1)
        products = d.forward(torch.cat([u * v, u * u - v * v], dim=1))
        advection = (ky**2 - kx**2) * products[:, :1] + kx * ky * products[:, 1:]
        return -d.kept * advection

    def form(self, d: Spectral) -> Form:
        """The kept modes as a centred box: two complex transforms an evaluation instead of four real ones."""
        advection = VorticityAdvection(d.grid, d.dtype, d.device, factor=-1.0)
        modes = advection.modes
        return Form(
            modes.forward,
            lambda box, grid: d.inverse(modes.to_half(box), grid),
            modes.from_half,
            lambda box, p: advection.centred(box),
        )

    def force(self, d: Spectral, p: Parameters) -> Shaped[Tensor, "batch channel *wavenumber"]:
        push = p["forcing"].expand(-1, -1, *d.grid.shape)
        if self.forcing is not None:
            push = push + self.forcing.curl(d.coordinates())
        return d.forward(push)

    def speed(self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters) -> Float[Tensor, "batch dim"]:
        return self.velocity(u, d).flatten(2).abs().amax(-1)

    def invariants(self):
        def energy(w: Tensor, d: Calculus, p: Parameters) -> Tensor:
            return 0.5 * (self.velocity(w, d) ** 2).sum(1).flatten(1).mean(-1)

        return {"energy": energy, "enstrophy": lambda w, d, p: 0.5 * (w**2).flatten(1).mean(-1)}
