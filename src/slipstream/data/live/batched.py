"""The engine in the same process: the problem's classical solver, many runs at once, in turns with the training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from time import process_time
from typing import Any

import torch
from torch import Tensor

from slipstream.data.live.engine import Delivered, Event, Finished, Member
from slipstream.data.live.members import start_of
from slipstream.errors import InputError
from slipstream.problems.problem import Problem
from slipstream.stepper import Stepper


@dataclass
class _Group:
    """Runs that were started together and are marched together, in one batch from beginning to end."""

    members: list[Member]
    flow: Iterator[Tensor]
    done: int = 0
    """Frames that were sent, of each."""
    silent: set[int] = field(default_factory=set)
    """Numbers of runs that were cancelled."""

    @property
    def left(self) -> list[Member]:
        """Runs that still have frames to send to somebody."""
        return [m for m in self.members if m.number not in self.silent and m.steps > self.done]


class InProcess:
    """Computes runs in batches with a problem's own solver, a few solver calls a poll: no second process, no copy, no disk.

    The same polls give the same frames, to the bit, whatever the machine does meanwhile; a training with this engine goes on exactly
    after a stop, with the ensemble in the middle of its runs. The runs of a batch are started together, and the batch stays what it is
    until its runs end, because the rounding of a batched transform may depend on the size of the batch. A larger number of clients
    starts a further batch beside it.

    Samples come as fast as training asks for them: a training step of B samples beside a poll that gives N new ones draws each about
    B / N times.

    Parameters
    ----------
    problem : whose runs are computed.
    clients : runs at once.
    calls : solver calls a poll; 0.25 is one every fourth poll. A poll that has to wait makes one in any case.
    trusted : frames by the reference solver in float64, as `Problem.simulate` gives them; else by the fast one in float32.

    Raises
    ------
    InputError : numbers that make no engine, or a problem without a classical solver.
    """

    def __init__(self, problem: Problem, clients: int = 8, calls: float = 1.0, trusted: bool = True) -> None:
        if clients < 1 or not (math.isfinite(calls) and calls > 0):
            raise InputError(f"InProcess expects clients >= 1 and calls > 0; got clients={clients}, calls={calls}.")
        if not problem.solvable:
            raise InputError(
                f"{problem.name} has no classical solver to run; give an engine that runs a program of yours."
            )
        self.problem, self.calls, self.trusted = problem, calls, trusted
        self._clients = clients
        self._waiting: list[Member] = []
        self._groups: list[_Group] = []
        self._turn, self._owed = 0, 0.0

    @property
    def clients(self) -> int:
        return self._clients

    def resize(self, clients: int) -> None:
        if clients < 1:
            raise InputError(f"At least 1 client is needed; got {clients}.")
        self._clients = clients

    def submit(self, members: Sequence[Member]) -> None:
        self._waiting += members

    def cancel(self, members: Sequence[int]) -> None:
        gone = set(members)
        self._waiting = [m for m in self._waiting if m.number not in gone]
        for group in self._groups:
            group.silent |= gone & {m.number for m in group.members}
        self._groups = [g for g in self._groups if g.left]

    def close(self) -> None:
        self._waiting, self._groups = [], []

    def describe(self) -> dict[str, Any]:
        setting = self.problem.reference_setting if self.trusted else self.problem.fast_setting
        return {"engine": "InProcess", "clients": self._clients, "calls": self.calls, "solver": str(setting)}

    def poll(self, wait: bool = False) -> list[Event]:
        self._owed += self.calls
        if wait:
            self._owed = max(self._owed, 1.0)
        events: list[Event] = []
        while self._owed >= 1:
            self._owed -= 1
            events += self._call()
        return events

    def _call(self) -> list[Event]:
        """One solver call for the batch whose turn it is, and what comes of it."""
        start = process_time()
        self._begin()
        if not self._groups:
            return []
        self._turn %= len(self._groups)
        group = self._groups[self._turn]
        frames = next(group.flow)
        seconds = (process_time() - start) / (frames.shape[0] * frames.shape[1])
        events: list[Event] = []
        for i, member in enumerate(group.members):
            if member.number in group.silent:
                continue
            left = max(0, member.steps - group.done)
            for k, frame in enumerate(frames[i, :left]):
                events.append(Delivered(member.number, group.done + k, frame, seconds))
            if 0 < left <= frames.shape[1]:
                events.append(Finished(member.number))
        group.done += frames.shape[1]
        if group.left:
            self._turn += 1
        else:
            self._groups.pop(self._turn)
        return events

    def _begin(self) -> None:
        """Start a batch of runs that wait, as many as clients are free.

        A call serves one batch: if every free client started one, single runs would soon take turns, and a call give one frame.
        """
        free = self._clients - sum(len(g.left) for g in self._groups)
        new = self._waiting[: max(0, free)]
        if new and (not self._groups or 2 * free >= self._clients):
            del self._waiting[: len(new)]
            self._groups.append(_Group(new, self._march(new)))

    @cached_property
    def _solver(self) -> Stepper:
        """One for all batches: it keeps no state, but what it has worked out for its grid and time step."""
        return self.problem.reference() if self.trusted else self.problem.solver(guard=False)

    @torch.no_grad()
    def _march(self, members: list[Member]) -> Iterator[Tensor]:
        """Frames (run, time, channel, *space) in float32 without end: the initial ones, then one solver call's at a time."""
        starts = [start_of(self.problem, m) for m in members]
        frames = torch.cat([f for f, _ in starts])
        parameters = {k: torch.cat([p[k] for _, p in starts]) for k in starts[0][1]}
        if frames.shape[1]:
            yield frames[:, -1:]
        solver = self._solver
        if self.trusted:
            frames = frames.double()
            parameters = {k: v.double() if v.is_floating_point() else v for k, v in parameters.items()}
        state = solver.start(frames, parameters)
        while True:
            state, new = solver.advance(state, parameters)
            yield new.float()

    def state_dict(self) -> dict[str, Any]:
        groups = [
            {"members": [_plain(m) for m in g.members], "done": g.done, "silent": sorted(g.silent)}
            for g in self._groups
        ]
        waiting = [_plain(m) for m in self._waiting]
        return {
            "groups": groups,
            "waiting": waiting,
            "turn": self._turn,
            "owed": self._owed,
            "clients": self._clients,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The batches that were under way are computed again up to where they were, in the same company: at most one run's work a batch."""
        self._waiting = [_member(m) for m in state["waiting"]]
        self._groups = []
        for saved in state["groups"]:
            members = [_member(m) for m in saved["members"]]
            group = _Group(members, self._march(members), silent=set(saved["silent"]))
            while group.done < saved["done"]:
                group.done += next(group.flow).shape[1]
            self._groups.append(group)
        self._turn, self._owed, self._clients = int(state["turn"]), float(state["owed"]), int(state["clients"])


def _plain(member: Member) -> dict[str, Any]:
    return {
        "number": member.number,
        "seed": member.seed,
        "steps": member.steps,
        "parameters": dict(member.parameters),
    }


def _member(saved: dict[str, Any]) -> Member:
    parameters = {k: v.clone() for k, v in saved["parameters"].items()}
    return Member(int(saved["number"]), int(saved["seed"]), parameters, int(saved["steps"]))
