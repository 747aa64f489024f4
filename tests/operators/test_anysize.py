"""AnySize: any number of points for operators that want multiples."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from slipstream.errors import InputError
from slipstream.operators import AnySize, UNet
from slipstream.pretrained import Pretrained

UNET = partial(UNet, hidden_channels=4, levels=2, padding="zero")


def test_a_grid_that_fits_is_handed_on_as_it_is():
    made = AnySize(UNET, multiple=4, periodic=(True, False))
    x = torch.randn(2, 1, 8, 12)
    assert torch.equal(made(x), made.inner(x))


@pytest.mark.parametrize("shape", [(9, 13), (8, 11), (5, 4)])
def test_other_grids_keep_their_shape(shape):
    made = AnySize(UNET, multiple=4, periodic=(True, False), in_channels=2, out_channels=3)
    assert made(torch.randn(2, 2, *shape)).shape == (2, 3, *shape)


class Neighbours(UNet):
    """The mean of left and right neighbours, by a stencil that asks for multiples of four points."""

    def forward(self, x, scalars=None):
        assert x.shape[-1] % 4 == 0
        padded = torch.nn.functional.pad(x, (1, 1))
        return (padded[..., :-2] + padded[..., 2:]) / 2


def test_over_the_seam_of_a_periodic_axis_lies_the_other_end():
    x = torch.randn(1, 1, 9)
    made = AnySize(partial(Neighbours, hidden_channels=1, levels=0), multiple=4, periodic=True, num_dims=1)
    assert torch.allclose(made(x), (x.roll(1, -1) + x.roll(-1, -1)) / 2)


def test_beyond_an_end_lies_the_outermost_point():
    x = torch.arange(9.0)[None, None]
    made = AnySize(partial(Neighbours, hidden_channels=1, levels=0), multiple=4, num_dims=1)
    assert float(made(x)[0, 0, -1]) == pytest.approx((7.0 + 8.0) / 2)


def test_it_is_saved_and_found_again(tmp_path):
    made = AnySize(UNET, multiple=4, periodic=(False, True))
    made.save_pretrained(tmp_path)
    x = torch.randn(1, 1, 9, 10)
    assert torch.equal(Pretrained.from_pretrained(tmp_path)(x), made(x))


def test_one_word_an_axis():
    with pytest.raises(InputError, match="2 axes"):
        AnySize(UNET, periodic=(True,))
