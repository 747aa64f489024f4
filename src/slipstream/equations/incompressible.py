"""Incompressible flow in primitive variables on staggered grids, with or without a buoyant scalar."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.channels import Channel
from slipstream.equations.calculus import Calculus
from slipstream.equations.equation import Equation, Parameter
from slipstream.errors import InputError
from slipstream.trajectories import Parameters

Force = Callable[[Tensor], Tensor]
"""Coordinates (dim, *space) to accelerations (dim, *space)."""
Source = Callable[[Tensor, Parameters], Tensor]
"""Coordinates (dim, *space) and parameters, each (batch, 1, ...), to what appears a second (batch or 1, *space)."""


class IncompressibleFlow(Equation):
    r"""Incompressible flow: velocities on the faces of cells, pressure eliminated.

    .. math:: \partial_t u = P \left( -\nabla \cdot (u u) + \nu \Delta u + f \right), \qquad \nabla \cdot u = 0

    Channels: ``velocity_x`` at the lower x faces of the cells, and so on (m/s).
    Behaviour: boundary layers of thickness ``L / sqrt(Re)`` on walls, recirculation behind corners and obstacles.
    Good values: Re = U L / nu up to the number of points across a boundary layer can carry, ``h < L / sqrt(Re) / 3``.

    Parameters
    ----------
    viscosity : nu, m^2/s.
    num_dims : 2 or 3.
    force : acceleration along each axis, or a function of coordinates; None is none. A pressure gradient that drives a periodic channel
        is one.
    """

    latex = r"\partial_t u = P ( -\nabla \cdot (u u) + \nu \Delta u + f ), \quad \nabla \cdot u = 0"
    scalars: tuple[str, ...] = ()

    def __init__(
        self, viscosity: float = 1e-2, num_dims: int = 2, force: Sequence[float] | Force | None = None
    ) -> None:
        if num_dims not in (2, 3):
            raise InputError(f"{type(self).__name__} is for 2 or 3 dimensions; got num_dims={num_dims}.")
        if isinstance(force, Sequence) and len(force) != num_dims:
            raise InputError(f"force has one entry an axis, {num_dims}; got {len(force)}.")
        self.viscosity, self.num_dims, self.force_given = viscosity, num_dims, force
        self.channels = tuple(Channel(f"velocity_{a}", "m/s", f"face_{a}") for a in "xyz"[:num_dims])
        self.parameters = {"viscosity": Parameter("m^2/s", viscosity, low=0.0)}

    def acceleration(self, x: Float[Tensor, "dim *space"]) -> Float[Tensor, "dim *space"] | None:
        """The given force at some points."""
        if self.force_given is None:
            return None
        if isinstance(self.force_given, Sequence):
            given = x.new_tensor(list(self.force_given))
            return given.reshape(-1, *[1] * (x.ndim - 1)).expand_as(x)
        return self.force_given(x)

    def rate(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        """All channels at the same points: what the staggered solver comes to as cells shrink, where there are no walls."""
        return self._moved(u, d, p)

    def _moved(self, u: Tensor, d: Calculus, p: Parameters) -> Tensor:
        """The rates of the velocities."""
        v = u[:, : self.num_dims]
        v = v - d.grad(d.inverse_laplace(d.div(v)))
        moved = p["viscosity"] * d.laplace(v) - d.advect(v, v) + self.lift(u, p)
        force = self.acceleration(d.coordinates())
        moved = moved if force is None else moved + force
        return moved - d.grad(d.inverse_laplace(d.div(moved)))

    def lift(self, u: Tensor, p: Parameters) -> Tensor | float:
        """The acceleration that scalars cause, (batch, dim, *space)."""
        return 0.0


class BuoyantFlow(IncompressibleFlow):
    r"""Incompressible flow with a scalar that is carried along, spreads, and lifts the fluid (Boussinesq).

    .. math:: \partial_t u = P ( -\nabla \cdot (u u) + \nu \Delta u + \beta T e_{up} ), \qquad
        \partial_t T = -\nabla \cdot (u T) + \kappa \Delta T + s

    Channels: velocities on faces, ``temperature`` (above the surroundings, K) as cell averages. Up is the last axis.
    Behaviour: plumes rise as mushrooms, pinch off vortices and break around obstacles.

    Parameters
    ----------
    viscosity, num_dims, force : as in `IncompressibleFlow`. diffusivity : kappa, m^2/s. lift_rate : beta, m/s^2 a kelvin.
    source : function (coordinates, parameters) -> K/s; None is none. Parameters that it names are declared in `declared`.
    declared : further parameters, name -> `Parameter`.
    """

    latex = (
        r"\partial_t u = P ( -\nabla \cdot (u u) + \nu \Delta u + \beta T e_{up} ), \quad "
        r"\partial_t T = -\nabla \cdot (u T) + \kappa \Delta T + s"
    )
    scalars = ("temperature",)

    def __init__(
        self,
        viscosity: float = 1e-3,
        diffusivity: float = 1e-3,
        lift_rate: float = 1.0,
        num_dims: int = 2,
        force: Sequence[float] | Force | None = None,
        source: Source | None = None,
        declared: dict[str, Parameter] | None = None,
    ) -> None:
        super().__init__(viscosity, num_dims, force)
        self.diffusivity, self.lift_rate, self.source_given = diffusivity, lift_rate, source
        self.declared = declared or {}
        self.channels = (*self.channels, Channel("temperature", "K", "cell"))
        self.parameters = {
            **self.parameters,
            "diffusivity": Parameter("m^2/s", diffusivity, low=0.0),
            "lift_rate": Parameter("m/s^2/K", lift_rate),
            **self.declared,
        }

    def lift(self, u: Tensor, p: Parameters) -> Tensor | float:
        up = p["lift_rate"] * u[:, self.num_dims : self.num_dims + 1]
        return torch.cat([torch.zeros_like(u[:, : self.num_dims - 1]), up], 1)

    def rate(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        moved, v, t = self._moved(u, d, p), u[:, : self.num_dims], u[:, self.num_dims :]
        v = v - d.grad(d.inverse_laplace(d.div(v)))
        warmed = p["diffusivity"] * d.laplace(t) - d.advect(v, t)
        if self.source_given is not None:
            warmed = warmed + self.source_given(d.coordinates(), p)[:, None]
        return torch.cat([moved, warmed], 1)
