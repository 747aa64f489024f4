"""The shallow-water equations on a periodic plane."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.channels import Channel
from slipstream.equations.calculus import Calculus
from slipstream.equations.equation import Equation, Form, Parameter
from slipstream.equations.spectral import Spectral
from slipstream.equations.symbols import slope
from slipstream.trajectories import Parameters


class ShallowWater(Equation):
    r"""A layer of water on a turning plane: vortices and gravity waves together.

    .. math::
        \partial_t h = -\nabla \cdot \left( (H + h)\, u \right), \qquad
        \partial_t u = -u \cdot \nabla u - f\, \hat z \times u - g \nabla h + \nu \Delta u

    Channels: elevation h above the mean depth (m), velocity along x and y (m/s).
    Behaviour: an uneven surface radiates gravity waves at ``sqrt(g H)``; with rotation a balanced part stays behind as vortices of
    about ``sqrt(g H) / f``. Steep waves become bores, which need viscosity.
    Good values: ``|h| < H / 4``, a Froude number ``|u| / sqrt(g H)`` below 0.5. Exponential schemes treat gravity waves and rotation
    exactly, so that steps are limited by the flow, not by the waves.

    Parameters
    ----------
    viscosity : nu, m^2/s. gravity : g, m/s^2. depth : H, m. coriolis : f, 1/s.
    """

    latex = (
        r"\partial_t h = -\nabla \cdot ( (H + h)\, u ), \quad "
        r"\partial_t u = -u \cdot \nabla u - f\, \hat z \times u - g \nabla h + \nu \Delta u"
    )

    def __init__(
        self, viscosity: float = 1e-3, gravity: float = 1.0, depth: float = 1.0, coriolis: float = 0.0
    ) -> None:
        self.viscosity, self.gravity, self.depth, self.coriolis = viscosity, gravity, depth, coriolis
        self.channels = (Channel("elevation", "m"), Channel("velocity_x", "m/s"), Channel("velocity_y", "m/s"))
        self.parameters = {
            "viscosity": Parameter("m^2/s", viscosity, low=0.0),
            "gravity": Parameter("m/s^2", gravity, low=0.0),
            "depth": Parameter("m", depth, low=1e-12),
            "coriolis": Parameter("1/s", coriolis),
        }

    def rate(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        h, v = u[:, :1], u[:, 1:]
        carried = torch.cat([d.multiply(h, v[:, :1]), d.multiply(h, v[:, 1:])], dim=1)
        deflected = p["coriolis"] * torch.cat([v[:, 1:], -v[:, :1]], dim=1)
        return torch.cat(
            [
                -d.div(p["depth"] * v + carried),
                deflected + p["viscosity"] * d.laplace(v) - p["gravity"] * d.grad(h) - d.advect(v, v),
            ],
            dim=1,
        )

    def form(self, d: Spectral) -> Form:
        """Gravity waves and rotation as one 3 x 3 matrix a wavenumber; nine transforms for the rest, by ``u x curl u``."""
        kx, ky = (d.kept * d.symbol(i) for i in range(2))

        def linear(p: Parameters) -> Tensor:
            nu = p["viscosity"]
            ikx, iky = (slope(d.grid, i, nu) for i in range(2))
            zero, f, g, depth = torch.zeros_like(nu), p["coriolis"], p["gravity"], p["depth"]
            decay = -nu * d.square
            parts = [zero, -depth * ikx, -depth * iky, -g * ikx, decay, f, -g * iky, -f, decay]
            whole = [q[:, 0].to(d.dtype.to_complex()) for q in torch.broadcast_tensors(*parts)]
            return torch.stack(whole, dim=1).unflatten(1, (3, 3))

        def nonlinear(u_hat: Tensor, p: Parameters) -> Tensor:
            kept = d.kept * u_hat
            spin = kx * u_hat[:, 2:] - ky * u_hat[:, 1:2]
            h, u, v, spin = d.inverse(torch.cat([kept, spin], dim=1)).split(1, dim=1)
            products = torch.cat([h * u, h * v, 0.5 * (u * u + v * v), spin * v, spin * u], dim=1)
            hu, hv, head, east, south = d.forward(products).split(1, dim=1)
            return torch.cat([-(kx * hu + ky * hv), d.kept * east - kx * head, -(d.kept * south + ky * head)], dim=1)

        return Form(d.forward, d.inverse, lambda half: half, nonlinear, linear)

    def speed(self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters) -> Float[Tensor, "batch dim"]:
        """Of the flow, and of what surface elevation adds to the gravity waves."""
        added = (p["gravity"] / p["depth"]).sqrt() * u[:, :1].abs()
        return (u[:, 1:].abs() + added).flatten(2).amax(-1)

    def invariants(self):
        def energy(u: Tensor, d: Calculus, p: Parameters) -> Tensor:
            h, v = u[:, :1], u[:, 1:]
            density = p["gravity"] * h**2 + (p["depth"] + h) * v.square().sum(1, keepdim=True)
            return 0.5 * density.flatten(1).mean(-1)

        return {"mass": lambda u, d, p: u[:, 0].flatten(1).mean(-1), "energy": energy}
