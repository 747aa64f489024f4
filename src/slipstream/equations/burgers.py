"""Burgers' equation."""

from __future__ import annotations

from jaxtyping import Float, Shaped
from torch import Tensor

from slipstream.channels import Channel
from slipstream.equations.calculus import Calculus
from slipstream.equations.equation import Equation, Parameter
from slipstream.equations.spectral import Spectral
from slipstream.grids import Grid
from slipstream.trajectories import Parameters


class Burgers(Equation):
    r"""Viscous Burgers: the smallest equation that steepens.

    .. math:: \partial_t u + (u \cdot \nabla) u = \nu \Delta u

    Channels: one velocity component per axis (m/s).
    Behaviour: waves steepen into fronts of width ~ nu / max|u|, then decay.
    Good values: nu from 1e-3 (sharp; needs >= 512 points per unit length) to 1e-1.

    Parameters
    ----------
    viscosity : nu > 0, m^2/s: the default where the problem's parameters name none.
    num_dims : number of axes.
    """

    latex = r"\partial_t u + (u \cdot \nabla) u = \nu \Delta u"

    def __init__(self, viscosity: float = 1e-2, num_dims: int = 1) -> None:
        self.viscosity, self.num_dims = viscosity, num_dims
        names = ["velocity"] if num_dims == 1 else [f"velocity_{a}" for a in "xyz"[:num_dims]]
        self.channels = tuple(Channel(n, "m/s") for n in names)
        self.parameters = {"viscosity": Parameter("m^2/s", viscosity, low=1e-12)}

    def rate(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        return p["viscosity"] * d.laplace(u) - d.advect(u, u)

    def linear(self, grid: Grid, p: Parameters) -> Shaped[Tensor, "batch channel *wavenumber"]:
        nu = p["viscosity"]
        k = grid.wavenumbers(nu.dtype)
        return -nu * sum((q**2 for q in k[1:]), k[0] ** 2).to(nu.device)

    def nonlinear(
        self, u_hat: Shaped[Tensor, "batch channel *wavenumber"], d: Spectral, p: Parameters
    ) -> Shaped[Tensor, "batch channel *wavenumber"]:
        u_hat = d.kept * u_hat
        if self.num_dims == 1:  # u u_x = (u^2 / 2)_x: two transforms instead of three
            return -0.5 * d.kept * d.symbol(0) * d.forward(d.inverse(u_hat) ** 2)
        u = d.inverse(u_hat)
        terms = [u[:, i : i + 1] * d.inverse(d.symbol(i) * u_hat) for i in range(self.num_dims)]
        return -d.kept * d.forward(sum(terms[1:], terms[0]))

    def speed(self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters) -> Float[Tensor, "batch dim"]:
        return u.flatten(2).abs().amax(-1)

    def invariants(self):
        return {"momentum": lambda u, d, p: u.flatten(2).mean(-1).sum(1)}
