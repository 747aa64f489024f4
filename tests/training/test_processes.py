"""Several processes train as one would with all their data."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import team
import torch

from slipstream.training.checkpoint import Checkpoints


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where two processes under torchrun have left what they found."""
    folder = tmp_path_factory.mktemp("team")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    program = str(Path(team.__file__))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*torchrun, program, str(folder)], env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def of_both(folder, name):
    return [torch.load(folder / f"{name}-{rank}.pt", weights_only=True) for rank in (0, 1)]


def worst(a, b):
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def test_two_halves_of_a_batch_train_like_the_whole(folder):
    weights, losses = team.descend(slice(0, 8))
    first, second = of_both(folder, "half")
    assert worst(first["weights"], second["weights"]) == 0
    assert worst(first["weights"], weights) < 1e-6
    assert worst(weights, team.Branching().state_dict()) > 0.1, "the training did something"
    assert first["losses"] == pytest.approx(losses, rel=1e-6)


def test_a_weight_that_no_process_uses_is_left_alone(folder):
    first, _ = of_both(folder, "half")
    before = team.Branching().state_dict()
    assert torch.equal(first["weights"]["never.weight"], before["never.weight"])


def test_only_the_first_process_writes_and_it_writes_for_all(folder):
    assert sorted(p.name for p in (folder / "half").iterdir()) == ["lock", "log.csv", "state-0000000030.safetensors"]
    lines = (folder / "half" / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["step", "10", "20", "30"]
    state, _ = Checkpoints(folder / "whole").read()
    pools = [p["source"]["states"] for p in state["processes"]]
    assert len(pools) == 2
    assert not torch.equal(*pools), "every process has windows of its own"


def test_a_stop_on_one_process_stops_all_at_the_same_step(folder):
    results = [json.loads((folder / f"result-{rank}.json").read_text()) for rank in (0, 1)]
    assert [(r["stopped"], r["reason"]) for r in results] == [(13, "stopped on another process"), (13, "enough")]


def test_continuing_on_two_processes_gives_the_same_bits(folder):
    for found in of_both(folder, "pools"):
        assert worst(found["whole"], found["resumed"]) == 0
    first, second = of_both(folder, "pools")
    assert worst(first["whole"], second["whole"]) == 0


def test_an_update_that_forgets_to_average_is_found_out(folder):
    for rank in (0, 1):
        assert "no longer hold the same weights" in json.loads((folder / f"result-{rank}.json").read_text())["alone"]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_a_group_that_was_left_has_no_threads_that_could_abort_the_process(folder):
    for rank in (0, 1):
        before, after = json.loads((folder / f"result-{rank}.json").read_text())["threads"]
        assert before > 0
        assert after == 0
