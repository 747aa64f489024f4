"""Tables of text, one line a point: CSV with a first line of names, or columns of numbers below lines that begin with % or #."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np

from slipstream.data.formats.contents import POINT, TIME, Array, Contents, check_size, damaged
from slipstream.errors import InputError

COLUMN = re.compile(r"\s*(?P<name>[^@(]+?)\s*(?:\((?P<unit>[^)]*)\))?\s*(?:@\s*(?P<at>.*?))?\s*")
AT_TIME = re.compile(r"t\s*=\s*([-+0-9.eE]+)")
SMALLEST = 2
"""Bytes that a number takes in a table at least: a digit and what parts it from the next."""


def read(path: Path, memory: int) -> Contents:
    """Columns by name; those of one name at several times (``u @ t=0.1``) become one array in time."""
    check_size(path, [("text", (path.stat().st_size // SMALLEST,), 8)], memory)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise damaged(path, "a table of text", error) from None
    if "\0" in text:
        raise damaged(path, "a table of text", "it holds zero bytes")
    header, body = _parted(text)
    if not body:
        raise InputError(f"{path} is a table without a line of numbers.")
    comma = next((c for c in (",", ";", "\t") if c in body[0]), None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            values = np.loadtxt(body, delimiter=comma, comments=None, ndmin=2)
    except (ValueError, UserWarning) as error:
        raise damaged(path, "a table of numbers", error) from None
    names = _names(header, values.shape[1])
    if names is None:
        return Contents(path.name, {f"column_{i + 1}": Array(values[:, i], (POINT,)) for i in range(values.shape[1])})
    return Contents(path.name, _gathered(path, names, values))


def _parted(text: str) -> tuple[str, list[str]]:
    """The line of names ("" where there is none) and the lines of numbers."""
    header = ""
    body: list[str] = []
    for line in text.splitlines():
        line = line.strip()
        if line.startswith(("%", "#", "//")):
            header = line.lstrip("%#/ ") if not body else header
        elif line and not body and not _is_number(re.split(r"[,;\s]+", line)[0]):
            header = line
        elif line:
            body.append(line)
    return header, body


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _names(header: str, columns: int) -> list[str] | None:
    """The names of the columns, if the line tells exactly as many."""
    for pattern in (r"[,;\t]", r"\s{2,}", r"\s+"):
        words = [w.strip().strip("\"'") for w in re.split(pattern, header.strip()) if w.strip()]
        if len(words) == columns:
            return words
    return None


def _gathered(path: Path, names: list[str], values: np.ndarray) -> dict[str, Array]:
    columns: dict[tuple[str, str], list[tuple[float | None, np.ndarray]]] = {}
    for i, word in enumerate(names):
        m = COLUMN.fullmatch(word)
        name, unit, at = (m["name"], m["unit"] or "", m["at"] or "") if m else (word, "", "")
        found = AT_TIME.fullmatch(at)
        columns.setdefault((name, "" if unit == "1" else unit), []).append(
            (float(found[1]) if found else None, values[:, i])
        )
    arrays: dict[str, Array] = {}
    times: list[float | None] | None = None
    for (name, unit), parts in columns.items():
        if len(parts) == 1:
            arrays[name] = Array(parts[0][1], (POINT,), unit)
            continue
        these = [t for t, _ in parts]
        if None in these or (times is not None and these != times):
            raise InputError(
                f"{path} has {len(parts)} columns called {name!r}; expected differing names, or one a time ({name} @ t=0.1)."
            )
        times = these
        arrays[name] = Array(np.stack([v for _, v in parts]), (TIME, POINT), unit)
    if times is not None:
        arrays[TIME] = Array(np.array(times, dtype=float), (TIME,))
    return arrays
