"""Geometric multigrid: transfers, symmetry of the cycle, and a rate that does not know the grid."""

from __future__ import annotations

import pytest
import torch
from linear_cases import seeded

from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.solvers.linear import CG, Boundary, Diffusion, Multigrid, solve
from slipstream.solvers.linear.maps import as_map
from slipstream.solvers.linear.multigrid import prolong, restrict
from slipstream.solvers.linear.systems import gaussian_fields, helmholtz, unit_box

ENDS = list(Boundary)


def matrix_of(function, shape):
    n = int(torch.tensor(shape).prod())
    return function(torch.eye(n, dtype=torch.float64).reshape(n, *shape)).flatten(1).T


@pytest.mark.parametrize("boundary", ENDS, ids=lambda b: b.name)
def test_restriction_is_the_transpose_of_interpolation(boundary):
    for dims, coarse in ((1, (4,)), (2, (3, 4)), (3, (2, 3, 2))):
        ends = (boundary,) * dims
        P = matrix_of(lambda u, ends=ends: prolong(u, ends), coarse)
        R = matrix_of(lambda u, ends=ends: restrict(u, ends), tuple(2 * n for n in coarse))
        torch.testing.assert_close(R, P.T / 2**dims)


def test_interpolation_reproduces_lines_and_constants():
    fine, coarse = (unit_box(n, 1).coordinates(torch.float64) for n in (16, 8))
    torch.testing.assert_close(prolong(coarse, (Boundary.NEUMANN,))[0, 1:-1], fine[0, 1:-1])
    ones = torch.ones(1, 4, 4, dtype=torch.float64)
    for boundary in (Boundary.NEUMANN, Boundary.PERIODIC):
        assert torch.equal(prolong(ones, (boundary,) * 2), torch.ones(1, 8, 8, dtype=torch.float64))
    # A wall at zero: linear from the wall to the first centre.
    torch.testing.assert_close(prolong(coarse, (Boundary.DIRICHLET,))[0, 0], fine[0, 0])


@pytest.mark.parametrize("boundary", ENDS, ids=lambda b: b.name)
@pytest.mark.parametrize("sweeps", [1, 2])
def test_the_cycle_is_symmetric_and_reduces_every_error(boundary, sweeps):
    grid = Grid.box(8, 1.0, num_dims=2, periodic=boundary is Boundary.PERIODIC)
    end = Boundary.NEUMANN if boundary is Boundary.NEUMANN else Boundary.DIRICHLET
    A = Diffusion(gaussian_fields(1, grid, seeded(0)).exp(), grid, end, 0.1)
    cycle = Multigrid(sweeps, coarsest=4).build(as_map(A, torch.ones(1, 8, 8, dtype=torch.float64)))
    B = cycle(torch.eye(64, dtype=torch.float64))
    torch.testing.assert_close(B, B.T)
    assert float(torch.linalg.eigvalsh(B).min()) > 0
    reduction = torch.linalg.eigvals(torch.eye(64, dtype=torch.float64) - B @ A.dense()[0]).abs().max()
    assert float(reduction) < (0.6 if sweeps == 1 else 0.4)


@pytest.mark.parametrize("dims", [2, 3])
def test_iterations_do_not_grow_with_the_grid(dims):
    alone, preconditioned = [], []
    for n in (8, 16, 32) if dims == 3 else (16, 32, 64, 128):
        grid = unit_box(n, dims)
        x = grid.coordinates(torch.float64)
        a = torch.exp(torch.sin(3 * x[0]) * torch.cos(4 * x[1]) + x[-1])[None]
        b = torch.ones(grid.shape, dtype=torch.float64)
        A = Diffusion(a, grid)
        alone.append(solve(A, b, method=Multigrid(symmetric=False), tol=1e-9).iterations)
        preconditioned.append(solve(A, b, method=CG(), preconditioner=Multigrid(), tol=1e-9).iterations)
    assert max(alone) <= 18
    assert max(preconditioned) <= 13
    assert alone[-1] <= alone[-2] + 2


def test_a_jump_of_a_thousand_is_carried_by_cg():
    grid = unit_box(32, 2)
    a = torch.ones(1, 32, 32, dtype=torch.float64)
    a[:, 7:19, 11:25] = 1000.0
    result = solve(
        Diffusion(a, grid), torch.ones(32, 32, dtype=torch.float64), method=CG(), preconditioner=Multigrid(), tol=1e-9
    )
    assert result.converged
    assert result.iterations <= 25


@pytest.mark.parametrize("boundary", [Boundary.NEUMANN, Boundary.PERIODIC], ids=lambda b: b.name)
def test_singular_systems_are_solved_where_consistent(boundary):
    grid = Grid.box(16, 1.0, num_dims=2, periodic=boundary is Boundary.PERIODIC)
    A = Diffusion(gaussian_fields(2, grid, seeded(0)).exp(), grid, Boundary.NEUMANN)
    b = torch.randn(2, 16, 16, generator=seeded(1), dtype=torch.float64)
    good = solve(A, b - b.mean((1, 2), keepdim=True), method=Multigrid(coarsest=16), tol=1e-9)
    assert good.converged, good.reason
    assert not solve(A, b, method=Multigrid(coarsest=16), tol=1e-9, max_iterations=100).converged


def test_what_it_cannot_do_is_refused():
    with pytest.raises(InputError, match="real Diffusion"):
        solve(torch.eye(4), torch.ones(4), method=Multigrid())
    waves = helmholtz(1, 8, seeded(0))
    with pytest.raises(InputError, match="real Diffusion"):
        solve(*waves[0], method=Multigrid())
    negative = helmholtz(1, 8, seeded(0), absorption=0.0)
    with pytest.raises(InputError, match="shift >= 0"):
        solve(*negative[0], method=Multigrid())
    odd = Diffusion(torch.ones(1, 66, 66), unit_box(66, 2))
    with pytest.raises(InputError, match="powers of two"):
        solve(odd, torch.ones(66, 66), method=Multigrid())
    with pytest.raises(InputError, match="sweeps"):
        Multigrid(sweeps=0)
