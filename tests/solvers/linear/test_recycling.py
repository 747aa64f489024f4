"""GCRO-DR: its invariants in every cycle, its limits, and what carrying a subspace does."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from linear_cases import seeded

from slipstream.errors import InputError
from slipstream.solvers.linear import (
    GCRODR,
    GMRES,
    ILU,
    Jacobi,
    Recycled,
    greedy_order,
    largest_angle,
    solve,
    solve_sequence,
)
from slipstream.solvers.linear.arnoldi import Arnoldi
from slipstream.solvers.linear.harmonic import harmonic_ritz
from slipstream.solvers.linear.maps import as_map
from slipstream.solvers.linear.method import ready
from slipstream.solvers.linear.systems import convection_diffusion, darcy, helmholtz

PRECONDITIONERS = {
    "none": None,
    "Jacobi": Jacobi(),
    "ILU": ILU(drop=0.5),
    "callable": lambda r: r / (1.5 + r.new_ones(r.shape[1]).cumsum(0) / 99),
}


def norm(v):
    return float(torch.linalg.vector_norm(v))


def family(kind, count=2, num_points=16):
    make = {
        "waves": lambda: helmholtz(count, num_points, seeded(5), wavenumber=12.0, absorption=0.05, deviation=0.2),
        "transport": lambda: convection_diffusion(count, num_points, seeded(4), dims=2, deviation=0.05),
        "darcy": lambda: darcy(count, num_points, seeded(6), correlation=0.99),
    }
    return make[kind]()


@pytest.mark.parametrize("preconditioner", PRECONDITIONERS.values(), ids=PRECONDITIONERS)
@pytest.mark.parametrize("kind", ["waves", "transport", "darcy"])
def test_invariants_hold_in_every_cycle_of_two_systems(kind, preconditioner):
    systems, space, seen = family(kind, num_points=12), None, 0
    for i in range(2):
        source, b = systems[i]
        A = as_map(source, b[None])
        inverse = ready(preconditioner, A)
        b = b.reshape(-1)
        goal = 1e-9 * norm(b)
        for cycle in GCRODR(24, 8, space).cycles(A, torch.zeros_like(b), b, inverse, goal, 3000):
            assert norm(b - A(cycle.x[None])[0] - cycle.residual) <= 1e-11 * norm(b)
            for U, C in ((cycle.vectors, cycle.images), (cycle.recycled.vectors, cycle.new_images)):
                assert U.shape == C.shape
                assert norm(A(U) - C) <= 1e-10
                assert norm(C.conj() @ C.T - torch.eye(len(C))) <= 1e-12
            basis, search = cycle.basis, cycle.search
            assert norm(basis.conj() @ basis.T - torch.eye(len(basis))) <= 1e-12
            image = torch.from_numpy(cycle.G).to(b).T @ basis
            assert norm(A(search) - image) <= 1e-12 * norm(image)
            # The residual is the smallest over the search space: orthogonal to its image.
            assert norm((image.conj() @ cycle.residual[:, None])[:, 0]) <= 1e-10 * norm(image) * norm(b)
            assert norm(cycle.residual) == pytest.approx(cycle.norms[-1], rel=1e-6, abs=1e-13 * norm(b))
            if inverse is not None:
                own = cycle.recycled.preconditioned
                assert norm(inverse(own) - cycle.recycled.vectors) <= 1e-9 * norm(cycle.recycled.vectors)
            space, seen = cycle.recycled, seen + 1
        assert norm(b - A(cycle.x[None])[0]) <= 1.001 * goal
    assert seen >= 3


@pytest.mark.parametrize("kind", ["waves", "transport", "darcy"])
def test_without_recycling_it_is_restarted_gmres(kind):
    A, b = family(kind)[0]
    ours = solve(A, b, method=GCRODR(9, 0), preconditioner=Jacobi(), tol=1e-7, max_iterations=150)
    theirs = solve(A, b, method=GMRES(9), preconditioner=Jacobi(), tol=1e-7, max_iterations=150)
    assert ours.iterations == theirs.iterations
    torch.testing.assert_close(ours.residuals, theirs.residuals, rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(ours.x, theirs.x, rtol=1e-8, atol=1e-10)
    assert ours.recycled is None


def test_the_first_cycle_is_that_of_gmres():
    A, b = family("transport")[0]
    ours = solve(A, b, method=GCRODR(20, 8), tol=1e-10)
    theirs = solve(A, b, method=GMRES(20), tol=1e-10)
    torch.testing.assert_close(ours.residuals[:21], theirs.residuals[:21], rtol=1e-10, atol=1e-13)
    assert ours.iterations < theirs.iterations


@pytest.mark.parametrize("kind", ["waves", "transport"])
def test_harmonic_ritz_vectors_are_those_of_the_textbook_eigenproblem(kind):
    """(H + h^2 H^-H e e^H) z = theta z, solved as written, against what the first cycle keeps."""
    A, b = family(kind)[0]
    m, k = 18, 7
    space = Arnoldi(as_map(A, b[None]), None, b.reshape(1, -1), m)
    for _ in range(m):
        space.step()
    Hbar = space.g[0]
    H, h = Hbar[:m], Hbar[m, m - 1]
    last = np.eye(m)[:, m - 1 :]
    theirs = H + abs(h) ** 2 * np.linalg.solve(H.conj().T, last) @ last.T
    values, vectors = scipy.linalg.eig(theirs)
    ours = harmonic_ritz(Hbar, np.eye(m + 1, m), k)
    # Pairs are never cut: compare with as many vectors as were kept.
    order = np.argsort(abs(values))[: ours.shape[1]]
    assert ours.shape[1] in (k, k - 1) if kind == "transport" else ours.shape[1] == k
    assert np.isrealobj(ours) == (kind == "transport")
    theirs_space = np.linalg.qr(vectors[:, order])[0]
    gap = ours - theirs_space @ (theirs_space.conj().T @ ours)
    assert np.linalg.norm(gap, 2) <= 1e-8


@pytest.mark.parametrize("complex_", [False, True], ids=["real", "complex"])
def test_harmonic_ritz_vectors_of_the_augmented_space_are_those_of_the_dense_operator(complex_):
    """A V = W G with a general W: against scipy.linalg.eig(G^H G, G^H W^H V) and against the definition itself."""
    random = np.random.default_rng(0)

    def normal(*shape):
        return random.standard_normal(shape) + (1j * random.standard_normal(shape) if complex_ else 0)

    n, c = 30, 12
    A = normal(n, n) / n**0.5 + np.diag(np.linspace(0.3, 4, n))
    V = normal(n, c)
    W, G = np.linalg.qr(A @ V)
    ours = harmonic_ritz(G, W.conj().T @ V, 5)
    values, vectors = scipy.linalg.eig(G.conj().T @ G, G.conj().T @ (W.conj().T @ V))
    order = np.argsort(abs(values))[: ours.shape[1]]
    theirs = np.linalg.qr(vectors[:, order])[0]
    assert np.linalg.norm(ours - theirs @ (theirs.conj().T @ ours), 2) <= 1e-8
    for theta, z in zip(values[order], vectors[:, order].T, strict=True):
        ritz = V @ z
        assert np.linalg.norm((A @ V).conj().T @ (A @ ritz - theta * ritz)) <= 1e-9 * np.linalg.norm(A @ ritz)


def test_a_complex_pair_stays_together():
    turn = np.array([[0.1, 1.0], [-1.0, 0.1]])
    G = scipy.linalg.block_diag(0.5, turn, 3.0, 4.0)
    kept = harmonic_ritz(G, np.eye(5), 3)
    assert kept.shape == (5, 3)
    assert np.linalg.norm(kept[3:]) <= 1e-12
    assert harmonic_ritz(G, np.eye(5), 2).shape == (5, 1)


def planted(count=6):
    values = torch.cat(
        [torch.logspace(-6, -4, count, dtype=torch.float64), torch.linspace(1, 3, 194, dtype=torch.float64)]
    )
    turn = torch.linalg.qr(torch.randn(200, 200, generator=seeded(0), dtype=torch.float64))[0]
    return turn @ torch.diag(values) @ turn.T, turn[:, :count].T.contiguous(), turn, values


def test_exact_eigenvectors_leave_the_deflated_spectrum_only():
    A, vectors, turn, values = planted()
    b = torch.randn(200, generator=seeded(1), dtype=torch.float64)
    with_space = solve(A, b, method=GCRODR(60, 6, Recycled(vectors, vectors)), tol=1e-9)
    # The same right-hand side without those directions, on the spectrum without those values.
    flat = torch.cat([torch.ones(6, dtype=torch.float64), values[6:]])
    easy = turn @ torch.diag(flat) @ turn.T
    rest = b - vectors.T @ (vectors @ b)
    alone = solve(easy, rest, method=GMRES(60), tol=1e-9 * norm(b) / norm(rest))
    assert with_space.converged
    assert with_space.iterations == 6 + alone.iterations
    ours = with_space.residuals[6:, 0] * norm(b)
    torch.testing.assert_close(ours[:-1], alone.residuals[:-1, 0] * norm(rest), rtol=1e-6, atol=0)
    assert solve(A, b, method=GMRES(60), tol=1e-9, max_iterations=200).iterations == 200


def test_the_subspace_finds_the_planted_directions():
    A, vectors, _, _ = planted()
    b = torch.randn(200, generator=seeded(1), dtype=torch.float64)
    found = solve(A, b, method=GCRODR(40, 12), tol=1e-10)
    assert found.converged
    assert largest_angle(found.recycled.vectors, vectors) <= 1e-3
    assert largest_angle(vectors, vectors) <= 1e-12
    assert largest_angle(
        torch.eye(200, dtype=torch.float64)[:3], torch.eye(200, dtype=torch.float64)[3:5]
    ) == pytest.approx(1)


def test_carrying_saves_iterations_and_its_products_are_counted():
    systems = family("darcy", count=4, num_points=24)
    alone = [solve(*systems[i], method=GCRODR(30, 12), preconditioner=Jacobi(), tol=1e-8) for i in range(4)]
    carried = solve_sequence(systems, method=GCRODR(30, 12), preconditioner=Jacobi(), tol=1e-8)
    assert carried[0].iterations == alone[0].iterations
    assert sum(r.iterations for r in carried[1:]) < 0.9 * sum(r.iterations for r in alone[1:])
    for i, result in enumerate(carried):
        assert result.converged
        torch.testing.assert_close(result.x, alone[i].x, rtol=1e-5, atol=1e-8)

    dense, seen = systems.A.dense(), []

    def counting(v):
        seen.append(v.shape[0])
        return v @ dense[1].T

    second = solve(counting, systems.b[1].reshape(-1), method=GCRODR(30, 12, carried[0].recycled), tol=1e-8)
    assert second.converged
    # Twelve to bring the subspace into line, one an iteration, one for the true residual at the end.
    assert second.applications == sum(seen)
    assert sum(seen) == second.iterations + 1
    assert seen[0] == carried[0].recycled.vectors.shape[0] == 12
    torch.testing.assert_close(second.residuals[1:13, 0], second.residuals[1, 0].expand(12))


def test_order_changes_the_way_and_not_the_answers():
    systems = family("darcy", count=5)
    order = greedy_order(systems.parameters, first=3)
    straight = solve_sequence(systems, method=GCRODR(20, 8), tol=1e-10)
    sorted_ = solve_sequence(systems, method=GCRODR(20, 8), order=order, tol=1e-10)
    for a, b in zip(straight, sorted_, strict=True):
        torch.testing.assert_close(a.x, b.x, rtol=1e-7, atol=1e-9)
    assert sorted_[3].iterations == solve(*systems[3], method=GCRODR(20, 8), tol=1e-10).iterations
    with pytest.raises(InputError, match="once"):
        solve_sequence(systems, method=GCRODR(20, 8), order=[0, 1, 1, 2, 3])


def test_dependent_directions_are_dropped():
    A, b = family("transport")[0]
    space = solve(A, b, method=GCRODR(20, 6), tol=1e-8).recycled
    doubled = Recycled(
        torch.cat([space.vectors, space.vectors[:2] * 3]), torch.cat([space.vectors, space.vectors[:2] * 3])
    )
    result = solve(A, b, method=GCRODR(20, 6, doubled), tol=1e-8)
    assert result.converged
    assert result.x.isfinite().all()


def test_a_method_object_is_not_changed_by_use():
    A, b = family("transport")[0]
    space = solve(A, b, method=GCRODR(20, 6), tol=1e-8).recycled
    method = GCRODR(20, 6, space)
    first, second = (solve(A, b, method=method, tol=1e-8) for _ in range(2))
    assert method.space is space
    assert first.iterations == second.iterations
    assert torch.equal(first.x, second.x)


def test_a_subspace_of_another_size_is_refused():
    A, b = family("transport")[0]
    wrong = torch.eye(3, dtype=torch.float64)
    with pytest.raises(InputError, match="3 unknowns"):
        solve(A, b, method=GCRODR(20, 6, Recycled(wrong, wrong)))
    for restart, recycle in ((0, 0), (10, 10), (10, -1)):
        with pytest.raises(InputError, match="recycle < restart"):
            GCRODR(restart, recycle)


def test_stagnation_is_admitted():
    shift = torch.roll(torch.eye(30, dtype=torch.float64), 1, 0)
    b = torch.eye(30, dtype=torch.float64)[0]
    result = solve(shift, b, method=GCRODR(10, 0), max_iterations=500)
    assert not result.converged
    assert "stagnates" in result.reason
