"""Ensemble: training data from solvers that run while the training does; nothing is stored on disk."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from slipstream.data.live.batched import InProcess
from slipstream.data.live.buffers import Buffer, Reservoir, Sample
from slipstream.data.live.draws import Draws, Uniform, cells, num_cells, place_of
from slipstream.data.live.engine import Delivered, Engine, Event, Finished, Lost, Member, Resumable
from slipstream.data.live.members import seed_of
from slipstream.data.live.reception import LEAD_TIME, Reception, Refused, Run, plain, restored
from slipstream.data.source import Source, check_layout
from slipstream.errors import InputError, LostRun
from slipstream.pretrained import describe, path_of
from slipstream.problems.problem import Problem
from slipstream.trajectories import Window

RULE = 10
"""Times what all clients send in a run: so much a buffer holds if batches are to be near to independent draws."""


@dataclass
class Counters:
    """What an ensemble has done so far, over all continuations.

    `frames` were received and counted once, `duplicates` dropped because a restarted run sent them again; `runs` are whole; `losses` counts
    clients that were lost; `waiting` are wall seconds in which the training had no samples, `solver` processor seconds of the solvers.
    """

    frames: int = 0
    duplicates: int = 0
    runs: int = 0
    losses: int = 0
    waiting: float = 0.0
    solver: float = 0.0


class Ensemble(Source):
    """Windows from an ensemble of solver runs that an engine computes beside the training.

    Runs are drawn one after the other; as many as the engine has clients are under way, and their frames go to the training the moment
    they exist, through a buffer that mixes them. A frame is looked at, counted once (a run that was lost and started again
    sends what is here already; that is dropped), and forgotten when the buffer needs its place. While the buffer can take nothing, the
    engine is not asked, and clients wait.

    A window has `history` + `horizon` consecutive frames. With `direct` it has one, whose time stands in
    ``window.parameters["lead_time"]``: for steppers that go straight from parameters and time to a frame (`slipstream.steppers.Direct`).

    Training goes on exactly from a saved state, buffer included. With the engine in the same process all that follows is the same to the
    bit; other engines compute the runs that were under way once more, and nothing is counted twice.

    Several processes (torchrun) share the runs among them: each has an engine and a buffer of its own.

    Parameters
    ----------
    problem : what is run; gives grid, interval and channels.
    steps : frames a run, the initial one included.
    batch : windows in a batch.
    engine : where runs are computed; None is ``InProcess(problem)``.
    buffer : None is a `Reservoir` of `RULE` times what all clients send in a run.
    draws : parameters of the runs; None is the problem's own draw.
    history, horizon : frames of a window.
    direct : windows are single frames that know their time.
    runs : after so many, production ends, the buffer is emptied, and training stops (`ended`); None goes on for ever.
    restarts : how often one run may be lost and started again.
    seed : of the runs.

    Raises
    ------
    InputError : arguments that do not fit each other, or a problem from which nothing can be drawn.
    LostRun : a run was lost more than `restarts` times.

    References
    ----------
    Meyer et al., Training deep surrogate models with large scale online learning, ICML 2023 (arXiv:2306.16133).
    """

    def __init__(
        self,
        problem: Problem,
        steps: int = 64,
        batch: int = 8,
        engine: Engine | None = None,
        buffer: Buffer | None = None,
        draws: Draws | None = None,
        history: int = 1,
        horizon: int = 1,
        direct: bool = False,
        runs: int | None = None,
        restarts: int = 3,
        seed: int = 0,
    ) -> None:
        if batch < 1 or history < 0 or horizon < 1 or restarts < 0 or (runs is not None and runs < 1):
            raise InputError(
                f"Ensemble expects batch >= 1, history >= 0, horizon >= 1, restarts >= 0 and runs >= 1; got batch={batch}, "
                f"history={history}, horizon={horizon}, restarts={restarts}, runs={runs}."
            )
        if direct and LEAD_TIME in problem.varying:
            raise InputError(
                f"{problem.name} has a parameter {LEAD_TIME!r} of its own; with direct=True it would be hidden."
            )
        self.problem, self.steps, self.batch, self.seed = problem, steps, batch, seed
        self.history, self.horizon, self.direct, self.runs, self.restarts = history, horizon, direct, runs, restarts
        self.engine = InProcess(problem) if engine is None else engine
        self.draws = Uniform() if draws is None else draws
        self.draws.check(problem)
        length = 1 if direct else history + horizon
        shape = (len(problem.channels), *problem.grid.shape)
        self._reception = Reception(shape, length, problem.interval, direct)
        each = self._reception.samples_a_run(steps)
        if each < 1:
            needed = 2 if direct else length
            raise InputError(f"Runs of {steps} frames give no window; they need at least {needed}.")
        rule = RULE * self.engine.clients * each
        self.buffer = Reservoir(rule) if buffer is None else buffer
        if self.buffer.needs(batch) > self.buffer.capacity:
            raise InputError(
                f"A batch of {batch} is drawn from {self.buffer.needs(batch)} samples, and the {type(self.buffer).__name__} holds "
                f"{self.buffer.capacity}: a larger capacity, a lower threshold or a smaller batch would do."
            )
        if self.buffer.capacity < rule:
            short = "not even one run, so batches hold neighbouring times" if self.buffer.capacity < each else "little"
            warnings.warn(
                f"The buffer holds {self.buffer.capacity} samples, {short}: {self.engine.clients} clients send {each} a run, and "
                f"{RULE} times all that ({rule}) is what mixes runs and times well.",
                stacklevel=2,
            )
        self.counters = Counters()
        self._constructed_clients = self.engine.clients
        self._runs: dict[int, Run] = {}
        self._pending: deque[Sample] = deque()
        self._drawn = 0
        self._cells: set[tuple[int, ...]] = set()
        self._kept: dict[str, Any] | None = None
        self._stopped = False
        self._last = (perf_counter(), 0, 0, 0.0)

    def next(self, generator: torch.Generator) -> Window:
        self._reopen()
        self._listen(generator, wait=False)
        if not self.buffer.ready(self.batch):
            start = perf_counter()
            while not self.buffer.ready(self.batch) and not self._over():
                self._listen(generator, wait=True)
            self.counters.waiting += perf_counter() - start
        if self._over() and not self.buffer.closed:
            self.buffer.close()
        if not len(self.buffer):
            raise InputError(
                f"There are no more windows: {self.ended()}. Give more runs=, or None for an endless ensemble."
            )
        drawn = self.buffer.get(self.batch, generator)
        return Window(drawn.frames, self.problem.grid, self.problem.interval, drawn.parameters, token=drawn.members)

    def feedback(self, window: Window, outputs: Tensor | None, scores: Tensor | None = None) -> None:
        if scores is not None and window.token is not None:
            self.draws.feedback(window.token, scores.detach().cpu())

    def ended(self) -> str:
        if not len(self.buffer) and not self._to_come():
            return f"all {self.runs} runs of the ensemble have been seen"
        return ""

    def resize(self, clients: int) -> None:
        """Another number of clients from now on; runs under way are finished."""
        self.engine.resize(clients)

    def close(self) -> None:
        """Stop the clients of the runs under way; with the next window these go on, or begin again. The engine itself stays open."""
        if self._stopped:
            return
        self._kept = self._engine_state()
        self._stopped = True
        self.engine.cancel(list(self._runs))

    def _reopen(self) -> None:
        """Let the engine go on after `close`, or begin."""
        if self._stopped:
            self._stopped = False
            self._submit_again(self._kept)
            self._kept = None

    def _over(self) -> bool:
        """Whether production has ended."""
        return self.runs is not None and self._next_number() >= self.runs and not self._runs and not self._pending

    def _to_come(self) -> bool:
        """Whether any sample is still to come: of a run that is not drawn yet, or of one whose frames are not all here. A run under way may
        have none left: it is only to say that it has finished, or was lost and sends once more what is here."""
        return (
            self.runs is None
            or self._next_number() < self.runs
            or bool(self._pending)
            or any(run.received < run.member.steps for run in self._runs.values())
        )

    def _next_number(self) -> int:
        rank, world = (
            (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)
        )
        return rank + self._drawn * world

    def _listen(self, generator: torch.Generator, wait: bool) -> None:
        """Fill the buffer, keep clients busy, and hear what they have to say, unless nothing more can be taken."""
        self._fill(generator)
        if self._pending or self._over():
            return
        self._feed()
        events = self.engine.poll(wait)
        if wait and not events:
            raise LostRun(
                f"{type(self.engine).__name__} has nothing under way, but the runs {sorted(self._runs)} have not ended. "
                "This is a fault of the engine: every run that was submitted is reported as Finished or Lost."
            )
        self._hear(events)
        self._fill(generator)
        self._feed()

    def _fill(self, generator: torch.Generator) -> None:
        while self._pending and self.buffer.put(self._pending[0], generator):
            self._pending.popleft()

    def _feed(self) -> None:
        """As many runs again as there are clients are submitted, so that none of these is idle between two polls."""
        new = []
        while len(self._runs) < 2 * self.engine.clients and (self.runs is None or self._next_number() < self.runs):
            number = self._next_number()
            seed = seed_of(self.seed, number)
            parameters = self.draws.draw(self.problem, number, self.seed, seed)
            broken = [k for k, v in parameters.items() if not bool(torch.isfinite(v).all())]
            if broken:
                raise InputError(
                    f"{type(self.draws).__name__} gave run {number} parameters that are not finite: {', '.join(broken)}."
                )
            member = Member(number, seed, parameters, self.steps)
            self._drawn += 1
            self._runs[number] = Run(member)
            if self.problem.varying:
                self._cells |= cells(place_of(self.problem, parameters))
            new.append(member)
        if new:
            self.engine.submit(new)

    def _hear(self, events: Sequence[Event]) -> None:
        lost: set[int] = set()  # what comes after that, in the same report, is of an attempt that counts no more
        for event in events:
            run = self._runs.get(event.member)
            if run is None or event.member in lost:
                continue
            reason = event.reason if isinstance(event, Lost) else self._take(run, event)
            if reason:
                lost.add(event.member)
                self._lose(run, reason, cancel=not isinstance(event, Lost))

    def _take(self, run: Run, event: Delivered | Finished) -> str:
        """Take in what a run has sent; why it cannot be, as a clause."""
        if isinstance(event, Finished):
            if run.sent < run.member.steps:
                return f"said that it had finished after {run.sent} of {run.member.steps} frames"
            del self._runs[event.member]
            self.counters.runs += 1
            return ""
        self.counters.solver += event.seconds
        before = run.received
        try:
            sample = self._reception.take(run, event)
        except Refused as refused:
            return str(refused)
        self.counters.frames += run.received - before
        self.counters.duplicates += 1 - (run.received - before)
        if sample is not None:
            self._pending.append(sample)
        return ""

    def _lose(self, run: Run, reason: str, cancel: bool) -> None:
        run.losses += 1
        self.counters.losses += 1
        member = run.member
        if run.losses > self.restarts:
            given = {k: v.tolist() if v.numel() < 9 else tuple(v.shape) for k, v in member.parameters.items()}
            self.close()
            raise LostRun(
                f"Run {member.number} of the ensemble was lost {run.losses} times; the last time it {reason}. Its parameters are {given}, "
                f"its seed is {member.seed}. Look at this run on its own, keep the ranges away from it, or allow more restarts=."
            )
        if cancel:
            self.engine.cancel([member.number])
        run.restart()
        self.engine.submit([member])

    def figures(self) -> dict[str, float]:
        """Samples produced and consumed a second and the share of time spent waiting, since the last call; draws a sample and whole runs so
        far; which share of the time steps is in the buffer, and which share of the ranges' cells (see `cells`) the runs have met."""
        now = perf_counter()
        then, produced, consumed, waiting = self._last
        passed = max(now - then, 1e-9)
        buffer = self.buffer
        self._last = now, buffer.produced, buffer.consumed, self.counters.waiting
        steps, _ = buffer.occupancy()
        found = {
            "produced_a_second": (buffer.produced - produced) / passed,
            "consumed_a_second": (buffer.consumed - consumed) / passed,
            "repetitions": buffer.consumed / max(1, buffer.produced),
            "waiting": min(1.0, (self.counters.waiting - waiting) / passed),
            "runs": float(self.counters.runs),
            "covered_times": len(steps) / self._reception.samples_a_run(self.steps),
        }
        if self.problem.varying:
            found["covered_parameters"] = len(self._cells) / num_cells(len(self.problem.varying))
        return found

    def state_dict(self) -> dict[str, Any]:
        """Everything but the engine's processes. Tensors are the ensemble's own: write them down, or copy them, before it goes on."""
        return {
            "layout": self._layout(),
            "buffer": self.buffer.state_dict(),
            "draws": self.draws.state_dict(),
            "engine": self._kept if self._stopped else self._engine_state(),
            "runs": [plain(run) for run in self._runs.values()],
            "pending": [asdict(sample) for sample in self._pending],
            "drawn": self._drawn,
            "cells": [list(c) for c in sorted(self._cells)],
            "counters": asdict(self.counters),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        check_layout("Ensemble", state, self._layout())
        if self._runs and not self._stopped:
            self.engine.cancel(list(self._runs))
        self.buffer.load_state_dict(state["buffer"])
        self.draws.load_state_dict(state["draws"])
        self._runs = {run.member.number: run for run in map(restored, state["runs"])}
        self._pending = deque(Sample(**{**s, "frames": s["frames"].clone()}) for s in state["pending"])
        self._drawn, self.counters = int(state["drawn"]), Counters(**state["counters"])
        self._cells = {tuple(c) for c in state["cells"]}
        self._last = (perf_counter(), self.buffer.produced, self.buffer.consumed, self.counters.waiting)
        self._stopped, self._kept = True, state["engine"]  # the engine begins with the next window

    def _engine_state(self) -> dict[str, Any] | None:
        """None where the engine cannot go on by itself."""
        if not isinstance(self.engine, Resumable):
            return None
        kind = path_of(type(self.engine))
        return {"class": kind, "constructed": self._constructed_clients, "state": self.engine.state_dict()}

    def _submit_again(self, kept: dict[str, Any] | None) -> None:
        """Continue the runs that were under way: exactly, where the engine is the one that was saved; else from their beginnings."""
        if kept is not None and isinstance(self.engine, Resumable) and kept["class"] == path_of(type(self.engine)):
            clients = self.engine.clients
            self.engine.load_state_dict(kept["state"])
            if kept["constructed"] != self._constructed_clients:  # asked for anew, and asked for last
                self.engine.resize(clients)
            return
        for run in self._runs.values():
            run.restart()
        self.engine.submit([run.member for run in self._runs.values()])

    def _layout(self) -> dict[str, Any]:
        return {
            "problem": self.problem.name,
            "varying": str(dict(self.problem.varying)),
            "frame": str(self._reception.shape),
            "interval": self.problem.interval,
            "steps": self.steps,
            "batch": self.batch,
            "history": self.history,
            "horizon": self.horizon,
            "direct": self.direct,
            "runs": self.runs,
            "seed": self.seed,
            "buffer": type(self.buffer).__name__,
            "capacity": self.buffer.capacity,
            "threshold": self.buffer.needs(1),
            "draws": str(_said(self.draws)),
        }


def _said(draws: Draws) -> Any:
    """Class and arguments of draws, as far as they can be told."""
    try:
        return describe(draws)
    except InputError:
        return path_of(type(draws))
