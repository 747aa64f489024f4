"""Schedules: the learning rate as a factor of its highest value, a function of progress alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

from slipstream.errors import InputError


class Schedule:
    """A callable from progress in [0, 1] (share of the budget that is spent) to a factor of the full learning rate.

    It keeps nothing between calls, so a training continues exactly from its progress, whether the budget is counted in steps or
    in minutes.
    """

    def __call__(self, progress: float) -> float:
        raise TypeError(f"{type(self).__name__} gives no rate: a schedule defines __call__(progress).")


@dataclass(frozen=True)
class Constant(Schedule):
    """The full learning rate throughout."""

    def __call__(self, progress: float) -> float:
        return 1.0


@dataclass(frozen=True)
class _Hill(Schedule):
    """From `final` up to 1 in the first `warmup` of the training, then down to `final` at its end.

    It starts at `final` and not at 0, because a step at rate 0 is a step thrown away.
    """

    warmup: float = 0.02
    final: float = 0.01

    def __post_init__(self) -> None:
        if not (0 <= self.warmup < 1 and 0 <= self.final <= 1):
            raise InputError(
                f"{type(self).__name__} takes 0 <= warmup < 1 and 0 <= final <= 1 (shares); "
                f"got warmup={self.warmup}, final={self.final}."
            )

    def __call__(self, progress: float) -> float:
        progress = min(max(progress, 0.0), 1.0)
        if progress < self.warmup:
            height = progress / self.warmup
        else:
            height = self.fall((progress - self.warmup) / (1 - self.warmup))
        return self.final + (1 - self.final) * height

    def fall(self, share: float) -> float:
        """From 1 at share 0 to 0 at share 1."""
        raise TypeError(f"{type(self).__name__} falls along no curve: use Cosine or Linear.")


@dataclass(frozen=True)
class Cosine(_Hill):
    """Rises along a line, then falls along half a cosine (Loshchilov & Hutter 2017, without restarts).

    Parameters
    ----------
    warmup : share of the training spent rising, in [0, 1).
    final : factor at the very start and at the very end, in [0, 1].
    """

    def fall(self, share: float) -> float:
        return 0.5 + 0.5 * math.cos(math.pi * share)


@dataclass(frozen=True)
class Linear(_Hill):
    """Rises along a line, then falls along another. Parameters as of `Cosine`."""

    def fall(self, share: float) -> float:
        return 1.0 - share
