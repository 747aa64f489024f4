"""Neighbour lists."""

from __future__ import annotations

import pytest
import torch

from slipstream.errors import InputError, ShapeError
from slipstream.operators.layers.neighbours import Neighbours, PairFeatures, find_neighbours, grid_neighbours

F64 = torch.float64


def edges(near: Neighbours) -> dict[tuple[int, int], tuple[float, ...]]:
    """Offset and weight of every edge, by its ends."""
    pairs = list(zip(near.receiver.tolist(), near.sender.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    values = torch.cat([near.offset * near.length, near.weight[:, None]], 1).tolist()
    return dict(zip(pairs, (tuple(v) for v in values), strict=True))


def assert_equal(a: Neighbours, b: Neighbours) -> None:
    a, b = edges(a), edges(b)
    assert a.keys() == b.keys()
    for pair, value in a.items():
        assert value == pytest.approx(b[pair], abs=1e-12)


def by_comparing_all(points: torch.Tensor, radius: float, box: list[float], with_self: bool):
    found = {}
    for i, p in enumerate(points.tolist()):
        for j, q in enumerate(points.tolist()):
            d = []
            for a, b, period in zip(p, q, box, strict=True):
                images = [b - a] if period == 0 else [b - a + k * period for k in range(-5, 6)]
                d.append(min(images, key=abs))
            if sum(v * v for v in d) <= radius**2 and (with_self or i != j):
                found[i, j] = d
    return found


@pytest.mark.parametrize("box", [[0.0, 0.0], [1.0, 0.0], [1.0, 2.0]])
@pytest.mark.parametrize("with_self", [False, True])
def test_the_search_finds_what_comparing_all_pairs_finds(box, with_self):
    points = 4 * torch.rand(60, 2, dtype=F64) - 1  # also outside the box
    near = edges(find_neighbours(points, radius=0.45, box=box, with_self=True))
    if not with_self:
        near = {k: v for k, v in near.items() if k[0] != k[1]}
    expected = by_comparing_all(points, 0.45, box, with_self)
    assert near.keys() == expected.keys()
    for pair, offset in expected.items():
        assert near[pair][:2] == pytest.approx(offset, abs=1e-12)


@pytest.mark.parametrize("with_self", [False, True])
def test_the_nearest_are_the_nearest(with_self):
    points = torch.rand(30, 3, dtype=F64)
    near = find_neighbours(points, nearest=4, with_self=with_self)
    distance = torch.cdist(points, points)
    if not with_self:
        distance.fill_diagonal_(9.0)
    expected = distance.argsort(1)[:, :4]
    for i in range(30):
        assert set(near.sender[near.receiver == i].tolist()) == set(expected[i].tolist())
    farthest = torch.stack([distance[i, expected[i]].max() for i in range(30)])
    assert near.length == pytest.approx(float(farthest.mean()))


def test_twins_at_one_place_are_neighbours_of_each_other_not_of_themselves():
    points = torch.tensor([[0.0], [0.0], [0.0], [1.0]], dtype=F64)
    near = find_neighbours(points, nearest=2)
    assert not (near.receiver == near.sender).any()
    assert {i: int((near.receiver == i).sum()) for i in range(4)} == dict.fromkeys(range(4), 2)


@pytest.mark.parametrize("shape", [(12,), (8, 9), (6, 5, 7)])
@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("taper", [True, False])
def test_a_grid_needs_no_search(shape, periodic, taper):
    spacing = [0.5, 0.4, 0.3][: len(shape)]
    axes = [h * torch.arange(n, dtype=F64) for n, h in zip(shape, spacing, strict=True)]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(shape))
    box = [n * h for n, h in zip(shape, spacing, strict=True)] if periodic else None
    for with_self in (True, False):
        made = grid_neighbours(shape, spacing, 0.8, [periodic] * len(shape), points, with_self, taper)
        assert_equal(made, find_neighbours(points, 0.8, box=box, with_self=with_self, taper=taper))


def test_shares_sum_to_one_and_follow_volumes_and_distance():
    points, volumes = torch.rand(40, 2, dtype=F64), torch.rand(40, dtype=F64) + 0.1
    for taper in (False, True):
        near = find_neighbours(points, 0.4, volumes=volumes, with_self=True, taper=taper)
        torch.testing.assert_close(near.mean(torch.ones(len(near.sender), dtype=F64)), torch.ones(40, dtype=F64))
        share = volumes[near.sender] * ((1 - near.offset.square().sum(1)) ** 2 if taper else 1.0)
        total = torch.zeros(40, dtype=F64).index_add(0, near.receiver, share)
        torch.testing.assert_close(near.weight, share / total[near.receiver])


def test_a_mean_over_neighbours_is_that_mean():
    near = find_neighbours(torch.rand(12, 2, dtype=F64), nearest=3)
    messages = torch.randn(36, 2, 5, dtype=F64)
    for i, mean in enumerate(near.mean(messages)):
        torch.testing.assert_close(mean, messages[near.receiver == i].mean(0))


def test_offsets_and_tapered_weights_are_differentiable_in_the_points():
    points = torch.rand(8, 2, dtype=F64, requires_grad=True)

    def law(p):
        near = find_neighbours(p, 0.45, box=[1.0, 1.0], with_self=True, taper=True)
        return near.mean(near.offset.square() + near.offset)

    assert torch.autograd.gradcheck(law, points)


def test_pair_features_are_one_matrix_on_what_an_edge_knows():
    near = find_neighbours(torch.rand(9, 2, dtype=F64), nearest=3)
    layer = PairFeatures(3, 2, 2, 5).double()
    h, u = torch.randn(9, 4, 3, dtype=F64), torch.randn(9, 4, 2, dtype=F64)
    made = layer(h, u, near)
    matrix = torch.cat([m.weight for m in (layer.receiver, layer.sender, layer.difference, layer.place)], 1)
    for e, (i, j) in enumerate(zip(near.receiver, near.sender, strict=True)):
        for b in range(4):
            known = torch.cat([h[i, b], h[j, b], u[i, b] - u[j, b], near.offset[e]])
            torch.testing.assert_close(made[e, b], matrix @ known + layer.receiver.bias)


def test_what_makes_no_sense_is_refused():
    points = torch.rand(5, 2, dtype=F64)
    with pytest.raises(InputError, match="a radius or a number of nearest"):
        find_neighbours(points)
    with pytest.raises(InputError, match="tapers towards a radius only"):
        find_neighbours(points, nearest=2, taper=True)
    with pytest.raises(InputError, match="below half of every period"):
        find_neighbours(points, radius=0.5, box=[1.0, 2.0])
    with pytest.raises(ShapeError, match="3 periods for points in 2"):
        find_neighbours(points, radius=0.1, box=[1.0, 2.0, 3.0])
    with pytest.raises(InputError, match=r"5 nearest of 5 points.*1 to 4"):
        find_neighbours(points, nearest=5)
    with pytest.raises(InputError, match=r"1 of 3 points have no neighbour within 0.5, the first is point 2"):
        find_neighbours(torch.tensor([[0.0], [0.1], [5.0]]), radius=0.5)
    with pytest.raises(ShapeError, match="half way round"):
        grid_neighbours((4, 8), (1.0, 1.0), 2.0, (True, True), points)
    with pytest.raises(ShapeError, match="reaches no neighbour"):
        grid_neighbours((4, 8), (1.0, 1.0), 0.5, (True, True), points)
    assert grid_neighbours((4, 8), (1.0, 1.0), 2.0, (False, True), points).num_receivers == 32
