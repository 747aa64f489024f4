"""Writer: brings the frames of a running simulation to the disk, in the order that survives any death."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from slipstream.data.layout import RECORD, Layout, chunk_files, read_record, sync, write_chunk
from slipstream.errors import InputError, ShapeError, StoreError
from slipstream.lock import Lock
from slipstream.pretrained import write_whole

WRITES_AHEAD = 2  # chunks of a block that may wait for the disk while the simulation goes on


@dataclass
class _Filling:
    """The chunk of a block that is being filled: its first frame, how many frames it holds, and those."""

    start: int
    filled: int = 0
    frames: Tensor | None = None


class Writer:
    """The one writer of a store, from opening it until `close`.

    The caller's thread only copies frames into chunks. A second thread writes full chunks, waits until the disk has them, and then
    replaces the record of what is complete; what goes wrong there is raised by the caller's next call.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        self.path, self.layout = path, layout
        self.lock = Lock(path / RECORD / "writer", f"The store {path}", "open it to read: mode='r'")
        try:
            self.written = read_record(path, layout.runs)
            for left in (*(path / "frames").glob("*.partial"), *(path / RECORD).glob(".c.0.*")):
                left.unlink(missing_ok=True)  # of a writer that was killed
        except BaseException:
            self.lock.release()
            raise
        self._filling: dict[int, _Filling] = {}
        self._spare: list[Tensor] = []
        self._pending: deque[Future[None]] = deque()
        self._failed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="slipstream-store")

    def write(self, runs: slice, start: int, frames: Tensor) -> None:
        """See `Store.write`."""
        self._collect(wait=False)
        first, end = self._block(runs)
        count = frames.shape[1]
        expected = (end - first, count, *self.layout.shape[2:])
        if tuple(frames.shape) != expected:
            raise ShapeError(
                f"{self.path} expects frames (run, time, channel, *space) = {expected}; got {tuple(frames.shape)}."
            )
        steps = self.layout.steps
        filling = self._filling.get(first) or _Filling(int(self.written[first]))
        have = filling.start + filling.filled
        if start == 0 and 0 < have < steps:
            filling, have = self._do_over(first, end), 0
        if start != have or have + count > steps:
            go_on = "they are complete" if have == steps else f"go on with frame {have}, or do them over from frame 0"
            raise InputError(
                f"Runs {first}:{end} of {self.path} have {have} of {steps} frames; got frames {start}:{start + count}: {go_on}."
            )
        self._filling[first] = filling
        taken = 0
        while taken < count:
            size = min(self.layout.chunk[1], steps - filling.start)
            if filling.frames is None:
                filling.frames = self._blank()
            n = min(size - filling.filled, count - taken)
            filling.frames[: end - first, filling.filled : filling.filled + n] = frames[:, taken : taken + n].detach()
            filling.filled, taken = filling.filled + n, taken + n
            if filling.filled == size:
                chunk, begin = filling.frames, filling.start
                filling.start, filling.filled, filling.frames = begin + size, 0, None
                self._collect(wait=False, room=1)
                self._pending.append(self._thread.submit(self._put, slice(first, end), begin, begin + size, chunk))

    def flush(self) -> None:
        """Wait until every full chunk is on disk; raises what went wrong there."""
        self._collect(wait=True)

    def close(self) -> None:
        try:
            self.flush()
        finally:
            self._thread.shutdown()
            self.lock.release()

    def _block(self, runs: slice) -> tuple[int, int]:
        first, end, step = runs.indices(self.layout.runs)
        block = self.layout.block
        if step != 1 or first % block or end != min(first + block, self.layout.runs):
            raise InputError(
                f"Runs {first}:{end} are no block of {self.path}: it takes {block} at once, see missing()."
            )
        return first, end

    def _blank(self) -> Tensor:
        """Whole chunks for a block. Used again, because fresh memory costs more than what is written into it."""
        if self._spare:
            return self._spare.pop()
        return torch.empty(self.layout.block, self.layout.chunk[1], *self.layout.shape[2:], dtype=self.layout.dtype)

    def _do_over(self, first: int, end: int) -> _Filling:
        self.flush()
        if self.written[first]:
            self._record(slice(first, end), 0)
            sync(self.path / RECORD)  # before any frame changes: the record never speaks of frames half replaced
        return _Filling(0)

    def _put(self, runs: slice, start: int, stop: int, frames: Tensor) -> None:
        """In the thread: frames first, all the way to the disk, and only then the record that they are there."""
        if self._failed:
            return
        try:
            frames[runs.stop - runs.start :] = torch.nan  # where chunks reach over the last run or time
            frames[:, stop - start :] = torch.nan
            height, length = self.layout.chunk
            folder, space = self.path / "frames", self.layout.shape[2:]
            index = (runs, slice(start, stop), *(slice(0, n) for n in space))
            for i, file in enumerate(chunk_files(folder, (height, length, *space), index)):
                write_chunk(file, frames[i * height : (i + 1) * height].numpy())
            sync(folder)
            self._record(runs, stop)
            self._spare.append(frames)
        except BaseException as error:
            self._failed = True
            if not isinstance(error, OSError):
                raise
            complete, total = int(self.written.sum()), self.layout.runs * self.layout.steps
            raise StoreError(
                f"Could not write frames {start}:{stop} of runs {runs.start}:{runs.stop} into {self.path}: {error.strerror or error}. "
                f"What was complete stays readable ({complete} of {total} frames); free some space or mend the disk, then "
                "continue: the same command, or Store.open(path, 'a')."
            ) from error

    def _record(self, runs: slice, frames: int) -> None:
        written: np.ndarray = self.written.copy()
        written[runs] = frames
        write_whole(self.path / RECORD / "c.0", written.astype("<i8").tobytes())
        self.written = written

    def _collect(self, wait: bool, room: int = 0) -> None:
        """Take note of finished writes, of all of them if `wait`, and at least until there is `room` for more."""
        while self._pending and (wait or self._pending[0].done() or len(self._pending) + room > WRITES_AHEAD):
            try:
                self._pending.popleft().result()
            except BaseException:
                for later in self._pending:
                    later.exception()
                self._pending.clear()
                self._filling.clear()
                self._failed = False
                raise
