"""NeuralStagger: one fine problem, many small solvers side by side.

Source: Huang, Shi, Meng, Wang, Gao, Zhang, Liu: NeuralStagger, ICML 2023 (arXiv 2302.10255).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from slipstream.errors import InputError, ShapeError
from slipstream.operators.operator import OperatorFactory
from slipstream.problems.problem import Problem, Statistics
from slipstream.steppers.learned import LearnedStepper, position_channels
from slipstream.trajectories import Parameters


def split(u: Shaped[Tensor, "*leading"], factors: Sequence[int]) -> Shaped[Tensor, "part *leading2"]:
    """Polyphase parts of a field: part (i, j) holds the points (a s_x + i, b s_y + j). No averaging: a permutation.

    Parameters
    ----------
    u : any leading axes, then one axis a factor.
    factors : one an axis of space; they divide the numbers of points.

    Returns
    -------
    (prod(factors), *leading, *coarse space), shifts in row-major order; `merge` undoes it exactly.
    """
    d = len(factors)
    space, lead = u.shape[u.ndim - d :], u.ndim - d
    if any(n % s for n, s in zip(space, factors, strict=True)):
        raise ShapeError(f"split needs numbers of points divisible by {tuple(factors)}; got {tuple(space)}.")
    sizes = [k for n, s in zip(space, factors, strict=True) for k in (n // s, s)]
    u = u.reshape(*u.shape[:lead], *sizes)
    shifts, coarse = range(lead + 1, lead + 2 * d, 2), range(lead, lead + 2 * d, 2)
    u = u.permute(*shifts, *range(lead), *coarse)
    return u.reshape(math.prod(factors), *u.shape[d:])


def merge(parts: Shaped[Tensor, "part *leading2"], factors: Sequence[int]) -> Shaped[Tensor, "*leading"]:
    """The field whose polyphase parts these are; undoes `split` exactly."""
    d = len(factors)
    if parts.shape[0] != math.prod(factors):
        raise ShapeError(
            f"merge expects {math.prod(factors)} parts for the factors {tuple(factors)}; got {parts.shape[0]}."
        )
    u = parts.reshape(*factors, *parts.shape[1:])
    lead = u.ndim - 2 * d
    order = [*range(d, d + lead)]
    for axis in range(d):
        order += [d + lead + axis, axis]
    u = u.permute(order)
    space = [u.shape[lead + 2 * a] * factors[a] for a in range(d)]
    return u.reshape(*u.shape[:lead], *space)


class Staggered(LearnedStepper):
    """Independent coarse sub-solvers whose outputs interleave to the fine solution, in space and in time.

    The grid is split into ``prod(space)`` polyphase parts, time into `time` interleaved chains; each pair of shift and chain has a
    network of its own that sees nothing else. One call gives `time` frames. What ties the sub-solvers together is the
    loss, evaluated on the merged fine frames (`slipstream.objectives.PhysicsResidual`).

    Parameters
    ----------
    operator : factory of one sub-solver.
    problem, statistics : as in `LearnedStepper`.
    space : coarsening factor, one for all axes or one each.
    time : coarsening factor in time.
    fan : False: chains, ``u_{nK+r} -> u_{(n+1)K+r}``, K known frames become the next K. True: all K frames from the last one.
    share : one network for all shifts and chains (an ablation; the method has one each).
    coordinates : whether each network sees the coordinates of its own points.
    """

    def __init__(
        self,
        operator: OperatorFactory,
        problem: Problem,
        space: int | Sequence[int] = 2,
        time: int = 1,
        fan: bool = False,
        share: bool = False,
        coordinates: bool = True,
        statistics: Statistics | None = None,
    ) -> None:
        super().__init__(problem, statistics)
        dims = self.grid.num_dims
        self.factors = (space,) * dims if isinstance(space, int) else tuple(space)
        if len(self.factors) != dims or min(*self.factors, time) < 1:
            raise InputError(
                f"Staggered expects a factor >= 1 for each of {dims} axes and for time; got space={space}, time={time}."
            )
        if any(n % s or n // s < 4 for n, s in zip(self.grid.shape, self.factors, strict=True)):
            raise InputError(
                f"space={space} does not divide the grid {self.grid.shape} into parts of at least 4 points an axis."
            )
        self.operator, self.space, self.time, self.fan, self.share = operator, space, time, fan, share
        self.coordinates = coordinates
        self.history, self.horizon = (1 if fan else time), time
        channels = len(self.channels)
        here = position_channels(problem.grid) if coordinates else torch.empty(0, *self.grid.shape)
        self.register_buffer("here", split(here, self.factors), persistent=False)
        self.shifts = list(product(*(range(s) for s in self.factors)))
        count = 1 if share else len(self.shifts) * time
        self.networks = nn.ModuleList(
            operator(
                in_channels=channels + len(problem.fields) + self.here.shape[1],
                out_channels=channels,
                num_dims=dims,
                num_scalars=self.num_scalars,
            )
            for _ in range(count)
        )
        jumps = [self.jump(r + 1 if fan else time) for r in range(time)]
        self.register_buffer("scale", torch.stack(jumps), persistent=False)

    here: Tensor
    scale: Tensor

    def sub_solver(self, shift: int, chain: int) -> nn.Module:
        """The network of one shift (row-major index) and one chain."""
        return self.networks[0 if self.share else shift * self.time + chain]

    def forward(
        self, past: Float[Tensor, "batch time channel *space"], parameters: Parameters
    ) -> Float[Tensor, "batch horizon channel *space"]:
        batch = past.shape[0]
        parts = split(self.normalise(past), self.factors)
        fields = self.field_channels(parameters, past)
        scalars = self.scalars(parameters, past)
        here = self.here.to(past)
        sides = None if fields is None else split(fields, self.factors)
        changes = []
        for s in range(len(self.shifts)):
            fixed = [here[s].expand(batch, *here.shape[1:])]
            if sides is not None:
                fixed.append(sides[s])
            row = []
            for r in range(self.time):
                x = torch.cat([parts[s, :, 0 if self.fan else r], *fixed], dim=1)
                network = self.sub_solver(s, r)
                row.append(network(x) if scalars is None else network(x, scalars))
            changes.append(torch.stack(row, dim=1))
        change = merge(torch.stack(changes), self.factors)
        known = past[:, -1:] if self.fan else past
        return known + self.scale * change
