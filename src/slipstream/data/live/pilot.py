"""Pilot: typical sizes of the fields of an ensemble that nobody has run before."""

from __future__ import annotations

import torch

from slipstream.data.live.draws import Draws, Uniform
from slipstream.data.live.engine import Delivered, Engine, Lost, Member
from slipstream.data.live.members import seed_of
from slipstream.data.live.reception import Reception, Refused, Run
from slipstream.errors import InputError, LostRun
from slipstream.problems.problem import Problem, Statistics, statistics_of


def pilot(
    problem: Problem, engine: Engine, steps: int, runs: int = 8, draws: Draws | None = None, seed: int = 0
) -> Statistics:
    """Typical sizes, measured on a few whole runs of an engine before a training begins and frozen then: for steppers (``statistics=``).

    For problems whose own `statistics` are not known, because their solver is a program of somebody else's. Five to ten runs will do.

    Parameters
    ----------
    problem : gives channels, grid and what is drawn. engine : has nothing under way. steps : frames a run, at least 2.
    runs : how many. draws, seed : as for an `Ensemble`; another seed than the ensemble's makes other runs.

    Raises
    ------
    LostRun : a run failed; a pilot starts nothing again.
    """
    if runs < 1 or steps < 2:
        raise InputError(f"A pilot needs at least 1 run of 2 frames; got runs={runs}, steps={steps}.")
    draws = Uniform() if draws is None else draws
    draws.check(problem)
    reception = Reception((len(problem.channels), *problem.grid.shape), steps, problem.interval, direct=False)
    under_way: dict[int, Run] = {}
    for number in range(runs):
        parameters = draws.draw(problem, number, seed, seed_of(seed, number))
        under_way[number] = Run(Member(number, seed_of(seed, number), parameters, steps))
    engine.submit([run.member for run in under_way.values()])
    whole: list[torch.Tensor] = []
    try:
        while len(whole) < runs:
            events = engine.poll(wait=True)
            if not events:
                raise LostRun(f"{type(engine).__name__} has nothing under way, but the pilot's runs have not ended.")
            for event in events:
                if isinstance(event, Lost):
                    raise LostRun(f"Run {event.member} of the pilot was lost: {event.reason}.")
                if isinstance(event, Delivered):
                    sample = reception.take(under_way[event.member], event)
                    whole += [] if sample is None else [sample.frames]
    except Refused as refused:
        raise LostRun(f"A run of the pilot {refused}.") from None
    finally:
        engine.cancel(list(under_way))
    fields = {n: torch.stack([r.member.parameters[n] for r in under_way.values()]).float() for n in problem.fields}
    return statistics_of(torch.stack(whole), fields)
