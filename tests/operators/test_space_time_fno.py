"""Fourier neural operators in space and time, and their use by callers that stack frames."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from slipstream.errors import InputError, ShapeError
from slipstream.operators import Folded, SpaceTimeFNO
from slipstream.operators.layers import SpectralConv
from slipstream.operators.layers.projection import without_divergence

F64 = torch.float64
SMALL = {"n_modes": (6, 6, 4), "hidden_channels": 6, "n_layers": 2, "latent_steps": 6}


def moved(model: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model.double()


def make(**more) -> SpaceTimeFNO:
    return moved(SpaceTimeFNO(**{**SMALL, **more}))


def frames(count: int, points: int = 8, channels: int = 1, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, channels, points, points, count, dtype=F64)


@pytest.mark.parametrize("form", ["fft", "dft"])
@pytest.mark.parametrize(("given", "wanted"), [((8,), (12,)), ((9,), (5,)), ((8, 10), (8, 7)), ((6, 5, 8), (9, 5, 4))])
def test_a_filter_gives_the_same_function_on_other_points(form, given, wanted):
    """The result on one grid, a trigonometric polynomial, is evaluated at the points of the other by hand."""
    layer = SpectralConv(2, 3, (4,) * len(given), form).double()
    x = torch.randn(2, 2, *given, dtype=F64)
    y = layer(x, space=wanted)
    assert y.shape == (2, 3, *wanted)
    # A grid that resolves all modes strictly tells the function; where the coarser one does not, its modes are the fewer.
    limit = [math.inf if n == m else (min(n, m) - 1) // 2 for n, m in zip(given, wanted, strict=True)]
    x_hat = torch.fft.fftn(x, dim=tuple(range(2, x.ndim)), norm="forward")
    for axis, (n, top) in enumerate(zip(given, limit, strict=True)):
        k = torch.fft.fftfreq(n, 1 / n).round().abs()
        x_hat = x_hat * (k <= top).reshape([-1 if i == axis else 1 for i in range(len(given))])
    filtered = layer(torch.fft.ifftn(x_hat, dim=tuple(range(2, x.ndim)), norm="forward").real)
    z = torch.fft.fftn(filtered, dim=tuple(range(2, x.ndim)), norm="forward")
    for axis, (n, m) in enumerate(zip(given, wanted, strict=True)):
        if n == m:  # the wave at the highest frequency is no polynomial of the others: leave the axis alone
            z = torch.fft.ifft(z, dim=axis + 2, norm="forward")
            continue
        k = torch.fft.fftfreq(n, 1 / n).round().to(F64)
        at = torch.arange(m, dtype=F64) / m
        waves = torch.exp(2j * math.pi * at[:, None] * k)
        z = torch.einsum("mk,...k->...m", waves, z.movedim(axis + 2, -1)).movedim(-1, axis + 2)
    torch.testing.assert_close(y, z.real, rtol=0, atol=1e-11)


@pytest.mark.parametrize(("came", "wanted"), [(5, 10), (10, 40), (20, 1), (1, 3)])
@pytest.mark.parametrize("points", [8, 12])
def test_the_same_weights_take_and_give_any_number_of_frames(came, wanted, points):
    model = make()
    assert model(frames(came, points), steps=wanted).shape == (2, 1, points, points, wanted)
    assert model(frames(came, points)).shape == (2, 1, points, points, came)
    model.out_steps = 7
    assert model(frames(came, points)).shape[-1] == 7


@pytest.mark.parametrize("zero_padding", [True, False])
def test_more_frames_come_between_the_same_ones(zero_padding):
    model, x = make(zero_padding=zero_padding), frames(5)
    y = model(x, steps=5)
    torch.testing.assert_close(model(x, steps=11)[..., 1::2], y, rtol=0, atol=1e-12)
    torch.testing.assert_close(model(x, steps=17)[..., 2::3], y, rtol=0, atol=1e-12)


def test_a_finer_grid_in_space_gives_the_same_function():
    model = make()

    def field(n: int) -> torch.Tensor:
        a, b = torch.meshgrid(*[2 * math.pi * torch.arange(n, dtype=F64) / n] * 2, indexing="ij")
        return torch.stack([torch.sin(a + 0.3 * t) + torch.cos(b - a + t) for t in range(4)], -1)[None, None]

    model.coordinates = False
    model.lifting = moved(type(model.lifting)(1 + model.time_features, 6))
    answers = {n: model(field(n))[:, :, :: n // 8, :: n // 8] for n in (8, 16, 32, 64)}
    errors = [(answers[n] - answers[64]).abs().max() for n in (8, 16, 32)]
    assert errors[1] < 0.2 * errors[0]
    assert errors[2] < 0.02 * errors[1]


def test_a_block_is_what_its_formula_says_and_carries_the_last_frame_where_frames_change():
    model, s = make(num_scalars=1), torch.randn(2, 1, dtype=F64)
    block = model.blocks[0]
    v = torch.randn(2, 6, 8, 8, 5, dtype=F64)
    same = F.gelu(block.modulation(block.mlp(block.spectral(v)), s) + block.linear(v))
    torch.testing.assert_close(block(v, s), same, rtol=0, atol=1e-12)
    filtered = block.mlp(block.spectral(v, space=(8, 8, 9)))
    changed = F.gelu(block.modulation(filtered, s) + block.linear(v)[..., -1:])
    torch.testing.assert_close(block(v, s, 9), changed, rtol=0, atol=1e-12)


def test_without_its_last_layer_it_is_persistence():
    model, x = make(), frames(4)
    for layer in (model.last, model.added):
        torch.nn.init.zeros_(layer.weight)
    torch.testing.assert_close(model(x, steps=3), x[..., -1:].expand(-1, -1, -1, -1, 3), rtol=0, atol=0)
    model.residual = False
    assert not model(x, steps=3).any()


def test_what_is_added_has_no_waves_beyond_the_modes():
    model, x = make(), frames(4, points=16)
    added = torch.fft.fft2(model(x) - x[..., -1:], dim=(2, 3)).abs()
    beyond = torch.fft.fftfreq(16).abs() * 16 > 3
    assert added[:, :, beyond].max() < 1e-10
    assert added[:, :, :, beyond].max() < 1e-10
    assert added[:, :, 1:3, 1:3].min() > 1e-4


def test_the_last_layer_is_affine_in_its_parameters():
    """What makes the residual of a linear equation, and one Newton step of any, a convex problem."""
    model, x = make(), frames(4)
    latent, latest = model.encode(x), x[..., -1:]

    def answer(last, added):
        with torch.no_grad():
            model.last.weight.copy_(last)
            model.added.weight.copy_(added)
            return model.decode(latent, latest, 5)

    one, two = ([torch.randn_like(p) for p in (model.last.weight, model.added.weight)] for _ in range(2))
    between = [0.3 * a + 0.7 * b for a, b in zip(one, two, strict=True)]
    torch.testing.assert_close(answer(*between), 0.3 * answer(*one) + 0.7 * answer(*two), rtol=0, atol=1e-11)


def test_the_source_is_a_field_with_its_weights_as_coefficients():
    model, x = make(source=0.5, residual=False), frames(4)
    torch.nn.init.zeros_(model.last.weight)
    y = model(x, steps=6)
    w = torch.complex(model.added.weight[..., 0, 0, 0], model.added.weight[..., 0, 1, 0])  # (6, 6, 3)
    expected = torch.zeros(8, 8, 14, dtype=F64)
    axes = [torch.arange(n, dtype=F64) / n for n in (8, 8, 14)]
    for a in range(-3, 3):
        for b in range(-3, 3):
            for c in range(3):
                phase = sum(k * t for k, t in zip((a, b, c), torch.meshgrid(*axes, indexing="ij"), strict=True))
                wave = w[a + 3, b + 3, c] * torch.exp(2j * math.pi * phase)
                expected += (1.0 if c == 0 else 2.0) * wave.real
    torch.testing.assert_close(y[0, 0], 0.5 * expected[..., -6:], rtol=0, atol=1e-11)
    assert SpaceTimeFNO(**SMALL, source=0.0).added is None


def test_zeros_keep_the_ends_of_time_apart():
    """Without them the last layer is cyclic: the end of the horizon speaks to its start as if it came just before."""
    for padded in (False, True):
        model = make(zero_padding=padded, source=0.0, residual=False, n_modes=(4, 4, 30), latent_steps=6)
        latent, latest = torch.randn(1, 1, 8, 8, 6, dtype=F64), torch.zeros(1, 1, 8, 8, 1, dtype=F64)
        latent[..., -1] = 0  # so that frames may be rolled by one, with the zero in front
        y = model.decode(latent, latest, 6)
        rolled = model.decode(latent.roll(1, -1), latest, 6)
        torch.testing.assert_close(rolled[..., 1:], y[..., :-1], rtol=0, atol=1e-11)
        spike = torch.zeros_like(latent)
        spike[..., -1] = 1
        start = torch.zeros_like(latent)
        start[..., 0] = 1
        # One frame later than the last is the first again (of 7 with the latest), if time is a circle.
        last, first = model.decode(spike, latest, 6), model.decode(start, latest, 6)
        circle = (last[..., :4] - first[..., 2:6]).abs().max()
        assert (circle < 1e-11) == (not padded)


@pytest.mark.parametrize(
    ("coordinates", "source", "commutes"), [(False, 0.0, True), (True, 0.0, False), (False, 0.1, False)]
)
def test_it_commutes_with_shifts_in_space_unless_something_in_it_has_a_place(coordinates, source, commutes):
    model, x = make(coordinates=coordinates, source=source), frames(4)
    shifted = model(x.roll((3, 5), (2, 3))).roll((-3, -5), (2, 3))
    assert ((shifted - model(x)).abs().max() < 1e-11) == commutes


def test_time_features_are_waves_that_grow():
    model = make(time_features=3, growth=2.0, coordinates=False)
    (waves,) = model._features(frames(5))
    t = torch.arange(1, 6, dtype=F64) / 100
    for k, wave in enumerate((torch.sin(math.pi * t), torch.cos(2 * math.pi * t), torch.sin(3 * math.pi * t))):
        torch.testing.assert_close(waves[1, k, 3, 4], torch.exp(2 * t) * wave)


def test_normalised_within_it_forgives_the_scale_of_the_data():
    x = frames(4)
    for norm in (True, False):
        model = make(norm=norm, time_features=0, coordinates=False)
        torch.nn.init.zeros_(model.lifting.bias)
        far = (model.encode(1e3 * x) - model.encode(x)).abs().max()
        assert (far < 1e-6) == norm  # up to the eps of the norm


@pytest.mark.parametrize("shape", [(8, 9), (6, 8, 7)])
def test_a_projection_leaves_no_divergence_and_what_has_none_alone(shape):
    extent = [1.0, 2.0, 0.5][: len(shape)]
    u = torch.randn(2, len(shape), *shape, 4, dtype=F64)
    v = without_divergence(u, extent)
    divergence = torch.zeros(2, *shape, 4, dtype=F64)
    for i, (n, length) in enumerate(zip(shape, extent, strict=True)):
        k = 2 * math.pi / length * torch.fft.fftfreq(n, 1 / n, dtype=F64)
        if n % 2 == 0:
            k[n // 2] = 0
        dim = i + 1
        hat = torch.fft.fft(v[:, i], dim=dim) * (1j * k).reshape([-1 if j == dim else 1 for j in range(v.ndim - 1)])
        divergence += torch.fft.ifft(hat, dim=dim).real
    assert divergence.abs().max() < 1e-11 * u.abs().max() * 100
    torch.testing.assert_close(without_divergence(v, extent), v, rtol=0, atol=1e-12)
    assert ((u - v) * v).sum().abs() < 1e-9  # orthogonal
    assert (u - v).abs().max() > 0.1


def test_what_the_last_layer_adds_may_be_free_of_divergence():
    model = make(in_channels=2, out_channels=2, extent=(1.0, 2.0))
    x = frames(4, channels=2)
    change = model(x, steps=3) - x[..., -1:]
    torch.testing.assert_close(without_divergence(change, (1.0, 2.0)), change, rtol=0, atol=1e-12)
    free = make(in_channels=2, out_channels=2)
    change = free(x, steps=3) - x[..., -1:]
    assert (without_divergence(change, (1.0, 2.0)) - change).abs().max() > 1e-3


@pytest.mark.parametrize(("history", "horizon", "fixed"), [(3, 2, 1), (1, 4, 0)])
def test_folded_frames_are_the_frames_of_the_operator_within(history, horizon, fixed):
    model = moved(
        Folded(
            partial(SpaceTimeFNO, **SMALL),
            history,
            horizon,
            in_channels=2 * history + fixed,
            out_channels=2 * horizon,
            num_scalars=1,
        )
    )
    past, still = torch.randn(2, history, 2, 8, 8, dtype=F64), torch.randn(2, fixed, 8, 8, dtype=F64)
    s = torch.randn(2, 1, dtype=F64)
    y = model(torch.cat([past.flatten(1, 2), still], 1), s).unflatten(1, (horizon, 2))
    x = torch.stack([torch.cat([past[:, i], still], 1) for i in range(history)], -1)
    inside = model.inner(x, s, steps=horizon)
    for k in range(horizon):
        torch.testing.assert_close(y[:, k], inside[..., k], rtol=0, atol=1e-12)


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match=r"n_modes=\(16, 16, 8\) for 3 axes, time the last, but num_dims=2"):
        SpaceTimeFNO(num_dims=2)
    with pytest.raises(InputError, match="latent_steps"):
        SpaceTimeFNO(latent_steps=0)
    with pytest.raises(InputError, match="free of divergence"):
        SpaceTimeFNO(extent=(1.0, 1.0))
    with pytest.raises(ShapeError, match="asked for 0 frames"):
        make()(frames(2), steps=0)
    with pytest.raises(InputError, match="out_channels=3 for history=2, horizon=2"):
        Folded(partial(SpaceTimeFNO, **SMALL), 2, 2, 4, 3)
    with pytest.raises(InputError, match="at least history x channels"):
        Folded(partial(SpaceTimeFNO, **SMALL), 2, 1, 1, 1)
