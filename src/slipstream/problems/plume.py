"""A plume: warm fluid that rises past an obstacle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.equations.boundary import Conditions, Dirichlet, Inflow, Obstacle, Outflow, Wall
from slipstream.equations.equation import Parameter
from slipstream.equations.incompressible import BuoyantFlow
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.problems.staggered import StaggeredProblem
from slipstream.solvers.linear.method import Method
from slipstream.trajectories import Parameters

HEIGHT = 1.5
"""Of the box, in its widths."""
RADIUS, ALTITUDE = 0.1, 0.25
"""Of the source of heat."""


def block(x: Float[Tensor, "dim *space"]) -> Float[Tensor, " *space"]:
    """Signed distance to a block in the middle of the box, a quarter wide and an eighth high; its faces lie on those of cells."""
    dims = x.shape[0]
    centre = x.new_tensor([0.5] * (dims - 1) + [0.8125]).reshape(-1, *[1] * dims)
    half = x.new_tensor([0.125] * (dims - 1) + [0.0625]).reshape(-1, *[1] * dims)
    beyond = (x - centre).abs() - half
    return beyond.clamp(min=0).norm(dim=0) + beyond.amax(0).clamp(max=0)


def heater(x: Float[Tensor, "dim *space"], p: Parameters) -> Float[Tensor, "batch *space"]:
    """A warm spot near the bottom, at most 1 K/s."""
    away = (x[-1] - ALTITUDE).square()[None]
    for i, axis in enumerate("xy"[: x.shape[0] - 1]):
        away = away + (x[i][None] - p[f"source_{axis}"]).square()
    return torch.exp(-away / RADIUS**2)


class RisingPlume(StaggeredProblem):
    r"""Warm fluid rises from a spot of heat, meets a block, splits and sheds vortices on its way out.

    .. math:: \partial_t u = P ( -\nabla \cdot (u u) + \nu \Delta u + \beta T e_{up} ), \qquad
        \partial_t T = -\nabla \cdot (u T) + \kappa \Delta T + s

    Frames: velocities (m/s) at the lower faces of cells and temperature (K) in a box 1 m wide and 1.5 m high, up being the last axis.
    A slow even stream comes in below and leaves above, where the pressure is zero; fluid slides along the other sides and sticks to
    the block. Runs differ in the place of the source, the lift and the stream.

    Parameters
    ----------
    num_points : along the horizontal axes, a multiple of 8 (so that the block ends on faces, and grids half as fine see it too: of 16).
    num_dims : 2 or 3. viscosity : nu, and diffusivity : kappa, m^2/s.
    lift : beta, m/s^2 a kelvin, and inflow : m/s; numbers or ranges (low, high) over runs.
    source : where the source lies along the horizontal axes, a range. obstacle : whether there is the block.
    interval : time between frames. warm_up : time before frames count.
    pressure_solver : of the classical solver, such as ``DCDM("folder")``; None is its own choice.
    """

    def __init__(
        self,
        num_points: int = 32,
        num_dims: int = 2,
        viscosity: float = 2e-3,
        diffusivity: float = 2e-3,
        lift: float | Sequence[float] = (0.5, 1.0),
        inflow: float | Sequence[float] = (0.2, 0.3),
        source: Sequence[float] = (0.3, 0.7),
        obstacle: bool = True,
        interval: float = 0.1,
        warm_up: float = 1.0,
        pressure_solver: Method | None = None,
    ) -> None:
        if num_points < 8 or num_points % 8:
            raise InputError(f"{self.name} expects num_points as a multiple of 8; got {num_points}.")
        self._number(viscosity=viscosity, diffusivity=diffusivity, interval=interval)
        if warm_up < 0:
            raise InputError(f"{self.name} expects a warm_up of at least 0; got {warm_up}.")
        self.num_points, self.num_dims, self.viscosity, self.diffusivity = num_points, num_dims, viscosity, diffusivity
        self.lift, self.inflow, self.source, self.obstacle = lift, inflow, source, obstacle
        self.interval, self.warm_up, self.pressure_solver = interval, warm_up, pressure_solver
        lifts, streams, places = self._range("lift", lift), self._range("inflow", inflow), self._range("source", source)
        across = "xy"[: num_dims - 1]
        declared = {f"source_{a}": Parameter("m", sum(places) / 2, 0.0, 1.0) for a in across}
        declared["inflow"] = Parameter("m/s", streams[0], low=0.0)
        self.equation = BuoyantFlow(viscosity, diffusivity, lifts[0], num_dims, None, heater, declared)
        self.grid = Grid.box(
            [num_points] * (num_dims - 1) + [3 * num_points // 2],
            [1.0] * (num_dims - 1) + [HEIGHT],
            periodic=[False] * num_dims,
        )
        up = "xyz"[num_dims - 1]
        below = {c.name: Dirichlet(0.0) for c in self.equation.channels} | {
            f"velocity_{up}": Inflow("inflow"),
            "temperature": Inflow(0.0),
        }
        sides = {a: Wall(slip=True) for a in across} | {up: (below, Outflow())}
        self.conditions = Conditions(self.equation.channels, sides, Obstacle(block) if obstacle else None)
        self._vary(lift_rate=lifts, inflow=streams, **{f"source_{a}": places for a in across})
        self._settings(streams[1] * 3 + 1.5 * lifts[1] ** 0.5, max(viscosity, diffusivity))

    def draw(self, generator: torch.Generator) -> dict[str, Tensor]:
        fixed = {"inflow": torch.tensor(self._range("inflow", self.inflow)[0])}
        return fixed | super().draw(generator) if "inflow" not in self.varying else super().draw(generator)

    def initial_for(
        self, generator: torch.Generator, parameters: Mapping[str, Tensor]
    ) -> Float[Tensor, "channel *space"]:
        """The stream around the block, and cool fluid."""
        frame = torch.zeros(1, len(self.channels), *self.grid.shape, dtype=torch.float64)
        frame[:, self.num_dims - 1] = parameters["inflow"].double()
        return self._own.project(frame, {k: v[None].double() for k, v in parameters.items()})[0]
