"""Padding: what lies beyond the ends."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from slipstream.errors import InputError, ShapeError
from slipstream.operators.layers import Pad

THEIRS = {"periodic": "circular", "zero": "constant", "reflect": "reflect"}


@pytest.mark.parametrize("kind", THEIRS)
@pytest.mark.parametrize("space", [(5,), (5, 4), (5, 4, 3)])
def test_it_agrees_with_the_padding_of_torch(kind, space):
    x = torch.randn(2, 3, *space)
    expected = F.pad(x, (2,) * (2 * len(space)), mode=THEIRS[kind])
    assert torch.equal(Pad(kind, len(space))(x, 2), expected)


def test_every_axis_has_its_own_kind_and_width():
    x = torch.randn(1, 1, 6, 5)
    expected = F.pad(F.pad(x, (0, 0, 3, 3), mode="circular"), (1, 1, 0, 0))
    assert torch.equal(Pad(("periodic", "zero"), 2)(x, (3, 1)), expected)


def test_padding_once_for_two_convolutions_equals_padding_before_each_if_periodic():
    a, b, x, pad = torch.randn(4, 2, 3, 3), torch.randn(5, 4, 3, 3), torch.randn(1, 2, 6, 6), Pad("periodic", 2)
    once = F.conv2d(F.conv2d(pad(x, 2), a).tanh(), b)
    torch.testing.assert_close(once, F.conv2d(pad(F.conv2d(pad(x, 1), a).tanh(), 1), b))


def test_no_width_is_no_copy():
    x = torch.randn(1, 1, 4, 4)
    assert Pad("zero", 2)(x, 0) is x


@pytest.mark.parametrize(("kind", "points"), [("periodic", 2), ("reflect", 3)])
def test_a_grid_too_small_to_take_points_from_is_refused(kind, points):
    with pytest.raises(ShapeError, match=rf"padding by 3 needs at least \d points along an axis; got {points}"):
        Pad(kind, 1)(torch.randn(1, 1, points), 3)


@pytest.mark.parametrize("padding", ["circular", ("zero",), ("zero", "replicate")])
def test_unknown_kinds_are_refused(padding):
    with pytest.raises((InputError, TypeError), match=r"circular|zero"):
        Pad(padding, 2)
