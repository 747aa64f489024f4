"""Writes the page of benchmarks, from their scripts and evidence files: no figure on it is typed."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

from method_pages import measured, verdicts

from slipstream.assessment.evidence import loads

INTRODUCTION = """\
Speed against peers and against the machine's limit: ratios in one run, the arms by turns, the minimum of many repeats; that both
compute the same is checked first. `make bench` runs most of them. A bar that was missed is shown as missed, with what is known
about why."""


def section(script: Path) -> list[str]:
    """One benchmark: what it asks, what came out, what is to be said about it."""
    text = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    title = text.partition("\n")[0].rstrip(".")
    result, remarks = script.parent / "results" / f"{script.stem}.json", script.with_suffix(".md")
    lines = [f"## {title}", ""]
    if result.exists():
        found = loads(result.read_text())
        lines += [f"**{found['question']}**", "", *verdicts(found)]
    else:
        lines += ["It **has not been run** on this version.", ""]
    if result.with_suffix(".png").exists():
        lines += [f"![What was measured](images/benchmarks/{script.stem}.png)", ""]
    if remarks.exists():
        lines += [remarks.read_text().strip(), ""]
    if result.exists():
        lines += measured(found)
    return [*lines, f"Run it in a clone: `python benchmarks/{script.name}`.", ""]


def write(app) -> None:
    folder = Path(app.srcdir).parent / "benchmarks"
    scripts = sorted(folder.glob("[a-z]*.py")) if folder.is_dir() else []
    pictures = Path(app.srcdir) / "images" / "benchmarks"
    pictures.mkdir(parents=True, exist_ok=True)
    for script in scripts:
        picture = folder / "results" / f"{script.stem}.png"
        if picture.exists():
            shutil.copyfile(picture, pictures / picture.name)
    text = "\n".join(["# Benchmarks", "", INTRODUCTION, "", *(line for s in scripts for line in section(s))])
    path = Path(app.srcdir) / "benchmarks.md"
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def setup(app):
    app.connect("builder-inited", lambda app: write(app))
    return {"parallel_read_safe": True}
