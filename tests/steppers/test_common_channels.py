"""Steppers for problems that share a list of channels."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from slipstream.errors import ShapeError
from slipstream.grids import Grid
from slipstream.operators import UNet
from slipstream.problems import Recorded, Statistics
from slipstream.steppers import CommonChannels, Multiresolution, rollout

GRID = Grid.box(8, num_dims=2)
POSED = Recorded(GRID, 0.5, ["a", "b", "c"], Statistics((0.0,) * 3, (1.0,) * 3, (1.0,) * 3))
UNET = partial(UNet, hidden_channels=4, levels=1)
PRESENT = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])


def made(kind, **more):
    torch.manual_seed(0)
    return kind(UNET, POSED, **more)


@pytest.mark.parametrize("more", [{}, {"history": 2, "horizon": 3, "longest": 4}])
def test_absent_channels_are_handed_on_to_the_bit_and_the_others_are_multiresolutions(more):
    one, other = made(CommonChannels, **more), made(Multiresolution, **more)
    past = torch.randn(2, one.history, 3, 8, 8)
    new, plain = one(past, {"present": PRESENT}), other(past, {})
    there = PRESENT.bool()[:, None, :, None, None].expand_as(new)
    assert torch.equal(new[there], plain[there])
    assert torch.equal(new[~there], past[:, -1:].expand_as(new)[~there])
    assert not torch.equal(plain[~there], new[~there])
    assert torch.equal(one(past, {}), plain), "without a word about it every channel is there"


def test_absent_channels_stay_through_a_rollout_and_have_no_gradient():
    stepper = made(CommonChannels)
    start = torch.randn(2, 1, 3, 8, 8)
    frames = rollout(stepper, start, 4, parameters={"present": PRESENT})
    assert torch.equal(frames[0, :, 1], start[0, :, 1].expand(4, 8, 8))
    assert torch.equal(frames[1, :, 0], start[1, :, 0].expand(4, 8, 8))
    new = stepper(start, {"present": PRESENT})
    grads = torch.autograd.grad(new[0, :, 1].sum(), stepper.parameters(), allow_unused=True)
    assert all(g is None or not g.any() for g in grads)


def test_a_list_of_another_length_is_refused():
    stepper = made(CommonChannels)
    with pytest.raises(ShapeError, match=r"\(2, 3\); got \(2, 2\)"):
        stepper(torch.randn(2, 1, 3, 8, 8), {"present": PRESENT[:, :2]})
