"""Writes one page a study, from its script and its evidence file: no figure on it is typed."""

from __future__ import annotations

import ast
import json
import math
import shutil
from pathlib import Path
from typing import Any

from slipstream.app import studies
from slipstream.assessment.evidence import DIRTY, loads
from slipstream.errors import InputError

NOT_RUN = "This study **has not been run**: there is no evidence for or against its claims."


def number(value: Any) -> str:
    """As short as four digits allow; empty where there is none."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value).replace("|", "\\|")
    return f"{value:.4g}"


def table(heads: list[str], rows: list[list[str]]) -> list[str]:
    return [
        "| " + " | ".join(heads) + " |",
        "|" + " --- |" * len(heads),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
    ]


def grouped(rows: list[dict[str, Any]], columns: dict[str, str]) -> list[list[str]]:
    """Means over seeds with the spread, one line an arm and case; where an arm returned several rows, one line each."""
    cases = [case(row, columns) for row in rows]
    groups: dict[str, list[dict[str, Any]]] = {}
    seen: dict[str, int] = {}
    for row, given in zip(rows, cases, strict=True):
        call = json.dumps([row["arm"], given, row.get("seed")])
        seen[call] = seen.get(call, -1) + 1
        if columns.keys() & row.keys():
            groups.setdefault(json.dumps([row["arm"], given, seen[call]]), []).append(row)
    lines = []
    for key, members in groups.items():
        arm, given, _ = json.loads(key)
        others = [c for row, c in zip(rows, cases, strict=True) if row["arm"] == arm]
        telling = [f"{k} {number(v)}" for k, v in given.items() if any(c.get(k) != v for c in others)]
        label = " ".join([f"`{arm}`", ", ".join(telling)]).strip()
        lines.append([label, *(spread([m[c] for m in members if c in m]) for c in columns), str(len(members))])
    return lines


def case(row: dict[str, Any], columns: dict[str, str]) -> dict[str, Any]:
    """What an arm was given: what stands between its name and its seed. Without a seed it ran once, and all that is no figure tells."""
    keys = list(row)
    if "seed" in row:
        return {k: row[k] for k in keys[1 : keys.index("seed")]}
    return {k: row[k] for k in keys[1:] if k not in columns and isinstance(row[k], (int, str))}


def spread(values: list[Any]) -> str:
    if not values or not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        return number(values[0]) if values else ""
    mean = sum(values) / len(values)
    half = (max(values) - min(values)) / 2
    return number(mean) if half == 0 or not math.isfinite(half) else f"{number(mean)} ± {number(half)}"


def page(script: Path) -> str:
    """The Markdown of one study."""
    slug, folder = script.stem, script.parent
    text = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    title, _, body = text.partition("\n")
    lines = [f"# {title.rstrip('.') or slug}", "", f"**{studies.literal(script, 'QUESTION')}**", "", body.strip(), ""]
    result = folder / "results" / f"{slug}.json"
    remarks = folder / f"{slug}.md"
    if result.exists():
        lines += evidence(loads(result.read_text()), script)
    else:
        lines += [NOT_RUN, ""]
    lines += [f"Run it in a clone: `slipstream study {slug}` (a look at it: `--quick`).", ""]
    if remarks.exists():
        lines += ["## Remarks", "", remarks.read_text().strip(), ""]
    return "\n".join(lines)


def verdicts(found: dict[str, Any]) -> list[str]:
    """The claims, and whether they hold."""
    held = [c["holds"] for c in found["claims"]]
    claims = [
        [
            "holds" if c["holds"] else "**fails**",
            c["claim"].replace("|", "\\|"),
            c["kind"],
            number(c["measured"]),
            f"{c.get('comparison', '')} {number(c['bar'])}".strip(),
        ]
        for c in found["claims"]
    ]
    return [
        f"{sum(held)} of {len(held)} claims hold.",
        "",
        *table(["", "claim", "kind", "measured", "bar"], claims),
    ]


def measured(found: dict[str, Any]) -> list[str]:
    """On what, with what, and which code."""
    machine = ", ".join(f"{k} {v}" for k, v in found["machine"].items())
    versions = ", ".join(f"{k} {v}" for k, v in found["versions"].items())
    lines = [
        f"Seeds {', '.join(map(str, found['seeds']))}; {found['minutes']:g} minutes in all. Machine: {machine}. "
        f"Versions: {versions}. Commit: `{found['commit']}`.",
        "",
    ]
    if found["commit"].endswith(DIRTY):
        lines += [":::{warning}", "The code that was run is in no commit. Take this for a draft.", ":::", ""]
    return lines


def evidence(found: dict[str, Any], script: Path) -> list[str]:
    lines = verdicts(found)
    held = [c["holds"] for c in found["claims"]]
    if not all(held) and not script.with_suffix(".md").exists():
        lines += ["What failed is not explained yet.", ""]
    if (script.parent / "results" / f"{script.stem}.png").exists():
        lines += [f"![What was measured](images/{script.stem}.png)", ""]
    try:
        columns = studies.literal(script, "TABLE")
    except InputError:
        columns = {}
    rows = grouped(found["rows"], columns)
    if rows:
        lines += ["## Figures", "", "Means over seeds, with half the range.", ""]
        lines += table(["arm", *columns.values(), "runs"], rows)
    lines += ["## How it was measured", "", *measured(found)]
    return lines


def write(app) -> None:
    folder = Path(app.srcdir) / "methods"
    source = Path(app.srcdir).parent / "studies"
    scripts = studies.scripts(source) if source.is_dir() else {}
    (folder / "images").mkdir(parents=True, exist_ok=True)
    pages = {slug: page(script) for slug, script in scripts.items()}
    for slug in scripts:
        picture = source / "results" / f"{slug}.png"
        if picture.exists():
            shutil.copyfile(picture, folder / "images" / picture.name)
    lines = ["# Methods and their evidence", "", INTRODUCTION, ""]
    if pages:
        lines += table(
            ["study", "question", "what came out"],
            [[f"[{s}]({s}.md)", studies.literal(p, "QUESTION"), studies.state(p)] for s, p in scripts.items()],
        )
        lines += ["```{toctree}", ":hidden:", "", *scripts, "```", ""]
    else:
        lines += ["There are no studies yet.", ""]
    pages["index"] = "\n".join(lines)
    for old in folder.glob("*.md"):
        if old.stem not in pages:
            old.unlink()
    for name, text in pages.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


INTRODUCTION = """\
Every method has a study: one script that asks whether it does what it claims, against the obvious baseline at equal budget. Sentence and
bar of a claim are committed before the run. A *law* (an equivalence, an invariant, an order) must hold; an *effect* may fail, and then
this page says so. The pages below are written from the evidence files, so they cannot say anything else."""


def setup(app):
    app.connect("builder-inited", lambda app: write(app))
    return {"parallel_read_safe": True}
