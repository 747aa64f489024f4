"""Fast transforms and the solver made of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.fft
import torch
from linear_cases import seeded

from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.solvers.linear import CG, GMRES, Boundary, Diffusion, FastPoisson, solve
from slipstream.solvers.linear.maps import as_map
from slipstream.solvers.linear.systems import darcy, helmholtz
from slipstream.solvers.linear.transforms import AxisTransform, basis, eigenvalues

ENDS = list(Boundary)


@pytest.mark.parametrize("n", [2, 3, 8, 15, 64])
@pytest.mark.parametrize("boundary", ENDS, ids=lambda b: b.name)
def test_transforms_are_orthonormal_fast_or_not_and_diagonalise(boundary, n):
    rows = basis(boundary, n)
    torch.testing.assert_close(rows @ rows.T, torch.eye(n, dtype=torch.float64))
    second = 2 * torch.eye(n, dtype=torch.float64) - torch.diag(torch.ones(n - 1, dtype=torch.float64), 1)
    second = second - torch.diag(torch.ones(n - 1, dtype=torch.float64), -1)
    if boundary is Boundary.PERIODIC:
        second[0, -1] -= 1
        second[-1, 0] -= 1
    else:
        second[0, 0] += 1 if boundary is Boundary.DIRICHLET else -1
        second[-1, -1] += 1 if boundary is Boundary.DIRICHLET else -1
    torch.testing.assert_close(second @ rows.T, rows.T * eigenvalues(boundary, n))
    u = torch.randn(2, 3, n, 4, generator=seeded(0), dtype=torch.float64)
    for axis in (2, -2):
        slow, fast = (AxisTransform(boundary, n, u.dtype, u.device, dense) for dense in (True, False))
        torch.testing.assert_close(slow.forward(u, axis), torch.einsum("kn,abnc->abkc", rows, u))
        torch.testing.assert_close(fast.forward(u, axis), slow.forward(u, axis))
        torch.testing.assert_close(fast.inverse(u, axis), slow.inverse(u, axis))
        torch.testing.assert_close(fast.inverse(fast.forward(u, axis), axis), u)


def test_transforms_are_those_of_scipy():
    u = torch.randn(5, 12, generator=seeded(0), dtype=torch.float64)
    for boundary, theirs in ((Boundary.NEUMANN, scipy.fft.dct), (Boundary.DIRICHLET, scipy.fft.dst)):
        ours = AxisTransform(boundary, 12, u.dtype, u.device, False).forward(u)
        np.testing.assert_allclose(ours.numpy(), theirs(u.numpy(), type=2, norm="ortho"), atol=1e-12)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("boundary", ENDS, ids=lambda b: b.name)
def test_constant_coefficients_are_solved_exactly(boundary, dims):
    grid = Grid.box([6, 5, 4][:dims], 1.3, num_dims=dims, periodic=boundary is Boundary.PERIODIC)
    a = torch.tensor([0.7, 2.0], dtype=torch.float64).reshape(2, *[1] * dims).expand(2, *grid.shape)
    end = Boundary.NEUMANN if boundary is Boundary.PERIODIC else boundary
    b = torch.randn(2, *grid.shape, generator=seeded(0), dtype=torch.float64)
    over = tuple(range(1, dims + 1))
    for shift in (0.0, 0.9, 0.3 - 2j):
        A = Diffusion(a, grid, end, shift)
        rhs = b.to(A.dtype)
        if A.singular:
            rhs = rhs - rhs.mean(over, keepdim=True)
        result = solve(A, rhs, method=FastPoisson(), tol=1e-11)
        assert result.converged, result.reason
        assert result.iterations == 1
        if A.singular:
            assert float(result.x.mean(over).abs().max()) <= 1e-13
        else:
            exact = torch.linalg.solve(A.dense(), rhs.flatten(1)[..., None]).reshape(b.shape)
            torch.testing.assert_close(result.x, exact)


def test_mixed_axes():
    grid = Grid.box([6, 8, 4], 1.0, periodic=[False, True, False])
    A = Diffusion(
        torch.ones(1, 6, 8, 4, dtype=torch.float64), grid, [Boundary.NEUMANN, Boundary.DIRICHLET, Boundary.DIRICHLET]
    )
    b = torch.randn(1, 6, 8, 4, generator=seeded(0), dtype=torch.float64)
    result = solve(A, b, method=FastPoisson(), tol=1e-11)
    assert result.iterations == 1
    torch.testing.assert_close(A(result.x), b)


def test_a_source_without_a_solution_is_admitted():
    grid = Grid.box(8, 1.0, num_dims=2)
    A = Diffusion(torch.ones(1, 8, 8, dtype=torch.float64), grid)
    result = solve(A, torch.ones(8, 8, dtype=torch.float64), method=FastPoisson())
    assert not result.converged
    assert float(result.residuals[-1]) == pytest.approx(1)
    assert float(result.x.abs().max()) <= 1e-12  # the mean of the solution is zero, whatever the mean of the source


def test_varying_coefficients_are_refused_alone():
    systems = darcy(1, 8, seeded(0))
    with pytest.raises(InputError, match=r"preconditioner=FastPoisson"):
        solve(systems.A, systems.b, method=FastPoisson())
    with pytest.raises(InputError, match="Diffusion"):
        solve(torch.eye(4), torch.ones(4), method=FastPoisson())


@pytest.mark.parametrize("periodic", [True, False])
def test_iterations_do_not_grow_with_the_grid(periodic):
    counts = []
    for n in (16, 32, 64):
        grid = Grid.box(n, 1.0, num_dims=2, periodic=periodic)
        x, y = grid.coordinates(torch.float64)
        a = torch.exp(torch.sin(2 * math.pi * x) + torch.cos(2 * math.pi * y))[None]
        b = torch.sin(2 * math.pi * x) * torch.cos(4 * math.pi * y)
        A = Diffusion(a, grid)
        b = b - b.mean() if periodic else b
        counts.append(solve(A, b, method=CG(), preconditioner=FastPoisson(), tol=1e-9).iterations)
    assert max(counts) <= 15
    assert counts[-1] <= counts[0] + 2


def test_the_preconditioner_is_hermitian_and_positive():
    systems = darcy(1, 6, seeded(0))
    inverse = FastPoisson().build(as_map(systems.A, systems.b))
    matrix = inverse(torch.eye(36, dtype=torch.float64))
    torch.testing.assert_close(matrix, matrix.T)
    assert float(torch.linalg.eigvalsh(matrix).min()) > 0
    complex_ = helmholtz(1, 6, seeded(0), absorption=0.3)
    inverse = FastPoisson().build(as_map(complex_.A, complex_.b))
    matrix = inverse(torch.eye(36, dtype=torch.complex128)).T
    torch.testing.assert_close(inverse.H(torch.eye(36, dtype=torch.complex128)).T, matrix.mH)


def test_single_precision_inside_keeps_double_precision_outside():
    systems = darcy(4, 32, seeded(0), deviation=1.5)
    result = solve(systems.A, systems.b, method=CG(flexible=True), preconditioner=FastPoisson(single=True), tol=1e-11)
    assert result.converged, result.reason
    double = solve(systems.A, systems.b, method=CG(), preconditioner=FastPoisson(), tol=1e-11)
    torch.testing.assert_close(result.x, double.x, rtol=1e-8, atol=1e-10)
    assert result.iterations <= 1.3 * double.iterations


def test_it_shifts_waves_too():
    systems = helmholtz(1, 16, seeded(0), wavenumber=8.0, deviation=0.3, absorption=0.2)
    plain = solve(*systems[0], method=GMRES(100), max_iterations=100)
    helped = solve(*systems[0], method=GMRES(100), preconditioner=FastPoisson(), max_iterations=100)
    assert helped.converged
    assert helped.iterations < plain.iterations / 2
