"""The advection of vorticity in two complex transforms: against sums over waves, and by what it must conserve."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from slipstream.equations.vorticity import CentredModes, VorticityAdvection
from slipstream.errors import InputError, ShapeError
from slipstream.grids import Grid

BOXES = [((12, 12), 2 * math.pi), ((16, 10), (3.0, 5.0)), ((9, 14), (2.0, 1.0)), ((8, 30), (1.0, 7.0))]
boxes = pytest.mark.parametrize(("points", "extent"), BOXES)


def grid_of(points, extent) -> Grid:
    return Grid.box(points, extent if isinstance(extent, tuple) else [extent, extent])


def random_vorticity(grid: Grid, runs: int = 2, dtype: torch.dtype = torch.float64) -> Tensor:
    """Every wavenumber excited, also those that the 2/3 rule drops; mean zero."""
    w = torch.randn(runs, 1, *grid.shape, dtype=dtype)
    return w - w.mean((-2, -1), keepdim=True)


def kept_waves(grid: Grid) -> tuple[Tensor, Tensor]:
    """All (kx, ky) strictly below two thirds of the highest wavenumber along each axis, and their integer numbers."""
    numbers = [[j for j in range(-n, n + 1) if 3 * abs(j) < n] for n in grid.shape]
    j = torch.cartesian_prod(*(torch.tensor(m, dtype=torch.float64) for m in numbers))
    return j * (2 * math.pi / torch.tensor(grid.extent, dtype=torch.float64)), j


def advection_by_sums(w: Tensor, grid: Grid) -> Tensor:
    """``u . grad(w)`` of the kept waves of w, and the kept waves of that: sums over waves, twice as many points, no transform."""
    k, _ = kept_waves(grid)
    fine = grid.refine(2)

    def waves(g: Grid) -> Tensor:
        return torch.exp(1j * (k @ g.coordinates(torch.float64).flatten(1)))

    amplitudes = w.flatten(1).to(torch.complex128) @ waves(grid).conj().T / grid.size
    kx, ky, square = k[:, 0], k[:, 1], (k**2).sum(1)
    psi = torch.where(square > 0, amplitudes / square.clamp(min=1e-9), 0)
    u, v, wx, wy = (
        ((1j * s * a) @ waves(fine)).real for s, a in ((ky, psi), (-kx, psi), (kx, amplitudes), (ky, amplitudes))
    )
    product = (u * wx + v * wy).to(torch.complex128) @ waves(fine).conj().T / fine.size
    return (product @ waves(grid)).real.reshape(w.shape)


def advect(w: Tensor, grid: Grid) -> Tensor:
    """Field to field."""
    result = VorticityAdvection(grid, w.dtype)(torch.fft.rfft2(w))
    return torch.fft.irfft2(result, s=grid.shape)


def close(a: Tensor, b: Tensor, tolerance: float = 1e-12) -> bool:
    return float((a - b).norm()) <= tolerance * float(b.norm())


@boxes
def test_advection_equals_sums_over_waves(points, extent):
    grid = grid_of(points, extent)
    w = random_vorticity(grid)
    expected = advection_by_sums(w, grid)
    assert close(advect(w, grid), expected)
    with torch.no_grad():
        assert close(advect(w, grid), expected)


def test_single_precision_agrees_to_its_rounding():
    grid = Grid.box(32, num_dims=2)
    w = random_vorticity(grid)
    assert close(advect(w.float(), grid).double(), advect(w, grid), 2e-6)


@pytest.mark.parametrize(("points", "extent"), [((24, 24), 2 * math.pi), ((24, 48), (2 * math.pi, 4 * math.pi))])
def test_waves_of_one_length_do_not_advect_each_other(points, extent):
    grid = grid_of(points, extent)
    x, y = grid.coordinates(torch.float64)
    vortices = torch.sin(2 * x) * torch.sin(2 * y)
    one_length = torch.cos(3 * x + 4 * y) + 0.7 * torch.sin(5 * x) - 1.3 * torch.cos(4 * x - 3 * y + 0.2)
    two_lengths = torch.cos(3 * x) + torch.cos(4 * y)
    for w, steady in ((vortices, True), (one_length, True), (two_lengths, False)):
        size = float(advect(w[None, None], grid).norm() / w.norm())
        assert (size < 1e-13) == steady


@boxes
def test_energy_and_enstrophy_are_neither_made_nor_lost(points, extent):
    grid = grid_of(points, extent)
    modes = CentredModes(grid, torch.float64)
    w = modes.forward(random_vorticity(grid))
    term = VorticityAdvection(grid, torch.float64).centred(w)
    kx, ky = modes.wavenumbers()
    square = kx**2 + ky**2
    psi = torch.where(square > 0, w / square.clamp(min=1e-9), 0)
    for against in (psi, w):
        work = (against.conj() * term).sum((-2, -1)).real.abs()
        assert bool((work <= 1e-13 * (against.abs() * term.abs()).sum((-2, -1))).all())


def test_advection_moves_with_the_field():
    grid = grid_of((16, 10), (3.0, 5.0))
    w = random_vorticity(grid)
    assert close(advect(w.roll((3, 7), (-2, -1)), grid), advect(w, grid).roll((3, 7), (-2, -1)))


def quarter_turn(f: Tensor) -> Tensor:
    """The field seen after (x, y) -> (-y, x)."""
    return mirror(f.transpose(-2, -1))


def mirror(f: Tensor) -> Tensor:
    """The field seen after x -> -x; the first point stays."""
    return f.flip(-2).roll(1, -2)


def test_advection_turns_with_the_field():
    grid = Grid.box(12, num_dims=2)
    w = random_vorticity(grid)
    assert close(advect(quarter_turn(w), grid), quarter_turn(advect(w, grid)))


@boxes
def test_a_mirror_turns_every_vortex_round(points, extent):
    grid = grid_of(points, extent)
    w = random_vorticity(grid)
    assert close(advect(-mirror(w), grid), -mirror(advect(w, grid)))


@boxes
def test_mean_stays_zero_and_result_is_a_real_field(points, extent):
    grid = grid_of(points, extent)
    w = random_vorticity(grid, dtype=torch.float32) + 3.0
    advection = VorticityAdvection(grid)
    term = advection.centred(advection.modes.forward(w))
    hx, hy = advection.modes.half
    assert bool((term[..., hx, hy] == 0).all())
    assert torch.equal(term, term.flip(-2, -1).conj())


def test_mean_vorticity_moves_nothing():
    grid = grid_of((16, 10), (3.0, 5.0))
    w = random_vorticity(grid)
    assert close(advect(w + 3.0, grid), advect(w, grid))


@boxes
def test_gradient_agrees_with_finite_differences(points, extent):
    grid = grid_of(points, extent)
    advection = VorticityAdvection(grid, torch.float64)
    w_hat = torch.fft.rfft2(random_vorticity(grid, 1)).requires_grad_()
    assert torch.autograd.gradcheck(advection, (w_hat,), fast_mode=True)
    box = advection.modes.from_half(w_hat.detach()).requires_grad_()
    assert torch.autograd.gradcheck(advection.centred, (box,), fast_mode=True)


def test_forward_derivative_and_map_over_runs_agree_with_the_product_rule():
    grid = Grid.box((8, 10), (2.0, 3.0))
    advection = VorticityAdvection(grid, torch.float64)
    w, v = (advection.modes.forward(random_vorticity(grid, 3)) for _ in range(2))
    _, slope = torch.func.jvp(advection.centred, (w,), (v,))
    polarised = advection.centred(w + v) - advection.centred(w) - advection.centred(v)
    assert close(slope, polarised)
    mapped = torch.func.vmap(lambda one: advection.centred(one[None])[0])(w)
    assert close(mapped, advection.centred(w))


def test_factor_multiplies():
    grid = Grid.box(12, num_dims=2)
    w_hat = torch.fft.rfft2(random_vorticity(grid))
    assert close(
        VorticityAdvection(grid, torch.float64, factor=-2.5)(w_hat),
        -2.5 * VorticityAdvection(grid, torch.float64)(w_hat),
    )


@boxes
def test_box_holds_exactly_the_kept_waves(points, extent):
    grid = grid_of(points, extent)
    modes = CentredModes(grid, torch.float64)
    k, numbers = kept_waves(grid)
    assert modes.shape == tuple(int(2 * n + 1) for n in numbers.amax(0))
    kx, ky = modes.wavenumbers()
    assert close(torch.stack([kx.expand(modes.shape), ky.expand(modes.shape)], -1).reshape(-1, 2), k, 1e-15)
    w = random_vorticity(grid)
    amplitudes = w.flatten(1).to(torch.complex128) @ torch.exp(-1j * (k @ grid.coordinates(torch.float64).flatten(1))).T
    box = modes.forward(w)
    assert close(box.flatten(1), amplitudes)
    assert torch.equal(modes.from_half(modes.to_half(box)), box)
    assert close(modes.forward(modes.inverse(box)), box)
    assert not close(modes.inverse(box), w, 0.1)


def test_calls_without_gradients_leave_nothing_behind():
    grid = Grid.box(12, num_dims=2)
    fields = [CentredModes(grid, torch.float64).forward(random_vorticity(grid, runs)) for runs in (1, 3, 1, 2)]
    expected = [VorticityAdvection(grid, torch.float64).centred(w) for w in fields]
    advection = VorticityAdvection(grid, torch.float64)
    with torch.inference_mode():
        advection.centred(torch.full_like(fields[0], float("nan")))
    with torch.no_grad():
        for w, result in zip(fields, expected, strict=True):
            before = w.clone()
            assert close(advection.centred(w), result)
            assert torch.equal(w, before)


def test_a_call_in_the_middle_of_another_does_not_disturb_it(monkeypatch):
    grid = Grid.box(12, num_dims=2)
    advection = VorticityAdvection(grid, torch.float64)
    fields = [advection.modes.forward(random_vorticity(grid, 1)) for _ in range(2)]
    expected = [advection.centred(w) for w in fields]
    transform, others = torch.fft.ifft2, []

    def interrupted(array: Tensor) -> Tensor:
        if not others:  # what a second thread may do between two operations of the first
            others.append(None)
            others[0] = advection.centred(fields[1])
        return transform(array)

    with torch.no_grad():
        advection.centred(fields[1])
        monkeypatch.setattr(torch.fft, "ifft2", interrupted)
        result = advection.centred(fields[0])
    assert close(result, expected[0])
    assert close(others[0], expected[1])


def test_wrong_grids_and_coefficients_are_refused():
    with pytest.raises(InputError, match="periodic grid of two axes"):
        VorticityAdvection(Grid.box(16))
    with pytest.raises(InputError, match="periodic grid of two axes"):
        VorticityAdvection(Grid.box(16, num_dims=2, periodic=[True, False]))
    advection = VorticityAdvection(Grid.box(16, num_dims=2))
    with pytest.raises(ShapeError, match="half spectrum on"):
        advection(torch.zeros(1, 1, 16, 16, dtype=torch.complex64))
    with pytest.raises(ShapeError, match="centred modes"):
        advection.centred(torch.zeros(1, 1, 16, 9, dtype=torch.complex64))
    with torch.no_grad():
        advection.centred(torch.zeros(1, 1, *advection.modes.shape, dtype=torch.complex64))
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled), pytest.raises(ShapeError, match="complex64"):
            advection.centred(torch.zeros(1, 1, *advection.modes.shape, dtype=torch.complex128))
