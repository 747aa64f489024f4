"""SimulatedWindows: the problem's own runs, made once and when they are wanted."""

from __future__ import annotations

import pytest
import torch

from slipstream.data import SimulatedWindows, Windows
from slipstream.errors import InputError
from slipstream.problems import KolmogorovFlow


class Counted(KolmogorovFlow):
    calls = 0

    def simulate(self, *arguments, **named):
        self.calls += 1
        return super().simulate(*arguments, **named)


def problem() -> Counted:
    return Counted(num_points=8, reynolds=5.0, interval=0.1, warm_up=0.1)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def test_its_windows_are_those_of_the_runs_and_are_simulated_once_and_late():
    posed = problem()
    source = SimulatedWindows(posed, 3, batch=2, runs=2, steps=5, seed=7)
    assert source.state_dict()["windows"] is None
    assert posed.calls == 0
    plain, one, two = Windows(problem().simulate(2, 5, 7), 3, 2), generator(), generator()
    for _ in range(4):
        assert torch.equal(source.next(one).frames, plain.next(two).frames)
    assert posed.calls == 1


def test_another_training_opens_the_frames_that_were_kept(tmp_path):
    one = SimulatedWindows(problem(), 3, 2, 2, 5, out=tmp_path / "frames.zarr")
    first = one.next(generator()).frames
    before = (tmp_path / "frames.zarr").stat().st_mtime_ns
    again = SimulatedWindows(problem(), 3, 2, 2, 5, out=tmp_path / "frames.zarr")
    assert torch.equal(again.next(generator()).frames, first)
    assert (tmp_path / "frames.zarr").stat().st_mtime_ns == before


@pytest.mark.parametrize("wrong", [{"length": 6}, {"batch": 7}, {"batch": 0}], ids=str)
def test_windows_that_there_are_not_are_refused_before_anything_is_simulated(wrong):
    with pytest.raises(InputError, match="windows that there are"):
        SimulatedWindows(problem(), **{"length": 3, "batch": 2, "runs": 2, "steps": 5, **wrong})
