"""Draws: which parameters the next run of an ensemble gets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.data.live.members import seed_of
from slipstream.data.source import check_layout
from slipstream.errors import InputError
from slipstream.problems.problem import Problem


class Draws:
    """Gives each run its parameters; may learn from how wrong the model is on which run.

    What it gives depends on the problem, on the numbers and on what it was told, never on anybody else's random numbers.
    """

    def check(self, problem: Problem) -> None:
        """Refuse a problem from which it cannot draw, before any work is done."""

    def draw(self, problem: Problem, number: int, seed: int, run_seed: int) -> dict[str, Tensor]:
        """Parameters of run `number` of an ensemble with this `seed`, without a batch axis; `run_seed` is that of the run itself."""
        raise TypeError(f"{type(self).__name__} draws nothing: it defines draw(problem, number, seed, run_seed).")

    def feedback(self, members: Tensor, scores: Float[Tensor, " batch"]) -> None:
        """Told how wrong the model was on samples of these runs. Most draws do not care."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state:
            raise InputError(f"{type(self).__name__} keeps no state, but got {sorted(state)}.")


class Uniform(Draws):
    """The problem's own draw, run for run."""

    def draw(self, problem: Problem, number: int, seed: int, run_seed: int) -> dict[str, Tensor]:
        return {name: value[0] for name, value in problem.sample_parameters([0], run_seed).items()}


class Sobol(Draws):
    """A low-discrepancy stream over the ranges that vary (of the logarithm where positive); other parameters are the problem's own draw.

    Any stretch of it fills the box more evenly than independent draws do: with a function that is smooth, means over n runs converge
    nearly as 1/n. Scrambled by the ensemble's seed.
    """

    def __init__(self) -> None:
        self._engine: tuple[tuple[int, int], int, torch.quasirandom.SobolEngine] | None = None

    def check(self, problem: Problem) -> None:
        _check_varying(self, problem)

    def draw(self, problem: Problem, number: int, seed: int, run_seed: int) -> dict[str, Tensor]:
        return {
            **Uniform().draw(problem, number, seed, run_seed),
            **placed(problem, self._point(problem, number, seed)),
        }

    def _point(self, problem: Problem, number: int, seed: int) -> Tensor:
        key = len(problem.varying), seed
        if self._engine is None or self._engine[0] != key or self._engine[1] > number:
            made = torch.quasirandom.SobolEngine(key[0], scramble=True, seed=seed)
            self._engine = key, 0, made
        _, position, engine = self._engine
        if number > position:
            engine.fast_forward(number - position)
        self._engine = key, number + 1, engine
        return engine.draw(1, dtype=torch.float64)[0]


class Adaptive(Draws):
    """More runs where the model is wrong: near runs of high recent loss, and a share of uniform draws, so that no region is starved.

    The loss of a run is a moving average of what the objective said of its samples (`slipstream.objectives.Loss.scores`). A draw is uniform
    with probability `uniform`; else a run that the model has seen is picked with a probability proportional to its loss, and
    the new one lies around it, a Gaussian step away in the unit box of the ranges, mirrored at its sides.

    Parameters
    ----------
    uniform : share of uniform draws, 0.3 to 0.5.
    width : standard deviation of the step, in the box's sides.
    memory : runs that are remembered, the latest.
    least : runs with a known loss before anything is adapted.

    Raises
    ------
    InputError : a share outside [0.3, 0.5], or other numbers that make no sense.

    References
    ----------
    After Dymchenko & Raffin, MelissaDL x Breed, 2024; there with the weights of importance sampling, which are left out here.
    """

    RATE = 0.2
    """How fast the moving average of a run's loss follows."""

    def __init__(self, uniform: float = 0.4, width: float = 0.08, memory: int = 256, least: int = 8) -> None:
        if not 0.3 <= uniform <= 0.5 or not width > 0 or not 1 <= least <= memory:
            raise InputError(
                f"Adaptive expects 0.3 <= uniform <= 0.5, width > 0 and 1 <= least <= memory; got uniform={uniform}, width={width}, "
                f"least={least}, memory={memory}."
            )
        self.uniform, self.width, self.memory, self.least = uniform, width, memory, least
        self._places: dict[int, Tensor] = {}
        self._losses: dict[int, float] = {}

    def check(self, problem: Problem) -> None:
        _check_varying(self, problem)

    def draw(self, problem: Problem, number: int, seed: int, run_seed: int) -> dict[str, Tensor]:
        drawn = Uniform().draw(problem, number, seed, run_seed)
        generator = torch.Generator().manual_seed(seed_of(run_seed, number) ^ 1)
        lucky = float(torch.rand((), generator=generator, dtype=torch.float64)) < self.uniform
        known = [n for n in self._places if n in self._losses]
        if not lucky and len(known) >= self.least:
            losses = torch.tensor([self._losses[n] for n in known], dtype=torch.float64)
            if float(losses.sum()) > 0:
                parent = self._places[known[int(torch.multinomial(losses, 1, generator=generator))]]
                step = self.width * torch.randn(len(parent), generator=generator, dtype=torch.float64)
                drawn |= placed(problem, mirrored(parent + step))
        self._places[number] = place_of(problem, drawn)
        while len(self._places) > self.memory:
            oldest = next(iter(self._places))
            del self._places[oldest]
            self._losses.pop(oldest, None)
        return drawn

    def feedback(self, members: Tensor, scores: Float[Tensor, " batch"]) -> None:
        for member, score in zip(members.tolist(), scores.tolist(), strict=True):
            if member in self._places and math.isfinite(score):
                before = self._losses.get(member, score)
                self._losses[member] = before + self.RATE * (score - before)

    def state_dict(self) -> dict[str, Any]:
        members = list(self._places)
        losses = [self._losses.get(n, -1.0) for n in members]
        return {
            "layout": self._layout(),
            "members": torch.tensor(members, dtype=torch.long),
            "places": torch.stack([*self._places.values()]) if members else torch.zeros(0, 0, dtype=torch.float64),
            "losses": torch.tensor(losses, dtype=torch.float64),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        check_layout("Adaptive", state, self._layout())
        members, losses = state["members"].tolist(), state["losses"].tolist()
        self._places = dict(zip(members, state["places"].clone(), strict=True))
        self._losses = {n: loss for n, loss in zip(members, losses, strict=True) if loss >= 0}

    def _layout(self) -> dict[str, Any]:
        return {"uniform": self.uniform, "width": self.width, "memory": self.memory, "least": self.least}


def _check_varying(draws: Draws, problem: Problem) -> None:
    if not problem.varying:
        raise InputError(
            f"{type(draws).__name__} draws from the ranges of a problem; {problem.name} has none (problem.varying is empty). "
            "Give it a range, for example viscosity=(0.01, 0.02), or use Uniform()."
        )


def placed(problem: Problem, point: Float[Tensor, " parameter"]) -> dict[str, Tensor]:
    """The parameters at a point of the unit box, as `Problem.draw` would spread them."""
    return {
        name: torch.tensor(_spread(float(x), low, high), dtype=torch.float32)
        for (name, (low, high)), x in zip(problem.varying.items(), point, strict=True)
    }


def place_of(problem: Problem, parameters: Mapping[str, Tensor]) -> Float[Tensor, " parameter"]:
    """The point of the unit box that parameters lie at."""
    return torch.tensor(
        [_unspread(float(parameters[n]), low, high) for n, (low, high) in problem.varying.items()], dtype=torch.float64
    )


def _spread(x: float, low: float, high: float) -> float:
    return low * (high / low) ** x if low > 0 else low + x * (high - low)


def _unspread(value: float, low: float, high: float) -> float:
    x = math.log(value / low) / math.log(high / low) if low > 0 else (value - low) / (high - low)
    return min(1.0, max(0.0, x))


def mirrored(point: Float[Tensor, " parameter"]) -> Float[Tensor, " parameter"]:
    """A point put back into the unit box by mirrors on its sides."""
    folded = point.remainder(2.0)
    return torch.where(folded > 1, 2 - folded, folded)


PARTS = 4
"""Cells along each axis of the unit box, for `cells`."""


def cells(point: Float[Tensor, " parameter"]) -> set[tuple[int, ...]]:
    """Which cells a point of the unit box lies in: of its axis, or of the planes of neighbouring axes where there are several."""
    box = (point.clamp(0, 1 - 1e-9) * PARTS).long().tolist()
    if len(box) < 2:
        return {(0, *box)}
    planes = range(len(box) if len(box) > 2 else 1)
    return {(i, box[i], box[(i + 1) % len(box)]) for i in planes}


def num_cells(dims: int) -> int:
    """How many of them there are in a box of so many axes."""
    return PARTS if dims < 2 else PARTS**2 * (dims if dims > 2 else 1)
