"""Method of lines: any calculus in space, explicit Runge-Kutta in time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations.calculus import Calculus
from slipstream.equations.differences import FiniteDifferences
from slipstream.equations.equation import Equation
from slipstream.grids import Grid
from slipstream.stepper import State, Stepper
from slipstream.trajectories import Parameters


@dataclass(frozen=True)
class Explicit:
    """Explicit Runge-Kutta: rows of the stages after the first, then the weights."""

    name: str
    order: int
    rows: tuple[tuple[float, ...], ...]

    def step(self, u: Tensor, rate: Callable[[Tensor], Tensor], dt: float) -> Tensor:
        """The state one dt later."""
        rates = [rate(u)]
        for i, row in enumerate(self.rows):
            stage = u
            for w, r in zip(row, rates, strict=True):
                if w:
                    stage = torch.add(stage, r, alpha=w * dt)
            if i + 1 < len(self.rows):
                rates.append(rate(stage))
        return stage


HEUN = Explicit("Heun", 2, ((1.0,), (0.5, 0.5)))
RK4 = Explicit("RK4", 4, ((0.5,), (0.0, 0.5), (0.0, 0.0, 1.0), (1 / 6, 1 / 3, 1 / 3, 1 / 6)))
SSPRK3 = Explicit("SSPRK3", 3, ((1.0,), (0.25, 0.25), (1 / 6, 1 / 6, 2 / 3)))
"""Shu & Osher, J. Comput. Phys. 77 (1988) 439: strong-stability preserving."""


class LinesStepper(Stepper):
    """Marches the `rate` of an equation in any calculus; the plain counterpart of `SpectralStepper`.

    Parameters
    ----------
    equation, grid, interval, substeps : as in `SpectralStepper`.
    scheme : an explicit tableau.
    calculus : called with (grid, dtype=, device=): `Spectral`, `FiniteDifferences` or a partial of one.
    """

    def __init__(
        self,
        equation: Equation,
        grid: Grid,
        interval: float,
        substeps: int = 1,
        scheme: Explicit = RK4,
        calculus: Callable[..., Calculus] = partial(FiniteDifferences, accuracy=2),  # noqa: B008
    ) -> None:
        super().__init__()
        self.equation, self.grid, self.interval, self.substeps = equation, grid, float(interval), substeps
        self.scheme, self.calculus = scheme, calculus
        self.channels = equation.channels

    def advance(
        self, state: State, parameters: Parameters, generator: torch.Generator | None = None
    ) -> tuple[State, Float[Tensor, "batch horizon channel *space"]]:
        u = state.values[:, -1]
        d = self.calculus(self.grid, dtype=u.dtype, device=u.device)
        p = self.equation.ready(parameters, u)
        for _ in range(self.substeps):
            u = self.scheme.step(u, lambda v: self.equation.rate(v, d, p), self.interval / self.substeps)
        return replace(state, values=u[:, None]), u[:, None]
