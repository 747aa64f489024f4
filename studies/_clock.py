"""Budgets in seconds of the processor: on an idle machine the time on the clock, and on a busy one the same."""

from __future__ import annotations

import time
from typing import Any

from slipstream.training import Callback


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
