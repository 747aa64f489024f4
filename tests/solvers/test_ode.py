"""Adaptive integrators: order, tolerance, stiffness, gradients, independence of runs."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.integrate import solve_ivp
from torch import nn

from slipstream.equations import Burgers
from slipstream.errors import InputError, ShapeError, UnstableStep
from slipstream.grids import Grid
from slipstream.pretrained import describe, rebuild
from slipstream.solvers import BS32, DOPRI5, RK4, RODAS4, RODAS5P, TSIT5, LinesStepper, OdeStepper
from slipstream.solvers.adaptive import Tolerance, initial_step, integrate, step_error, step_stiffness

METHODS = [TSIT5, DOPRI5, BS32, RODAS4, RODAS5P]
each_method = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
F64 = torch.float64


def vector(*values):
    return torch.tensor(values, dtype=F64)


def swing(t, u):
    """Neither linear nor autonomous."""
    return torch.stack([u[:, 1], -u[:, 0] * (1 + 0.3 * torch.sin(t)) - 0.2 * u[:, 0] ** 3], 1)


START = torch.tensor([[1.0, 0.3], [0.2, -1.0]], dtype=F64)
TWO = vector(2.0, 0.0)[None, None]


def fixed(method, steps, end=2.0, slope=swing, u=START):
    t, h = torch.zeros(len(u), dtype=F64), torch.full((len(u),), end / steps, dtype=F64)
    for _ in range(steps):
        u = method.step(slope, t, u, h, method.first(slope, t, u)).u
        t = t + h
    return u


def rate_of_fall(errors):
    return math.log2(errors[-2] / errors[-1])


@each_method
def test_error_falls_with_the_order_of_the_method(method):
    truth = fixed(DOPRI5 if method is TSIT5 else TSIT5, 100)
    errors = [float((fixed(method, n) - truth).abs().max()) for n in (12, 24)]
    assert rate_of_fall(errors) == pytest.approx(method.order, abs=0.2)


@each_method
def test_inside_a_step_and_in_its_estimate_the_error_falls_as_stated(method):
    inside, estimates = [], []
    for h in (0.1, 0.05):
        size, t = torch.full((2,), h, dtype=F64), torch.full((2,), 0.3, dtype=F64)
        step = method.step(swing, t, START, size, method.first(swing, t, START))
        theta = torch.tensor([0.37, 0.81], dtype=F64)
        truth, s = START, t
        for _ in range(6):
            truth, s = (
                TSIT5.step(swing, s, truth, theta * size / 6, TSIT5.first(swing, s, truth)).u,
                s + theta * size / 6,
            )
        inside.append(float((method.between(START, step, size, theta) - truth).abs().max()))
        estimates.append(float(step.error.abs().max()))
    assert rate_of_fall(estimates) == pytest.approx(method.estimate, abs=0.3)
    assert rate_of_fall(inside) > {"BS32": 3.7, "Rodas4": 3.7}.get(method.name, 4.6)
    ends = torch.tensor([0.0, 1.0], dtype=F64)
    assert torch.allclose(method.between(START, step, size, ends), torch.stack([START[0], step.u[1]]), atol=1e-14)


@pytest.mark.parametrize("method", [RODAS4, RODAS5P], ids=lambda m: m.name)
def test_rosenbrock_steps_damp_what_is_infinitely_stiff(method):
    slope = lambda t, u: -1e12 * (u - torch.cos(t)[:, None])  # noqa: E731
    u, t, h = torch.full((1, 1), 5.0, dtype=F64), torch.zeros(1, dtype=F64), torch.full((1,), 0.1, dtype=F64)
    for _ in range(2):  # the first step leaves the transient behind
        u, t = method.step(slope, t, u, h, method.first(slope, t, u)).u, t + h
    assert float(u) == pytest.approx(math.cos(0.2), abs=1e-4)


@each_method
def test_error_follows_the_tolerance_over_decades(method):
    truth = fixed(TSIT5, 100, end=4.0)
    times, errors, tolerances = vector(0, 4), [], (1e-4, 1e-6, 1e-8)[: 2 if method in (BS32, RODAS4) else 3]
    for tolerance in tolerances:
        path = integrate(swing, START, times, method=method, tolerance=Tolerance(tolerance, tolerance))
        errors.append(float((path.frames[:, -1] - truth).abs().max()))
    for error, tolerance in zip(errors, tolerances, strict=True):
        assert tolerance / 100 < error < 20 * tolerance


# Nonstiff problems of Hull, Enright, Fellen & Sedgwick, SIAM J. Numer. Anal. 9 (1972) 603, over their t in [0, 20].
DECAY = torch.diag(-torch.ones(10, dtype=F64)) + torch.diag(torch.ones(9, dtype=F64), -1)
DECAY[9, 9] = 0.0
CHEMISTRY = torch.tensor([[-1.0, 1, 0], [1, -2, 1], [0, 1, -1]], dtype=F64)


def polar(t, y):
    return 0.5 * math.log(t * t + y * y) + math.atan2(y, t)


def orbit(t, u):
    x, v = u[:, :2], u[:, 2:]
    return torch.cat([v, -x / x.square().sum(1, keepdim=True) ** 1.5], 1)


def kepler(t, e):
    anomaly = t
    for _ in range(60):
        anomaly = anomaly - (anomaly - e * math.sin(anomaly) - t) / (1 - e * math.cos(anomaly))
    return vector(math.cos(anomaly) - e, math.sqrt(1 - e * e) * math.sin(anomaly))


DETEST = {
    "A1": (lambda t, u: -u, [1.0], lambda u: u[0] - math.exp(-20)),
    "A2": (lambda t, u: -0.5 * u**3, [1.0], lambda u: u[0] - 1 / math.sqrt(21)),
    "A3": (lambda t, u: u * torch.cos(t)[:, None], [1.0], lambda u: u[0] - math.exp(math.sin(20))),
    "A4": (lambda t, u: 0.25 * u * (1 - u / 20), [1.0], lambda u: u[0] - 20 / (1 + 19 * math.exp(-5))),
    "A5": (lambda t, u: (u - t[:, None]) / (u + t[:, None]), [4.0], lambda u: polar(20, float(u[0])) - polar(0, 4)),
    "B1": (
        lambda t, u: torch.stack([2 * (u[:, 0] - u[:, 0] * u[:, 1]), -(u[:, 1] - u[:, 0] * u[:, 1])], 1),
        [1.0, 3.0],
        lambda u: (u[0] - torch.log(u[0]) + 2 * (u[1] - torch.log(u[1]))) - (1 + 2 * (3 - math.log(3))),
    ),
    "B2": (
        lambda t, u: u @ CHEMISTRY.T,
        [2.0, 0.0, 1.0],
        lambda u: u - torch.linalg.matrix_exp(20 * CHEMISTRY) @ vector(2.0, 0.0, 1.0),
    ),
    "C1": (
        lambda t, u: u @ DECAY.T,
        [1.0] + 9 * [0.0],
        lambda u: u - torch.linalg.matrix_exp(20 * DECAY)[:, 0],
    ),
    "D1": (orbit, [0.9, 0.0, 0.0, math.sqrt(1.1 / 0.9)], lambda u: u[:2] - kepler(20.0, 0.1)),
}


@pytest.mark.parametrize("name", DETEST)
def test_known_solutions_are_met(name):
    slope, start, residual = DETEST[name]
    path = integrate(slope, vector(*start)[None], vector(0, 20), tolerance=Tolerance(1e-9, 1e-9))
    error = torch.as_tensor(residual(path.frames[0, -1])).abs().max()
    assert 0 <= float(error) < 2e-7


def robertson(t, u, p):
    a, b, c = u.unbind(1)
    return torch.stack([-0.04 * a + 1e4 * b * c, 0.04 * a - 1e4 * b * c - 3e7 * b * b, 3e7 * b * b], 1)


def march(stepper, start, parameters=None):
    state, frames = stepper.advance(stepper.start(vector(*start)[None, None], parameters or {}), parameters or {})
    return frames[0, -1], state.stats


def test_robertson_meets_published_values():
    u, stats = march(OdeStepper(robertson, 40.0, RODAS5P, 1e-8, (1e-10, 1e-14, 1e-10)), (1.0, 0.0, 0.0))
    published = vector(0.7158270687193941, 9.185534764557338e-06, 0.2841637457458413)
    assert torch.allclose(u, published, rtol=1e-7, atol=0)
    assert float(u.sum()) == pytest.approx(1.0, abs=1e-12)
    assert int(stats["accepted"]) < 400


@pytest.mark.slow
def test_robertson_meets_published_values_in_the_far_future():
    """IVP test set (Mazzia & Magherini, 2008), t = 1e11."""
    u, _ = march(OdeStepper(robertson, 1e11, RODAS5P, 1e-8, (1e-14, 1e-18, 1e-14)), (1.0, 0.0, 0.0))
    published = vector(0.2083340149701255e-7, 0.8333360770334713e-13, 0.9999999791665050)
    assert torch.allclose(u, published, rtol=1e-6, atol=0)


def oscillator(t, u, p):
    return torch.stack([u[:, 1], p["mu"][:, None].squeeze(1) * (1 - u[:, 0] ** 2) * u[:, 1] - u[:, 0]], 1)


def test_a_stiff_van_der_pol_oscillator_meets_its_published_values():
    """IVP test set, mu = 1000, t = 2000; an explicit method would need some three million steps."""
    u, stats = march(OdeStepper(oscillator, 2000.0, RODAS5P, 1e-5, 1e-5), (2.0, 0.0), {"mu": vector(1000.0)})
    assert torch.allclose(u, vector(0.1706167732170483e1, -0.8928097010247975e-3), rtol=2e-3)
    assert int(stats["accepted"]) < 600
    with pytest.raises(UnstableStep, match=r"400 steps.*t = .*RODAS5P"):
        march(OdeStepper(oscillator, 2000.0, TSIT5, 1e-5, 1e-5, max_steps=400), (2.0, 0.0), {"mu": vector(1000.0)})


@pytest.mark.parametrize(("method", "theirs"), [(TSIT5, "DOP853"), (RODAS5P, "LSODA")], ids=["Tsit5", "Rodas5P"])
def test_it_agrees_with_another_integrator(method, theirs):
    mu = 3.0
    stepper = OdeStepper(oscillator, 2.0, method, 1e-6, 1e-8, horizon=3)
    frames = stepper.advance(stepper.start(TWO, {}), {"mu": vector(mu)})[1][0]
    other = solve_ivp(
        lambda t, y: [y[1], mu * (1 - y[0] ** 2) * y[1] - y[0]],
        (0, 6),
        [2.0, 0.0],
        theirs,
        (2, 4, 6),
        rtol=1e-10,
        atol=1e-12,
    )
    assert torch.allclose(frames, torch.from_numpy(other.y.T), rtol=1e-4, atol=3e-5)


@each_method
def test_runs_do_not_see_each_other(method):
    mu = vector(0.5, 20.0, 3.0)
    frames = vector(2.0, 0.0).expand(3, 1, 2)
    stepper = OdeStepper(oscillator, 1.5, method, 1e-5, 1e-6)
    state, together = stepper.advance(stepper.start(frames, {}), {"mu": mu})
    assert len(set(state.stats["accepted"].tolist())) == 3
    for i in range(3):
        alone, frame = stepper.advance(stepper.start(frames[i : i + 1], {}), {"mu": mu[i : i + 1]})
        assert torch.allclose(frame[0], together[i], atol=1e-10)
        for name in ("accepted", "rejected", "evaluations"):
            assert int(alone.stats[name]) == int(state.stats[name][i])
        assert torch.allclose(alone.stats["local_error"][0], state.stats["local_error"][i], rtol=1e-6)


def test_one_step_size_for_the_batch_if_asked():
    stepper = OdeStepper(oscillator, 1.5, rtol=1e-5, atol=1e-6, shared=True)
    state, _ = stepper.advance(stepper.start(vector(2.0, 0.0).expand(3, 1, 2), {}), {"mu": vector(0.5, 20.0, 3.0)})
    sizes = state.stats["step_size"]
    assert torch.equal(sizes, sizes[:1].expand_as(sizes))


def test_evaluations_are_counted_as_they_are_made():
    for method, width in ((TSIT5, 1), (BS32, 1), (DOPRI5, 1)):
        calls = 0

        def rate(t, u, p):
            nonlocal calls
            calls += 1
            return oscillator(t, u, p)

        stepper = OdeStepper(rate, 9.0, method, 1e-3, 1e-3)
        state, _ = stepper.advance(stepper.start(TWO, {}), {"mu": vector(8.0)})
        stats = {k: int(v) for k, v in state.stats.items() if v.ndim == 1 and not v.is_floating_point()}
        assert stats["rejected"] > 0
        assert stats["evaluations"] == calls == method.evaluations * (stats["accepted"] + stats["rejected"]) + 1 + width


def test_times_in_between_change_no_step():
    few = integrate(swing, START, vector(0, 5))
    many = integrate(swing, START, torch.linspace(0, 5, 41, dtype=F64))
    assert torch.equal(few.frames[:, -1], many.frames[:, -1])
    assert torch.equal(few.stats["step_size"], many.stats["step_size"])
    assert many.frames.shape == (2, 40, 2)
    truth = torch.stack([fixed(TSIT5, 60, end=0.125 * k) for k in (1, 7, 23)], 1)
    assert torch.allclose(many.frames[:, [0, 6, 22]], truth, atol=2e-5)


def test_going_on_is_the_same_as_going_through():
    one = OdeStepper(oscillator, 0.7, rtol=1e-8, atol=1e-8)
    parameters = {"mu": vector(2.0)}
    state, frames = one.start(TWO, parameters), []
    for _ in range(4):
        size = state.values[2]
        state, new = one.advance(state, parameters)
        frames.append(new)
        if size is not None:  # step sizes carry over: no new start-up each call
            assert torch.equal(state.stats["step_size"][:, 0], size)
            assert float(size) > 0.02
    whole = OdeStepper(oscillator, 0.7, rtol=1e-8, atol=1e-8, horizon=4)
    _, through = whole.advance(whole.start(TWO, parameters), parameters)
    assert torch.allclose(torch.cat(frames, 1), through, atol=3e-7)
    assert torch.allclose(state.values[1], vector(2.8))


class Net(nn.Module):
    """A learnt rate that knows the time."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.width = width
        self.body = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 2))

    def forward(self, t, u, parameters):
        return self.body(torch.cat([u, t[:, None]], 1)) + parameters["push"][:, None]


@pytest.mark.parametrize("method", [TSIT5, RODAS4], ids=lambda m: m.name)
def test_gradients_of_the_end_are_those_of_finite_differences(method):
    stepper = OdeStepper(Net().double(), 1.0, method, 1e-9, 1e-9)
    u = START[:, None].clone().requires_grad_()
    push = vector(0.3, -0.2).requires_grad_()
    weight = stepper.rate.body[0].weight

    def loss(frames, push):
        return stepper.advance(stepper.start(frames, {}), {"push": push})[1].square().sum()

    gradients = torch.autograd.grad(loss(u, push), (u, push, weight))
    eps = 1e-5
    with torch.no_grad():
        for leaf, gradient in zip((u, push, weight), gradients, strict=True):
            flat, saved = leaf.view(-1), leaf.view(-1)[1].item()
            values = []
            for sign in (1, -1):
                flat[1] = saved + sign * eps
                values.append(float(loss(u, push)))
            flat[1] = saved
            assert float(gradient.reshape(-1)[1]) == pytest.approx((values[0] - values[1]) / (2 * eps), rel=1e-5)


@pytest.mark.parametrize("method", [TSIT5, DOPRI5, RODAS5P], ids=lambda m: m.name)
def test_error_and_stiffness_estimates_carry_gradients(method):
    """Against finite differences with the recorded step sizes kept."""
    net = Net().double()
    with torch.no_grad():
        net.body[0].weight.mul_(3)
    stepper = OdeStepper(net, 2.0, method, 1e-6, 1e-6)
    parameters, tolerance = {"push": vector(0.3, -0.2)}, Tolerance(1e-6, 1e-6)
    state, _ = stepper.advance(stepper.start(START[:, None], {}), parameters)
    found = {k: state.stats[k].sum() for k in ("local_error", "stiffness")}
    assert int(state.stats["accepted"].min()) > 3

    def replay():
        u, slope = START, stepper.slope(START, parameters)
        total, stiff = torch.zeros(2, dtype=F64), []
        for t, h in zip(state.stats["step_time"].unbind(1), state.stats["step_size"].unbind(1), strict=True):
            step = method.step(slope, t, u, h, method.first(slope, t, u))
            total = total + step_error(step, u, tolerance) * h
            stiff.append(step_stiffness(step))
            u = step.u
        return {"local_error": total.sum(), "stiffness": torch.stack(stiff, 1).amax(1).sum()}

    weight, eps = net.body[2].weight, 1e-4
    again = replay()
    gradients = {k: torch.autograd.grad(v, weight, retain_graph=True)[0] for k, v in found.items()}
    for name, gradient in gradients.items():
        assert torch.allclose(found[name], again[name], rtol=1e-9)
        with torch.no_grad():
            values = []
            for sign in (1, -1):
                weight[0, 2] += sign * eps
                values.append(float(replay()[name]))
                weight[0, 2] -= sign * eps
        assert float(gradient[0, 2]) == pytest.approx((values[0] - values[1]) / (2 * eps), rel=2e-5)


def test_the_totals_are_sums_over_the_recorded_steps():
    state, _ = (s := OdeStepper(oscillator, 3.0, rtol=1e-4, atol=1e-4)).advance(
        s.start(vector(2.0, 0.0).expand(2, 1, 2), {}), {"mu": vector(8.0, 1.0)}
    )
    stats = state.stats
    assert torch.allclose(stats["step_size"].sum(1), vector(3.0, 3.0))
    assert torch.allclose(stats["local_error"], (stats["step_error"] * stats["step_size"]).sum(1))
    assert torch.equal(stats["accepted"], (stats["step_size"] > 0).sum(1))
    assert 0 < float(stats["step_error"].max()) <= 1
    assert torch.equal(stats["stiffness"], stats["step_stiffness"].amax(1))


@pytest.mark.parametrize("method", [TSIT5, DOPRI5, RODAS4, RODAS5P], ids=lambda m: m.name)
def test_stiffness_is_the_largest_eigenvalue(method):
    one = OdeStepper(lambda t, u, p: -40.0 * u, 1.0, method, 1e-4, 1e-6)
    _, stats = march(one, (1.0,))
    known = stats["step_stiffness"][stats["step_stiffness"] > 0]
    assert torch.allclose(known, torch.full_like(known, 40.0), rtol=1e-6)
    matrix = torch.tensor([[-30.0, 10.0], [10.0, -2.0]], dtype=F64)
    _, stats = march(OdeStepper(lambda t, u, p: u @ matrix.T, 1.0, method, 1e-4, 1e-6), (1.0, 0.5))
    assert float(stats["stiffness"]) == pytest.approx(float(torch.linalg.eigvalsh(matrix).abs().max()), rel=0.05)


def test_a_rejected_step_that_overflowed_leaves_no_trace_in_gradients():
    u = torch.tensor([[3.0], [0.1]], dtype=F64, requires_grad=True)
    path = integrate(lambda t, v: -torch.exp(v) * v**9, u, vector(0, 0.1), size=vector(50.0, 50.0))
    assert path.stats["rejected"][0] > 0
    (gradient,) = torch.autograd.grad(path.frames.sum() + path.stats["local_error"].sum(), u)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().min() > 0


def test_the_first_step_is_of_the_scale_of_the_solution():
    t, tolerance = torch.zeros(2, dtype=F64), Tolerance(1e-6, 1e-6)
    sizes = initial_step(lambda t, u: u * vector(-1.0, -1000.0)[:, None], t, torch.ones(2, 1, dtype=F64), tolerance)
    for size, fast in zip(
        sizes, (1.0, 1000.0), strict=True
    ):  # Hairer's rule by hand: |u|, |u'| and |u''| over the tolerance 2e-6
        assert float(size) == pytest.approx(min(100 * 0.01 / fast, (0.01 / (5e5 * fast**2)) ** 0.2), rel=1e-6)
    short = initial_step(lambda t, u: -u, t, torch.ones(2, 1, dtype=F64), tolerance, span=vector(1e-4, 1e-4))
    assert float(short.max()) <= 1e-4


def test_a_solution_that_ends_is_reported_with_run_time_and_step():
    start = vector(0.5, 1.0)[:, None]
    with pytest.raises(UnstableStep, match=r"run 1 .* t = (1|0\.99\d+) after \d+ accepted and \d+ rejected"):
        integrate(lambda t, u: u**2, start, vector(0, 1.5))
    with pytest.raises(UnstableStep, match="not finite at the start"):
        integrate(lambda t, u: u / 0.0, start, vector(0, 1.5))


def test_wrong_input_is_refused():
    with pytest.raises(InputError, match=r"float32.*float64"):
        integrate(swing, START.float(), vector(0, 1), tolerance=Tolerance(1e-9, 1e-9))
    with pytest.raises(InputError, match="2 channels"):
        integrate(swing, START, vector(0, 1), tolerance=Tolerance(1e-6, (1e-6, 1e-6, 1e-6)))
    with pytest.raises(InputError, match="increase"):
        integrate(swing, START, vector(0, 1, 1))
    with pytest.raises(InputError, match="NaN"):
        integrate(swing, START * float("nan"), vector(0, 1))
    with pytest.raises(InputError, match="grid"):
        OdeStepper(Burgers(), 1.0)
    with pytest.raises(ShapeError, match=r"u\[None\]"):
        OdeStepper(oscillator, 1.0).check(START)
    with pytest.raises(ShapeError, match="2, \\.\\.\\."):
        OdeStepper(oscillator, 1.0, channels=("x", "y")).start(START[:, None, :1], {})


def test_further_axes_are_states_too_and_single_precision_will_do():
    u = torch.randn(3, 2, 2, 2)
    for method in (TSIT5, RODAS4):
        stepper = OdeStepper(lambda t, u, p: torch.sin(u) - u.flip(1), 1.0, method, 1e-5, 1e-6)
        _, frames = stepper.advance(stepper.start(u[:, None], {}), {})
        assert frames.dtype == torch.float32
        flat = OdeStepper(
            lambda t, u, p: torch.sin(u) - u.unflatten(1, (2, 4)).flip(1).flatten(1), 1.0, method, 1e-9, 1e-9
        )
        _, other = flat.advance(flat.start(u.flatten(1)[:, None].double(), {}), {})
        assert torch.allclose(frames.flatten(2).double(), other, atol=1e-4)


@pytest.mark.parametrize("method", [TSIT5, RODAS5P], ids=lambda m: m.name)
def test_an_equation_on_a_grid_is_a_system_like_any_other(method):
    grid = Grid.box(24)
    u = torch.stack([torch.sin(grid.coordinates(F64)), torch.cos(grid.coordinates(F64))])[:, None]
    parameters = {"viscosity": vector(0.2, 0.4)}
    ours = OdeStepper(Burgers(), 0.5, method, 1e-9, 1e-9, grid=grid)
    lines = LinesStepper(Burgers(), grid, 0.5, 200, RK4)
    frames = ours.advance(ours.start(u, parameters), parameters)[1]
    assert torch.allclose(frames, lines.advance(lines.start(u, parameters), parameters)[1], atol=1e-8)
    assert ours.channels == Burgers().channels


def test_it_is_described_and_rebuilt():
    stepper = OdeStepper(Burgers(0.3), 0.5, RODAS4, 1e-5, (1e-6,), grid=Grid.box(16))
    again = rebuild(describe(stepper))
    assert describe(again) == describe(stepper)
    assert again.method == RODAS4
