"""Budgets in seconds of the processor: on an idle machine the time on the clock, and on a busy one the same."""

from __future__ import annotations

import math
import time
from typing import Any

from slipstream.training import Callback, Cosine, Schedule


class Clock(Callback):
    """Ends a training when the processor has worked so many seconds since the clock was made, and knows how many it has."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.spent, self.now = seconds, 0.0, time.process_time()

    def on_step(self, run: Any) -> None:
        past, self.now = self.now, time.process_time()
        self.spent += self.now - past
        if self.spent >= self.seconds:
            run.stop("the processor's seconds are spent")

    def state_dict(self) -> dict[str, Any]:
        return {"spent": self.spent}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.spent, self.now = state["spent"], time.process_time()


class ByClock(Schedule):
    """The usual fall of the rate, over the seconds of a clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def __call__(self, progress: float) -> float:
        return Cosine()(min(1.0, self._clock.spent / self._clock.seconds))


def budget(minutes: float | None, steps: int | None) -> tuple[Clock, dict[str, Any]]:
    """Either minutes of the processor or steps: the clock, and what `train` is told."""
    if (minutes is None) == (steps is None):
        raise ValueError(f"Give either minutes or steps; got {minutes} and {steps}.")
    if minutes is None:
        clock = Clock(math.inf)
        return clock, {"steps": steps, "callbacks": [clock]}
    clock = Clock(60 * minutes)
    return clock, {"steps": 10**7, "callbacks": [clock], "schedule": ByClock(clock)}
