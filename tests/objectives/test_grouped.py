"""The L1 distance of groups of channels."""

from __future__ import annotations

import pytest
import torch

from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.objectives import GroupedL1

GRID = Grid.box((4, 6))
WALLED = Grid.box((4, 6), periodic=False, centred=False)


def fields(channels: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return tuple(torch.randn(2, 5, channels, 4, 6, generator=g, dtype=torch.float64) for _ in range(2))


@pytest.mark.parametrize("grid", [GRID, WALLED], ids=["periodic", "with ends"])
def test_it_is_the_weighted_mean_of_the_groups_relative_distances(grid):
    p, y = fields()
    w = grid.cell_weights(torch.float64)
    expected = torch.empty(2, 5, dtype=torch.float64)
    for b in range(2):
        for t in range(5):
            ratios = []
            for group in ([0], [1, 2]):
                wrong = sum(float((w * (p - y)[b, t, c].abs()).sum()) for c in group)
                ratios.append(wrong / sum(float((w * y[b, t, c].abs()).sum()) for c in group))
            expected[b, t] = (2 * ratios[0] + ratios[1]) / 3
    assert torch.allclose(GroupedL1([[0], [1, 2]], (2, 1))(p, y, grid), expected, rtol=1e-12)


def test_units_of_a_group_do_not_matter_and_those_within_one_do():
    p, y = fields()
    unit = torch.tensor([1e6, 1e-3, 1e-3]).double()[:, None, None]
    assert torch.allclose(GroupedL1([[0], [1, 2]])(p, y, GRID), GroupedL1([[0], [1, 2]])(unit * p, unit * y, GRID))
    assert not torch.allclose(GroupedL1([[0, 1, 2]])(p, y, GRID), GroupedL1([[0, 1, 2]])(unit * p, unit * y, GRID))


def test_channels_that_are_not_there_do_not_count():
    p, y = fields()
    there = GroupedL1([[0], [1]])(p[:, :, :2], y[:, :, :2], GRID)
    p[:, :, 2] = y[:, :, 2] = 0
    assert torch.allclose(GroupedL1()(p, y, GRID), there)
    p[:, :, 2] = 1e-3
    assert (GroupedL1()(p, y, GRID) > 1e3).all(), "but what is made out of nothing does"


def test_nothing_at_all_is_no_distance_and_has_a_gradient():
    p = torch.zeros(1, 2, 3, 4, 6, requires_grad=True)
    error = GroupedL1()(p, torch.zeros(1, 2, 3, 4, 6), GRID)
    assert not error.any()
    error.sum().backward()
    assert not p.grad.any()


def test_masked_points_do_not_count():
    p, y = fields()
    mask = torch.ones(2, 4, 6, dtype=torch.float64)
    mask[0, 1] = 0
    other = p.clone()
    other[0, :, :, 1] += 100
    assert torch.allclose(GroupedL1()(p, y, GRID, mask), GroupedL1()(other, y, GRID, mask))


def test_gradients_match_finite_differences():
    p, y = (u[:1, :1].requires_grad_() for u in fields())
    assert torch.autograd.gradcheck(lambda p: GroupedL1([[0], [2]])(p, y.detach(), GRID), p)


def test_groups_that_make_no_sense_are_refused():
    for groups in ([], [[]], [[0], [0, 1]], [[-1]]):
        with pytest.raises(InputError, match="groups of channels"):
            GroupedL1(groups)
    for weights in [(1.0,), (0.0, 0.0), (-1.0, 1.0)]:
        with pytest.raises(InputError, match="weight of 0 or more"):
            GroupedL1([[0], [1]], weights)
    p, y = fields()
    with pytest.raises(InputError, match="frames have 3 channels"):
        GroupedL1([[0], [3]])(p, y, GRID)
    with pytest.raises(InputError, match="frames have 3 channels"):
        GroupedL1(weights=(1.0, 1.0))(p, y, GRID)
