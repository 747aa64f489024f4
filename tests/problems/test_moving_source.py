"""The moving source: reproducible, of second order in both forms, symmetric, differentiable, and polished by one step."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from slipstream.errors import InputError, ShapeError, UnstableStep
from slipstream.grids import Grid
from slipstream.pretrained import describe, rebuild
from slipstream.problems import MovingSource, Setting
from slipstream.problems.moving_source import Newton
from slipstream.solvers import ETDRK2, MovingSourceStepper, ReactiveDiffusion
from slipstream.solvers.moving_source import NAMES


@pytest.fixture(scope="module")
def problem():
    return MovingSource(num_cells=16, edge=0.05)


@pytest.fixture(scope="module")
def queries(problem):
    _, parameters = problem.sample(4, seed=4)
    return {k: v.double() for k, v in parameters.items()}


def answer(problem, queries, cells, newton, dtype=torch.float64):
    empty = torch.empty(len(queries["source_x"]), 0, 1, *problem.grid.shape, dtype=dtype)
    return problem.solver(Setting(cells, 0, newton))(empty, {k: v.to(dtype) for k, v in queries.items()})[:, 0, 0]


def distance(u, v):
    return float(((u - v).flatten(1).norm(dim=1) / v.flatten(1).norm(dim=1)).mean())


def test_runs_are_the_same_whatever_their_company(problem):
    frames, parameters = problem.sample(3, seed=4)
    _, alone = problem.sample([2], seed=4)
    assert frames.shape == (3, 0, 1, 17, 17)
    assert tuple(problem.varying) == NAMES
    for name, (low, high) in problem.varying.items():
        assert torch.equal(parameters[name][2:], alone[name])
        assert bool(((parameters[name] >= low) & (parameters[name] <= high)).all())


@pytest.mark.parametrize("kirchhoff", [True, False])
def test_both_forms_are_of_second_order_and_agree(problem, queries, kirchhoff):
    truth = answer(problem, queries, 128, Newton(True, True, 1e-9))
    errors = [distance(answer(problem, queries, n, Newton(kirchhoff, tolerance=1e-9)), truth) for n in (16, 32)]
    # What the truth owes to its own mesh makes log2((1 - 1/64) / (1/4 - 1/64)) of 2.
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2.07, abs=0.2), errors
    assert errors[-1] < 3e-3


@pytest.mark.parametrize("kirchhoff", [True, False])
def test_a_manufactured_solution_is_met_with_second_order(kirchhoff):
    def error(n):
        mesh = ReactiveDiffusion(n, 7.0, kirchhoff, 0.0, 1.0)

        def exact(x, y):
            return torch.sin(math.pi * x) * torch.sin(math.pi * y)

        x, y = (c.clone().requires_grad_() for c in mesh.points().T)
        k, u = 1 + 0.5 * x, exact(x, y)
        ux, uy = torch.autograd.grad(u.sum(), (x, y), create_graph=True)
        qx, qy = k * (1 + u) * ux, k * (1 + u) * uy
        (qxx,), (qyy,) = torch.autograd.grad(qx.sum(), x, retain_graph=True), torch.autograd.grad(qy.sum(), y)
        f = (7.0 * u**3).detach() - qxx - qyy
        found = mesh.solve(k.detach()[None], f[None], tolerance=1e-11).u[0].reshape(n - 1, n - 1)
        at = torch.linspace(0, 1, n + 1, dtype=torch.float64)[1:-1]
        return float((found - exact(at[:, None], at[None])).square().mean().sqrt())

    errors = [error(n) for n in (8, 16, 32)]
    assert math.log2(errors[1] / errors[2]) == pytest.approx(2.0, abs=0.1), errors


@pytest.mark.parametrize("kirchhoff", [True, False])
def test_newtons_matrix_is_the_derivative_of_the_residual(problem, queries, kirchhoff):
    s = problem.newton(Setting(6, 0, Newton(kirchhoff)))
    p = torch.stack([queries[n] for n in NAMES], 1)[:2]
    k, source = s.material(p)
    w = 0.3 + 0.2 * torch.rand(2, 25, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    load = s.mesh.load(source)
    both = torch.autograd.functional.jacobian(lambda v: s.mesh.residual(v, k, load), w)
    dense = torch.stack([both[i, :, i] for i in range(2)])
    right = torch.rand(2, 25, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(
        s.mesh._solved(s.mesh.matrices(w, k), right), -torch.linalg.solve(dense, right), rtol=1e-9, atol=1e-12
    )


def test_newton_converges_quadratically_and_a_nested_start_saves_steps(problem, queries):
    p = torch.stack([queries[n] for n in NAMES], 1)
    steps = {}
    for nested in (False, True):
        s = problem.newton(Setting(32, 0, Newton(True, nested, 1e-6)))
        _, steps[nested] = s.solved(p)
    assert steps[True] < steps[False] <= 8
    s = problem.newton(Setting(32, 0, Newton()))
    found = s.mesh.solve(*s.material(p), tolerance=1e-13).residuals
    small = [r for r in found if 1e-12 < r < 0.3]
    assert all(b < 3 * a**1.8 for a, b in pairwise(small)), found


@pytest.mark.parametrize("kirchhoff", [True, False])
def test_gradients_reach_all_seven_parameters(problem, queries, kirchhoff):
    stepper = problem.solver(Setting(12, 0, Newton(kirchhoff, True, 1e-11)))
    empty = torch.empty(4, 0, 1, *problem.grid.shape, dtype=torch.float64)
    weight = torch.rand(17, 17, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for name in NAMES:

        def value(x, name=name):
            return (stepper(empty, queries | {name: x}) * weight).sum()

        x = queries[name].clone().requires_grad_()
        value(x).backward()
        h = 1e-5 * float(queries[name].abs().mean())
        difference = (value(queries[name] + h) - value(queries[name] - h)) / (2 * h)
        torch.testing.assert_close(x.grad.sum(), difference, rtol=1e-5, atol=1e-8)


def test_symmetric_queries_have_symmetric_answers(problem, queries):
    z = torch.stack([queries[n] for n in NAMES], 1)
    z = torch.cat([z, -z[:, [1, 0, 2, 3, 5, 4, 6]] * torch.tensor([1, -1, -1, -1, 1, -1, -1])]).double()
    turned, way = problem.fold(z)
    assert bool(((turned[:, 1] >= 0) & (turned[:, 0] >= turned[:, 1])).all())
    assert len(set(way.tolist())) >= 4
    torch.testing.assert_close(turned[:, [2, 3, 6]], z[:, [2, 3, 6]])
    here = answer(problem, dict(zip(NAMES, z.T, strict=True)), 16, Newton(tolerance=1e-11)).flatten(1)
    there = answer(problem, dict(zip(NAMES, turned.T, strict=True)), 16, Newton(tolerance=1e-11)).flatten(1)
    torch.testing.assert_close(problem.unfold(there, way), here, rtol=0, atol=1e-8)
    torch.testing.assert_close(problem.folded(here, way), there, rtol=0, atol=1e-8)
    assert float((here - there).abs().max()) > 0.1


def test_all_eight_ways_undo_each_other(problem):
    u, way = torch.rand(8, problem.grid.size), torch.arange(8)
    assert torch.equal(problem.folded(problem.unfold(u, way), way), u)
    assert len({tuple(row) for row in problem.unfold(u[:1].expand(8, -1), way).tolist()}) == 8


def test_one_newton_step_squares_the_error(problem, queries):
    exact = answer(problem, queries, 16, Newton(tolerance=1e-12))
    p = torch.stack([queries[n] for n in NAMES], 1)
    wave = torch.sin(math.pi * torch.linspace(0, 1, 17, dtype=torch.float64))
    bump = wave[:, None] * wave
    stepper = problem.newton(Setting(16, 0, Newton()))
    errors = []
    for size in (0.04, 0.02):
        better, before, after = stepper.polish((exact + size * bump)[:, None], p)
        errors.append(distance(better[:, 0], exact))
        assert bool((after < 0.2 * before).all())
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.15)
    with pytest.raises(InputError, match="own grid"):
        problem.newton(Setting(8, 0, Newton())).polish(exact[:, None], p)


def test_simulation_is_one_field_a_run_and_its_error_is_stated(problem, queries):
    data = problem.simulate(4, 1, seed=4)
    assert data.frames.shape == (4, 1, 1, 17, 17)
    assert float(data.frames.min()) > -1e-3
    assert float(data.frames[..., 0].abs().max()) == 0
    stated = float(problem.reference_error(torch.empty(4, 0, 1, 17, 17), queries, 1))
    best = answer(problem, queries, 128, Newton(True, True, 1e-8))
    found = (data.frames[:, 0, 0].double() - best).flatten(1).norm(dim=1) / best.flatten(1).norm(dim=1)
    assert 0.7 * float(found.max()) < stated < 2 * float(found.max())


def test_the_ladder_holds_cheap_and_accurate_settings_of_both_forms(problem, queries):
    settings = problem.ladder()
    assert len({str(s) for s in settings}) == len(settings)
    assert {(s.scheme.kirchhoff, s.scheme.nested) for s in settings} == {(True, False), (True, True), (False, False)}
    truth = answer(problem, queries, 128, Newton(True, True, 1e-8))
    errors = {}
    for s in settings:
        if s.scheme.kirchhoff:
            errors[s.num_points] = distance(
                answer(problem, queries, s.num_points, s.scheme, torch.float32).double(), truth
            )
    assert errors[max(errors)] < 3e-3 < 0.03 < errors[min(errors)]
    with pytest.raises(InputError, match="Newton"):
        problem.solver(Setting(8, 1, ETDRK2))


def test_runs_do_not_see_each_other(problem, queries, monkeypatch):
    together = answer(problem, queries, 16, Newton(True, True, 1e-11))
    monkeypatch.setattr("slipstream.solvers.moving_source.CACHE", 1)
    torch.testing.assert_close(answer(problem, queries, 16, Newton(True, True, 1e-11)), together, rtol=0, atol=1e-9)


def test_single_precision_agrees(problem, queries):
    u = answer(problem, queries, 32, Newton(tolerance=1e-4))
    assert distance(answer(problem, queries, 32, Newton(tolerance=1e-4), torch.float32).double(), u) < 1e-4


def test_it_is_written_down_and_read_back(problem):
    again = rebuild(describe(problem))
    assert torch.equal(again.sample(1, seed=0)[1]["hole_x"], problem.sample(1, seed=0)[1]["hole_x"])
    assert again.grid == problem.grid


def test_bad_arguments_are_refused(problem, queries):
    with pytest.raises(InputError, match="multiple of 4"):
        MovingSource(num_cells=18)
    with pytest.raises(InputError, match="hole"):
        MovingSource(hole=0.0)
    with pytest.raises(InputError, match="steady"):
        problem.simulate(1, 3)
    with pytest.raises(InputError, match="both ends"):
        MovingSourceStepper(Grid.box(8, 1.0, num_dims=2))
    with pytest.raises(InputError, match="'hole_x'"):
        problem.solver()(torch.empty(1, 0, 1, 17, 17), {k: v[:1] for k, v in queries.items() if k != "hole_x"})
    mesh = ReactiveDiffusion(4)
    with pytest.raises(ShapeError, match="64 Gauss points"):
        mesh.solve(torch.ones(1, 16), torch.ones(1, 16))
    with pytest.raises(UnstableStep, match="relative residual"):
        mesh.solve(torch.ones(1, 64), torch.ones(1, 64), tolerance=1e-12, max_iterations=4)
    with pytest.raises(UnstableStep, match="factorised"):
        mesh.solve(-torch.ones(1, 64), torch.ones(1, 64))
