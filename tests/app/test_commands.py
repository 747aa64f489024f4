import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import fake_house
import pytest
import torch

ALL = [
    "simulate 0",
    "simulate 1",
    "train label-free on problem from 0",
    *(f"train label-free step {i}" for i in range(5)),
    "train supervised on frames of frames.zarr from 0",
    *(f"train supervised step {i}" for i in range(5)),
    "verify label-free against supervised on Swirl runs 2",
]


def journal():
    return Path("journal").read_text().splitlines() if Path("journal").exists() else []


def process(*words, **environment):
    """The command line in a process of its own, in the fake house."""
    code = (
        "import sys, fake_house; from slipstream.app.main import main; sys.exit(main(sys.argv[1:], fake_house.house))"
    )
    path = os.pathsep.join(filter(None, [str(Path(fake_house.__file__).parent), os.environ.get("PYTHONPATH")]))
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen([sys.executable, "-c", code, *words], env=env, stdout=-1, stderr=-1, text=True)


def test_build_does_every_stage_and_ends_with_the_report_and_the_next_command(recipe, run):
    code, out, err = run("build", recipe())
    assert (code, err) == (0, "")
    assert journal() == ALL
    assert "The classical solver wins." in out
    assert out.splitlines()[-2:] == [
        "report: runs/small/report.html",
        "next: slipstream verify runs/small verify.runs=16",
    ]
    made = {p.name for p in Path("runs/small").iterdir()}
    assert made == {".lock", "run.json", "frames.zarr", "training", "models", "report.html", "report.json"}


def test_build_again_does_nothing_and_says_the_same(recipe, run):
    path = recipe()
    _, first, _ = run("build", path)
    code, out, _ = run("build", path)
    assert code == 0
    assert journal() == ALL
    assert "train supervised: done before, kept" in out
    assert out.splitlines()[-3:] == first.splitlines()[-3:]


@pytest.mark.parametrize("moment", ["simulate 1", "train label-free step 3", "train supervised step 0", ALL[-1]])
def test_after_ctrl_c_the_same_command_continues(recipe, run, monkeypatch, moment):
    path = recipe()
    monkeypatch.setenv("FAKE_STOP", moment)
    code, _, err = run("build", path)
    assert (code, err) == (130, "\nStopped. The same command continues.\n")
    monkeypatch.delenv("FAKE_STOP")
    assert run("build", path)[0] == 0
    assert work_done_twice() == {moment}


def work_done_twice():
    """Pieces of work that appear twice: each stage may only repeat the piece in which it was stopped."""
    lines = [line for line in journal() if " from " not in line]
    return {line for line in lines if lines.count(line) > 1}


@pytest.mark.parametrize("moment", ["simulate 1", "train supervised step 2"])
def test_after_a_kill_the_same_command_continues(recipe, run, moment):
    path = recipe()
    killed = process("build", path, FAKE_DIE=moment)
    killed.communicate()
    assert killed.returncode == -9
    assert journal()[-1] == moment
    assert run("build", path)[0] == 0
    assert work_done_twice() == {moment}


def test_a_second_process_in_the_same_run_folder_is_refused(recipe, run):
    path = recipe()
    first = process("build", path, FAKE_WAIT="train label-free step 1")
    try:
        while "train label-free step 1" not in journal():
            assert first.poll() is None, first.stderr.read()
            time.sleep(0.02)
        code, _, err = run("build", path)
        assert code == 1
        assert f"error: runs/small is in use by process {first.pid} on" in err
    finally:
        first.kill()
        first.communicate()
    assert run("build", path)[0] == 0


def test_a_changed_recipe_is_refused_and_force_redoes_only_what_depends_on_it(recipe, run):
    path = recipe()
    run("build", path)
    code, _, err = run("build", path, "models.supervised.train.steps=6", "verify.runs=3")
    assert code == 2
    assert "models.supervised.train.steps: 5 -> 6" in err
    assert "verify.runs: 2 -> 3" in err
    assert "--force, which does train supervised, verify again" in err
    assert journal() == ALL
    code, out, _ = run("build", path, "models.supervised.train.steps=6", "verify.runs=3", "--force")
    assert code == 0
    assert "train label-free: done before, kept" in out
    assert journal()[len(ALL) :] == [
        ALL[8],
        *(f"train supervised step {i}" for i in range(6)),
        "verify label-free against supervised on Swirl runs 3",
    ]


def test_labels_follow_a_change_of_the_simulation_and_label_free_training_does_not(recipe, run):
    path = recipe()
    run("build", path)
    code, out, _ = run("build", path, "simulate.runs=3", "--force")
    assert code == 0
    assert "train label-free: done before, kept" in out
    assert "train supervised on frames of frames.zarr from 0" in journal()[len(ALL) :]


def test_the_weights_of_a_model_do_not_depend_on_the_models_before_it(recipe, run, house):
    run("build", recipe())
    alone = recipe(text=Path("small.yaml").read_text().replace("  label-free:", "  other:"), name="other.yaml")
    run("build", alone, "--out", "other")
    a, b = (house.load(f"{folder}/models/supervised") for folder in ("runs/small", "other"))
    assert torch.equal(a.net.weight, b.net.weight)
    assert not torch.equal(a.net.weight, house.load("runs/small/models/label-free").net.weight)


def test_everything_is_refused_before_any_work(recipe, run):
    good, bad = recipe(), recipe(("num_points: 16", "num_points: 7"), ("name: small", "name: odd"), name="odd.yaml")
    code, out, err = run("build", good, bad)
    assert (code, out) == (2, "")
    assert err == "error: odd.yaml:2: problem: Swirl expects an even num_points; got 7.\n"
    assert journal() == []
    assert not Path("runs").exists()


def test_labels_without_a_simulation_are_refused_before_any_work(recipe, run):
    code, _, err = run("build", recipe(("simulate: {runs: 2, steps: 3}\n", "")))
    assert code == 2
    assert "small.yaml:11: models.supervised: its objective needs 1 later frames as labels" in err
    assert journal() == []


def test_a_model_that_could_not_be_saved_is_refused_before_any_work(recipe, run):
    code, _, err = run(
        "build", recipe(("class: Jump, space: 2, operator: {class: Net, hidden_channels: 4}", "class: Careless"))
    )
    assert code == 2
    assert "small.yaml:9: models.label-free.stepper: Careless does not keep its argument 'bound'" in err
    assert journal() == []


def test_several_recipes_are_built_one_after_the_other(recipe, run):
    paths = recipe(), recipe(("name: small", "name: second"), name="second.yaml")
    code, out, _ = run("build", *paths, "models.label-free.train.steps=1")
    assert code == 0
    assert "report: runs/small/report.html" in out
    assert "report: runs/second/report.html" in out
    assert [line for line in journal() if "label-free step" in line] == ["train label-free step 0"] * 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("build", "small.yaml", "small.yaml"), "two recipes have the same name"),
        (("build", "small.yaml", "other.yaml", "--out", "x"), "--out is the folder of one run"),
        (("build", "a.b=1"), "expected a recipe; got only key=value"),
        (("build",), "slipstream build takes RECIPE ... [key=value ...]; got nothing"),
        (("build", "smal.yaml"), "There is no recipe smal.yaml. Did you mean 'small.yaml'?"),
        (("build", "small.yaml", "--froce"), "slipstream build has no option --froce. Did you mean '--force'?"),
        (("build", "small.yaml", "--out"), "argument --out: expected one argument"),
        (("simulate", "Swirl", "--runs", "many"), "argument --runs: invalid int value: 'many'"),
        (("bild", "small.yaml"), "There is no command 'bild'. Did you mean 'build'?"),
        (("list", "problem"), "There is no room or class 'problem'. Did you mean 'problems'?"),
        (("list", "swirll"), "Did you mean 'Swirl'?"),
        (("simulate", "Swrl"), "command line: problem.class: there is no class 'Swrl'. Did you mean 'Swirl'?"),
        (("simulate", "Swirl", "--runs", "2"), "command line: problem: Swirl needs num_points"),
        (
            ("simulate", "Decay"),
            "command line: simulate: Problem.simulate needs runs (whole number), steps (whole number)",
        ),
        (("simulate", "Jump"), "command line: problem.class: Jump is no Problem"),
        (
            ("verify", "small.yaml"),
            "is no folder of a run or a model. Recipes are verified by: slipstream build small.yaml",
        ),
    ],
)
def test_a_wrong_command_line_ends_with_one_message_and_code_2(recipe, run, words, said):
    recipe()
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert said in err
    assert "Traceback" not in err
    assert journal() == []


def test_the_traceback_is_shown_on_request(recipe, run):
    code, _, err = run("build", recipe(("num_points: 16", "num_points: 7")), "--traceback")
    assert code == 2
    assert "Traceback" in err
    assert "in __init__" in err


def test_a_failure_in_the_work_is_code_1_and_can_be_continued(recipe, run, monkeypatch):
    monkeypatch.setenv("FAKE_DIVERGE", "train supervised step 2")
    code, _, err = run("build", recipe())
    assert (code, err) == (1, "error: the loss left finite numbers at step 3.\n")
    monkeypatch.delenv("FAKE_DIVERGE")
    code, out, _ = run("build", "small.yaml")
    assert code == 0
    assert "train label-free: done before, kept" in out


def test_a_strangers_recipe_runs_nothing_unless_its_package_is_allowed(recipe, run):
    path = recipe(("{class: Residual}", "{class: fake_house.Residual}"))
    code, _, err = run("build", path)
    assert code == 2
    assert "lies outside slipstream" in err
    assert "--import fake_house" in err
    assert journal() == []
    assert run("build", path, "--import", "fake_house")[0] == 0


def test_train_and_simulate_are_the_first_stages_of_build(recipe, run):
    path = recipe()
    code, out, _ = run("simulate", path, "problem.reynolds=50")
    assert (code, journal()) == (0, ALL[:2])
    assert out.splitlines()[-1] == "next: slipstream build small.yaml problem.reynolds=50"
    code, out, _ = run("train", path, "problem.reynolds=50")
    assert (code, journal()) == (0, ALL[:-1])
    assert out.splitlines()[-1] == "next: slipstream build small.yaml problem.reynolds=50"
    assert run("build", path, "problem.reynolds=50")[0] == 0
    assert journal() == ALL


def test_a_problem_is_simulated_by_name_into_a_store(folder, run):
    code, out, _ = run(
        "simulate", "Decay", "problem.num_points=4", "--runs", "2", "--steps", "3", "--seed", "5", "--out", "x.zarr"
    )
    assert (code, journal()) == (0, ["simulate 0", "simulate 1"])
    assert Path("x.zarr/1").read_text() == "3 5"
    assert out.splitlines()[-1] == "store: x.zarr"


def test_a_recipe_is_simulated_into_a_store_of_its_own(recipe, run):
    assert run("simulate", recipe(), "--runs", "1", "--out", "y.zarr")[0] == 0
    assert sorted(os.listdir("y.zarr")) == ["0"]
    assert not Path("runs").exists()


def test_verify_measures_a_run_again_beside_the_report_of_build(recipe, run):
    run("build", recipe())
    before = Path("runs/small/report.json").read_text()
    code, out, _ = run("verify", "runs/small", "verify.runs=9", "problem.reynolds=300")
    assert code == 0
    assert journal()[-1] == "verify label-free against supervised on Swirl runs 9"
    assert out.splitlines() == ["The classical solver wins.", "report: runs/small/verify.html"]
    figures = json.loads(Path("runs/small/verify.json").read_text())
    assert "'reynolds': 300.0" in figures["arguments"]
    assert (
        figures["seconds"]
        == json.loads(Path("runs/small/run.json").read_text())["stages"]["train label-free"]["result"]["seconds"]
    )
    assert Path("runs/small/report.json").read_text() == before
    assert run("build", "small.yaml")[0] == 0


def test_verify_takes_one_model_and_the_recipe_that_poses_the_problem(recipe, run):
    run("build", recipe())
    code, out, _ = run("verify", "runs/small/models/supervised", "--recipe", "small.yaml", "--out", "s.html")
    assert code == 0
    assert journal()[-1] == "verify supervised on Swirl runs 2"
    assert out.splitlines()[-1] == "report: s.html"


def test_verify_takes_one_model_with_the_problem_that_it_carries(recipe, run):
    run("build", recipe(("reynolds: 100", "dtype: float64\n  forcing: {class: Forcing, amplitude: 2}")))
    code, _, err = run(
        "verify", "runs/small/models/supervised", "--import", "fake_house", "verify.runs=7", "problem.reynolds=150"
    )
    assert (code, err) == (0, "")
    assert journal()[-1] == "verify supervised on Swirl runs 7"
    arguments = json.loads(Path("runs/small/models/supervised/verify.json").read_text())["arguments"]
    for part in ("'reynolds': 150.0", "torch.float64", "Forcing(amplitude=2.0"):
        assert part in arguments


def test_verify_of_a_model_without_a_problem_asks_for_a_recipe(run, folder):
    fake_house.Plain(fake_house.Net).save_pretrained("plain")
    code, _, err = run("verify", "plain")
    assert (code, err) == (
        2,
        "error: The model in plain knows no problem; say what to verify it on: --recipe RECIPE.\n",
    )
    assert run("verify", ".")[::2] == (1, "error: . is no saved model: model.json is missing.\n")


def test_verify_of_a_run_without_a_trained_model_says_so(recipe, run):
    run("simulate", recipe())
    code, _, err = run("verify", "runs/small")
    assert code == 2
    assert "runs/small has no trained model yet" in err


def test_data_in_place_of_a_problem_give_one_report_for_each_test_set(recipe, run, folder):
    for name in ("train", "small", "large"):
        (folder / f"{name}.txt").write_text(name)
    text = """\
name: files
data: {class: Table, path: train.txt}
models:
  only:
    stepper: {class: Jump, operator: {class: Net}}
    objective: {class: Labels}
    train: {steps: 1}
test:
  small: {class: Table, path: small.txt}
  large: {class: Table, path: large.txt}
"""
    code, out, err = run("build", recipe(text=text))
    assert (code, err) == (0, "")
    assert journal() == [
        "train only on table train from 0",
        "train only step 0",
        "verify only on table small runs 4",
        "verify only on table large runs 4",
    ]
    assert out.splitlines()[-3:-1] == ["report: runs/files/report-small.html", "report: runs/files/report-large.html"]
    assert json.loads(Path("runs/files/models/only/model.json").read_text())["arguments"]["problem"]["arguments"] == {
        "source": "table train"
    }
    (folder / "train.txt").write_text("ü")
    code, _, err = run("build", "small.yaml", "--out", "other")
    assert (code, err) == (2, "error: small.yaml:2: data: the data have a letter that nobody can read.\n")


def test_list_has_one_line_a_class_from_its_docstring(run, folder):
    code, out, _ = run("list")
    assert code == 0
    lines = out.splitlines()
    assert lines[:3] == ["problems", "  Decay  Turbulence left alone.", "  Swirl  Turbulence in a box."]
    assert "operators" in lines
    code, out, _ = run("list", "objectives")
    assert out.splitlines() == [
        "objectives",
        "  Labels    Compares with labels.",
        "  Residual  What the equation leaves over.",
    ]


def test_list_of_a_class_tells_its_arguments(run, folder):
    code, out, _ = run("list", "Swirl")
    assert code == 0
    assert "It swirls." in out
    assert "  reynolds: number or list of (number) = 100.0" in out.splitlines()


def test_list_of_a_class_leaves_out_what_slipstream_fills_in(run, folder):
    assert run("list", "Jump")[1].splitlines()[-3:] == [
        "arguments in a recipe:",
        "  operator: {class: Operator, ...}",
        "  space: whole number = 1",
    ]
    assert run("list", "Net")[1].splitlines()[-2:] == ["arguments in a recipe:", "  hidden_channels: whole number = 8"]


def test_list_shows_every_class_of_a_name_or_the_one_of_a_room(run, folder, house, monkeypatch):
    rooms = {**house.rooms, "objectives.inner": {"Swirl": house.rooms["objectives"]["Labels"]}}
    monkeypatch.setattr(fake_house, "house", lambda: dataclasses.replace(house, rooms=rooms))
    both = run("list", "Swirl")[1]
    assert "It swirls." in both
    assert "Compares with labels." in both
    assert both == "\n".join(run("list", f"{room}.Swirl")[1] for room in ("problems", "inner"))


def test_a_lost_budget_stops_before_any_training_unless_told_otherwise(recipe, run, monkeypatch):
    monkeypatch.setenv("FAKE_LOST", "1")
    code, out, err = run("build", recipe())
    assert code == 2
    assert "ratio is at most 0.1" in out
    assert "--anyway" in err
    assert not Path("journal").exists()
    code, out, _ = run("build", recipe(), "--anyway")
    assert code == 0
    assert "ratio is at most 0.1" in out


def test_the_next_command_carries_what_this_one_was_allowed(recipe, run, monkeypatch):
    monkeypatch.setenv("FAKE_LOST", "1")
    path = recipe()
    _, out, _ = run("train", path, "--anyway", "--import", "fake_house", "--out", "here")
    following = out.splitlines()[-1].removeprefix("next: slipstream ").split()
    assert following == ["build", path, "--out", "here", "--anyway", "--import", "fake_house"]
    code, out, err = run(*following)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "next: slipstream verify here verify.runs=16 --import fake_house"


def test_a_model_that_is_trained_again_is_verified_again(recipe, run):
    """Put back by force where it was missing: the report must not speak of the one before."""
    path = recipe()
    run("build", path)
    shutil.rmtree("runs/small/models/supervised")
    code, _, err = run("build", path)
    assert code == 1
    assert "train supervised is recorded as done, but models/supervised is missing" in err
    code, out, _ = run("build", path, "--force")
    assert code == 0
    assert "train label-free: done before, kept" in out
    assert journal()[len(ALL) :] == ALL[8:]


def test_a_training_counts_what_was_spent_before_it_was_killed(recipe, run):
    path = recipe()
    process("build", path, FAKE_DIE="train label-free step 4").communicate()
    run("build", path)
    seconds = json.loads(Path("runs/small/report.json").read_text())["seconds"]
    assert 5 * 3600 <= seconds < 5 * 3600 + 60
