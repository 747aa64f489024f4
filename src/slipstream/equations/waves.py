"""Waves of second order in time, as first-order systems of displacement and velocity."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.channels import Channel
from slipstream.equations.calculus import Calculus
from slipstream.equations.equation import Equation, Form, Parameter
from slipstream.equations.spectral import Spectral
from slipstream.trajectories import Parameters


class DampedWave(Equation):
    r"""Sound or a membrane in a medium whose wave speed may vary in space.

    .. math:: \partial_t u = v, \qquad \partial_t v = c(x)^2 \Delta u - \gamma v

    Channels: displacement (m), velocity (m/s).
    Behaviour: pulses split, travel at c, bend towards slow regions and are partly reflected where c changes; damping takes
    amplitude as ``exp(-gamma t / 2)``. Without damping the energy is kept.
    Good values: eight points a wavelength. Where c is uniform exponential schemes are exact at every step size; where it varies they treat
    the middle of its range exactly and the rest explicitly.

    Parameters
    ----------
    wave_speed : c > 0, m/s; a run may give a field (batch, *space). damping : gamma, 1/s. num_dims : number of axes.
    """

    latex = r"\partial_t u = v, \quad \partial_t v = c(x)^2 \Delta u - \gamma v"

    def __init__(self, wave_speed: float = 1.0, damping: float = 0.0, num_dims: int = 1) -> None:
        self.wave_speed, self.damping, self.num_dims = wave_speed, damping, num_dims
        self.channels = (Channel("displacement", "m"), Channel("velocity", "m/s"))
        self.parameters = {
            "wave_speed": Parameter("m/s", wave_speed, low=1e-12),
            "damping": Parameter("1/s", damping, low=0.0),
        }

    def restoring(self, u: Tensor, p: Parameters) -> Tensor | None:
        """A nonlinear acceleration at points, or None."""
        return None

    def stiffness(self, p: Parameters) -> Tensor | float:
        """Frequency squared of the uniform mode."""
        return 0.0

    def rate(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        x, v = u.split(1, dim=1)
        c2, bent = p["wave_speed"].square(), d.laplace(x)
        pull = d.multiply(c2.expand_as(bent), bent) if _varies(c2) else c2 * bent
        acceleration = pull - self.stiffness(p) * x - p["damping"] * v
        extra = self.restoring(x, p)
        if extra is not None:
            acceleration = acceleration + d.pointwise(lambda q: self.restoring(q, p), x)  # type: ignore[arg-type, return-value]
        return torch.cat([v, acceleration], dim=1)

    def form(self, d: Spectral) -> Form:
        """Displacement and velocity of each wave turn into each other: one 2 x 2 matrix a wavenumber, exact where c is uniform."""

        def linear(p: Parameters) -> Tensor:
            corner = -_middle(p["wave_speed"]) * d.square - self.stiffness(p)
            corner = corner.expand(torch.broadcast_shapes(corner.shape, p["damping"].shape))
            rows = [torch.cat([torch.zeros_like(corner), torch.ones_like(corner)], 1)]
            rows.append(torch.cat([corner, (-p["damping"]).expand_as(corner)], 1))
            return torch.stack(rows, dim=1)

        def nonlinear(u_hat: Tensor, p: Parameters) -> Tensor:
            x_hat = d.kept * u_hat[:, :1]
            total = torch.zeros_like(x_hat)
            if _varies(p["wave_speed"]):
                c2 = p["wave_speed"].square()
                rest = d.truncate(c2) - _middle(p["wave_speed"])
                total = d.forward(rest * d.inverse(-d.square * x_hat))
            if type(self).restoring is not DampedWave.restoring:
                total = total + d.forward(self.restoring(d.inverse(x_hat), p))  # type: ignore[arg-type]
            return torch.cat([torch.zeros_like(total), d.kept * total], dim=1)

        return Form(d.forward, d.inverse, lambda half: half, nonlinear, linear)

    def speed(self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters) -> Float[Tensor, "batch dim"]:
        """Of the part that is stepped explicitly; zero where c is uniform."""
        middle = _middle(p["wave_speed"])
        excess = (p["wave_speed"].square() - middle).abs() / middle.sqrt()
        return excess.flatten(1).amax(1, keepdim=True).expand(u.shape[0], d.num_dims)

    def invariants(self):
        def energy(u: Tensor, d: Calculus, p: Parameters) -> Tensor:
            x, v = u.split(1, dim=1)
            density = 0.5 * (v.square() / p["wave_speed"].square() + d.grad(x).square().sum(1, keepdim=True))
            return density.flatten(1).mean(-1)

        return {"energy": energy}


class KleinGordon(DampedWave):
    r"""A field with mass: waves with a lowest frequency, and kinks where the potential has two wells.

    .. math:: \partial_t u = v, \qquad \partial_t v = c^2 \Delta u - m^2 u - g\, u^3 - \gamma v

    Channels: displacement (m), velocity (m/s).
    Behaviour: waves disperse with ``omega^2 = c^2 k^2 + m^2``; with g > 0 frequency rises with amplitude, and energy spreads over
    the wavenumbers slowly. Without damping the energy is kept.
    Good values: c = m = 1, g = 1, amplitudes of 1, on a box of 10 to 40; eight points a wavelength.

    Parameters
    ----------
    mass : m. wave_speed : c > 0. cubic : g. damping : gamma. num_dims : number of axes.
    """

    latex = r"\partial_t u = v, \quad \partial_t v = c^2 \Delta u - m^2 u - g\, u^3 - \gamma v"

    def __init__(
        self,
        mass: float = 1.0,
        wave_speed: float = 1.0,
        cubic: float = 0.0,
        damping: float = 0.0,
        num_dims: int = 1,
    ) -> None:
        super().__init__(wave_speed, damping, num_dims)
        self.mass, self.cubic = mass, cubic
        self.parameters = {
            "mass": Parameter("1/s", mass),
            **self.parameters,
            "cubic": Parameter("1/(m s)^2", cubic),
        }

    def restoring(self, u: Tensor, p: Parameters) -> Tensor:
        return -p["cubic"] * u * u * u

    def stiffness(self, p: Parameters) -> Tensor:
        return p["mass"].square()

    def invariants(self):
        def energy(u: Tensor, d: Calculus, p: Parameters) -> Tensor:
            x, v = u.split(1, dim=1)
            steep = p["wave_speed"].square() * d.grad(x).square().sum(1, keepdim=True)
            density = v**2 / 2 + steep / 2 + p["mass"] ** 2 * x**2 / 2 + p["cubic"] * x**4 / 4
            return density.flatten(1).mean(-1)

        return {"energy": energy}


def _varies(speed: Tensor) -> bool:
    return speed[0].numel() > 1


def _middle(speed: Tensor) -> Tensor:
    """The middle of the range of c^2, (batch, 1, ...): what is left over to explicit steps is then smallest."""
    if not _varies(speed):
        return speed.square()
    flat = speed.square().flatten(1)
    return (0.5 * (flat.amin(1) + flat.amax(1))).reshape([-1] + [1] * (speed.ndim - 1))
