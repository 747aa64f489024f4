"""Incompressible flow in three dimensions."""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from slipstream.channels import Channel
from slipstream.equations.calculus import Calculus
from slipstream.equations.equation import Equation, Form, Parameter
from slipstream.equations.kept import KeptModes
from slipstream.equations.spectral import Spectral
from slipstream.equations.symbols import laplacian
from slipstream.grids import Grid
from slipstream.trajectories import Parameters


class NavierStokes(Equation):
    r"""Incompressible Navier-Stokes in a periodic box; the pressure is projected out.

    .. math:: \partial_t u = P \left( -u \cdot \nabla u \right) + \nu \Delta u, \qquad \nabla \cdot u = 0

    Channels: velocity along x, y and z (m/s), divergence-free (only the divergence-free part of a given state is moved around).
    Behaviour: vortices stretch, roll up into tubes and break down to scales of ``(nu^3 / epsilon)^(1/4)``, epsilon the dissipation.
    Good values: the Taylor-Green vortex at Reynolds 1600 (``nu = 1/1600``, box of side 2 pi) needs 256^3 points to be resolved,
    Reynolds 100 needs 32^3 to 48^3; ``k_max eta > 1.5``.

    Parameters
    ----------
    viscosity : nu, m^2/s.

    Notes
    -----
    Steppers march the kept wavenumbers alone. With the pressure gone, only five of the six products of velocities count (the
    trace is a gradient): eight transforms an evaluation. Source: Basdevant, J. Comput. Phys. 50 (1983) 209.
    """

    latex = r"\partial_t u = P ( -u \cdot \nabla u ) + \nu \Delta u, \quad \nabla \cdot u = 0"

    def __init__(self, viscosity: float = 1e-2) -> None:
        self.viscosity = viscosity
        self.channels = tuple(Channel(f"velocity_{a}", "m/s") for a in "xyz")
        self.parameters = {"viscosity": Parameter("m^2/s", viscosity, low=0.0)}

    def rate(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        v = self.project(u, d)
        return p["viscosity"] * d.laplace(u) - self.project(d.advect(v, v), d)

    @staticmethod
    def project(v: Float[Tensor, "batch 3 *space"], d: Calculus) -> Float[Tensor, "batch 3 *space"]:
        """The divergence-free part of a vector field."""
        return v - d.grad(d.inverse_laplace(d.div(v)))

    def linear(self, grid: Grid, p: Parameters) -> Shaped[Tensor, "batch channel *wavenumber"]:
        return p["viscosity"] * laplacian(grid, p["viscosity"])

    def nonlinear(
        self, u_hat: Shaped[Tensor, "batch channel *wavenumber"], d: Spectral, p: Parameters
    ) -> Shaped[Tensor, "batch channel *wavenumber"]:
        advection = _Advection(d)
        return advection.modes.to_half(advection(advection.modes.from_half(u_hat)))

    def form(self, d: Spectral) -> Form:
        """The kept wavenumbers alone: 0.3 of a half spectrum."""
        advection = _Advection(d)
        modes = advection.modes
        return Form(
            modes.forward,
            lambda kept, grid: d.inverse(modes.to_half(kept), grid),
            modes.from_half,
            lambda kept, p: advection(kept),
        )

    def speed(self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters) -> Float[Tensor, "batch dim"]:
        return u.flatten(2).abs().amax(-1)

    def invariants(self):
        def helicity(u: Tensor, d: Calculus, p: Parameters) -> Tensor:
            return (u * d.curl(u)).sum(1).flatten(1).mean(-1)

        return {"energy": lambda u, d, p: 0.5 * u.square().sum(1).flatten(1).mean(-1), "helicity": helicity}


class _Advection:
    """``-P div(u u)`` from kept coefficients to kept coefficients."""

    def __init__(self, d: Spectral) -> None:
        self.modes = KeptModes(d.grid)
        k = torch.stack(torch.broadcast_tensors(*self.modes.small.wavenumbers(torch.float64)))
        square = k.square().sum(0)
        inverse = torch.where(square > 0, 1 / square.clamp(min=1e-30), torch.zeros_like(square))
        project = torch.eye(3, dtype=torch.float64).reshape(3, 3, *[1] * square.ndim) - k[:, None] * k * inverse
        kx, ky, kz = k
        zero = torch.zeros_like(kx)
        # Divergence of the stress, product by product: columns for uu - ww, vv - ww, uv, uw and vw; w's own is the trace.
        rows = [[kx, zero, ky, kz, zero], [zero, ky, kx, zero, kz], [zero, zero, zero, kx, ky]]
        divergence = torch.stack([torch.stack(row) for row in rows])
        moved = torch.einsum("ij...,jk...->ik...", project, divergence)
        kind = d.dtype.to_complex()
        self._k, self._pressure = k.to(d.device, kind), (k * inverse).to(d.device, kind)
        self._moved = (-1j * moved).to(d.device, kind).unbind(1)

    def _solenoidal(self, v: Tensor) -> Tensor:
        pressure = (self._pressure * v).sum(1, keepdim=True)
        return torch.addcmul(v, self._k, pressure, value=-1)

    def __call__(self, u_hat: Tensor) -> Tensor:
        u, v, w = self.modes.inverse(self._solenoidal(u_hat)).split(1, dim=1)
        ww = w * w
        products = torch.cat([u * u - ww, v * v - ww, u * v, u * w, v * w], dim=1)
        first, *others = self.modes.forward(products).split(1, dim=1)
        total = self._moved[0] * first
        for column, product in zip(self._moved[1:], others, strict=True):
            total = torch.addcmul(total, column, product)
        return total
