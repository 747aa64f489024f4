"""Pointwise maps, modulation, residual blocks."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from slipstream.operators.layers import Modulation, Pad, Pointwise, ResidualBlock, group_norm


@pytest.mark.parametrize("space", [(7,), (3, 4), (2, 3, 4)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_pointwise_map_is_a_linear_layer_at_every_point(space, bias):
    layer, x = Pointwise(3, 5, bias), torch.randn(2, 3, *space)
    expected = F.linear(x.movedim(1, -1), layer.weight, layer.bias[:, 0] if bias else None).movedim(-1, 1)
    torch.testing.assert_close(layer(x), expected)


def test_a_modulation_scales_and_shifts_whole_channels():
    layer, s = Modulation(2, 3), torch.randn(4, 2)
    torch.nn.init.normal_(layer.out.weight)
    ones, zeros = torch.ones(4, 3, 5, 6), torch.zeros(4, 3, 5, 6)
    shift, factor = layer(zeros, s), layer(ones, s) - layer(zeros, s)
    assert (shift == shift[..., :1, :1]).all()
    assert (factor - factor[..., :1, :1]).abs().max() < 1e-5
    for made in (shift, factor):
        assert made[..., 0, 0].std(0).min() > 0.01  # by sample
        assert made[..., 0, 0].std(1).min() > 0.01  # by channel
    x = torch.randn(4, 3, 5, 6)
    torch.testing.assert_close(layer(x, s), factor * x + shift)


def test_a_modulation_starts_as_the_identity():
    x = torch.randn(4, 3, 5)
    assert torch.equal(Modulation(2, 3)(x, 100 * torch.randn(4, 2)), x)


@pytest.mark.parametrize(("channels", "groups"), [(24, 8), (12, 4), (7, 1), (32, 8)])
def test_groups_are_as_many_as_divide_the_channels_evenly(channels, groups):
    assert group_norm(channels).num_groups == groups


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_residual_block_with_periodic_padding_does_not_know_where_the_domain_is_cut(dims):
    block, x = ResidualBlock(2, 4, Pad("periodic", dims)).double(), torch.randn(2, 2, *(5,) * dims, dtype=torch.float64)
    axes = tuple(range(2, 2 + dims))
    torch.testing.assert_close(block(x.roll((1,) * dims, axes)), block(x).roll((1,) * dims, axes), rtol=0, atol=1e-12)


def test_a_residual_block_keeps_a_way_around_its_convolutions():
    block, x = ResidualBlock(3, 3, Pad("zero", 1)), torch.randn(2, 3, 8)
    torch.nn.init.zeros_(block.norm.weight)
    torch.testing.assert_close(block(x), F.gelu(x))
