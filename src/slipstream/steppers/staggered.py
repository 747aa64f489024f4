"""NeuralStagger: one fine problem, many small solvers side by side.

Source: Huang, Shi, Meng, Wang, Gao, Zhang, Liu: NeuralStagger, ICML 2023 (arXiv 2302.10255).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from slipstream.errors import InputError, ShapeError
from slipstream.operators.operator import OperatorFactory
from slipstream.pretrained import arguments_of
from slipstream.problems.problem import Problem, Statistics
from slipstream.steppers.executions import EXECUTIONS, Execution, Loop
from slipstream.steppers.learned import LearnedStepper, position_channels
from slipstream.steppers.parts import Level, Part, regular, whole
from slipstream.trajectories import Parameters, Trajectories


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

    Every regular subset of the sub-solvers is a solver without more training: `levels` lists them, `at_level` gives one, `export` a
    single sub-solver. Their frames are point samples of the fine solution, not solutions of a coarser discretisation.

    Parameters
    ----------
    operator : factory of one sub-solver.
    problem, statistics : as in `LearnedStepper`.
    space : coarsening factor, one for all axes or one each. A part does not see waves shorter than twice its spacing: see
        `slipstream.assessment.stagger.suggest_factor`.
    time : coarsening factor in time.
    fan : False: chains, ``u_{nK+r} -> u_{(n+1)K+r}``, K known frames become the next K. True: all K frames from the last one.
    share : one network for all shifts and chains (an ablation; the method has one each).
    coordinates : whether each network sees the coordinates of its own points.
    execution : how the sub-solvers are run; may be set at any time and changes no number beyond rounding. ``"loop"``, the default, runs one
        after the other, which is what the transforms of `slipstream.accelerate` work on. ``"grouped"`` runs all as one network with
        grouped convolutions: on one core 1.0 to 2.6 times as fast for one run and in training on sub-grids of 8 to 64 points an axis, the
        more the smaller and narrower the networks; 0.7 times for four runs of U-Nets with 16 channels on 32 x 32.
        ``"processes"`` spreads them over worker processes, one a core, for inference: where a call takes many milliseconds.
    part : the sub-solvers that there are; None is all. Made by `at_level` and `export`.
    """

    here: Tensor
    scale: Tensor

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
        execution: str = "loop",
        part: Part | None = None,
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
        self.coordinates, self.part = coordinates, part
        self._execution: Execution = Loop()
        self.execution = execution

        chosen = part or whole(self.factors, time)
        chosen.check(self.factors, time, fan, problem.grid)
        self.chains, self.shifts = chosen.chains, chosen.shifts(self.factors)
        self.history, self.horizon = (1 if fan else len(self.chains)), len(self.chains)
        self.grid = chosen.grid(problem.grid)
        self._own_factors = tuple(s // t for s, t in zip(self.factors, chosen.stride, strict=True))
        self._every = chosen.interval(time, fan)
        self.interval = self._every * problem.interval
        if self.starter is not None and part is not None:
            # A classical solver on a coarse grid would take what lies between its points for what it is not.
            self.starter = self._sparse_starter if self.grid.shape == problem.grid.shape else None

        channels = len(self.channels)
        here = position_channels(problem.grid) if coordinates else torch.empty(0, *problem.grid.shape)
        self.register_buffer("here", split(here, self.factors)[self.shifts], persistent=False)
        self.networks = nn.ModuleList(
            operator(
                in_channels=channels + len(problem.fields) + self.here.shape[1],
                out_channels=channels,
                num_dims=dims,
                num_scalars=self.num_scalars,
            )
            for _ in range(1 if share else len(self.shifts) * len(self.chains))
        )
        jumps = [self.jump(r + 1 if fan else time) for r in self.chains]
        self.register_buffer("scale", torch.stack(jumps), persistent=False)

    @property
    def execution(self) -> str:
        return self._execution.name

    @execution.setter
    def execution(self, name: str) -> None:
        if name not in EXECUTIONS:
            raise InputError(f"Staggered runs its sub-solvers as one of {list(EXECUTIONS)}; got execution={name!r}.")
        self._execution.close()
        self._execution = EXECUTIONS[name]()

    def sub_solver(self, shift: int, chain: int) -> nn.Module:
        """The network of one shift and one chain, counted among those that there are (shifts in row-major order)."""
        return self.networks[0 if self.share else shift * len(self.chains) + chain]

    def forward(
        self, past: Float[Tensor, "batch time channel *space"], parameters: Parameters
    ) -> Float[Tensor, "batch horizon channel *space"]:
        batch, steps = past.shape[0], len(self.chains)
        parts = split(self.normalise(past), self._own_factors).transpose(1, 2)
        inputs = [parts.expand(-1, steps, *parts.shape[2:])]
        fields = self.field_channels(parameters, past)
        here = self.here.to(past)[:, None, None]
        inputs.append(here.expand(-1, steps, batch, *here.shape[3:]))
        if fields is not None:
            sides = split(fields, self._own_factors)[:, None]
            inputs.append(sides.expand(-1, steps, *sides.shape[2:]))
        x = torch.cat(inputs, dim=3).flatten(0, 1)
        changes = self._execution(list(self.networks), x, self.scalars(parameters, past))
        change = merge(changes.unflatten(0, (-1, steps)).transpose(1, 2), self._own_factors)
        known = past[:, -1:] if self.fan else past
        return known + self.scale * change

    def levels(self) -> list[Level]:
        """The solvers in this one, from the whole to the coarsest: strides as equal along the axes as factors and ends allow."""
        found = []
        for stride in (t for t in range(1, max(self.factors) + 1) if any(s % t == 0 for s in self.factors)):
            space = tuple(
                math.gcd(stride, s) if a.periodic else 1
                for s, a in zip(self.factors, self.problem.grid.axes, strict=True)
            )
            for every in (q for q in range(1, self.time + 1) if self.time % q == 0):
                part = regular(self.factors, self.time, self.fan, space, every)
                count = len(part.shifts(self.factors)) * len(part.chains)
                work = count / (math.prod(self.factors) * self.time)
                shape = part.grid(self.problem.grid).shape
                found.append(Level(space, every, shape, every * self.problem.interval, count, work))
        return sorted(dict.fromkeys(found), key=lambda level: (-level.work, level.time))

    def at_level(self, space: int | Sequence[int] = 1, time: int = 1) -> Staggered:
        """The solver on every `space`-th point and every `time`-th frame: it runs only those sub-solvers, and shares their weights.

        A stepper like any other, on its own coarser grid and interval; `restrict` brings fine trajectories there. With fewer points it has
        no starter: with chains it needs as many true frames as it has left.

        Parameters
        ----------
        space : divides the factor of each axis, one for all axes or one each. time : divides `time`.
        """
        return self._only(regular(self.factors, self.time, self.fan, space, time))

    def export(self, shift: int | Sequence[int] = 0, chain: int = 0) -> Staggered:
        """One sub-solver as a stepper of its own, with nothing else in it: to be saved and served.

        Parameters
        ----------
        shift : along each axis, or one for all. chain : of a fan, the head that jumps ``chain + 1`` intervals.
        """
        first = (shift,) * len(self.factors) if isinstance(shift, int) else tuple(shift)
        return self._only(Part(self.factors, first, (chain,)))

    def restrict(self, fine: Trajectories) -> Trajectories:
        """Trajectories of the fine problem as this level sees them: its points and times, nothing averaged."""
        self.problem.grid.check(fine.frames, "restrict")
        axes = zip(self.problem.grid.axes, self.grid.axes, strict=True)
        each = [slice(round((b.start - a.start) / a.spacing), None, round(b.spacing / a.spacing)) for a, b in axes]
        points: tuple[Any, ...] = (..., *each)
        parameters = {
            k: v[points] if tuple(v.shape[1:]) == self.problem.grid.shape else v for k, v in fine.parameters.items()
        }
        sparse = fine[:, :: self._every]
        return replace(sparse, frames=sparse.frames[points], grid=self.grid, parameters=parameters)

    def _only(self, part: Part) -> Staggered:
        if self.part is not None:
            raise InputError("This stepper is a part already; take levels and sub-solvers from the whole one.")
        with torch.random.fork_rng(devices=[]):  # fresh networks are only made to be replaced
            level = Staggered(**{**arguments_of(self), "part": part})
        level.to(self.mean)
        if self.share:
            level.networks = self.networks
        else:
            level.networks = nn.ModuleList(self.sub_solver(s, r) for s in level.shifts for r in level.chains)
        return level.train(self.training)

    def _sparse_starter(self, frames: Tensor, missing: int, parameters: Parameters) -> tuple[Tensor, int]:
        """Every so many-th of the frames that the problem's starter makes."""
        made, steps = self.problem.starter(frames[:, -1:], missing * self._every, parameters)
        return torch.cat([frames, made[:, self._every :: self._every]], dim=1), steps
