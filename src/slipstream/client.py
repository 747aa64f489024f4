"""For solver programs in Python that send their frames to a live ensemble as they make them. Needs nothing but Python.

A program that `slipstream.data.live.programs.Programs` has started asks what to compute, and sends::

    from slipstream import client

    run = client.run()
    for frame in solve(run.parameters["viscosity"], run.seed, run.steps):  # float32 or float64 arrays, (channel, *space)
        client.send(frame)
    client.finish()

A class with no word about slipstream in it will do as well: ``python -m slipstream.client --allow mine mine.solvers:Heat`` makes
``Heat(parameters, seed, steps)`` and sends what it iterates over. The protocol for other languages: ``docs/howto/live.md``.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import math
import os
import socket
import struct
import sys
import time
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from io import RawIOBase
from itertools import islice
from typing import Any

from slipstream.errors import ForeignCode, InputError

MAGIC = b"SLIP"
VERSION = 1
AXES = 6
"""A frame has at most so many, the channel included."""
HEADER = struct.Struct("<4sHHQIIBBHIdQ6Q")
"""magic, version, kind, member, attempt, step, dtype, axes, 0, checksum, seconds, length, shape: 96 bytes, as a C struct lays them out."""
CHECKSUM = 28
"""Where in a header the checksum stands."""
FRAME, HEARTBEAT, END, FAILURE, HELLO = 1, 2, 3, 4, 5
"""Kinds of record."""
DTYPES = {1: ("f", 4), 2: ("d", 8)}
"""Number in a header -> letter in `struct`, bytes."""
FRAMES, MEMBER, TOKEN = "SLIPSTREAM_FRAMES", "SLIPSTREAM_MEMBER", "SLIPSTREAM_TOKEN"
"""Environment variables: where frames go, the file that says what to compute, and what a socket's first record must hold."""
BEAT = 1.0
"""Seconds between heartbeats at most so often, however often a solver asks for one."""


@dataclass(frozen=True)
class Run:
    """What a client is asked to compute.

    Parameters
    ----------
    member, attempt : which run this is, and how often it has been started, from 1 on.
    seed : of everything random in it.
    steps : frames to send, the initial one included.
    parameters : name -> number, or nested lists of numbers where it is a field.
    """

    member: int
    attempt: int
    seed: int
    steps: int
    parameters: dict[str, Any] = field(default_factory=dict)


def record(
    kind: int,
    run: Run,
    payload: bytes | memoryview = b"",
    step: int = 0,
    dtype: int = 0,
    shape: Sequence[int] = (),
    seconds: float = 0.0,
) -> bytes:
    """The header of a record; what follows it on the wire is the payload."""
    padded = (*shape, *[0] * (AXES - len(shape)))
    words = (run.member, run.attempt, step, dtype, len(shape), 0)
    blank = HEADER.pack(MAGIC, VERSION, kind, *words, 0, seconds, len(payload), *padded)
    checksum = struct.pack("<I", zlib.crc32(payload, zlib.crc32(blank)))
    return blank[:CHECKSUM] + checksum + blank[CHECKSUM + 4 :]


class Sender:
    """The wire from this process to the ensemble. It waits where the ensemble has no room: that is how fast solvers are slowed down.

    Parameters
    ----------
    environment : where `Programs` has left word of what to compute and where to send it.

    Raises
    ------
    InputError : this process was not started by a live ensemble.
    """

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        found = os.environ if environment is None else environment
        if FRAMES not in found or MEMBER not in found:
            raise InputError(
                f"{FRAMES} and {MEMBER} are not set: this program expects to be started by a live ensemble. "
                "To try it alone, see 'Alone' in docs/howto/live.md."
            )
        with open(found[MEMBER], "rb") as file:
            self.run = Run(**json.load(file))
        place = found[FRAMES]
        if place.startswith("tcp:"):
            host, _, port = place.removeprefix("tcp:").rpartition(":")
            with socket.create_connection((host, int(port))) as connection:
                self._out: RawIOBase = connection.makefile("wb", buffering=0)
            token = found[TOKEN].encode()
            self._write(record(HELLO, self.run, token), token)
        else:
            self._out = open(place, "wb", buffering=0)  # noqa: SIM115  (open until the run ends)
        self._step = 0
        self._spent = time.process_time()
        self._beaten = -math.inf

    def send(self, frame: Any) -> None:
        """Send the next frame: an array (channel, *space) of float32 or float64, in physical units.

        Raises InputError for anything else, and OSError when the ensemble has gone.
        """
        data = _bytes_of(frame)
        kind = next((k for k, (letter, _) in DTYPES.items() if data.format in (letter, f"<{letter}")), None)
        if kind is None or not 1 <= data.ndim <= AXES:
            raise InputError(
                f"A frame is an array (channel, *space) of float32 or float64 with at most {AXES} axes; "
                f"got {data.ndim} axes of format {data.format!r}."
            )
        shape = tuple(data.shape or ())
        payload = data.cast("B") if data.nbytes else memoryview(b"")
        now = time.process_time()
        self._write(record(FRAME, self.run, payload, self._step, kind, shape, now - self._spent), payload)
        self._step, self._spent = self._step + 1, now

    def heartbeat(self) -> None:
        """Say that the solver is still at work; for inner loops in which a frame takes long. Costs next to nothing if called often."""
        now = time.monotonic()
        if now >= self._beaten + BEAT:
            self._beaten = now
            self._write(record(HEARTBEAT, self.run))

    def finish(self) -> None:
        """All frames are sent."""
        self._write(record(END, self.run))
        self._out.close()

    def fail(self, reason: str) -> None:
        """Give this run up, and say why."""
        text = reason.encode()[:4096]
        self._write(record(FAILURE, self.run, text), text)
        self._out.close()

    def _write(self, *parts: bytes | memoryview) -> None:
        for part in parts:
            left = memoryview(part)
            while left.nbytes:
                left = left[self._out.write(left) or 0 :]


def _bytes_of(frame: Any) -> memoryview:
    """A contiguous view of an array's memory. Tensors and the like go through NumPy, which whoever has one has."""
    try:
        view = memoryview(frame)
    except TypeError:
        import numpy

        view = numpy.ascontiguousarray(frame).data
    if view.c_contiguous:
        return view
    return memoryview(view.tobytes()).cast(view.format, view.shape)  # type: ignore[call-overload]


_sender: Sender | None = None


def _ours() -> Sender:
    global _sender
    if _sender is None:
        _sender = Sender()
    return _sender


def run() -> Run:
    """What this process is asked to compute."""
    return _ours().run


def parameters() -> dict[str, Any]:
    """The parameters of this run: numbers, or nested lists where they are fields."""
    return _ours().run.parameters


def send(frame: Any) -> None:
    """`Sender.send` of this process."""
    _ours().send(frame)


def heartbeat() -> None:
    """`Sender.heartbeat` of this process."""
    _ours().heartbeat()


def finish() -> None:
    """`Sender.finish` of this process."""
    _ours().finish()


def fail(reason: str) -> None:
    """`Sender.fail` of this process."""
    _ours().fail(reason)


def check_package(module: str, allow: Iterable[str], name: str) -> None:
    """ForeignCode unless a module is of slipstream or of an allowed package. The rule of `slipstream.pretrained`, which loads PyTorch."""
    packages = ("slipstream", *allow)
    if not any(f"{module}.".startswith(p + ".") for p in packages):
        raise ForeignCode(
            f"{name!r} lies in {module!r}, outside {', '.join(packages)}: importing it could run a stranger's code. "
            f"If you trust it, allow its package: --allow {module.partition('.')[0]} or allow=({module.partition('.')[0]!r},)."
        )


def find_solver(path: str, allow: Iterable[str] = ()) -> type:
    """The class at ``package.module:Class``.

    Raises
    ------
    ForeignCode : its package is neither slipstream nor in `allow`; nothing has been imported then.
    InputError : there is no such class.
    """
    allow = tuple(allow)
    module, _, name = path.partition(":")
    check_package(module, allow, path)
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"There is no class {path!r}: {error}. Expected package.module:Class.") from None
    if not inspect.isclass(found):
        raise InputError(f"{path!r} is not a class but {type(found).__name__}.")
    check_package(found.__module__, allow, path)
    return found


def main(words: Sequence[str] | None = None) -> int:
    """``python -m slipstream.client [--allow PACKAGE] package.module:Class``: one run of a solver that is a Python class."""
    parser = argparse.ArgumentParser(prog="python -m slipstream.client", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "solver", help="package.module:Class; Class(parameters, seed, steps) iterates over frames (channel, *space)"
    )
    parser.add_argument("--allow", action="append", default=[], metavar="PACKAGE", help="a package whose code may run")
    chosen = parser.parse_args(words)
    wire = _ours()
    try:
        solver = find_solver(chosen.solver, chosen.allow)
        for frame in islice(solver(wire.run.parameters, wire.run.seed, wire.run.steps), wire.run.steps):
            wire.send(frame)
    except BrokenPipeError:
        return 1  # the ensemble has gone, and nobody is left to tell
    except Exception as error:
        wire.fail(f"{type(error).__name__}: {error}")
        raise
    wire.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
