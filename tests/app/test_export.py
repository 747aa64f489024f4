"""`slipstream export`."""

import inspect
from pathlib import Path

from slipstream.app.house import slipstream_house


def test_a_saved_model_is_exported_beside_it(recipe, run):
    run("train", recipe())
    code, out, err = run("export", "runs/small/models/supervised")
    assert (code, err) == (0, "")
    assert Path("runs/small/models/supervised.pt2").read_text() == "graph"
    assert out.splitlines() == [
        "supervised is written.",
        "graph: runs/small/models/supervised.pt2",
        "its inputs: runs/small/models/supervised.json",
    ]


def test_file_batch_and_states_can_be_chosen(recipe, run):
    run("train", recipe())
    words = ("export", "runs/small/models/supervised", "--out", "a.onnx", "--batch", "4", "--data", "x.zarr")
    assert run(*words)[0] == 0
    assert Path("journal").read_text().splitlines()[-1] == "export supervised for 4 on x.zarr"
    assert Path("a.onnx").exists()


def test_a_run_folder_says_where_its_models_are(recipe, run):
    run("train", recipe())
    code, _, err = run("export", "runs/small")
    assert code == 2
    assert "its models are in runs/small/models" in err


def test_the_real_one_takes_what_the_command_line_gives():
    signature = inspect.signature(slipstream_house().export)
    assert list(signature.parameters) == ["stepper", "path", "data", "batch"]
