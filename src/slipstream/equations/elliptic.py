"""Steady equations: what is zero where a field is a solution."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.channels import Channel
from slipstream.equations.calculus import Calculus
from slipstream.equations.equation import Equation, Parameter
from slipstream.trajectories import Parameters


class SteadyEquation(Equation):
    """A PDE ``residual(u) = 0`` without time."""

    def residual(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        """What a field leaves over; zero for a solution. `p` as `Equation.ready` gives it."""
        raise TypeError(f"{type(self).__name__} defines no residual(u, d, p).")


class Poisson(SteadyEquation):
    r"""The potential of a given density.

    .. math:: -\Delta u = f

    Channels: potential (V). Parameters: ``source``, f, a field (V/m^2).
    Behaviour: twice smoother than f; far structures of f blur.
    """

    latex = r"-\Delta u = f"

    def __init__(self) -> None:
        self.channels = (Channel("potential", "V"),)
        self.parameters = {"source": Parameter("V/m^2")}

    def residual(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        return -d.laplace(u) - p["source"]


class Darcy(SteadyEquation):
    r"""Slow flow through a porous medium.

    .. math:: -\nabla \cdot (a \nabla u) = f

    Channels: pressure (Pa). The flux is :math:`-a \nabla u`.
    Behaviour: smooth where a is; where a jumps, u bends and the normal flux goes through.

    Parameters
    ----------
    strength : of the source f, 1/s, everywhere. The field ``permeability``, a > 0, m^2/(Pa s), comes with every run.
    """

    latex = r"-\nabla \cdot ( a \nabla u ) = f"

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength
        self.channels = (Channel("pressure", "Pa"),)
        self.parameters = {"permeability": Parameter("m^2/(Pa s)", low=0.0), "source": Parameter("1/s", strength)}

    def residual(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        return -d.div(d.multiply(p["permeability"], d.grad(u))) - p["source"]


class Helmholtz(SteadyEquation):
    r"""Waves of one frequency in an uneven medium.

    .. math:: -\Delta u - k^2 (1 + i \alpha) u = f, \qquad k = 2 \pi \nu / c(x)

    Channels: real and imaginary part of the pressure u (Pa); waves :math:`u e^{-2 \pi i \nu t}`.
    Behaviour: wavelengths of c / nu; slow regions focus, walls reflect, absorption damps by :math:`e^{-\alpha k / 2}` a unit of length.

    Parameters
    ----------
    frequency : nu, Hz. absorption : alpha. The fields ``speed``, c > 0, m/s, and ``source``, f, Pa/m^2, come with every run.
    """

    latex = r"-\Delta u - k^2 (1 + i \alpha) u = f, \quad k = 2 \pi \nu / c"

    def __init__(self, frequency: float = 2.0, absorption: float = 0.0) -> None:
        self.frequency, self.absorption = frequency, absorption
        self.channels = (Channel("pressure_real", "Pa"), Channel("pressure_imag", "Pa"))
        self.parameters = {
            "speed": Parameter("m/s", low=0.0),
            "source": Parameter("Pa/m^2"),
            "frequency": Parameter("Hz", frequency, low=0.0),
            "absorption": Parameter("", absorption, low=0.0),
        }

    def residual(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        squared = (2 * torch.pi * p["frequency"] / p["speed"]) ** 2
        # (1 + i alpha)(v + i w) = (v - alpha w) + i (w + alpha v)
        v, w = u[:, :1], u[:, 1:]
        turned = torch.cat([v - p["absorption"] * w, w + p["absorption"] * v], dim=1)
        force = torch.cat([p["source"], torch.zeros_like(p["source"])], dim=1)
        return -d.laplace(u) - d.multiply(squared, turned) - force
