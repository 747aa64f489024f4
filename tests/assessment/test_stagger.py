"""Stagger diagnostics: what they see of sub-solvers that drift apart, and what they leave alone."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from slipstream.assessment import verify
from slipstream.assessment.spectra import energy_spectrum
from slipstream.assessment.stagger import jitter_ratio, stagger_harmonics, suggest_factor, temporal_jitter
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.operators import UNet
from slipstream.problems import KolmogorovFlow
from slipstream.steppers import Autoregressive, Staggered
from slipstream.steppers.staggered import merge, split


def field(grid, highest=5):
    """Smooth, with waves up to `highest` along an axis."""
    x = grid.coordinates(torch.float64)
    return sum(torch.cos(k * x[0] + (k % 3) * x[-1] + k) / k for k in range(1, highest + 1))[None, None, None]


@pytest.mark.parametrize(
    ("shape", "factors"), [((32, 32), (2, 2)), ((32, 48), (2, 4)), ((32,), (2,)), ((30, 36), (3, 2))]
)
def test_all_the_energy_of_a_smooth_drift_between_parts_is_in_the_harmonics(shape, factors):
    """Add to each part a smooth field of its own, mean zero over the parts: exactly its energy shows."""
    grid = Grid.box(shape)
    u = field(grid)
    coarse = grid.with_points([n // s for n, s in zip(shape, factors, strict=True)])
    number = int(torch.tensor(factors).prod())
    weights = torch.randn(number, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = weights - weights.mean(0)
    x = coarse.coordinates(torch.float64)
    parts = split(u, factors).clone()
    drift = weights[:, 0, None] * torch.cos(x[0]).flatten() + weights[:, 1, None] * torch.sin(2 * x[-1]).flatten()
    drift = drift.reshape(number, 1, 1, 1, *coarse.shape)
    apart = merge(parts + drift, factors)
    assert float(stagger_harmonics(u, grid, factors)) < 1e-20
    expected = (apart - u).square().mean() / apart.square().mean()
    assert float(stagger_harmonics(apart, grid, factors)) == pytest.approx(float(expected), rel=0.2)


def test_harmonics_count_the_halved_axis_like_the_other():
    grid = Grid.box((32, 32))
    x, y = grid.coordinates(torch.float64)
    for wave in (torch.cos(16 * x), torch.cos(15 * y), torch.cos(14 * x + 14 * y)):
        assert float(stagger_harmonics(wave[None, None, None], grid, (2, 2))) == pytest.approx(1.0)
    for wave in (torch.cos(13 * x), torch.cos(2 * y), torch.cos(16 * x + 5 * y)):
        assert float(stagger_harmonics(wave[None, None, None], grid, (2, 2))) == pytest.approx(0.0, abs=1e-20)


def test_nothing_is_found_where_nothing_is_split():
    grid = Grid.box((16, 16))
    assert float(stagger_harmonics(torch.randn(1, 1, 1, 16, 16), grid, (1, 1))) == 0.0
    with pytest.raises(InputError, match="next"):
        stagger_harmonics(torch.randn(1, 1, 1, 16, 16), grid, (4, 4))
    with pytest.raises(InputError, match="periodic"):
        stagger_harmonics(torch.randn(1, 1, 1, 16), Grid.box(16, periodic=False), (2,))


def test_jitter_is_the_second_difference_and_sees_two_chains_apart():
    t = torch.arange(12.0, dtype=torch.float64)[None, :, None, None]
    line = (1 + 2 * t).expand(2, 12, 1, 8)
    assert torch.allclose(temporal_jitter(line), torch.zeros(2, 10, dtype=torch.float64), atol=1e-12)
    curve = line + 0.5 * 0.1 * t**2
    assert torch.allclose(temporal_jitter(curve), torch.full((2, 10), 0.1, dtype=torch.float64))
    apart = curve.clone()
    apart[:, 1::2] += 0.05
    assert jitter_ratio(curve, curve) == pytest.approx(1.0)
    assert jitter_ratio(apart, curve) == pytest.approx(2**0.5)  # 0 and 0.2 by turns
    with pytest.raises(InputError, match="three frames"):
        temporal_jitter(curve[:, :2])


@pytest.mark.parametrize(("highest", "expected"), [(3, 8), (5, 4), (7, 4), (9, 2), (15, 2), (17, 1)])
def test_the_largest_factor_whose_parts_resolve_the_waves(highest, expected):
    grid = Grid.box(64, num_dims=2)
    x = grid.coordinates(torch.float64)
    _, energy = energy_spectrum(torch.cos(highest * x[0]) + torch.sin(x[1]), grid)
    assert suggest_factor(energy, grid) == expected
    assert suggest_factor(energy, grid, tolerance=1.0) == 16


def test_the_report_of_a_staggered_solver_says_whether_it_keeps_together():
    problem = KolmogorovFlow(num_points=16, reynolds=8.0, interval=0.05, warm_up=0.5)
    factory = partial(UNet, hidden_channels=4, levels=1, output_scale=0.0)
    notes = verify(Staggered(factory, problem, space=2, time=2), problem, runs=2, steps=4, ladder=False).notes
    assert sum("Stagger harmonics" in n for n in notes) == sum("Second differences" in n for n in notes) == 1
    plain = verify(Autoregressive(factory, problem), problem, runs=2, steps=4, ladder=False).notes
    assert not any("harmonics" in n or "differences" in n for n in plain)
