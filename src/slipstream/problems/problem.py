"""Problem: one equation on one domain, with everything needed to pose it, solve it and judge a solution."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.channels import Channel
from slipstream.equations.calculus import Calculus
from slipstream.equations.equation import Equation
from slipstream.equations.spectral import Spectral
from slipstream.errors import InputError
from slipstream.grids import Grid, resample
from slipstream.pretrained import arguments_of
from slipstream.solvers.schemes import Scheme
from slipstream.solvers.spectral import SpectralStepper
from slipstream.stepper import Stepper
from slipstream.trajectories import Parameters, Trajectories, take


@runtime_checkable
class Named(Protocol):
    """A scheme, as far as a setting is concerned."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True)
class Setting:
    """One way to run the classical solver: points along the first axis, time steps an interval, scheme.

    What a scheme is, the problem's `solver` knows. A steady problem takes no steps in time, an adaptive scheme chooses its own, and
    a system without space has no points: 0 stands for each.
    """

    num_points: int
    substeps: int
    scheme: Named

    def __str__(self) -> str:
        steps = f", {self.substeps} steps" if self.substeps else ""
        points = f" {self.num_points} points" if self.num_points else ""
        return f"{self.scheme.name}{points}{steps}"


@dataclass(frozen=True)
class Statistics:
    """Typical sizes of a problem's fields, one entry a channel: for normalisation inside steppers."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    increment: tuple[float, ...]
    """Root mean square change over one interval."""
    fields: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Mean and standard deviation of each field parameter."""


def statistics_of(u: Float[Tensor, "run time channel *space"], fields: Parameters) -> Statistics:
    """Typical sizes of frames and of field parameters; a single frame's typical change is its spread."""
    axes = [0, 1, *range(3, u.ndim)]
    change = (u[:, 1:] - u[:, :-1]).square().mean(axes).sqrt() if u.shape[1] > 1 else u.std(axes)
    sizes = {n: (float(v.mean()), float(v.std())) for n, v in fields.items()}
    return Statistics(tuple(u.mean(axes).tolist()), tuple(u.std(axes).tolist()), tuple(change.tolist()), sizes)


def _seed(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "little") >> 1


def _stacked(drawn: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([p[name] for p in drawn]) for name in (drawn[0] if drawn else {})}


class Problem:
    """One equation, one domain, distributions of initial states and parameters, an interval, and a trusted classical solver.

    A subclass sets the attributes and writes `initial` and, where parameters are more than `varying` says, `draw`. One whose
    classical solver is not spectral writes `solver` and `ladder` too; a steady one has no `initial` and the interval 0.

    Attributes
    ----------
    equation, grid, interval : the PDE, where its frames live, and the time between them.
    varying : names of scalar parameters that differ from run to run, with their range (low, high).
    fields : names of parameters that are fields (batch, *space): learnt steppers see them as channels.
    warm_up : time that a sampled state is marched before it counts (onto the attractor).
    reference_setting : how trusted frames are computed (float64); `reference_error` states how far to trust them.
    """

    equation: Equation
    solvable: bool = True
    """Whether there is an equation, and with it a classical solver."""
    stationary: bool = False
    """Whether runs stay on an attractor once they are warm, so that states far apart in time are as good as other runs."""
    steady: bool = False
    """Whether runs are single fields that follow from parameters alone: samples then have no frame, simulations one."""
    refinement: str = "twice the points and steps"
    """What `reference_error` holds the reference against."""
    grid: Grid
    interval: float
    varying: Mapping[str, tuple[float, float]] = {}
    fields: tuple[str, ...] = ()
    warm_up: float = 0.0
    reference_setting: Setting
    fast_setting: Setting

    @property
    def channels(self) -> tuple[Channel, ...]:
        return self.equation.channels

    @property
    def name(self) -> str:
        return type(self).__name__

    def initial(self, generator: torch.Generator) -> Float[Tensor, "channel *space"]:
        """One random initial state, before the warm-up (float64)."""
        raise TypeError(f"{self.name} defines no initial(generator).")

    def initial_for(
        self, generator: torch.Generator, parameters: Mapping[str, Tensor]
    ) -> Float[Tensor, "channel *space"]:
        """One initial state of a run with these parameters (without a batch axis); `initial`, unless they say more about it."""
        return self.initial(generator)

    def draw(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Parameters of one run, without a batch axis: uniform in the logarithm where the range is positive."""
        result = {}
        for name, (low, high) in self.varying.items():
            x = float(torch.rand((), generator=generator, dtype=torch.float64))
            value = low * (high / low) ** x if low > 0 else low + x * (high - low)
            result[name] = torch.tensor(value, dtype=torch.float32)
        return result

    def sample(
        self, runs: int | Sequence[int], seed: int = 0, given: Parameters | None = None
    ) -> tuple[Float[Tensor, "run time channel *space"], dict[str, Tensor]]:
        """Initial frames (float32; none for a steady problem) and parameters of some runs.

        Run i of a seed is the same whatever the other runs are. `runs` is a number, or the indices of runs. Parameters that are `given`,
        one entry a run, take the place of those that would be drawn; what else is random in a run stays the same.
        """
        indices = range(runs) if isinstance(runs, int) else runs
        states, drawn = [], []
        for place, i in enumerate(indices):
            generator = torch.Generator().manual_seed(_seed(seed, i))
            drawn.append({**self.draw(generator), **take(given or {}, place)})
            if not self.steady:
                states.append(self.initial_for(generator, drawn[-1]))
        parameters = _stacked(drawn)
        if self.steady:
            return torch.empty(len(drawn), 0, len(self.channels), *self.grid.shape), parameters
        frames = torch.stack(states).to(torch.float32)[:, None]
        if self.warm_up:
            # One run at a time: the rounding of a batched transform may depend on the size of its batch.
            settled = [self._settle(frames[i : i + 1], take(parameters, slice(i, i + 1))) for i in range(len(states))]
            frames = torch.cat(settled)
        return frames, parameters

    def sample_parameters(self, runs: int | Sequence[int], seed: int = 0) -> dict[str, Tensor]:
        """The parameters that `sample` would give, without making states."""
        indices = range(runs) if isinstance(runs, int) else runs
        return _stacked([self.draw(torch.Generator().manual_seed(_seed(seed, i))) for i in indices])

    def _settle(self, frames: Tensor, parameters: Parameters) -> Tensor:
        """The state after the warm-up; its end is at the reference setting, so that the smallest scales are the reference's."""
        calls = max(1, round(self.warm_up / self.interval))
        fine = min(calls, max(4, calls // 30))
        with torch.no_grad():
            for setting, count in ((self.fast_setting, calls - fine), (self.reference_setting, fine)):
                if count:
                    stepper = self.solver(setting, guard=False)
                    frames = next(itertools.islice(stepper.march(frames, parameters), count - 1, None))
        return frames

    def solver(self, setting: Setting | None = None, *, guard: bool = True) -> Stepper:
        """The classical solver at a setting (the fast one by default), on frames of this problem's grid."""
        s = setting or self.fast_setting
        if not isinstance(s.scheme, Scheme):
            raise InputError(f"{self.name} is solved by spectral steps; got the scheme {s.scheme.name}.")
        inner = self.grid.with_points(list(self.points(s)))
        outer = None if inner.shape == self.grid.shape else self.grid
        return SpectralStepper(self.equation, inner, self.interval, s.substeps, s.scheme, outer, guard)

    def reference(self) -> Stepper:
        """The trusted solver. Give it float64 frames."""
        return self.solver(self.reference_setting)

    def points(self, setting: Setting) -> tuple[int, ...]:
        """The grid that the classical solver works on at a setting."""
        return tuple(setting.num_points * n // self.grid.shape[0] for n in self.grid.shape)

    def ladder(self) -> list[Setting]:
        """Classical settings from cheap to accurate: the rivals that a fast solver has to beat."""
        raise TypeError(f"{self.name} defines no ladder().")

    def simulate(self, runs: int, steps: int = 1, seed: int = 0, out: str | Path | None = None) -> Trajectories:
        """Trusted trajectories of `steps` frames (the first is the initial one) for `runs` runs, float32. Steady runs have one frame.

        With `out` they are written to a store while they are made, and an interrupted simulation continues there.
        """
        if runs < 1 or steps < 1:
            raise InputError(f"simulate needs at least 1 run and 1 step; got runs={runs}, steps={steps}.")
        if self.steady and steps != 1:
            raise InputError(f"{self.name} is steady: each run is one field; got steps={steps}, expected 1.")
        if out is not None:
            from slipstream.data.simulate import simulate

            return simulate(self, runs, steps, seed, Path(out)).trajectories()
        frames, parameters = self.sample(runs, seed)
        with torch.no_grad():
            result = self.march(self.reference(), frames.double(), parameters, steps)
        return self.trajectories(
            result.float(), parameters, about={"seed": seed, "solver": str(self.reference_setting)}
        )

    def march(self, stepper: Stepper, frames: Tensor, parameters: Parameters, steps: int) -> Tensor:
        """The last frame of each run and those that follow, `steps` in all, in the dtype of `frames`."""
        result = frames.new_empty(frames.shape[0], steps, *frames.shape[2:])
        filled = min(1, frames.shape[1])
        result[:, :filled] = frames[:, frames.shape[1] - filled :]
        parameters = {k: v.to(frames.dtype) if v.is_floating_point() else v for k, v in parameters.items()}
        if steps > filled:
            for new in stepper.march(frames, parameters):
                result[:, filled : filled + new.shape[1]] = new[:, : steps - filled]
                filled += new.shape[1]
                if filled >= steps:
                    break
        return result

    def trajectories(
        self, frames: Tensor, parameters: Parameters, about: Mapping[str, Any] | None = None
    ) -> Trajectories:
        """Frames of this problem with their names and units."""
        return Trajectories(
            frames,
            self.grid,
            self.interval,
            self.channels,
            dict(parameters),
            about={"problem": self.name, **(about or {})},
        )

    def reference_error(
        self, frames: Float[Tensor, "run time channel *space"], parameters: Parameters, steps: int
    ) -> Float[Tensor, " step"]:
        """How far the reference is from itself with grid and steps doubled: relative L2, the largest over runs, for each later frame."""
        s, first = self.reference_setting, frames.shape[1]
        finer = Setting(2 * s.num_points, 2 * s.substeps, s.scheme)
        with torch.no_grad():
            u = self.march(self.reference(), frames.double(), parameters, steps + first)[:, first:]
            v = self.march(self.solver(finer), frames.double(), parameters, steps + first)[:, first:]
        return ((u - v).flatten(2).norm(dim=-1) / v.flatten(2).norm(dim=-1).clamp(min=1e-30)).amax(0)

    def calculus(self, like: Tensor, fine: bool = False) -> Spectral:
        """The spectral calculus of this problem in the dtype and on the device of a tensor.

        On the grid itself, or (`fine`) on one with 3/2 as many points, where products of resolved modes are exact.
        """
        key = (like.dtype, like.device, fine)
        if key not in self._calculi:
            grid = self.grid.with_points([3 * n // 2 for n in self.grid.shape]) if fine else self.grid
            self._calculi[key] = Spectral(grid, like.dtype, like.device)
        return self._calculi[key]

    def calculus_for(self, like: Tensor, parameters: Parameters) -> Calculus:
        """The calculus in which figures of this problem's frames are taken: spectral, where a problem brings none of its own.

        For frames (batch, channel, *space) and the parameters of each, which may say what its walls hold.
        """
        return self.calculus(like)

    @cached_property
    def _calculi(self) -> dict[tuple[torch.dtype, torch.device, bool], Spectral]:
        return {}

    def rate(
        self, u: Float[Tensor, "batch channel *space"], parameters: Parameters, calculus: Calculus | None = None
    ) -> Float[Tensor, "batch channel *space"]:
        """The equation's time derivative of frames on this problem's grid.

        Without a `calculus` it is spectral, with products on 3/2 as many points: the 2/3 rule would drop the upper third of the
        wavenumbers, which point samples of a solution do contain.
        """
        p = self.equation.ready(parameters, u)
        if calculus is not None:
            return self.equation.rate(u, calculus, p)
        d, fine = self.calculus(u), self.calculus(u, fine=True)
        u_hat = d.forward(u)
        q = p
        if any(value[0].numel() > 1 for value in p.values()):  # fields belong to points
            inside = {
                k: resample(v, self.grid, fine.grid) if tuple(v.shape[1:]) == self.grid.shape else v
                for k, v in parameters.items()
            }
            q = self.equation.ready(inside, u.new_empty(u.shape[0], u.shape[1], *fine.grid.shape))
        total = fine.carry(self.equation.nonlinear(d.carry(u_hat, fine.grid), fine, q), self.grid)
        linear, force = self.equation.linear(self.grid, p), self.equation.force(d, p)
        total = total if linear is None else torch.addcmul(total, linear, u_hat)
        return d.inverse(total if force is None else total + force)

    def residual(
        self,
        frames: Float[Tensor, "batch time channel *space"],
        parameters: Parameters,
        calculus: Calculus | None = None,
    ) -> Float[Tensor, "batch time2 channel *space"]:
        """What consecutive frames leave over in the trapezoidal rule, ``(b - a)/dt - (rate(a) + rate(b))/2``: one fewer frame.

        A pair that solves the Crank-Nicolson scheme has residual zero; the true solution leaves O(dt^2).
        """
        b, t = frames.shape[:2]
        repeated = {k: v.repeat_interleave(t, dim=0) for k, v in parameters.items()}
        rates = self.rate(frames.flatten(0, 1), repeated, calculus).unflatten(0, (b, t))
        return (frames[:, 1:] - frames[:, :-1]) / self.interval - 0.5 * (rates[:, 1:] + rates[:, :-1])

    @cache  # noqa: B019 - problems are few, immutable and long-lived
    def reference_residual(self) -> float:
        """Relative size of `residual` on trusted frames: what the trapezoidal rule and the grid leave over even for the truth."""
        frames, parameters = self.sample(4, seed=_seed("residual") % 2**31)
        with torch.no_grad():
            u = self.march(self.reference(), frames.double(), parameters, 9)
            left = self.residual(u, parameters).norm()
            return float(left * self.interval / (u[:, 1:] - u[:, :-1]).norm())

    def with_interval(self, interval: float) -> Problem:
        """The same problem with another time between frames."""
        return type(self)(**{**arguments_of(self), "interval": interval})

    def starter(self, frames: Tensor, missing: int, parameters: Parameters) -> tuple[Tensor, int]:
        """Missing starting frames, made by the fast classical solver; and how many solver steps that took."""
        with torch.no_grad():
            new = self.march(self._starting, frames[:, -1:], parameters, missing + 1)[:, 1:]
        return torch.cat([frames, new], dim=1), missing * self.fast_setting.substeps

    @cached_property
    def _starting(self) -> Stepper:
        return self.solver()

    @cached_property
    def statistics(self) -> Statistics:
        """Typical sizes, from four runs of this problem (sixteen of a steady one)."""
        frames, parameters = self.sample(16 if self.steady else 4, seed=_seed("statistics") % 2**31)
        with torch.no_grad():
            u = self.march(self.solver(guard=False), frames, parameters, 1 if self.steady else 17)
        return statistics_of(u, {n: parameters[n].float() for n in self.fields})
