"""Windows: pieces of stored trajectories in shuffled order, from memory or from a store larger than memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from slipstream.data.source import Source, check_layout
from slipstream.data.store import Store
from slipstream.errors import InputError, StoreError
from slipstream.trajectories import Trajectories, Window


@dataclass(frozen=True)
class _Part:
    """Windows that are read together: those of some runs whose first frames lie in [start, stop)."""

    runs: range
    start: int
    stop: int

    def __len__(self) -> int:
        return len(self.runs) * (self.stop - self.start)


class Windows(Source):
    """Endless batches of consecutive frames; an epoch shows every window once, in an order that `generator` alone decides.

    Trajectories are shuffled whole. A store is read part by part (whole chunks, some runs, some time): the parts are shuffled, as many as
    fit into `memory` are loaded, and the windows of all of these are shuffled among themselves. A store that fits is loaded once. A batch
    may hold the end of one epoch and the beginning of the next, so that all batches have one size.

    Parameters
    ----------
    data : trajectories in memory or a store; the runs taken from a store must be complete.
    length : frames in a window.
    batch : windows in a batch.
    stride : frames from one frame of a window to the next; the interval of the windows is `stride` times that of the data.
    runs : which runs, for example ``slice(0, 28)`` to train and ``slice(28, 32)`` to test.
    memory : bytes of frames of a store that may be loaded at a time.

    Raises
    ------
    InputError : windows longer than the data, more windows in a batch than there are, a NaN or infinity in the data (of a store: when it is
        met), a part that does not fit into `memory`.
    StoreError : incomplete runs, missing or damaged chunks.
    """

    def __init__(
        self,
        data: Trajectories | Store,
        length: int,
        batch: int,
        stride: int = 1,
        runs: slice = slice(None),
        memory: int = 512 * 2**20,
    ) -> None:
        if min(length, batch, stride) < 1:
            raise InputError(f"Windows need positive numbers; got length={length}, batch={batch}, stride={stride}.")
        self.data, self.length, self.batch, self.stride, self.runs, self.memory = (
            data,
            length,
            batch,
            stride,
            runs,
            memory,
        )
        self.reach = (length - 1) * stride + 1
        taken = range(data.runs)[runs]
        if data.steps < self.reach:
            raise InputError(
                f"Windows of {length} frames, {stride} apart, reach over {self.reach} frames; the data have {data.steps} a run. "
                f"Use length <= {(data.steps - 1) // stride + 1}."
            )
        if taken.step != 1 or not taken:
            raise InputError(f"Windows take neighbouring runs, at least one of {data.runs}; got {runs}.")
        if isinstance(data, Store):
            self._parts = self._parts_of(data, taken)
        else:
            self._parts = [_Part(taken, 0, data.steps - self.reach + 1)]
            check_finite(data[runs], taken.start, 0)
        self.num_windows = sum(len(p) for p in self._parts)
        """Windows in an epoch."""
        if batch > self.num_windows:
            raise InputError(
                f"A batch of {batch} windows was asked for, but there are {self.num_windows}; use a smaller batch."
            )
        self._seed, self._position = 0, self.num_windows  # the first `next` begins an epoch
        self._stock: _Stock | None = None

    def next(self, generator: torch.Generator) -> Window:
        pieces: list[Tensor] = []
        parameters: list[dict[str, Tensor]] = []
        while (missing := self.batch - len(parameters)) > 0:
            if self._position == self.num_windows:
                self._seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
                self._position = 0
            frames, of_these = self._take(missing)
            pieces.append(frames)
            parameters += of_these
        return Window(
            pieces[0] if len(pieces) == 1 else torch.cat(pieces),
            self.data.grid,
            self.data.interval * self.stride,
            {name: torch.stack([p[name] for p in parameters]) for name in parameters[0]},
            self.data.weights if isinstance(self.data, Trajectories) else None,
        )

    def _take(self, most: int) -> tuple[Tensor, list[dict[str, Tensor]]]:
        """The next windows, as many as the stock in memory still has; copies, so that nothing keeps that stock alive."""
        stock = self._stock_at(self._position)
        first = self._position - stock.first
        found = [stock.find(i) for i in stock.order[first : first + most].tolist()]
        self._position += len(found)
        frames = torch.stack([data.frames[run, start : start + self.reach : self.stride] for data, run, start in found])
        return frames, [{name: value[run] for name, value in data.parameters.items()} for data, run, _ in found]

    def state_dict(self) -> dict[str, Any]:
        return {"seed": self._seed, "position": self._position, "layout": self._layout()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        check_layout("Windows", state, self._layout())
        self._seed, self._position, self._stock = int(state["seed"]), int(state["position"]), None

    def _layout(self) -> dict[str, int]:
        return {
            "windows": self.num_windows,
            "length": self.length,
            "batch": self.batch,
            "stride": self.stride,
            "first run": self._parts[0].runs.start,
            "parts": len(self._parts),
            "memory": self.memory,
        }

    def _parts_of(self, store: Store, taken: range) -> list[_Part]:
        """Whole chunks, long enough in time that reading the frames over their ends at most doubles the work."""
        complete = store.complete
        if int(complete[taken.start : taken.stop].min()) < store.steps:
            raise StoreError(
                f"{store!r} is unfinished, and windows are taken from complete runs only. "
                f"Continue the simulation, or choose complete runs: runs=slice(first, stop)."
            )
        chunk_runs, chunk_steps = store.chunk
        rows = [range(i, i + chunk_runs) for i in range(0, store.runs, chunk_runs)]
        rows = [range(max(row.start, taken.start), min(row.stop, taken.stop)) for row in rows]
        starts = store.steps - self.reach + 1
        span = chunk_steps * -(-self.reach // chunk_steps)
        parts = [_Part(row, i, min(i + span, starts)) for i in range(0, starts, span) for row in rows if row]
        largest = max(self._bytes(part) for part in parts)
        if largest > self.memory:
            raise InputError(
                f"The smallest piece of {store.path} that can be read at once takes {largest} bytes, more than memory={self.memory}. "
                "Allow more memory or use shorter windows."
            )
        return parts

    def _bytes(self, part: _Part) -> int:
        if not isinstance(self.data, Store):
            return 0
        frame = len(self.data.channels) * self.data.grid.size * self.data.dtype.itemsize
        return len(part.runs) * (part.stop - part.start + self.reach - 1) * frame

    def _stock_at(self, position: int) -> _Stock:
        """The stock that holds the window at this position of the epoch, loaded."""
        if (
            self._stock is not None
            and self._stock.seed == self._seed
            and 0 <= position - self._stock.first < len(self._stock.order)
        ):
            return self._stock
        first, parts = self._members(position)
        count = sum(len(p) for p in parts)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(self._seed + 1 + first))
        loaded = {p: t for p, t in self._stock.loaded.items() if p in parts} if self._stock is not None else {}
        self._stock = None  # let go of the other parts before new ones come
        self._stock = _Stock(self._seed, first, order, {p: loaded[p] if p in loaded else self._load(p) for p in parts})
        return self._stock

    def _members(self, position: int) -> tuple[int, list[_Part]]:
        """Which parts are in memory at this position, and the position at which they came in."""
        first, size = 0, 0
        members: list[_Part] = []
        for i in torch.randperm(len(self._parts), generator=torch.Generator().manual_seed(self._seed)).tolist():
            part = self._parts[i]
            if members and size + self._bytes(part) > self.memory:
                count = sum(len(p) for p in members)
                if position < first + count:
                    break
                first, size, members = first + count, 0, []
            members.append(part)
            size += self._bytes(part)
        return first, members

    def _load(self, part: _Part) -> Trajectories:
        runs, times = slice(part.runs.start, part.runs.stop), slice(part.start, part.stop + self.reach - 1)
        if isinstance(self.data, Store):
            data = self.data.trajectories(runs, times)
            check_finite(data, part.runs.start, part.start)
            return data
        return self.data[runs, times]


@dataclass(frozen=True)
class _Stock:
    """Loaded parts and the order of their windows; `first` is the place of the first in the epoch begun with `seed`."""

    seed: int
    first: int
    order: Tensor
    loaded: dict[_Part, Trajectories]

    def find(self, window: int) -> tuple[Trajectories, int, int]:
        """Where a window lies: data, run and first frame therein."""
        for part, data in self.loaded.items():
            if window < len(part):
                return data, *divmod(window, part.stop - part.start)
            window -= len(part)
        raise IndexError(window)


def check_finite(data: Trajectories, first_run: int = 0, first_frame: int = 0) -> None:
    """Refuse frames and parameters that are not finite, and say where the first one is."""
    for name, values in data.parameters.items():
        bad = (~torch.isfinite(values)).flatten(1).any(1) if values.ndim > 1 else ~torch.isfinite(values)
        if bad.any():
            raise InputError(
                f"The parameter {name!r} of run {first_run + int(bad.nonzero()[0])} is not finite. Leave out that run, or mend it."
            )
    for i, run in enumerate(data.frames):
        if not torch.isfinite(run).all():
            frame, channel, *place = (~torch.isfinite(run)).nonzero()[0].tolist()
            raise InputError(
                f"The data hold {run[frame, channel, *place].item()} in run {first_run + i}, frame {first_frame + frame}, channel "
                f"{data.channels[channel].name!r}, at point {tuple(place)}. Leave out that run, or simulate it again with a smaller step."
            )
