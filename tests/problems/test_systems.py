"""Systems without space: published values, first integrals, chaos, and the whole way from simulation to verdict."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from slipstream import objectives, rollout, train, verify
from slipstream.data import Store
from slipstream.equations import Lorenz, LotkaVolterra, NoSpace, Robertson, Spiral, VanDerPol
from slipstream.errors import InputError, ShapeError
from slipstream.grids import Grid
from slipstream.operators import MLP
from slipstream.pretrained import describe, rebuild
from slipstream.problems import (
    CubicSpiral,
    LorenzAttractor,
    PredatorPrey,
    RelaxationOscillator,
    RobertsonKinetics,
    Setting,
)
from slipstream.problems.systems import Adaptive
from slipstream.solvers import BS32, RODAS5P, TSIT5, OdeStepper
from slipstream.steppers import Autoregressive, Persistence, wrap

F64 = torch.float64
EQUATIONS = [Lorenz(), LotkaVolterra(), VanDerPol(), Robertson(), Spiral()]
each_equation = pytest.mark.parametrize("equation", EQUATIONS, ids=lambda e: type(e).__name__)


def vector(*values):
    return torch.tensor(values, dtype=F64)


@each_equation
def test_rates_have_their_gradients_and_each_run_its_own_parameters(equation):
    torch.manual_seed(1)
    u = 0.5 + torch.rand(2, len(equation.channels), dtype=F64)
    d = NoSpace()
    p = equation.ready({}, u)
    size = float(equation.rate(u, d, p).abs().max())
    assert torch.autograd.gradcheck(lambda v: equation.rate(v, d, p) / size, (u.clone().requires_grad_(),))
    for name in equation.parameters:
        value = vector(0.7, 1.3)
        both = equation.rate(u, d, equation.ready({name: value}, u))
        alone = [equation.rate(u[i : i + 1], d, equation.ready({name: value[i : i + 1]}, u[i : i + 1])) for i in (0, 1)]
        assert torch.allclose(both, torch.cat(alone), rtol=1e-14)
        assert not torch.allclose(both, equation.rate(u, d, equation.ready({name: value.flip(0)}, u)))
    again = rebuild(describe(equation))
    assert describe(again) == describe(equation)
    assert equation.latex


@each_equation
def test_a_field_of_states_has_the_rates_of_its_points(equation):
    u = 0.5 + torch.rand(2, len(equation.channels), 5, dtype=F64)
    field = equation.rate(u, NoSpace(), equation.ready({}, u))
    assert torch.allclose(field[..., 3], equation.rate(u[..., 3], NoSpace(), equation.ready({}, u[..., 3])))


@pytest.mark.parametrize("name", ["first integral", "mass", "level"])
def test_what_is_kept_has_no_rate(name):
    equation = {"first integral": LotkaVolterra(), "mass": Robertson(), "level": Spiral(damping=0.0)}[name]
    u = (0.5 + torch.rand(3, len(equation.channels), dtype=F64)).requires_grad_()
    p = equation.ready({}, u)
    (slope,) = torch.autograd.grad(equation.invariants()[name](u, NoSpace(), p).sum(), u)
    rate = equation.rate(u, NoSpace(), p).detach()
    assert float((slope * rate).sum(1).abs().max()) < 1e-8 * float(rate.abs().max())


def test_predators_and_prey_keep_to_their_orbit():
    problem = PredatorPrey(interval=0.5)
    frames, p = problem.sample(3, seed=2)
    integral = partial(problem.equation.invariants()["first integral"], d=NoSpace())
    drift = {}
    for rtol in (1e-3, 1e-8):
        u = problem.march(problem.solver(Setting(0, 0, Adaptive(TSIT5, rtol))), frames.double(), p, 13)
        values = torch.stack([integral(u[:, i], p=problem.equation.ready(p, u[:, i])) for i in (0, 12)])
        drift[rtol] = float((values[1] - values[0]).abs().max())
    assert drift[1e-8] < 1e-6
    assert drift[1e-3] > 100 * drift[1e-8]


# Values that come with the stiff solver of Lawrence Livermore National Laboratory, good to about three figures.
ROBERTSON = {
    0.4: (9.851641e-01, 3.386242e-05, 1.480205e-02),
    4.0: (9.055097e-01, 2.240338e-05, 9.446793e-02),
    40.0: (7.158010e-01, 9.185098e-06, 2.841898e-01),
    400.0: (4.505440e-01, 3.223217e-06, 5.494528e-01),
    4e4: (3.897839e-02, 1.621552e-07, 9.610214e-01),
}


@pytest.mark.parametrize("time", ROBERTSON)
def test_robertson_meets_published_values_and_keeps_its_mass(time):
    problem = RobertsonKinetics(0.04, 3e7, 1e4, interval=time)
    start = vector(1.0, 0.0, 0.0)[None, None]
    new = next(problem.solver(Setting(0, 0, Adaptive(RODAS5P, 1e-5))).march(start, {}))
    assert torch.allclose(new[0, 0], vector(*ROBERTSON[time]), rtol=1e-3)
    assert float(new.sum()) == pytest.approx(1, abs=1e-12)


def test_single_precision_frames_are_marched_in_double():
    problem = RobertsonKinetics(0.04, 3e7, 1e4)
    frames, p = problem.sample(2, seed=0)
    solver = problem.solver(Setting(0, 0, Adaptive(RODAS5P, 1e-9)))
    single, double = (next(solver.march(f, p)) for f in (frames, frames.double()))
    assert single.dtype == torch.float32
    assert torch.equal(single, double.float())


# Urabe (1960) and many since: period and amplitude of the limit cycle.
CYCLES = {1.0: (6.6632868593, 2.0086198), 5.0: (11.6122306679, 2.0215086)}


@pytest.mark.parametrize("mu", CYCLES)
def test_the_limit_cycle_has_its_published_period_and_amplitude(mu):
    period, amplitude = CYCLES[mu]
    problem = RelaxationOscillator(mu, interval=period)
    solver = problem.solver(Setting(0, 0, Adaptive(TSIT5, 1e-6)))
    settled = next(itertools.islice(solver.march(vector(2.0, 0.0)[None, None], {}), 1, None))
    dense = OdeStepper(problem.equation, period, horizon=200, rtol=1e-6, atol=1e-6, grid=Grid(()), calculus=NoSpace)
    dense.interval = period / 200
    frames = next(dense.march(settled, {}))
    assert torch.allclose(frames[:, -1:], settled, atol=1e-5 * mu)
    assert float(frames[..., 0].max()) == pytest.approx(amplitude, abs=5e-4)


def test_a_stiff_oscillator_is_solved_implicitly():
    problem = RelaxationOscillator(1000.0, interval=2000.0)
    scheme = problem.reference_setting.scheme
    assert isinstance(scheme, Adaptive)
    assert scheme.method is RODAS5P
    new = next(problem.solver(Setting(0, 0, Adaptive(RODAS5P, 1e-4))).march(vector(2.0, 0.0)[None, None], {}))
    assert torch.allclose(new[0, 0], vector(0.1706167732170483e1, -0.8928097010247975e-3), rtol=2e-2)


def test_the_level_of_the_spiral_falls_as_its_law_says():
    problem = CubicSpiral(interval=0.01)
    frames, p = problem.sample(2, seed=1)
    u = problem.march(problem.reference(), frames.double(), p, 3)
    level = u.pow(4).sum(-1)
    falling = -4 * 0.1 * u[:, 1].pow(6).sum(-1)
    assert torch.allclose((level[:, 2] - level[:, 0]) / 0.02, falling, rtol=1e-2)


def test_lorenz_converges_upon_itself_until_chaos_has_its_way():
    problem = LorenzAttractor(interval=1.0, warm_up=1.0)
    frames, p = problem.sample(1, seed=0)
    ends = [
        next(problem.solver(Setting(0, 0, Adaptive(TSIT5, rtol))).march(frames.double(), p))
        for rtol in (1e-3, 1e-5, 1e-7)
    ]
    errors = [float((e - ends[-1]).norm()) for e in ends[:-1]]
    assert errors[0] > 10 * errors[1]
    assert errors[1] < 1e-2


def test_lorenz_rests_where_it_should_and_shrinks_volumes_at_its_rate():
    equation, r = Lorenz(), math.sqrt(8 / 3 * 27)
    rest = torch.stack([vector(0, 0, 0), vector(r, r, 27), vector(-r, -r, 27)])
    assert float(equation.rate(rest, NoSpace(), equation.ready({}, rest)).abs().max()) < 1e-13
    problem, time = LorenzAttractor(interval=0.1, warm_up=0.0), 0.1
    start = problem.sample(1, seed=3)[0][0].double()
    solver = problem.solver(Setting(0, 0, Adaptive(TSIT5, 1e-8)))
    flow = torch.autograd.functional.jacobian(lambda u: next(solver.march(u[None], {}))[0, 0], start)
    volume = float(torch.linalg.det(flow[:, 0]))
    assert volume == pytest.approx(math.exp(-(10 + 1 + 8 / 3) * time), rel=1e-6)


def test_the_start_of_a_stepper_with_memory_is_made_and_counted():
    problem = PredatorPrey()
    frames, p = problem.sample(2, seed=0)
    whole, steps = problem.starter(frames, 2, p)
    assert torch.equal(whole[:, :1], frames)
    assert torch.allclose(whole, problem.march(problem.reference(), frames.double(), p, 3).float(), rtol=1e-3)
    assert steps >= 2


def test_from_simulation_to_verdict(tmp_path):
    problem = CubicSpiral(damping=(0.05, 0.2))
    data = problem.simulate(3, 6, seed=0, out=tmp_path / "spiral.zarr")
    assert data.grid == Grid(())
    assert data.frames.shape == (3, 6, 2)
    stored = Store.open(tmp_path / "spiral.zarr").trajectories()
    assert torch.equal(stored.frames, data.frames)
    assert stored.grid == data.grid
    assert data.to_xarray().dims == ("run", "time", "channel")
    torch.manual_seed(0)
    stepper = Autoregressive(partial(MLP, hidden_channels=16, n_layers=2), problem, history=2)
    for objective in (objectives.Supervised(), objectives.PhysicsResidual(trusted=0.1)):
        train(stepper, data, objective, steps=8, batch=8)
    stepper.save_pretrained(tmp_path / "model")
    again = Autoregressive.from_pretrained(tmp_path / "model")
    report = verify(again, problem, runs=1, steps=3, ladder=False)
    assert set(report.metrics["model"]) == {"relative_l2", "nrmse", "rmse", "max_error"}
    assert set(report.metrics) == {"model", "persistence", "linear_extrapolation"}
    new = rollout(again, data[:, :2], 6).frames
    assert math.isfinite(float(new.sum()))
    assert report.reference is not None
    assert "tolerance 100 times tighter" in report.reference.how
    assert report.reference.error[-1] < 1e-9
    report.save(tmp_path / "report.html")
    report.save(tmp_path / "report.json")


def test_errors_of_systems_are_those_of_their_numbers():
    problem = LorenzAttractor(warm_up=0.0)
    whole = problem.simulate(2, 4, seed=0)
    report = verify(Persistence(problem.grid, 0.05, problem.channels), whole)
    known, truth = whole.frames[:, 1:2], whole.frames[:, 2:]
    error = ((known - truth).norm(dim=-1) / truth.norm(dim=-1)).mean(0)
    assert torch.allclose(torch.tensor(report.metrics["model"]["relative_l2"]), error, rtol=1e-5)
    each = ((known - truth).abs() / truth.abs()).mean(-1).mean(0)
    assert torch.allclose(torch.tensor(report.metrics["model"]["nrmse"]), each, rtol=1e-5)


def test_the_classical_ladder_is_raced():
    problem = replace_ladder(PredatorPrey())
    doubling = wrap(lambda u: 1.01 * u, problem.interval, problem.channels, grid=problem.grid)
    report = verify(doubling, problem, runs=2, steps=2)
    assert {r.scheme for r in report.ladder} == {"BS32 (rtol 0.01)", "RK4"}
    assert all(r.num_points == () for r in report.ladder)
    assert "points" not in report.verdict


def replace_ladder(problem):
    rungs = problem.ladder()
    kept = [s for s in rungs if s.scheme == Adaptive(BS32, 1e-2) or (s.scheme.name == "RK4" and s.substeps == 4)]
    problem.ladder = lambda: kept
    return problem


def test_wrong_input_is_refused():
    with pytest.raises(InputError, match="interval"):
        LorenzAttractor(interval=0.0)
    with pytest.raises(InputError, match=r"slow as a positive number or a range"):
        RobertsonKinetics(slow=(0.1, 0.01))
    with pytest.raises(InputError, match="no space"):
        NoSpace().dx(torch.zeros(1, 1))
    with pytest.raises(InputError, match="without axes"):
        NoSpace(Grid.box(8))
    problem = PredatorPrey()
    with pytest.raises(InputError, match="fixed steps"):
        problem.solver(replace(problem.fast_setting, scheme=RODAS5P))
    with pytest.raises(ShapeError, match="0 space axes"):
        PredatorPrey().solver(Setting(0, 4, PredatorPrey().ladder()[-1].scheme)).start(torch.zeros(1, 1, 2, 5), {})
