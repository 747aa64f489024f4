"""Store: trajectories on disk, written while a simulation runs and continued wherever it was killed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from slipstream.channels import Channel, as_channels
from slipstream.data.dataset import Dataset
from slipstream.data.layout import Layout, chunk_of, differences, lay_out, read_array, read_record
from slipstream.data.writer import Writer
from slipstream.errors import InputError, StoreError
from slipstream.grids import Grid
from slipstream.trajectories import Parameters, Trajectories


class Store(Dataset):
    """Trajectories on disk, a Zarr v3 group: larger than memory, readable while they grow, safe against any death.

    Runs are simulated and written in blocks, because how many runs a solver carries at once can change the last bit of each.
    A block that was interrupted is done again, either from its beginning (always exact) or, if the solver keeps nothing but the frame
    and the store keeps all bits of it, from ``store.complete``::

        with Store.create("flow.zarr", grid=grid, ..., runs=32, steps=61, block=8) as store:
            for runs in store.missing():
                for i, frame in enumerate(simulate(runs)):
                    store.write(runs, i, frame[:, None])

    The same lines continue the same store. `xarray.open_zarr` reads it with named axes, coordinates, units and parameters; frames not
    written yet are NaN there.

    Attributes
    ----------
    path : of the folder.
    grid, channels, interval, start_time, about : as in `slipstream.Trajectories`.
    runs, steps : how many runs there will be, and frames a run.
    block : how many runs are simulated and written together.
    chunk : (runs, frames) in one file.
    dtype : of the frames; what is written is rounded to it.
    """

    def __init__(self, path: Path, layout: Layout, mode: str) -> None:
        self.path, self.layout, self.mode = path, layout, mode
        self.grid: Grid = layout.grid
        self.channels: tuple[Channel, ...] = layout.channels
        self.interval, self.start_time = layout.interval, layout.start_time
        self.runs, self.steps, self.block = layout.runs, layout.steps, layout.block
        self.chunk, self.dtype, self.about = layout.chunk, layout.dtype, dict(layout.about)
        self._arrays: dict[str, Any] = {}
        self._writer = Writer(path, layout) if mode == "a" else None

    @classmethod
    def create(
        cls,
        path: str | os.PathLike,
        *,
        grid: Grid,
        channels: Iterable[Channel | str],
        interval: float,
        runs: int,
        steps: int,
        parameters: Parameters | None = None,
        about: Mapping[str, Any] | None = None,
        dtype: torch.dtype = torch.float32,
        start_time: float = 0.0,
        block: int | None = None,
    ) -> Store:
        """A new store to write into; or, if one with exactly these arguments is there, that one, to continue it.

        Parameters
        ----------
        parameters : name -> tensor with one entry a run.
        about : provenance (seed, problem, versions), plain data. Whatever would make the numbers differ belongs here, because a
            continuation with another `about` is refused; the time of day does not.
        block : how many runs are simulated together; None means all.

        Raises
        ------
        StoreError : the folder cannot be made, holds something else, is being written by another process, or was made with other
            arguments (the message lists every difference).
        """
        path, parameters = Path(path), dict(parameters or {})
        channels, block = as_channels(channels), min(block or runs, runs)
        frame = len(channels) * grid.size * dtype.itemsize
        layout = Layout(
            grid=grid,
            channels=channels,
            interval=float(interval),
            start_time=float(start_time),
            runs=runs,
            steps=steps,
            block=block,
            dtype=dtype,
            parameters=tuple(parameters),
            about=about or {},
            chunk=chunk_of(block, steps, frame) if min(block, steps) > 0 else (0, 0),
        )
        if not _taken(path):
            lay_out(path, layout, parameters)
        store = cls.open(path, "a")
        try:
            lines = differences(store.layout, layout, store.parameters, parameters)
        except BaseException:
            store.close()
            raise
        if lines:
            store.close()
            raise StoreError(
                f"{path} was made with other arguments, so it cannot be continued with these:\n  "
                + "\n  ".join(lines)
                + "\nUse the arguments of the store, another path, or remove the store."
            )
        return store

    @classmethod
    def open(cls, path: str | os.PathLike, mode: str = "r") -> Store:
        """The store at `path`: ``"r"`` to read it, also while another process writes; ``"a"`` to go on writing.

        Raises
        ------
        StoreError : there is no store, it is damaged or of a newer format, or (to write) another process writes into it or it may not
            be written.
        """
        if mode not in ("r", "a"):
            raise InputError(f"A store is opened to read ('r') or to go on writing ('a'); got mode={mode!r}.")
        return cls(Path(path), Layout.read(Path(path)), mode)

    # ---- what is there -------------------------------------------------------------------------------------------------------------

    @property
    def complete(self) -> Int[Tensor, " run"]:
        """How many leading frames of each run are on disk. A writer waits here for the writes under way."""
        if self._writer is None:
            return torch.from_numpy(read_record(self.path, self.runs))
        self._writer.flush()
        return torch.from_numpy(self._writer.written.copy())

    def missing(self) -> list[slice]:
        """The blocks of runs that are still to be simulated, whole or in part."""
        complete = self.complete
        blocks = [slice(i, min(i + self.block, self.runs)) for i in range(0, self.runs, self.block)]
        return [b for b in blocks if int(complete[b].min()) < self.steps]

    @property
    def done(self) -> bool:
        """Whether every frame of every run is on disk."""
        return not self.missing()

    @cached_property
    def parameters(self) -> dict[str, Tensor]:
        """Name -> tensor with one entry a run, of all runs."""
        return self._read_parameters(slice(None))

    def __repr__(self) -> str:
        complete = self._writer.written if self._writer else read_record(self.path, self.runs)
        names = ", ".join(c.name for c in self.channels)
        return (
            f"Store({str(self.path)!r}: {int((complete == self.steps).sum())} of {self.runs} runs complete, "
            f"{self.steps} frames of {names} on {' x '.join(map(str, self.grid.shape))} points each)"
        )

    def trajectories(self, runs: slice = slice(None), times: slice = slice(None)) -> Trajectories:
        """Load some runs and times (all by default) into memory.

        Raises
        ------
        StoreError : some of these frames were not written yet (the message says what is complete), or a chunk is missing or damaged.
        """
        first, stop, stride = times.indices(self.steps)
        taken = range(self.runs)[runs]
        if stride < 1 or taken.step < 1:
            raise InputError(f"Runs and times are taken forwards; got {runs} and {times}.")
        last = max(range(first, stop, stride), default=-1)
        complete = self.complete
        short = next((r for r in taken if complete[r] <= last), None)
        if short is not None:
            raise StoreError(
                f"{self!r} is unfinished: run {short} has {int(complete[short])} frames, frame {last} was asked for. "
                f"Continue the simulation, or take what is there: runs and times below `store.complete`."
            )
        taken_runs = slice(taken.start, taken.stop, taken.step)
        index = self._index(taken_runs, slice(first, stop, stride))
        return Trajectories(
            torch.from_numpy(read_array(self.path / "frames", self._array("frames"), index)),
            self.grid,
            self.interval * stride,
            self.channels,
            self._read_parameters(taken_runs),
            start_time=self.start_time + first * self.interval,
            about=dict(self.about),
        )

    # ---- writing -------------------------------------------------------------------------------------------------------------------

    def write(self, runs: slice, start: int, frames: Float[Tensor, "run time channel *space"]) -> None:
        """Append frames `start`, `start` + 1, ... of one block of runs; any number of them, they are gathered into chunks.

        Returns as soon as the frames are copied; a thread brings full chunks to the disk. Should it fail, the next call of any method says
        so, nothing after the last complete chunk counts, and the block may be written again once the reason is gone.

        Parameters
        ----------
        runs : one of `missing`.
        start : where the last `write` of this block ended, `complete` after opening, or 0 to do the block over.
        frames : on any device; rounded to `dtype`.

        Raises
        ------
        StoreError : the disk is full or failed, or the store is open for reading only.
        InputError : not a block, or a gap between what is there and `start`.
        """
        if self._writer is None:
            raise StoreError(f"{self.path} is open for reading only: Store.open(path, mode='a') goes on writing.")
        self._writer.write(runs, start, frames)

    def flush(self) -> None:
        """Wait until every full chunk is on disk; raises what went wrong there."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Finish the writes under way and let others write. Frames of a chunk that is not full are forgotten; reading goes on."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- reading -------------------------------------------------------------------------------------------------------------------

    def _index(self, runs: slice, times: slice) -> tuple[slice, ...]:
        return (runs, times, *(slice(0, n) for n in self.layout.shape[2:]))

    def _array(self, name: str) -> Any:
        if name not in self._arrays:
            import zarr

            try:
                self._arrays[name] = zarr.open_array(self.path / name, mode="r", zarr_format=3)
            except (OSError, ValueError, KeyError) as error:
                raise StoreError(f"{self.path} is damaged: its array {name!r} cannot be opened: {error}.") from error
        return self._arrays[name]

    def _read_parameters(self, runs: slice) -> dict[str, Tensor]:
        result = {}
        for name in self.layout.parameters:
            array = self._array(name)
            index = (runs, *(slice(0, n) for n in array.shape[1:]))
            result[name] = torch.from_numpy(read_array(self.path / name, array, index))
        return result


def _taken(path: Path) -> bool:
    """Whether something is there already; an empty folder is nothing."""
    try:
        return not path.is_dir() or any(path.iterdir()) if path.exists() else False
    except OSError as error:
        raise StoreError(f"{path} cannot be looked into: {error.strerror or error}.") from error
