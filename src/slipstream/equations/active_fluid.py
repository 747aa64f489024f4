"""An active suspension: rods that swim in place, turn with the flow they make, and align."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Complex, Float, Shaped
from torch import Tensor

from slipstream.channels import Channel
from slipstream.equations.calculus import Calculus
from slipstream.equations.equation import Equation, Parameter
from slipstream.equations.spectral import Spectral
from slipstream.equations.symbols import laplacian
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.trajectories import Parameters

Moments = Complex[Tensor, "batch moment *space"]


class Closure:
    """What stands for the first angular moment that is not marched.

    ``closure(c, z)`` takes the concentration (batch, 1, *space) and the moments Z_1 .. Z_J and gives Z_{J+1}, (batch, 1, *space).
    """

    def __call__(self, c: Float[Tensor, "batch 1 *space"], z: Moments) -> Complex[Tensor, "batch 1 *space"]:
        raise TypeError(f"{type(self).__name__} defines no closure(c, z).")


@dataclass(frozen=True)
class Truncated(Closure):
    """Nothing: the angular Fourier series ends here. With many moments this is the kinetic equation itself."""

    def __call__(self, c: Float[Tensor, "batch 1 *space"], z: Moments) -> Complex[Tensor, "batch 1 *space"]:
        return torch.zeros_like(z[:, -1:])


@dataclass(frozen=True)
class Geometric(Closure):
    """The ratio of the last two moments goes on: ``Z_J^2 / Z_{J-1}``, with Z_0 = c. For one moment this is the quadratic closure.

    Exact for perfect alignment. Where the last two moments do not fall off, which no smooth distribution does, the result is limited to
    the size of the last.
    """

    def __call__(self, c: Float[Tensor, "batch 1 *space"], z: Moments) -> Complex[Tensor, "batch 1 *space"]:
        last = z[:, -1:]
        before = z[:, -2:-1] if z.shape[1] > 1 else c.to(z.dtype)
        size = before.abs()
        tiny = torch.finfo(size.dtype).tiny ** 0.5
        return last * last * before.conj() / (size * torch.maximum(size, last.abs())).clamp(min=tiny)


@dataclass(frozen=True)
class Bingham(Closure):
    r"""The distribution of largest entropy with these first two moments, :math:`\Psi \propto e^{\kappa \cos 2 \theta'}`; for one moment.

    With m = \|Z_1\| / c = I_1(kappa) / I_0(kappa), the next is ``c I_2(kappa) / I_0(kappa)`` along the same direction. Its quotient by
    m^2 is smooth in m^2 and kept as a Chebyshev series.

    Parameters
    ----------
    terms : of the series: 40 are good to 1e-9, 20 to 1e-6 and cheaper.

    Source: Chaubal & Leal, J. Rheol. 42 (1998) 177.
    """

    terms: int = 40

    def __call__(self, c: Float[Tensor, "batch 1 *space"], z: Moments) -> Complex[Tensor, "batch 1 *space"]:
        if z.shape[1] != 1:
            raise InputError(f"Bingham closes a system of one moment; this one has {z.shape[1]}. Use Geometric().")
        share = ((z.real.square() + z.imag.square()) / c.square()).clamp(max=1.0)
        x = 2 * share - 1
        later, latest = torch.zeros_like(x), torch.zeros_like(x)
        for a in reversed(self.series[1:]):
            later, latest = torch.add(2 * x * later - latest, a), later
        return (self.series[0] + x * later - latest) * z * z / c

    @cached_property
    def series(self) -> tuple[float, ...]:
        """Chebyshev coefficients of ``(I_2 / I_0) / m^2`` over m^2 in [0, 1]."""
        import numpy as np
        from scipy.special import ive

        count = self.terms
        nodes = np.cos(np.pi * (np.arange(count) + 0.5) / count)
        m = np.sqrt((nodes + 1) / 2)
        low, high = np.full(count, 1e-12), np.full(count, 1e8)
        for _ in range(200):  # m rises with kappa
            middle = np.sqrt(low * high)
            below = ive(1, middle) / ive(0, middle) < m
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        value = ive(2, low) / ive(0, low) / m**2
        return tuple(float(v) for v in np.polynomial.chebyshev.chebfit(nodes, value, count - 1))


class ActiveSuspension(Equation):
    r"""Active rods in a plane of viscous fluid: the kinetic equation for where they are and where they point, by its angular moments.

    .. math::
        \partial_t \Psi + \nabla \cdot (u \Psi) + \partial_\theta (\dot\theta\, \Psi) = d_T \Delta \Psi + d_R \partial_\theta^2 \Psi, \qquad
        \dot\theta = p_\perp \cdot (\nabla u + 2 \zeta D) \cdot p

    with :math:`D = \langle p p \rangle`, and the Stokes flow of the rods' stress,
    :math:`-\Delta u + \nabla P = \nabla \cdot (\alpha D + \beta S{:}E - 2 \zeta \beta (D \cdot D - S{:}D)), \nabla \cdot u = 0`,
    :math:`S = \langle p p p p \rangle`. Rods have no head, so only even moments :math:`Z_j = \langle e^{2 i j \theta} \rangle` are left:

    .. math::
        \partial_t Z_j + u \cdot \nabla Z_j = i j \omega Z_j + j (q Z_{j-1} - \bar q Z_{j+1}) + d_T \Delta Z_j - 4 j^2 d_R Z_j, \qquad
        q = E_{11} + i E_{12} + \zeta Z_1

    Channels: the concentration Z_0 = c, then cosine and sine parts of Z_1 .. Z_J (Z_1 is twice the traceless part of D).
    Behaviour: pushers (alpha < 0) are unstable at large scales where ``zeta - 4 d_R - (alpha - zeta beta / 2) / (4 + beta / 2) > 0``;
    then jets and vortices come and go in active turbulence. Strong alignment makes nematic order with defects.
    Good values: alpha = -1 to -5, beta = 0.8, zeta = 0 to 2 on a box of 10, d_T = d_R = 0.05; 8 moments, more for strong alignment.

    Parameters
    ----------
    dipole : alpha. density : beta. alignment : zeta. diffusivity : d_T. rotation : d_R.
    moments : J, how many are marched. closure : of the next.
    sweeps : of the stress that depends on the flow itself; each leaves about ``beta / (8 + beta)`` of the error of the last.

    Source: Maddu, Weady & Shelley, J. Comput. Phys. 504 (2024) 112869 (arXiv 2308.06675); Saintillan & Shelley, Phys. Fluids 20 (2008).
    """

    latex = (
        r"\partial_t Z_j + u \cdot \nabla Z_j = i j \omega Z_j + j (q Z_{j-1} - \bar q Z_{j+1}) "
        r"+ d_T \Delta Z_j - 4 j^2 d_R Z_j, \quad q = E_{11} + i E_{12} + \zeta Z_1"
    )

    def __init__(
        self,
        dipole: float = -1.0,
        density: float = 0.8,
        alignment: float = 0.5,
        diffusivity: float = 0.05,
        rotation: float = 0.05,
        moments: int = 8,
        closure: Closure = Truncated(),
        sweeps: int = 8,
    ) -> None:
        if moments < 1 or sweeps < 0:
            raise InputError(f"ActiveSuspension expects moments >= 1 and sweeps >= 0; got {moments} and {sweeps}.")
        self.dipole, self.density, self.alignment = dipole, density, alignment
        self.diffusivity, self.rotation = diffusivity, rotation
        self.moments, self.closure, self.sweeps = moments, closure, sweeps
        orders = (Channel(f"order_{part}{j}") for j in range(1, moments + 1) for part in ("cos", "sin"))
        self.channels = (Channel("concentration"), *orders)
        self.parameters = {
            "dipole": Parameter("", dipole),
            "density": Parameter("", density, low=0.0),
            "alignment": Parameter("", alignment),
            "diffusivity": Parameter("", diffusivity, low=0.0),
            "rotation": Parameter("", rotation, low=0.0),
        }

    def linear(self, grid: Grid, p: Parameters) -> Shaped[Tensor, "batch channel *wavenumber"]:
        ranks = [0.0, *(4.0 * j * j for j in range(1, self.moments + 1) for _ in (0, 1))]
        along = p["rotation"].new_tensor(ranks).reshape(1, -1, *[1] * grid.num_dims)
        return p["diffusivity"] * laplacian(grid, p["diffusivity"]) - p["rotation"] * along

    def rate(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        if isinstance(d, Spectral):
            u_hat = d.forward(u)
            return d.inverse(self.nonlinear(u_hat, d, p) + self.linear(d.grid, p) * u_hat)

        def flow(curl: Tensor) -> Tensor:
            return d.inverse_laplace(d.inverse_laplace(curl)) / (1 + p["density"] / 8)

        def strain(psi: Tensor) -> Tensor:
            return torch.complex(d.dy(d.dx(psi)), 0.5 * (d.derivative(psi, 1, 2) - d.derivative(psi, 0, 2)))

        def curl(stress: Tensor) -> Tensor:
            s, t = stress.real, stress.imag
            return d.derivative(t, 0, 2) - d.derivative(t, 1, 2) - 2 * d.dy(d.dx(s))

        c, z = self._moments(u)
        psi = self._stream(c, z, p, flow, strain, curl)
        carried = d.dy(psi) * d.dx(u) - d.dx(psi) * d.dy(u)
        spread = p["diffusivity"] * d.laplace(u)
        turned = self._turned(c, z, strain(psi), -d.laplace(psi), p)
        ranks = [0.0, *(4.0 * j * j for j in range(1, self.moments + 1) for _ in (0, 1))]
        return turned - carried + spread - p["rotation"] * u.new_tensor(ranks).reshape(1, -1, *[1] * d.num_dims) * u

    def nonlinear(
        self, u_hat: Shaped[Tensor, "batch channel *wavenumber"], d: Spectral, p: Parameters
    ) -> Shaped[Tensor, "batch channel *wavenumber"]:
        u_hat = d.kept * u_hat
        u = d.inverse(u_hat)
        c, z = self._moments(u)
        psi = self._flow(c, z, d, p)
        x, y = d.symbol(0), d.symbol(1)
        bent = d.inverse(torch.cat([y * psi, -x * psi, d.square * psi, self._strain(psi, d)], dim=1))
        velocity, vorticity, strain = bent[:, :2], bent[:, 2:3], torch.complex(bent[:, 3:4], bent[:, 4:5])
        carried = velocity[:, :1] * d.inverse(x * u_hat) + velocity[:, 1:] * d.inverse(y * u_hat)
        return d.kept * d.forward(self._turned(c, z, strain, vorticity, p) - carried)

    def velocity(
        self, u: Float[Tensor, "batch channel *space"], d: Spectral, p: Parameters
    ) -> Float[Tensor, "batch 2 *space"]:
        """The flow that the rods make."""
        psi = self._flow(*self._moments(d.truncate(u)), d, p)
        return d.inverse(torch.cat([d.symbol(1) * psi, -d.symbol(0) * psi], dim=1))

    def speed(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch dim"] | None:
        return self.velocity(u, d, p).abs().flatten(2).amax(-1) if isinstance(d, Spectral) else None

    def invariants(self):
        return {"rods": lambda u, d, p: u[:, 0].flatten(1).mean(1)}

    def _moments(self, u: Tensor) -> tuple[Tensor, Tensor]:
        return u[:, :1], torch.complex(u[:, 1::2].contiguous(), u[:, 2::2].contiguous())

    def _strain(self, psi: Tensor, d: Spectral) -> Tensor:
        """Coefficients of E_11 and E_12 of a stream function's."""
        kx, ky = d.wavenumbers
        return torch.cat([-kx * ky * psi, 0.5 * (kx**2 - ky**2) * psi], dim=1)

    def _flow(self, c: Tensor, z: Tensor, d: Spectral, p: Parameters) -> Tensor:
        """Coefficients of the stream function."""
        kx, ky = d.wavenumbers
        square = torch.where(d.square > 0, d.square, torch.inf)
        green = d.kept / square**2 / (1 + p["density"] / 8)

        def strain(psi: Tensor) -> Tensor:
            e = d.inverse(self._strain(psi, d))
            return torch.complex(e[:, :1], e[:, 1:])

        def curl(stress: Tensor) -> Tensor:
            s = d.forward(torch.cat([stress.real, stress.imag], dim=1))
            return 2 * kx * ky * s[:, :1] - (kx**2 - ky**2) * s[:, 1:]

        return self._stream(c, z, p, lambda f: green * f, strain, curl)

    def _stream(self, c: Tensor, z: Tensor, p: Parameters, flow, strain, curl) -> Tensor:
        """The stream function of the rods' stress, as whatever `flow`, `strain` and `curl` take and give.

        The stress beta S:E belongs to the flow it makes: its isotropic part, beta E / 4 for c = 1, stands in `flow`; the rest is swept.
        """
        beta, first = p["density"], z[:, :1]
        second = z[:, 1:2] if self.moments > 1 else self.closure(c, z)
        own = 0.5 * p["dipole"] * first - 0.25 * p["alignment"] * beta * (c * first - first.conj() * second)
        source = curl(own)
        psi = flow(source)
        for _ in range(self.sweeps):
            e = strain(psi)
            psi = flow(source + curl(0.25 * beta * ((c - 1) * e + e.conj() * second)))
        return psi

    def _turned(self, c: Tensor, z: Tensor, strain: Tensor, vorticity: Tensor, p: Parameters) -> Tensor:
        """How rods turn: by vorticity, strain, and towards each other. As channels."""
        q = strain + p["alignment"] * z[:, :1]
        below = torch.cat([c.to(z.dtype), z[:, :-1]], dim=1)
        above = torch.cat([z[:, 1:], self.closure(c, z)], dim=1)
        j = torch.arange(1, self.moments + 1, dtype=c.dtype, device=c.device).reshape(1, -1, *[1] * (c.ndim - 2))
        new = j * (torch.complex(torch.zeros_like(vorticity), vorticity) * z + q * below - q.conj() * above)
        parts = torch.stack([new.real, new.imag], dim=2).flatten(1, 2)
        return torch.cat([torch.zeros_like(c), parts], dim=1)
