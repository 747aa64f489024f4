"""Linear transport: what the flow carries and what diffusion spreads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from slipstream.channels import Channel
from slipstream.equations.calculus import Calculus
from slipstream.equations.equation import Equation, Parameter
from slipstream.equations.spectral import Spectral
from slipstream.equations.symbols import laplacian, slope
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.trajectories import Parameters


class AdvectionDiffusion(Equation):
    r"""A concentration in a steady uniform stream.

    .. math:: \partial_t u + c \cdot \nabla u = \nu \Delta u

    Channels: concentration.
    Behaviour: shapes move at c and smear; a Gaussian of width s has width ``sqrt(s^2 + 2 nu t)`` after t.
    Good values: grid Peclet number ``|c| dx / nu`` below 2 if a finite-difference solver is to follow; any in Fourier space, where
    exponential schemes are exact at every step size.

    Parameters
    ----------
    velocity : c, m/s: one number for every axis, or one an axis.
    diffusivity : nu >= 0, m^2/s.
    num_dims : 1, 2 or 3.
    """

    latex = r"\partial_t u + c \cdot \nabla u = \nu \Delta u"

    def __init__(self, velocity: float | Sequence[float] = 1.0, diffusivity: float = 1e-2, num_dims: int = 1) -> None:
        self.velocity, self.diffusivity, self.num_dims = velocity, diffusivity, num_dims
        self.channels = (Channel("concentration"),)
        self.parameters = _drift(velocity, num_dims) | {"diffusivity": Parameter("m^2/s", diffusivity, low=0.0)}

    def rate(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        moved = sum(p[f"velocity_{'xyz'[i]}"] * d.derivative(u, i) for i in range(self.num_dims))
        return p["diffusivity"] * d.laplace(u) - moved

    def linear(self, grid: Grid, p: Parameters) -> Shaped[Tensor, "batch channel *wavenumber"]:
        nu = p["diffusivity"]
        moved = sum(p[f"velocity_{'xyz'[i]}"] * slope(grid, i, nu) for i in range(self.num_dims))
        return nu * laplacian(grid, nu) - moved

    def nonlinear(
        self, u_hat: Shaped[Tensor, "batch channel *wavenumber"], d: Spectral, p: Parameters
    ) -> Shaped[Tensor, "batch channel *wavenumber"]:
        return torch.zeros_like(u_hat)

    def invariants(self):
        return {"mass": lambda u, d, p: u.flatten(1).mean(-1)}


class Advection(AdvectionDiffusion):
    r"""A shape that moves and does not change: the hardest easy problem for a learnt solver.

    .. math:: \partial_t u + c \cdot \nabla u = 0

    Channels: concentration.
    Behaviour: returns to its start after one turn of the box; every norm is kept.
    Good values: any velocity; exact in Fourier space.

    Parameters
    ----------
    velocity : c, m/s: one number for every axis, or one an axis. num_dims : 1, 2 or 3.
    """

    latex = r"\partial_t u + c \cdot \nabla u = 0"

    def __init__(self, velocity: float | Sequence[float] = 1.0, num_dims: int = 1) -> None:
        super().__init__(velocity, 0.0, num_dims)
        self.parameters = _drift(velocity, num_dims)

    def ready(self, p: Parameters, u: Float[Tensor, "batch channel *space"]) -> dict[str, Tensor]:
        return {**super().ready(p, u), "diffusivity": u.new_zeros([1] * u.ndim)}

    def invariants(self):
        return super().invariants() | {"energy": lambda u, d, p: 0.5 * u.square().flatten(1).mean(-1)}


class Diffusion(Equation):
    r"""Heat that spreads.

    .. math:: \partial_t u = \nu \Delta u

    Channels: temperature (K).
    Behaviour: each wave decays as ``exp(-nu |k|^2 t)``; the mean stays, maxima fall.
    Good values: nu from 1e-3 to 1 on a box of unit length; exact in Fourier space.

    Parameters
    ----------
    diffusivity : nu >= 0, m^2/s. num_dims : 1, 2 or 3.
    """

    latex = r"\partial_t u = \nu \Delta u"

    def __init__(self, diffusivity: float = 1e-2, num_dims: int = 1) -> None:
        self.diffusivity, self.num_dims = diffusivity, num_dims
        self.channels = (Channel("temperature", "K"),)
        self.parameters = {"diffusivity": Parameter("m^2/s", diffusivity, low=0.0)}

    def rate(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        return p["diffusivity"] * d.laplace(u)

    def linear(self, grid: Grid, p: Parameters) -> Shaped[Tensor, "batch channel *wavenumber"]:
        return p["diffusivity"] * laplacian(grid, p["diffusivity"])

    def nonlinear(
        self, u_hat: Shaped[Tensor, "batch channel *wavenumber"], d: Spectral, p: Parameters
    ) -> Shaped[Tensor, "batch channel *wavenumber"]:
        return torch.zeros_like(u_hat)

    def invariants(self):
        return {"heat": lambda u, d, p: u.flatten(1).mean(-1)}


def _drift(velocity: float | Sequence[float], num_dims: int) -> dict[str, Parameter]:
    given = [velocity] * num_dims if isinstance(velocity, (int, float)) else list(velocity)
    if num_dims not in (1, 2, 3) or len(given) != num_dims:
        raise InputError(
            f"velocity is one number, or one for each of num_dims = 1, 2 or 3 axes; got {velocity} and num_dims={num_dims}."
        )
    return {f"velocity_{'xyz'[i]}": Parameter("m/s", float(c)) for i, c in enumerate(given)}
