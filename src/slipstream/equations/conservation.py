"""Scalar conservation laws in flux form: what finite volumes march."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from slipstream.equations.burgers import Burgers
from slipstream.equations.calculus import Calculus
from slipstream.equations.equation import Parameter
from slipstream.equations.transport import AdvectionDiffusion
from slipstream.trajectories import Parameters


class TransportLaw(AdvectionDiffusion):
    r"""`AdvectionDiffusion` with its flux ``c u``: for shapes with edges, which Fourier series ring at.

    .. math:: \partial_t u + \nabla \cdot (c u) = \nu \Delta u
    """

    latex = r"\partial_t u + \nabla \cdot (c u) = \nu \Delta u"

    def flux(
        self, u: Float[Tensor, "batch channel *space"], axis: int, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        return p[f"velocity_{'xyz'[axis]}"] * u

    def max_speed(
        self, u: Float[Tensor, "batch channel *space"], axis: int, p: Parameters
    ) -> Float[Tensor, "batch 1 *space"]:
        return p[f"velocity_{'xyz'[axis]}"].abs().expand_as(u[:, :1])

    def remainder(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"] | None:
        return p["diffusivity"] * d.laplace(u) if bool((p["diffusivity"] != 0).any()) else None


class BurgersLaw(Burgers):
    r"""`Burgers` in one dimension in flux form, without viscosity if wanted: fronts become shocks.

    .. math:: \partial_t u + \partial_x (u^2 / 2) = \nu \partial_x^2 u

    Behaviour: with nu = 0 a shock between a and b travels at (a + b) / 2; a fan opens where b > a.

    Parameters
    ----------
    viscosity : nu >= 0, m^2/s.
    """

    latex = r"\partial_t u + \partial_x (u^2 / 2) = \nu \partial_x^2 u"

    def __init__(self, viscosity: float = 0.0) -> None:
        super().__init__(viscosity, 1)
        self.parameters = {"viscosity": Parameter("m^2/s", viscosity, low=0.0)}

    def flux(
        self, u: Float[Tensor, "batch channel *space"], axis: int, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        return 0.5 * u.square()

    def max_speed(
        self, u: Float[Tensor, "batch channel *space"], axis: int, p: Parameters
    ) -> Float[Tensor, "batch 1 *space"]:
        return u.abs()

    def remainder(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"] | None:
        return p["viscosity"] * d.laplace(u) if bool((p["viscosity"] != 0).any()) else None
