"""Ready-made problems of stiff chemistry in many cells: the chemistry step of a transport model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations.calculus import Calculus
from slipstream.equations.kinetics import SPECIES, AirPollution
from slipstream.equations.systems import NoSpace
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.problems.periodic import smooth_field
from slipstream.problems.problem import Problem, Setting
from slipstream.problems.systems import Adaptive
from slipstream.solvers.cells import CellStepper
from slipstream.solvers.rosenbrock import RODAS4, RODAS5P, Rosenbrock
from slipstream.trajectories import Parameters

EMITTED = {"NO": 0.2, "O3": 0.04, "HCHO": 0.1, "CO": 0.3, "ALD": 0.01, "SO2": 0.007}
"""Of the published start; each cell begins with up to twice as much of each, and is then left alone for the warm-up."""
FLOOR = 1e-5
"""Share of rtol that is allowed as absolute error (ppm)."""


class PollutedAir(Problem):
    r"""Smog in the cells of a map, each with its own light: 20 species, 25 reactions, stiff.

    .. math:: \dot u_i(x) = \sum_r \nu_{ir}\, k_r(\ell(x)) \prod_j u_j(x)^{n_{jr}}

    Frames: mole fractions (ppm) on a periodic map of cells; time in minutes. Parameter field: ``light``, 1 at noon. Cells do not exchange
    air: this is what an operator-split transport model asks its chemistry for. The classical solver is a Rosenbrock method with
    steps of each cell's own and linear algebra made for the mechanism, over all cells at once, in float64.

    A learnt rival has to beat fused code too: generated for one processor such a solver takes some 0.02 microseconds a cell and step,
    eager PyTorch here takes a few. A ratio below a hundred against this ladder is therefore no win of the network.

    Parameters
    ----------
    cells : along x and y. darkest, brightest : bounds of the light. interval : time between frames, min. warm_up : before frames count.
    """

    equation: AirPollution
    fields = ("light",)
    refinement = "a tolerance 100 times tighter"

    def __init__(
        self,
        cells: Sequence[int] = (32, 32),
        darkest: float = 0.2,
        brightest: float = 1.2,
        interval: float = 10.0,
        warm_up: float = 30.0,
    ) -> None:
        self.cells, self.darkest, self.brightest = tuple(cells), darkest, brightest
        self.interval, self.warm_up = interval, warm_up
        if len(self.cells) not in (1, 2) or min(self.cells) < 8:
            raise InputError(f"{self.name} expects cells along one or two axes, at least 8; got {cells}.")
        for what, value in (("interval", interval), ("warm_up", warm_up)):
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{self.name} expects a positive {what}; got {value}.")
        if not 0 <= darkest < brightest < math.inf:
            raise InputError(f"{self.name} expects 0 <= darkest < brightest; got {darkest} and {brightest}.")
        self.grid = Grid.box(self.cells, 1.0)
        self.equation = AirPollution()
        n = self.cells[0]
        self.fast_setting = Setting(n, 0, Adaptive(RODAS4, 1e-2))
        self.reference_setting = Setting(n, 0, Adaptive(RODAS5P, 1e-5))

    def draw(self, generator: torch.Generator) -> dict[str, Tensor]:
        wave = smooth_field(self.grid, generator, 3)
        return {"light": (self.darkest + (self.brightest - self.darkest) * torch.sigmoid(1.5 * wave)).float()}

    def initial(self, generator: torch.Generator) -> Float[Tensor, "channel *space"]:
        u = torch.zeros(len(SPECIES), *self.grid.shape, dtype=torch.float64)
        for name, amount in EMITTED.items():
            u[SPECIES.index(name)] = 2 * amount * torch.sigmoid(1.5 * smooth_field(self.grid, generator, 3))
        return u

    def _settle(self, frames: Tensor, parameters: Parameters) -> Tensor:
        with torch.no_grad():
            return next(CellStepper(self.equation, self.grid, self.warm_up, 1e-3, 1e-8).march(frames, parameters))

    def solver(self, setting: Setting | None = None, *, guard: bool = True) -> CellStepper:
        s = setting or self.fast_setting
        if not isinstance(s.scheme, Adaptive) or not isinstance(s.scheme.method, Rosenbrock):
            raise InputError(f"{self.name} is solved by `Adaptive` Rosenbrock methods; got the scheme {s.scheme.name}.")
        rtol = s.scheme.rtol
        return CellStepper(self.equation, self.grid, self.interval, rtol, FLOOR * rtol, s.scheme.method)

    def ladder(self) -> list[Setting]:
        n = self.cells[0]
        return [Setting(n, 0, Adaptive(m, r)) for m in (RODAS4, RODAS5P) for r in (0.3, 0.1, 3e-2, 1e-2, 1e-3, 1e-4)]

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
        return ((u - v).flatten(2).norm(dim=-1) / v.flatten(2).norm(dim=-1).clamp(min=1e-30)).amax(0)

    def rate(
        self, u: Float[Tensor, "batch channel *space"], parameters: Parameters, calculus: Calculus | None = None
    ) -> Float[Tensor, "batch channel *space"]:
        """Reactions happen where they are: no calculus is asked."""
        return self.equation.rate(u, calculus or NoSpace(), self.equation.ready(parameters, u))

    def starter(self, frames: Tensor, missing: int, parameters: Parameters) -> tuple[Tensor, int]:
        """Missing starting frames by the fast classical solver; and its steps, those of the slowest cell."""
        solver, steps, new = self._starting, 0, [frames]
        with torch.no_grad():
            state = solver.start(frames[:, -1:], parameters)
            for _ in range(missing):
                state, frame = solver.advance(state, parameters)
                new.append(frame)
                steps += int((state.stats["accepted"] + state.stats["rejected"]).max())
        return torch.cat(new, dim=1), steps
