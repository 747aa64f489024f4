"""Trajectories: frames that know what they are."""

from __future__ import annotations

import pytest
import torch

from slipstream.channels import Channel, as_channels
from slipstream.errors import InputError, ShapeError
from slipstream.grids import Grid
from slipstream.trajectories import Trajectories


def made(runs: int = 3, steps: int = 5) -> Trajectories:
    frames = torch.arange(runs * steps * 8, dtype=torch.float32).reshape(runs, steps, 1, 8)
    return Trajectories(frames, Grid.box(8), 0.5, (Channel("u", "m"),), {"nu": torch.arange(runs) / 10.0})


def test_indexing_keeps_runs_times_and_parameters_together():
    data = made()
    part = data[1:, 1:4:2]
    assert torch.equal(part.frames, data.frames[1:, 1:4:2])
    assert part.times.tolist() == data.times[1:4:2].tolist()
    assert torch.equal(part.parameters["nu"], data.parameters["nu"][1:])
    assert data[:, -1].times.tolist() == [2.0]
    assert data[2].runs == 1


def test_frames_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match="single channel"):
        Trajectories(torch.zeros(2, 3, 8), Grid.box(8), 1.0, (Channel("u"),))
    with pytest.raises(ShapeError, match="2 channels"):
        Trajectories(torch.zeros(2, 3, 2, 8), Grid.box(8), 1.0, (Channel("u"),))
    with pytest.raises(ShapeError, match="'nu'"):
        Trajectories(torch.zeros(2, 3, 1, 8), Grid.box(8), 1.0, (Channel("u"),), {"nu": torch.zeros(3)})
    with pytest.raises(InputError, match="backwards"):
        made()[:, ::-1]
    with pytest.raises(InputError, match="differ"):
        as_channels(["u", "u"])


def test_xarray_view_has_names_units_and_times():
    array = made().to_xarray()
    assert array.dims == ("run", "time", "channel", "x")
    assert array.coords["time"].values.tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert float(array.sel(time=1.0, channel="u").isel(run=1, x=0)) == float(made().frames[1, 2, 0, 0])
