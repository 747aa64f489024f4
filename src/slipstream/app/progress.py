"""How far a list of jobs is: a bar on a terminal, one plain line a job elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from rich.console import Console


class Board:
    """Shows which of `count` jobs is at work and how long the others will take.

    Use it in a ``with``; `say` prints the lines where there is no terminal.
    """

    def __init__(self, count: int, say: Callable[[str], None]) -> None:
        self.count, self.say, self.done = count, say, 0
        self.bar: Any = None
        console = Console()
        if console.is_terminal and count:
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            columns = (
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left:"),
                TimeRemainingColumn(),
            )
            self.bar = Progress(*columns, TextColumn("{task.description}", markup=False), console=console)
            self.task = self.bar.add_task("", total=count)

    def __enter__(self) -> Board:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def begin(self, name: str) -> None:
        if self.bar is not None:
            self.bar.update(self.task, description=name)

    def end(self, line: str) -> None:
        """One job is over; `line` says how."""
        self.done += 1
        if self.bar is not None:
            self.bar.console.print(line, highlight=False, markup=False, soft_wrap=True)
            self.bar.advance(self.task)
        else:
            self.say(f"  {self.done}/{self.count}  {line}")
