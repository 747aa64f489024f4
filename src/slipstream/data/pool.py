"""State pool: training inputs that the stepper makes itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from slipstream.data.source import Source
from slipstream.errors import InputError
from slipstream.problems.problem import Problem
from slipstream.trajectories import Trajectories, Window, take


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
    longest : calls after which a state starts afresh in any case. Old states of a stepper that knows little yet are no physics:
        with 32 calls the residual of a fresh NeuralStagger rose instead of falling.
    """

    def __init__(
        self,
        starts: Trajectories,
        history: int = 1,
        batch: int = 8,
        size: int = 256,
        reset: float = 0.5,
        longest: int = 8,
    ) -> None:
        if starts.steps < history:
            raise InputError(
                f"StatePool needs starts of {history} consecutive frames; the trajectories hold {starts.steps}."
            )
        if not 0 < reset <= 1 or batch < 1 or size < batch:
            raise InputError(
                f"StatePool expects 0 < reset <= 1 and size >= batch >= 1; got reset={reset}, size={size}, batch={batch}."
            )
        self.starts, self.history, self.batch, self.size, self.reset, self.longest = (
            starts,
            history,
            batch,
            size,
            reset,
            longest,
        )
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
        runs: int = 64,
        frames: int = 16,
        seed: int = 0,
        **rest: Any,
    ) -> StatePool:
        """A pool whose starts are short marches of the fast classical solver from sampled states."""
        initial, parameters = problem.sample(runs, seed)
        with torch.no_grad():
            u = problem.march(problem.solver(guard=False), initial, parameters, max(frames, history))
        return cls(problem.trajectories(u, parameters), history, batch)

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

    def feedback(self, window: Window, outputs: Tensor | None) -> None:
        if outputs is None or self._frames is None or self._draws is None:
            return
        chosen, known = window.token, torch.cat([window.frames, outputs.to(window.frames)], dim=1)
        new = known[:, known.shape[1] - self.history :].detach().clone()
        run, age = self._run[chosen], self._age[chosen] + 1
        sane = torch.isfinite(new).flatten(1).all(1) & (new.flatten(1).abs().amax(1) < self._limit)
        lucky = torch.rand(len(chosen), generator=self._draws) >= self.reset
        keep = sane & lucky & (age < self.longest)
        fresh, fresh_run = self._fresh(len(chosen), self._draws)
        here = keep.reshape([-1] + [1] * (new.ndim - 1))
        self._frames[chosen] = torch.where(here, new, fresh)
        self._run[chosen] = torch.where(keep, run, fresh_run)
        self._age[chosen] = torch.where(keep, age, torch.zeros_like(age))

    def state_dict(self) -> dict[str, Any]:
        if self._frames is None:
            return {}
        return {"frames": self._frames, "run": self._run, "age": self._age}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state:
            self._frames, self._run, self._age = (state[k].clone() for k in ("frames", "run", "age"))
