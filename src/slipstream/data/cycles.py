"""Cycles: which share of a window which step of a multigrid training sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from slipstream.errors import InputError


@dataclass(frozen=True)
class Level:
    """A share of a window, each in (0, 1]: of the frames that are sought (`time`), and of the points along every axis (`space`)."""

    time: float = 1.0
    space: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.time <= 1 and 0 < self.space <= 1):
            raise InputError(f"Level takes shares in (0, 1]; got time={self.time}, space={self.space}.")

    def growth(self, num_dims: int) -> float:
        """How many times as many windows a step may see for the work of one whole window."""
        return 1 / (self.time * self.space**num_dims)


LONG = (Level(0.25, 0.5**0.5), Level(0.5, 0.5**0.5), Level(0.5, 1.0), Level())
"""The long cycle as published."""

SHORT = (0.5, 0.5**0.5)
"""The short cycle as published; a third step at the long cycle's own level follows."""


@dataclass(frozen=True)
class Cycles:
    """Which level which step of a training sees: a function of progress (share of the budget that is spent) and of the steps so far.

    The long cycle goes through its levels in equal shares of the training, which at equal cost is equally many steps each. The short one
    changes from step to step: through its own shares of the points, as far as these are smaller than the long level's, and then the long
    level itself. The end of the training sees whole windows alone.

    Parameters
    ----------
    long : levels in turn, usually from coarse to fine. short : shares of the points along every axis; empty for no short cycle.
    repeats : how often the long cycle is gone through. final : share of the training at its end that sees whole windows, in [0, 1).
    """

    long: Sequence[Level] = LONG
    short: Sequence[float] = SHORT
    repeats: int = 1
    final: float = 0.18

    def __post_init__(self) -> None:
        if not self.long or self.repeats < 1 or not 0 <= self.final < 1:
            raise InputError(
                f"Cycles expect a long cycle of at least one level, repeats >= 1 and 0 <= final < 1; got {len(self.long)} levels, "
                f"repeats={self.repeats}, final={self.final}."
            )
        if not all(0 < s <= 1 for s in self.short):
            raise InputError(f"The short cycle has shares in (0, 1]; got short={tuple(self.short)}.")

    def level(self, progress: float) -> Level:
        """The long cycle's level; whole windows from ``1 - final`` on."""
        # Without the tiny step, rounding would put a share that ends exactly here into the level before.
        turns = progress / (1 - self.final) * self.repeats * len(self.long) + 1e-9
        return self.long[int(turns) % len(self.long)] if turns < self.repeats * len(self.long) else Level()

    def seen(self, progress: float, step: int) -> Level:
        """What a step sees: the long cycle's level, on the points that the short cycle has for this step."""
        level, place = self.level(progress), step % (len(self.short) + 1)
        if place == len(self.short) or progress >= 1 - self.final:
            return level
        return replace(level, space=min(self.short[place], level.space))

    @property
    def levels(self) -> tuple[Level, ...]:
        """All that can be seen."""
        short = [replace(level, space=min(s, level.space)) for level in self.long for s in self.short]
        return tuple(dict.fromkeys([*self.long, *short, Level()]))
