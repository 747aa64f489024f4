"""The compressible Euler equations."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.channels import Channel
from slipstream.equations.calculus import Calculus
from slipstream.equations.equation import Equation, Parameter
from slipstream.errors import InputError, UnstableStep
from slipstream.trajectories import Parameters


class Euler(Equation):
    r"""A gas without viscosity: shocks, contacts and expansion fans.

    .. math::
        \partial_t \rho + \nabla \cdot (\rho u) = 0, \quad
        \partial_t (\rho u) + \nabla \cdot (\rho u \otimes u + P) = 0, \quad
        \partial_t E + \nabla \cdot ((E + P) u) = 0, \qquad P = (\gamma - 1) (E - \rho |u|^2 / 2)

    Channels: density (kg/m^3), momentum density along each axis (kg/m^2/s), total energy density (J/m^3), as cell averages.
    Behaviour: sound travels at ``sqrt(gamma P / rho)``; compressions steepen into shocks, contacts are carried along and, in 2D, roll up.
    Good values: gamma 1.4 (air), 5/3 (one-atomic). Solve it with `slipstream.solvers.VolumeStepper`: central and spectral
    derivatives oscillate at shocks.

    Parameters
    ----------
    gamma : ratio of specific heats, > 1. num_dims : 1, 2 or 3.
    """

    latex = (
        r"\partial_t \rho + \nabla \cdot (\rho u) = 0, \quad \partial_t (\rho u) + \nabla \cdot (\rho u \otimes u + P) = 0, \quad "
        r"\partial_t E + \nabla \cdot ((E + P) u) = 0"
    )

    def __init__(self, gamma: float = 1.4, num_dims: int = 1) -> None:
        if num_dims not in (1, 2, 3):
            raise InputError(f"Euler has num_dims 1, 2 or 3; got {num_dims}.")
        self.gamma, self.num_dims = gamma, num_dims
        momenta = [Channel(f"momentum_{a}", "kg/(m^2 s)", "cell") for a in "xyz"[:num_dims]]
        self.channels = (Channel("density", "kg/m^3", "cell"), *momenta, Channel("energy", "J/m^3", "cell"))
        self.parameters = {"gamma": Parameter("", gamma, low=1.0 + 1e-6)}

    def primitive(
        self, u: Float[Tensor, "batch channel *space"], p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        """Density, velocity along each axis, pressure."""
        density, momentum, energy = u[:, :1], u[:, 1:-1], u[:, -1:]
        velocity = momentum / density
        pressure = (p["gamma"] - 1) * (energy - 0.5 * (momentum * velocity).sum(1, keepdim=True))
        return torch.cat([density, velocity, pressure], dim=1)

    def conserved(
        self, w: Float[Tensor, "batch channel *space"], p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        """The state with these primitive values."""
        density, velocity, pressure = w[:, :1], w[:, 1:-1], w[:, -1:]
        momentum = density * velocity
        energy = pressure / (p["gamma"] - 1) + 0.5 * (momentum * velocity).sum(1, keepdim=True)
        return torch.cat([density, momentum, energy], dim=1)

    def sound(self, w: Float[Tensor, "batch channel *space"], p: Parameters) -> Float[Tensor, "batch 1 *space"]:
        """Speed of sound from primitive values."""
        return (p["gamma"] * w[:, -1:] / w[:, :1]).sqrt()

    def flux(
        self, u: Float[Tensor, "batch channel *space"], axis: int, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        w = self.primitive(u, p)
        normal, pressure = w[:, 1 + axis : 2 + axis], w[:, -1:]
        parts = [normal * u[:, i : i + 1] for i in range(self.num_dims + 2)]
        parts[1 + axis] = parts[1 + axis] + pressure
        parts[-1] = parts[-1] + pressure * normal
        return torch.cat(parts, dim=1)

    def max_speed(
        self, u: Float[Tensor, "batch channel *space"], axis: int, p: Parameters
    ) -> Float[Tensor, "batch 1 *space"]:
        w = self.primitive(u, p)
        return w[:, 1 + axis : 2 + axis].abs() + self.sound(w, p)

    def admit(self, u: Float[Tensor, "batch channel *space"], p: Parameters) -> None:
        w = self.primitive(u.detach(), p)
        for name, value in (("density", w[:, 0]), ("pressure", w[:, -1])):
            bad = ~(value > 0)
            if bool(bad.any()):
                where = [int(i) for i in bad.nonzero()[0]]
                raise UnstableStep(
                    f"Euler: {name} is {float(value[tuple(where)]):.4g} in run {where[0]}, cell {tuple(where[1:])}; it must be positive. "
                    "Use a more cautious reconstruction (MUSCL_MINMOD, UPWIND), Rusanov(), or a smaller step."
                )

    def rate(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        moved = [d.derivative(self.flux(u, i, p), i) for i in range(self.num_dims)]
        return -sum(moved[1:], moved[0])

    def speed(self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters) -> Float[Tensor, "batch dim"]:
        return torch.stack([self.max_speed(u, i, p).flatten(1).amax(1) for i in range(self.num_dims)], dim=1)

    def invariants(self):
        def total(i: int):
            return lambda u, d, p: u[:, i].flatten(1).mean(-1)

        return {c.name: total(i) for i, c in enumerate(self.channels)}
