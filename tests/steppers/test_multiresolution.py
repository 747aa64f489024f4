"""Multiresolution: the same stepper on other points, and over other times where it is told them."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from slipstream.data import Cycles, Multigrid, Windows
from slipstream.errors import InputError, ShapeError
from slipstream.grids import resample
from slipstream.objectives import Supervised, WithinWindow
from slipstream.operators import FNO, UNet
from slipstream.problems import KolmogorovFlow
from slipstream.steppers import Autoregressive, Multiresolution, rollout
from slipstream.training.loop import train

PROBLEM = KolmogorovFlow(num_points=16, reynolds=(4.0, 8.0), interval=0.05, warm_up=0.5)
UNET = partial(UNet, hidden_channels=4, levels=1)
FOURIER = partial(FNO, n_modes=(4, 4), hidden_channels=8, n_layers=2)


@pytest.fixture(scope="module")
def data():
    return PROBLEM.simulate(3, 12, seed=1)


@pytest.mark.parametrize("make", [UNET, FOURIER], ids=["unet", "fno"])
def test_on_its_own_grid_it_is_the_autoregressive_stepper(make, data):
    plain = Autoregressive(make, PROBLEM, history=2, horizon=2)
    anywhere = Multiresolution(make, PROBLEM, history=2, horizon=2)
    anywhere.load_state_dict(plain.state_dict())
    one, other = (rollout(m, data[:, :2], 4, guard=False).frames for m in (plain, anywhere))
    assert torch.equal(one, other)


def test_a_fourier_operator_steps_the_coarse_view_as_the_coarse_view_of_its_step(data):
    """Where no product makes new waves: lifting and activations left out, what is left is linear and commutes with truncation."""

    class Linear(torch.nn.Module):
        def __init__(self, in_channels, out_channels, num_dims, num_scalars):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(out_channels, in_channels))

        def forward(self, x: Tensor, scalars: Tensor) -> Tensor:
            return torch.einsum("oi,bi...->bo...", self.weight, x)

    stepper = Multiresolution(Linear, PROBLEM)
    coarse = PROBLEM.grid.with_points(8)
    u = data.frames[:, :1]
    seen = resample(u, PROBLEM.grid, coarse, "truncate")
    one = resample(stepper(u, data.parameters), PROBLEM.grid, coarse, "truncate")
    assert torch.allclose(stepper(seen, data.parameters), one, atol=1e-5)


def test_layout_and_channels_are_still_checked(data):
    stepper = Multiresolution(UNET, PROBLEM)
    stepper.start(torch.zeros(2, 1, 1, 8, 12), {})
    for wrong in (torch.zeros(2, 1, 2, 16, 16), torch.zeros(2, 1, 1, 16), torch.zeros(2, 1, 1, 16, 16, 16)):
        with pytest.raises(ShapeError, match="Multiresolution expects"):
            stepper.start(wrong, {})


def test_lead_times_condition_and_scale_the_change(data):
    """A network that always answers 1 changes its frame by the typical change over the lead time."""

    class One(torch.nn.Module):
        def __init__(self, in_channels, out_channels, num_dims, num_scalars):
            super().__init__()
            self.scalars = num_scalars

        def forward(self, x: Tensor, scalars: Tensor) -> Tensor:
            assert scalars.shape[1] == self.scalars
            self.seen = scalars[:, -1]
            return torch.ones(len(x), 2, *x.shape[2:])

    stepper, lead = Multiresolution(One, PROBLEM, horizon=2, longest=4), torch.tensor([1.0, 2.0, 4.0])
    change = stepper(data.frames[:, :1], {**data.parameters, "lead_time": 0.05 * lead}) - data.frames[:, :1]
    for i, times in enumerate((1, 2, 4)):
        for k in (1, 2):
            assert torch.allclose(change[i, k - 1], stepper.jump(times * k).expand(1, 16, 16), atol=1e-5)
    assert torch.allclose(stepper.network.seen, torch.tensor([-1.0, 0.0, 1.0]), atol=1e-6)
    assert stepper.lead_times == (0.05, 0.2)
    assert not hasattr(Multiresolution(UNET, PROBLEM), "lead_times")
    stepper(data.frames[:, :1], data.parameters)
    assert torch.equal(stepper.network.seen, torch.full((3,), -1.0)), "without a word about it: one interval"


@pytest.mark.parametrize("lead", [0.02, 0.25])
def test_lead_times_that_it_was_not_built_for_are_refused(data, lead):
    stepper = Multiresolution(FOURIER, PROBLEM, longest=4)
    with pytest.raises(InputError, match=r"from 0\.05 to 0\.2; got"):
        stepper(data.frames[:, :1], {**data.parameters, "lead_time": torch.full((3,), lead)})


def test_jumps_shorter_than_an_interval_are_refused():
    with pytest.raises(InputError, match="at least one interval"):
        Multiresolution(UNET, PROBLEM, longest=0.5)


@pytest.mark.parametrize("longest", [1, 4])
def test_it_is_saved_whole(longest, tmp_path, data):
    stepper = Multiresolution(FOURIER, PROBLEM, longest=longest)
    stepper.save_pretrained(tmp_path / "model")
    again = Multiresolution.from_pretrained(tmp_path / "model")
    assert again.longest == longest
    assert torch.equal(again(data.frames[:, :1], data.parameters), stepper(data.frames[:, :1], data.parameters))


@pytest.mark.parametrize("strides", [False, True])
def test_multigrid_training_goes_through_all_shapes(strides, data):
    small = partial(UNet, hidden_channels=2, levels=1)
    stepper = Multiresolution(small, PROBLEM, longest=4 if strides else 1)
    seen = set()

    class Watched(Supervised):
        def __call__(self, module, window, generator):
            seen.add(tuple(window.frames.shape[i] for i in (0, 1, 3)))
            return super().__call__(module, window, generator)

    source = Multigrid(Windows(data, 5, 1), cycles=Cycles(), multiple=4, strides=strides)
    done = train(stepper, source, WithinWindow(Watched(calls=4)), steps=18, show=False)
    assert done.steps == 18
    # Batch, frames and points: 11.3 points become 12, and four frames sought cost as much as one in four times the batch.
    assert seen == {(16, 2, 8), (7, 2, 12), (8, 3, 8), (4, 3, 12), (2, 3, 16), (4, 5, 8), (2, 5, 12), (1, 5, 16)}
