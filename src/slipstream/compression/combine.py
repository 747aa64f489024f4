"""Which combination of transforms is the fastest that keeps the error: a beam search over what can be combined."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal, NamedTuple

from torch import nn

from slipstream.compression.transform import Cost, Transform, Unsuitable, follows
from slipstream.errors import InputError

Combination = tuple[Transform, ...]
Job = Callable[[], object]
NOISE = 0.03
"""Seconds closer than this are the same: the combination of fewer transforms is taken."""
FINALISTS = 3
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Judgement(NamedTuple):
    """`error` is what the search bounds; `deviation` is told beside it: how far the results lie from the original's."""

    error: float
    deviation: float


@dataclass(frozen=True)
class Trial:
    """One combination and what became of it.

    Attributes
    ----------
    status : ``"kept"`` within the error; ``"too far"`` beyond; ``"unsuitable"`` has nothing to do or cannot work here; ``"failed"`` raised.
    why : the message of what was raised.
    seconds : of one job, the best of its races; None where it was not timed.
    first : seconds of the first job, with everything that it compiled.
    """

    transforms: Combination
    status: Literal["kept", "too far", "unsuitable", "failed"]
    why: str = ""
    judgement: Judgement | None = None
    seconds: float | None = None
    first: float | None = None
    cost: Cost | None = None

    @property
    def label(self) -> str:
        return label_of(self.transforms)

    @property
    def preparation(self) -> float | None:
        """Seconds that the first job took longer than a later one: compiling, exporting, packing."""
        return None if self.first is None or self.seconds is None else max(0.0, self.first - self.seconds)


@dataclass(frozen=True)
class Found:
    """What a search returns: the winner, its module, and every trial in the order of the search, the original first."""

    winner: Trial
    module: nn.Module
    trials: tuple[Trial, ...]


def label_of(transforms: Combination) -> str:
    """What a combination is called."""
    return " + ".join(t.label for t in transforms) or "original"


def search(
    make: Callable[[Combination], nn.Module],
    candidates: Sequence[Transform],
    *,
    judge: Callable[[nn.Module], Judgement],
    job: Callable[[nn.Module], Job],
    race: Callable[[Mapping[str, Job]], Mapping[str, float]],
    clock: Callable[[], float],
    cost: Callable[[nn.Module, Combination], Cost],
    max_error: float,
    width: int = 3,
    say: Callable[[Trial], None] = lambda trial: None,
) -> Found:
    """The fastest combination whose error is at most `max_error`; the original where none is faster.

    Stage by stage, every transform is added to the `width` fastest combinations so far that it can follow, and they race. The last
    few race once more, with the original: who wins then is the result.

    Parameters
    ----------
    make : the module that a combination makes; ``()`` is the original.
    judge : the error that a module makes. job : the work that is timed. race : jobs by name to seconds, taken in turns.
    clock : seconds; for the first job of each, which compiles.
    cost : parameters, bytes and operations of what `make` made.
    say : hears of every trial as it is judged.

    Raises
    ------
    InputError : two candidates have the same label. What the original raises is raised; what a combination raises is reported in its trial.
    """
    labels = [t.label for t in candidates]
    if len(set(labels)) < len(labels):
        raise InputError(f"Two transforms have the same label, so that no table could tell them apart: {labels}.")
    trials: dict[str, Trial] = {}
    modules: dict[str, nn.Module] = {}
    jobs: dict[str, Job] = {}

    def attempt(combination: Combination) -> Trial:
        module = make(combination)
        work = job(module)
        begun = clock()
        work()
        first = clock() - begun
        judgement = judge(module)
        kept = judgement.error <= max_error  # false for NaN
        name = label_of(combination)
        modules[name], jobs[name] = module, work
        return Trial(
            combination,
            "kept" if kept else "too far",
            judgement=judgement,
            first=first,
            cost=cost(module, combination),
        )

    def run(names: Sequence[str]) -> None:
        for name, seconds in race({n: jobs[n] for n in names}).items():
            trials[name] = replace(trials[name], seconds=seconds)

    original = replace(attempt(()), status="kept")
    trials[original.label] = original
    say(original)
    fastest: list[str] = [original.label]  # everything kept, by seconds
    for _, stage in groupby(sorted(candidates, key=lambda t: t.stage), key=lambda t: t.stage):
        fresh: list[str] = []
        for transform in stage:
            able = [n for n in fastest if follows(transform, trials[n].transforms)][:width]
            able += [n for n in fresh if follows(transform, trials[n].transforms)]
            for base in able:
                trial = _tried(attempt, (*trials[base].transforms, transform))
                trials[trial.label] = trial
                say(trial)
                if trial.status == "kept":
                    fresh.append(trial.label)
                else:
                    modules.pop(trial.label, None)
                    jobs.pop(trial.label, None)
        if fresh:
            run(list(dict.fromkeys([original.label, *(n for n in fastest if n in jobs), *fresh])))
            fastest = sorted([*fastest, *fresh], key=lambda n: trials[n].seconds or 0.0)
            for name in modules.keys() - {
                original.label,
                *fastest[:width],
            }:  # compiled code and copies of weights are large
                del modules[name], jobs[name]
    beam = [n for n in fastest if n in jobs]
    run(list(dict.fromkeys([original.label, *beam[:FINALISTS]])))
    finalists = [trials[n] for n in dict.fromkeys([original.label, *beam[:FINALISTS]])]
    best = min(t.seconds for t in finalists if t.seconds is not None)
    close = [t for t in finalists if t.seconds is not None and t.seconds <= (1 + NOISE) * best]
    winner = min(close, key=lambda t: (len(t.transforms), t.seconds))
    return Found(winner, modules[winner.label], tuple(trials.values()))


def _tried(attempt: Callable[[Combination], Trial], combination: Combination) -> Trial:
    try:
        return attempt(combination)
    except Unsuitable as error:
        return Trial(combination, "unsuitable", str(error))
    except Exception as error:  # whatever another engine or compiler raises: told, and the combination left out
        lines = COLOURS.sub("", str(error)).strip().splitlines() or [""]
        return Trial(combination, "failed", f"{type(error).__name__}: {lines[0]}")
