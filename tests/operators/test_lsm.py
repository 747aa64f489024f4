"""Latent spectral models."""

from __future__ import annotations

import pytest
import torch

from slipstream.errors import InputError, ShapeError
from slipstream.operators import LSM


def made(seed: int = 0, **arguments) -> LSM:
    torch.manual_seed(seed)
    return LSM(**{"hidden_channels": 4, "levels": 1, "patch": 2, "heads": 2, "basis": 3} | arguments).double()


def alike(model: LSM, **arguments) -> LSM:
    """Another with the same weights, as far as both have them."""
    other = made(seed=1, **arguments)
    other.load_state_dict({k: v for k, v in model.state_dict().items() if k in other.state_dict()})
    return other


def test_blocks_that_do_nothing_leave_the_trunk():
    """The ablation ``latent=False`` is the same network with blocks that are the identity: tokens, values and series all zero."""
    model, x = made(levels=2), torch.randn(2, 1, 16, 8, dtype=torch.float64)
    trunk = alike(model, levels=2, latent=False)
    assert (model(x) - trunk(x)).abs().max() > 1e-3
    with torch.no_grad():
        for block in model.solve:
            for parameter in (block.tokens, block.value.weight, block.value.bias, block.transition.coefficients):
                parameter.zero_()
    torch.testing.assert_close(model(x), trunk(x), rtol=0, atol=1e-13)


def test_without_the_transition_it_is_a_model_whose_series_are_zero():
    model, x = made(), torch.randn(2, 1, 8, 8, dtype=torch.float64)
    attention = alike(model, transition=False)
    assert (model(x) - attention(x)).abs().max() > 1e-3
    with torch.no_grad():
        for block in model.solve:
            block.transition.coefficients.zero_()
    torch.testing.assert_close(model(x), attention(x), rtol=0, atol=1e-13)


def test_every_scale_has_a_block_of_its_own_on_its_way_to_the_decoder():
    model = made(levels=3)
    met = []
    for block in model.solve:
        block.register_forward_hook(lambda _m, inputs, _o: met.append(tuple(inputs[0].shape[1:])))
    model(torch.randn(1, 1, 32, 16, dtype=torch.float64))
    assert sorted(met) == sorted([(4, 32, 16), (8, 16, 8), (16, 8, 4), (16, 4, 2)])


def test_blocks_act_on_what_the_decoder_gets_not_on_what_the_encoder_goes_on_with():
    model = made(levels=1)
    below = []
    model.down[0].register_forward_hook(lambda _m, _i, out: below.append(out))
    x = torch.randn(1, 1, 8, 8, dtype=torch.float64)
    y = model(x)
    with torch.no_grad():
        model.solve[0].tokens.add_(1.0)
    assert (model(x) - y).abs().max() > 1e-6
    assert torch.equal(*below)


@pytest.mark.parametrize("padding", ["zero", "reflect"])
def test_axes_with_ends_may_have_any_number_of_points(padding):
    """They are filled up to whole patches on every level, and what is not asked for is cut off."""
    model = made(levels=2, patch=3, padding=padding)
    x = torch.randn(1, 1, 25, 19, dtype=torch.float64)
    seen = []
    model.enter.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0]))
    assert model(x).shape == x.shape
    assert seen[0].shape[2:] == (36, 24)
    assert not seen[0][:, :, 25:].any()
    assert not seen[0][..., 19:].any()
    torch.testing.assert_close(seen[0][..., :25, :19], model.lifting(x))


def test_periodic_axes_must_be_filled_by_patches():
    with pytest.raises(
        ShapeError, match=r"LSM with levels=2, patch=2 and periodic padding expects multiples of 8.*\(1, 4, 16, 12\)"
    ):
        made(levels=2)(torch.randn(1, 1, 16, 12, dtype=torch.float64))
    mixed = made(levels=2, padding=("periodic", "zero"))
    assert mixed(torch.randn(1, 1, 16, 13, dtype=torch.float64)).shape == (1, 1, 16, 13)


def test_patches_are_where_they_are():
    """It commutes with shifts by whole patches of the coarsest grid, and with no smaller ones."""
    model, x = made(), torch.randn(1, 1, 16, 16, dtype=torch.float64)
    y = model(x)
    torch.testing.assert_close(model(x.roll(4, 2)).roll(-4, 2), y, rtol=0, atol=1e-12)
    assert (model(x.roll(2, 2)).roll(-2, 2) - y).abs().max() > 1e-4


def test_coordinates_say_where_a_point_is():
    model, x = made(coordinates=True), torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    coarse = model(x).unflatten(3, (2, 4)).unflatten(2, (2, 4)).mean((3, 5))
    assert coarse.std() > 1e-4
    assert model.lifting.in_channels == 3
    seen = []
    mixed = made(coordinates=True, padding=("periodic", "zero"))
    mixed.lifting.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0]))
    mixed(x)
    torch.testing.assert_close(seen[0][0, 1, :, 0], torch.arange(8, dtype=torch.float64) / 8)
    torch.testing.assert_close(seen[0][0, 2, 0], torch.linspace(0, 1, 8, dtype=torch.float64))
    without = made()(x).unflatten(3, (2, 4)).unflatten(2, (2, 4)).mean((3, 5))
    assert without.std() < 1e-12


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"hidden_channels": 6, "heads": 4}, "hidden_channels=6, heads=4.*divisible"),
        ({"levels": -1}, "levels=-1"),
        ({"num_dims": 4}, "num_dims=4"),
        ({"tokens": 0}, "tokens.*at least 1"),
    ],
)
def test_what_cannot_be_built_is_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        LSM(**wrong)
