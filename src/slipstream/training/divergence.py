"""Guard: says when a training has left its path for good."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Mapping
from typing import Any

from slipstream.errors import InputError


class Guard:
    """Judges every step's loss: a number that is not finite, or a loss that stays far above its recent level.

    The level is the median of the last `window` losses that were not suspect themselves. A loss is suspect above `factor` times that
    median; `patience` suspect losses in a row are a divergence. Losses that may be negative have no such level: only the
    first rule applies while the median is not positive.

    Parameters
    ----------
    factor : how far above the median is suspect.
    patience : how many suspect steps in a row are too many.
    window : how many losses the median is taken over; no loss is suspect before a tenth of them is known.
    """

    def __init__(self, factor: float = 50.0, patience: int = 100, window: int = 200) -> None:
        if not (factor > 1 and patience >= 1 and window >= 1):
            raise InputError(
                f"Guard takes factor > 1, patience >= 1 and window >= 1; got {factor}, {patience} and {window}."
            )
        self.factor, self.patience, self.window = factor, patience, window
        self.reset()

    def reset(self) -> None:
        """Forget every loss."""
        self.recent: deque[float] = deque()
        self.ordered: list[float] = []
        self.suspects = 0

    def judge(self, total: float, parts: Mapping[str, float]) -> str | None:
        """Take one step's loss into account; what is wrong with the training, if anything."""
        broken = {k: v for k, v in {"total": total, **parts}.items() if not math.isfinite(v)}
        if broken:
            return ", ".join(f"{name} = {value}" for name, value in broken.items())
        known = len(self.ordered)
        median = self.ordered[known // 2] if known else 0.0
        if known * 10 >= self.window and median > 0 and total > self.factor * median:
            self.suspects += 1
            if self.suspects < self.patience:
                return None
            return f"total = {total:.3g} after {self.suspects} steps above {self.factor:g} x the median of {median:.3g} ({_listed(parts)})"
        self.suspects = 0
        self.recent.append(total)
        insort(self.ordered, total)
        while len(self.recent) > self.window:  # more than one where a state of a longer window was loaded
            del self.ordered[bisect_left(self.ordered, self.recent.popleft())]
        return None

    def state_dict(self) -> dict[str, Any]:
        return {"recent": list(self.recent), "suspects": self.suspects}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.recent, self.suspects = deque(state["recent"]), state["suspects"]
        self.ordered = sorted(self.recent)


def _listed(parts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} = {value:.3g}" for name, value in parts.items()) or "no parts"
