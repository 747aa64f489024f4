"""Reads the docstrings of the house: one line ``name : what it is`` a parameter, stars and bars that mean themselves."""

from __future__ import annotations

import re

SECTIONS = ("Parameters", "Attributes", "Raises", "Returns", "Yields", "Notes", "References")
LISTS = ("Parameters", "Attributes", "Raises")
ENTRY = re.compile(r"^(?P<name>\*{0,2}[A-Za-z_][\w.]*(?:, [A-Za-z_][\w.]*)*) : (?P<text>.+)$")
# Roles, literals and names in backticks stay as they are; between them, stars, bars and trailing underscores are plain characters.
KEPT = re.compile(r"(:[\w:]+:`[^`]*`|``.*?``|`[^`]*`)")


def plain(line: str) -> str:
    """Without characters that reStructuredText would take for markup."""
    parts = KEPT.split(line)
    parts[::2] = [re.sub(r"(?<!\\)([*|]|(?<=\w)_(?!\w))", r"\\\1", p) for p in parts[::2]]
    return "".join(parts)


def convert(lines: list[str]) -> list[str]:
    """One docstring, for napoleon: an entry's text goes below its name, indented."""
    result: list[str] = []
    section, verbatim = "", None
    for i, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if verbatim is not None and line.strip() and indent <= verbatim:
            verbatim = None
        if verbatim is not None:
            result.append(line)
            continue
        if line.strip().endswith("::"):  # a block of code or mathematics; its content is not text
            verbatim = indent
            result.append(line)
            continue
        if line.lstrip().startswith(".. math::"):
            verbatim = indent
            result.append(line)
            continue
        if i + 1 < len(lines) and set(lines[i + 1].strip()) == {"-"} and line.strip() in SECTIONS:
            section = line.strip()
        entry = ENTRY.match(line) if section in LISTS else None
        if entry is not None:
            result += [entry["name"], f"    {plain(entry['text'])}"]
        elif section in LISTS and indent:
            result.append(f"    {plain(line.strip())}")
        else:
            result.append(plain(line) if set(line.strip()) != {"-"} else line)
    return result


def setup(app):
    def process(app, what, name, obj, options, lines):
        lines[:] = convert(lines)

    app.connect("autodoc-process-docstring", process, priority=100)  # before napoleon
    return {"parallel_read_safe": True}
