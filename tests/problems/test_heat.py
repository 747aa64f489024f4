"""The heated plate against its series, and the direct way from parameters and time to a frame."""

from __future__ import annotations

import math

import pytest
import torch

from slipstream.equations.calculus import Calculus
from slipstream.errors import InputError
from slipstream.pretrained import describe, rebuild
from slipstream.problems import HeatedPlate, Setting
from slipstream.problems.heat import WALLS, SineModes, steady
from slipstream.solvers.schemes import ETDRK4
from slipstream.steppers import rollout


def series(problem, parameters, time, modes=120):
    """The solution at the points of the frames by its double sine series, coefficients in closed form (float64); nothing comes from a grid.

    With w on the walls and T inside at first, (T - u_steady, phi_mn) = T (1, phi) - w . (-dphi/dn, 1)_wall / lambda.
    """
    x, y = (a.coordinates() for a in problem.grid.axes)
    k = math.pi * torch.arange(1, modes + 1, dtype=torch.float64)
    sign = torch.cos(k)  # (-1)^m
    mean = (1 - sign) / k  # integral of sin(k x) over [0, 1]
    rate = k[:, None] ** 2 + k**2
    values = {n: float(parameters[n]) for n in problem.varying}
    inside = values["initial"] * mean[:, None] * mean
    low_x, high_x = k[:, None] * mean, -(sign * k)[:, None] * mean
    low_y, high_y = mean[:, None] * k, -mean[:, None] * (sign * k)
    walls = values["west"] * low_x + values["east"] * high_x + values["south"] * low_y + values["north"] * high_y
    coefficients = 4 * (inside - walls / rate) * (-problem.diffusivity * rate * time).exp()
    transient = (x[:, None] * k).sin() @ coefficients @ (y[:, None] * k).sin().T
    rest = torch.tensordot(torch.tensor([values[w] for w in WALLS], dtype=torch.float64), steady(problem.grid), dims=1)
    return rest + transient


@pytest.fixture(scope="module")
def problem():
    return HeatedPlate(num_points=16, interval=0.1)


def errors(problem, points, times=(1, 5, 30)):
    frames, parameters = problem.sample(2, 3)
    stepper = problem.solver(Setting(points, 1, SineModes()))
    found = problem.march(stepper, frames.double(), parameters, max(times) + 1)
    result = []
    for t in times:
        truth = torch.stack([series(problem, {k: v[i] for k, v in parameters.items()}, t * 0.1) for i in range(2)])
        result.append(float((found[:, t, 0] - truth).norm() / truth.norm()))
    return torch.tensor(result)


def test_the_steady_field_is_harmonic_bounded_and_fits_its_walls(problem):
    assert torch.allclose(steady(problem.grid).sum(0), torch.ones(16, 16, dtype=torch.float64), atol=1e-12)
    one = steady(problem.grid.with_points([48, 48]))
    middle = one[:, 1::3, 1::3]
    assert torch.allclose(middle, steady(problem.grid), atol=1e-13), "another grid has the same function"
    assert 0 < float(one.min()) < float(one.max()) < 1
    x, y = problem.grid.coordinates()
    corner = 2 / math.pi * torch.atan2(y, x)  # what it is like beside a corner with walls 1 (west) and 0 (south)
    assert float((one[0, 0, 0] - 0.5).abs()) < 1e-3
    assert float((steady(problem.grid)[0] - corner).abs()[0, 0]) < 0.02
    fine = steady(problem.grid.with_points([96, 96]))
    laplace = fine[:, 2:, 1:-1] + fine[:, :-2, 1:-1] + fine[:, 1:-1, 2:] + fine[:, 1:-1, :-2] - 4 * fine[:, 1:-1, 1:-1]
    assert float(laplace[:, 20:-20, 20:-20].abs().max()) < 1e-6


def test_the_solver_converges_to_the_series_with_order_two(problem):
    coarse, fine = errors(problem, 16), errors(problem, 48)
    order = (coarse / fine).log() / math.log(3)
    assert torch.all((order - 2).abs() < 0.15), order
    assert float(fine.max()) < 2e-3


def test_the_reference_states_its_error_truly(problem):
    frames, parameters = problem.sample(2, 3)
    stated = problem.reference_error(frames, parameters, 30)[[0, 4, 29]]
    true = errors(problem, 48)
    assert torch.all(stated > 0.5 * true)
    assert torch.all(stated < 3 * true)


def test_the_end_is_steady_and_the_maximum_falls(problem):
    data = problem.simulate(3, 600, seed=1)
    lows, highs = (f(torch.stack(list(data.parameters.values())), dim=0).values for f in (torch.min, torch.max))
    assert torch.all(data.frames.flatten(1).amin(1) > lows - 1e-3)
    assert torch.all(data.frames.flatten(1).amax(1) < highs + 1e-3)
    assert float((data.frames[:, -1] - data.frames[:, -2]).abs().max()) < 1e-2


def test_marching_twice_is_marching_once_over_twice_the_interval(problem):
    frames, parameters = problem.sample(2, 0)
    one = rollout(problem.solver(), frames.double(), 6, parameters=parameters)
    two = rollout(problem.with_interval(0.2).solver(), frames.double(), 3, parameters=parameters)
    assert torch.allclose(one[:, 1::2], two, atol=1e-9)


def test_in_no_time_every_value_stays_what_it_is(problem):
    """The finest wave that the points hold included."""
    _, parameters = problem.sample(2, 0)
    u = torch.randn(2, 1, 1, 16, 16, dtype=torch.float64)
    found = rollout(problem.with_interval(1e-12).solver(), u, 1, parameters=parameters)
    assert torch.allclose(found, u, atol=1e-6)


def test_it_starts_from_any_frame_and_the_walls_may_change(problem):
    data = problem.simulate(2, 20, seed=2)
    later = rollout(problem.solver(), data.frames[:, 5:6].double(), 8, parameters=data.parameters)
    whole = rollout(problem.solver(), data.frames[:, :1].double(), 13, parameters=data.parameters)[:, 5:]
    assert float((later - whole).norm() / whole.norm()) < 1e-3
    stepper = problem.solver()
    state = stepper.start(data.frames[:, :1], data.parameters)
    hot = {**data.parameters, "west": data.parameters["west"] + 300}
    for _ in range(700):
        state, frame = stepper.advance(state, hot)
    expected = torch.tensordot(torch.stack([hot[w] for w in WALLS], -1), steady(problem.grid).float(), dims=1)
    assert torch.allclose(frame[:, 0, 0], expected, atol=0.05)


def test_when_walls_change_the_plate_is_what_it_was_at_that_moment(problem):
    """A new start from that frame, with the new walls, says the same; and what is far from them feels nothing yet."""
    data = problem.simulate(2, 2, seed=2)
    stepper = problem.solver()
    state = stepper.start(data.frames[:, :1].double(), data.parameters)
    for _ in range(8):
        state, before = stepper.advance(state, data.parameters)
    hot = {**data.parameters, "west": data.parameters["west"] + 300}
    _, after = stepper.advance(state, hot)
    _, anew = stepper.advance(stepper.start(before, hot), hot)
    inside = (..., slice(2, -2), slice(2, -2))
    assert float((after - anew)[inside].abs().max()) < 0.05 * 300
    assert float((after - before)[..., -2:, :].abs().max()) < 0.05 * 300


def test_the_equation_holds_on_frames_after_the_first_ones(problem):
    fine = HeatedPlate(num_points=48, interval=0.05)
    data = fine.simulate(2, 40, seed=0)
    u = data.frames[:, 30:].double()
    left = fine.residual(u, data.parameters)[..., 4:-4, 4:-4]
    moved = ((u[:, 1:] - u[:, :-1]) / fine.interval)[..., 4:-4, 4:-4]
    assert float(left.norm() / moved.norm()) < 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_reach_temperatures_and_both_precisions_work(problem, dtype):
    frames, parameters = problem.sample(2, 0)
    given = {k: v.to(dtype).requires_grad_() for k, v in parameters.items()}
    new = rollout(problem.solver(), frames.to(dtype), 3, parameters=given, grad=True)
    assert new.dtype == dtype
    new[:, -1].sum().backward()
    for wall in WALLS:
        h = 1.0
        shifted = {k: v.detach() + (h if k == wall else 0) for k, v in given.items()}
        again = rollout(problem.solver(), frames.to(dtype), 3, parameters=shifted)
        change = (again[:, -1] - new.detach()[:, -1]).flatten(1).sum(1) / h
        assert torch.allclose(change, given[wall].grad, rtol=1e-2 if dtype == torch.float32 else 1e-8)


def test_runs_differ_in_five_temperatures_and_are_the_same_in_any_company(problem):
    frames, parameters = problem.sample(3, 4)
    assert list(parameters) == ["initial", *WALLS]
    alone, its = problem.sample([2], 4)
    assert torch.equal(frames[2:], alone)
    assert all(torch.equal(parameters[k][2:], its[k]) for k in its)
    assert torch.equal(frames[:, 0, 0, 3, 5], parameters["initial"])
    _, many = problem.sample(400, 0)
    for value in many.values():
        assert 100 <= float(value.min()) < 110 < 490 < float(value.max()) <= 500
        assert float(value.mean()) == pytest.approx(300, abs=20)


def test_it_is_written_down_and_bad_arguments_are_refused(problem):
    again = rebuild(describe(problem))
    assert torch.equal(again.sample(1, 0)[0], problem.sample(1, 0)[0])
    assert len(problem.ladder()) >= 8
    assert isinstance(problem.calculus_for(torch.zeros(1, 1, 16, 16), problem.sample_parameters(1)), Calculus)
    with pytest.raises(InputError, match="low < high"):
        HeatedPlate(low=300, high=200)
    with pytest.raises(InputError, match="interval > 0"):
        HeatedPlate(interval=0)
    with pytest.raises(InputError, match="solved by sine modes"):
        problem.solver(Setting(16, 1, ETDRK4))
    with pytest.raises(InputError, match=r"\['west', 'east', 'south', 'north'\] are missing"):
        problem.solver().start(torch.zeros(1, 1, 1, 16, 16), {})
