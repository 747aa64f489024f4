"""Deep operator networks."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from slipstream.errors import InputError, ShapeError
from slipstream.operators import DeepONet, MultiONet
from slipstream.operators.layers.branches import ACTIVATIONS, grid_places, read_sensors

SMALL = {"hidden_channels": 8, "n_layers": 3, "sensors": 4}


def moved(model: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return model.double()


def both(**more) -> list[DeepONet]:
    made = [MultiONet(**{**SMALL, "pairs": 2, **more})]
    if "pairs" not in more:
        made.insert(0, DeepONet(**{**SMALL, **more}))
    return [moved(model) for model in made]


def field(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def test_the_answer_is_a_sum_over_products_of_branch_and_trunk():
    model, x, places = both(num_dims=1, in_channels=2, out_channels=3)[0], field(2, 2, 4), torch.rand(5, 1).double()
    for b in range(2):
        read = F.linear(x[b].flatten(), model.enter.weight, model.enter.bias).reshape(3, 8)
        for p in range(5):
            told = []
            for token in read:
                t = 2 * places[p] - 1
                for branch, trunk in zip(model.branch.maps, model.trunk.maps, strict=True):
                    token, t = F.gelu(branch(token)), F.gelu(trunk(t))
                told.append(token @ t)
            torch.testing.assert_close(model.at(x, places)[b, :, p], model.leave(torch.stack(told)))


def test_multionet_sums_weighted_products_of_its_last_layers():
    model, x, places = both(num_dims=2, pairs=2)[0], field(3, 1, 4, 4), torch.rand(7, 2).double()
    token = model.enter(x.flatten(1))
    t = 2 * places - 1
    total = torch.zeros(3, 7, dtype=torch.float64)
    for k, (branch, trunk) in enumerate(zip(model.branch.maps, model.trunk.maps, strict=True)):
        token, t = branch(token), trunk(t)
        token = F.silu(token) + token
        t = torch.tanh(torch.sin(math.pi * (t + 1))) + t
        if k >= 1:
            total += model.weights[k - 1] / 2 * token @ t.T
    torch.testing.assert_close(model.at(x, places)[:, 0], model.leave.weight * total + model.leave.bias)


@pytest.mark.parametrize("pairs", [1, 2, 3])
def test_a_multionet_with_the_last_weight_alone_is_a_deeponet(pairs):
    (multi,) = both(pairs=pairs, out_channels=2, num_scalars=1)
    plain = DeepONet(**SMALL, out_channels=2, num_scalars=1, branch_activation="silu_id", trunk_activation="tanh_sin")
    plain.double().load_state_dict({k: v for k, v in multi.state_dict().items() if k != "weights"})
    x, s = field(2, 1, 8, 8), field(2, 1)
    assert (multi(x, s) - plain(x, s)).abs().max() > 1e-3
    with torch.no_grad():
        multi.weights.zero_()[-1] = pairs
    torch.testing.assert_close(multi(x, s), plain(x, s), rtol=0, atol=1e-12)


def test_a_new_multionet_answers_a_constant_and_its_weights_learn_first():
    model, x = MultiONet(**SMALL, pairs=2), torch.randn(2, 1, 8, 8)
    y = model(x)
    assert torch.equal(y, torch.full_like(y, y[0, 0, 0, 0].item()))
    model(x).square().sum().backward()
    assert model.weights.grad.abs().min() > 0
    assert not model.trunk.maps[0].weight.grad.any()


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("periodic", [False, True])
def test_free_places_on_the_grid_give_the_answer_on_the_grid(dims, periodic):
    for model in both(num_dims=dims, periodic=periodic, out_channels=2):
        x = field(2, 1, *(6, 5, 4)[:dims])
        shift = 0.0 if periodic else 0.5
        axes = [(torch.arange(n, dtype=torch.float64) + shift) / n for n in x.shape[2:]]
        places = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, dims)
        torch.testing.assert_close(model.at(x, places).reshape(2, 2, *x.shape[2:]), model(x), rtol=0, atol=1e-12)


def test_each_sample_may_have_its_own_places():
    for model in both():
        x, places = field(3, 1, 8, 8), torch.rand(3, 5, 2).double()
        expected = torch.cat([model.at(x[i : i + 1], places[i]) for i in range(3)])
        torch.testing.assert_close(model.at(x, places), expected, rtol=0, atol=1e-12)


def test_the_order_of_places_is_the_order_of_answers():
    for model in both():
        x, places, order = field(1, 1, 8, 8), torch.rand(9, 2).double(), torch.randperm(9)
        torch.testing.assert_close(model.at(x, places[order]), model.at(x, places)[:, :, order], rtol=0, atol=1e-12)


def test_answers_are_periodic_exactly_along_the_axes_that_are():
    for model in both(periodic=(True, False)):
        x, places = field(1, 1, 8, 8), torch.rand(9, 2).double()
        across = [model.at(x, places + torch.tensor(step)) - model.at(x, places) for step in ([1.0, 0.0], [0.0, 1.0])]
        assert across[0].abs().max() < 1e-12
        assert across[1].abs().max() > 1e-4


def test_answers_are_differentiable_in_the_place():
    for model in both(trunk_activation="tanh_sin"):
        x = field(1, 1, 8, 8)
        assert torch.autograd.gradcheck(lambda p, m=model, u=x: m.at(u, p), torch.rand(3, 2).double().requires_grad_())


def test_sensors_are_means_over_cells():
    x = field(2, 3, 8, 6)
    read = read_sensors(x, (4, 3)).reshape(2, 3, 4, 3)
    torch.testing.assert_close(read, x.reshape(2, 3, 4, 2, 3, 2).mean((3, 5)))
    torch.testing.assert_close(read_sensors(x, (8, 6)), x.flatten(1), rtol=0, atol=0)


def test_the_branch_sees_no_finer_than_its_sensors():
    for model in both(sensors=4):
        x = field(1, 1, 8, 8)
        finer = x + torch.tensor([1.0, -1.0]).double().repeat(4)
        torch.testing.assert_close(model(finer), model(x), rtol=0, atol=1e-10)
        fine_grid = x.repeat_interleave(3, 2).repeat_interleave(3, 3)
        places = torch.rand(5, 2).double()
        torch.testing.assert_close(model.at(fine_grid, places), model.at(x, places), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "law"),
    [
        ("tanh_sin", lambda x: math.tanh(math.sin(math.pi * (x + 1))) + x),
        ("silu_sin", lambda x: (s := math.sin(math.pi * (x + 1))) / (1 + math.exp(-s)) + x),
        ("silu_id", lambda x: x / (1 + math.exp(-x)) + x),
    ],
)
def test_activations_are_what_they_are_called(name, law):
    for x in (-1.3, 0.0, 0.4, 2.0):
        assert float(ACTIVATIONS[name](torch.tensor(x, dtype=torch.float64))) == pytest.approx(law(x), abs=1e-12)


def test_grid_places_are_left_ends_where_periodic_and_middles_elsewhere():
    places = grid_places(torch.zeros(1, 1, 2, 4), (True, False)).reshape(2, 4, 2)
    assert places[:, 0, 0].tolist() == [0.0, 0.5]
    assert places[0, :, 1].tolist() == [0.125, 0.375, 0.625, 0.875]


def test_wrong_places_and_arguments_are_refused():
    for model in both():
        name = type(model).__name__
        for shape in ((5, 3), (2, 5, 2), (5,)):
            with pytest.raises(ShapeError, match=rf"{name} expects points of shape \(point, 2\) or \(1, point, 2\)"):
                model.at(field(1, 1, 8, 8), torch.rand(shape).double())
    with pytest.raises(InputError, match="sensors=\\(4, 4, 4\\)"):
        DeepONet(num_dims=2, sensors=(4, 4, 4))
    with pytest.raises(InputError, match="num_dims=4"):
        MultiONet(num_dims=4)
    with pytest.raises(InputError, match="pairs=4 of 3 layers"):
        MultiONet(n_layers=3)
    with pytest.raises(InputError, match="n_layers"):
        DeepONet(n_layers=0)
