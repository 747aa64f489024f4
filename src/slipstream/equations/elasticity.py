"""Elastic solids: waves of pressure, which run ahead, and of shear; and solids at rest under load."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.channels import Channel
from slipstream.equations.calculus import Calculus
from slipstream.equations.elliptic import SteadyEquation
from slipstream.equations.equation import Equation, Form, Parameter
from slipstream.equations.spectral import Spectral
from slipstream.errors import InputError
from slipstream.trajectories import Parameters


class LinearElasticity(Equation):
    r"""Small motions of an isotropic solid of uniform density, in displacement and velocity.

    .. math::
        \partial_t u = v, \qquad \partial_t v = \nabla \cdot \sigma / \rho - \gamma v, \qquad
        \sigma / \rho = (c_p^2 - 2 c_s^2) (\nabla \cdot u) I + c_s^2 (\nabla u + \nabla u^T)

    Channels: displacement along each axis (m), then velocity along each axis (m/s). Two axes are plane strain.
    Behaviour: displacements along the direction of travel run at c_p, those across it at c_s; where the speeds change, each is partly
    reflected and partly turned into the other. Without damping the energy is kept.
    Good values: c_p about 1.7 c_s (rock, steel); eight points a wavelength of shear. Where both speeds are uniform exponential schemes are
    exact at every step size; where they vary, the middle of each range is exact and the rest explicit.

    Parameters
    ----------
    pressure_speed : c_p > 0, m/s; the bulk modulus is positive where ``c_p^2 > 4/3 c_s^2``. shear_speed : c_s >= 0, m/s. A run may give
        either as a field (batch, *space). damping : gamma, 1/s. num_dims : 2 or 3.

    Raises
    ------
    InputError : when a stepper starts, where a solid is unstable, ``c_p < c_s``.
    """

    latex = r"\rho\, \partial_t^2 u = \nabla \cdot \sigma(u) - \rho \gamma\, \partial_t u"

    def __init__(
        self, pressure_speed: float = 1.7, shear_speed: float = 1.0, damping: float = 0.0, num_dims: int = 2
    ) -> None:
        if num_dims not in (2, 3):
            raise InputError(f"LinearElasticity is written for 2 or 3 axes; got num_dims={num_dims}.")
        self.pressure_speed, self.shear_speed, self.damping = pressure_speed, shear_speed, damping
        self.num_dims = num_dims
        axes = "xyz"[:num_dims]
        self.channels = (
            *(Channel(f"displacement_{a}", "m") for a in axes),
            *(Channel(f"velocity_{a}", "m/s") for a in axes),
        )
        self.parameters = {
            "pressure_speed": Parameter("m/s", pressure_speed, low=1e-12),
            "shear_speed": Parameter("m/s", shear_speed, low=0.0),
            "damping": Parameter("1/s", damping, low=0.0),
        }

    @staticmethod
    def moduli(p: Parameters) -> tuple[Tensor, Tensor]:
        """Lame's parameters over the density, lambda and mu (m^2/s^2)."""
        mu = p["shear_speed"].square()
        return p["pressure_speed"].square() - 2 * mu, mu

    def rate(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        n = self.num_dims
        x, v = u[:, :n], u[:, n:]
        return torch.cat([v, traction(strain(x, d), *self.moduli(p), d) - p["damping"] * v], dim=1)

    def form(self, d: Spectral) -> Form:
        """Displacements and velocities of each wave turn into each other: one small matrix a wavenumber, exact in a uniform solid."""
        n = self.num_dims
        shape = d.kept.shape
        slope = torch.stack([d.symbol(i).expand(shape) for i in range(n)])

        def linear(p: Parameters) -> Tensor:
            fast, slow = p["pressure_speed"], p["shear_speed"]
            if bool((fast < slow).any()):
                raise InputError(
                    f"A solid whose pressure_speed lies below its shear_speed is not stable; got {float(fast.min()):.4g} m/s and up, "
                    f"and up to {float(slow.max()):.4g} m/s. Use c_p > 1.16 c_s."
                )
            first, second = (_middle(q) for q in self.moduli(p))
            both = (slope[:, None] * slope[None]).real
            square = sum((both[i, i] for i in range(1, n)), both[0, 0])
            one = torch.eye(n, dtype=d.dtype, device=d.device).reshape(n, n, *[1] * len(shape))
            first, second, drag = (q[:, None] for q in (first, second, p["damping"]))
            pull = (first + second) * both + second * one * square
            runs = max(pull.shape[0], drag.shape[0])
            full = (runs, n, n, *shape)
            zero, unit = torch.zeros(full, dtype=d.dtype, device=d.device), one.expand(full)
            top = torch.cat([zero, unit], dim=2)
            return torch.cat([top, torch.cat([pull.expand(full), (-drag * one).expand(full)], dim=2)], dim=1)

        def nonlinear(u_hat: Tensor, p: Parameters) -> Tensor:
            if not (_varies(p["pressure_speed"]) or _varies(p["shear_speed"])):
                return torch.zeros_like(u_hat)
            x_hat = d.kept * u_hat[:, :n]
            first, second = (d.truncate(q) - _middle(q) if _varies(q) else torch.zeros_like(q) for q in self.moduli(p))
            pairs = [(i, j) for i in range(n) for j in range(i, n)]
            halves = [0.5 * (slope[i] * x_hat[:, j] + slope[j] * x_hat[:, i]) for i, j in pairs]
            strain = d.inverse(torch.stack(halves, dim=1))
            along = [k for k, (i, j) in enumerate(pairs) if i == j]
            stress = 2 * second * strain
            grown = first * strain[:, along].sum(1, keepdim=True)
            stress = torch.stack([s + grown[:, 0] if k in along else s for k, s in enumerate(stress.unbind(1))], dim=1)
            down = dict(zip(pairs, d.forward(stress).unbind(1), strict=True))
            pull = [sum(slope[j] * down[min(i, j), max(i, j)] for j in range(n)) for i in range(n)]
            pulled = d.kept * torch.stack(pull, dim=1)  # type: ignore[arg-type]
            return torch.cat([torch.zeros_like(pulled), pulled], dim=1)

        return Form(d.forward, d.inverse, lambda half: half, nonlinear, linear)

    def speed(self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters) -> Float[Tensor, "batch dim"]:
        """Of the part that is stepped explicitly; zero in a uniform solid."""
        first, second = self.moduli(p)
        whole = first + 2 * second
        excess = (whole - _middle(whole)).abs() / _middle(whole).sqrt()
        return excess.flatten(1).amax(1, keepdim=True).expand(u.shape[0], d.num_dims)

    def invariants(self):
        n = self.num_dims

        def energy(u: Tensor, d: Calculus, p: Parameters) -> Tensor:
            first, second = self.moduli(p)
            strained = strain(u[:, :n], d)
            squares = sum(e.square() for row in strained for e in row)
            grown = _trace(strained)
            density = 0.5 * (u[:, n:].square().sum(1, keepdim=True) + first * grown.square()) + second * squares
            return density.flatten(1).mean(-1)

        def momentum(u: Tensor, d: Calculus, p: Parameters) -> Tensor:
            return u[:, n:].flatten(2).mean(-1).sum(-1)

        return {"energy": energy, "momentum": momentum}


class StaticElasticity(SteadyEquation):
    r"""An elastic solid at rest that no force but those on its sides deforms.

    .. math:: -\nabla \cdot \sigma = 0, \qquad \sigma = \lambda\,(\nabla \cdot u)\,I + \mu\,(\nabla u + \nabla u^T), \qquad
        \lambda = \frac{E \nu}{(1 + \nu)(1 - 2 \nu)},\ \ \mu = \frac{E}{2 (1 + \nu)}

    Channels: displacement along x and y (m), in plane strain.
    Behaviour: soft parts take up the deformation, stiff ones move as they are; the nearer nu comes to 1/2, the less volumes change.

    Parameters
    ----------
    poisson_ratio : nu, the same everywhere. pull, shear : tractions on the loaded side, GPa, across and along it; the equation inside
        knows nothing of them. The field ``modulus``, E > 0, GPa, comes with every run.
    """

    latex = r"-\nabla \cdot \sigma(u) = 0"

    def __init__(self, poisson_ratio: float = 0.3, pull: float = 0.01, shear: float = 0.0) -> None:
        self.poisson_ratio, self.pull, self.shear = poisson_ratio, pull, shear
        self.channels = (Channel("displacement_x", "m"), Channel("displacement_y", "m"))
        self.parameters = {
            "modulus": Parameter("GPa", low=0.0),
            "poisson_ratio": Parameter("", poisson_ratio, low=-1.0, high=0.5),
            "pull": Parameter("GPa", pull),
            "shear": Parameter("GPa", shear),
        }

    def residual(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        ratio = p["poisson_ratio"]
        second = p["modulus"] / (2 * (1 + ratio))
        return -traction(strain(u, d), 2 * second * ratio / (1 - 2 * ratio), second, d)


def strain(x: Float[Tensor, "batch dim *space"], d: Calculus) -> list[list[Tensor]]:
    """Symmetric part of the gradient of a displacement: a (batch, 1, *space) for each pair of axes."""
    axes = range(x.shape[1])
    slope = [d.derivative(x, i) for i in axes]
    return [[0.5 * (slope[i][:, j : j + 1] + slope[j][:, i : i + 1]) for j in axes] for i in axes]


def traction(
    strain: list[list[Tensor]], first: Tensor, second: Tensor, d: Calculus
) -> Float[Tensor, "batch dim *space"]:
    """Divergence of the stress of a strain, with Lame's parameters lambda and mu: the force on a volume, over the volume."""
    axes, grown, pull = range(len(strain)), _trace(strain), []
    for i in axes:
        stress = [_times(d, 2 * second, strain[i][j]) for j in axes]
        stress[i] = stress[i] + _times(d, first, grown)
        pull.append(sum((d.derivative(stress[j], j) for j in axes[1:]), d.derivative(stress[0], 0)))
    return torch.cat(pull, dim=1)


def _trace(strain: list[list[Tensor]]) -> Tensor:
    return sum((strain[i][i] for i in range(1, len(strain))), strain[0][0])


def _varies(q: Tensor) -> bool:
    return q[0].numel() > 1


def _middle(q: Tensor) -> Tensor:
    """The middle of the range of a modulus, (batch, 1, ...)."""
    if not _varies(q):
        return q
    flat = q.flatten(1)
    return (0.5 * (flat.amin(1) + flat.amax(1))).reshape([-1] + [1] * (q.ndim - 1))


def _times(d: Calculus, modulus: Tensor, strain: Tensor) -> Tensor:
    return d.multiply(modulus.expand_as(strain), strain) if _varies(modulus) else modulus * strain
