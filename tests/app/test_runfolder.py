import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from slipstream.app.runfolder import open_run, read_record
from slipstream.errors import InputError, StoreError

TREE = {"problem": {"reynolds": 100}, "train": {"steps": 5}, "verify": {"runs": 2}}
INPUTS = {"train": [TREE["problem"], TREE["train"]], "verify": TREE}


def finish(path, tree=TREE, inputs=INPUTS, force=False):
    """Do what is not done; the stages that had to be done."""
    did = []
    with open_run(path, tree, inputs, force) as run:
        for stage in inputs:
            if not run.done(stage):
                with run.stage(stage, inputs[stage], [f"{stage}.out"]):
                    (path / f"{stage}.out").touch()
                did.append(stage)
    return did


def test_a_finished_stage_is_kept(tmp_path):
    assert finish(tmp_path / "run") == ["train", "verify"]
    assert finish(tmp_path / "run") == []


def test_a_changed_recipe_shows_the_difference_and_is_refused(tmp_path):
    finish(tmp_path)
    tree = {**TREE, "verify": {"runs": 3}}
    inputs = {**INPUTS, "verify": tree}
    with pytest.raises(
        InputError, match=r"has changed since .*\n  verify.runs: 2 -> 3\n.*--force, which does verify again"
    ):
        finish(tmp_path, tree, inputs)
    assert finish(tmp_path) == []
    assert finish(tmp_path, tree, inputs, force=True) == ["verify"]
    assert finish(tmp_path, tree, inputs) == []


def test_force_deletes_what_other_inputs_made_before_the_stage_begins(tmp_path):
    finish(tmp_path)
    (tmp_path / "train.out").write_text("old")
    tree = {**TREE, "problem": {"reynolds": 200}}
    inputs = {"train": [tree["problem"], tree["train"]], "verify": tree}
    with open_run(tmp_path, tree, inputs, force=True) as run, run.stage("train", inputs["train"], ["train.out"]):
        assert not (tmp_path / "train.out").exists()
        (tmp_path / "train.out").touch()


def test_an_unfinished_stage_keeps_what_it_has(tmp_path):
    parts = tmp_path / "parts"

    def add_and_stop(expected):
        with open_run(tmp_path, TREE, INPUTS) as run, run.stage("train", INPUTS["train"], ["parts"]):
            parts.mkdir(exist_ok=True)
            assert sorted(os.listdir(parts)) == expected
            (parts / str(len(expected))).touch()
            raise KeyboardInterrupt

    for expected in ([], ["0"], ["0", "1"]):
        with pytest.raises(KeyboardInterrupt):
            add_and_stop(expected)
        assert not json.loads((tmp_path / "run.json").read_text())["stages"]["train"]["done"]


def test_a_stage_that_wrote_nothing_is_not_done(tmp_path):
    def write_nothing():
        with open_run(tmp_path, TREE, INPUTS) as run, run.stage("train", INPUTS["train"], ["train.out"]):
            pass

    with pytest.raises(StoreError, match=r"train ended without writing train.out"):
        write_nothing()
    assert finish(tmp_path) == ["train", "verify"]


def test_a_missing_result_of_a_finished_stage_is_noticed(tmp_path):
    finish(tmp_path)
    (tmp_path / "train.out").unlink()
    with pytest.raises(StoreError, match=r"is incomplete: train is recorded as done, but train.out is missing"):
        finish(tmp_path)
    assert finish(tmp_path, force=True) == ["train"]


def test_a_folder_of_other_files_is_never_touched(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    for force in (False, True):
        with pytest.raises(
            StoreError, match=r"holds files but no run.json: it is not a run folder, or a half-copied one"
        ):
            finish(tmp_path, force=force)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"format": 1, "rec', "could not be read"),
        ("[]", "is no record of a run"),
        ('{"format": 1, "recipe": {}}', "is no record of a run"),
        ('{"format": 2, "recipe": {}, "stages": {}}', "has format 2; this slipstream knows formats up to 1. Upgrade"),
    ],
)
def test_a_damaged_or_newer_record_is_refused_even_by_force(tmp_path, content, said):
    (tmp_path / "run.json").write_text(content)
    for force in (False, True):
        with pytest.raises(StoreError, match=said):
            finish(tmp_path, force=force)
    assert (tmp_path / "run.json").read_text() == content


def test_what_a_kill_leaves_before_the_first_record_is_no_obstacle(tmp_path):
    (tmp_path / ".run.json.1234").write_text('{"form')
    (tmp_path / ".lock").touch()
    assert finish(tmp_path) == ["train", "verify"]


def test_a_recipe_begun_by_a_version_with_other_stages_is_not_redone_silently(tmp_path):
    finish(tmp_path)
    other = {**INPUTS, "train": "other"}
    with pytest.raises(InputError, match="train: begun by another version of slipstream"):
        finish(tmp_path, TREE, other)
    assert finish(tmp_path, TREE, other, force=True) == ["train"]


HOLD = """
import sys
from pathlib import Path
from slipstream.app.runfolder import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_until_the_first_is_gone_even_killed(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdin=-1, stdout=-1, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match=rf"is in use by process {holder.pid} on .*choose another --out"):
            finish(tmp_path)
    finally:
        holder.kill()
        holder.communicate()
    assert finish(tmp_path) == ["train", "verify"]


DENIED = """
import os, sys
from pathlib import Path
import slipstream.pretrained
from slipstream.app.runfolder import open_run
from slipstream.errors import StoreError
if os.geteuid() == 0:
    os.setuid(65534)
for path in sys.argv[1:]:
    try:
        with open_run(Path(path), {}, {}):
            print("opened")
    except StoreError as error:
        print(error)
"""


def test_a_folder_without_permission_is_refused_clearly():
    with tempfile.TemporaryDirectory() as name:  # outside pytest's folders, which other users may not even enter
        closed, made = Path(name), Path(name) / "made"
        made.mkdir()
        made.chmod(0o555)
        closed.chmod(0o555)
        paths = [str(made), str(closed / "new")]
        result = subprocess.run([sys.executable, "-c", DENIED, *paths], capture_output=True, text=True)
        closed.chmod(0o755)
        made.chmod(0o755)
    assert result.stdout.splitlines() == [
        f"{paths[0]} is not writable: Permission denied. Choose another --out.",
        f"Could not make the folder {paths[1]}: Permission denied. Choose another --out.",
    ]


def test_a_path_through_a_file_is_refused_clearly(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"Could not make the folder .*file/run: Not a directory"):
        finish(tmp_path / "file" / "run")


def test_the_record_is_readable_by_others(tmp_path):
    finish(tmp_path)
    record = read_record(tmp_path)
    assert record["recipe"] == TREE
    assert all(stage["done"] for stage in record["stages"].values())
