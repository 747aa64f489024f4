"""The Korteweg-de Vries equation."""

from __future__ import annotations

from jaxtyping import Float, Shaped
from torch import Tensor

from slipstream.channels import Channel
from slipstream.equations.calculus import Calculus
from slipstream.equations.equation import Equation, Parameter
from slipstream.equations.spectral import Spectral
from slipstream.equations.symbols import slope
from slipstream.grids import Grid
from slipstream.trajectories import Parameters


class KortewegDeVries(Equation):
    r"""Long waves in shallow water: steepening against dispersion, and solitons where they balance.

    .. math:: \partial_t u + a\, u\, \partial_x u + b\, \partial_x^3 u = 0

    Channels: elevation.
    Behaviour: a smooth hump breaks up into solitons ``(3 c / a) sech^2(sqrt(c / b) (x - c t) / 2)``, tall ones faster than low ones, that
    pass through each other unchanged.
    Good values: a = 6, b = 1 on a box of 20 to 100; a = 1, b = 0.022^2 on a box of 2 (Zabusky and Kruskal). A soliton is
    ``sqrt(b / c)`` wide: eight points for that length.

    Parameters
    ----------
    dispersion : b. steepening : a.
    """

    latex = r"\partial_t u + a\, u\, \partial_x u + b\, \partial_x^3 u = 0"

    def __init__(self, dispersion: float = 1.0, steepening: float = 6.0) -> None:
        self.dispersion, self.steepening = dispersion, steepening
        self.channels = (Channel("elevation"),)
        self.parameters = {"dispersion": Parameter("", dispersion), "steepening": Parameter("", steepening)}

    def rate(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        return -p["dispersion"] * d.derivative(u, 0, 3) - 0.5 * p["steepening"] * d.dx(d.multiply(u, u))

    def linear(self, grid: Grid, p: Parameters) -> Shaped[Tensor, "batch channel *wavenumber"]:
        return -p["dispersion"] * slope(grid, 0, p["dispersion"]) ** 3

    def nonlinear(
        self, u_hat: Shaped[Tensor, "batch channel *wavenumber"], d: Spectral, p: Parameters
    ) -> Shaped[Tensor, "batch channel *wavenumber"]:
        squared = d.forward(d.inverse(d.kept * u_hat).square())
        return (-0.5 * d.kept * d.symbol(0)) * p["steepening"] * squared

    def speed(self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters) -> Float[Tensor, "batch dim"]:
        return (p["steepening"] * u).flatten(2).abs().amax(-1)

    def invariants(self):
        def hamiltonian(u: Tensor, d: Calculus, p: Parameters) -> Tensor:
            density = p["steepening"] * u**3 / 6 - 0.5 * p["dispersion"] * d.dx(u) ** 2
            return density.flatten(1).mean(-1)

        return {
            "mass": lambda u, d, p: u.flatten(1).mean(-1),
            "momentum": lambda u, d, p: 0.5 * u.square().flatten(1).mean(-1),
            "hamiltonian": hamiltonian,
        }
