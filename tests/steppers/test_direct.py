"""Direct: from parameters and time straight to the frame."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from slipstream.errors import InputError
from slipstream.objectives import Own
from slipstream.operators import MLP
from slipstream.problems import HeatedPlate, Statistics
from slipstream.stepper import Stepper
from slipstream.steppers import Direct, rollout
from slipstream.trajectories import Window

PROBLEM = HeatedPlate(num_points=6, low=100, high=500)
SIZES = Statistics((300.0,), (50.0,), (1.0,))


class Linear(nn.Module):
    """Says the numbers it is given, each at points of its own."""

    def __init__(self, in_channels, out_channels, num_dims, num_scalars):
        super().__init__()
        assert (in_channels, out_channels, num_dims, num_scalars) == (6, 36, 0, 0)
        self.weight = nn.Parameter(torch.eye(6).repeat_interleave(6, 0))

    def forward(self, x):
        return x @ self.weight.T


@pytest.fixture
def stepper():
    return Direct(Linear, PROBLEM, steps=10, statistics=SIZES)


def test_the_network_sees_numbers_and_time_between_minus_one_and_one(stepper):
    _, parameters = PROBLEM.sample(3, 0)
    time = torch.tensor([0.0, 0.5, 1.0])
    frame = (stepper.at(time, parameters) - 300) / 50
    assert torch.allclose(frame[:, 0, 5, 0], torch.tensor([-1.0, 0.0, 1.0]), atol=1e-5)
    low = (parameters["initial"].log() - torch.tensor(100.0).log()) / torch.tensor(5.0).log()
    assert torch.allclose(frame[:, 0, 0, 0], 2 * low - 1, atol=1e-5)


def test_a_rollout_is_the_frames_at_its_times_whatever_was_before(stepper):
    frames, parameters = PROBLEM.sample(2, 0)
    new = rollout(stepper, frames, 10, parameters=parameters)
    for k in range(10):
        assert torch.equal(new[:, k], stepper.at(torch.full((2,), (k + 1) * PROBLEM.interval), parameters))
    assert torch.equal(rollout(stepper, 0 * frames, 10, parameters=parameters), new)
    known = torch.cat([frames, new[:, :3]], dim=1)
    assert torch.equal(rollout(stepper, known, 7, parameters=parameters), new[:, 3:])
    with pytest.raises(InputError, match="frame 11 was asked for"):
        rollout(stepper, frames, 11, parameters=parameters)


def test_its_loss_is_the_error_relative_to_the_spread_and_each_sample_has_its_score(stepper):
    _, parameters = PROBLEM.sample(4, 0)
    time = torch.tensor([0.1, 0.2, 0.5, 1.0])
    off = torch.tensor([0.0, 5.0, 10.0, 100.0])
    frames = (stepper.at(time, parameters).detach() + off[:, None, None, None])[:, None]
    window = Window(frames, PROBLEM.grid, PROBLEM.interval, {**parameters, "lead_time": time})
    loss = Own()(stepper, window, torch.Generator())
    assert torch.allclose(loss.scores, off / 50, atol=1e-5)
    assert float(loss.total.detach()) == pytest.approx(float((off / 50).square().mean()), rel=1e-5)
    assert loss.outputs.shape == frames.shape
    loss.total.backward()
    assert stepper.network.weight.grad.abs().max() > 0
    assert Own().frames_needed(stepper) == (0, 1)


def test_windows_that_do_not_fit_are_refused(stepper):
    frames, parameters = PROBLEM.sample(2, 0)
    with pytest.raises(InputError, match="windows of one frame with its time"):
        Own()(stepper, Window(frames, PROBLEM.grid, 0.1, parameters), torch.Generator())
    with pytest.raises(InputError, match="numbers and time"):
        Direct(Linear, PROBLEM, steps=0)


def test_it_is_saved_and_read_back(tmp_path):
    made = Direct(partial(MLP, hidden_channels=8), PROBLEM, steps=4)
    made.save_pretrained(tmp_path)
    again = Stepper.from_pretrained(tmp_path)
    frames, parameters = PROBLEM.sample(2, 0)
    assert torch.equal(
        rollout(again, frames, 4, parameters=parameters), rollout(made, frames, 4, parameters=parameters)
    )
