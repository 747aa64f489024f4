"""Padding: what lies beyond the ends."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from slipstream.errors import InputError, ShapeError
from slipstream.operators.layers import Pad

THEIRS = {"periodic": "circular", "zero": "constant", "reflect": "reflect"}


# Without gradients it is done in another way.
BOTH_WAYS = pytest.mark.parametrize("gradients", [True, False])


@pytest.mark.parametrize("kind", THEIRS)
@pytest.mark.parametrize("space", [(5,), (5, 4), (5, 4, 3)])
@BOTH_WAYS
def test_it_agrees_with_the_padding_of_torch(kind, space, gradients):
    x = torch.randn(2, 3, *space)
    expected = F.pad(x, (2,) * (2 * len(space)), mode=THEIRS[kind])
    with torch.set_grad_enabled(gradients):
        assert torch.equal(Pad(kind, len(space))(x, 2), expected)


@BOTH_WAYS
@pytest.mark.parametrize(
    ("kinds", "widths"),
    [(("periodic", "zero"), (3, 1)), (("zero", "periodic"), (2, 0)), (("reflect", "periodic"), (1, 5)), (("zero", "reflect"), (0, 3))],
)  # fmt: skip
def test_every_axis_has_its_own_kind_and_width(kinds, widths, gradients):
    x = torch.randn(2, 1, 6, 5)
    expected = F.pad(
        F.pad(x, (0, 0, widths[0], widths[0]), mode=THEIRS[kinds[0]]), (widths[1],) * 2 + (0, 0), mode=THEIRS[kinds[1]]
    )
    with torch.set_grad_enabled(gradients):
        assert torch.equal(Pad(kinds, 2)(x, widths), expected)


@pytest.mark.parametrize("kind", THEIRS)
@pytest.mark.parametrize("width", [1, 3])
def test_its_gradient_is_that_of_the_padding_of_torch(kind, width):
    x = torch.randn(2, 3, 7, 5, requires_grad=True)
    weight = torch.randn(2, 3, 7 + 2 * width, 5 + 2 * width)
    (mine,) = torch.autograd.grad((Pad(kind, 2)(x, width) * weight).sum(), x)
    (theirs,) = torch.autograd.grad((F.pad(x, (width,) * 4, mode=THEIRS[kind]) * weight).sum(), x)
    torch.testing.assert_close(mine, theirs)


@torch.no_grad()
@pytest.mark.parametrize("kind", THEIRS)
def test_without_gradients_it_may_be_mapped_and_differentiated_forwards(kind):
    x, t, pad = torch.randn(3, 2, 2, 5, 6), torch.randn(2, 2, 5, 6), Pad(kind, 2)
    assert torch.equal(torch.func.vmap(lambda v: pad(v, 1))(x), torch.stack([pad(v, 1) for v in x]))
    assert torch.equal(torch.func.jvp(lambda v: pad(v, 1), (x[0],), (t,))[1], pad(t, 1))


@BOTH_WAYS
@pytest.mark.parametrize(
    ("space", "layout"),
    [
        ((5, 6), torch.contiguous_format),
        ((5, 6), torch.channels_last),
        ((5, 4, 3), torch.contiguous_format),
        ((5, 4, 3), torch.channels_last_3d),
    ],
)
@pytest.mark.parametrize("kind", THEIRS)
def test_the_layout_in_memory_is_kept(kind, space, layout, gradients):
    x, pad = torch.randn(2, 3, *space), Pad(kind, len(space))
    with torch.set_grad_enabled(gradients):
        y = pad(x.to(memory_format=layout), 2)
    assert y.is_contiguous(memory_format=layout)
    assert torch.equal(y, pad(x, 2))


@BOTH_WAYS
@pytest.mark.parametrize("kinds", [("zero", "periodic"), ("zero", "zero"), ("reflect", "zero")])
def test_a_convolution_that_brings_the_zeros_along_sees_the_same(kinds, gradients):
    x, w, pad = torch.randn(2, 3, 7, 6), torch.randn(4, 3, 5, 5), Pad(kinds, 2)
    with torch.set_grad_enabled(gradients):
        torch.testing.assert_close(F.conv2d(pad.around(x, 2), w, padding=pad.zeros(2)), F.conv2d(pad(x, 2), w))


def test_padding_once_for_two_convolutions_equals_padding_before_each_if_periodic():
    a, b, x, pad = torch.randn(4, 2, 3, 3), torch.randn(5, 4, 3, 3), torch.randn(1, 2, 6, 6), Pad("periodic", 2)
    once = F.conv2d(F.conv2d(pad(x, 2), a).tanh(), b)
    torch.testing.assert_close(once, F.conv2d(pad(F.conv2d(pad(x, 1), a).tanh(), 1), b))


@BOTH_WAYS
def test_no_width_is_no_copy(gradients):
    x = torch.randn(1, 1, 4, 4)
    with torch.set_grad_enabled(gradients):
        assert Pad("periodic", 2)(x, 0) is x
        assert Pad("zero", 2).around(x, 1) is x


@pytest.mark.parametrize(("kind", "points"), [("periodic", 2), ("reflect", 3)])
def test_a_grid_too_small_to_take_points_from_is_refused(kind, points):
    with pytest.raises(ShapeError, match=rf"padding by 3 needs at least \d points along an axis; got {points}"):
        Pad(kind, 1)(torch.randn(1, 1, points), 3)


@pytest.mark.parametrize("padding", ["circular", ("zero",), ("zero", "replicate")])
def test_unknown_kinds_are_refused(padding):
    with pytest.raises((InputError, TypeError), match=r"circular|zero"):
        Pad(padding, 2)
