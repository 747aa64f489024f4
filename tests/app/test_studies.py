import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from slipstream.app import harness, studies, worker
from slipstream.app.main import main
from slipstream.app.studies import Rows, Study
from slipstream.errors import InputError, SlipstreamError, StoreError

SCRIPT = '''"""A study of nothing."""
import os, sys, time
from pathlib import Path

import fakeroom
from _shared import OFFSET
from slipstream.app.studies import Study

QUESTION = "Is wide better than narrow?"
SEEDS = (0,)
TABLE = {"error": "error"}
FACTOR = 1.0
UNRELATED = 1.0

study = Study(QUESTION, SEEDS, budget={"steps": 4}, quick={"steps": 2}, table=TABLE)


def note(line):
    with open(os.environ["JOURNAL"], "a") as file:
        file.write(line + chr(10))
    while os.environ.get("WAIT") == line:
        time.sleep(0.02)


def error_of(width, seed):
    return FACTOR * fakeroom.scale() * (1 + 0.01 * seed) / width + OFFSET


@study.arm(cases=[{"width": 1}, {"width": 4}])
def net(seed, steps, width):
    note(f"net {width} {seed} {steps}")
    return {"error": error_of(width, seed), "threads": os.environ["OMP_NUM_THREADS"]}


@study.arm()
def law():
    note("law")
    from fakeroom import late
    return [{"gap": late.gap()}, {"gap": 0.0}]


@study.effect("Four times the width makes a quarter of the error.", at_most=0.3, quick=0.5)
def quarter(rows):
    return rows.mean("error", width=4) / rows.mean("error", width=1)


@study.law("There is no gap.", at_most=0.0)
def no_gap(rows):
    return max(rows.values("gap", arm="law"))


@study.picture
def picture(rows, figure):
    figure.subplots().plot(rows.values("width", arm="net"), rows.values("error", arm="net"), "o")
'''

ALL = ["net 1 0 4", "net 4 0 4", "law"]


@pytest.fixture(autouse=True, scope="module")
def no_bytecode():
    """Python knows a file's bytecode by size and whole second; these tests change a digit of a file within one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "dont_write_bytecode", True)
        patch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        yield


class Clone:
    """A repository with a package, a study and a history."""

    def __init__(self, root):
        self.root, self.package = root, root / "src" / "fakeroom"
        self.write("src/fakeroom/__init__.py", "from fakeroom.size import scale\n__all__ = ['scale']\n")
        self.write("src/fakeroom/size.py", "def scale():\n    return 1.0\n")
        self.write("src/fakeroom/late.py", "def gap():\n    return 0.0\n")
        self.write("src/fakeroom/unused.py", "x = 1\n")
        self.write("studies/_shared.py", "OFFSET = 0.0\n")
        self.write(".gitignore", "__pycache__/\nstudies/.cache/\n")
        self.script = self.write("studies/wide.py", SCRIPT)
        self.git("init", "-q")
        self.git("config", "status.showUntrackedFiles", "no")  # what somebody's settings hide is no less dirty
        self.commit()

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def replace(self, name, old, new):
        path = self.root / name
        text = path.read_text()
        assert text.count(old) == 1, old
        path.write_text(text.replace(old, new))

    def git(self, *words):
        who = ("-c", "user.name=n", "-c", "user.email=e@example.org")
        return subprocess.run(["git", *who, *words], cwd=self.root, check=True, capture_output=True, text=True).stdout

    def commit(self):
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "m")

    def run(self, **options):
        said = []
        outcome = harness.run(self.script, said.append, package=self.package, **{"threads": 1, **options})
        self.said = "\n".join(said)
        return outcome

    def done(self):
        """What was done since the last question."""
        path = self.root / ".git" / "journal"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def stale(self, threads=1, size="full"):
        """What a run would do, as its journal would have it."""
        _forget()
        _, study = worker.load(self.script)
        cache = harness.Cache(self.script, self.package, size == "quick", threads, study)
        jobs = [j for j in harness.plan(study, self.script, size) if cache.read(j) is None]
        return [
            f"net {j.arguments['width']} {j.arguments['seed']} {j.arguments['steps']}" if j.arm == "net" else "law"
            for j in jobs
        ]

    @property
    def result(self):
        return json.loads((self.root / "studies/results/wide.json").read_text())


@pytest.fixture
def clone(tmp_path, monkeypatch):
    yield from _clone(tmp_path, monkeypatch)


def _clone(folder, monkeypatch, run=False):
    made = Clone(folder / "clone")
    monkeypatch.setenv("JOURNAL", str(made.root / ".git" / "journal"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(made.package.parent), *filter(None, sys.path)]))
    monkeypatch.syspath_prepend(str(made.package.parent))
    _forget()
    if run:
        made.run()
        assert made.done() == ALL
    yield made
    _forget()


def test_a_study_ends_in_evidence_of_the_commit_that_was_run(clone):
    clone.replace("studies/wide.py", "SEEDS = (0,)", "SEEDS = (0, 1)")
    clone.commit()
    outcome = clone.run()
    assert clone.done() == ["net 1 0 4", "net 1 1 4", "net 4 0 4", "net 4 1 4", "law"]
    assert outcome.good
    assert outcome.path == clone.root / "studies/results/wide.json"
    found = clone.result
    assert set(found) == {"question", "machine", "versions", "commit", "minutes", "seeds", "rows", "claims"}
    assert found["question"] == "Is wide better than narrow?"
    assert clone.git("rev-parse", "HEAD").startswith(found["commit"])
    assert found["seeds"] == [0, 1]
    assert found["machine"]["torch threads"] == 1
    nets = [r for r in found["rows"] if r["arm"] == "net"]
    assert [(r["width"], r["seed"], r["steps"], r["error"], r["threads"]) for r in nets] == [
        (1, 0, 4, 1.0, "1"),
        (1, 1, 4, 1.01, "1"),
        (4, 0, 4, 0.25, "1"),
        (4, 1, 4, 0.2525, "1"),
    ]
    assert [r["gap"] for r in found["rows"] if r["arm"] == "law"] == [0.0, 0.0]
    effect, law = found["claims"]
    assert effect == {
        "claim": "Four times the width makes a quarter of the error.",
        "kind": "effect",
        "measured": pytest.approx(0.25),
        "bar": 0.3,
        "comparison": "at most",
        "holds": True,
    }
    assert (law["kind"], law["measured"], law["holds"]) == ("law", 0.0, True)
    assert (clone.root / "studies/results/wide.png").read_bytes().startswith(b"\x89PNG")
    first = outcome.path.read_bytes()
    assert clone.run().good
    assert clone.done() == []  # everything was kept,
    assert outcome.path.read_bytes() == first  # and says the same


def test_after_kill_9_the_same_command_continues_and_the_worker_dies_with_its_parent(clone, monkeypatch):
    code = (
        "import sys; from pathlib import Path; from slipstream.app import harness\n"
        f"harness.run(Path({str(clone.script)!r}), print, package=Path({str(clone.package)!r}), threads=1)"
    )
    with monkeypatch.context() as patch:
        patch.setenv("WAIT", "net 4 0 4")
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    journal = clone.root / ".git" / "journal"
    _wait_for(lambda: journal.exists() and "net 4 0 4" in journal.read_text(), process)
    workers = _children(process.pid)
    assert workers
    with pytest.raises(StoreError, match=f"The study wide is in use by process {process.pid}"):
        clone.run()
    process.send_signal(signal.SIGKILL)
    process.wait()
    _wait_for(lambda: not any(_alive(w) for w in workers))
    assert not (clone.root / "studies/results").exists()
    assert clone.done() == ALL[:2]
    assert clone.run().good
    assert clone.done() == ALL[1:]  # the one in which it was killed, and those after it


def _wait_for(true, process=None):
    while not true():
        assert process is None or process.poll() is None
        time.sleep(0.02)


def _children(pid):
    return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A clone whose study has been run; tests put back what they change."""
    with pytest.MonkeyPatch.context() as patch:
        yield from _clone(tmp_path_factory.mktemp("finished"), patch, run=True)


@pytest.mark.parametrize(
    ("name", "old", "new", "again"),
    [
        ("src/fakeroom/size.py", "1.0", "1.5", ALL),
        ("src/fakeroom/size.py", "def", "# a remark\ndef", []),
        ("src/fakeroom/late.py", "0.0", "-1.0", ["law"]),
        ("src/fakeroom/unused.py", "1", "2", []),
        ("src/fakeroom/__init__.py", "'scale'", "'scale', 'more'", []),
        ("studies/_shared.py", "0.0", "0.1", ALL),
        ("studies/wide.py", "/ width", "/ width**2", ALL[:2]),
        ("studies/wide.py", "FACTOR = 1.0", "FACTOR = 2.0", ALL[:2]),
        ("studies/wide.py", "UNRELATED = 1.0", "UNRELATED = 2.0", []),
        ("studies/wide.py", '{"gap": 0.0}', '{"gap": -1.0}', ["law"]),
        ("studies/wide.py", '{"width": 4}]', '{"width": 4}, {"width": 8}]', ["net 8 0 4"]),
        ("studies/wide.py", '"steps": 4', '"steps": 5', ["net 1 0 5", "net 4 0 5"]),
        ("studies/wide.py", "width=1)\n", "width=1) + 0\n", []),
        ("studies/wide.py", "SEEDS = (0,)", "SEEDS = (0, 1)", ["net 1 1 4", "net 4 1 4"]),
    ],
)  # fmt: skip
def test_what_the_code_no_longer_stands_for_is_done_again_and_nothing_else(finished, name, old, new, again):
    assert finished.stale() == []
    before = (finished.root / name).read_text()
    try:
        finished.replace(name, old, new)
        assert finished.stale() == again
    finally:
        (finished.root / name).write_text(before)


@pytest.mark.parametrize("change", [{"threads": 2}, {"size": "quick"}])
def test_other_threads_and_another_budget_are_other_jobs(finished, change):
    assert len(finished.stale(**change)) == 3


def test_rows_of_other_versions_or_machines_do_not_count(finished, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(harness.evidence, "these_versions", lambda: {"torch": "0.1"})
        assert finished.stale() == ALL
    with monkeypatch.context() as patch:
        patch.setattr(harness.evidence, "this_machine", lambda: {"processor": "abacus", "torch threads": 1})
        assert finished.stale() == ALL


def _forget():
    """The parent imports the script anew, as a new process would."""
    for name in [n for n in sys.modules if n.partition(".")[0] in ("fakeroom", "_shared", "study_wide")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("bar", "measured", "holds"),
    [
        ({"at_most": 0.3}, 0.3, True),
        ({"at_most": 0.3}, 0.31, False),
        ({"at_most": 0.3}, float("nan"), False),
        ({"at_least": 2}, 2, True),
        ({"at_least": 2}, 1.99, False),
        ({"at_least": 2}, float("nan"), False),
        ({"at_least": 2}, float("inf"), True),
        ({"at_least": 2}, torch.tensor(3.0), True),
    ],
)
def test_whether_a_claim_holds_is_computed(bar, measured, holds):
    study = Study("q")
    study.effect("s", **bar, quick=7)(lambda rows: measured)
    (claim,) = harness.judge(study.claims, Rows(), quick=False)
    assert claim.holds is holds
    assert claim.bar == next(iter(bar.values()))
    assert harness.judge(study.claims, Rows(), quick=True)[0].bar == 7


@pytest.mark.parametrize("kind", ["effect", "law"])
def test_an_effect_may_fail_and_a_law_may_not(clone, kind):
    clone.replace(
        "studies/wide.py", f"@study.{kind}(", f"@study.{kind}('It is -1.', at_most=-1)(lambda rows: 0)\n@study.{kind}("
    )
    clone.replace("studies/wide.py", f"@study.{kind}('It", f"study.{kind}('It")
    clone.commit()
    outcome = clone.run()
    assert outcome.good == (kind == "effect")
    assert [c["holds"] for c in clone.result["claims"]].count(False) == 1


@pytest.mark.parametrize(
    "name", ["src/fakeroom/unused.py", "studies/wide.py", "studies/_shared.py", "src/fakeroom/new.py"]
)
def test_code_that_is_in_no_commit_makes_no_evidence_unless_marked(clone, name):
    with open(clone.root / name, "a") as file:
        file.write("\n# changed\n")
    with pytest.raises(InputError, match=f"{name} differ from .*--dirty"):
        clone.run()
    assert clone.done() == []  # refused before any work
    if name == "src/fakeroom/new.py":
        assert clone.run(dirty=True).good
        assert clone.result["commit"].endswith("-dirty")


def test_other_changes_of_the_checkout_do_not_matter(clone):
    clone.write("README.md", "more")
    clone.run()
    assert not clone.result["commit"].endswith("-dirty")


def test_a_checkout_elsewhere_is_refused(clone, tmp_path):
    with pytest.raises(InputError, match="lies in several checkouts"):
        harness.run(clone.script, print, package=Path(harness.__file__).parents[1])
    outside = tmp_path / "outside.py"
    outside.write_text(SCRIPT)
    (tmp_path / "_shared.py").write_text("OFFSET = 0\n")
    with pytest.raises(InputError, match="in a clone of the repository"):
        harness.run(outside, print, package=clone.package)


def test_a_bar_set_when_the_rows_are_there_is_refused(clone):
    clone.replace("studies/wide.py", "at_most=0.3", "at_most=0.2")
    clone.commit()
    outcome = clone.run()
    assert not outcome.claims[0].holds
    clone.done()
    clone.replace("studies/wide.py", "at_most=0.2", "at_most=0.3")
    clone.commit()
    _forget()
    with pytest.raises(InputError, match=r"a quarter of the error.' \(at most 0.3\) was not in the script.*--fresh"):
        clone.run()
    assert not clone.result["claims"][0]["holds"]
    assert clone.run(dirty=True).claims[0].holds
    assert clone.result["commit"].endswith("-dirty")  # marked, although all code is committed
    clone.done()
    assert clone.run(fresh=True).claims[0].holds
    assert not clone.result["commit"].endswith("-dirty")
    assert clone.done() == ALL


def test_quick_asks_the_same_with_less_and_leaves_the_evidence_alone(clone):
    clone.replace("studies/wide.py", "SEEDS = (0,)", "SEEDS = (0, 1)")
    clone.commit()
    clone.run()
    clone.done()
    evidence = {p: p.read_bytes() for p in (clone.root / "studies/results").iterdir()}
    clone.replace("src/fakeroom/size.py", "1.0", "1.7")  # a look needs no commit
    outcome = clone.run(size="quick")
    assert clone.done() == ["net 1 0 2", "net 4 0 2", "law"]  # the small budget, the first seed, every arm
    assert outcome.path == clone.root / "studies/.cache/quick/wide.json"
    assert [c.bar for c in outcome.claims] == [0.5, 0.0]
    assert [c.claim for c in outcome.claims] == [c["claim"] for c in clone.result["claims"]]
    found = json.loads(outcome.path.read_text())
    assert found["commit"].endswith("-dirty")
    assert found["seeds"] == [0]
    assert {p: p.read_bytes() for p in (clone.root / "studies/results").iterdir()} == evidence


def test_some_arms_now_and_the_others_later(clone):
    assert clone.run(arms=["law"]).path is None
    assert clone.done() == ["law"]
    assert "2 jobs of other arms are missing" in clone.said
    with pytest.raises(InputError, match=r"There is no arm 'nett'. Did you mean 'net'"):
        clone.run(arms=["nett"])
    assert clone.run(arms=["net"]).path is not None
    assert clone.done() == ALL[:2]


def test_an_arm_that_fails_keeps_the_others_and_its_last_words(clone):
    clone.replace("studies/wide.py", 'note("law")', 'note("law"); 1 / 0')
    clone.commit()
    outcome = clone.run()
    assert outcome.failed == ("law()",)
    assert not outcome.good
    assert "failed: law(): ZeroDivisionError: division by zero" in clone.said
    assert not (clone.root / "studies/results").exists()
    clone.done()
    clone.run()
    assert clone.done() == ["law"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('return {"error"', 'return {"seed": 1, "error"', "which every row has already"),
        ('return {"error": error_of(width, seed)', 'return {"error": study', "plain numbers"),
        (
            'return {"error": error_of(width, seed), "threads": os.environ["OMP_NUM_THREADS"]}',
            "return 3.0",
            "expected a row",
        ),
    ],
)
def test_a_row_is_plain_values(clone, old, new, said):
    clone.replace("studies/wide.py", old, new)
    clone.commit()
    assert len(clone.run(arms=["net"]).failed) == 2
    assert said in clone.said


@pytest.mark.parametrize("name", ["size", "late"])
def test_code_that_changes_during_the_run_makes_no_evidence(clone, name):
    clone.replace(
        "studies/wide.py",
        "from fakeroom import late\n",
        f"from fakeroom import late; Path(fakeroom.__file__).with_name('{name}.py').write_text('scale = float; gap = float')\n",
    )
    clone.commit()
    with pytest.raises(SlipstreamError, match="Code was changed while the study ran"):
        clone.run()
    assert not (clone.root / "studies/results").exists()


def test_a_script_that_changes_during_the_run_makes_no_evidence(clone):
    clone.replace(
        "studies/wide.py",
        'note("law")',
        "note('law'); me = Path(__file__); me.write_text(me.read_text().replace('FACTOR = 1' + '.0', 'FACTOR = 2.0'))",
    )
    clone.commit()
    with pytest.raises(SlipstreamError, match="Code was changed while the study ran, and net"):
        clone.run(dirty=True)


def test_a_training_in_an_arm_goes_on_after_a_kill(clone, monkeypatch):
    clone.replace("studies/wide.py", "def law():", "def law(folder):")
    clone.replace(
        "studies/wide.py",
        'note("law")',
        'before = (folder / "x").exists(); (folder / "x").write_text("1"); note(f"law {before}")\n'
        "    if not before: os.kill(os.getpid(), 9)",
    )
    clone.commit()
    assert clone.run(arms=["law"]).failed == ("law()",)
    assert not clone.run(arms=["law"]).failed
    assert clone.done() == ["law False", "law True"]
    assert not list((clone.root / "studies/.cache/wide").glob("*.work"))


def test_long_spends_more_and_leaves_the_evidence_alone(clone):
    clone.run()
    with pytest.raises(InputError, match="has no longer version: it declares no long="):
        clone.run(size="long")
    clone.replace("studies/wide.py", 'quick={"steps": 2}', 'quick={"steps": 2}, long={"steps": 8}')
    clone.done()
    evidence = {p: p.read_bytes() for p in (clone.root / "studies/results").iterdir()}
    outcome = clone.run(size="long")  # a look needs no commit
    assert clone.done() == ["net 1 0 8", "net 4 0 8"]  # what needs no budget is kept
    assert outcome.path == clone.root / "studies/.cache/long/wide.json"
    assert [c.bar for c in outcome.claims] == [0.3, 0.0]
    assert evidence == {p: p.read_bytes() for p in (clone.root / "studies/results").iterdir()}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("def law():", "def law(stepz):", "nothing gives it 'stepz' Did you mean 'steps'"),
        ('{"width": 1}, {"width": 4}', '{"widht": 1}, {"width": 4}', "gives 'widht', which it does not take"),
        ('quick={"steps": 2}', 'quick={"step": 2}', "quick has 'step', which budget has not. Did you mean 'steps'"),
        ('quick={"steps": 2}', 'long={"step": 2}', "long has 'step', which budget has not. Did you mean 'steps'"),
        ("at_most=0.0", "at_most=0.0, at_least=0.0", "needs one bar"),
        ("@study.picture", "", "has no picture"),
        ('{"width": 4}]', '{"width": 4}, {"width": {1}}]', "is no plain value"),
        ('TABLE = {"error": "error"}', 'TABLE = {"eror": "error"}', "TABLE names 'eror', which no row has. Did you mean 'error'"),
        ("Study(QUESTION, ", 'Study(QUESTION + "!", ', "has another QUESTION than the literal"),
    ],
)  # fmt: skip
def test_a_wrong_declaration_is_refused(clone, old, new, said):
    clone.replace("studies/wide.py", old, new)
    clone.commit()
    with pytest.raises(InputError, match=said):
        clone.run()
    assert "TABLE" in said or clone.done() == []


def test_global_generators_start_from_the_seed_even_where_an_arm_imports_torch_itself(clone):
    clone.replace("studies/wide.py", "SEEDS = (0,)", "SEEDS = (0, 1)")
    clone.replace(
        "studies/wide.py",
        'return {"error": error_of(width, seed)',
        'import random\n    import torch\n    return {"error": float(torch.rand(())), "other": random.random()',
    )
    clone.replace("studies/wide.py", '[{"width": 1}, {"width": 4}]', '[{"width": 4}]')
    clone.commit()
    assert clone.run(arms=["net"]).failed == ()
    cache = clone.root / "studies" / ".cache" / "wide"
    rows = [json.loads(p.read_text())["rows"][0] for p in cache.glob("net-*.json")]
    expected = [float(torch.rand((), generator=torch.Generator().manual_seed(seed))) for seed in (0, 1)]
    assert {r["error"] for r in rows} == set(expected)
    assert len({r["other"] for r in rows}) == 2


def test_no_claim_rests_on_nothing():
    rows = Rows([{"arm": "a", "x": 1.0}, {"arm": "a", "x": 3.0}, {"arm": "b", "x": float("inf")}])
    assert rows.mean("x", arm="a") == 2.0
    assert rows.mean("x") == float("inf")
    with pytest.raises(InputError, match=r"No row has {'arm': 'c'}"):
        rows.mean("x", arm="c")
    with pytest.raises(InputError, match="have no 'y'"):
        rows.values("y")


def test_arms_need_names_of_their_own():
    study = Study("q")
    study.arm()(lambda: {})
    with pytest.raises(InputError, match="Two arms are called"):
        study.arm()(lambda: {})


def test_the_command_lists_studies_with_question_and_state(clone, monkeypatch, capsys):
    monkeypatch.chdir(clone.package)  # found from here upwards
    assert main(["study"]) == 0
    assert capsys.readouterr().out == "  wide  Is wide better than narrow?  [not run]\n"
    clone.run()
    assert main(["study"]) == 0
    assert "[2 of 2 claims hold, commit " in capsys.readouterr().out
    assert main(["study", "wied"]) == 2
    assert "There is no study 'wied'. Did you mean 'wide'?" in capsys.readouterr().err
    assert main(["study", "wide", "--quick"]) == 0
    out = capsys.readouterr().out
    assert "holds  There is no gap.  (0, at most 0)" in out
    assert out.endswith("next: slipstream study wide\n")
    assert main(["study", "wide", "--quick", "--long"]) == 2
    assert "give one of them" in capsys.readouterr().err
    assert main(["study", "wide", "--long"]) == 2
    assert "no longer version" in capsys.readouterr().err
    assert main(["study", "wide"]) == 2  # this package is from another checkout
    assert "several checkouts" in capsys.readouterr().err


def test_studies_are_those_of_the_checkout_where_there_are_none_around(clone, tmp_path):
    assert studies.find_folder(tmp_path, checkout=clone.root) == clone.root / "studies"
    with pytest.raises(InputError, match=r"There are no studies in .* clone it"):
        studies.find_folder(tmp_path, checkout=tmp_path / "site-packages")
