"""PretrainingMixture: runs of several problems on one grid with one list of channels, in all pairs."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slipstream.channels import Channel
from slipstream.data.allpairs import AllPairs
from slipstream.data.dataset import Dataset
from slipstream.data.mixture import Mixture
from slipstream.data.source import Source, check_layout
from slipstream.errors import InputError
from slipstream.pretrained import describe
from slipstream.problems.problem import Problem
from slipstream.trajectories import Trajectories, Window

PRESENT = "present"
"""Parameter (run, channel): 1 where the run has the channel, 0 where it is filled up."""


class PretrainingMixture(Dataset, Source):
    """What one network learns several problems from: trusted runs of each, in a common list of channels, and batches of pairs of frames.

    A channel that a problem does not have is 0 in its runs, and ``parameters["present"]`` (batch, channel) says which it has, for
    steppers that leave the others alone (`slipstream.steppers.CommonChannels`). Channels of one name are one channel. Parameters of the
    problems are left out: the network has to tell them from the frames.

    Problems have scales of their own, and so time is counted in frames and length in boxes: one frame is `interval` whatever the problem's
    own, and the box is the first problem's. What is a good interval for each problem is for whoever names the problems to say.

    It is a source of pairs (`AllPairs` of each problem, mixed by `Mixture`) and a data set in one, so that a recipe takes it for its
    ``data``, and as ``test`` with another seed. Runs are simulated when they are first asked for.

    Parameters
    ----------
    problems : time-dependent ones with as many points along each axis and the same periodicity, none with field parameters.
    channels : names, in order, at least those of all problems; where None, those of the first problem, then what the others add.
    runs, steps, seed : of each problem's simulation.
    batch : pairs in a window.
    transitions : numbers of frames that may lie between the two of a pair; all where None; (1,) for neighbours alone.
    shares : of the problems in the batches; equal where None.
    interval : what one frame is called; that of the stepper which is trained.
    out : folder that keeps the simulated runs, a store a problem; None simulates again.

    Raises
    ------
    InputError : problems that cannot share grid or channels, or arguments that make no batches.

    References
    ----------
    Herde et al., Poseidon, NeurIPS 2024 (arXiv:2405.19101).
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        channels: Sequence[str] | None = None,
        runs: int = 32,
        steps: int = 16,
        seed: int = 0,
        batch: int = 8,
        transitions: Sequence[int] | None = None,
        shares: Sequence[float] | None = None,
        interval: float = 1.0,
        out: str | os.PathLike | None = None,
    ) -> None:
        self.problems = tuple(problems)
        if not self.problems or runs < 1 or steps < 2 or not 0 < interval < math.inf:
            raise InputError(
                f"PretrainingMixture takes pairs of frames from runs of at least one problem; got {len(self.problems)} problems, "
                f"runs={runs}, steps={steps}, interval={interval}."
            )
        self.channels = None if channels is None else tuple(channels)
        self.runs, self.steps, self.seed, self.batch = runs, steps, seed, batch
        self.interval, self.out = interval, out
        self.transitions = None if transitions is None else tuple(transitions)
        self.shares = None if shares is None else tuple(float(s) for s in shares)
        self.common = _common(self.problems, self.channels)
        """All channels, in order."""
        self.grid = self.problems[0].grid
        for problem in self.problems:
            self._check(problem)
        Mixture([Source()] * len(self.problems), batch, shares)  # refuses what it would refuse after the simulation
        self._state: dict[str, Any] | None = None

    @cached_property
    def parts(self) -> tuple[Trajectories, ...]:
        """The runs of each problem, in the common channels."""
        return tuple(self._embedded(i, problem) for i, problem in enumerate(self.problems))

    @cached_property
    def source(self) -> Mixture:
        """What draws the pairs."""
        made = Mixture(
            [AllPairs(part, self._pairs(part), transitions=self.transitions) for part in self.parts],
            self.batch,
            self.shares,
        )
        if self._state is not None:
            made.load_state_dict(self._state)
        return made

    def trajectories(self, runs: slice = slice(None), times: slice = slice(None)) -> Trajectories:
        """The runs of all problems, in turn: one of each, then the next of each."""
        frames = torch.stack([part.frames for part in self.parts], 1).flatten(0, 1)
        present = torch.stack([part.parameters[PRESENT] for part in self.parts], 1).flatten(0, 1)
        whole = replace(self.parts[0], frames=frames, parameters={PRESENT: present})
        return whole[runs, times]

    def next(self, generator: torch.Generator) -> Window:
        return self.source.next(generator)

    def feedback(self, window: Window, outputs: Tensor | None, scores: Tensor | None = None) -> None:
        return None

    def state_dict(self) -> dict[str, Any]:
        made = self.__dict__.get("source")
        return {"mixture": self._state if made is None else made.state_dict(), "layout": self._layout()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        check_layout("PretrainingMixture", state, self._layout())
        if "source" in self.__dict__ and state["mixture"] is not None:
            self.source.load_state_dict(state["mixture"])
        else:
            self.__dict__.pop("source", None)  # it is made anew, in that state
        self._state = state["mixture"]

    def _pairs(self, part: Trajectories) -> int:
        """How many pairs are taken from a problem at once: a batch, or all where there are fewer."""
        leads = range(1, self.steps) if self.transitions is None else sorted(set(self.transitions))
        return min(self.batch, part.runs * sum(max(self.steps - lead, 0) for lead in leads) or 1)

    def _embedded(self, number: int, problem: Problem) -> Trajectories:
        out = None if self.out is None else Path(self.out) / f"{number}-{problem.name}.zarr"
        known = problem.simulate(self.runs, self.steps, self.seed, out)
        place = [[c.name for c in self.common].index(c.name) for c in problem.channels]
        frames = known.frames.new_zeros(known.runs, known.steps, len(self.common), *self.grid.shape)
        frames[:, :, place] = known.frames
        present = frames.new_zeros(known.runs, len(self.common))
        present[:, place] = 1.0
        about = {"problem": "PretrainingMixture", "of": [p.name for p in self.problems]}
        return Trajectories(frames, self.grid, self.interval, self.common, {PRESENT: present}, about=about)

    def _check(self, problem: Problem) -> None:
        first = self.problems[0]
        if problem.steady or problem.fields:
            raise InputError(
                f"PretrainingMixture takes problems that go on in time and whose runs are told apart by their frames; {problem.name} "
                f"{'is steady' if problem.steady else f'has the fields {list(problem.fields)}'}."
            )
        kinds = [[(a.num_points, a.periodic, a.centred) for a in p.grid.axes] for p in (first, problem)]
        if kinds[0] != kinds[1]:
            raise InputError(
                f"PretrainingMixture has one grid: {first.name} has {first.grid.shape} points and {problem.name} {problem.grid.shape}, "
                "and where these are equal one is periodic, or has its points at cell centres, and the other not. Pose them alike."
            )

    def _layout(self) -> dict[str, Any]:
        return {
            "problems": str([describe(p) for p in self.problems]),
            "channels": str([c.name for c in self.common]),
            "runs": self.runs,
            "steps": self.steps,
            "seed": self.seed,
            "batch": self.batch,
            "transitions": str(self.transitions),
            "shares": str(self.shares),
            "interval": self.interval,
        }


def _common(problems: Sequence[Problem], names: Sequence[str] | None) -> tuple[Channel, ...]:
    """One channel a name; those that no problem has keep their name alone."""
    known: dict[str, Channel] = {}
    for problem in problems:
        for channel in problem.channels:
            if known.setdefault(channel.name, channel) != channel:
                raise InputError(
                    f"Two problems have a channel {channel.name!r}, but they are not the same: {known[channel.name]} and {channel}."
                )
    if names is None:
        return tuple(known.values())
    missing = [n for n in known if n not in names]
    if missing or len(set(names)) != len(names):
        raise InputError(
            f"The channels of PretrainingMixture are {list(names)}; expected each name once, and {missing or 'all'} among them."
        )
    return tuple(known.get(n, Channel(n)) for n in names)
