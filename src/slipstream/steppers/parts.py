"""Parts of a staggered solver: regular subsets of its sub-solvers are solvers themselves, of a coarser grid and a longer interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

from slipstream.errors import InputError
from slipstream.grids import Grid


@dataclass(frozen=True)
class Part:
    """Which sub-solvers of a `Staggered` run, by themselves.

    Parameters
    ----------
    stride : along each axis, every so many-th shift.
    first : the first shift along each axis, below the stride.
    chains : indices of the chains or, of a fan, of the heads.
    """

    stride: tuple[int, ...]
    first: tuple[int, ...]
    chains: tuple[int, ...]

    def check(self, factors: Sequence[int], time: int, fan: bool, grid: Grid) -> None:
        """Refuse a subset that is no solver. InputError says why."""
        fits = len(self.stride) == len(self.first) == len(factors) and all(
            t >= 1 and s % t == 0 and 0 <= f < t for s, t, f in zip(factors, self.stride, self.first, strict=True)
        )
        if not fits:
            raise InputError(
                f"A part of the space factors {tuple(factors)} has strides that divide them and first shifts below the strides; "
                f"got strides {self.stride} and first shifts {self.first}."
            )
        ends = [a.name for a, t in zip(grid.axes, self.stride, strict=True) if t > 1 and not a.periodic]
        if ends:
            raise InputError(
                f"Every n-th point of the axes {ends} is no grid of ours: they have ends. Use stride 1 there."
            )
        if not self.chains or self.interval(time, fan) < 1 or not all(0 <= r < time for r in self.chains):
            kind = (
                "heads of a fan are 1, 2, 3 ... times as far ahead as the first"
                if fan
                else "chains have equal gaps around the cycle"
            )
            raise InputError(f"{kind}; got {self.chains} of {time}, counted from 0.")

    def interval(self, time: int, fan: bool) -> int:
        """Fine intervals between its frames; 0 for chains that do not lie evenly."""
        count, first = len(self.chains), self.chains[0]
        if fan:
            return first + 1 if all(r + 1 == (j + 1) * (first + 1) for j, r in enumerate(self.chains)) else 0
        gap, rest = divmod(time, count)
        return gap if not rest and all(r == first + j * gap for j, r in enumerate(self.chains)) else 0

    def shifts(self, factors: Sequence[int]) -> list[int]:
        """Row-major indices of its shifts among all."""
        chosen = product(*(range(f, s, t) for s, t, f in zip(factors, self.stride, self.first, strict=True)))
        return [sum(i * math.prod(factors[a + 1 :]) for a, i in enumerate(shift)) for shift in chosen]

    def grid(self, fine: Grid) -> Grid:
        """Where its points lie."""
        axes = zip(fine.axes, self.stride, self.first, strict=True)
        return Grid(tuple(replace(a, num_points=a.num_points // t, start=a.start + f * a.spacing) for a, t, f in axes))


@dataclass(frozen=True)
class Level:
    """One row of `Staggered.levels`.

    Attributes
    ----------
    space, time : what `Staggered.at_level` is given: strides along the axes, and in time.
    num_points, interval : of its frames.
    sub_solvers : how many run in a call.
    work : for the same stretch of time, as a share of the work of all. With a processor for each the time is that of one.
    """

    space: tuple[int, ...]
    time: int
    num_points: tuple[int, ...]
    interval: float
    sub_solvers: int
    work: float


def whole(factors: Sequence[int], time: int) -> Part:
    """All sub-solvers."""
    return Part((1,) * len(factors), (0,) * len(factors), tuple(range(time)))


def regular(factors: Sequence[int], time: int, fan: bool, space: int | Sequence[int], every: int) -> Part:
    """Every so many-th shift and chain, from the first on; heads of a fan such that the last one is among them."""
    strides = (space,) * len(factors) if isinstance(space, int) else tuple(space)
    if every < 1 or time % every:
        raise InputError(f"A level takes every n-th of {time} chains, n dividing {time}; got time={every}.")
    return Part(strides, (0,) * len(factors), tuple(range(every - 1 if fan else 0, time, every)))
