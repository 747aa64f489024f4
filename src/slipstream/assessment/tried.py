"""What was tried to make a stepper faster, and what came out: the table of `slipstream.accelerate`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipstream.errors import InputError, StoreError
from slipstream.pretrained import write_whole

if TYPE_CHECKING:
    from rich.table import Table

FORMAT = 1
COLUMNS = ("seconds", "speed", "extra error", "deviation", "prepared in", "size")


@dataclass(frozen=True)
class Row:
    """One combination: what became of it, its error, and what it costs.

    Attributes
    ----------
    status : as in `slipstream.compression.combine.Trial`; `why` is its message.
    error : extra rollout error. deviation : largest distance from the original's rollout, relative L2.
    seconds : of the timed job. preparation : seconds that the first job took longer (compiling, exporting), once a process.
    parameters, bytes : of the stepper. flops : of one call for one run, products and convolutions only.
    """

    name: str
    status: str
    why: str = ""
    error: float | None = None
    deviation: float | None = None
    seconds: float | None = None
    preparation: float | None = None
    parameters: int | None = None
    bytes: int | None = None
    flops: int | None = None


@dataclass(frozen=True)
class Acceleration:
    """What was tried, for which job, and what won. Prints as a table; `save` writes JSON."""

    stepper: str
    winner: str
    job: str
    batch: int
    threads: int
    max_error: float
    judged: str
    rows: tuple[Row, ...]
    machine: Mapping[str, float | int | str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def row(self, name: str) -> Row:
        """The row of a combination."""
        return next(r for r in self.rows if r.name == name)

    @property
    def speed_up(self) -> float:
        """Seconds of the original over seconds of the winner, from one race."""
        before, after = self.row("original").seconds, self.row(self.winner).seconds
        assert before is not None
        assert after is not None
        return before / after

    @property
    def sentence(self) -> str:
        """What came out, for which job."""
        from slipstream.assessment.table import duration, ratio

        on = f"{self.job}, {self.threads} thread{'s' * (self.threads > 1)}"
        if self.winner == "original":
            return f"{self.stepper}: nothing that was tried is faster than the original ({on})."
        won = self.row(self.winner)
        return (
            f"{self.stepper}: {self.winner} is {ratio(self.speed_up)} than the original ({on}: {duration(won.seconds)}), "
            f"extra rollout error {percent(won.error)} of at most {percent(self.max_error)}, "
            f"prepared in {duration(won.preparation)} once a process."
        )

    def shown(self) -> tuple[Row, ...]:
        """The rows of the table: the fastest first, then what was left out; what suits nothing, once."""
        timed = sorted((r for r in self.rows if r.seconds is not None), key=lambda r: r.seconds or 0.0)
        others = [r for r in self.rows if r.seconds is None and r.status != "unsuitable"]
        suited = {name for r in self.rows if r.status != "unsuitable" for name in r.name.split(" + ")}
        idle = {r.name.split(" + ")[-1]: r for r in self.rows if r.status == "unsuitable"}
        return (*timed, *others, *(r for name, r in idle.items() if name not in suited))

    def table(self) -> Table:
        """As a Rich table."""
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("")
        for name in COLUMNS:
            table.add_column(name, justify="right")
        table.add_column("")
        for r, cells, note in self.cells():
            style = "bold" if r.name == self.winner else "" if r.status == "kept" else "dim"
            table.add_row(*(Text(c, style=style) for c in (r.name, *cells, note)))
        return table

    def cells(self) -> list[tuple[Row, tuple[str, ...], str]]:
        """The table as text: the row, its figures in the order of `COLUMNS`, and what became of it where it did not get in."""
        from slipstream.assessment.table import figure

        base = self.row("original").seconds
        result: list[tuple[Row, tuple[str, ...], str]] = []
        for r in self.shown():
            gain = "–" if r.seconds is None or base is None else f"{base / r.seconds:.2f}×"
            size = "–" if r.bytes is None else f"{figure(r.bytes / 1e6)} MB"
            note = {"kept": "", "too far": "beyond the error"}.get(r.status, f"{r.status}: {r.why}")
            figures = (seconds_text(r.seconds), gain, percent(r.error), percent(r.deviation))
            result.append((r, (*figures, seconds_text(r.preparation), size), note))
        return result

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        return Group(Text(self.sentence, style="bold"), Text(self.judged, style="dim"), Text(""), self.table())

    def plain(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {"format": FORMAT, **asdict(self), "speed_up": self.speed_up, "sentence": self.sentence}

    def save(self, path: str | os.PathLike) -> Path:
        """Write ``.json``, whole or not at all."""
        from slipstream.assessment.evidence import dumps

        path = Path(path)
        if path.suffix != ".json":
            raise InputError(f"{path.name} ends in {path.suffix!r}; the table of an acceleration is saved as .json.")
        write_whole(path, dumps(self.plain()).encode())
        return path

    @classmethod
    def load(cls, path: str | os.PathLike) -> Acceleration:
        """Read what `save` wrote."""
        from slipstream.assessment.evidence import loads

        try:
            data = loads(Path(path).read_text(encoding="utf-8"))
            found = data.pop("format", None)
            if not isinstance(found, int) or found > FORMAT:
                raise StoreError(f"{path} has format {found!r}; this slipstream knows formats up to {FORMAT}.")
            names = {f.name for f in fields(Row)}
            rows = tuple(Row(**{k: v for k, v in row.items() if k in names}) for row in data.pop("rows"))
            return cls(rows=rows, **{f.name: data[f.name] for f in fields(cls) if f.name in data})
        except StoreError:
            raise
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise StoreError(f"{path} could not be read as the table of an acceleration: {error}.") from None


def percent(value: float | None) -> str:
    """A fraction on paper."""
    from slipstream.assessment.table import figure

    return "–" if value is None else f"{figure(100 * value)} %"


def seconds_text(value: float | None) -> str:
    """A time on paper."""
    from slipstream.assessment.table import duration

    return "–" if value is None else duration(value)
