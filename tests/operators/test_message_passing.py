"""Message passing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from slipstream.errors import InputError, ShapeError
from slipstream.operators import MessagePassing
from slipstream.operators.layers.neighbours import find_neighbours

F64 = torch.float64


def make(**more) -> MessagePassing:
    model = MessagePassing(**{"in_channels": 2, "hidden_channels": 8, "n_layers": 2, **more})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model.double()


def cloud(points: int = 40, dims: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(points, dims, dtype=F64), torch.randn(3, 2, points, dtype=F64)


def test_one_round_is_what_its_formula_says():
    model, (points, x), s = make(n_layers=1, num_scalars=1), cloud(10), torch.randn(3, 1, dtype=F64)
    near = find_neighbours(points, nearest=3)
    layer = model.layers[0]
    h, u = model.encoder(x.transpose(1, 2)), x.transpose(1, 2)
    pairs = layer.pairs
    for b in range(3):
        for i in range(10):
            heard = torch.zeros(8, dtype=F64)
            for e in (near.receiver == i).nonzero().flatten():
                j = near.sender[e]
                told = pairs.receiver(h[b, i]) + pairs.sender(h[b, j]) + pairs.difference(u[b, i] - u[b, j])
                told = told + pairs.place((points[j] - points[i]) / near.length)
                heard += F.silu(layer.message(F.silu(told))) / 3
            y = layer.state(h[b, i]) + layer.heard(heard)
            y = layer.modulation(y[None, :, None], s[b : b + 1])[0, :, 0]
            y = layer.norm(h[b, i] + F.silu(layer.update(F.silu(y))))
            torch.testing.assert_close(model.on_points(x, near, s)[b, :, i], model.decoder(y), rtol=0, atol=1e-12)


def test_numbering_is_arbitrary():
    model, (points, x), order = make(), cloud(), torch.randperm(40)
    y = model.on_points(x, find_neighbours(points, radius=0.3))
    again = model.on_points(x[:, :, order], find_neighbours(points[order], radius=0.3))
    torch.testing.assert_close(again, y[:, :, order], rtol=0, atol=1e-12)


def test_the_origin_is_arbitrary():
    model, (points, x) = make(), cloud()
    y = model.on_points(x, find_neighbours(points, nearest=5))
    moved = model.on_points(x, find_neighbours(points + torch.tensor([3.7, -2.1], dtype=F64), nearest=5))
    torch.testing.assert_close(moved, y, rtol=0, atol=1e-11)
    box = [1.0, 1.0]
    y = model.on_points(x, find_neighbours(points, radius=0.3, box=box))
    moved = model.on_points(x, find_neighbours((points + 0.37) % 1.0, radius=0.3, box=box))
    torch.testing.assert_close(moved, y, rtol=0, atol=1e-11)


def test_the_order_of_neighbours_is_arbitrary():
    model, (points, x) = make(), cloud()
    near = find_neighbours(points, radius=0.3)
    order = torch.randperm(len(near.sender))
    mixed = replace(
        near,
        receiver=near.receiver[order],
        sender=near.sender[order],
        offset=near.offset[order],
        weight=near.weight[order],
    )
    torch.testing.assert_close(model.on_points(x, mixed), model.on_points(x, near), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("periodic", [True, False])
def test_a_grid_is_a_cloud_of_points(dims, periodic):
    model = make(num_dims=dims, periodic=periodic)
    shape = (6, 7, 5)[:dims]
    x = torch.randn(2, 2, *shape, dtype=F64)
    axes = [torch.arange(n, dtype=F64) for n in shape]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, dims)
    near = find_neighbours(points, radius=1.5, box=[float(n) for n in shape] if periodic else None)
    torch.testing.assert_close(model.on_points(x.flatten(2), near), model(x).flatten(2), rtol=0, atol=1e-12)


@pytest.mark.parametrize("rounds", [1, 3])
def test_news_travel_one_radius_a_round_and_no_farther(rounds):
    model = make(num_dims=1, n_layers=rounds, reach=2.0)
    x = torch.randn(1, 2, 40, dtype=F64, requires_grad=True)
    (seen,) = torch.autograd.grad(model(x)[0, 0, 20], x)
    there = seen[0].abs().sum(0).nonzero().flatten()
    assert (there - 20).tolist() == list(range(-2 * rounds, 2 * rounds + 1))


def test_joined_geometries_do_not_hear_each_other():
    model, (p, x), (q, y) = make(), cloud(20), cloud(30)
    one, two = find_neighbours(p, nearest=4), find_neighbours(q, nearest=4)
    both = replace(
        one,
        receiver=torch.cat([one.receiver, two.receiver + 20]),
        sender=torch.cat([one.sender, two.sender + 20]),
        offset=torch.cat([one.offset, two.offset]),
        weight=torch.cat([one.weight, two.weight]),
        num_receivers=50,
    )
    expected = torch.cat([model.on_points(x, one), model.on_points(y, two)], 2)
    torch.testing.assert_close(model.on_points(torch.cat([x, y], 2), both), expected, rtol=0, atol=1e-12)


def test_messages_without_offsets_do_not_know_left_from_right():
    x = torch.randn(1, 2, 12, dtype=F64)
    for offsets in (True, False):
        model = make(num_dims=1, offsets=offsets)
        mirrored = model(x.flip(2)).flip(2)
        assert ((mirrored - model(x)).abs().max() < 1e-12) == (not offsets)


def test_messages_without_differences_carry_fewer_parameters_and_still_work():
    with_them, without = make(), make(differences=False)
    assert all(layer.pairs.difference is None for layer in without.layers)
    assert with_them.layers[0].pairs.difference.weight.shape == (8, 2)
    x = torch.randn(1, 2, 8, 8, dtype=F64)
    assert without(x).isfinite().all()


def test_positions_can_be_learnt_through():
    model, (points, x) = make(n_layers=1), cloud(8)

    def law(p):
        return model.on_points(x, find_neighbours(p, radius=0.6, box=[2.0, 2.0]))

    assert torch.autograd.gradcheck(law, points.requires_grad_(), eps=1e-7, atol=1e-5)


def test_what_does_not_fit_is_refused():
    model, (points, x) = make(), cloud()
    with pytest.raises(InputError, match="values at 40 points and neighbours of 39 points"):
        model.on_points(x, find_neighbours(points[:39], nearest=3))
    with pytest.raises(InputError, match="offsets in 3 dimensions"):
        model.on_points(x, find_neighbours(torch.rand(40, 3, dtype=F64), nearest=3))
    with pytest.raises(ShapeError, match=r"values of shape \(batch, 2, point\).*got \(3, 1, 40\)"):
        model.on_points(x[:, :1], find_neighbours(points, nearest=3))
    with pytest.raises(ShapeError, match="num_scalars=0 but got scalars"):
        model.on_points(x, find_neighbours(points, nearest=3), torch.ones(3, 1, dtype=F64))
    with pytest.raises(ShapeError, match="half way round"):
        make(reach=4.0)(torch.randn(1, 2, 8, 8, dtype=F64))
    with pytest.raises(InputError, match=r"reach=0.5"):
        MessagePassing(reach=0.5)
    with pytest.raises(InputError, match="num_dims=4"):
        MessagePassing(num_dims=4)
