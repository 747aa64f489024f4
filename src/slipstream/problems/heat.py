"""Heat in a plate with walls: five temperatures decide everything."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations.boundary import Conditions, Dirichlet
from slipstream.equations.calculus import Calculus
from slipstream.equations.transport import Diffusion
from slipstream.equations.walled import WalledDifferences
from slipstream.errors import InputError
from slipstream.grids import Grid, resample
from slipstream.problems.problem import Problem, Setting
from slipstream.solvers.linear.transforms import AxisTransform, Boundary
from slipstream.stepper import State, Stepper
from slipstream.trajectories import Parameters

WALLS = ("west", "east", "south", "north")


class Conduction(Diffusion):
    """Heat that spreads and leaves through walls: nothing is kept."""

    def invariants(self):
        return {}


@dataclass(frozen=True)
class SineModes:
    """The plate's eigenfunctions, each of which decays at its own rate: exact in time, whatever the step."""

    name: str = "sine modes"


def steady(grid: Grid) -> Float[Tensor, "wall *space"]:
    r"""The steady temperature with one wall at 1 and the others at 0, for each of `WALLS` (float64): its series, to rounding.

    .. math:: u(x, y) = \sum_{m\ odd} \frac{4}{m \pi} \sin(m \pi y / b) \frac{\sinh(m \pi (a - x) / b)}{\sinh(m \pi a / b)}
    """
    fields = []
    (x, y), (a, b) = (axis.coordinates() - axis.start for axis in grid.axes), (axis.extent for axis in grid.axes)
    for along, length, across, width in ((x, a, y, b), (y, b, x, a)):
        near = math.ceil(36 * width / (math.pi * float(along[0])))  # exp(-36) is below the rounding
        m = torch.arange(1, near + 2, 2, dtype=torch.float64)
        k = m * math.pi / width
        depth = along[:, None] * k
        # sinh(k (a - x)) / sinh(k a), without overflow.
        fall = (-depth).exp() * (1 - (-2 * k * (length - along[:, None])).exp()) / (1 - (-2 * k * length).exp())
        low = (fall * (4 / (m * math.pi))) @ (across[:, None] * k).sin().T
        low = low if along is x else low.T
        fields += [low, low.flip(0 if along is x else 1)]
    return torch.stack(fields)


def _modes(num_modes: int, num_points: int) -> Float[Tensor, "point mode"]:
    """The modes of one axis, of unit length on as many cell centres as there are modes, at other cell centres (float64)."""
    k = torch.arange(1, num_modes + 1, dtype=torch.float64)

    def at(n: int) -> Tensor:
        return torch.sin(math.pi * (torch.arange(n, dtype=torch.float64) + 0.5)[:, None] / n * k)

    return at(num_points) / at(num_modes).norm(dim=0)


class PlateStepper(Stepper):
    """Heat in a plate with given walls: the steady field, and what is left of the difference from it, mode by mode.

    The steady field is exact; the modes of the difference are taken from its values at the points of the inner grid, an error of second
    order in the spacing that decays with the modes themselves.

    Parameters
    ----------
    grid : of the frames, cell-centred. interval, diffusivity : as in `HeatedPlate`. num_points : of the inner grid along each axis.
    """

    grid: Grid

    def __init__(self, grid: Grid, interval: float, diffusivity: float, num_points: Sequence[int]) -> None:
        super().__init__()
        self.grid, self.interval, self.diffusivity, self.num_points = grid, interval, diffusivity, tuple(num_points)
        self.channels = Conduction().channels
        self.inner = grid.with_points(list(self.num_points))
        self._steady = {g.shape: steady(g) for g in (self.grid, self.inner)}
        k = [
            math.pi * torch.arange(1, n + 1).double() / a.extent
            for a, n in zip(grid.axes, self.num_points, strict=True)
        ]
        self._decay = (-diffusivity * interval * (k[0][:, None].square() + k[1].square())).exp()
        self._known: dict[tuple[torch.dtype, torch.device], tuple[list[AxisTransform], list[Tensor]]] = {}

    def _tools(self, like: Tensor) -> tuple[list[AxisTransform], list[Tensor]]:
        """For each axis, what takes values on the inner grid to modes, and the modes at the points of the frames, (point, mode)."""
        key = like.dtype, like.device
        if key not in self._known:
            with torch.inference_mode(False):
                transforms = [AxisTransform(Boundary.DIRICHLET, n, *key) for n in self.num_points]
                modes = [_modes(n, m).to(like) for n, m in zip(self.num_points, self.grid.shape, strict=True)]
            self._known[key] = transforms, modes
        return self._known[key]

    def _rest(self, parameters: Parameters, grid: Grid, like: Tensor) -> Float[Tensor, "batch 1 *space"]:
        """The steady field of each run."""
        missing = [w for w in WALLS if w not in parameters]
        if missing:
            raise InputError(
                f"A heated plate needs the temperatures of its walls; {missing} are missing from {sorted(parameters)}."
            )
        walls = torch.stack([parameters[w].to(like) for w in WALLS], dim=-1)
        return torch.tensordot(walls, self._steady[grid.shape].to(like), dims=1)[:, None]

    def start(self, frames: Float[Tensor, "batch time channel *space"], parameters: Parameters) -> State:
        self.check(frames)
        last = frames[:, -1]
        # The difference vanishes on the walls and the steady field is known everywhere: it is the difference that is interpolated ...
        away = last - self._rest(parameters, self.grid, last)
        if self.inner.shape != self.grid.shape:
            flat = (last - last.mean((-2, -1), keepdim=True)).abs().amax(
                (-2, -1), keepdim=True
            ) <= 1e-6 * last.abs().amax()
            # ... but a uniform plate is uniform up to its walls.
            even = last.mean((-2, -1), keepdim=True) - self._rest(parameters, self.inner, last)
            away = torch.where(flat, even, resample(away, self.grid, self.inner))
        first, second = self._tools(away)[0]
        return State((first.forward(second.forward(away, -1), -2), parameters))

    def advance(
        self, state: State, parameters: Parameters, generator: torch.Generator | None = None
    ) -> tuple[State, Float[Tensor, "batch horizon channel *space"]]:
        modes, before = state.values
        if before is not parameters and any(not torch.equal(before[w], parameters[w]) for w in WALLS):
            change = self._rest(before, self.inner, modes) - self._rest(parameters, self.inner, modes)
            first, second = self._tools(change)[0]
            modes = modes + first.forward(second.forward(change, -1), -2)
        modes = modes * self._decay.to(modes)
        rows, columns = self._tools(modes)[1]
        # Only where frames have points: a ninth of the inner ones for the reference.
        frame = rows @ (modes @ columns.T) + self._rest(parameters, self.grid, modes)
        return replace(state, values=(modes, parameters)), frame[:, None]


class HeatedPlate(Problem):
    r"""A plate at one temperature whose four walls are given others.

    .. math:: \partial_t u = \alpha \Delta u, \qquad u = T_{west}, T_{east}, T_{south}, T_{north} \text{ on the walls}

    Frames: temperature (K) at the centres of the cells of a square of side 1 m. Parameters: ``initial`` and the four walls, each drawn
    uniformly. Heat comes in from the walls as ``sqrt(alpha t)`` and the plate is steady after ``0.1 / alpha``.

    The classical solver is exact in time and jumps any interval in one call: no network will beat it. The problem is one on which ways of
    training are compared.

    Parameters
    ----------
    num_points : along each side. interval : time between frames. diffusivity : alpha, m^2/s. low, high : range of the temperatures.

    References
    ----------
    The case of Meyer et al., ICML 2023 (arXiv:2306.16133), on a smaller grid.
    """

    def __init__(
        self,
        num_points: int = 32,
        interval: float = 0.1,
        diffusivity: float = 0.01,
        low: float = 100.0,
        high: float = 500.0,
    ) -> None:
        if num_points < 4 or not (math.isfinite(interval) and interval > 0 and diffusivity > 0):
            raise InputError(
                f"HeatedPlate expects num_points >= 4, interval > 0 and diffusivity > 0; got {num_points}, {interval}, {diffusivity}."
            )
        if not -math.inf < low < high < math.inf:
            raise InputError(f"HeatedPlate expects temperatures low < high; got {low} and {high}.")
        self.num_points, self.interval, self.diffusivity, self.low, self.high = (
            num_points,
            interval,
            diffusivity,
            low,
            high,
        )
        self.grid = Grid.box(num_points, 1.0, num_dims=2, periodic=False)
        self.equation = Conduction(diffusivity, 2)
        self.varying: Mapping[str, tuple[float, float]] = dict.fromkeys(("initial", *WALLS), (low, high))
        self.fast_setting = Setting(num_points, 1, SineModes())
        self.reference_setting = Setting(3 * num_points, 1, SineModes())

    def draw(self, generator: torch.Generator) -> dict[str, Tensor]:
        share = torch.rand(len(self.varying), generator=generator, dtype=torch.float64)
        values = (self.low + (self.high - self.low) * share).float()
        return dict(zip(self.varying, values, strict=True))

    def initial_for(
        self, generator: torch.Generator, parameters: Mapping[str, Tensor]
    ) -> Float[Tensor, "channel *space"]:
        return parameters["initial"].double().expand(1, *self.grid.shape).clone()

    def solver(self, setting: Setting | None = None, *, guard: bool = True) -> Stepper:
        s = setting or self.fast_setting
        if not isinstance(s.scheme, SineModes):
            raise InputError(f"{self.name} is solved by sine modes; got the scheme {s.scheme.name}.")
        return PlateStepper(self.grid, self.interval, self.diffusivity, self.points(s))

    def ladder(self) -> list[Setting]:
        n = self.num_points
        points = sorted({max(4, round(n * f)) for f in (0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1, 3)})
        return [Setting(m, 1, SineModes()) for m in points]

    def reference_error(
        self, frames: Float[Tensor, "run time channel *space"], parameters: Parameters, steps: int
    ) -> Float[Tensor, " step"]:
        """How far the reference is from itself on three times as many points: relative L2, the largest over runs, for each later frame."""
        first, finer = frames.shape[1], Setting(3 * self.reference_setting.num_points, 1, SineModes())
        with torch.no_grad():
            u, v = (
                self.march(self.solver(s), frames.double(), parameters, steps + first)[:, first:]
                for s in (self.reference_setting, finer)
            )
        return ((u - v).flatten(2).norm(dim=-1) / v.flatten(2).norm(dim=-1).clamp(min=1e-30)).amax(0)

    def calculus_for(self, like: Tensor, parameters: Parameters) -> WalledDifferences:
        """Central differences that know the walls of each run."""
        sides = {name: Dirichlet(name) for name in WALLS}
        conditions = Conditions(
            self.channels,
            {
                "x": (sides["west"], sides["east"]),
                "y": (sides["south"], sides["north"]),
            },
        )
        return WalledDifferences(self.grid, conditions, parameters, like.dtype, like.device)

    def rate(
        self, u: Float[Tensor, "batch channel *space"], parameters: Parameters, calculus: Calculus | None = None
    ) -> Float[Tensor, "batch channel *space"]:
        """The equation's time derivative of frames on this problem's grid, by central differences of second order."""
        p = self.equation.ready(parameters, u)
        return self.equation.rate(u, calculus or self.calculus_for(u, parameters), p)
