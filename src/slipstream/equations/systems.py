"""Ordinary differential equations: systems that have a state and no space."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.channels import Channel
from slipstream.equations.calculus import Calculus
from slipstream.equations.equation import Equation, Parameter
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.trajectories import Parameters


class NoSpace(Calculus):
    """The calculus of systems without space: whoever asks for a derivative is refused.

    Parameters
    ----------
    grid : one without axes. dtype, device : as of other calculi; nothing depends on them.
    """

    num_dims = 0

    def __init__(
        self,
        grid: Grid = Grid(()),  # noqa: B008
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        if grid.axes:
            raise InputError(f"NoSpace is for grids without axes; got one with {[a.name for a in grid.axes]}.")
        self.grid = grid

    def derivative(
        self, u: Float[Tensor, "batch channel *space"], axis: int, order: int = 1
    ) -> Float[Tensor, "batch channel *space"]:
        raise InputError("This system has no space, so nothing in it has a derivative in space.")

    def truncate(self, u: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """The state itself: there are no waves that could be dropped."""
        return u


def _at(p: Parameters, *names: str) -> list[Tensor]:
    """Parameters, shaped to broadcast against one channel."""
    return [p[name][:, 0] for name in names]


def _mean(values: Tensor) -> Float[Tensor, " batch"]:
    """The mean over space, where there is one."""
    return values.reshape(values.shape[0], -1).mean(1)


class Lorenz(Equation):
    r"""Convection reduced to three numbers: the first strange attractor.

    .. math:: \dot x = \sigma (y - x), \qquad \dot y = x (\rho - z) - y, \qquad \dot z = x y - \beta z

    Channels: overturning x, and the departures of temperature y, z.
    Behaviour: chaos about two unstable foci; neighbours part at 0.906 a time unit for the usual values, so that twelve figures last some
    30 time units. Volumes of states shrink at the rate ``sigma + 1 + beta``.
    Good values: sigma = 10, rho = 28, beta = 8/3. At rho < 1 everything comes to rest, at rho < 24.74 two steady rolls attract too.

    Parameters
    ----------
    sigma : Prandtl number. rho : Rayleigh number over its critical value. beta : shape of the roll.

    Source: Lorenz, J. Atmos. Sci. 20 (1963) 130.
    """

    latex = r"\dot x = \sigma (y - x), \quad \dot y = x (\rho - z) - y, \quad \dot z = x y - \beta z"

    def __init__(self, sigma: float = 10.0, rho: float = 28.0, beta: float = 8 / 3) -> None:
        self.sigma, self.rho, self.beta = sigma, rho, beta
        self.channels = (Channel("x"), Channel("y"), Channel("z"))
        self.parameters = {"sigma": Parameter("", sigma), "rho": Parameter("", rho), "beta": Parameter("", beta)}

    def rate(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        x, y, z = u.unbind(1)
        sigma, rho, beta = _at(p, "sigma", "rho", "beta")
        return torch.stack([sigma * (y - x), x * (rho - z) - y, x * y - beta * z], dim=1)


class LotkaVolterra(Equation):
    r"""Prey that multiplies and predators that eat it.

    .. math:: \dot x = \alpha x - \beta x y, \qquad \dot y = \delta x y - \gamma y

    Channels: prey, predators. Both stay positive.
    Behaviour: closed orbits about ``(gamma / delta, alpha / beta)``, slow where both are few. The first integral
    ``delta x - gamma ln x + beta y - alpha ln y`` is kept for ever.
    Good values: all of them about one.

    Parameters
    ----------
    growth : alpha, 1/s. hunting : beta. gain : delta. death : gamma, 1/s.

    Source: Lotka (1925); Volterra (1926).
    """

    latex = r"\dot x = \alpha x - \beta x y, \quad \dot y = \delta x y - \gamma y"

    def __init__(self, growth: float = 1.5, hunting: float = 1.0, gain: float = 1.0, death: float = 3.0) -> None:
        self.growth, self.hunting, self.gain, self.death = growth, hunting, gain, death
        self.channels = (Channel("prey"), Channel("predators"))
        self.parameters = {
            "growth": Parameter("1/s", growth, low=0.0),
            "hunting": Parameter("1/s", hunting, low=0.0),
            "gain": Parameter("1/s", gain, low=0.0),
            "death": Parameter("1/s", death, low=0.0),
        }

    def rate(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        x, y = u.unbind(1)
        growth, hunting, gain, death = _at(p, "growth", "hunting", "gain", "death")
        return torch.stack([x * (growth - hunting * y), y * (gain * x - death)], dim=1)

    def invariants(self):
        def first_integral(u: Tensor, d: Calculus, p: Parameters) -> Tensor:
            x, y = u.unbind(1)
            growth, hunting, gain, death = _at(p, "growth", "hunting", "gain", "death")
            return _mean(gain * x - death * x.log() + hunting * y - growth * y.log())

        return {"first integral": first_integral}


class VanDerPol(Equation):
    r"""An oscillator that feeds small swings and damps large ones.

    .. math:: \dot x = v, \qquad \dot v = \mu (1 - x^2)\, v - x

    Channels: position x, velocity v.
    Behaviour: every start but zero ends on one limit cycle of amplitude close to 2. For large mu it creeps for about ``0.8 mu`` and
    jumps within ``1 / mu``: stiff.
    Good values: mu = 1 to 10 smooth, 1000 very stiff.

    Parameters
    ----------
    damping : mu, 1/s.

    Source: van der Pol, Philos. Mag. 2 (1926) 978.
    """

    latex = r"\dot x = v, \quad \dot v = \mu (1 - x^2) v - x"

    def __init__(self, damping: float = 5.0) -> None:
        self.damping = damping
        self.channels = (Channel("position"), Channel("velocity"))
        self.parameters = {"damping": Parameter("1/s", damping, low=0.0)}

    def rate(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        x, v = u.unbind(1)
        (mu,) = _at(p, "damping")
        return torch.stack([v, mu * (1 - x * x) * v - x], dim=1)


class Robertson(Equation):
    r"""Three species, three reactions, rates nine decades apart: the smallest system that breaks explicit solvers.

    .. math:: \dot a = -k_1 a + k_3 b c, \qquad \dot b = k_1 a - k_2 b^2 - k_3 b c, \qquad \dot c = k_2 b^2

    Channels: mass fractions a, b, c; their sum is kept.
    Behaviour: b jumps within milliseconds to some 1e-5 and then follows a and c, which change over decades of time up to 1e11 s.
    Good values: k_1 = 0.04, k_2 = 3e7, k_3 = 1e4 from (1, 0, 0).

    Parameters
    ----------
    slow : k_1, 1/s. fast : k_2, 1/s. middle : k_3, 1/s.

    Source: Robertson, in Walsh (ed.), Numerical Analysis: An Introduction (1966) 178.
    """

    latex = r"\dot a = -k_1 a + k_3 b c, \quad \dot b = k_1 a - k_2 b^2 - k_3 b c, \quad \dot c = k_2 b^2"

    def __init__(self, slow: float = 0.04, fast: float = 3e7, middle: float = 1e4) -> None:
        self.slow, self.fast, self.middle = slow, fast, middle
        self.channels = (Channel("a"), Channel("b"), Channel("c"))
        self.parameters = {
            "slow": Parameter("1/s", slow, low=0.0),
            "fast": Parameter("1/s", fast, low=0.0),
            "middle": Parameter("1/s", middle, low=0.0),
        }

    def rate(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        a, b, c = u.unbind(1)
        slow, fast, middle = _at(p, "slow", "fast", "middle")
        decay, pair, back = slow * a, fast * b * b, middle * b * c
        return torch.stack([back - decay, decay - pair - back, pair], dim=1)

    def invariants(self):
        return {"mass": lambda u, d, p: _mean(u.sum(1))}


class Spiral(Equation):
    r"""A cubic oscillator that winds inwards, slower and slower.

    .. math:: \dot x = -\delta\, x^3 + \omega\, y^3, \qquad \dot y = -\omega\, x^3 - \delta\, y^3

    Channels: x, y.
    Behaviour: rounded squares ``x^4 + y^4 = const`` without damping; with it the level falls at the rate ``4 delta (x^6 + y^6)``.
    Good values: omega = 2, delta = 0.1 from (2, 0).

    Parameters
    ----------
    damping : delta. turning : omega.

    Source: Chen, Rubanova, Bettencourt & Duvenaud, NeurIPS 2018 (arXiv 1806.07366).
    """

    latex = r"\dot x = -\delta x^3 + \omega y^3, \quad \dot y = -\omega x^3 - \delta y^3"

    def __init__(self, damping: float = 0.1, turning: float = 2.0) -> None:
        self.damping, self.turning = damping, turning
        self.channels = (Channel("x"), Channel("y"))
        self.parameters = {"damping": Parameter("", damping, low=0.0), "turning": Parameter("", turning)}

    def rate(
        self, u: Float[Tensor, "batch channel *space"], d: Calculus, p: Parameters
    ) -> Float[Tensor, "batch channel *space"]:
        damping, turning = _at(p, "damping", "turning")
        x, y = (u * u * u).unbind(1)
        return torch.stack([turning * y - damping * x, -turning * x - damping * y], dim=1)

    def invariants(self):
        return {"level": lambda u, d, p: _mean(u.pow(4).sum(1))}
