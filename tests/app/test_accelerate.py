"""`slipstream accelerate`, and the section of that name in recipes."""

import json
from pathlib import Path

import pytest

import slipstream
from slipstream.app.house import slipstream_house

SECTION = ("verify: {runs: 2}", "accelerate: {max_error: 0.02, batch: 16}\nverify: {runs: 2}")
WORK = [
    "accelerate label-free on Swirl within 0.02, batch 16, threads 1, 4 x 20",
    "accelerate supervised on Swirl within 0.02, batch 16, threads 1, 4 x 20",
]


def journal():
    return Path("journal").read_text().splitlines()


def test_a_recipe_accelerates_what_it_trained_before_it_verifies(recipe, run):
    code, out, err = run("build", recipe(SECTION))
    assert (code, err) == (0, "")
    assert journal()[-3:] == [*WORK, "verify label-free against supervised on Swirl runs 2"]
    assert "table: label-free is twice as fast." in out
    folder = Path("runs/small/accelerated/label-free")
    assert {p.name for p in folder.iterdir()} == {"model.json", "model.safetensors", "acceleration.json"}
    assert json.loads((folder / "acceleration.json").read_text()) == {"sentence": "label-free is twice as fast."}


def test_what_was_accelerated_is_kept(recipe, run):
    path = recipe(SECTION)
    run("build", path)
    before = journal()
    code, out, _ = run("build", path)
    assert code == 0
    assert journal() == before
    assert "accelerate label-free: done before, kept\nlabel-free is twice as fast." in out


def test_another_tolerance_accelerates_again_and_trains_nothing(recipe, run):
    run("build", recipe(SECTION))
    count = len(journal())
    assert run("build", recipe(SECTION, ("max_error: 0.02", "max_error: 0.03")))[0] == 2
    assert run("build", recipe(SECTION, ("max_error: 0.02", "max_error: 0.03")), "--force")[0] == 0
    assert [line.split()[0] for line in journal()[count:]] == ["accelerate", "accelerate", "verify"]


def test_a_model_that_is_trained_again_is_accelerated_again(recipe, run):
    run("build", recipe(SECTION))
    count = len(journal())
    assert run("build", recipe(SECTION, ("train: {steps: 5}", "train: {steps: 6}")), "--force")[0] == 0
    done = [line for line in journal()[count:] if line.startswith("accelerate")]
    assert done == WORK[:1]


def test_after_ctrl_c_the_same_command_continues(recipe, run, monkeypatch):
    path = recipe(SECTION)
    monkeypatch.setenv("FAKE_STOP", WORK[1])
    assert run("build", path)[0] == 130
    monkeypatch.delenv("FAKE_STOP")
    assert run("build", path)[0] == 0
    assert [journal().count(w) for w in WORK] == [1, 2]


def test_the_run_is_verified_with_the_accelerated_models(recipe, run):
    run("build", recipe(SECTION))
    for name in ("label-free", "supervised"):  # were they read, this would be an error
        Path(f"runs/small/models/{name}/model.safetensors").write_bytes(b"")
    assert run("verify", "runs/small", "verify.runs=8")[0] == 0
    assert journal()[-1] == "verify label-free against supervised on Swirl runs 8"


def test_a_wrong_key_is_refused_before_any_work(recipe, run):
    code, _, err = run("build", recipe(SECTION, ("max_error", "max_eror")))
    assert code == 2
    assert "accelerate has no argument 'max_eror'. Did you mean 'max_error'?" in err
    code, _, err = run("build", recipe(("verify: {runs: 2}", "accelerate: {say: 3}")))
    assert code == 2
    assert "accelerate gets its 'say' from slipstream; leave it out" in err
    assert not Path("journal").exists()


def test_a_saved_model_is_accelerated_beside_it(recipe, run):
    run("build", recipe())
    folder = "runs/small/models/label-free"
    code, out, err = run("accelerate", folder, "--max-error", "0.05", "--threads", "2", "--runs", "8", "--steps", "5")
    assert (code, err) == (0, "")
    assert journal()[-1] == "accelerate label-free on None within 0.05, batch 1, threads 2, 8 x 5"
    assert "half: kept" in out
    assert out.splitlines()[-2:] == [
        f"model: {folder}-fast",
        f"next: slipstream verify {folder}-fast",
    ]
    assert (Path(f"{folder}-fast") / "acceleration.json").exists()


def test_data_and_folder_can_be_chosen(recipe, run):
    run("build", recipe())
    code, *_ = run("accelerate", "runs/small/models/label-free", "--data", "flow.zarr", "--out", "fast")
    assert code == 0
    assert "on flow.zarr within" in journal()[-1]
    assert Path("fast/model.json").exists()


def test_a_run_folder_says_where_its_models_are(recipe, run):
    run("build", recipe())
    code, _, err = run("accelerate", "runs/small")
    assert code == 2
    assert "no folder of a saved model" in err
    assert "runs/small/models" in err


def test_the_real_one_takes_what_the_command_line_gives():
    house = slipstream_house()
    assert house.accelerate is slipstream.accelerate
    assert house.given_to_accelerate == ("stepper", "data", "say")


@pytest.mark.parametrize("name", ["Bfloat16", "Compiled", "SpectralForm"])
def test_transforms_can_be_named_in_recipes(name):
    assert name in slipstream_house().rooms["compression"]
