"""Source: endless windows for the training loop."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from slipstream.trajectories import Window


class Source:
    """Hands out windows for ever; may learn from what the module made of them.

    Files, fresh solver runs, live ensembles, state pools and collocation points are sources. Randomness comes from
    `generator` alone; everything else that decides the next window is in `state_dict` (tensors, numbers, text and
    nested dicts or lists of those), so that training continues exactly.
    """

    def next(self, generator: torch.Generator) -> Window:
        """The next window."""
        raise TypeError(f"{type(self).__name__} gives no windows: a source defines next(generator).")

    def feedback(self, window: Window, outputs: Tensor | None) -> None:
        """Told what the module made of a window of this source (detached). Most sources do not care."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state:
            raise KeyError(f"{type(self).__name__} keeps no state, but got {sorted(state)}.")
