"""Ritz vectors as a source: against a dense eigensolver, and what a window promises."""

from __future__ import annotations

import pytest
import torch

from slipstream.data import RitzVectors
from slipstream.errors import InputError, ShapeError
from slipstream.grids import Grid
from slipstream.solvers.linear import Boundary, CellPoisson, Stencil
from slipstream.solvers.linear.lanczos import ritz
from slipstream.solvers.linear.maps import as_map
from slipstream.training.checkpoint import pack, unpack


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def box(n=8, dims=2):
    return Grid.box(n, 1.0, num_dims=None if isinstance(n, tuple) else dims, periodic=False)


def obstacles(count=2, n=8, boundary=Boundary.DIRICHLET):
    fluid = torch.rand(count, n, n, generator=generator(1)) > 0.2
    return CellPoisson(fluid, box(n), boundary)


def test_of_a_whole_space_they_are_the_eigenvectors():
    A = torch.randn(30, 30, generator=generator(), dtype=torch.float64)
    A = A @ A.T
    values, vectors = ritz(as_map(A, A[:1]), torch.randn(1, 30, generator=generator(2), dtype=torch.float64), 30)
    torch.testing.assert_close(values[0], torch.linalg.eigvalsh(A), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(A @ vectors[0].T, vectors[0].T * values[0], rtol=1e-7, atol=1e-7)


def test_they_stay_orthonormal_long_after_the_first_has_converged():
    values = torch.cat([torch.linspace(1, 2, 399, dtype=torch.float64), torch.tensor([1e4], dtype=torch.float64)])
    A = torch.diag(values)
    found, vectors = ritz(as_map(A, A[:1]), torch.ones(1, 400, dtype=torch.float64), 150)
    gram = vectors[0] @ vectors[0].T
    assert float((gram - torch.eye(150, dtype=gram.dtype)).abs().max()) < 1e-12
    assert int((found[0] > 100).sum()) == 1, "and it is not found again"
    torch.testing.assert_close(vectors[0] @ A @ vectors[0].T, torch.diag(found[0]), rtol=0, atol=1e-8)


def test_many_matrices_at_once_are_as_each_alone():
    A = obstacles(3)
    start = torch.randn(3, 64, generator=generator(3), dtype=torch.float64)
    values, vectors = ritz(as_map(A, start.reshape(3, 8, 8)), start, 12)
    for i in range(3):
        alone, rows = ritz(as_map(A[i], start[i : i + 1].reshape(1, 8, 8)), start[i : i + 1], 12)
        torch.testing.assert_close(values[i], alone[0], rtol=1e-10, atol=1e-8)
        torch.testing.assert_close((vectors[i] * rows[0]).sum(1).abs(), torch.ones(12, dtype=rows.dtype))


def test_an_exhausted_space_ends_in_zero_rows():
    A = torch.diag(torch.tensor([1.0, 1, 1, 3, 3, 5], dtype=torch.float64))
    values, vectors = ritz(as_map(A, A[:1]), torch.ones(1, 6, dtype=torch.float64), 6)
    torch.testing.assert_close(values[0], torch.tensor([0.0, 0, 0, 1, 3, 5], dtype=torch.float64))
    assert int((vectors[0].norm(dim=1) > 0.5).sum()) == 3
    transport = Stencil(torch.ones(1, 4), [torch.ones(1, 4)], [torch.zeros(1, 4)], [False], hermitian=False)
    with pytest.raises(InputError, match="symmetric"):
        ritz(as_map(transport, torch.ones(1, 4)), torch.ones(1, 4), 2)


def test_windows_hold_unit_vectors_with_their_energy_and_system():
    A = obstacles()
    source = RitzVectors(A, batch=9, vectors=64, dtype=torch.float64)
    window = source.next(generator())
    assert window.frames.shape == (9, 1, 1, 8, 8)
    b, which = window.frames.flatten(1), window.parameters["system"]
    assert set(which.tolist()) == {0, 1}
    torch.testing.assert_close(b.norm(dim=1), torch.ones(9, dtype=torch.float64))
    inverses = torch.linalg.inv(A.dense())
    energies = torch.stack([row @ inverses[i] @ row for row, i in zip(b, which, strict=True)])
    torch.testing.assert_close(window.parameters["energy"], energies, rtol=1e-7, atol=1e-12)
    assert not b.reshape(9, 8, 8)[~A.fluid[which]].abs().max() > 1e-9, "nothing outside the fluid"


def test_from_few_vectors_the_energy_comes_from_below_and_gets_exact():
    """Gauss quadrature: never above, and closer with every vector."""
    A, shares = obstacles(1, 10), []
    inverse = torch.linalg.inv(A.dense())[0]
    for vectors in (10, 20, 40, 100):
        window = RitzVectors(A, batch=50, vectors=vectors, dtype=torch.float64).next(generator(1))
        b = window.frames.flatten(1)
        shares.append(window.parameters["energy"] / ((b @ inverse) * b).sum(1))
        assert float(shares[-1].max()) <= 1 + 1e-9
    means = [float(s.mean()) for s in shares]
    assert means == sorted(means)
    assert means[0] < 0.99
    assert means[-1] == pytest.approx(1.0, abs=1e-9)


def test_the_lower_part_is_stressed_and_stress_one_stresses_nothing():
    for stress in (9.0, 1.0):
        A = CellPoisson(torch.ones(1, 10, 9, dtype=torch.bool), box((10, 9)), Boundary.DIRICHLET)
        source = RitzVectors(A, batch=2000, vectors=90, low=0.5, stress=stress, dtype=torch.float64)
        vectors, values = source.basis()
        kept = vectors[0].norm(dim=1) > 0.5
        c = source.next(generator(4)).frames.flatten(1) @ vectors[0][kept].T
        half = int(0.5 * int(kept.sum()))
        ratios = c[:, :half].square().mean(1) / c[:, half + 1 :].square().mean(1)
        assert float(ratios.median().sqrt()) == pytest.approx(stress, rel=0.05)
        assert bool((values[0].diff() >= 0).all())


def test_the_null_space_is_left_out():
    A = CellPoisson(torch.ones(1, 8, 8, dtype=torch.bool), box(), Boundary.NEUMANN)
    b = RitzVectors(A, batch=20, vectors=64, dtype=torch.float64).next(generator()).frames
    assert float(b.sum((-1, -2)).abs().max()) < 1e-8


def test_the_null_space_is_left_out_of_few_vectors_too():
    """They come from a vector in the range of A, so nothing of the constant enters them on the way."""
    A = CellPoisson(torch.ones(1, 8, 8, dtype=torch.bool), box(), Boundary.NEUMANN)
    vectors = RitzVectors(A, vectors=10, dtype=torch.float64).basis()[0]
    assert float(vectors.sum(-1).abs().max()) < 1e-10


def test_several_grids_take_turns_as_the_generator_says_and_matrices_have_a_grid_beside_them():
    systems = [obstacles(1, 8), obstacles(2, 12)]
    source = RitzVectors(systems, batch=3, vectors=10)
    sizes = [source.next(draws).grid.shape for draws in [generator(5)] for _ in range(20)]
    assert set(sizes) == {(8, 8), (12, 12)}
    plain = CellPoisson(torch.ones(1, 8, 8, dtype=torch.bool), box(), Boundary.DIRICHLET)
    matrix = plain.matrix()
    flat = RitzVectors(matrix, plain.grid, batch=4, vectors=10, seed=3, dtype=torch.float64)
    same = RitzVectors(plain, batch=4, vectors=10, seed=3, dtype=torch.float64)
    torch.testing.assert_close(flat.next(generator(1)).frames, same.next(generator(1)).frames, rtol=1e-8, atol=1e-10)
    with pytest.raises(InputError, match="grid="):
        RitzVectors(matrix)
    with pytest.raises(ShapeError, match="the grid has"):
        RitzVectors(matrix, box(12))
    for wrong in ({"batch": 0}, {"low": 1.5}, {"stress": 0.0}):
        with pytest.raises(InputError, match="RitzVectors needs"):
            RitzVectors(systems, **wrong)


def test_the_generator_alone_decides_and_a_state_goes_on():
    source, draws = RitzVectors(obstacles(), batch=3, vectors=20), generator(6)
    source.next(draws)
    state, random = unpack(pack(source.state_dict())), draws.get_state()
    expected = [source.next(draws).frames for _ in range(3)]
    again, others = RitzVectors(obstacles(), batch=3, vectors=20), generator(99)
    torch.manual_seed(5)
    again.load_state_dict(state)
    others.set_state(random)
    assert all(torch.equal(u, again.next(others).frames) for u in expected)
    with pytest.raises(InputError, match="vectors was 20 and is 21"):
        RitzVectors(obstacles(), batch=3, vectors=21).load_state_dict(state)
    with pytest.raises(InputError, match="no state"):
        again.load_state_dict({"nonsense": 1})
