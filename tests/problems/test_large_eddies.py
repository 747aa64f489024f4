"""Filtered views of flows: what the filter leaves, what the closure takes, and the limits in which both do nothing."""

from __future__ import annotations

import math

import pytest
import torch

from slipstream.equations import NavierStokes, SmagorinskyFlow, SmagorinskyVorticity, Spectral, VorticityFlow
from slipstream.errors import InputError
from slipstream.grids import Grid, resample
from slipstream.problems import IsotropicTurbulence, LargeEddy, MixingLayer, Setting, TaylorGreen
from slipstream.solvers import ETDRK2, ETDRK4, FilteredStepper, Gaussian
from slipstream.steppers import rollout


def flow(dims, n=16):
    problem = IsotropicTurbulence(num_points=n, num_dims=dims, peak=2.0)
    u = problem.sample(2, 0)[0][:, 0].double()
    d = problem.calculus(u)
    return d.truncate(u), d


@pytest.mark.parametrize("dims", [2, 3])
def test_the_closure_takes_exactly_what_eddies_dissipate(dims):
    u, d = flow(dims)
    closed = (SmagorinskyFlow if dims == 3 else SmagorinskyVorticity)(0.0, width=0.5)
    plain = NavierStokes(0.0) if dims == 3 else VorticityFlow(0.0)
    taken = closed.rate(u, d, closed.ready({}, u)) - plain.rate(u, d, plain.ready({}, u))
    v = u if dims == 3 else plain.velocity(u, d)
    slopes = torch.stack([d.derivative(v, i) for i in range(dims)], 1)
    strain = 0.5 * (slopes + slopes.transpose(1, 2))
    size = (2 * strain.square().sum((1, 2))).sqrt()
    dissipated = ((closed.smagorinsky * closed.width) ** 2 * size**3).flatten(1).mean(-1)
    # In the plane the power of a torque is its product with the stream function.
    power = (v * taken).sum(1) if dims == 3 else (-d.inverse_laplace(u) * taken)[:, 0]
    assert torch.allclose(power.flatten(1).mean(-1), -dissipated, rtol=1e-10)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_forms_that_steppers_use_are_the_rate(dims):
    u, d = flow(dims)
    closed = SmagorinskyFlow(0.1, 0.5) if dims == 3 else SmagorinskyVorticity(0.1, width=0.5)
    p = closed.ready({"smagorinsky": torch.tensor([0.1, 0.3])}, u)
    u_hat, form = d.forward(u), closed.form(d)
    rate, linear = closed.rate(u, d, p), closed.linear(d.grid, p)
    assert torch.allclose(d.inverse(closed.nonlinear(u_hat, d, p) + linear * u_hat), rate, atol=1e-10)
    kept = form.forward(u)
    moved = form.nonlinear(kept, p) + form.from_half(linear.expand_as(u_hat)) * kept
    assert torch.allclose(form.inverse(moved, None), rate, atol=1e-10)


def test_plane_and_space_closures_are_the_same_closure():
    w, d = flow(2)
    v = VorticityFlow().velocity(w, d)
    deep = torch.cat([v, torch.zeros_like(v[:, :1])], 1)[..., None].expand(-1, -1, -1, -1, 8).contiguous()
    d3 = Spectral(Grid.box([16, 16, 8]), torch.float64)
    plane, space = SmagorinskyVorticity(0.1, width=0.4), SmagorinskyFlow(0.1, width=0.4)
    moved = d3.curl(space.rate(deep, d3, space.ready({}, deep)))[:, 2:, ..., 0]
    assert torch.allclose(moved, plane.rate(w, d, plane.ready({}, w)), atol=1e-10)


@pytest.mark.parametrize("dims", [2, 3])
def test_runs_begin_with_the_spectrum_that_is_said_and_no_divergence(dims):
    problem = IsotropicTurbulence(num_points=48 if dims == 2 else 24, num_dims=dims, peak=4.0)
    u = torch.stack([problem.whole(torch.Generator().manual_seed(s)) for s in range(24)])
    d = problem.calculus(u)
    v = problem.equation.velocity(u, d) if dims == 2 else u
    assert torch.allclose(v.square().mean((1, *range(2, 2 + dims))), torch.ones(24, dtype=torch.float64))
    assert float(d.div(v).abs().max()) < 1e-9
    energy = torch.fft.fftn(v, dim=d.axes).abs().square().sum(1).mean(0)
    k = torch.meshgrid(*[torch.fft.fftfreq(n, 1 / n).double() for n in v.shape[2:]], indexing="ij")
    size = torch.stack(k).norm(dim=0)
    # Of one wave: a shell holds k^(dims - 1) of them.
    expected = (size / 4) ** (5 - dims) * torch.exp(-2 * (size / 4) ** 2)
    shell = size.round().long().flatten()
    found, said = (torch.zeros(60).double().index_add(0, shell, e.flatten())[1:9] for e in (energy, expected))
    ratio = found / said
    assert float((ratio / ratio.mean() - 1).abs().max()) < 0.3


def test_frames_are_the_resolved_waves_of_a_finer_run_that_goes_on_whole():
    problem = IsotropicTurbulence(num_points=24, reynolds=300, num_dims=2, detail=3, interval=0.1)
    frames, parameters = problem.sample(1, 0)
    fine = IsotropicTurbulence(num_points=72, reynolds=300, num_dims=2, detail=1, interval=0.1)
    start = resample(frames[:, 0].double(), problem.grid, fine.grid)[:, None]
    whole = rollout(fine.solver(problem.reference_setting), start, 6)
    seen = resample(whole.flatten(0, 1), fine.grid, problem.grid, "truncate").unflatten(0, whole.shape[:2])
    d, frames = problem.calculus(seen), problem.simulate(1, 7, seed=0).frames[:, 1:].double()
    assert torch.allclose(d.truncate(frames[0]), d.truncate(seen[0]), atol=1e-4)
    # Restarted from frames, the hidden scales are lost: the run goes elsewhere.
    broken = problem.march(problem.reference(), seen[:, 2:3], parameters, 4)[:, 1:]
    assert float((broken - seen[:, 3:6])[:, -1].norm() / seen[:, 5].norm()) > 1e-3


def test_a_gaussian_view_is_the_same_run_seen_blurred():
    given = {"num_points": 24, "reynolds": 100.0, "num_dims": 2, "interval": 0.1}
    plain, blurred = IsotropicTurbulence(**given), IsotropicTurbulence(**given, gaussian=2.0)
    a, b = (p.simulate(1, 4, seed=2).frames.double() for p in (plain, blurred))
    k = plain.calculus(a).square
    seen = torch.fft.irfft2(torch.fft.rfft2(a) * torch.exp(-k * (4 * math.pi / 24) ** 2 / 24), s=(24, 24))
    assert isinstance(blurred.solver(), FilteredStepper)
    assert torch.allclose(b, seen, atol=1e-4)
    assert float((a - b).abs().max()) > 0.1
    u = a[:, 0]
    assert torch.allclose(Gaussian(2.0).apply(Gaussian(2.0).apply(u, plain.grid), plain.grid, undo=True), u)


def test_where_nothing_is_hidden_no_closure_is_best_and_a_constant_of_zero_is_none():
    problem = MixingLayer(num_points=48, reynolds=10, thickness=0.08, detail=2)
    frames, parameters = problem.sample(1, 4)
    true = problem.simulate(1, 5, seed=4).frames

    def error(scheme):
        u = problem.march(problem.solver(Setting(48, 4, scheme)), frames, parameters, 5)
        return float((u - true).norm() / true.norm())

    none, zero, some = error(ETDRK2), error(LargeEddy(ETDRK2, 0.0)), error(LargeEddy(ETDRK2, 0.17))
    assert zero == pytest.approx(none, rel=1e-3)
    assert none < some / 5


def test_the_layer_is_unstable_where_theory_says():
    # Michalke: wavenumber 0.44 / delta grows at 0.19 / delta, inviscid; 1.2 / delta does not grow.
    problem = MixingLayer(num_points=64, reynolds=2000, thickness=1 / 28, disturbance=0.0, detail=1, interval=0.2)
    delta = problem.thickness * 2 * math.pi
    base = problem.whole(torch.Generator())
    x = problem.grid.coordinates(torch.float64)
    growth = {}
    for waves in (2, 6):
        seed = 1e-5 * torch.cos(waves * x[0]) * torch.exp(-((x[1] - math.pi / 2) ** 2) / delta**2)
        u = rollout(problem.solver(Setting(64, 8, ETDRK4)), (base + seed)[None, None], 20)
        size = torch.fft.rfft(u[0, :, 0], dim=-2).abs()[:, waves].amax(-1)
        growth[waves] = float((size[19] / size[9]).log() / 2.0)
    assert growth[2] * delta == pytest.approx(0.19, rel=0.12)
    assert growth[6] < 0.1 * growth[2]


@pytest.mark.parametrize("points", [16, 24])
def test_the_closure_is_as_wide_as_half_the_finest_kept_wave(points):
    problem = IsotropicTurbulence(num_points=24, num_dims=2, peak=2.0)
    closed = problem.solver(Setting(points, 2, LargeEddy(ETDRK2)), guard=False)
    d = Spectral(closed.inner, torch.float64)
    finest = float((d.kept * d.wavenumbers[0].abs()).max())
    assert closed.equation.width == pytest.approx(math.pi / finest)


def test_gradients_reach_the_closure():
    u, d = flow(2, 12)
    closed = SmagorinskyVorticity(0.01, width=0.5)

    def value(c):
        return closed.nonlinear(d.forward(u), d, closed.ready({"smagorinsky": c}, u)).abs().square().sum()

    c = torch.tensor([0.1, 0.2], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(value(c), c)
    h = 1e-5 * torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert float((value(c + h) - value(c - h)).detach() / 2e-5) == pytest.approx(float(slope[0]), rel=1e-5)
    still = torch.zeros_like(u).requires_grad_()
    closed.nonlinear(d.forward(still), d, closed.ready({}, u)).abs().square().sum().backward()
    assert bool(torch.isfinite(still.grad).all())


def test_bad_arguments_are_refused():
    with pytest.raises(InputError, match="detail >= 1"):
        MixingLayer(detail=0)
    with pytest.raises(InputError, match="thickness from"):
        MixingLayer(thickness=0.01)
    with pytest.raises(InputError, match="peak from 1"):
        IsotropicTurbulence(num_points=16, peak=4)


@pytest.mark.parametrize(
    ("points", "frames", "fall", "apart", "energy"),
    [
        ((16, 24, 32), 2, 4.0, 1e-3, 1e-7),
        pytest.param((32, 48, 64), 8, 12.0, 1.5e-3, 2e-5, marks=pytest.mark.slow),
    ],
)
def test_the_taylor_green_vortex_at_reynolds_100_converges_to_itself(points, frames, fall, apart, energy):
    """To time 1, and to time 4, where finer scales have grown. A grid lacks the wavenumbers that it cannot hold, and all else is right."""
    ends, energies = {}, {}
    for n in points:
        problem = TaylorGreen(num_points=n, reynolds=100.0, disturbance=0.0, interval=0.5)
        start = problem.initial(torch.Generator())[None, None]
        u = rollout(problem.solver(Setting(n, max(10, n // 4), ETDRK4)), start, frames)[0]
        ends[n] = resample(u[-1], problem.grid, problem.grid.with_points(16), "truncate")
        energies[n] = 0.5 * u.square().sum(1).flatten(1).mean(-1)
    first, second, last = points
    coarse, fine = (float((ends[n] - ends[last]).norm() / ends[last].norm()) for n in (first, second))
    assert fine < coarse / fall
    assert fine < apart
    assert float(energies[last][-1]) < float(energies[last][0]) < 0.125
    assert float((energies[second] / energies[last] - 1).abs().max()) < energy
