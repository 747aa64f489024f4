"""Spectra: the sum over shells is the mean square, and every wave lands in its shell."""

import math

import pytest
import torch

from slipstream.assessment.spectra import band_power, energy_spectrum, even_extension, mode_power, wave_count
from slipstream.grids import Axis, Grid

GRIDS = {
    "1D even": Grid.box(16, num_dims=1),
    "1D odd": Grid.box(15, num_dims=1),
    "2D mixed parity": Grid.box((16, 15)),
    "2D oblong": Grid.box((24, 8), extent=(3.0, 1.0)),
    "3D": Grid.box((6, 8, 7)),
    "walls at cell centres": Grid.box((9, 8), periodic=(False, True)),
    "walls at points": Grid.box((9, 8), periodic=False, centred=False),
    "space and angle": Grid((Axis("x", 8, extent=10.0, unit="m"), Axis("angle", 6, extent=2 * math.pi, unit="rad"))),
}


def noise(grid, *lead):
    return torch.randn(*lead, *grid.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def mean_square(u, grid):
    w = grid.cell_weights(torch.float64)
    return (w * u.square()).sum(tuple(range(-grid.num_dims, 0))) / w.sum()


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
def test_shells_sum_to_the_mean_square(grid):
    u = noise(grid, 2, 3)
    _, energy = energy_spectrum(u, grid)
    torch.testing.assert_close(energy.sum(-1), mean_square(u, grid), rtol=1e-12, atol=0)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
def test_bands_sum_to_the_mean_square(grid):
    u = noise(grid, 2)
    torch.testing.assert_close(band_power(u, grid, (2.0, 4.0)).sum(-1), mean_square(u, grid), rtol=1e-12, atol=0)


@pytest.mark.parametrize("n", [16, 15])
@pytest.mark.parametrize("direction", [0, 1])
def test_the_halved_axis_counts_as_much_as_the_others(n, direction):
    grid = Grid.box(n, num_dims=2)
    u = (3 * grid.coordinates(torch.float64)[direction]).cos()
    _, energy = energy_spectrum(u, grid)
    expected = torch.zeros_like(energy)
    expected[3] = 0.5
    torch.testing.assert_close(energy, expected, rtol=1e-12, atol=1e-14)


def test_modes_agree_with_the_full_complex_transform():
    grid = Grid.box((8, 6))
    u = noise(grid)
    full = torch.fft.fftn(u, norm="forward").abs().square()
    k = torch.stack(
        torch.meshgrid(*(torch.fft.fftfreq(n, 1 / n, dtype=torch.float64) for n in grid.shape), indexing="ij")
    )
    shell = k.square().sum(0).sqrt().add(0.5).floor().long()
    _, energy = energy_spectrum(u, grid)
    for j in range(len(energy)):
        assert energy[j] == pytest.approx(float(full[shell == j].sum()), rel=1e-12, abs=1e-15)


def test_the_nyquist_wave_is_counted_once():
    grid = Grid.box(8, num_dims=1)
    u = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(4)
    assert mode_power(u, grid).tolist() == pytest.approx([0, 0, 0, 0, 1])


def test_wavenumbers_are_physical():
    grid = Grid.box(32, extent=0.5, num_dims=1)
    u = (2 * math.pi * 6 * grid.coordinates(torch.float64)[0] / 0.5).sin()
    k, energy = energy_spectrum(u, grid)
    assert float(k[energy.argmax()]) == pytest.approx(2 * math.pi * 6 / 0.5)


def test_shells_of_an_oblong_box_are_round_in_physical_space():
    grid = Grid.box((48, 16), extent=(3.0, 1.0))
    x, y = grid.coordinates(torch.float64)
    k, along_x = energy_spectrum((2 * math.pi * 2 * x).sin(), grid)
    _, along_y = energy_spectrum((2 * math.pi * 2 * y).sin(), grid)
    torch.testing.assert_close(along_x, along_y, rtol=1e-12, atol=1e-14)
    assert float(k[along_x.argmax()]) == pytest.approx(4 * math.pi)


def test_axes_of_different_units_count_their_own_waves():
    grid = GRIDS["space and angle"]
    box = even_extension(noise(grid), grid)[1]
    assert wave_count(box, grid)[1, 2] == pytest.approx(math.sqrt(5), abs=1e-6)


@pytest.mark.parametrize("centred", [True, False])
def test_a_cosine_between_walls_is_one_mode(centred):
    grid = Grid.box(17, extent=1.0, num_dims=1, periodic=False, centred=centred)
    u = (3 * math.pi * grid.coordinates(torch.float64)[0]).cos()  # three half waves
    band = band_power(u, grid, (1.5, 2.0))
    assert band.tolist() == pytest.approx([0, 0.5, 0], abs=1e-14)


def test_a_ramp_between_walls_has_no_jump():
    """Against the plain transform, whose jump between the ends feeds every wavenumber."""
    grid = Grid.box(64, extent=1.0, num_dims=1, periodic=False)
    u = grid.coordinates(torch.float64)[0]
    ours = band_power(u, grid, (13.0,))[1]
    plain = band_power(u, Grid.box(64, extent=1.0, num_dims=1), (13.0,))[1]
    assert ours < 1e-3 * plain


def test_the_spectrum_of_a_smooth_field_does_not_depend_on_the_grid():
    coarse, fine = Grid.box(16, num_dims=2), Grid.box(40, num_dims=2)

    def field(grid):
        x, y = grid.coordinates(torch.float64)
        return (x + 2 * y).sin() + 0.3 * (3 * x).cos() * y.sin()

    a, b = (energy_spectrum(field(g), g)[1] for g in (coarse, fine))
    torch.testing.assert_close(a[:9], b[:9], rtol=1e-12, atol=1e-14)


def test_shells_and_bands_begin_exactly_at_their_edges():
    """A whole number of waves across an awkward extent must not slip into the band below."""
    for extent in (0.1, 0.3, 0.6, 0.7, 1.3, math.pi / 7):
        grid = Grid.box(64, extent=extent, num_dims=1)
        u = (2 * math.pi * 13 * torch.arange(64, dtype=torch.float64) / 64).cos()
        assert band_power(u, grid, (5.0, 13.0)).tolist() == pytest.approx([0, 0, 0.5], abs=1e-14)
