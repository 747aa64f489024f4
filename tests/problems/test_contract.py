"""The word Problem: laws of every ready-made problem. A new one adds its name to CASES."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from slipstream.errors import InputError
from slipstream.pretrained import describe, rebuild
from slipstream.problems import DecayingFlow, KolmogorovFlow, Problem, Recorded

CASES: dict[str, Callable[[], Problem]] = {
    "kolmogorov": lambda: KolmogorovFlow(num_points=24, reynolds=25, interval=0.05, warm_up=1.0),
    "kolmogorov-varying": lambda: KolmogorovFlow(num_points=24, reynolds=(15, 30), interval=0.05, warm_up=1.0),
    "decaying": lambda: DecayingFlow(num_points=32, reynolds=40, interval=0.05, warm_up=0.2),
}


@pytest.fixture(params=CASES, ids=str, scope="module")
def problem(request):
    return CASES[request.param]()


def test_runs_are_the_same_whatever_their_company(problem):
    frames, parameters = problem.sample(3, seed=4)
    alone, its = problem.sample([2], seed=4)
    assert torch.equal(frames[2:], alone)
    assert all(torch.equal(parameters[k][2:], its[k]) for k in parameters)
    other, _ = problem.sample(1, seed=5)
    assert not torch.equal(other, alone)


def test_trajectories_start_with_the_sample_and_move(problem):
    data = problem.simulate(2, 5, seed=4)
    frames, _ = problem.sample(2, seed=4)
    assert torch.equal(data.frames[:, :1], frames)
    assert data.frames.dtype == torch.float32
    assert data.interval == problem.interval
    change = (data.frames[:, 1:] - data.frames[:, :-1]).flatten(2).norm(dim=-1) / data.frames[:, 1:].flatten(2).norm(
        dim=-1
    )
    assert float(change.min()) > 1e-4
    assert set(data.parameters) == set(problem.varying)


def test_parameters_stay_in_their_ranges_and_differ(problem):
    _, parameters = problem.sample(8, seed=1)
    for name, (low, high) in problem.varying.items():
        assert low * 0.999 <= float(parameters[name].min()) < float(parameters[name].max()) <= high * 1.001


def test_the_reference_states_an_error_far_below_a_step(problem):
    frames, parameters = problem.sample(2, seed=4)
    error = problem.reference_error(frames, parameters, 4)
    data = problem.simulate(2, 5, seed=4)
    moved = float((data.frames[:, -1] - data.frames[:, 0]).norm() / data.frames[:, -1].norm())
    assert error.shape == (4,)
    assert float(error.max()) < 0.02 * moved


def test_the_reference_solves_its_equation(problem):
    assert problem.reference_residual() < 0.05


def test_the_ladder_holds_cheap_and_accurate_settings(problem):
    settings = problem.ladder()
    assert len(settings) >= 8
    assert len({str(s) for s in settings}) == len(settings)
    frames, parameters = problem.sample(2, seed=4)
    data = problem.simulate(2, 3, seed=4)
    best = 1.0
    for s in [s for s in settings if s.num_points == max(r.num_points for r in settings)]:
        new = problem.march(problem.solver(s, guard=False), frames, parameters, 3)
        best = min(best, float((new - data.frames).norm() / data.frames.norm()))
    assert best < 2e-3


def test_it_is_written_down_and_read_back(problem):
    again = rebuild(describe(problem))
    assert torch.equal(again.sample(1, seed=0)[0], problem.sample(1, seed=0)[0])


def test_rates_agree_with_the_plain_form_where_both_resolve(problem):
    data = problem.simulate(1, 3, seed=4)
    d = problem.calculus(data.frames.double())
    u = d.truncate(data.frames[:, -1].double())
    plain = problem.equation.rate(u, d, problem.equation.ready(data.parameters, u))
    assert torch.allclose(d.truncate(problem.rate(u, data.parameters)), d.truncate(plain), atol=1e-10)


def test_recorded_problems_know_what_data_say():
    data = CASES["kolmogorov-varying"]().simulate(3, 4, seed=0)
    problem = Recorded.of(data)
    assert problem.grid == data.grid
    assert set(problem.varying) == {"viscosity"}
    assert problem.statistics.std[0] == pytest.approx(float(data.frames.std()), rel=1e-3)
    with pytest.raises(InputError, match="no classical solver"):
        problem.solver()
    assert describe(rebuild(describe(problem))) == describe(problem)


def test_bad_arguments_are_refused():
    with pytest.raises(InputError, match="num_points"):
        KolmogorovFlow(num_points=33)
    with pytest.raises(InputError, match="reynolds"):
        KolmogorovFlow(reynolds=-1)
    with pytest.raises(InputError, match="interval"):
        KolmogorovFlow(interval=0)
    with pytest.raises(InputError, match="runs=0"):
        CASES["decaying"]().simulate(0, 3)
