"""The flux through a face from the two states beside it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations.equation import Equation
from slipstream.equations.euler import Euler
from slipstream.errors import InputError
from slipstream.trajectories import Parameters


class Riemann:
    """One way to approximate the solution between two constant states."""

    name: str

    def check(self, equation: Equation) -> None:
        """Refuse an equation that it does not know."""

    def flux(
        self,
        equation: Equation,
        left: Float[Tensor, "batch channel *face"],
        right: Float[Tensor, "batch channel *face"],
        axis: int,
        p: Parameters,
    ) -> Float[Tensor, "batch channel *face"]:
        """The flux along an axis."""
        raise TypeError(f"{type(self).__name__} defines no flux.")


class Rusanov(Riemann):
    """The mean of both fluxes less the fastest wave times half the jump: for every equation with `flux` and `max_speed`.

    Source: Rusanov, USSR Comput. Math. Math. Phys. 1 (1961) 304.
    """

    name = "Rusanov"

    def flux(
        self,
        equation: Equation,
        left: Float[Tensor, "batch channel *face"],
        right: Float[Tensor, "batch channel *face"],
        axis: int,
        p: Parameters,
    ) -> Float[Tensor, "batch channel *face"]:
        f, g = equation.flux(left, axis, p), equation.flux(right, axis, p)
        s, t = equation.max_speed(left, axis, p), equation.max_speed(right, axis, p)
        assert f is not None and g is not None and s is not None and t is not None  # noqa: PT018
        return 0.5 * (f + g - torch.maximum(s, t) * (right - left))


class HLLC(Riemann):
    """Three waves for the Euler equations: contacts and shear stay sharp.

    Source: Toro, Spruce & Speares, Shock Waves 4 (1994) 25; wave speeds of Davis, SIAM J. Sci. Stat. Comput. 9 (1988) 445.
    """

    name = "HLLC"

    def check(self, equation: Equation) -> None:
        if not isinstance(equation, Euler):
            raise InputError(
                f"HLLC knows the waves of the Euler equations; for {type(equation).__name__} use Rusanov()."
            )

    def flux(
        self,
        equation: Equation,
        left: Float[Tensor, "batch channel *face"],
        right: Float[Tensor, "batch channel *face"],
        axis: int,
        p: Parameters,
    ) -> Float[Tensor, "batch channel *face"]:
        assert isinstance(equation, Euler)
        q, r = equation.primitive(left, p), equation.primitive(right, p)
        c, d = equation.sound(q, p), equation.sound(r, p)
        n, last = slice(1 + axis, 2 + axis), slice(-1, None)
        slow = torch.minimum(q[:, n] - c, r[:, n] - d)
        fast = torch.maximum(q[:, n] + c, r[:, n] + d)
        mass_left, mass_right = q[:, :1] * (slow - q[:, n]), r[:, :1] * (fast - r[:, n])
        push = r[:, last] - q[:, last] + mass_left * q[:, n] - mass_right * r[:, n]
        contact = push / (mass_left - mass_right)

        def behind(u: Tensor, w: Tensor, speed: Tensor, mass: Tensor) -> Tensor:
            """The flux between an outer wave and the contact."""
            density = mass / (speed - contact)
            energy = u[:, last] / w[:, :1] + (contact - w[:, n]) * (contact + w[:, last] / mass)
            velocities = [contact if i == axis else w[:, 1 + i : 2 + i] for i in range(equation.num_dims)]
            star = density * torch.cat([torch.ones_like(density), *velocities, energy], dim=1)
            return equation.flux(u, axis, p) + speed * (star - u)

        inner = torch.where(contact >= 0, behind(left, q, slow, mass_left), behind(right, r, fast, mass_right))
        outer = torch.where(slow >= 0, equation.flux(left, axis, p), equation.flux(right, axis, p))
        return torch.where((slow >= 0) | (fast <= 0), outer, inner)
