"""Bilinear elements and Newton's method: order, limits, convergence, gradients."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.sparse.linalg import spsolve

from slipstream.errors import InputError, ShapeError, UnstableStep
from slipstream.solvers.macro import Conduction, Response, Turned

EYE = torch.eye(2, dtype=torch.float64)


def stiffening(gradient, features, memory=None):
    """q = p (1 + |g|^2) g, with its tangent."""
    k = features[:, 0] * (1 + gradient.square().sum(1))
    tangent = k[:, None, None] * EYE.to(gradient) + 2 * features[:, :, None] * gradient[:, :, None] * gradient[:, None]
    return Response(k[:, None] * gradient, tangent)


def anisotropic(gradient, features, memory=None):
    tangent = torch.diag_embed(torch.stack([features[:, 0], 2 + features[:, 0]], dim=1))
    return Response((tangent @ gradient[..., None])[..., 0], tangent)


def ones(mesh, runs=1, dtype=torch.float64):
    return torch.ones(runs, mesh.num_points, 1, dtype=dtype)


def manufactured(x):
    """u = sin(pi x) sin(2 pi y) and -div((1 + |grad u|^2) grad u), by automatic differentiation."""

    def u(p):
        return torch.sin(math.pi * p[0]) * torch.sin(2 * math.pi * p[1])

    def flux(p):
        g = torch.func.grad(u)(p)
        return (1 + g.square().sum()) * g

    return torch.func.vmap(u)(x), -torch.func.vmap(lambda p: torch.func.jacrev(flux)(p).trace())(x)


def test_a_manufactured_solution_is_met_to_second_order():
    errors = []
    for n in (8, 16, 32):
        mesh = Conduction((n, n + 2))
        _, f = manufactured(mesh.points())
        found = mesh.solve(stiffening, ones(mesh), f[None], tolerance=1e-10).u
        x = torch.rand(200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        true, _ = manufactured(x)
        errors.append(float((mesh.values(found, x)[0] - true).norm() / true.norm()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.25)
    assert math.log2(errors[1] / errors[2]) == pytest.approx(2, abs=0.25)


def test_the_linear_limit_is_one_direct_solve():
    mesh = Conduction((7, 5), (2.0, 1.0))
    p = 1 + torch.rand(1, mesh.num_points, 1, dtype=torch.float64)
    f = torch.randn(1, mesh.num_points, dtype=torch.float64)
    solved = mesh.solve(anisotropic, p, f, tolerance=1e-11)
    assert solved.iterations == 2
    matrix = mesh.matrix(anisotropic(torch.zeros(mesh.num_points, 2).double(), p[0]).tangent)
    direct = torch.from_numpy(spsolve(matrix, mesh.load(f)[0].numpy()))
    torch.testing.assert_close(solved.u[0, 1:-1, 1:-1].flatten(), direct, rtol=1e-10, atol=1e-12)


def test_the_matrix_is_the_assembly_of_a_textbook_element():
    mesh = Conduction((3, 3))
    matrix = mesh.matrix(EYE.expand(mesh.num_points, 2, 2)).toarray()
    # Laplacian of square bilinear elements: 8/3 at a node, -1/3 to each of its eight neighbours.
    assert matrix == pytest.approx((3 * torch.eye(4) - 1 / 3).double().numpy())


def test_boundary_values_are_kept_and_linear_fields_need_no_source():
    mesh = Conduction((6, 4), (1.5, 1.0))
    x, y = torch.linspace(0, 1.5, 7).double()[:, None], torch.linspace(0, 1, 5).double()
    plane = (2 * x - y + 0.5)[None]
    start = plane.clone()
    start[:, 1:-1, 1:-1] = 0
    solved = mesh.solve(stiffening, ones(mesh), torch.zeros(1, mesh.num_points).double(), start, tolerance=1e-12)
    torch.testing.assert_close(solved.u, plane, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(mesh.gradients(plane)[0], torch.tensor([2.0, -1.0]).double().expand(96, 2))
    assert float(start[0, 1:-1, 1:-1].abs().max()) == 0


def test_newton_converges_quadratically_with_consistent_tangents_and_not_without():
    mesh = Conduction((12, 12))
    f = 2 * torch.ones(1, mesh.num_points, dtype=torch.float64)
    sizes = mesh.solve(stiffening, ones(mesh), f, tolerance=1e-12).residuals
    for before, after in zip(sizes[-4:-2], sizes[-3:-1], strict=True):
        assert after < 3 * before**2

    def secant(gradient, features, memory=None):
        response = stiffening(gradient, features)
        return Response(response.flux, (1 + gradient.square().sum(1))[:, None, None] * EYE)

    slow = mesh.solve(secant, ones(mesh), f, tolerance=1e-12, max_iterations=200).residuals
    assert len(slow) > 2 * len(sizes)
    assert slow[-2] > 0.01 * slow[-3]


def saturating(gradient, features, memory=None):
    """q = (atan |g| / |g| + 0.01) g: from a steep start full Newton steps leap from side to side, ever farther."""
    r = gradient.norm(dim=1).clamp(min=1e-9)
    k = r.atan() / r
    bend = (1 / (1 + r.square()) - k) / r.square()
    tangent = (k + 0.01)[:, None, None] * EYE + bend[:, None, None] * gradient[:, :, None] * gradient[:, None]
    return Response((k + 0.01)[:, None] * gradient, tangent)


def test_steps_are_damped_where_full_ones_would_not_converge():
    mesh = Conduction((8, 8))
    start = torch.zeros(1, 9, 9, dtype=torch.float64)
    start[0, 1:-1, 1:-1] = 3 * torch.randn(7, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    f = torch.ones(1, mesh.num_points, dtype=torch.float64)
    solved = mesh.solve(saturating, ones(mesh), f, start, tolerance=1e-10, max_iterations=60)
    near = mesh.solve(saturating, ones(mesh), f, tolerance=1e-10)
    torch.testing.assert_close(solved.u, near.u, rtol=1e-6, atol=1e-8)


def test_runs_do_not_see_each_other_and_single_precision_agrees():
    mesh = Conduction((9, 9))
    p, f = 1 + torch.rand(3, mesh.num_points, 1).double(), 1 + 5 * torch.rand(3, mesh.num_points).double()
    together = mesh.solve(stiffening, p, f, tolerance=1e-10).u
    for i in range(3):
        alone = mesh.solve(stiffening, p[i : i + 1], f[i : i + 1], tolerance=1e-10).u
        torch.testing.assert_close(alone[0], together[i], rtol=1e-8, atol=1e-10)
    single = mesh.solve(stiffening, p.float(), f.float(), tolerance=1e-6).u
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), together, rtol=1e-4, atol=1e-5)


def test_gradients_through_the_solution_agree_with_finite_differences():
    mesh = Conduction((5, 5))
    p, f = 1 + torch.rand(2, mesh.num_points, 1).double(), 1 + torch.rand(2, mesh.num_points).double()
    direction_p, direction_f = torch.randn_like(p), torch.randn_like(f)
    weights = torch.randn(2, 6, 6).double()

    def value(t):
        return (mesh.solve(stiffening, p + t * direction_p, f + t * direction_f, tolerance=1e-12).u * weights).sum()

    q, g = p.clone().requires_grad_(), f.clone().requires_grad_()
    (mesh.solve(stiffening, q, g, tolerance=1e-12).u * weights).sum().backward()
    slope = (q.grad * direction_p).sum() + (g.grad * direction_f).sum()
    torch.testing.assert_close(slope, (value(1e-5) - value(-1e-5)) / 2e-5, rtol=1e-6, atol=1e-9)


def test_a_turned_law_sees_its_own_axes():
    gradient, by = torch.tensor([[0.3, -1.2]], dtype=torch.float64), 0.4
    features = torch.tensor([[1.5, by]], dtype=torch.float64)
    found = Turned(anisotropic, position=1)(gradient, features)
    first = torch.tensor([math.cos(by), math.sin(by)], dtype=torch.float64)
    second = torch.tensor([-math.sin(by), math.cos(by)], dtype=torch.float64)
    matrix = 1.5 * first.outer(first) + 3.5 * second.outer(second)
    torch.testing.assert_close(found.flux[0], matrix @ gradient[0])
    torch.testing.assert_close(found.tangent[0], matrix)


def test_memory_is_handed_from_call_to_call_and_fallbacks_are_counted():
    seen = []

    def law(gradient, features, memory=None):
        seen.append(memory)
        response = stiffening(gradient, features)
        return Response(response.flux, response.tangent, len(seen), fallbacks=2)

    mesh = Conduction((4, 4))
    solved = mesh.solve(law, ones(mesh), ones(mesh)[..., 0])
    assert seen == [None, *range(1, solved.iterations)]
    assert solved.fallbacks == 2 * solved.iterations


def test_what_makes_no_sense_is_refused():
    mesh = Conduction((4, 4))
    with pytest.raises(ShapeError, match="64 Gauss points"):
        mesh.solve(stiffening, torch.ones(1, 5, 1), torch.ones(1, 5))
    with pytest.raises(InputError, match="tangents"):
        mesh.solve(lambda g, p, memory=None: Response(g, None), ones(mesh), ones(mesh)[..., 0])
    with pytest.raises(UnstableStep, match="residual"):
        mesh.solve(stiffening, ones(mesh), 50 * ones(mesh)[..., 0], max_iterations=3)
    with pytest.raises(InputError, match="at least 2"):
        Conduction((1, 4))
