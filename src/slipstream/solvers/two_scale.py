"""Classical stepper for steady conduction with a law of its own at every point: parameters in, one field out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.channels import Channel, as_channels
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.solvers.macro import Conduction, Law
from slipstream.stepper import State, Stepper
from slipstream.trajectories import Parameters


class ConductionStepper(Stepper):
    """Solves :math:`-\\nabla \\cdot q(\\nabla u; p) = f` with u = 0 on the boundary; differentiable in the parameters where the law is.

    Parameter fields are constant in each cell of the grid; the frame holds u at the centres of its cells. The mesh may be another.
    `State.stats` counts: ``law_calls`` (each for all Gauss points) and ``fallbacks`` (points at which the law asked another in its place).

    Parameters
    ----------
    grid : a rectangle with ends on both axes, points at cell centres.
    law : from gradients and features to fluxes and tangents.
    features : names of the parameter fields that the law sees, in its order. source : name of f.
    channels : of the frame, one.
    num_cells : of the mesh, along each axis; those of the grid where None.
    tolerance : of Newton's method, relative to the load.
    """

    history = 0
    interval = 0.0
    grid: Grid
    channels: tuple[Channel, ...]

    def __init__(
        self,
        grid: Grid,
        law: Law,
        features: Sequence[str],
        source: str = "source",
        channels: Sequence[Channel | str] = ("u",),
        num_cells: Sequence[int] | None = None,
        tolerance: float = 1e-3,
    ) -> None:
        super().__init__()
        if grid.num_dims != 2 or any(a.periodic or not a.centred for a in grid.axes):
            raise InputError(
                "ConductionStepper expects a rectangle with points at cell centres: Grid.box(n, extent, num_dims=2, periodic=False)."
            )
        self.grid, self.features, self.source = grid, tuple(features), source
        self.channels, self.num_cells, self.tolerance = as_channels(channels), num_cells, tolerance
        self.law = law
        self.mesh = Conduction(num_cells or grid.shape, grid.extent)
        spacing = torch.tensor(grid.spacing, dtype=torch.float64)
        cell = (self.mesh.points() / spacing).floor().long()
        self._cell = cell[:, 0] * grid.shape[1] + cell[:, 1]
        self._centres = grid.coordinates(torch.float64).flatten(1).T - torch.tensor([a.start for a in grid.axes])

    def material(self) -> Law:
        """The law that the mesh asks."""
        return self.law

    def at_points(self, parameters: Parameters, name: str) -> Float[Tensor, "run point"]:
        """A parameter field at the Gauss points of the mesh."""
        if name not in parameters:
            raise InputError(
                f"{type(self).__name__} needs the field {name!r}; the parameters given are {sorted(parameters)}."
            )
        value = parameters[name]
        self.grid.check(value, f"{type(self).__name__}, parameter {name!r},")
        return value.flatten(1)[:, self._cell]

    def advance(
        self, state: State, parameters: Parameters, generator: torch.Generator | None = None
    ) -> tuple[State, Float[Tensor, "batch horizon channel *space"]]:
        features = torch.stack([self.at_points(parameters, name) for name in self.features], dim=-1)
        source = self.at_points(parameters, self.source)
        solved = self.mesh.solve(self.material(), features, source, tolerance=self.tolerance)
        frame = self.mesh.values(solved.u, self._centres).unflatten(1, self.grid.shape)
        stats = {"law_calls": torch.tensor(solved.iterations), "fallbacks": torch.tensor(solved.fallbacks)}
        return replace(state, stats=stats), frame[:, None, None]

    def forward(
        self, past: Float[Tensor, "batch time channel *space"], parameters: Parameters
    ) -> Float[Tensor, "batch horizon channel *space2"]:
        return self.advance(State(past), parameters)[1]
