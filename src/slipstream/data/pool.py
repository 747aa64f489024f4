"""State pool: training inputs that the stepper makes itself."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from slipstream.data.source import Source, check_layout
from slipstream.data.windows import check_finite
from slipstream.errors import InputError
from slipstream.problems.problem import Problem, Statistics
from slipstream.trajectories import Parameters, Trajectories, Window, take


class StatePool(Source):
    """States to train on without labels: each is replaced by the stepper's own prediction from it, or by a fresh start.

    So the inputs of training are distributed as those of a rollout, and no solver is called while training.

    Parameters
    ----------
    starts : trajectories; every stretch of `history` consecutive frames in them is a possible start (inputs only).
    history : frames a state holds.
    batch : states a window.
    size : states in the pool.
    reset : probability that a used state starts afresh instead of moving on.
    longest : calls after which a state starts afresh in any case.
    trust : a prediction whose score is above this starts afresh: states of a stepper that knows little yet are no physics, and
        training on them from the first step on takes two to three times as many steps. Scores are the objective's: 1 is an error
        as large as what changes. Without scores every prediction counts.

    Raises
    ------
    InputError : starts that are too short or not finite, or arguments that make no pool.
    """

    def __init__(
        self,
        starts: Trajectories,
        history: int = 1,
        batch: int = 8,
        size: int = 256,
        reset: float = 0.5,
        longest: int = 8,
        trust: float = 0.5,
    ) -> None:
        if history < 1:
            raise InputError(f"A state holds at least one frame; got history={history}. Steady data are for Windows.")
        if starts.steps < history:
            raise InputError(
                f"StatePool needs starts of {history} consecutive frames; the trajectories hold {starts.steps}."
            )
        if not 0 < reset <= 1 or batch < 1 or size < batch:
            raise InputError(
                f"StatePool expects 0 < reset <= 1 and size >= batch >= 1; got reset={reset}, size={size}, batch={batch}."
            )
        check_finite(starts)
        self.starts, self.history, self.batch, self.size = starts, history, batch, size
        self.reset, self.longest, self.trust = reset, longest, trust
        self._limit = 4 * float(starts.frames.abs().max())
        self._frames: Tensor | None = None
        self._run = torch.zeros(size, dtype=torch.long)
        self._age = torch.zeros(size, dtype=torch.long)
        self._draws: torch.Generator | None = None

    @classmethod
    def of(
        cls,
        problem: Problem,
        history: int = 1,
        batch: int = 8,
        runs: int | None = None,
        frames: int | None = None,
        apart: int | None = None,
        seed: int = 0,
        size: int = 256,
        reset: float = 0.5,
        longest: int = 8,
        trust: float = 0.5,
    ) -> StatePool:
        """A pool whose starts are taken from marches of the fast classical solver, some 4000 of them by default.

        They have to be many and unlike each other: a NeuralStagger solver that saw 64 runs of a turbulent flow, two time units each, had
        1.8 times the error on unseen runs that it had on those.

        Parameters
        ----------
        runs, frames : how many marches, and how many starts from each; None is 64 and 64 for a stationary problem, 256 and 16 for others.
        apart : intervals from one start to the next; None is a quarter of the time in which a state of a stationary problem becomes another
            one, and 1 for other problems.
        seed : of the marches. The rest as of the class.
        """
        runs = runs or (64 if problem.stationary else 256)
        frames = frames or (64 if problem.stationary else 16)
        apart = apart or (_quarter(problem.statistics) if problem.stationary else 1)
        initial, parameters = problem.sample(runs, seed)
        last: deque[Tensor] = deque(maxlen=history)
        starts: list[Tensor] = []
        with torch.no_grad():
            for i, frame in enumerate(_frames(problem, initial, parameters)):
                last.append(frame)
                if (i + 1 - history) % apart == 0 and len(last) == history:
                    starts.append(torch.stack(tuple(last), dim=1))
                if len(starts) == frames:
                    break
        repeated = {k: v.repeat_interleave(frames, dim=0) for k, v in parameters.items()}
        data = problem.trajectories(torch.stack(starts, dim=1).flatten(0, 1), repeated)
        return cls(data, history, batch, size, reset, longest, trust)

    def _fresh(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        run = torch.randint(self.starts.runs, (count,), generator=generator)
        time = torch.randint(self.starts.steps - self.history + 1, (count,), generator=generator)
        index = time[:, None] + torch.arange(self.history)
        return self.starts.frames[run[:, None], index], run

    def next(self, generator: torch.Generator) -> Window:
        if self._frames is None:
            self._frames, self._run = self._fresh(self.size, generator)
        self._draws = generator
        chosen = torch.randperm(self.size, generator=generator)[: self.batch]
        parameters = take(self.starts.parameters, self._run[chosen])
        return Window(self._frames[chosen], self.starts.grid, self.starts.interval, parameters, token=chosen)

    def feedback(self, window: Window, outputs: Tensor | None, scores: Tensor | None = None) -> None:
        if outputs is None or self._frames is None or self._draws is None:
            return
        chosen, known = window.token, torch.cat([window.frames, outputs.to(window.frames)], dim=1)
        new = known[:, known.shape[1] - self.history :].detach().clone()
        run, age = self._run[chosen], self._age[chosen] + 1
        sane = torch.isfinite(new).flatten(1).all(1) & (new.flatten(1).abs().amax(1) < self._limit)
        lucky = torch.rand(len(chosen), generator=self._draws) >= self.reset
        if scores is not None:
            sane &= scores <= self.trust
        keep = sane.cpu() & lucky & (age < self.longest)  # the generator, and so every draw, is on the CPU
        fresh, fresh_run = self._fresh(len(chosen), self._draws)
        here = keep.reshape([-1] + [1] * (new.ndim - 1)).to(new.device)
        self._frames[chosen] = torch.where(here, new, fresh)
        self._run[chosen] = torch.where(keep, run, fresh_run)
        self._age[chosen] = torch.where(keep, age, torch.zeros_like(age))

    def state_dict(self) -> dict[str, Any]:
        return {"frames": self._frames, "run": self._run, "age": self._age, "layout": self._layout()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        check_layout("StatePool", state, self._layout())
        self._run, self._age = state["run"].clone(), state["age"].clone()
        self._frames = None if state["frames"] is None else state["frames"].to(self.starts.frames, copy=True)

    def _layout(self) -> dict[str, Any]:
        return {
            "batch": self.batch,
            "size": self.size,
            "history": self.history,
            "reset": self.reset,
            "longest": self.longest,
            "trust": self.trust,
            "starts": list(self.starts.frames.shape),
        }


def _quarter(sizes: Statistics) -> int:
    """Intervals in which a state goes a quarter of the way to an unrelated one."""
    ways = [math.sqrt(2) * std / max(step, 1e-12) for std, step in zip(sizes.std, sizes.increment, strict=True)]
    return max(1, math.ceil(max(ways) / 4))


def _frames(problem: Problem, initial: Tensor, parameters: Parameters) -> Iterator[Tensor]:
    """The sampled states and then one frame an interval by the fast solver, without end."""
    yield initial[:, -1]
    for new in problem.solver(guard=False).march(initial, parameters):
        yield from new.unbind(1)
