"""Two processes under torchrun, each with an ensemble: they share the runs, and train as one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import live_team
import pytest
import torch
from live_training import FRAMES
from test_faults import assert_once


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("team")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [*torchrun, str(Path(live_team.__file__)), str(folder)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def of_both(folder):
    return [json.loads((folder / f"found-{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("which", ["seen", "again"])
def test_the_runs_are_shared_and_every_window_is_seen_by_one_process_once(folder, which):
    """Also where both were stopped after two steps and went on."""
    found = of_both(folder)
    for rank in (0, 1):
        assert {m % 2 for m, _ in found[rank][which]} == {rank}
    assert_once([tuple(w) for f in found for w in f[which]], live_team.RUNS)


def test_both_count_their_own_frames_take_as_many_steps_and_end_with_the_same_weights(folder):
    for found in of_both(folder):
        assert found["frames"] == [live_team.RUNS // 2 * FRAMES] * 2
        assert found["steps"] == [live_team.RUNS // 2 * (FRAMES - 1) // 5, 2]
    first, second = (torch.load(folder / f"weights-{r}.pt", weights_only=True) for r in (0, 1))
    assert all(torch.equal(first[k], second[k]) for k in first)
