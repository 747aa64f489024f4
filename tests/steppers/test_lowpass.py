"""LowPass: long waves pass untouched, short ones end, at every call."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.operators import UNet
from slipstream.problems import KolmogorovFlow
from slipstream.stepper import Stepper
from slipstream.steppers import Autoregressive, LowPass, rollout, wrap

PROBLEM = KolmogorovFlow(num_points=16, reynolds=30, interval=0.05, warm_up=0.5)


def still(grid):
    return wrap(lambda u: u, 0.1, grid=grid)


@pytest.mark.parametrize("shape", [(16,), (15,), (12, 16), (8, 6, 10)])
def test_keeping_all_changes_nothing_and_filtering_twice_is_filtering_once(shape):
    grid, u = Grid.box(shape), torch.randn(2, 1, 1, *shape, dtype=torch.float64)
    assert torch.allclose(LowPass(still(grid), 1.0)(u, {}), u)
    half = LowPass(still(grid), 0.5)
    once = half(u, {})
    assert torch.allclose(half(once, {}), once)
    assert not torch.allclose(once, u)


def test_waves_on_both_sides_of_the_limit():
    grid = Grid.box((12, 16))
    x, y = grid.coordinates(torch.float64)
    for keep, wave, stays in [
        (0.5, torch.cos(3 * x), True),
        (0.5, torch.cos(4 * x), False),
        (0.5, torch.sin(4 * y + 3 * x), True),
        (0.5, torch.sin(5 * y), False),
        ((1.0, 0.5), torch.cos(6 * x), True),
    ]:
        found = LowPass(still(grid), keep)(wave[None, None, None], {})
        assert torch.allclose(found, wave if stays else 0 * wave, atol=1e-12)


def test_what_was_filtered_does_not_feed_back():
    grid = Grid.box((16,))
    x = grid.coordinates(torch.float64)[0]
    doubling = wrap(lambda u: u + 0.5 * torch.cos(7 * x), 0.1, grid=grid)
    u = torch.cos(x)[None, None, None]
    assert torch.allclose(rollout(LowPass(doubling, 0.75), u, 5)[:, -1:], u)
    assert float((rollout(doubling, u, 5)[:, -1:] - u).abs().max()) > 2


def test_it_is_saved_whole(tmp_path):
    stepper = LowPass(Autoregressive(partial(UNet, hidden_channels=4, levels=1), PROBLEM), 0.5)
    stepper.save_pretrained(tmp_path / "model")
    again = Stepper.from_pretrained(tmp_path / "model")
    u = torch.randn(1, 1, 1, 16, 16)
    assert torch.equal(rollout(again, u, 3), rollout(stepper, u, 3))


def test_steppers_that_it_cannot_reach_are_refused():
    with pytest.raises(InputError, match="state of its own"):
        LowPass(PROBLEM.solver())
    with pytest.raises(InputError, match="periodic"):
        LowPass(still(None))
    with pytest.raises(InputError, match="shares"):
        LowPass(still(Grid.box((8, 8))), (0.5,))
