"""Ready-made problems of ordinary differential equations: states without space."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations import systems
from slipstream.equations.calculus import Calculus
from slipstream.equations.systems import NoSpace
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.problems.problem import Problem, Setting
from slipstream.solvers.lines import HEUN, RK4, Explicit, LinesStepper
from slipstream.solvers.ode import OdeStepper
from slipstream.solvers.pairs import BS32, DOPRI5, TSIT5, Method
from slipstream.solvers.rosenbrock import RODAS4, RODAS5P
from slipstream.stepper import State, Stepper
from slipstream.trajectories import Parameters


@dataclass(frozen=True)
class Adaptive:
    """An adaptive method at a tolerance: a scheme that chooses its own steps."""

    method: Method
    rtol: float

    @property
    def name(self) -> str:
        return f"{self.method.name} (rtol {self.rtol:g})"


class Doubled(Stepper):
    """A classical solver that computes in float64, whatever the frames are in: stiff systems lose their small species in float32.

    Parameters
    ----------
    stepper : the solver.
    """

    def __init__(self, stepper: OdeStepper) -> None:
        super().__init__()
        self.stepper = stepper
        self.interval, self.horizon = stepper.interval, stepper.horizon
        self.channels, self.grid = stepper.channels, stepper.grid

    def start(self, frames: Float[Tensor, "batch time channel *space"], parameters: Parameters) -> State:
        self.check(frames)
        state = self.stepper.start(frames.double(), parameters)
        return replace(state, values=(frames.dtype, state.values))

    def advance(
        self, state: State, parameters: Parameters, generator: torch.Generator | None = None
    ) -> tuple[State, Float[Tensor, "batch horizon channel *space"]]:
        dtype, values = state.values
        inner, frames = self.stepper.advance(replace(state, values=values), parameters, generator)
        return replace(inner, values=(dtype, inner.values)), frames.to(dtype)


class SystemProblem(Problem):
    """A problem without space. Subclasses call `_pose` in their constructor.

    The ladder holds adaptive methods over tolerances and, where the system is not stiff, fixed steps. All are eager PyTorch, whose overhead
    is most of their time on a few numbers: compiled, such a system takes well below a microsecond a step, so that a network that is faster
    than the ladder has won nothing. These problems are for learning laws, for tests of method, and as parts of larger ones.

    Attributes
    ----------
    sizes : of each channel, of which a tolerance allows its share as absolute error.
    stiff : whether explicit methods would need steps far below the scale of the solution.
    """

    grid = Grid(())
    refinement = "a tolerance 100 times tighter"
    stiff = False
    sizes: tuple[float, ...]

    def _pose(self, interval: float, warm_up: float = 0.0, fixed: int = 8) -> None:
        """Settings, after a check of what every problem of this kind takes; `fixed` steps an interval resolve the solution."""
        if not (math.isfinite(interval) and interval > 0):
            raise InputError(f"{self.name} expects a positive interval; got {interval}.")
        if not (math.isfinite(warm_up) and warm_up >= 0):
            raise InputError(f"{self.name} expects a warm_up of at least 0; got {warm_up}.")
        self._fixed = fixed
        method, loose, tight = (RODAS5P, 1e-4, 1e-7) if self.stiff else (TSIT5, 1e-4, 1e-9)
        self.fast_setting = Setting(0, 0, Adaptive(method, loose))
        self.reference_setting = Setting(0, 0, Adaptive(method, tight))

    def _range(self, name: str, value: float | Sequence[float], positive: bool = True) -> float:
        """Checks a number or a range, lets a range vary from run to run, and returns the lower end."""
        ends = (value, value) if isinstance(value, (int, float)) else tuple(value)
        sound = len(ends) == 2 and all(map(math.isfinite, ends)) and ends[0] <= ends[1]
        if not sound or (positive and ends[0] <= 0):
            kind = "a positive number or a range" if positive else "a number or a range"
            raise InputError(f"{self.name} expects {name} as {kind} (low, high); got {value}.")
        if ends[0] < ends[1]:
            self.varying: Mapping[str, tuple[float, float]] = {
                **self.varying,
                name: (float(ends[0]), float(ends[1])),
            }
        return float(ends[0])

    def points(self, setting: Setting) -> tuple[int, ...]:
        return ()

    def solver(self, setting: Setting | None = None, *, guard: bool = True) -> Stepper:
        return self._solver(setting or self.fast_setting, self.interval)

    def _solver(self, setting: Setting, interval: float) -> Stepper:
        scheme = setting.scheme
        if isinstance(scheme, Explicit):
            return LinesStepper(self.equation, self.grid, interval, setting.substeps, scheme, NoSpace)
        if not isinstance(scheme, Adaptive):
            raise InputError(
                f"{self.name} is solved by `Adaptive` methods or fixed steps; got the scheme {scheme.name}."
            )
        atol = tuple(scheme.rtol * size for size in self.sizes)
        stepper = OdeStepper(
            self.equation,
            interval,
            scheme.method,
            scheme.rtol,
            atol,
            max_steps=100_000,
            grid=self.grid,
            calculus=NoSpace,
        )
        return Doubled(stepper) if self.stiff else stepper

    def ladder(self) -> list[Setting]:
        tolerances = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
        methods: tuple[Method, ...] = (RODAS4, RODAS5P) if self.stiff else (BS32, TSIT5, DOPRI5)
        adaptive = [Setting(0, 0, Adaptive(m, rtol)) for m in methods for rtol in tolerances]
        if self.stiff:
            return adaptive
        counts = sorted({max(1, round(self._fixed * f)) for f in (0.125, 0.25, 0.5, 1, 2, 4)})
        return [*adaptive, *(Setting(0, n, scheme) for scheme in (HEUN, RK4) for n in counts)]

    def reference_error(
        self, frames: Float[Tensor, "run time channel *space"], parameters: Parameters, steps: int
    ) -> Float[Tensor, " step"]:
        """How far the reference is from itself at a tolerance 100 times tighter: relative L2, the largest over runs."""
        scheme, first = self.reference_setting.scheme, frames.shape[1]
        assert isinstance(scheme, Adaptive)
        finer = replace(self.reference_setting, scheme=replace(scheme, rtol=scheme.rtol / 100))
        with torch.no_grad():
            pair = (self.reference(), self.solver(finer))
            u, v = (self.march(s, frames.double(), parameters, steps + first)[:, first:] for s in pair)
        return ((u - v).norm(dim=-1) / v.norm(dim=-1).clamp(min=1e-30)).amax(0)

    def _settle(self, frames: Tensor, parameters: Parameters) -> Tensor:
        """The state after the warm-up, in one call."""
        with torch.no_grad():
            scheme = self.reference_setting.scheme
            assert isinstance(scheme, Adaptive)
            solver = self._solver(Setting(0, 0, replace(scheme, rtol=1e-7)), self.warm_up)
            parameters = {k: v.double() for k, v in parameters.items()}
            return next(solver.march(frames.double(), parameters)).to(frames.dtype)

    def calculus(self, like: Tensor, fine: bool = False) -> NoSpace:  # type: ignore[override]
        """There is no space to differentiate in."""
        return NoSpace(self.grid)

    def rate(
        self, u: Float[Tensor, "batch channel *space"], parameters: Parameters, calculus: Calculus | None = None
    ) -> Float[Tensor, "batch channel *space"]:
        return self.equation.rate(u, calculus or NoSpace(self.grid), self.equation.ready(parameters, u))

    def starter(self, frames: Tensor, missing: int, parameters: Parameters) -> tuple[Tensor, int]:
        """Missing starting frames, made by the fast classical solver; and how many steps that took, one run with another."""
        steps = 0
        with torch.no_grad():
            solver = self._starting
            state = solver.start(frames[:, -1:], parameters)
            new = [frames]
            for _ in range(missing):
                state, frame = solver.advance(state, parameters)
                new.append(frame)
                steps += int((state.stats["accepted"] + state.stats["rejected"]).max())
        return torch.cat(new, dim=1), steps


def _uniform(generator: torch.Generator, low: Sequence[float], high: Sequence[float]) -> Float[Tensor, " channel"]:
    """One point of a box (float64)."""
    share = torch.rand(len(low), generator=generator, dtype=torch.float64)
    a, b = (torch.tensor(ends, dtype=torch.float64) for ends in (low, high))
    return a + (b - a) * share


class LorenzAttractor(SystemProblem):
    r"""Chaos in three numbers: starts on the Lorenz attractor.

    .. math:: \dot x = \sigma (y - x), \qquad \dot y = x (\rho - z) - y, \qquad \dot z = x y - \beta z

    Frames: the state; statistically steady. Errors grow tenfold in 2.5 time units: the reference is good to four figures after 10.

    Parameters
    ----------
    rho : a number, or a range (low, high) over runs. sigma, beta : as in the equation.
    interval : time between frames. warm_up : time before frames count.
    """

    stationary = True
    sizes = (10.0, 10.0, 10.0)

    def __init__(
        self,
        rho: float | Sequence[float] = 28.0,
        sigma: float = 10.0,
        beta: float = 8 / 3,
        interval: float = 0.05,
        warm_up: float = 5.0,
    ) -> None:
        self.rho, self.sigma, self.beta, self.interval, self.warm_up = rho, sigma, beta, interval, warm_up
        self.equation = systems.Lorenz(sigma, self._range("rho", rho), beta)
        self._pose(interval, warm_up, max(2, round(interval / 0.005)))

    def initial(self, generator: torch.Generator) -> Float[Tensor, "channel *space"]:
        return _uniform(generator, (-15.0, -15.0, 10.0), (15.0, 15.0, 40.0))


class PredatorPrey(SystemProblem):
    r"""Prey and predators that follow each other for ever, each run on an orbit of its own.

    .. math:: \dot x = \alpha x - \beta x y, \qquad \dot y = \delta x y - \gamma y

    Frames: prey and predators, positive; the first integral tells how well a long forecast keeps to its orbit.

    Parameters
    ----------
    growth, hunting, gain, death : alpha, beta, delta, gamma; each a number, or a range (low, high) over runs.
    interval : time between frames.
    """

    sizes = (1.0, 1.0)

    def __init__(
        self,
        growth: float | Sequence[float] = (1.2, 1.8),
        hunting: float | Sequence[float] = 1.0,
        gain: float | Sequence[float] = 1.0,
        death: float | Sequence[float] = 3.0,
        interval: float = 0.2,
    ) -> None:
        self.growth, self.hunting, self.gain, self.death = growth, hunting, gain, death
        self.interval = interval
        given = {"growth": growth, "hunting": hunting, "gain": gain, "death": death}
        self.equation = systems.LotkaVolterra(**{name: self._range(name, value) for name, value in given.items()})
        self._pose(interval, 0.0, max(2, round(interval / 0.05)))

    def initial(self, generator: torch.Generator) -> Float[Tensor, "channel *space"]:
        return _uniform(generator, (1.0, 0.5), (5.0, 3.0))


class RelaxationOscillator(SystemProblem):
    r"""The oscillator of van der Pol: creeps, then jumps.

    .. math:: \dot x = v, \qquad \dot v = \mu (1 - x^2)\, v - x

    Frames: position and velocity. The solver is implicit where mu exceeds 30.

    Parameters
    ----------
    damping : mu, a number, or a range (low, high) over runs.
    interval : time between frames.
    """

    def __init__(self, damping: float | Sequence[float] = (1.0, 8.0), interval: float = 0.1) -> None:
        self.damping, self.interval = damping, interval
        low = self._range("damping", damping)
        high = self.varying.get("damping", (low, low))[1]
        self.stiff = high > 30
        self.sizes = (1.0, max(1.0, high))
        self.equation = systems.VanDerPol(low)
        self._pose(interval, 0.0, max(2, round(10 * interval * max(1.0, high))))

    def initial(self, generator: torch.Generator) -> Float[Tensor, "channel *space"]:
        return _uniform(generator, (-2.5, -2.0), (2.5, 2.0))


class RobertsonKinetics(SystemProblem):
    r"""Three species whose reactions lie nine decades apart.

    .. math:: \dot a = -k_1 a + k_3 b c, \qquad \dot b = k_1 a - k_2 b^2 - k_3 b c, \qquad \dot c = k_2 b^2

    Frames: mass fractions (float32 holds them, the solver computes in float64). Starts lie on the slow manifold: the first milliseconds,
    in which b finds its place, are over.

    Parameters
    ----------
    slow, fast, middle : k_1, k_2, k_3; each a number, or a range (low, high) over runs.
    interval : time between frames, s.
    """

    stiff = True
    sizes = (1.0, 1e-4, 1.0)

    def __init__(
        self,
        slow: float | Sequence[float] = (0.02, 0.06),
        fast: float | Sequence[float] = (1e7, 6e7),
        middle: float | Sequence[float] = 1e4,
        interval: float = 4.0,
    ) -> None:
        self.slow, self.fast, self.middle, self.interval = slow, fast, middle, interval
        given = {"slow": slow, "fast": fast, "middle": middle}
        self.equation = systems.Robertson(**{name: self._range(name, value) for name, value in given.items()})
        self.warm_up = 1.0
        self._pose(interval, self.warm_up)

    def initial(self, generator: torch.Generator) -> Float[Tensor, "channel *space"]:
        c = float(_uniform(generator, (0.0,), (0.5,)))
        return torch.tensor([1 - c, 0.0, c], dtype=torch.float64)


class CubicSpiral(SystemProblem):
    r"""A spiral that winds inwards: the smallest example of learning a flow.

    .. math:: \dot x = -\delta\, x^3 + \omega\, y^3, \qquad \dot y = -\omega\, x^3 - \delta\, y^3

    Frames: x and y.

    Parameters
    ----------
    damping : delta, a number, or a range (low, high) over runs. turning : omega.
    interval : time between frames.
    """

    sizes = (1.0, 1.0)

    def __init__(
        self, damping: float | Sequence[float] = 0.1, turning: float | Sequence[float] = 2.0, interval: float = 0.1
    ) -> None:
        self.damping, self.turning, self.interval = damping, turning, interval
        self.equation = systems.Spiral(self._range("damping", damping), self._range("turning", turning))
        self._pose(interval, 0.0, max(2, round(interval / 0.02)))

    def initial(self, generator: torch.Generator) -> Float[Tensor, "channel *space"]:
        radius, phase = _uniform(generator, (1.0, 0.0), (2.2, 2 * math.pi)).tolist()
        return torch.tensor([radius * math.cos(phase), radius * math.sin(phase)], dtype=torch.float64)
