"""Graph kernel networks."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from slipstream.errors import InputError, ShapeError
from slipstream.operators import KernelIntegral
from slipstream.operators.kernel_integral import IntegralLayer
from slipstream.operators.layers.neighbours import find_neighbours

F64 = torch.float64


def moved(model: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model.double()


def make(**more) -> KernelIntegral:
    small = {"in_channels": 2, "hidden_channels": 6, "n_layers": 2, "kernel_channels": 4, "radius": 0.3}
    return moved(KernelIntegral(**{**small, **more}))


def cloud(points: int = 40, dims: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(points, dims, dtype=F64), torch.randn(3, 2, points, dtype=F64)


def around(points: torch.Tensor, **more):
    return find_neighbours(points, **{"radius": 0.3, "with_self": True, "taper": True, **more})


@pytest.mark.parametrize("kernel", ["full", "diagonal"])
@pytest.mark.parametrize("sees_fields", [True, False])
def test_an_integral_is_a_sum_over_kernels_pair_by_pair(kernel, sees_fields):
    points, x = cloud(12)
    near = around(points)
    layer = moved(IntegralLayer(5, kernel, 4, 2 if sees_fields else 0, 2, 0))
    v, a = torch.randn(12, 3, 5, dtype=F64), x.permute(2, 0, 1)
    expected = torch.zeros(12, 3, 5, dtype=F64)
    for e, (i, j) in enumerate(zip(near.receiver, near.sender, strict=True)):
        for b in range(3):
            known = layer.pairs.place((points[j] - points[i]) / 0.3)
            if sees_fields:
                known = known + layer.pairs.receiver(a[i, b]) + layer.pairs.sender(a[j, b])
            kappa = F.gelu(layer.hidden(F.gelu(known))) @ layer.matrices
            sent = v[j, b] @ kappa.reshape(5, 5) if kernel == "full" else v[j, b] * kappa
            expected[i, b] += near.weight[e] * sent
    torch.testing.assert_close(layer.integral(v, a, near), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(layer(v, a, near), layer.linear(v) + expected, rtol=0, atol=1e-12)


def test_numbering_order_and_origin_are_arbitrary():
    model, (points, x), order = make(), cloud(), torch.randperm(40)
    near = around(points)
    y = model.on_points(x, near)
    renumbered = model.on_points(x[:, :, order], around(points[order]))
    torch.testing.assert_close(renumbered, y[:, :, order], rtol=0, atol=1e-12)
    shifted = model.on_points(x, around(points + torch.tensor([1.3, -0.4], dtype=F64)))
    torch.testing.assert_close(shifted, y, rtol=0, atol=1e-11)
    mix = torch.randperm(len(near.sender))
    mixed = {k: getattr(near, k)[mix] for k in ("receiver", "sender", "offset", "weight")}
    torch.testing.assert_close(model.on_points(x, replace(near, **mixed)), y, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("periodic", [True, False])
def test_a_grid_is_a_cloud_of_points_in_the_unit_box(dims, periodic):
    model = make(num_dims=dims, periodic=periodic)
    shape = (9, 8, 7)[:dims]
    x = torch.randn(2, 2, *shape, dtype=F64)
    axes = [torch.arange(n, dtype=F64) / n for n in shape]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, dims)
    near = around(points, box=[1.0] * dims if periodic else None)
    torch.testing.assert_close(model.on_points(x.flatten(2), near), model(x).flatten(2), rtol=0, atol=1e-12)


def order(model: KernelIntegral) -> float:
    """Mean rate at which answers on 16 to 128 points approach that on 512."""
    answers = {}
    for n in (16, 128, 512):
        x = 2 * math.pi * torch.arange(n, dtype=F64) / n
        with torch.no_grad():
            answers[n] = model(torch.stack([torch.sin(x), torch.cos(2 * x)])[None])[..., :: n // 16]
    coarse, fine = ((answers[n] - answers[512]).abs().max().item() for n in (16, 128))
    return math.log2(coarse / fine) / 3


def test_more_points_are_a_better_integral_of_the_same_function():
    """Tapered, to high order; with a sharp edge the points on it come and go, and the order is low."""
    model = make(radius=0.23, num_dims=1)
    assert order(model) > 2.8
    model.taper = False
    assert order(model) < 2.2


def test_scattered_points_agree_with_the_grid_when_their_cells_are_weighed():
    """Jittered points, many more of them in one half; unweighed they would pull the mean to their side."""
    torch.manual_seed(2)
    model = make(radius=0.25, n_layers=1, num_dims=1)
    reference = model(
        torch.stack([f(2 * math.pi * torch.arange(800, dtype=F64) / 800) for f in (torch.sin, torch.cos)])[None]
    )
    points = torch.rand(600, dtype=F64).square().sort().values
    gaps = points.roll(-1) - points
    gaps[-1] += 1
    volumes = (gaps + gaps.roll(1)) / 2
    x = torch.stack([torch.sin(2 * math.pi * points), torch.cos(2 * math.pi * points)])[None]
    nearest = (points * 800).round().long() % 800
    errors = {}
    for name, cells in (("weighed", volumes), ("unweighed", None)):
        y = model.on_points(x, around(points[:, None], radius=0.25, box=[1.0], volumes=cells))
        errors[name] = (y - reference[:, :, nearest]).abs().mean().item()
    assert errors["weighed"] < 0.2 * errors["unweighed"]


@pytest.mark.parametrize("taper", [True, False])
def test_a_point_that_leaves_the_ball_fades_out_only_if_tapered(taper):
    model = make(num_dims=1, radius=0.3)
    points, x = torch.tensor([[0.0], [0.1], [0.3]], dtype=F64), torch.randn(1, 2, 3, dtype=F64)
    there = [points + torch.tensor([[0.0], [0.0], [e]], dtype=F64) for e in (-1e-6, 1e-6)]
    inside, outside = (model.on_points(x, around(p, taper=taper))[0, 0, 0] for p in there)
    assert ((inside - outside).abs() < 1e-8) == taper


def test_a_kernel_that_does_not_see_the_fields_makes_a_linear_integral():
    points, x = cloud(12)
    near, a = around(points), x.permute(2, 0, 1)
    v, w = torch.randn(2, 12, 3, 5, dtype=F64)
    for sees in (True, False):
        layer = moved(IntegralLayer(5, "full", 4, 2 if sees else 0, 2, 0))
        torch.testing.assert_close(
            layer.integral(v + 2 * w, a, near), layer.integral(v, a, near) + 2 * layer.integral(w, a, near)
        )
        changed = (layer.integral(v, 2 * a, near) - layer.integral(v, a, near)).abs().max()
        assert (changed > 1e-4) == sees


def test_a_constant_kernel_averages_over_the_ball():
    layer = moved(IntegralLayer(3, "diagonal", 2, 0, 1, 0))
    with torch.no_grad():
        for parameter in layer.pairs.parameters():
            parameter.zero_()
    points = torch.linspace(0, 1, 21, dtype=F64)[:, None]
    near = around(points, taper=False)
    v = torch.randn(21, 1, 3, dtype=F64)
    kappa = F.gelu(layer.hidden(torch.zeros(4, dtype=F64))) @ layer.matrices
    for i in range(21):
        ball = v[(points[:, 0] - points[i, 0]).abs() <= 0.3 + 1e-9]
        torch.testing.assert_close(layer.integral(v, v, near)[i], kappa * ball.mean(0))


def test_what_does_not_fit_is_refused():
    model, (points, x) = make(), cloud()
    with pytest.raises(InputError, match="values at 40 points and neighbours of 39 points"):
        model.on_points(x, around(points[:39]))
    with pytest.raises(ShapeError, match="reaches no neighbour"):
        make(radius=0.1)(torch.randn(1, 2, 8, 8, dtype=F64))
    with pytest.raises(InputError, match=r"radius=0.5"):
        KernelIntegral(radius=0.5)
    with pytest.raises(InputError, match="num_dims=0"):
        KernelIntegral(num_dims=0)
