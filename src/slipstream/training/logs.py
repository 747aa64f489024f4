"""Logs: the history of a training as CSV, on TensorBoard where it is installed, and on the screen."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from slipstream.errors import StoreError
from slipstream.pretrained import write_whole

Row = dict[str, int | float]


class Log:
    """Rows of named numbers, each with its step, kept in memory and, given a path, in a CSV file that any tool can read.

    Parameters
    ----------
    path : of the file; None keeps the rows in memory alone.
    after : rows beyond this step are cut: they tell of steps that were lost and will be done again.
    """

    def __init__(self, path: Path | None, after: int = 0) -> None:
        self.path = path
        self.rows = [row for row in ([] if path is None else _read(path)) if row["step"] <= after]
        self.columns = list(dict.fromkeys(name for row in self.rows for name in row))
        if path is not None:
            write_whole(path, self._text(self.rows, header=bool(self.columns)))

    def append(self, row: Row) -> None:
        """Add a row. One that brings a new name widens the whole table."""
        self.rows.append(row)
        new = [name for name in row if name not in self.columns]
        self.columns += new
        if self.path is None:
            return
        if new:
            write_whole(self.path, self._text(self.rows, header=True))
        else:
            with _writable(self.path), open(self.path, "ab") as file:
                file.write(self._text([row], header=False))

    def sync(self) -> None:
        """Wait until the file is on the disk; a checkpoint must not be older news than its log."""
        if self.path is not None:
            with _writable(self.path), open(self.path, "rb+") as file:
                os.fsync(file.fileno())

    def _text(self, rows: list[Row], header: bool) -> bytes:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if header:
            writer.writerow(self.columns)
        writer.writerows([row.get(name, "") for name in self.columns] for row in rows)
        return text.getvalue().encode()


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"Could not write {path}: {error.strerror or error}. "
            "The states saved before stay. Mend the disk, then make the same call again."
        ) from error


def _read(path: Path) -> list[Row]:
    try:
        text = path.read_text()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} could not be read ({error}). Move it away to go on.") from None
    whole = text[: text.rfind("\n") + 1]  # a killed process leaves half a line
    try:
        rows = [{k: float(v) for k, v in row.items() if v != ""} for row in csv.DictReader(io.StringIO(whole))]
        return [{**row, "step": int(row["step"])} for row in rows]
    except (KeyError, ValueError, TypeError, AttributeError, csv.Error) as error:
        raise StoreError(f"{path} is no log of a training ({error}). Move it away to go on.") from None


class Board:
    """The same rows on TensorBoard, in ``tensorboard/`` beside the log, if it is installed; nothing otherwise."""

    def __init__(self, folder: Path | None, after: int = 0) -> None:
        self.writer: Any = None
        if folder is not None and find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=after + 1)

    def append(self, row: Row) -> None:
        if self.writer is not None:
            for name, value in row.items():
                if name != "step":
                    self.writer.add_scalar(name, value, row["step"])

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


class Screen:
    """A bar with loss, rate and time left on a terminal; on anything else one plain line a twentieth of the way."""

    def __init__(self, show: bool) -> None:
        self.console: Any = None
        self.bar: Any = None
        self.printed = -1
        if not show:
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self.console = Console()
        if self.console.is_terminal:
            self.bar = Progress(
                TextColumn("training"), BarColumn(), TextColumn("{task.description}"), console=self.console
            )
            self.task = self.bar.add_task("", total=1.0)
            self.bar.start()

    def update(self, progress: float, step: int, seconds: float, rate: float, loss: float, more: str = "") -> None:
        """Show how far the training is, and what the source tells of itself."""
        text = line(progress, step, seconds, rate, loss) + (f"  {more}" if more else "")
        if self.bar is not None:
            self.bar.update(self.task, completed=progress, description=text)
        elif self.console is not None and int(progress * 20) > self.printed:
            self.printed = int(progress * 20)
            self.say(f"{progress:4.0%}  {text}")

    def say(self, text: str) -> None:
        """Print a sentence above the bar."""
        if self.console is not None:
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()


def line(progress: float, step: int, seconds: float, rate: float, loss: float) -> str:
    """``step 1200  loss 0.0123  rate 0.51  2:05 done, 5:55 left``."""
    left = duration(seconds * (1 - progress) / progress) if progress > 0 else "?"
    return f"step {step}  loss {loss:.4g}  rate {rate:.2g}  {duration(seconds)} done, {left} left"


def told(figures: Mapping[str, float]) -> str:
    """``produced a second 120  repetitions 4.1``."""
    return "  ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in figures.items())


def duration(seconds: float) -> str:
    """``m:ss`` or ``h:mm:ss``."""
    minutes, whole = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{whole:02d}" if hours else f"{minutes}:{whole:02d}"
