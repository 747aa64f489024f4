"""Spectral convolutions: two forms of one filter, and the filter is one of functions."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from slipstream.errors import InputError
from slipstream.grids import Grid, resample
from slipstream.operators.layers import SpectralConv, fourier

GRIDS = [
    ((8,), (16,)),
    ((8,), (8,)),  # the highest kept mode is the grid's highest
    ((9,), (7,)),  # fewer points than modes
    ((6, 8), (12, 16)),
    ((6, 8), (6, 8)),
    ((5, 4), (16, 9)),
    ((6, 8), (5, 7)),
    ((1, 1), (8, 8)),
    ((4, 6, 4), (8, 7, 6)),
    ((4, 6, 5), (3, 4, 9)),
]


def filtered(conv: SpectralConv, x: Tensor) -> Tensor:
    """The definition, one mode at a time, on the whole spectrum."""
    space, dims = x.shape[2:], tuple(range(2, x.ndim))
    spectrum = torch.fft.rfftn(x, dim=dims)
    result = torch.zeros(x.shape[0], conv.out_channels, *spectrum.shape[2:], dtype=spectrum.dtype)
    weight = torch.complex(conv.weight.select(-2, 0), conv.weight.select(-2, 1))
    ranges = [range(-(m // 2), (m + 1) // 2) for m in conv.n_modes[:-1]] + [range(conv.n_modes[-1] // 2 + 1)]
    for mode in itertools.product(*ranges):
        if (
            all(-(n // 2) <= k <= (n - 1) // 2 for k, n in zip(mode[:-1], space, strict=False))
            and mode[-1] <= space[-1] // 2
        ):
            place = tuple(k + m // 2 for k, m in zip(mode[:-1], conv.n_modes, strict=False))
            result[:, :, *mode] = spectrum[:, :, *mode] @ weight[*place, mode[-1]]
    return torch.fft.irfftn(result, s=space, dim=dims)


def make(n_modes, form="fft") -> SpectralConv:
    return SpectralConv(3, 2, n_modes, form).double()


@pytest.mark.parametrize("form", ["fft", "dft"])
@pytest.mark.parametrize(("n_modes", "space"), GRIDS)
def test_both_forms_are_the_filter_that_the_definition_says(n_modes, space, form):
    conv, x = make(n_modes, form), torch.randn(4, 3, *space, dtype=torch.float64)
    torch.testing.assert_close(conv(x), filtered(conv, x), rtol=0, atol=1e-13)


@pytest.mark.parametrize("form", ["fft", "dft"])
@pytest.mark.parametrize(("n_modes", "space"), GRIDS)
def test_what_it_is_given_to_add_to_is_added(n_modes, space, form):
    conv, x = make(n_modes, form), torch.randn(4, 3, *space, dtype=torch.float64)
    base = torch.randn(4, 2, *space, dtype=torch.float64)
    torch.testing.assert_close(conv(x, base.clone()), conv(x) + base, rtol=0, atol=1e-13)


def test_the_forms_agree_to_single_precision():
    conv, x = SpectralConv(8, 8, (16, 16)), torch.randn(2, 8, 64, 64)
    fft = conv(x)
    conv.form = "dft"
    assert (conv(x) - fft).abs().max() / fft.abs().max() < 1e-6


@pytest.mark.parametrize("form", ["fft", "dft"])
@pytest.mark.parametrize(("n_modes", "space"), [((5,), (6,)), ((4, 3), (4, 5)), ((2, 2, 3), (3, 2, 4))])
def test_gradients_agree_with_finite_differences(n_modes, space, form):
    conv = SpectralConv(2, 2, n_modes, form).double()
    x = torch.randn(2, 2, *space, dtype=torch.float64, requires_grad=True)
    base = torch.randn(2, 2, *space, dtype=torch.float64, requires_grad=True)
    weight = conv.weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, b, w: torch.func.functional_call(conv, {"weight": w}, (x, b.clone())), (x, base, weight)
    )


@pytest.mark.parametrize("form", ["fft", "dft"])
@pytest.mark.parametrize("points", [(7, 9), (8, 10), (12, 12), (16, 15), (32, 64)])
def test_a_band_limited_field_gives_the_same_function_on_every_grid(form, points):
    conv, smallest = make((12, 10), form), Grid.box((7, 9))
    x = resample(torch.randn(2, 3, 7, 9, dtype=torch.float64), smallest, Grid.box((48, 50)))
    fine = conv(x)
    here = Grid.box(points)
    answer = conv(resample(x, Grid.box((48, 50)), here))
    torch.testing.assert_close(resample(answer, here, Grid.box((48, 50))), fine, rtol=0, atol=1e-13)


@pytest.mark.parametrize("form", ["fft", "dft"])
def test_content_beyond_the_kept_modes_is_dropped_and_not_folded_back(form):
    conv = make((4, 4), form)
    grid = Grid.box(16, num_dims=2)
    x, y = grid.coordinates(torch.float64)
    waves = torch.stack([torch.cos(3 * x), torch.sin(5 * y), torch.cos(2 * x + 3 * y)])[None]
    assert conv(waves).abs().max() < 1e-13


def test_tables_made_in_inference_serve_training_later():
    conv, x = make((4, 4), "dft"), torch.randn(1, 3, 10, 14, dtype=torch.float64)
    with torch.inference_mode():
        conv(x)
    conv(x).sum().backward()
    assert conv.weight.grad.isfinite().all()


def test_exporting_leaves_nothing_behind_that_a_later_call_would_use():
    conv, x = make((4, 4), "dft"), torch.randn(1, 3, 10, 22, dtype=torch.float64)
    program = torch.export.export(conv, (x,))
    assert type(conv(x)) is torch.Tensor
    torch.testing.assert_close(
        program.module()(x), conv(x), rtol=0, atol=1e-14
    )  # to rounding: buffers may be aligned otherwise


def test_tables_are_marked_as_constants_in_the_compiler_s_own_way():
    marked = torch.compiler.assume_constant_result(lambda: None)
    assert vars(marked).items() <= vars(fourier._build).items()
    assert vars(marked)


COMPILED = """
import torch
from slipstream.operators.layers import SpectralConv
for form in ("fft", "dft"):
    conv = SpectralConv(3, 2, (4, 4), form).double()
    compiled = torch.compile(conv, fullgraph=True, backend="eager")
    for batch, points in ((1, (8, 8)), (2, (12, 9)), (3, (16, 10))):
        x = torch.randn(batch, 3, *points, dtype=torch.float64)
        torch.testing.assert_close(compiled(x), conv(x), rtol=0, atol=1e-13)
print("equal")
"""


@pytest.mark.slow
def test_one_compiled_layer_serves_several_grids():
    """In a process of its own: the compiler does not see through annotations that are checked at run time."""
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True)
    assert done.stdout.strip() == "equal", done.stderr


def test_the_dft_form_has_no_complex_number_in_its_graph():
    program = torch.export.export(make((4, 6), "dft"), (torch.randn(1, 3, 8, 8, dtype=torch.float64),))
    values = [n.meta["val"] for n in program.graph.nodes if "val" in n.meta]
    assert len(values) > 10
    assert not any(v.is_complex() for v in values if isinstance(v, torch.Tensor))


def test_unknown_forms_and_empty_modes_are_refused():
    with pytest.raises((InputError, TypeError), match="wavelet"):  # TypeError where annotations are checked
        SpectralConv(1, 1, (4,), "fft").form = "wavelet"
    with pytest.raises(InputError, match="one positive number an axis"):
        SpectralConv(1, 1, (4, 0))
