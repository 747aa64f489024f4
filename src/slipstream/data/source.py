"""Source: endless windows for the training loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from slipstream.errors import InputError
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

    def on_progress(self, progress: float) -> None:
        """Told before every training step which share of the budget is spent, in [0, 1]. Most sources do not care."""

    def feedback(self, window: Window, outputs: Tensor | None, scores: Tensor | None = None) -> None:
        """Told what the module made of a window of this source (detached), and how wrong each sample of it was (batch,), as far as the
        objective says so (`slipstream.objectives.Loss`). Most sources do not care."""

    def figures(self) -> dict[str, float]:
        """Named numbers about itself for the next row of the log, beside the losses. Most sources have nothing to tell."""
        return {}

    def ended(self) -> str:
        """Why there are no more windows, as a clause; empty while there are. Training then stops as if the budget were spent."""
        return ""

    def close(self) -> None:
        """Let what works beside the training (processes, say) rest. Called when a training ends, however it ends; `next` may follow."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state_dict` was called; InputError for the state of other data or arguments, and nothing changed."""
        if state:
            raise InputError(f"{type(self).__name__} keeps no state, but got {sorted(state)}.")


def check_layout(kind: str, state: Mapping[str, Any], layout: Mapping[str, Any]) -> None:
    """Refuse a state of another kind of source, or of one with another ``layout``: data and arguments that decide what comes next."""
    saved = state.get("layout")
    if not isinstance(saved, Mapping):
        raise InputError(f"This is no state of {kind}: it holds {sorted(map(str, state)) or 'nothing'}.")
    changed = [
        f"{k} was {saved.get(k)} and is {layout.get(k)}" for k in {**saved, **layout} if saved.get(k) != layout.get(k)
    ]
    if changed:
        raise InputError(
            f"{kind} cannot go on from the state of another one: {', '.join(changed)}. "
            "Continue with the same data and arguments."
        )
