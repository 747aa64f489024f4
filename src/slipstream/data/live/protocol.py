"""The reading half of the wire protocol between solver programs and a live ensemble; `slipstream.client` is the writing half.

A stream is a sequence of records: a header of 96 bytes (`slipstream.client.HEADER`, little-endian) and a payload. What is in it is only
ever taken for numbers and text. A header is checked before room is made for its payload, and bytes land where they stay: a frame is
copied once, by the kernel.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from slipstream.client import CHECKSUM, DTYPES, END, FAILURE, FRAME, HEADER, HEARTBEAT, HELLO, MAGIC, VERSION
from slipstream.data.live.engine import Member
from slipstream.errors import InputError

LARGEST = 1 << 30
"""Bytes of a payload that nobody is allowed to exceed."""
WORDS = 4096
"""Bytes of a payload that is text."""
_TEXT = {FAILURE: WORDS, HELLO: WORDS, HEARTBEAT: 0, END: 0}
_NUMPY: dict[int, np.dtype] = {1: np.dtype("<f4"), 2: np.dtype("<f8")}


class Unreadable(InputError):
    """A stream that does not follow the protocol; it cannot be read any further."""


@dataclass(frozen=True)
class Header:
    """What a record says of itself. `shape` and `dtype` are those of a frame: (channel, *space)."""

    kind: int
    member: int
    attempt: int
    step: int
    dtype: int
    shape: tuple[int, ...]
    length: int
    seconds: float
    checksum: int


@dataclass(frozen=True)
class Record:
    """One whole record whose checksum holds."""

    header: Header
    payload: np.ndarray

    @property
    def frame(self) -> Tensor:
        """(channel, *space), in the dtype in which it was sent."""
        sent = _NUMPY[self.header.dtype]
        found = np.frombuffer(self.payload.data, sent).reshape(self.header.shape)
        return torch.from_numpy(found.astype(sent.newbyteorder("="), copy=False))

    @property
    def text(self) -> str:
        """Whatever bytes it holds, as text that can be printed."""
        return bytes(self.payload).decode(errors="replace")


def read_header(data: bytes | bytearray, largest: int = LARGEST) -> Header:
    """The header in 96 bytes. Unreadable, before anything is allocated, for one that no client can have meant."""
    magic, version, kind, member, attempt, step, dtype, axes, zero, checksum, seconds, length, *sizes = HEADER.unpack(
        data
    )
    if magic != MAGIC:
        raise Unreadable(f"expected a record, which begins with {MAGIC!r}; got {bytes(data[:16])!r}")
    if version != VERSION:
        raise Unreadable(f"the client speaks version {version} of the protocol; this slipstream knows {VERSION}")
    if zero or axes > len(sizes) or any(sizes[axes:]):
        raise Unreadable(f"a header is inconsistent: {axes} axes, shape {sizes}, reserved field {zero}")
    shape = tuple(sizes[:axes])
    if kind == FRAME:
        if dtype not in DTYPES or not axes:
            raise Unreadable(f"a frame has dtype {dtype} and {axes} axes; expected dtype 1 or 2 and 1 to {len(sizes)}")
        expected = math.prod(shape) * DTYPES[dtype][1]
        if length != expected or not expected:
            raise Unreadable(f"a frame of shape {shape} has {expected} bytes, but its header speaks of {length}")
        if not (math.isfinite(seconds) and seconds >= 0):
            raise Unreadable(f"a frame took {seconds} s")
    elif kind not in _TEXT:
        raise Unreadable(f"a record is of kind {kind}, which version {VERSION} does not have")
    limit = largest if kind == FRAME else _TEXT[kind]
    if length > limit:
        raise Unreadable(f"a record of kind {kind} has {length} bytes; at most {limit} are accepted")
    return Header(kind, member, attempt, step, dtype, shape, length, seconds, checksum)


class Parser:
    """Makes records of a stream that arrives in pieces of any size.

    Whoever has bytes puts them into `room` and says how many with `took`; there is never more room than the record at hand needs.

    Parameters
    ----------
    check : called with each header before room is made for its payload; raises `Unreadable` for what is not wanted.
    largest : bytes a frame may have.
    """

    def __init__(self, check: Callable[[Header], None] = lambda header: None, largest: int = LARGEST) -> None:
        self.check, self.largest = check, largest
        self._start: np.ndarray = np.zeros(HEADER.size, np.uint8)
        self._header: Header | None = None
        self._into = self._start
        self._filled = 0

    @property
    def pending(self) -> int:
        """Bytes of a record that is not whole yet."""
        return self._filled + (HEADER.size if self._header is not None else 0)

    def room(self) -> memoryview:
        """Where the next bytes go; never empty."""
        return self._into.data[self._filled :]

    def took(self, count: int) -> Record | None:
        """So many bytes have been put into `room`; the record that is whole with them.

        Raises
        ------
        Unreadable : the stream does not follow the protocol.
        """
        self._filled += count
        if self._filled < self._into.nbytes:
            return None
        if self._header is None:
            header = read_header(self._start.tobytes(), self.largest)
            self.check(header)
            self._header, self._filled = header, 0
            self._into = np.empty(header.length, np.uint8)
            if header.length:
                return None
        done = Record(self._header, self._into)
        blank = bytearray(self._start.tobytes())
        struct.pack_into("<I", blank, CHECKSUM, 0)
        if zlib.crc32(done.payload.data, zlib.crc32(blank)) != done.header.checksum:
            raise Unreadable(f"the checksum of a record of kind {done.header.kind} (step {done.header.step}) is wrong")
        self._header, self._into, self._filled = None, self._start, 0
        return done

    def feed(self, data: bytes | memoryview) -> Iterator[Record]:
        """The records that become whole with these bytes."""
        left = memoryview(data)
        while left.nbytes:
            room = self.room()
            count = min(room.nbytes, left.nbytes)
            room[:count] = left[:count]
            left = left[count:]
            found = self.took(count)
            if found is not None:
                yield found


def question(member: Member, attempt: int) -> bytes:
    """What a client is told: one JSON object, in one line."""
    told = {
        "member": member.number,
        "attempt": attempt,
        "seed": member.seed,
        "steps": member.steps,
        "parameters": {name: value.tolist() for name, value in member.parameters.items()},
    }
    return json.dumps(told, allow_nan=False).encode() + b"\n"
