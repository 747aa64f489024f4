"""Fourier neural operators."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from slipstream.errors import InputError
from slipstream.operators import FNO
from slipstream.operators.layers import Pointwise, SpectralConv


def moved(model: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model.double()


@pytest.mark.parametrize("points", [(16, 16), (15, 17), (5, 7)])
@pytest.mark.parametrize("padding", ["periodic", "reflect", ("zero", "periodic")])
def test_the_form_changes_nothing_but_the_speed(points, padding):
    model = moved(FNO(n_modes=(6, 6), hidden_channels=8, padding=padding, coordinates=True))
    x = torch.randn(2, 1, *points, dtype=torch.float64)
    y = model(x)
    model.form = "dft"
    assert all(m.form == "dft" for m in model.modules() if isinstance(m, SpectralConv))
    torch.testing.assert_close(model(x), y, rtol=0, atol=1e-11)


def test_a_changed_form_is_saved_with_the_model(tmp_path):
    model = FNO(n_modes=(4,), hidden_channels=4)
    model.form = "dft"
    assert FNO.from_pretrained(model.save_pretrained(tmp_path)).form == "dft"


def test_one_block_is_what_its_formula_says():
    model = moved(FNO(n_modes=(4, 4), hidden_channels=6, n_layers=2, channel_mlp_expansion=0.5))
    x = torch.randn(2, 6, 8, 8, dtype=torch.float64)

    def at_points(layer: Pointwise, u: torch.Tensor) -> torch.Tensor:
        return F.conv2d(u, layer.weight[..., None, None], layer.bias[:, 0])

    for block, act in zip(model.blocks, (F.gelu, lambda u: u), strict=True):
        y = act(block.spectral(x) + at_points(block.linear, x))
        y = act(at_points(block.mlp.second, F.gelu(at_points(block.mlp.first, y))) + block.gate * x)
        torch.testing.assert_close(block(x), y, rtol=0, atol=1e-12)


def test_only_the_periodic_axis_commutes_with_shifts():
    model = moved(FNO(n_modes=(4, 4), hidden_channels=4, padding=("periodic", "reflect")))
    x = torch.randn(1, 1, 16, 16, dtype=torch.float64)
    y = model(x)
    torch.testing.assert_close(model(x.roll(3, 2)).roll(-3, 2), y, rtol=0, atol=1e-12)
    assert (model(x.roll(3, 3)).roll(-3, 3) - y).abs().max() > 1e-5


@pytest.mark.parametrize("points", [(16, 16), (9, 13)])
@pytest.mark.parametrize("padding", ["periodic", "zero", "reflect"])
def test_without_filters_every_point_keeps_to_itself(padding, points):
    model = moved(FNO(n_modes=(4, 4), hidden_channels=4, padding=padding))
    for block in model.blocks:
        torch.nn.init.zeros_(block.spectral.weight)
    x = torch.randn(1, 1, *points, dtype=torch.float64, requires_grad=True)
    y = model(x)
    assert y.shape == x.shape
    (seen,) = torch.autograd.grad(y[0, 0, 2, 5], x)
    assert seen.nonzero().tolist() == [[0, 0, 2, 5]]


def test_coordinates_say_where_a_point_is():
    model, x = (
        moved(FNO(n_modes=(4, 4), hidden_channels=4, coordinates=True)),
        torch.zeros(1, 1, 8, 8, dtype=torch.float64),
    )
    y = model(x)
    assert min(y.std(2).min(), y.std(3).min()) > 1e-4


def test_axes_and_modes_must_agree():
    with pytest.raises(InputError, match=r"n_modes=\(16, 16\) for 2 axes, but num_dims=3.*n_modes=\(16, 16, 16\)\."):
        FNO(num_dims=3)
    assert FNO(n_modes=(4, 4, 4), num_dims=3).num_dims == 3
    assert FNO(n_modes=[4]).num_dims == 1


@pytest.mark.parametrize(
    "wrong", [{"in_channels": 0}, {"hidden_channels": 0}, {"n_layers": 0}, {"lifting_channel_ratio": 0.0}]
)
def test_counts_below_one_are_refused(wrong):
    with pytest.raises(InputError, match=f"{next(iter(wrong))}.*at least 1"):
        FNO(n_modes=(4,), **wrong)


def test_the_dft_form_computes_the_same_in_onnxruntime(tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    model, x = FNO(n_modes=(6, 6), hidden_channels=8, form="dft").eval(), torch.randn(2, 1, 16, 16)
    torch.onnx.export(model, (x,), tmp_path / "fno.onnx", dynamo=True, verbose=False)
    session = runtime.InferenceSession(tmp_path / "fno.onnx", providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(y), model(x), rtol=1e-5, atol=1e-5)
