"""Implicit Fourier neural operators."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from slipstream.errors import InputError
from slipstream.operators import IFNO


def moved(model: torch.nn.Module, size: float = 0.1) -> torch.nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=size)
    return model.double()


def make(**more) -> IFNO:
    return moved(IFNO(**{"n_modes": (6, 6), "hidden_channels": 6, "n_iterations": 4, **more}))


def spectrum_by_hand(layer: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The filter of a `SpectralConv` applied frequency by frequency, from its full transform."""
    weight = torch.complex(layer.weight[..., 0, :], layer.weight[..., 1, :])
    low = layer.n_modes[0] // 2
    z = torch.fft.rfft2(x, norm="forward")
    y = torch.zeros(x.shape[0], weight.shape[-1], *z.shape[2:], dtype=z.dtype)
    for a in range(-low, layer.n_modes[0] - low):
        for b in range(layer.n_modes[1] // 2 + 1):
            y[:, :, a, b] = z[:, :, a, b] @ weight[a + low, b]
    return torch.fft.irfft2(y, s=x.shape[2:], norm="forward")


def test_the_answer_is_what_the_formula_says():
    model, s = make(num_scalars=2), torch.randn(2, 2, dtype=torch.float64)
    x = torch.randn(2, 1, 16, 16, dtype=torch.float64)
    (rate,) = model.rates
    v = model.lifting(x)
    for i in range(4):
        y = spectrum_by_hand(rate.spectral, v) + torch.einsum("oi,bi...->bo...", rate.linear.weight, v)
        y = rate.modulation(y + rate.linear.bias[:, None], s)
        v = v + (F.gelu(y) if i < 3 else y) / 4
    torch.testing.assert_close(model(x, s), model.projection(v), rtol=0, atol=1e-11)


def test_iterations_are_eulers_method_first_order_in_their_number():
    model, x = make(n_iterations=512), torch.randn(1, 1, 16, 16, dtype=torch.float64)
    answers = {}
    for n in (8, 16, 32, 64, 512):
        model.n_iterations = n
        answers[n] = model(x)
    ns = torch.tensor([8.0, 16, 32, 64])
    errors = torch.stack([(answers[int(n)] - answers[512]).abs().max() for n in ns])
    # Against a reference of 512 iterations the error is c (1/n - 1/512).
    slopes = errors.log().diff() / (1 / ns - 1 / 512).log().diff()
    assert slopes.tolist() == pytest.approx([1, 1, 1], abs=0.15)


def test_depth_costs_no_parameters_when_shared():
    def count(n, shared):
        return sum(p.numel() for p in IFNO((4,), hidden_channels=4, n_iterations=n, shared=shared).parameters())

    layer = sum(p.numel() for p in IFNO((4,), hidden_channels=4).rates[0].parameters())
    assert count(20, True) == count(1, True) == count(1, False)
    assert count(5, False) == count(1, True) + 4 * layer


def test_layers_of_their_own_that_happen_to_be_equal_are_one_shared_layer():
    shared, own = make(), make(shared=False)
    rate = {f"rates.{i}.{k}": v for i in range(4) for k, v in shared.rates[0].state_dict().items()}
    rest = {k: v for k, v in shared.state_dict().items() if not k.startswith("rates")}
    own.load_state_dict(rate | rest)
    x = torch.randn(2, 1, 9, 12, dtype=torch.float64)
    assert torch.equal(own(x), shared(x))


@pytest.mark.parametrize("padding", ["periodic", "reflect", ("zero", "periodic")])
def test_the_form_changes_nothing_but_the_speed(padding):
    model, x = make(padding=padding), torch.randn(2, 1, 15, 16, dtype=torch.float64)
    y = model(x)
    model.form = "dft"
    assert model.form == "dft"
    torch.testing.assert_close(model(x), y, rtol=0, atol=1e-11)


def test_only_the_periodic_axis_commutes_with_shifts():
    model = make(padding=("periodic", "reflect"))
    x = torch.randn(1, 1, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(model(x.roll(3, 2)).roll(-3, 2), model(x), rtol=0, atol=1e-12)
    assert (model(x.roll(3, 3)).roll(-3, 3) - model(x)).abs().max() > 1e-5


def test_what_cannot_be_built_or_iterated_is_refused():
    with pytest.raises(InputError, match=r"n_modes=\(16, 16\) for 2 axes, but num_dims=3"):
        IFNO(num_dims=3)
    with pytest.raises(InputError, match="n_iterations"):
        IFNO(n_iterations=0)
    with pytest.raises(InputError, match="iterated 5 times: expected 4"):
        make(shared=False).n_iterations = 5
    with pytest.raises(InputError, match="iterated 0 times: expected at least 1"):
        make().n_iterations = 0
