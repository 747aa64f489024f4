"""The nonlinear Schroedinger equation."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.channels import Channel
from slipstream.equations.calculus import Calculus
from slipstream.equations.equation import Equation, Form, Parameter
from slipstream.equations.spectral import Spectral
from slipstream.equations.symbols import full_wavenumbers
from slipstream.grids import Grid
from slipstream.trajectories import Parameters


class Schroedinger(Equation):
    r"""The envelope of a wave packet: light in a fibre, a cold quantum gas.

    .. math:: i\, \partial_t \psi + a\, \Delta \psi + g\, |\psi|^2 \psi = 0

    Channels: real and imaginary part of psi. Steppers march one complex field.
    Behaviour: with g > 0 packets focus into solitons (and collapse in 2D above a critical mass); with g < 0 they spread, and shocks and
    vortices form.
    Good values: a = 1/2, g = 1 on a box of 10 to 40. Mass, momentum and energy are kept.

    Parameters
    ----------
    attraction : g. dispersion : a. num_dims : number of axes.
    """

    latex = r"i\, \partial_t \psi + a\, \Delta \psi + g\, |\psi|^2 \psi = 0"

    def __init__(self, attraction: float = 1.0, dispersion: float = 0.5, num_dims: int = 1) -> None:
        self.attraction, self.dispersion, self.num_dims = attraction, dispersion, num_dims
        self.channels = (Channel("real part"), Channel("imaginary part"))
        self.parameters = {"attraction": Parameter("", attraction), "dispersion": Parameter("", dispersion)}

    def rate(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        # psi_t = i (a laplace psi + g |psi|^2 psi)
        cubic = d.pointwise(lambda q: q.square().sum(1, keepdim=True) * q, u)
        total = p["dispersion"] * d.laplace(u) + p["attraction"] * cubic
        return torch.cat([-total[:, 1:], total[:, :1]], dim=1)

    def form(self, d: Spectral) -> Form:
        """One complex field: its linear part is diagonal, and an evaluation takes two complex transforms."""
        k = full_wavenumbers(d.grid)
        square = sum((q**2 for q in k[1:]), k[0] ** 2).to(d.device, d.dtype)
        kept = torch.ones((), dtype=torch.float64)
        for q, n, extent in zip(k, d.grid.shape, d.grid.extent, strict=True):
            kept = kept * (q.abs() <= 2 * torch.pi / extent * ((n - 1) // 3) * (1 + 1e-9))
        kept = kept.to(d.device, d.dtype)

        def forward(u: Tensor) -> Tensor:
            return torch.fft.fftn(torch.complex(u[:, :1], u[:, 1:]), dim=d.axes)

        def inverse(psi: Tensor, grid: Grid | None) -> Tensor:
            values = torch.fft.ifftn(psi, dim=d.axes)
            u = torch.cat([values.real, values.imag], dim=1)
            return u if grid is None or grid.shape == d.grid.shape else d.inverse(d.forward(u), grid)

        def nonlinear(psi: Tensor, p: Parameters) -> Tensor:
            values = torch.fft.ifftn(kept * psi, dim=d.axes)
            density = values.real.square() + values.imag.square()
            return (1j * p["attraction"] * kept) * torch.fft.fftn(density * values, dim=d.axes)

        return Form(
            forward,
            inverse,
            lambda half: forward(d.inverse(half)),
            nonlinear,
            lambda p: -1j * p["dispersion"] * square,
        )

    def invariants(self):
        def energy(u: Tensor, d: Calculus, p: Parameters) -> Tensor:
            slopes = torch.stack([d.derivative(u, i) for i in range(self.num_dims)])
            steep = slopes.square().sum((0, 2)).unsqueeze(1)
            density = p["dispersion"] * steep - 0.5 * p["attraction"] * u.square().sum(1, keepdim=True).square()
            return density.flatten(1).mean(-1)

        return {"mass": lambda u, d, p: u.square().sum(1).flatten(1).mean(-1), "energy": energy}
