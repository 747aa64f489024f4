"""One started solver program: its process, the stream of its frames, and its last words."""

from __future__ import annotations

import math
import os
import secrets
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from slipstream.client import FRAME, FRAMES, HEADER, MEMBER, TOKEN
from slipstream.data.live.engine import Member
from slipstream.data.live.protocol import Header, Parser, Record, Unreadable, question

TAIL = 2000
"""Bytes of what a program prints that are kept."""
AHEAD = 2
"""Frames that a pipe is made to hold: the program computes while the last frame waits to be read, and no further."""
GULP = 1 << 22
"""Bytes read from one program before the others have their turn."""


class Running:
    """A program at work on one attempt at one member. It is a process group of its own, which ends as a whole.

    Parameters
    ----------
    member, attempt : what it computes. shape : of its frames, (channel, *space), as far as known. largest : bytes a frame may have.
    command, cwd, environment : of the process. address : ``tcp:host:port`` if frames are to come that way; None for a pipe.
    now : when it is started, on the engine's clock.

    Raises
    ------
    OSError : the process cannot be started.
    """

    def __init__(
        self,
        member: Member,
        attempt: int,
        shape: tuple[int, ...] | None,
        largest: int,
        command: Sequence[str],
        cwd: Path | None,
        environment: Mapping[str, str],
        address: str | None,
        now: float,
    ) -> None:
        self.member, self.attempt, self.shape = member, attempt, shape
        self.heard = now
        self.step = 0
        self.behind = False
        self.parser = Parser(self._check, largest)
        self.token: str | None = secrets.token_hex(16)
        """What the first record of its connection must hold; good for one connection."""
        self.words: int | None = None
        self.ended: int | None = None
        self.frames: int | None = None
        """Where frames are read: None before a program has connected, and once its stream has ended."""
        told = {**os.environ, **environment, TOKEN: str(self.token)}
        ends: list[int] = []
        try:
            asked = _memory(question(member, attempt))
            ends.append(asked)
            words, spoken = os.pipe()
            ends.append(spoken)
            self.words = words
            if address is None:
                frames, sent = os.pipe()
                self.frames, self.token = frames, None
                ends.append(sent)
                _narrow(frames, shape)
                told[FRAMES] = f"/dev/fd/{sent}"
            else:
                told[FRAMES] = address
            told[MEMBER] = f"/dev/fd/{asked}"
            self.process = subprocess.Popen(
                command,
                cwd=cwd,
                env=told,
                stdin=asked,
                stdout=spoken,
                stderr=spoken,
                pass_fds=[fd for fd in ends if fd != spoken],
                start_new_session=True,
            )
        except OSError:
            self._release()
            raise
        finally:
            for fd in ends:
                os.close(fd)
        self.tail = b""
        for fd in self.descriptors():
            os.set_blocking(fd, False)
        # Readable when the process has ended; where there is no such thing, a waiting engine looks now and then.
        self.ended = os.pidfd_open(self.process.pid) if hasattr(os, "pidfd_open") else None

    def _check(self, header: Header) -> None:
        """Refuse what this program has not been asked for, before its payload is read."""
        if (header.member, header.attempt) != (self.member.number, self.attempt):
            if header.member == self.member.number and header.attempt < self.attempt:
                return  # late; read over it
            raise Unreadable(
                f"expected records of member {self.member.number}, attempt {self.attempt}; "
                f"got one of member {header.member}, attempt {header.attempt}"
            )
        if header.kind != FRAME:
            return
        if header.step != self.step or self.step >= self.member.steps:
            due = f"frame {self.step}" if self.step < self.member.steps else f"no more than {self.member.steps} frames"
            raise Unreadable(f"expected {due} (counted from 0); got frame {header.step}")
        if self.shape is not None and header.shape != self.shape:
            raise Unreadable(f"expected frames of shape {self.shape}; frame {header.step} has shape {header.shape}")

    def read(self, now: float) -> Iterator[Record]:
        """Records of this attempt that have arrived, up to a `GULP`; `behind` then tells whether more may have.

        Raises Unreadable after the last record that could be read.
        """
        budget, self.behind = GULP, False
        while self.frames is not None:
            if budget <= 0:
                self.behind = True
                return
            try:
                count = os.readv(self.frames, [self.parser.room()])
            except BlockingIOError:
                return
            except ConnectionError:
                count = 0
            if not count:
                self.hang_up()
                return
            self.heard, budget = now, budget - count
            record = self.parser.took(count)
            if record is None or record.header.attempt != self.attempt:
                continue
            if record.header.kind == FRAME:
                self.step += 1
                self.shape = record.header.shape
            yield record

    def listen(self, now: float) -> None:
        """Keep the end of what the program has printed; one that prints is alive."""
        budget = GULP
        while self.words is not None and budget > 0:
            try:
                said = os.read(self.words, 1 << 16)
            except BlockingIOError:
                return
            if not said:
                os.close(self.words)
                self.words = None
                return
            self.heard, budget = now, budget - len(said)
            self.tail = (self.tail + said)[-TAIL:]

    def last_words(self) -> str:
        """For the end of a sentence about how it ended."""
        said = self.tail.decode(errors="replace").strip()
        return f". It said last: {said}" if said else ""

    def farewell(self) -> str:
        """How its process ended."""
        code = self.process.returncode
        how = f"was killed by {_name(-code)}" if code < 0 else f"ended with exit status {code}"
        return (
            f"{how} in the middle of a record ({self.parser.pending} bytes of it came)" if self.parser.pending else how
        )

    def connect(self, connection: int) -> None:
        """Frames come on this descriptor, which belongs to this object from now on."""
        self.frames, self.token = connection, None

    def hang_up(self) -> None:
        """Read no more frames."""
        if self.frames is not None:
            os.close(self.frames)
            self.frames = None

    def descriptors(self) -> list[int]:
        """Readable when there is something to do."""
        return [fd for fd in (self.frames, self.words, self.ended) if fd is not None]

    def close(self) -> None:
        """Kill the process and all it has started, wait for it, and close its streams."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.listen(self.heard)
        self._release()
        if self.ended is not None:
            os.close(self.ended)
            self.ended = None

    def _release(self) -> None:
        for name in ("frames", "words"):
            fd = getattr(self, name, None)
            if fd is not None:
                os.close(fd)
                setattr(self, name, None)


def _memory(content: bytes) -> int:
    """A descriptor from which content can be read, any number of times, and which no disk knows."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("slipstream-member")
    else:
        with tempfile.TemporaryFile() as file:  # has no name, and is gone when closed
            fd = os.dup(file.fileno())
    left = memoryview(content)
    while left.nbytes:
        left = left[os.write(fd, left) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _narrow(pipe: int, shape: tuple[int, ...] | None) -> None:
    """Make a pipe hold about as much as a program may be ahead, where the system lets one choose."""
    import fcntl

    if shape is None or not hasattr(fcntl, "F_SETPIPE_SZ"):
        return
    record = HEADER.size + 4 * math.prod(shape)
    with suppress(OSError):  # above what an ordinary user may ask for; the default is 64 kB
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, max(4096, min(AHEAD * record, 1 << 20)))


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
