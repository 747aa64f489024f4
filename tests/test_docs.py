"""The documentation: pages of studies say what their files say, and names in the text exist."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

import slipstream as ss

ROOT = Path(__file__).parents[1]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), *(ROOT / "docs").glob("[!_m]*/*.md"), ROOT / "README.md"])

SCRIPT = '''"""Wide networks: do they help?

What the arms are.
"""

QUESTION = "Is wide better?"
TABLE = {"error": "relative error"}
'''

CLAIM = {"kind": "effect", "comparison": "at most", "bar": 0.5}
RESULT = {
    "question": "Is wide better?",
    "machine": {"processor": "abacus", "cores": 2},
    "versions": {"torch": "2.0"},
    "commit": "0123456789ab",
    "minutes": 1.5,
    "seeds": [0, 1],
    "rows": [
        {"arm": "net", "steps": 9, "width": w, "seed": s, "error": e, "arm_seconds": 1.0}
        for w, s, e in [(1, 0, 1.0), (1, 1, 1.5), (4, 0, 0.25), (4, 1, 0.25)]
    ]
    + [{"arm": "law", "points": n, "error": 0.0, "arm_seconds": 1.0} for n in (8, 16)]
    + [{"arm": "other", "gap": 0.0, "arm_seconds": 1.0}],
    "claims": [
        {"claim": "Wide halves it.", "measured": 0.2, "holds": True, **CLAIM},
        {"claim": "Wide is free.", "measured": "Infinity", "holds": False, **CLAIM},
    ],
}


def extension(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "_ext" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "studies" / "wide.py"
    (path.parent / "results").mkdir(parents=True)
    path.write_text(SCRIPT)
    return path


def test_a_study_without_results_says_so(script):
    text = extension("method_pages").page(script)
    assert text.startswith("# Wide networks: do they help?\n\n**Is wide better?**\n\nWhat the arms are.")
    assert "has not been run" in text
    assert "claims hold" not in text


def test_the_page_of_a_study_says_what_its_evidence_says(script):
    result = script.parent / "results" / "wide.json"
    result.write_text(json.dumps(RESULT))
    text = extension("method_pages").page(script)
    assert "has not been run" not in text
    assert "1 of 2 claims hold." in text
    assert "| holds | Wide halves it. | effect | 0.2 | at most 0.5 |" in text
    assert "| **fails** | Wide is free. | effect | inf | at most 0.5 |" in text
    assert "What failed is not explained yet." in text
    assert "| `net` width 1 | 1.25 ± 0.25 | 2 |" in text
    assert "| `net` width 4 | 0.25 | 2 |" in text
    assert "| `law` points 16 | 0 | 1 |" in text
    assert "`other`" not in text
    assert "Commit: `0123456789ab`" in text
    assert "draft" not in text
    (script.parent / "wide.md").write_text("It costs.")
    result.write_text(json.dumps({**RESULT, "commit": "0123456789ab-dirty"}))
    text = extension("method_pages").page(script)
    assert "not explained" not in text
    assert "It costs." in text
    assert "Take this for a draft." in text


def test_the_page_of_benchmarks_says_what_was_missed_and_why(script, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_ext"))
    section = extension("benchmark_pages").section
    assert "has not been run" in "\n".join(section(script))
    (script.parent / "results" / "wide.json").write_text(json.dumps(RESULT))
    script.with_suffix(".md").write_text("It costs.")
    text = "\n".join(section(script))
    assert text.startswith("## Wide networks: do they help?\n\n**Is wide better?**\n\n1 of 2 claims hold.")
    assert "| **fails** | Wide is free. | effect | inf | at most 0.5 |" in text
    assert text.index("It costs.") < text.index("Commit: `0123456789ab`")
    assert "![" not in text
    (script.parent / "results" / "wide.png").write_bytes(b"a picture")
    assert "![What was measured](images/benchmarks/wide.png)" in "\n".join(section(script))


@pytest.mark.parametrize("result", sorted(ROOT.glob("benchmarks/results/*.json")), ids=lambda p: p.stem)
def test_every_bar_that_a_benchmark_missed_is_explained(result):
    missed = [c["claim"] for c in json.loads(result.read_text())["claims"] if not c["holds"]]
    assert not missed or (result.parent.parent / f"{result.stem}.md").exists(), missed


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_names_in_the_text_exist(page):
    text = page.read_text()
    for path in set(re.findall(r"\bss\.([a-z_]+(?:\.[A-Za-z]\w*)?|[A-Z]\w*)", text)):
        found = ss
        for name in path.split("."):
            assert hasattr(found, name), f"{page.name} speaks of ss.{path}, which is not there"
            found = getattr(found, name)
    for command in set(re.findall(r"`slipstream ([a-z]+)\b", text)):
        from slipstream.app.help import COMMANDS

        assert command in COMMANDS


def test_docstrings_of_the_house_become_lists_of_parameters():
    convert = extension("house_docstrings").convert
    lines = [
        "Max|u| of (batch, *space).",
        "",
        "Parameters",
        "----------",
        "a, b : of `x*`, (*space).",
        "    More.",
        "",
        "Notes",
    ]
    assert convert(lines) == [
        "Max\\|u\\| of (batch, \\*space).",
        "",
        "Parameters",
        "----------",
        "a, b",
        "    of `x*`, (\\*space).",
        "    More.",
        "",
        "Notes",
    ]
    assert convert([".. math:: a * b", "", "``*args`` and *space"]) == [".. math:: a * b", "", "``*args`` and \\*space"]
