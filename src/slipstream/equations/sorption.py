"""Diffusion through a porous solid that holds part of what passes."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from slipstream.channels import Channel
from slipstream.equations.boundary import Conditions, Dirichlet, Robin
from slipstream.equations.calculus import Calculus
from slipstream.equations.equation import Equation, Parameter
from slipstream.trajectories import Parameters

LEAST = 1e-12
"""Concentrations count as at least this: the slope of the isotherm has no bound at zero."""


class SorbingDiffusion(Equation):
    r"""A contaminant that diffuses through the pores of a soil whose grains take it up, by Freundlich's isotherm.

    .. math::
        \partial_t m(u) = D\, \partial_x^2 u, \qquad
        m(u) = u + \frac{1 - \phi}{\phi} \rho_s k\, u^{n}, \qquad R(u) = m'(u)

    Channels: concentration in the water, relative to that at the inlet.
    Behaviour: with n < 1 thin concentrations are held back most (R grows as u falls), so that what enters has a steep front; it
    gets as deep as ``sqrt(D t / R)``. The steady state knows nothing of the isotherm.
    Good values: the soil of PDEBench, which are the defaults; lengths in m, times in days.

    Parameters
    ----------
    diffusivity : D, m^2/day. porosity : phi, in (0, 1). solid_density : rho_s, kg/m^3. freundlich : k, m^3/kg where n = 1.
    exponent : n, in (0, 1].

    References
    ----------
    Takamoto et al., PDEBench, NeurIPS 2022 (arXiv:2210.07182); Nowak & Guthke, Entropy 18 (2016) 409.
    """

    latex = r"R(u)\, \partial_t u = D\, \partial_x^2 u, \quad R(u) = 1 + \frac{1 - \phi}{\phi} \rho_s k n u^{n - 1}"

    def __init__(
        self,
        diffusivity: float = 5e-4,
        porosity: float = 0.29,
        solid_density: float = 2880.0,
        freundlich: float = 3.5e-4,
        exponent: float = 0.874,
    ) -> None:
        self.diffusivity, self.porosity, self.solid_density = diffusivity, porosity, solid_density
        self.freundlich, self.exponent = freundlich, exponent
        self.channels = (Channel("concentration"),)
        self.parameters = {
            "diffusivity": Parameter("m^2/day", diffusivity, low=0.0),
            "porosity": Parameter("", porosity, low=1e-6, high=1.0),
            "solid_density": Parameter("kg/m^3", solid_density, low=0.0),
            "freundlich": Parameter("m^3/kg", freundlich, low=0.0),
            "exponent": Parameter("", exponent, low=1e-3, high=1.0),
        }

    @staticmethod
    def _capacity(p: Parameters) -> Tensor:
        return (1 - p["porosity"]) / p["porosity"] * p["solid_density"] * p["freundlich"]

    def stored(self, u: Float[Tensor, "batch channel *space"], p: Parameters) -> Float[Tensor, "batch channel *space"]:
        """All of the contaminant, in the water and on the grains, relative to the volume of the pores: m(u)."""
        return u + self._capacity(p) * u.clamp(min=LEAST) ** p["exponent"]

    def retardation(
        self, u: Float[Tensor, "batch channel *space"], p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        """How many times slower than through inert grains: R(u) = m'(u)."""
        n = p["exponent"]
        return 1 + self._capacity(p) * n * u.clamp(min=LEAST) ** (n - 1)

    def rate(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        return p["diffusivity"] * d.laplace(u) / self.retardation(u, p)

    def conditions(self) -> Conditions:
        """At the inlet the concentration is 1; at the outlet ``-D du/dx = u``: what arrives is carried off at 1 m/day (default D)."""
        return Conditions(self.channels, {"x": (Dirichlet(1.0), Robin(1.0, self.diffusivity))})
