"""Error measures: laws that each must obey on every grid, and values known in closed form."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.assessment import metrics as m
from slipstream.errors import InputError, ShapeError
from slipstream.grids import Grid, resample

GRIDS = {
    "1D": Grid.box(12, num_dims=1),
    "2D": Grid.box((12, 9), extent=(2.0, 1.0)),
    "3D": Grid.box((6, 5, 4)),
    "2D walls at centres": Grid.box((8, 9), periodic=(False, True)),
    "2D walls at points": Grid.box((8, 9), periodic=False, centred=False),
}
RELATIVE = (m.nrmse, m.vrmse, m.relative_l2, m.h1)
ABSOLUTE = (m.rmse, m.frmse_low, m.frmse_mid, m.frmse_high, m.crmse, m.max_error)
EVERY = (*RELATIVE, *ABSOLUTE)
grids = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
exactly = {"rtol": 1e-12, "atol": 1e-14}


def noise(grid, *lead, seed=0):
    return torch.randn(*lead, *grid.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@grids
@pytest.mark.parametrize("metric", EVERY, ids=lambda f: f.__name__)
def test_zero_at_equality_and_positive_elsewhere(metric, grid):
    u = noise(grid, 2, 3, 2)
    assert metric(u, u, grid).tolist() == [[0.0] * 3] * 2
    if metric is not m.frmse_high:  # these grids are too coarse to carry 13 waves
        assert (metric(u + 0.1 * noise(grid, 2, 3, 2, seed=1), u, grid) > 0).all() or metric is m.frmse_mid


@grids
@pytest.mark.parametrize("metric", [m.relative_l2, m.h1, m.vrmse], ids=lambda f: f.__name__)
def test_zero_at_equality_even_where_the_target_is_zero(metric, grid):
    zero = torch.zeros(1, 1, *grid.shape, dtype=torch.float64)
    assert metric(zero, zero, grid).item() == 0
    assert metric(zero + 1e-3, zero, grid).item() == math.inf


@grids
@pytest.mark.parametrize("metric", EVERY, ids=lambda f: f.__name__)
def test_one_value_a_run_and_time_each_from_its_own_frame(metric, grid):
    p, t = noise(grid, 2, 3, 2, seed=1), noise(grid, 2, 3, 2)
    whole = metric(p, t, grid)
    assert whole.shape == (2, 3)
    for b in range(2):
        torch.testing.assert_close(whole[b], metric(p[b], t[b], grid), **exactly)


@settings(max_examples=20, deadline=None)
@given(factor=st.floats(0.01, 100))
def test_relative_errors_ignore_the_unit_and_absolute_ones_carry_it(factor):
    grid = GRIDS["2D"]
    p, t = noise(grid, 1, 2, seed=1), noise(grid, 1, 2)
    for metric in RELATIVE:
        torch.testing.assert_close(metric(factor * p, factor * t, grid), metric(p, t, grid), rtol=1e-9, atol=0)
    for metric in ABSOLUTE:
        torch.testing.assert_close(
            metric(factor * p, factor * t, grid), factor * metric(p, t, grid), rtol=1e-9, atol=1e-12
        )


@grids
@pytest.mark.parametrize("metric", EVERY, ids=lambda f: f.__name__)
def test_half_the_error_is_half_the_figure(metric, grid):
    p, t = noise(grid, 1, 2, seed=1), noise(grid, 1, 2)
    torch.testing.assert_close(metric((p + t) / 2, t, grid), metric(p, t, grid) / 2, **exactly)


@grids
def test_the_three_bands_add_up_to_the_rmse(grid):
    p, t = noise(grid, 2, 2, 2, seed=1), noise(grid, 2, 2, 2)
    bands = sum(f(p, t, grid).square() for f in (m.frmse_low, m.frmse_mid, m.frmse_high))
    torch.testing.assert_close(bands.sqrt(), m.rmse(p, t, grid), **exactly)


@pytest.mark.parametrize(("waves", "band"), [(0, 0), (4, 0), (5, 1), (12, 1), (13, 2), (20, 2)])
def test_each_wave_falls_into_the_band_of_the_paper(waves, band):
    grid = Grid.box((48, 48), extent=0.7)
    x = grid.coordinates(torch.float64)[0]
    error = (2 * math.pi * waves * x / 0.7).cos()[None, None]
    values = [f(error, torch.zeros_like(error), grid).item() for f in (m.frmse_low, m.frmse_mid, m.frmse_high)]
    expected = [0.0, 0.0, 0.0]
    expected[band] = 1.0 if waves == 0 else math.sqrt(0.5)
    assert values == pytest.approx(expected, abs=1e-12)


@grids
def test_the_mean_predictor_has_vrmse_one(grid):
    t = noise(grid, 2, 3, 2) * torch.tensor([1.0, 50.0], dtype=torch.float64).reshape(2, *[1] * grid.num_dims) + 7
    w = grid.cell_weights(torch.float64)
    dims = tuple(range(-grid.num_dims, 0))
    mean = ((w * t).sum(dims, keepdim=True) / w.sum()).expand_as(t)
    torch.testing.assert_close(m.vrmse(mean, t, grid), torch.ones(2, 3, dtype=torch.float64), **exactly)


def test_nrmse_weighs_channels_alike_and_relative_l2_by_their_size():
    grid = GRIDS["1D"]
    t = torch.ones(1, 2, 12, dtype=torch.float64)
    t[:, 1] *= 100
    p = t.clone()
    p[:, 0] = 1.5  # half of the small channel, nothing of the large one
    assert m.nrmse(p, t, grid).item() == pytest.approx((0.5 + 0) / 2)
    assert m.relative_l2(p, t, grid).item() == pytest.approx(0.5 / math.sqrt(1 + 100**2))


@pytest.mark.parametrize(
    "metric",
    [m.relative_l2, m.nrmse, m.vrmse, m.h1, m.rmse, m.frmse_low, m.crmse, m.correlation],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize("periodic", [True, False])
def test_figures_do_not_depend_on_the_resolution(metric, periodic):
    """A coarse and a fine sampling of one pair of fields; by quadrature of second order between walls."""

    def pair(n):
        grid = Grid.box(n, num_dims=2, extent=2 * math.pi, periodic=periodic, centred=False)
        x, y = grid.coordinates(torch.float64)
        t = 0.5 + x.cos() * (2 * y).sin()
        return (t + 0.1 * (x + y).cos() + 0.05)[None, None], t[None, None], grid

    coarse, fine = (metric(*pair(n)).item() for n in (24, 61))
    assert coarse == pytest.approx(fine, rel=1e-12 if periodic else 0.08)


def test_trapezoidal_weights_count_the_ends_half():
    grid = Grid.box(5, extent=1.0, num_dims=1, periodic=False, centred=False)
    error = torch.tensor([[[1.0, 0, 0, 0, 0]]], dtype=torch.float64)
    assert m.rmse(error, torch.zeros_like(error), grid).item() == pytest.approx(math.sqrt(0.125))


@pytest.mark.parametrize("k", [1, 3, 5])
def test_h1_of_a_wave_is_known(k):
    grid = Grid.box(32, extent=2.0, num_dims=2)
    x, y = grid.coordinates(torch.float64)
    t, e = (math.pi * x).sin() + y * 0, 0.1 * (math.pi * k * y).cos() + x * 0
    expected = 0.1 * math.sqrt((1 + (math.pi * k) ** 2) / (1 + math.pi**2))
    assert m.h1((t + e)[None, None], t[None, None], grid).item() == pytest.approx(expected, rel=1e-12)


def test_h1_between_walls_converges_with_second_order():
    def defect(n):
        grid = Grid.box(n, extent=1.0, num_dims=1, periodic=False, centred=False)
        x = grid.coordinates(torch.float64)[0]
        t, e = (1 + x)[None, None], x.exp()[None, None]
        exact = math.sqrt((2 * (math.e**2 - 1) / 2) / (7 / 3 + 1))
        return abs(m.h1(t + e, t, grid).item() - exact)

    assert math.log2(defect(33) / defect(65)) == pytest.approx(2, abs=0.15)


def test_differences_are_exact_for_parabolas_up_to_the_ends():
    grid = Grid.box(5, extent=1.0, num_dims=1, periodic=False, centred=False)
    x, w = grid.coordinates(torch.float64)[0], grid.cell_weights(torch.float64)
    expected = ((w * (x**4 + 4 * x**2)).sum() / (w * ((1 + x) ** 2 + 1)).sum()).sqrt()
    t = (1 + x)[None, None]
    torch.testing.assert_close(m.h1(t + x**2, t, grid), expected[None], **exactly)


def test_crmse_sees_only_the_mean():
    grid = GRIDS["2D walls at points"]
    t = noise(grid, 1, 2)
    w = grid.cell_weights(torch.float64)
    e = noise(grid, 1, 2, seed=1)
    e = e - (w * e).sum((-2, -1), keepdim=True) / w.sum()
    assert m.crmse(t + e, t, grid).item() == pytest.approx(0, abs=1e-15)
    assert m.crmse(t + e + 0.25, t, grid).item() == pytest.approx(0.25)
    assert m.crmse(t + e + 0.25, t, grid) < m.rmse(t + e + 0.25, t, grid)


def test_brmse_sees_only_the_walls():
    grid = Grid.box((6, 5), periodic=(False, True))
    t = noise(grid, 1, 1)
    inside = torch.zeros_like(t)
    inside[..., 1:-1, :] = 3.0  # the ends of the periodic axis are no boundary
    assert m.brmse(t + inside, t, grid).item() == 0
    wall = torch.zeros_like(t)
    wall[..., 0, :] = 2.0
    assert m.brmse(t + wall, t, grid).item() == pytest.approx(math.sqrt(2.0))  # one of two walls
    with pytest.raises(InputError, match="it has none"):
        m.brmse(t, t, Grid.box((6, 5)))


def test_max_error_is_the_largest_over_channels_and_points():
    grid = GRIDS["2D"]
    t = noise(grid, 1, 2)
    p = t.clone()
    p[0, 1, 3, 4] -= 7.5
    assert m.max_error(p, t, grid).item() == pytest.approx(7.5)


@settings(deadline=None)
@given(shift=st.floats(0, 2 * math.pi), gain=st.floats(0.1, 10), offset=st.floats(-5, 5))
def test_correlation_of_shifted_sines_is_the_cosine_of_the_shift(shift, gain, offset):
    grid = Grid.box(16, num_dims=1)
    x = grid.coordinates(torch.float64)
    found = m.correlation((gain * (x + shift).sin() + offset)[None], x.sin()[None], grid)
    assert found.item() == pytest.approx(math.cos(shift), abs=1e-9)


def test_correlation_of_flat_fields():
    grid = GRIDS["1D"]
    flat, wavy = torch.full((1, 1, 12), 3.0, dtype=torch.float64), noise(grid, 1, 1)
    assert m.correlation(flat, flat, grid).item() == 1
    assert m.correlation(flat, wavy, grid).item() == 0


@pytest.mark.parametrize("threshold", [0.95, 0.9, 0.8])
def test_correlation_time_is_interpolated_in_physical_time(threshold):
    times = torch.tensor([0.5, 1.0, 2.0, 4.0])
    decay = (1 - 0.1 * times)[None]  # straight, so that interpolation is exact: 1 at time 0
    assert m.correlation_time(decay, times, threshold).item() == pytest.approx((1 - threshold) / 0.1, rel=1e-6)


def test_correlation_time_takes_the_first_fall_and_says_when_there_is_none():
    times = torch.tensor([1.0, 2.0, 3.0])
    c = torch.tensor(
        [[0.5, 1.0, 1.0], [0.99, 0.95, 0.91], [0.9, 0.9, 0.9], [0.95, math.nan, 0.99]], dtype=torch.float64
    )
    found = m.correlation_time(c, times, 0.9).tolist()
    assert found[0] == pytest.approx(0.2)
    assert found[1] == math.inf
    assert found[2] == math.inf  # touching the threshold is not falling below it
    assert found[3] == 1.0  # the last finite frame


def test_correlation_time_counts_from_the_known_frame():
    found = m.correlation_time(torch.tensor([[0.8]]), torch.tensor([10.5]), 0.9, start_time=10.0)
    assert found.item() == pytest.approx(10.25, rel=1e-6)


def test_failure_is_the_first_frame_worse_than_the_mean_or_not_finite():
    times = torch.tensor([1.0, 2.0, 3.0])
    vrmse = torch.tensor([[0.1, 1.2, 0.3], [0.1, 0.2, math.nan], [0.1, 0.2, 1.0], [math.inf, 0.0, 0.0]])
    assert m.failure_time(vrmse, times).tolist() == [2.0, 3.0, math.inf, 1.0]


@pytest.mark.parametrize("metric", EVERY, ids=lambda f: f.__name__)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_prediction_that_is_not_finite_never_scores_well(metric, bad):
    grid = GRIDS["2D"]
    t = noise(grid, 1, 1)
    p = t.clone()
    p[..., 0, 0] = bad
    assert not metric(p, t, grid).isfinite().item()


def test_drift_of_a_conserved_and_of_a_decaying_integral():
    energy = torch.tensor([[4.0, 4.0, 5.0]])
    assert m.invariant_drift(energy, energy[:, :1]).tolist() == [[0.0, 0.0, 0.25]]
    assert m.invariant_drift(energy, torch.tensor([[4.0, 3.0, 2.0]])).tolist() == [[0.0, 0.25, 0.75]]
    mean = torch.tensor([[0.0, 0.5]])
    with pytest.raises(InputError, match="scale"):
        m.invariant_drift(mean, mean[:, :1])
    assert m.invariant_drift(mean, mean[:, :1], torch.tensor([2.0])).tolist() == [[0.0, 0.25]]


@pytest.mark.parametrize(
    "metric", [*RELATIVE[:3], m.rmse, m.crmse, m.max_error, m.correlation], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("per_run", [False, True])
def test_masked_points_do_not_count_whatever_they_hold(metric, per_run):
    grid = Grid.box((8, 6))
    left = Grid.box((4, 6))
    p, t = noise(grid, 2, 3, 2, seed=1), noise(grid, 2, 3, 2)
    expected = metric(p[..., :4, :], t[..., :4, :], left)
    p[..., 4:, :] = math.nan
    t[..., 4:, :] = 1e9
    mask = torch.zeros(2, 8, 6) if per_run else torch.zeros(8, 6)
    mask[..., :4, :] = 1
    torch.testing.assert_close(metric(p, t, grid, mask), expected, **exactly)


def test_a_mask_per_run_belongs_to_its_run():
    grid = Grid.box(4, num_dims=1)
    mask = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]])
    error = torch.tensor([1.0, 1, 5, 5]).expand(2, 3, 1, 4)
    assert m.rmse(error, torch.zeros(2, 3, 1, 4), grid, mask).tolist() == [[1.0] * 3, [5.0] * 3]


def test_bands_refuse_a_mask_and_applicable_says_so():
    grid = Grid.box((8, 6))
    t = noise(grid, 1, 1)
    with pytest.raises(InputError, match="mask"):
        m.frmse_low(t, t, grid, torch.ones(8, 6))
    assert "frmse_low" not in m.applicable(grid, masked=True)
    for g in GRIDS.values():
        u = noise(g, 1, 1)
        assert [f(u, u, g).item() for f in m.applicable(g).values()] == [0.0] * len(m.applicable(g))


@grids
def test_fields_that_do_not_match_are_refused(grid):
    u = noise(grid, 1, 1)
    with pytest.raises(ShapeError, match="one shape"):
        m.rmse(u, torch.cat([u, u]), grid)
    with pytest.raises(ShapeError, match="channel"):
        m.rmse(u[0, 0], u[0, 0], grid)
    with pytest.raises(ShapeError, match="points"):
        m.rmse(u, u, grid.refine())


def test_relative_l2_agrees_with_a_plain_norm():
    grid = GRIDS["3D"]
    p, t = noise(grid, 2, 3, seed=1), noise(grid, 2, 3)
    expected = (p - t).flatten(1).norm(dim=1) / t.flatten(1).norm(dim=1)
    torch.testing.assert_close(m.relative_l2(p, t, grid), expected, **exactly)


def test_restriction_to_a_coarser_grid_keeps_the_low_band():
    """What the coarse grid resolves is the same error, whichever grid measures it."""
    fine, coarse = Grid.box(64, num_dims=2), Grid.box(32, num_dims=2)
    x, y = fine.coordinates(torch.float64)
    e = (0.2 * (3 * x + 2 * y).sin() + 0.1 * (7 * x).cos())[None, None]
    for f in (m.frmse_low, m.frmse_mid):
        on_coarse = f(resample(e, fine, coarse), torch.zeros(1, 1, 32, 32, dtype=torch.float64), coarse)
        torch.testing.assert_close(f(e, torch.zeros_like(e), fine), on_coarse, **exactly)
