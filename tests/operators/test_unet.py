"""U-Nets."""

from __future__ import annotations

import pytest
import torch

from slipstream.errors import InputError, ShapeError
from slipstream.operators import UNet


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_domain_put_twice_in_a_row_gives_the_answer_twice(dims):
    model = UNet(num_dims=dims, hidden_channels=8, levels=2).double()
    x = torch.randn(1, 1, *(8,) * dims, dtype=torch.float64)
    for axis in range(2, 2 + dims):
        twice = model(torch.cat([x, x], axis))
        torch.testing.assert_close(twice, torch.cat([model(x)] * 2, axis), rtol=0, atol=1e-11)


@pytest.mark.parametrize("padding", ["zero", "reflect"])
def test_ends_are_ends(padding):
    model, x = (
        UNet(hidden_channels=8, levels=1, padding=padding).double(),
        torch.randn(1, 1, 16, 16, dtype=torch.float64),
    )
    shifted = model(x.roll(2, 2)).roll(-2, 2)
    assert (shifted - model(x)).abs().max() > 1e-3


def test_every_level_reaches_the_output():
    """The way round by the coarsest grid lets a point see far beyond the stencils of the finest."""
    model = UNet(num_dims=1, hidden_channels=8, levels=3).double()
    for module in model.modules():
        if isinstance(module, torch.nn.GroupNorm):  # its means would see everything anyway
            module.forward = lambda u: u
    x = torch.randn(1, 1, 128, dtype=torch.float64, requires_grad=True)
    (seen,) = torch.autograd.grad(model(x)[0, 0, 64], x)
    reach = (seen[0, 0] != 0).nonzero().flatten() - 64
    assert reach.min() < -32
    assert reach.max() > 32
    assert reach.max() - reach.min() < 127


def test_every_level_is_joined_with_its_like_on_the_way_down():
    """Cut off from the grids below, each level still hears from its own way down; seen one level at a time."""
    model = UNet(num_dims=1, hidden_channels=8, levels=3).double()
    for level, grow in enumerate(model.grow):
        with torch.no_grad():
            grow.weight.zero_()
        heard = []
        handle = model.up[level].register_forward_hook(lambda _m, _i, out, heard=heard: heard.append(out))
        model(torch.randn(2, 1, 32, dtype=torch.float64))
        handle.remove()
        assert (heard[0][0] - heard[0][1]).abs().max() > 1e-3


@pytest.mark.parametrize("padding", ["periodic", "zero", "reflect"])
def test_channels_last_is_kept_and_changes_nothing(padding):
    model, x = UNet(2, 3, hidden_channels=8, levels=2, padding=padding), torch.randn(2, 2, 16, 16)
    y = model(x)
    seen = []
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(
                lambda _m, _i, out: seen.append(out.is_contiguous(memory_format=torch.channels_last))
            )
    z = model.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    assert seen
    assert all(seen)
    torch.testing.assert_close(z, y, rtol=1e-4, atol=1e-5)


def test_the_output_starts_as_small_as_asked():
    x = torch.randn(1, 1, 16, 16)
    torch.manual_seed(1)
    full = UNet(hidden_channels=8, levels=1)
    torch.manual_seed(1)
    small = UNet(hidden_channels=8, levels=1, output_scale=0.01)
    torch.testing.assert_close(small(x), 0.01 * full(x))
    assert not UNet(hidden_channels=8, levels=1, output_scale=0.0)(x).any()


@pytest.mark.parametrize(("padding", "points"), [("periodic", 12), ("periodic", 8), ("reflect", 16), ("zero", 4)])
def test_grids_that_cannot_be_halved_often_enough_are_refused(padding, points):
    with pytest.raises(
        ShapeError, match=rf"levels=3 and {padding} padding expects multiples of 8.*\(1, 1, 24, {points}\)"
    ):
        UNet(hidden_channels=4, padding=padding)(torch.randn(1, 1, 24, points))


def test_the_smallest_allowed_grid_works():
    for padding, points in (("periodic", 16), ("reflect", 24), ("zero", 8)):
        assert UNet(hidden_channels=4, padding=padding)(torch.randn(1, 1, points, points)).isfinite().all()


def test_four_axes_and_negative_levels_are_refused():
    with pytest.raises(InputError, match="num_dims=4"):
        UNet(num_dims=4)
    with pytest.raises(InputError, match="levels=-1"):
        UNet(levels=-1)
