"""RayEngine: an engine whose clients are Ray actors, on this machine or on a cluster."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slipstream.data.live.batched import InProcess
from slipstream.data.live.engine import Delivered, Event, Finished, Lost, Member
from slipstream.errors import InputError, MissingExtra
from slipstream.problems.problem import Problem

AHEAD = 2
"""Frames that a client may have made and nobody has fetched; then Ray lets it wait."""
STORE = 1 << 30
"""Bytes of the object store of a Ray that is started here, at most."""
TICK = 0.5
"""Seconds after which a waiting poll looks at the clock."""


class Client:
    """What runs in an actor: one run at a time, frame by frame.

    Parameters
    ----------
    solver : a problem, or a function from a member to its frames.
    """

    def __init__(self, solver: Problem | Callable[[Member], Iterable[Tensor]]) -> None:
        torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1"))))
        self.frames = _runs_of(solver) if isinstance(solver, Problem) else solver

    def run(self, member: Member) -> Iterator[tuple[np.ndarray, float]]:
        """Frames and the processor seconds that each has cost."""
        start = time.process_time()
        for frame in islice(self.frames(member), member.steps):
            now = time.process_time()
            yield frame.detach().cpu().contiguous().numpy(), now - start
            start = now


def _runs_of(problem: Problem) -> Callable[[Member], Iterator[Tensor]]:
    def frames(member: Member) -> Iterator[Tensor]:
        engine = InProcess(problem, clients=1)
        engine.submit([member])
        while events := engine.poll(wait=True):
            yield from (e.frame for e in events if isinstance(e, Delivered))

    return frames


@dataclass
class _Actor:
    """An actor, and what it computes at the moment."""

    handle: Any
    member: Member | None = None
    frames: Any = None
    step: int = 0
    heard: float = 0.0


class RayEngine:
    """Computes runs in Ray actors, one run each at a time; frames come through Ray's object store.

    What Ray has is left to Ray: where actors run, restarting one that has died, computing its run once more (frames that were delivered are
    not delivered again), and holding a client back while nobody fetches its frames. A run is `Lost` when Ray gives it up, when its solver
    raises, or when it is silent for too long.

    The environment variable ``RAY_ADDRESS`` names a cluster; without it a Ray is started on this machine, without a dashboard, and stopped
    by `close`. A Ray that is running in this process already is used and left alone. Needs the extra ``slipstream[ray]``.

    Parameters
    ----------
    problem : whose runs are computed: their frames are those of `InProcess` with one client.
    clients : actors.
    cores : processor cores that Ray sets aside for each; 0 for clients that mostly wait.
    retries : how often Ray computes a run once more after its actor has died.
    timeout : seconds without a frame after which a run is lost and its actor replaced; the time that a cluster needs to start one counts.
    solver : a function from a `Member` to its frames, tensors (channel, *space), in place of the problem's own solver. It must be possible
        to pickle it.
    clock : seconds from any origin.

    Raises
    ------
    MissingExtra : Ray is not installed.
    InputError : an argument makes no sense.
    """

    def __init__(
        self,
        problem: Problem | None = None,
        clients: int = 1,
        cores: float = 1.0,
        retries: int = 1,
        timeout: float = 600.0,
        solver: Callable[[Member], Iterable[Tensor]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if clients < 1 or cores < 0 or retries < 0 or timeout <= 0:
            raise InputError(
                "RayEngine expects clients >= 1, cores >= 0, retries >= 0 and timeout > 0; "
                f"got clients={clients}, cores={cores}, retries={retries}, timeout={timeout}."
            )
        if solver is None and (problem is None or not problem.solvable):
            found = "there is no problem" if problem is None else f"{problem.name} has no classical solver to run"
            raise InputError(f"{found}; give RayEngine a function that makes frames, solver=.")
        try:
            import ray
        except ImportError:
            raise MissingExtra("ray", "ray", "RayEngine") from None
        self.problem, self.solver, self.cores = problem, solver, cores
        self.retries, self.timeout, self.clock = retries, timeout, clock
        self._ray, self._clients, self._closed = ray, clients, False
        self._started = not ray.is_initialized()
        if self._started:
            _start(ray)
        self._actors: list[_Actor] = []
        self._waiting: deque[Member] = deque()
        self._fill()

    @property
    def clients(self) -> int:
        return self._clients

    def resize(self, clients: int) -> None:
        if clients < 1:
            raise InputError(f"RayEngine needs at least one client; got {clients}. To stop, close it.")
        self._clients = clients
        self._fill()

    def submit(self, members: Sequence[Member]) -> None:
        """Raises InputError after `close`."""
        if self._closed:
            raise InputError("This engine has been closed; make a new one.")
        self.cancel([m.number for m in members])
        self._waiting.extend(members)
        self._fill()

    def poll(self, wait: bool = False) -> list[Event]:
        events: list[Event] = []
        while busy := [a for a in self._actors if a.member is not None]:
            streams = [a.frames for a in busy]
            if wait:
                self._ray.wait(streams, num_returns=1, timeout=TICK)
            ready, _ = self._ray.wait(streams, num_returns=len(streams), timeout=0)
            for actor in busy:
                event = self._follow(actor, any(actor.frames is s for s in ready))
                if event is not None:
                    events.append(event)
            self._fill()
            if events or not wait:
                break
        return events

    def cancel(self, members: Sequence[int]) -> None:
        gone = set(members)
        self._waiting = deque(m for m in self._waiting if m.number not in gone)
        for actor in list(self._actors):
            if actor.member is not None and actor.member.number in gone:
                self._dismiss(actor)
        if not self._closed:
            self._fill()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._waiting.clear()
        for actor in list(self._actors):
            self._dismiss(actor)
        if self._started:
            self._ray.shutdown()

    def describe(self) -> dict[str, Any]:
        solver = getattr(self.solver, "__qualname__", type(self.solver).__name__)
        if self.solver is None and self.problem is not None:
            solver = self.problem.name
        return {
            "engine": "RayEngine",
            "solver": solver,
            "clients": self.clients,
            "cores": self.cores,
            "retries": self.retries,
            "timeout": self.timeout,
            "ray": self._ray.__version__,
            "address": os.environ.get("RAY_ADDRESS", "local"),
        }

    def _fill(self) -> None:
        """As many actors as clients, and work for those who have none."""
        for actor in [a for a in self._actors if a.member is None][: max(0, len(self._actors) - self._clients)]:
            self._dismiss(actor)
        while len(self._actors) < self._clients:
            kind = self._ray.remote(Client).options(num_cpus=self.cores, max_restarts=-1, max_task_retries=self.retries)
            self._actors.append(_Actor(kind.remote(self.solver or self.problem)))
        for actor in self._actors:
            if actor.member is None and self._waiting:
                actor.member, actor.step, actor.heard = self._waiting.popleft(), 0, self.clock()
                streaming = {"num_returns": "streaming", "_generator_backpressure_num_objects": AHEAD}
                actor.frames = actor.handle.run.options(**streaming).remote(actor.member)

    def _follow(self, actor: _Actor, ready: bool) -> Event | None:
        """The next thing that an actor at work has to tell."""
        assert actor.member is not None
        number, steps = actor.member.number, actor.member.steps
        if not ready:
            silence = self.clock() - actor.heard
            if silence <= self.timeout:
                return None
            self._dismiss(actor)
            told = f"after {actor.step} of {steps} frames (timeout={self.timeout:.4g})"
            return Lost(number, f"the actor has been silent for {silence:.4g} s {told}")
        try:
            sent, seconds = self._ray.get(next(actor.frames))
        except StopIteration:
            actor.member = actor.frames = None
            if actor.step == steps:
                return Finished(number)
            return Lost(number, f"the solver stopped after {actor.step} of {steps} frames")
        except self._ray.exceptions.RayTaskError as error:
            actor.member = actor.frames = None
            how = str(error).strip().splitlines()[-1]
            return Lost(number, f"the solver failed after {actor.step} of {steps} frames: {how}")
        except self._ray.exceptions.RayError as error:
            self._dismiss(actor)  # for a new one: what is restarting still would refuse the next run
            return Lost(number, f"Ray gave the run up after {actor.step} of {steps} frames: {error}")
        actor.heard = self.clock()
        event = Delivered(number, actor.step, torch.tensor(sent), seconds)  # a copy: Ray has its memory back
        actor.step += 1
        return event

    def _dismiss(self, actor: _Actor) -> None:
        self._actors.remove(actor)
        self._ray.kill(actor.handle, no_restart=True)


def _start(ray: Any) -> None:
    """Join the cluster that ``RAY_ADDRESS`` names, or start a small Ray here."""
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False)
    else:
        pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        ray.init("local", include_dashboard=False, log_to_driver=False, object_store_memory=min(STORE, pages // 8))
