"""Poisson on cells: against a matrix put together cell by cell, and against the diffusion operator without obstacles."""

from __future__ import annotations

import itertools

import pytest
import torch
from linear_cases import seeded

from slipstream.errors import InputError, ShapeError
from slipstream.grids import Grid
from slipstream.solvers.linear import CG, LU, Boundary, CellPoisson, Diffusion, solve

D, N = Boundary.DIRICHLET, Boundary.NEUMANN


def masks(shape, seed=0):
    """Some fluid, some air, some solid."""
    u = torch.rand(2, *shape, generator=seeded(seed))
    return u > 0.35, u < 0.1


def by_hand(fluid, air, grid, boundaries):
    """The matrix, cell by cell and face by face; rows of cells that are not fluid are left out."""
    size = grid.size
    index = torch.arange(size).reshape(grid.shape)
    ends = [b if isinstance(b, tuple) else (b, b) for b in boundaries]
    A = torch.zeros(size, size, dtype=torch.float64)
    for cell in itertools.product(*map(range, grid.shape)):
        if not fluid[cell]:
            continue
        i = index[cell]
        for axis, h in enumerate(grid.spacing):
            for step in (-1, 1):
                other = list(cell)
                other[axis] += step
                if not 0 <= other[axis] < grid.shape[axis]:
                    if grid.axes[axis].periodic:
                        other[axis] %= grid.shape[axis]
                    else:
                        A[i, i] += (2 if ends[axis][step > 0] is D else 0) / h**2
                        continue
                if fluid[tuple(other)]:
                    A[i, i] += 1 / h**2
                    A[i, index[tuple(other)]] -= 1 / h**2
                elif air[tuple(other)]:
                    A[i, i] += 1 / h**2
    return A


@pytest.mark.parametrize(
    ("shape", "periodic", "boundaries"),
    [
        ((5, 6), False, [D, N]),
        ((4, 5), (True, False), [N, D]),
        ((3, 4, 5), False, [N, D, N]),
        ((7,), False, [D]),
        ((5, 6), False, [(N, D), (D, N)]),
    ],
)
def test_it_is_the_matrix_put_together_face_by_face(shape, periodic, boundaries):
    grid = Grid.box(shape, tuple(1.0 + i for i in range(len(shape))), periodic=periodic)
    fluid, air = masks(shape)
    A = CellPoisson(fluid, grid, boundaries, open=air)
    for i in range(2):
        expected = by_hand(fluid[i], air[i], grid, boundaries)
        rows = A.fluid[i].flatten()
        torch.testing.assert_close(A.dense()[i][rows], expected[rows], rtol=1e-13, atol=1e-13)
        lonely = fluid[i].flatten() & ~rows
        assert not expected[lonely].any(), "only a cell without neighbours is taken for solid"
        torch.testing.assert_close(A.dense()[i], A.dense()[i].T)
        torch.testing.assert_close(A[i].dense()[0], A.dense()[i])
        alone = A.dense()[i][~rows]
        assert ((alone != 0).sum(1) == 1).all()
        assert (alone.sum(1) > 0).all()


@pytest.mark.parametrize("boundary", [D, N])
@pytest.mark.parametrize("dims", [2, 3])
def test_without_obstacles_it_is_diffusion(dims, boundary):
    grid = Grid.box(6, 1.5, num_dims=dims, periodic=False)
    u = torch.randn(1, *grid.shape, generator=seeded(1), dtype=torch.float64)
    ours = CellPoisson(torch.ones(1, *grid.shape, dtype=torch.bool), grid, boundary)
    theirs = Diffusion(torch.ones(1, *grid.shape, dtype=torch.float64), grid, boundary)
    torch.testing.assert_close(ours(u), theirs(u), rtol=1e-12, atol=1e-11)
    assert ours.singular is theirs.singular


def test_enclosed_parts_are_the_null_space_and_a_consistent_side_is_solved():
    grid = Grid.box(8, 1.0, num_dims=2, periodic=False)
    fluid = torch.ones(2, 8, 8, dtype=torch.bool)
    fluid[0, 4] = False  # a wall through the middle: two rooms, one of them open
    air = torch.zeros_like(fluid)
    fluid[0, 0, 0], air[0, 0, 0] = False, True
    fluid[1, :, 4], fluid[1, 4, :] = False, False  # four rooms without any opening
    A = CellPoisson(fluid, grid, open=air)
    parts = A.enclosed()
    assert [len(p) for p in parts] == [1, 4]
    assert A.singular
    for i in range(2):
        values = torch.linalg.eigvalsh(A.dense()[i])
        assert int((values < 1e-9 * values[-1]).sum()) == len(parts[i])
        assert float(A[i](parts[i]).abs().max()) < 1e-10
    b = A.consistent(torch.randn(2, 8, 8, generator=seeded(2), dtype=torch.float64))
    assert solve(A, b, method=CG(), tol=1e-10).converged
    torch.testing.assert_close(A.consistent(b), b)


def test_several_sides_of_one_system_become_consistent_each_by_itself():
    grid = Grid.box(6, 1.0, num_dims=2, periodic=False)
    fluid = torch.ones(1, 6, 6, dtype=torch.bool)
    fluid[:, 3] = False
    A = CellPoisson(fluid, grid)
    b = torch.randn(3, 6, 6, generator=seeded(4), dtype=torch.float64)
    together = A.consistent(b)
    torch.testing.assert_close(together, torch.cat([A.consistent(row[None]) for row in b]))
    for room in (together[:, :3], together[:, 4:]):
        assert float(room.sum((1, 2)).abs().max()) < 1e-12
    assert not together[:, 3].any()
    assert CellPoisson(fluid, grid, [(N, D), N]).enclosed()[0].sum() == 18, (
        "the room beside the open end is not enclosed"
    )


def test_parts_that_meet_across_a_ring_are_one():
    grid = Grid.box((6, 5), 1.0, periodic=(True, False))
    fluid = torch.ones(1, 6, 5, dtype=torch.bool)
    fluid[0, 3] = False
    assert len(CellPoisson(fluid, grid).enclosed()[0]) == 1
    fluid[0, 0] = False
    assert len(CellPoisson(fluid, grid).enclosed()[0]) == 2


def test_an_opening_makes_it_definite_and_lu_solves_it():
    grid = Grid.box(8, 1.0, num_dims=2, periodic=False)
    fluid, air = masks((8, 8), 3)
    fluid[:], air[:] = True, False
    fluid[:, 0, 0], air[:, 0, 0] = False, True
    fluid[:, 4, 2:5] = False
    A = CellPoisson(fluid, grid, open=air)
    assert not A.singular
    b = torch.where(fluid[0], 1.0, 0.0).double()
    x = solve(A[0], b, method=LU()).x
    assert not x[~fluid[0]].any()
    assert (x[fluid[0]] > 0).all()


def test_what_does_not_fit_is_refused():
    grid = Grid.box(4, 1.0, num_dims=2, periodic=False)
    fluid = torch.ones(1, 4, 4, dtype=torch.bool)
    with pytest.raises(ShapeError, match="fluid and open"):
        CellPoisson(fluid[:, :3], grid)
    with pytest.raises(InputError, match="not both"):
        CellPoisson(fluid, grid, open=fluid)
    with pytest.raises(InputError, match="some fluid"):
        CellPoisson(~fluid, grid)
    with pytest.raises(ShapeError, match="one entry an axis"):
        CellPoisson(fluid, grid, [D])
    with pytest.raises(InputError, match="cell centres"):
        CellPoisson(fluid, Grid.box(4, 1.0, num_dims=2, periodic=False, centred=False))
