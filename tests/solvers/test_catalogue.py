"""The catalogue of equations: exact solutions, laws of growth, invariants, and the order of every scheme on every equation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from scipy.integrate import solve_ivp

from slipstream.equations import (
    Advection,
    AdvectionDiffusion,
    AllenCahn,
    Burgers,
    CahnHilliard,
    DampedWave,
    Diffusion,
    Equation,
    FisherKPP,
    GrayScott,
    KleinGordon,
    KortewegDeVries,
    KuramotoSivashinsky,
    KuramotoSivashinskyFront,
    NavierStokes,
    NonlinearDiffusion,
    Schroedinger,
    ShallowWater,
    Spectral,
    SwiftHohenberg,
    VorticityFlow,
)
from slipstream.grids import Grid
from slipstream.solvers import ARS443, CNRK2, ETDRK1, ETDRK2, ETDRK4, RK4, LinesStepper, SpectralStepper


def march(equation, grid, u, time, substeps, scheme=ETDRK4, parameters=None):
    """The state (batch, channel, *space) after `time`."""
    stepper = SpectralStepper(equation, grid, time, substeps, scheme, guard=False)
    return next(stepper.march(u[:, None], parameters or {}))[:, 0]


def smooth(equation, grid, highest=2.5, size=0.5, batch=1):
    d = Spectral(grid, torch.float64)
    u = torch.randn(batch, len(equation.channels), *grid.shape, dtype=torch.float64)
    u = d.inverse((d.square.sqrt() <= highest) * d.forward(u))
    return size * u / u.std()


# Every equation: its schemes converge at their order, to what a plain Runge-Kutta method makes of `rate`.

CASES: dict[str, tuple[Equation, int, float, float, int]] = {
    "burgers": (Burgers(0.05), 1, 0.5, 0.5, 4),
    "kdv": (KortewegDeVries(0.1, 3.0), 1, 0.5, 0.5, 16),
    "kuramoto-sivashinsky": (KuramotoSivashinsky(1.0, 0.3), 1, 1.0, 0.5, 32),
    "kuramoto-sivashinsky-front": (KuramotoSivashinskyFront(1.0, 0.3), 2, 0.5, 0.5, 32),
    "fisher": (FisherKPP(0.1, 0.7), 1, 0.5, 0.5, 4),
    "allen-cahn": (AllenCahn(0.1, 2.0), 1, 0.5, 0.5, 4),
    "gray-scott": (GrayScott(0.5, 0.3, 0.2, 0.1), 2, 0.5, 0.5, 4),
    "swift-hohenberg": (SwiftHohenberg(0.5, 1.0, 0.5), 2, 0.5, 0.5, 8),
    "cahn-hilliard": (CahnHilliard(0.3, 0.5), 1, 0.2, 0.4, 8),
    "nonlinear-diffusion": (NonlinearDiffusion(0.1, 0.5, 0.3), 1, 0.5, 0.5, 4),
    "schroedinger": (Schroedinger(1.0), 1, 0.5, 0.5, 8),
    "klein-gordon": (KleinGordon(1.0, 1.0, 2.0, 0.2), 1, 1.0, 0.7, 4),
    "shallow-water": (ShallowWater(0.05, 1.0, 1.0, 0.5), 2, 0.5, 0.2, 4),
    "navier-stokes": (NavierStokes(0.05), 3, 0.3, 0.7, 4),
}
"""Equation, axes, time, size of the state, time steps of the coarsest run."""


@pytest.fixture(params=CASES, ids=str)
def case(request):
    equation, dims, time, size, steps = CASES[request.param]
    grid = Grid.box([20, 18, 16][:dims])
    return equation, grid, smooth(equation, grid, size=size), time, steps


@pytest.mark.parametrize("scheme", [ETDRK2, ETDRK4], ids=lambda s: s.name)
def test_every_equation_converges_at_the_order_of_the_scheme(case, scheme):
    equation, grid, u, time, steps = case
    exact = march(equation, grid, u, time, 16 * steps)
    errors = [float((march(equation, grid, u, time, n * steps, scheme) - exact).norm()) for n in (1, 2, 4)]
    assert math.log2(errors[1] / errors[2]) == pytest.approx(scheme.order, abs=0.5)


def test_every_equation_agrees_with_runge_kutta_on_its_plain_rate(case):
    equation, grid, _, time, steps = case
    grid = grid.with_points([12, 11, 10][: grid.num_dims])
    u = smooth(equation, grid, size=0.3)
    calculus = partial(Spectral, dealias=equation.dealias)
    d = calculus(grid, torch.float64)
    p, form = equation.ready({}, u), equation.form(d)
    linear = equation.linear(grid, p) if form.linear is None else form.linear(p)
    plain = math.ceil(time / 8 * float(linear.abs().max()) / 1.5) + 50
    lines = LinesStepper(equation, grid, time / 8, plain, RK4, calculus)
    expected = next(lines.march(d.truncate(u)[:, None], {}))[:, 0]
    got = march(equation, grid, d.truncate(u), time / 8, 16 * steps)
    assert torch.allclose(d.truncate(got), d.truncate(expected), atol=1e-6)
    assert (got - u).norm() > 5e-3 * u.norm()


def test_reactions_beside_diffusion_use_every_wavenumber_and_need_fewer_points():
    exact = Grid.box(128)
    u = torch.tanh(3 * torch.sin(exact.coordinates(torch.float64)))[None]
    true = march(AllenCahn(0.1, 2.0), exact, u, 0.5, 64)

    def error(dealias: bool) -> float:
        equation = AllenCahn(0.1, 2.0)
        equation.dealias = dealias
        return float(
            (march(equation, Grid.box(32), u[..., ::4], 0.5, 64) - true[..., ::4]).norm() / true[..., ::4].norm()
        )

    assert not AllenCahn().dealias
    assert error(False) < 3e-4
    assert error(True) > 20 * error(False)


# Exact solutions.


def test_linear_transport_is_exact_at_any_step():
    grid = Grid.box([16, 15])
    x, y = grid.coordinates(torch.float64)
    c, nu, t = (0.7, -1.3), 0.2, 3.0

    def wave(t, nu):
        return (torch.sin(2 * (x - c[0] * t) + 3 * (y - c[1] * t)) * math.exp(-13 * nu * t))[None, None]

    for equation, rate in ((AdvectionDiffusion(c, nu, 2), nu), (Advection(c, 2), 0.0)):
        assert torch.allclose(march(equation, grid, wave(0, 0), t, 1, ETDRK1), wave(t, rate), atol=1e-12)
    heat = torch.sin(2 * x + 3 * y)[None, None]
    assert torch.allclose(march(Diffusion(nu, 2), grid, heat, t, 1, ETDRK2), heat * math.exp(-13 * nu * t), atol=1e-14)


def soliton(x, t, c):
    y = torch.remainder(x - c * t, 40) - 20
    return (0.5 * c / torch.cosh(0.5 * math.sqrt(c) * y) ** 2)[None]


@pytest.mark.parametrize("scheme", [ETDRK2, ETDRK4], ids=lambda s: s.name)
def test_a_soliton_travels_unchanged_to_the_order_of_the_scheme(scheme):
    grid = Grid.box(216, 40.0)
    x = grid.coordinates(torch.float64)
    exact, start = soliton(x, 2.0, 2.25), soliton(x, 0.0, 2.25)
    errors = [float((march(KortewegDeVries(), grid, start, 2.0, n, scheme) - exact).norm()) for n in (400, 800)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(scheme.order, abs=0.3)
    assert errors[1] < 1e-2 * float(exact.norm())


@pytest.mark.parametrize("scheme", [ETDRK2, ETDRK4], ids=lambda s: s.name)
def test_an_envelope_soliton_travels_unchanged_to_the_order_of_the_scheme(scheme):
    length = 50.0
    grid = Grid.box(384, length)
    v, a = 2 * math.pi * 4 / length, 1.3

    def envelope(t):
        x = grid.coordinates(torch.float64)[0]
        y = torch.remainder(x - v * t, length) - length / 2
        phase = v * x + (a * a - v * v) / 2 * t
        return torch.stack([torch.cos(phase), torch.sin(phase)])[None] * a / torch.cosh(a * y)

    errors = [
        float((march(Schroedinger(), grid, envelope(0), 2.0, n, scheme) - envelope(2.0)).norm()) for n in (20, 40)
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(scheme.order, abs=0.3)


@pytest.mark.parametrize("scheme", [ETDRK2, ETDRK4], ids=lambda s: s.name)
def test_burgers_meets_the_solution_of_cole_and_hopf(scheme):
    grid, nu = Grid.box(64, 2.0), 0.1
    x = grid.coordinates(torch.float64)[None]

    def exact(t):
        e = math.exp(-nu * math.pi**2 * t)
        return 2 * nu * math.pi * e * torch.sin(math.pi * x) / (1.25 + e * torch.cos(math.pi * x))

    errors = [float((march(Burgers(nu), grid, exact(0), 0.5, n, scheme) - exact(0.5)).norm()) for n in (4, 8)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(scheme.order, abs=0.4)


@pytest.mark.parametrize("scheme", [ETDRK2, ETDRK4], ids=lambda s: s.name)
def test_fisher_fronts_run_as_ablowitz_and_zeppetella_found(scheme):
    grid = Grid.box(512, 200.0)
    x = grid.coordinates(torch.float64)[None]

    def fronts(t):
        c = 5 / math.sqrt(6)
        right = 1 / (1 + torch.exp((x - 150 - c * t) / math.sqrt(6))) ** 2
        left = 1 / (1 + torch.exp((50 - x - c * t) / math.sqrt(6))) ** 2
        return right * left

    errors = [
        float((march(FisherKPP(1.0, 1.0), grid, fronts(0), 3.0, n, scheme) - fronts(3.0)).norm()) for n in (8, 16)
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(scheme.order, abs=0.35)


def test_flow_with_vorticity_along_velocity_only_decays():
    nu, grid = 0.1, Grid.box(16, num_dims=3)
    x, y, z = grid.coordinates(torch.float64)
    u = torch.stack([torch.sin(z) + 0.5 * torch.cos(y), torch.sin(x) + torch.cos(z), 0.5 * torch.sin(y) + torch.cos(x)])
    new = march(NavierStokes(nu), grid, u[None], 2.0, 3, ETDRK2)
    assert torch.allclose(new, u[None] * math.exp(-nu * 2.0), atol=1e-12)


def test_taylor_green_vortices_decay_in_the_plane_and_feed_enstrophy_in_space():
    nu, grid = 0.05, Grid.box(24, num_dims=3)
    x, y, z = grid.coordinates(torch.float64)
    u = torch.stack([torch.sin(x) * torch.cos(y), -torch.cos(x) * torch.sin(y), torch.zeros_like(x)])[None]
    assert torch.allclose(march(NavierStokes(nu), grid, u, 1.0, 4), u * math.exp(-2 * nu), atol=1e-12)
    # Inviscid start of the vortex in space: mean squared vorticity is 3/4 (1 + 5/48 t^2 + O(t^4)) for Taylor and Green's choice.
    v = u * torch.cos(z)
    t = 0.2
    w = Spectral(grid, torch.float64).curl(march(NavierStokes(0.0), grid, v, t, 8))
    ratio = float(w.square().sum(1).mean() / 0.75)
    assert (ratio - 1) / t**2 == pytest.approx(5 / 48, rel=2e-2)


def test_flow_without_third_dimension_is_the_flow_of_vorticity_in_the_plane():
    plane, box = Grid.box(24, num_dims=2), Grid.box([24, 24, 8])
    flow = VorticityFlow(0.02)
    w = smooth(flow, plane, 4.0, 3.0)
    d = Spectral(plane, torch.float64)
    w = w - w.mean()
    velocity = flow.velocity(w, d)
    lifted = torch.cat([velocity, torch.zeros_like(w)], dim=1)[..., None].expand(-1, -1, -1, -1, 8).contiguous()
    end = march(NavierStokes(0.02), box, lifted, 0.5, 40)
    expected = flow.velocity(march(flow, plane, d.truncate(w), 0.5, 40), d)
    assert torch.allclose(end[:, :2, ..., 3], expected, atol=1e-6)
    assert (expected - velocity).norm() > 0.1 * velocity.norm()


def oscillator(t, frequency2, damping):
    """u of ``u'' + damping u' + frequency2 u = 0``, u(0) = 1, u'(0) = 0, in every regime."""
    root = complex(damping**2 / 4 - frequency2) ** 0.5
    grown = t if root == 0 else (torch.sinh(torch.tensor(root * t)) / root).item().real
    return math.exp(-damping * t / 2) * ((torch.cosh(torch.tensor(root * t))).item().real + damping / 2 * grown)


@pytest.mark.parametrize("damping", [0.0, 0.5, 2 * math.sqrt(13.0), 20.0], ids=["free", "weak", "critical", "strong"])
@pytest.mark.parametrize("mass", [0.0, 2.0])
def test_linear_waves_are_exact_at_any_step(damping, mass):
    grid = Grid.box([16, 15])
    x, y = grid.coordinates(torch.float64)
    for k in ((2, 3), (0, 0)):
        shape = torch.cos(k[0] * x + k[1] * y)
        u = torch.stack([shape, torch.zeros_like(shape)])[None]
        frequency2 = 4.0 * (k[0] ** 2 + k[1] ** 2) / 4 + mass**2
        new = march(KleinGordon(mass, 1.0, 0.0, damping, 2), grid, u, 1.7, 1, ETDRK1)
        assert torch.allclose(new[0, 0], oscillator(1.7, frequency2, damping) * shape, atol=1e-10)
        if mass == 0:
            assert torch.allclose(march(DampedWave(1.0, damping, 2), grid, u, 1.7, 1, ETDRK2), new, atol=1e-12)


def test_waves_in_an_uneven_medium_keep_their_energy_and_follow_the_plain_rate():
    grid = Grid.box(32)
    x = grid.coordinates(torch.float64)
    speed = 1 + 0.4 * torch.sin(x) * torch.cos(2 * x)
    u = torch.stack([torch.exp(-4 * (x[0] - 3) ** 2), torch.zeros_like(x[0])])[None]
    d = Spectral(grid, torch.float64)
    equation, p = DampedWave(), {"wave_speed": speed}
    u = d.truncate(u)
    ends = [march(equation, grid, u, 1.0, n, parameters=p) for n in (20, 40, 320)]
    errors = [float((e - ends[-1]).norm()) for e in ends[:2]]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.4)
    plain = next(LinesStepper(equation, grid, 1.0, 400, RK4, Spectral).march(u[:, None], p))[:, 0]
    assert torch.allclose(plain, ends[-1], atol=1e-6)
    fine = Grid.box(128)
    far = fine.coordinates(torch.float64)
    u = torch.stack([torch.exp(-4 * (far[0] - 3) ** 2), torch.zeros_like(far[0])])[None]
    p = {"wave_speed": 1 + 0.4 * torch.sin(far) * torch.cos(2 * far)}
    e = Spectral(fine, torch.float64)
    energy = equation.invariants()["energy"]
    end = march(equation, fine, u, 2.0, 200, parameters=p)
    before, after = (float(energy(v, e, equation.ready(p, v))) for v in (u, end))
    assert after == pytest.approx(before, rel=1e-7)


def test_small_gravity_waves_turn_with_the_plane_exactly():
    grid, g, depth, f = Grid.box([16, 15]), 2.0, 0.7, 1.3
    x, y = grid.coordinates(torch.float64)
    k = (2.0, -1.0)
    omega = math.sqrt(g * depth * 5 + f**2)
    phase = k[0] * x + k[1] * y

    def wave(t):
        h, c, s = 1e-7, torch.cos(phase - omega * t), torch.sin(phase - omega * t)
        size = h / (depth * 5)
        u = size * (k[0] * omega * c - k[1] * f * s)
        v = size * (k[1] * omega * c + k[0] * f * s)
        return torch.stack([h * c, u, v])[None]

    new = march(ShallowWater(0.0, g, depth, f), grid, wave(0.0), 2.3, 1, ETDRK1)
    assert torch.allclose(new, wave(2.3), atol=1e-12)
    assert not torch.allclose(wave(0.0), wave(2.3), atol=1e-8)


# Growth of small waves, and states without space.

GROWTH: dict[str, tuple[Equation, Callable[[float], float]]] = {
    "kuramoto-sivashinsky": (KuramotoSivashinsky(0.9, 0.2), lambda k: 0.9 * k**2 - 0.2 * k**4),
    "front": (KuramotoSivashinskyFront(0.9, 0.2, 1), lambda k: 0.9 * k**2 - 0.2 * k**4),
    "fisher": (FisherKPP(0.1, 0.7), lambda k: 0.7 - 0.1 * k**2),
    "allen-cahn": (AllenCahn(0.1, 0.7), lambda k: 0.7 - 0.1 * k**2),
    "swift-hohenberg": (SwiftHohenberg(0.3, 1.1, 0.5, 1), lambda k: 0.3 - (1.1**2 - k**2) ** 2),
    "cahn-hilliard": (CahnHilliard(0.8, 0.4, 1), lambda k: 0.8 * (k**2 - 0.16 * k**4)),
    "nonlinear-diffusion": (NonlinearDiffusion(0.1), lambda k: -0.1 * k**2),
}


@pytest.mark.parametrize("name", GROWTH)
def test_small_waves_grow_at_the_rate_of_linear_theory(name):
    equation, rate = GROWTH[name]
    grid = Grid.box(16)
    u = 1e-9 * torch.sin(2 * grid.coordinates(torch.float64))[None]
    assert torch.allclose(march(equation, grid, u, 1.0, 2) / 1e-9, u / 1e-9 * math.exp(rate(2.0)), atol=1e-7)


def test_uniform_states_react_like_an_ordinary_differential_equation():
    feed, kill = 0.4, 0.3
    grid = Grid.box([8, 6])
    u = torch.tensor([0.6, 0.5], dtype=torch.float64).reshape(1, 2, 1, 1).expand(1, 2, 8, 6)
    new = march(GrayScott(feed, kill), grid, u, 2.0, 64)

    def rate(t, y):
        eaten = y[0] * y[1] ** 2
        return [feed * (1 - y[0]) - eaten, eaten - (feed + kill) * y[1]]

    exact = torch.tensor(solve_ivp(rate, (0, 2.0), [0.6, 0.5], rtol=1e-11, atol=1e-12).y[:, -1])
    assert torch.allclose(new, exact.reshape(1, 2, 1, 1).expand_as(new), atol=1e-8)
    phase = march(AllenCahn(1e-3, 1.5), Grid.box(8), torch.full((1, 1, 8), 0.3, dtype=torch.float64), 1.0, 64)
    assert float(phase[0, 0, 0]) == pytest.approx(0.3 / math.sqrt(0.09 + 0.91 * math.exp(-3.0)), rel=1e-8)


# What is kept, and what only falls.

KEPT: dict[str, tuple[Equation, int, float]] = {
    "kdv": (KortewegDeVries(0.1, 3.0), 1, 0.5),
    "schroedinger": (Schroedinger(1.0), 1, 0.5),
    "klein-gordon": (KleinGordon(1.0, 1.0, 1.0), 1, 0.5),
    "wave": (DampedWave(0.8, 0.0, 2), 2, 0.5),
    "shallow-water": (ShallowWater(0.0, 1.0, 1.0, 0.5), 2, 0.05),
    "navier-stokes": (NavierStokes(0.0), 3, 0.3),
    "advection": (Advection(1.0), 1, 0.5),
    "nonlinear-diffusion": (NonlinearDiffusion(0.1), 1, 0.5),
    "front": (KuramotoSivashinskyFront(), 2, 0.5),
    "kuramoto-sivashinsky": (KuramotoSivashinsky(), 1, 0.5),
}


@pytest.mark.parametrize("name", KEPT)
def test_invariants_are_kept(name):
    equation, dims, size = KEPT[name]
    grid = Grid.box([64, 32, 24][:dims] if dims == 1 else 24 if dims == 3 else [32, 30], num_dims=dims)
    d = Spectral(grid, torch.float64)
    u = smooth(equation, grid, 1.5, size) + 0.1
    if name == "navier-stokes":
        u = equation.project(u, d)
    end = march(equation, grid, u, 0.5, 100 if dims < 3 else 30)
    p = equation.ready({}, u)
    assert equation.invariants()
    for invariant in equation.invariants().values():
        assert float(invariant(end, d, p)) == pytest.approx(float(invariant(u, d, p)), rel=2e-7, abs=1e-12)
    assert (end - u).norm() > 0.01 * u.norm()


@pytest.mark.parametrize(
    "equation",
    [AllenCahn(0.05, 1.0, 2), CahnHilliard(0.5, 0.4), SwiftHohenberg(0.6, 1.0, 0.4)],
    ids=lambda e: type(e).__name__,
)
def test_free_energy_only_falls(equation):
    grid = Grid.box([20, 18])
    u, d = smooth(equation, grid, 3.0, 0.6), Spectral(grid, torch.float64)
    energy, p = equation.invariants()["free energy"], equation.ready({}, u)
    values = [float(energy(u, d, p))]
    for _ in range(8):
        u = march(equation, grid, u, 0.2, 16)
        values.append(float(energy(u, d, p)))
    assert all(later < sooner for sooner, later in itertools.pairwise(values))


# Coupled linear parts in the other schemes, and gradients through them.


@pytest.mark.parametrize("scheme", [CNRK2, ARS443], ids=lambda s: s.name)
def test_implicit_schemes_solve_coupled_linear_parts(scheme):
    equation, grid = KleinGordon(1.0, 1.0, 2.0, 0.2), Grid.box(16)
    u = smooth(equation, grid, size=0.7)
    exact = march(equation, grid, u, 1.0, 256)
    errors = [float((march(equation, grid, u, 1.0, n, scheme) - exact).norm()) for n in (32, 64)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(scheme.order, abs=0.3)


def test_gradients_pass_coupled_and_complex_linear_parts():
    grid = Grid.box(8)
    for equation, name in ((KleinGordon(1.0, 1.0, 1.0), "mass"), (Schroedinger(), "dispersion")):
        u = smooth(equation, grid, 2.0).requires_grad_()
        value = torch.tensor([0.7], dtype=torch.float64, requires_grad=True)
        end = lambda u, v, e=equation, n=name: march(e, grid, u, 0.3, 2, ETDRK4, {n: v})  # noqa: E731
        assert torch.autograd.gradcheck(end, (u, value), atol=1e-6)


def test_single_precision_follows_double(case):
    equation, grid, u, time, steps = case
    single = march(equation, grid, u.float(), time, 2 * steps)
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), march(equation, grid, u, time, 2 * steps), atol=2e-4)
