"""Diffusion that depends on what diffuses."""

from __future__ import annotations

from jaxtyping import Float, Shaped
from torch import Tensor

from slipstream.channels import Channel
from slipstream.equations.calculus import Calculus
from slipstream.equations.equation import Equation, Parameter
from slipstream.equations.spectral import Spectral
from slipstream.equations.symbols import laplacian
from slipstream.grids import Grid
from slipstream.trajectories import Parameters


class NonlinearDiffusion(Equation):
    r"""Heat in a material whose conductivity changes with temperature.

    .. math:: \partial_t u = \nabla \cdot \left( D (1 + a u + b u^2) \nabla u \right)

    Channels: temperature, relative to a reference (K).
    Behaviour: with a, b > 0 hot regions spread fast and flat, with steep edges towards the cold; the mean is kept.
    Good values: ``1 + a u + b u^2`` between 0.1 and 3 for every u that occurs. The constant part is stepped exactly, the rest
    explicitly: ``|a u + b u^2|`` beyond about 2 calls for steps below ``dx^2 / D``.

    Parameters
    ----------
    diffusivity : D, m^2/s. slope : a, 1/K. curvature : b, 1/K^2. num_dims : number of axes.
    """

    latex = r"\partial_t u = \nabla \cdot ( D (1 + a u + b u^2) \nabla u )"

    def __init__(
        self, diffusivity: float = 1e-2, slope: float = 0.5, curvature: float = 0.3, num_dims: int = 1
    ) -> None:
        self.diffusivity, self.slope, self.curvature, self.num_dims = diffusivity, slope, curvature, num_dims
        self.channels = (Channel("temperature", "K"),)
        self.parameters = {
            "diffusivity": Parameter("m^2/s", diffusivity, low=0.0),
            "slope": Parameter("1/K", slope),
            "curvature": Parameter("1/K^2", curvature),
        }

    def rate(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        # D(u) grad u is the gradient of a function of u: one Laplacian of it.
        return p["diffusivity"] * (d.laplace(u) + d.laplace(d.pointwise(lambda v: _excess(v, p), u)))

    def linear(self, grid: Grid, p: Parameters) -> Shaped[Tensor, "batch channel *wavenumber"]:
        return p["diffusivity"] * laplacian(grid, p["diffusivity"])

    def nonlinear(
        self, u_hat: Shaped[Tensor, "batch channel *wavenumber"], d: Spectral, p: Parameters
    ) -> Shaped[Tensor, "batch channel *wavenumber"]:
        return (-p["diffusivity"] * (d.kept * d.square)) * d.forward(_excess(d.inverse(d.kept * u_hat), p))

    def invariants(self):
        return {"heat": lambda u, d, p: u.flatten(1).mean(-1)}


def _excess(u: Tensor, p: Parameters) -> Tensor:
    return (p["slope"] / 2 + p["curvature"] / 3 * u) * u * u
