"""Objective: what is minimised. Objectives add and scale."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from slipstream.trajectories import Window


@dataclass(frozen=True)
class Loss:
    """What an objective says about one window.

    `total` is the scalar to minimise, `parts` are named scalars for the log, `outputs` are the module's new frames
    (batch, time, channel, *space) where it made some, `scores` (batch,) say how wrong each sample's are, relative to what changes: the
    loop feeds both back to the source (state pools live on them).
    """

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
    outputs: Tensor | None = None
    scores: Float[Tensor, " batch"] | None = None


class Objective:
    """A callable ``(module, window, generator) -> Loss``.

    Randomness comes from `generator` alone. ``2.0 * a + b`` is the objective with the weighted sum as its total.
    """

    def frames_needed(self, module: nn.Module) -> tuple[int, int]:
        """How many known frames a window must hold, and how many later frames as labels (0: label-free)."""
        return getattr(module, "history", 1), 0

    def check(self, module: nn.Module) -> None:
        """Refuse a module that it cannot judge, before any work is spent on it."""

    def on_progress(self, progress: float) -> None:
        """Told before every training step which share of the budget is spent, in [0, 1]. Most objectives do not care."""

    def __call__(self, module: nn.Module, window: Window, generator: torch.Generator) -> Loss:
        raise TypeError(
            f"{type(self).__name__} is not callable: an objective defines __call__(module, window, generator)."
        )

    def __add__(self, other: Objective) -> Sum:
        return Sum((*_terms(self), *_terms(other)))

    def __mul__(self, factor: float) -> Sum:
        return Sum(tuple((w * factor, o) for w, o in _terms(self)))

    __rmul__ = __mul__


def _terms(objective: Objective) -> tuple[tuple[float, Objective], ...]:
    return objective.terms if isinstance(objective, Sum) else ((1.0, objective),)


class Sum(Objective):
    """Weighted sum of objectives, each evaluated on the same window."""

    def __init__(self, terms: tuple[tuple[float, Objective], ...]) -> None:
        self.terms = tuple((float(w), o) for w, o in terms)

    def frames_needed(self, module: nn.Module) -> tuple[int, int]:
        needs = [o.frames_needed(module) for _, o in self.terms]
        return max(p for p, _ in needs), max(f for _, f in needs)

    def check(self, module: nn.Module) -> None:
        for _, objective in self.terms:
            objective.check(module)

    def on_progress(self, progress: float) -> None:
        for _, objective in self.terms:
            objective.on_progress(progress)

    def __call__(self, module: nn.Module, window: Window, generator: torch.Generator) -> Loss:
        losses = [(w, o(module, window, generator)) for w, o in self.terms]
        parts: dict[str, Tensor] = {}
        for i, (_, loss) in enumerate(losses):
            for name, value in loss.parts.items():
                parts[name if name not in parts else f"{name}_{i}"] = value
        total = torch.stack([w * loss.total for w, loss in losses]).sum()
        made = next((loss for _, loss in losses if loss.outputs is not None), Loss(total))
        return Loss(total, parts, made.outputs, made.scores)
