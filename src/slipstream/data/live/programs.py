"""Programs: an engine whose clients are solver programs, in any language."""

from __future__ import annotations

import os
import select
import shutil
import socket
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from slipstream.client import END, FAILURE, FRAME, check_package
from slipstream.data.live.door import Door
from slipstream.data.live.engine import Delivered, Event, Finished, Lost, Member
from slipstream.data.live.protocol import LARGEST, Record, Unreadable, question
from slipstream.data.live.running import Running
from slipstream.errors import InputError

TICK = 0.1
"""Seconds after which a waiting poll looks at the clock."""


class Programs:
    """Starts a program for each run, one process each, and reads the frames that it sends (``docs/howto/live.md`` has the protocol).

    Everything happens inside `poll`: there are no threads, and while nobody polls, programs fill their pipe and wait. Nothing is written
    to disk. A program that dies, falls silent, or sends anything but finite frames of the right shape in the right order is killed with
    all it has started, and its run is `Lost` with the reason and what it printed last.

    Parameters
    ----------
    command : of the program, word by word. It is told what to compute by JSON on its standard input.
    clients : programs at once.
    timeout : seconds without a word, sent or printed, after which a program is given up; one that takes longer for a frame sends
        heartbeats. It has as long to leave after its last frame.
    cwd, environment : of the programs; `environment` adds to, and overrides, that of this process.
    shape : of a frame, (channel, *space). None takes that of the first frame that comes.
    transport : ``"pipe"``, or ``"socket"``: a connection to this machine, for programs behind a launcher that closes what they inherit. The
        system buffers some MB of a socket; of a pipe, two frames where it lets one choose (Linux), else 64 kB.
    largest : bytes a frame may have; larger ones are refused before room is made for them.
    clock : seconds from any origin.

    Raises
    ------
    InputError : the command is not there, or an argument makes no sense.
    """

    runs_programs: ClassVar[bool] = True
    """A recipe may name it only where whoever reads the recipe has allowed it."""

    def __init__(
        self,
        command: Sequence[str],
        clients: int = 1,
        timeout: float = 300.0,
        cwd: str | os.PathLike | None = None,
        environment: Mapping[str, str] | None = None,
        shape: tuple[int, ...] | None = None,
        transport: Literal["pipe", "socket"] = "pipe",
        largest: int = LARGEST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if isinstance(command, str) or not command:
            raise InputError(f"A command is a list of words, such as ['./solver', '--quiet']; got {command!r}.")
        if clients < 1 or timeout <= 0 or transport not in ("pipe", "socket"):
            raise InputError(
                "Programs expects clients >= 1, timeout > 0 and transport 'pipe' or 'socket'; "
                f"got clients={clients}, timeout={timeout}, transport={transport!r}."
            )
        self.command, self.timeout, self.transport, self.largest = tuple(command), timeout, transport, largest
        self.cwd = None if cwd is None else Path(cwd)
        self.environment, self.shape, self.clock = dict(environment or {}), shape, clock
        program = command[0] if self.cwd is None or os.sep not in command[0] else str(self.cwd / command[0])
        if shutil.which(program, path={**os.environ, **self.environment}.get("PATH")) is None:
            raise InputError(f"There is no program {program!r} that may be run. Compile or install it first.")
        self._clients = clients
        self._waiting: deque[Member] = deque()
        self._running: dict[int, Running] = {}
        self._leaving: list[Running] = []
        self._attempts: dict[int, int] = {}
        self._happened: list[Event] = []
        self._door = Door(timeout, clock) if transport == "socket" else None
        self._end = weakref.finalize(self, _stop, self._running, self._leaving, self._door)

    @property
    def clients(self) -> int:
        return self._clients

    def resize(self, clients: int) -> None:
        if clients < 1:
            raise InputError(f"Programs needs at least one client; got {clients}. To stop, close it.")
        self._clients = clients

    def submit(self, members: Sequence[Member]) -> None:
        """Raises InputError for a member whose parameters are not finite, and after `close`."""
        if not self._end.alive:
            raise InputError("This engine has been closed; make a new one.")
        for member in members:
            try:
                question(member, 1)
            except ValueError as error:
                raise InputError(f"The parameters of member {member.number} cannot be sent: {error}.") from None
        self.cancel([m.number for m in members])
        self._waiting.extend(members)
        self._fill()

    def poll(self, wait: bool = False) -> list[Event]:
        while self._end.alive:
            self._fill()
            if wait and not self._happened:
                self._sleep()
            if self._door is not None:
                self._door.let_in(self._running.values())
            for client in list(self._running.values()):
                self._follow(client)
            for client in list(self._leaving):
                client.listen(self.clock())
                if client.process.poll() is not None or self.clock() - client.heard > self.timeout:
                    self._leaving.remove(client)
                    client.close()
            self._fill()
            if self._happened or not wait or not (self._running or self._waiting):
                break
        happened, self._happened = self._happened, []
        return happened

    def cancel(self, members: Sequence[int]) -> None:
        gone = set(members)
        self._waiting = deque(m for m in self._waiting if m.number not in gone)
        self._happened = [e for e in self._happened if e.member not in gone]
        for number in gone & self._running.keys():
            self._running.pop(number).close()

    def close(self) -> None:
        self._waiting.clear()
        self._happened.clear()
        self._end()

    def describe(self) -> dict[str, Any]:
        return {
            "engine": "Programs",
            "command": list(self.command),
            "clients": self.clients,
            "timeout": self.timeout,
            "transport": self.transport,
            "host": socket.gethostname(),
        }

    def _fill(self) -> None:
        """Start programs while there is work and room."""
        while self._waiting and len(self._running) + len(self._leaving) < self._clients:
            member = self._waiting.popleft()
            attempt = self._attempts[member.number] = self._attempts.get(member.number, 0) + 1
            address = None if self._door is None else self._door.address
            place, now = (self.command, self.cwd, self.environment, address), self.clock()
            try:
                client = Running(member, attempt, self.shape, self.largest, *place, now)
            except OSError as error:
                self._happened.append(Lost(member.number, f"the program could not be started: {error}"))
                continue
            self._running[member.number] = client

    def _sleep(self) -> None:
        """Until a program or somebody at the door has something, or it is time to look at the clock."""
        watch = select.poll()
        for client in (*self._running.values(), *self._leaving):
            for fd in client.descriptors():
                watch.register(fd, select.POLLIN)
        for fd in () if self._door is None else self._door.descriptors():
            watch.register(fd, select.POLLIN)
        watch.poll(TICK * 1000)

    def _follow(self, client: Running) -> None:
        """What has come from a running program, and whether it is still there."""
        ended = client.process.poll() is not None  # asked first: what it sent before it ended can be read now
        if ended and self._door is not None:
            self._door.let_in(self._running.values())
        try:
            for record in client.read(self.clock()):
                self.shape = self.shape or client.shape
                if self._over(client, record):
                    return
        except Unreadable as error:
            return self._lose(client, str(error))
        client.listen(self.clock())
        silence, so_far = self.clock() - client.heard, f"after {client.step} of {client.member.steps} frames"
        if ended and not client.behind:
            self._lose(client, f"the program {client.farewell()} {so_far}")
        elif silence > self.timeout:
            self._lose(client, f"the program has been silent for {silence:.4g} s {so_far} (timeout={self.timeout:.4g})")

    def _over(self, client: Running, record: Record) -> bool:
        """Report a record; True if it is the last of its run."""
        number, steps, header = client.member.number, client.member.steps, record.header
        if header.kind == FRAME:
            frame = record.frame
            if torch.isfinite(frame).all():
                self._happened.append(Delivered(number, header.step, frame, header.seconds))
                return False
            self._lose(client, f"frame {header.step} holds numbers that are not finite")
        elif header.kind == FAILURE:
            self._lose(client, f"the program gave up after {client.step} of {steps} frames: {record.text}")
        elif header.kind == END and client.step < steps:
            self._lose(client, f"the program said that it had finished after {client.step} of {steps} frames")
        elif header.kind == END:
            self._happened.append(Finished(number))
            client.hang_up()
            self._leaving.append(self._running.pop(number))
        return client.member.number not in self._running

    def _lose(self, client: Running, reason: str) -> None:
        client = self._running.pop(client.member.number)
        client.close()
        self._happened.append(Lost(client.member.number, reason + client.last_words()))


def _stop(running: dict[int, Running], leaving: list[Running], door: Door | None) -> None:
    """End all programs. Knows nothing of the engine, so that it can do so when the engine is garbage or Python ends."""
    for client in (*running.values(), *leaving):
        client.close()
    running.clear()
    leaving.clear()
    if door is not None:
        door.close()


def python_client(solver: str, allow: Iterable[str] = ()) -> list[str]:
    """The command whose program is a Python class: for `Programs`, which runs it in processes of their own.

    ``Class(parameters, seed, steps)`` iterates over its frames, arrays (channel, *space) of float32 or float64. It need not know us.

    Parameters
    ----------
    solver : ``"package.module:Class"``.
    allow : packages besides slipstream whose code may run.

    Raises
    ------
    ForeignCode : the class lies elsewhere.
    """
    allow = tuple(allow)
    check_package(solver.partition(":")[0], allow, solver)
    return [sys.executable, "-m", "slipstream.client", *(w for p in allow for w in ("--allow", p)), solver]
