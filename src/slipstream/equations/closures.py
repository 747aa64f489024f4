"""Eddy viscosity: what scales below the grid do to those above, by Smagorinsky's closure."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from slipstream.equations.calculus import Calculus
from slipstream.equations.equation import Form, Parameter
from slipstream.equations.flow import Forcing, VorticityFlow
from slipstream.equations.navier_stokes import NavierStokes, _Advection
from slipstream.equations.spectral import Spectral
from slipstream.equations.vorticity import CentredModes
from slipstream.trajectories import Parameters

LILLY = 0.17
"""Smagorinsky's constant of a spectral cut-off in an inertial range (Lilly 1967)."""


def _closure(width: float, smagorinsky: float) -> dict[str, Parameter]:
    return {"width": Parameter("m", width, low=0.0), "smagorinsky": Parameter("", smagorinsky, low=0.0)}


def _stress(strain: Tensor, doubled: Tensor, p: Parameters) -> Tensor:
    """``2 nu_t S`` from components of S and ``2 S:S``, point by point."""
    # A root has no slope at zero, where the stress is smooth.
    viscosity = (p["smagorinsky"] * p["width"]).square() * (doubled + 1e-30).sqrt()
    return 2 * viscosity * strain


class SmagorinskyVorticity(VorticityFlow):
    r"""Large eddies of plane flow: `VorticityFlow` with an eddy viscosity.

    .. math::
        \partial_t \omega + u \cdot \nabla \omega = \nu \Delta \omega - \mu \omega
        + \nabla \times \nabla \cdot (2 \nu_t S) + \nabla \times f, \qquad \nu_t = (C \delta)^2 |S|, \quad |S|^2 = 2 S : S

    Channels: vorticity (1/s) of the resolved flow.
    Behaviour: takes energy out of every strained region, most at the smallest scales; in the plane, where energy goes to larger
    scales, it takes too much. With C = 0 it is `VorticityFlow`.
    Good values: C from 0.1 (shear) to 0.2; delta = pi over the highest wavenumber that is kept.

    Parameters
    ----------
    viscosity, drag, forcing : as in `VorticityFlow`. width : delta, m. smagorinsky : C.

    References
    ----------
    Smagorinsky, Mon. Weather Rev. 91 (1963) 99; Lilly, IBM Scientific Computing Symposium (1967) 195.
    """

    latex = VorticityFlow.latex + r" + \nabla \times \nabla \cdot (2 \nu_t S)"

    def __init__(
        self,
        viscosity: float = 1e-2,
        drag: float = 0.0,
        forcing: Forcing | None = None,
        width: float = 0.1,
        smagorinsky: float = LILLY,
    ) -> None:
        super().__init__(viscosity, drag, forcing)
        self.width, self.smagorinsky = width, smagorinsky
        self.parameters = {**self.parameters, **_closure(width, smagorinsky)}

    def rate(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        psi = -d.inverse_laplace(u)
        strain = torch.cat([d.dx(d.dy(psi)), 0.5 * (d.derivative(psi, 1, 2) - d.derivative(psi, 0, 2))], dim=1)
        stress = d.pointwise(lambda s: _stress(s, 4 * s.square().sum(1, keepdim=True), p), strain)
        along, across = stress.split(1, dim=1)
        turned = d.derivative(across, 0, 2) - d.derivative(across, 1, 2) - 2 * d.dx(d.dy(along))
        return super().rate(u, d, p) + turned

    @staticmethod
    def _eddies(
        up: Callable[[Tensor], Tensor], down: Callable[[Tensor], Tensor], kx: Tensor, ky: Tensor
    ) -> Callable[[Tensor, Parameters], Tensor]:
        """The closure from coefficients to coefficients: two real transforms up, two down."""
        square = kx**2 + ky**2
        inverse = torch.where(square > 0, 1 / square.clamp(min=1e-30), torch.zeros_like(square))
        strain = torch.stack([-kx * ky * inverse, 0.5 * (kx**2 - ky**2) * inverse])
        back = torch.stack([2 * kx * ky, ky**2 - kx**2])

        def eddies(w_hat: Tensor, p: Parameters) -> Tensor:
            s = up(strain * w_hat)
            return (back * down(_stress(s, 4 * s.square().sum(1, keepdim=True), p))).sum(1, keepdim=True)

        return eddies

    def nonlinear(
        self, u_hat: Shaped[Tensor, "batch channel *wavenumber"], d: Spectral, p: Parameters
    ) -> Shaped[Tensor, "batch channel *wavenumber"]:
        eddies = self._eddies(d.inverse, d.forward, *d.wavenumbers)
        return super().nonlinear(u_hat, d, p) + d.kept * eddies(d.kept * u_hat, p)

    def form(self, d: Spectral) -> Form:
        plain = super().form(d)
        kx, ky = CentredModes(d.grid, d.dtype, d.device).wavenumbers()
        eddies = self._eddies(lambda box: plain.inverse(box, None), plain.forward, kx, ky)
        return Form(
            plain.forward, plain.inverse, plain.from_half, lambda box, p: plain.nonlinear(box, p) + eddies(box, p)
        )


class SmagorinskyFlow(NavierStokes):
    r"""Large eddies of flow in space: `NavierStokes` with an eddy viscosity.

    .. math::
        \partial_t u = P \left( -u \cdot \nabla u + \nabla \cdot (2 \nu_t S) \right) + \nu \Delta u, \qquad
        \nu_t = (C \delta)^2 |S|, \quad |S|^2 = 2 S : S

    Channels: velocity along x, y and z (m/s) of the resolved flow.
    Behaviour: energy leaves the resolved scales at ``<nu_t |S|^2>``, about what the cascade takes in an inertial range; too much in laminar
    shear. With C = 0 it is `NavierStokes`.
    Good values: C = 0.17 in isotropic turbulence, 0.1 in shear; delta = pi over the highest wavenumber that is kept.

    Parameters
    ----------
    viscosity : nu, m^2/s. width : delta, m. smagorinsky : C.

    References
    ----------
    Smagorinsky, Mon. Weather Rev. 91 (1963) 99; Lilly, IBM Scientific Computing Symposium (1967) 195.
    """

    latex = (
        r"\partial_t u = P ( -u \cdot \nabla u + \nabla \cdot (2 \nu_t S) ) + \nu \Delta u, \quad \nabla \cdot u = 0"
    )

    def __init__(self, viscosity: float = 1e-2, width: float = 0.1, smagorinsky: float = LILLY) -> None:
        super().__init__(viscosity)
        self.width, self.smagorinsky = width, smagorinsky
        self.parameters = {**self.parameters, **_closure(width, smagorinsky)}

    def rate(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        v = self.project(u, d)
        slopes = [d.derivative(v, i) for i in range(3)]
        strain = torch.cat([0.5 * (slopes[i][:, j : j + 1] + slopes[j][:, i : i + 1]) for i, j in _PAIRS], dim=1)
        stress = d.pointwise(lambda s: _stress(s, _doubled(s), p), strain)
        pull = [sum(d.derivative(stress[:, _at(i, j)], j) for j in range(3)) for i in range(3)]
        return super().rate(u, d, p) + self.project(torch.cat(pull, dim=1), d)  # type: ignore[arg-type]

    @staticmethod
    def _eddies(advection: _Advection) -> Callable[[Tensor, Parameters], Tensor]:
        """The closure from kept coefficients to kept coefficients: six transforms up, six down."""
        k = advection._k

        def eddies(u_hat: Tensor, p: Parameters) -> Tensor:
            v = advection._solenoidal(u_hat)
            half = [0.5j * (k[i] * v[:, j] + k[j] * v[:, i]) for i, j in _PAIRS]
            s = advection.modes.inverse(torch.stack(half, dim=1))
            t = advection.modes.forward(_stress(s, _doubled(s), p))
            rows = [[k[j] * t[:, _at(i, j)] for j in range(3)] for i in range(3)]
            pull = torch.cat([a + b + c for a, b, c in rows], dim=1)
            return advection._solenoidal(pull).mul(1j)

        return eddies

    def nonlinear(
        self, u_hat: Shaped[Tensor, "batch channel *wavenumber"], d: Spectral, p: Parameters
    ) -> Shaped[Tensor, "batch channel *wavenumber"]:
        advection = _Advection(d)
        kept = advection.modes.from_half(u_hat)
        return advection.modes.to_half(advection(kept) + self._eddies(advection)(kept, p))

    def form(self, d: Spectral) -> Form:
        plain, eddies = super().form(d), self._eddies(_Advection(d))
        return Form(
            plain.forward, plain.inverse, plain.from_half, lambda kept, p: plain.nonlinear(kept, p) + eddies(kept, p)
        )


_PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))


def _at(i: int, j: int) -> slice:
    place = _PAIRS.index((min(i, j), max(i, j)))
    return slice(place, place + 1)


def _doubled(s: Tensor) -> Tensor:
    """``2 S:S``; components off the diagonal count twice."""
    return 2 * s[:, :3].square().sum(1, keepdim=True) + 4 * s[:, 3:].square().sum(1, keepdim=True)
