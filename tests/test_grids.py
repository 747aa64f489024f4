"""Grids: where points lie, and how fields are carried between them."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from slipstream.errors import InputError, ShapeError
from slipstream.grids import Axis, Grid, resample


@pytest.mark.parametrize(("periodic", "centred"), [(True, True), (False, True), (False, False)])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_weights_sum_to_the_volume(periodic, centred, dims):
    grid = Grid.box(9, [1.0, 2.0, 0.5][:dims], periodic=periodic, centred=centred)
    assert float(grid.cell_weights(torch.float64).sum()) == pytest.approx(grid.volume)


def test_periodic_axes_hold_their_left_end_and_others_both_or_none():
    assert Axis("x", 4, 1.0, 2.0).coordinates().tolist() == [1.0, 1.5, 2.0, 2.5]
    assert Axis("x", 4, 0.0, 2.0, periodic=False).coordinates().tolist() == [0.25, 0.75, 1.25, 1.75]
    assert Axis("x", 5, 0.0, 2.0, periodic=False, centred=False).coordinates().tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]


def test_wavenumbers_differentiate_a_wave():
    grid = Grid.box([8, 12], [2.0, 3.0])
    x, y = grid.coordinates(torch.float64)
    u = torch.sin(2 * math.pi * 2 * x / 2.0) * torch.cos(2 * math.pi * 3 * y / 3.0)
    kx, ky = grid.wavenumbers(torch.float64)
    laplace = torch.fft.irfft2(-(kx**2 + ky**2) * torch.fft.rfft2(u), s=grid.shape)
    assert torch.allclose(laplace, -((2 * math.pi * 2 / 2.0) ** 2 + (2 * math.pi * 3 / 3.0) ** 2) * u)


def band_limited(grid: Grid, highest: int, generator: torch.Generator) -> torch.Tensor:
    """A random trigonometric polynomial, as a function of the grid it is sampled on."""
    a, b, c = torch.randn(3, highest + 1, highest + 1, generator=generator, dtype=torch.float64)
    x, y = (2 * math.pi * q / e for q, e in zip(grid.coordinates(torch.float64), grid.extent, strict=True))
    k = torch.arange(highest + 1, dtype=torch.float64)[:, None, None]
    return (
        torch.einsum("ij,ixy,jxy->xy", a, torch.cos(k * x), torch.cos(k * y))
        + torch.einsum("ij,ixy,jxy->xy", b, torch.sin(k * x), torch.cos(k * y))
        + torch.einsum("ij,ixy,jxy->xy", c, torch.cos(k * x), torch.sin(k * y))
    )


@settings(max_examples=25, deadline=None)
@given(m=st.integers(9, 20), n=st.integers(9, 20), seed=st.integers(0, 9))
def test_pointwise_resampling_is_exact_for_band_limited_fields(m, n, seed):
    source, target = Grid.box([m, m], [1.0, 2.0]), Grid.box([n, n], [1.0, 2.0])
    u = band_limited(source, 4, torch.Generator().manual_seed(seed))
    expected = band_limited(target, 4, torch.Generator().manual_seed(seed))
    assert torch.allclose(resample(u, source, target), expected, atol=1e-10)
    assert torch.allclose(resample(u, source, target, "truncate"), expected, atol=1e-10)


def test_pointwise_resampling_downwards_takes_every_second_point():
    grid = Grid.box(8, num_dims=2)
    u = torch.randn(3, 8, 8)
    assert torch.equal(resample(u, grid, grid.coarsen(2)), u[:, ::2, ::2])


def test_truncation_drops_what_would_alias():
    grid = Grid.box(16)
    u = torch.cos(7 * grid.coordinates()[0])
    assert resample(u, grid, grid.with_points(8), "truncate").abs().max() < 1e-5
    assert resample(u, grid, grid.with_points(8), "pointwise").abs().max() > 0.9


@pytest.mark.parametrize(("m", "n"), [(12, 4), (4, 12), (8, 4)])
def test_conservative_resampling_keeps_the_integral(m, n):
    source, target = Grid.box([m, m], periodic=False), Grid.box([n, n], periodic=False)
    u = torch.randn(2, m, m, dtype=torch.float64)
    v = resample(u, source, target, "conservative")
    total = [(f * g.cell_weights(torch.float64)).sum((-1, -2)) for f, g in ((u, source), (v, target))]
    assert torch.allclose(*total)


@pytest.mark.parametrize("centred", [True, False])
def test_linear_resampling_is_exact_for_linear_fields(centred):
    source, target = (Grid.box(n, 1.0, periodic=False, centred=centred) for n in (8, 5))
    x = source.coordinates(torch.float64)[0]
    assert torch.allclose(resample(3 * x + 1, source, target), 3 * target.coordinates(torch.float64)[0] + 1)


def test_what_does_not_fit_is_refused():
    grid = Grid.box(8, num_dims=2)
    with pytest.raises(ShapeError, match=r"8, 8.*4, 4"):
        grid.check(torch.zeros(1, 4, 4), "FNO")
    with pytest.raises(InputError, match="one box"):
        resample(torch.zeros(8, 8), grid, Grid.box(8, 1.0, num_dims=2))
    with pytest.raises(InputError, match="periodic"):
        Grid.box(8, periodic=False).wavenumbers()
    with pytest.raises(ShapeError, match="not divisible"):
        grid.coarsen(3)
    with pytest.raises(InputError, match="extent"):
        Axis("x", 4, extent=-1.0)


def test_a_grid_without_axes_is_one_point():
    nowhere = Grid(())
    assert (nowhere.shape, nowhere.size, nowhere.num_dims, nowhere.volume) == ((), 1, 0, 1)
    assert float(nowhere.cell_weights()) == 1
    assert nowhere.coordinates().numel() == 0
    assert nowhere.with_points([]) == nowhere == nowhere.refine()
    u = torch.randn(2, 3)
    nowhere.check(u, "a test")
    assert resample(u, nowhere, nowhere) is u
    assert not nowhere.same_box(Grid.box(8))
