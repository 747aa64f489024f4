"""Diffusion with sorption: similarity, limits, balances, orders, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import solve_bvp
from scipy.special import erfc

from slipstream.equations import SorbingDiffusion
from slipstream.errors import InputError, UnstableStep
from slipstream.grids import Grid
from slipstream.pretrained import describe, rebuild
from slipstream.problems import DiffusionSorption, Setting
from slipstream.solvers import ETDRK4, IMPLICIT_EULER, SDIRK2, SorptionStepper
from slipstream.solvers.sorption import tridiagonal
from slipstream.steppers import rollout


def even(level, n=64):
    return torch.full((1, 1, 1, n), level, dtype=torch.float64)


@pytest.mark.parametrize("n", [1, 2, 3, 6, 13])
def test_cyclic_reduction_solves_what_a_dense_solver_solves(n):
    a, c, r = (torch.randn(2, n, dtype=torch.float64) for _ in range(3))
    b = 1 + a.abs() + c.abs()
    full = torch.diag_embed(b) + torch.diag_embed(a[:, 1:], -1) + torch.diag_embed(c[:, :-1], 1)
    assert torch.allclose(tridiagonal(a, b, c, r), torch.linalg.solve(full, r), atol=1e-12)


@pytest.mark.parametrize("level", [0.02, 0.2])
def test_before_the_front_arrives_the_solution_is_the_similar_one(level):
    # u(x, t) = f(x / sqrt(t)) with D f'' = -(s / 2) R(f) f', f(0) = 1, f(inf) = level: an ordinary boundary value problem.
    equation, grid = SorbingDiffusion(), Grid.box(100, 1.0, num_dims=1, periodic=False)

    def slopes(s, y):
        f = torch.from_numpy(np.clip(y[0], 1e-6, None))[None, None]
        p = equation.ready({}, f)
        return np.stack([y[1], -s / 2 * equation.retardation(f, p)[0, 0].numpy() * y[1] / equation.diffusivity])

    s = np.linspace(0, 0.12, 400)
    guess = np.stack([level + (1 - level) * np.exp(-s / 0.015), -(1 - level) * np.exp(-s / 0.015) / 0.015])
    found = solve_bvp(slopes, lambda a, b: np.array([a[0] - 1, b[0] - level]), s, guess, tol=1e-8, max_nodes=20000)
    assert found.success
    stepper = SorptionStepper(equation, grid, 50.0, 40, SDIRK2, 300)
    u = rollout(stepper, even(level, 100), 2)[0, :, 0].numpy()
    for t, frame in zip((50.0, 100.0), u, strict=True):
        x = grid.axes[0].coordinates().numpy() / np.sqrt(t)
        true = np.where(x < 0.12, found.sol(np.minimum(x, 0.12))[0], level)
        inside = grid.axes[0].coordinates().numpy() < 0.45
        assert np.abs(frame - true)[inside].max() < 2e-3


def test_a_linear_isotherm_only_slows_diffusion_down():
    equation = SorbingDiffusion(exponent=1.0)
    retardation = 1 + 0.71 / 0.29 * 2880 * 3.5e-4
    errors = []
    for n in (25, 75):
        stepper = SorptionStepper(equation, Grid.box(25, 1.0, num_dims=1, periodic=False), 60.0, n, SDIRK2, n)
        u = rollout(stepper, even(0.0, 25), 1)[0, 0, 0]
        x = stepper.grid.axes[0].coordinates()
        true = torch.from_numpy(erfc((x / (2 * np.sqrt(5e-4 * 60 / retardation))).numpy()))
        errors.append(float((u - true).abs().max()))
    assert np.log(errors[0] / errors[1]) / np.log(3) == pytest.approx(2, abs=0.25)


def test_what_enters_less_what_leaves_is_what_is_stored():
    problem = DiffusionSorption(num_points=32, warm_up=0.0)
    stepper = problem.solver(Setting(32, 1, IMPLICIT_EULER))
    p = problem.equation.ready({}, even(0.1)[0])
    u, h = even(0.1, 32)[:, 0], 1 / 32
    for _ in range(5):
        new = stepper.step(u, p, 20.0)
        enters = 5e-4 * (1 - new[..., 0]) / (h / 2)
        outside = new[..., -1] / (1 + h / (2 * 5e-4))  # -D u_x = u at the outlet
        gained = (problem.equation.stored(new, p) - problem.equation.stored(u, p)).sum(-1) * h
        assert torch.allclose(gained, 20.0 * (enters - outside), rtol=1e-9)
        u = new


@pytest.mark.parametrize(("scheme", "order"), [(IMPLICIT_EULER, 1), (SDIRK2, 2)])
def test_steps_converge_with_the_order_of_their_scheme(scheme, order):
    problem = DiffusionSorption(num_points=32, interval=40.0, warm_up=80.0)
    frames, _ = problem.sample(1, 0)
    ends = [rollout(problem.solver(Setting(32, k, scheme)), frames.double(), 1) for k in (4, 8, 64)]
    coarse, fine = (float((u - ends[-1]).norm()) for u in ends[:2])
    assert np.log2(coarse / fine) == pytest.approx(order, abs=0.3)


def test_the_end_is_a_straight_line_and_the_way_there_stays_between_its_bounds():
    problem = DiffusionSorption(num_points=32, interval=300.0, warm_up=0.0)
    u = rollout(problem.solver(), even(0.15, 32), 60)[0, :, 0]
    x, wall = problem.grid.axes[0].coordinates(), 5e-4 / 1.0005
    assert torch.allclose(u[-1], 1 - x * (1 - wall), atol=1e-6)
    assert float(u.min()) >= 0
    assert float(u.max()) <= 1
    assert torch.all(u[0, 1:] <= u[0, :-1] + 1e-12)


def test_faces_and_walls_are_those_of_the_calculus_that_knows_the_conditions():
    problem = DiffusionSorption(num_points=32)
    u = problem.simulate(2, 2, seed=3).frames[:, -1].double()
    stepper = problem.solver(Setting(32, 1, SDIRK2))
    p = problem.equation.ready({}, u)
    ours = stepper.flow(u, p) / problem.equation.retardation(u, p)
    assert torch.allclose(ours, problem.rate(u, {}), atol=1e-12)
    assert float(ours.abs().max()) > 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_those_of_the_solution(dtype):
    problem = DiffusionSorption(num_points=24, freundlich=(2e-4, 5e-4), warm_up=10.0)
    frames, _ = problem.sample(1, 0)

    def value(k, u):
        return rollout(problem.solver(), u, 3, parameters={"freundlich": k}, grad=True)[:, -1].pow(2).sum()

    k, u = torch.tensor([3e-4], dtype=dtype, requires_grad=True), frames.to(dtype).requires_grad_()
    by_k, by_u = torch.autograd.grad(value(k, u), (k, u))
    assert by_k.dtype == by_u.dtype == dtype
    k, u, h = k.detach().double(), u.detach().double(), 1e-8
    slope = float((value(k + h, u) - value(k - h, u)) / (2 * h))
    way = torch.linspace(0, 1, 24, dtype=torch.float64)
    h = 1e-5
    bend = float((value(k, u + h * way) - value(k, u - h * way)) / (2 * h))
    close = 2e-2 if dtype == torch.float32 else 1e-5
    assert float(by_k) == pytest.approx(slope, rel=close)
    assert float((by_u.double() * way).sum()) == pytest.approx(bend, rel=close)


def test_it_is_written_down_and_bad_input_is_refused():
    problem = DiffusionSorption(num_points=16, freundlich=(2e-4, 5e-4))
    assert torch.equal(rebuild(describe(problem)).sample(1, 0)[0], problem.sample(1, 0)[0])
    with pytest.raises(InputError, match="highest in"):
        DiffusionSorption(highest=1.5)
    with pytest.raises(InputError, match="freundlich as a positive number"):
        DiffusionSorption(freundlich=(2.0, 1.0))
    with pytest.raises(InputError, match="implicit steps"):
        problem.solver(Setting(16, 1, ETDRK4))
    with pytest.raises(UnstableStep, match="Newton"):
        rollout(problem.solver(), torch.full((1, 1, 1, 16), float("nan")), 1)
