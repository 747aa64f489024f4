"""Gradients through a solve: against finite differences, whatever the method and whatever stands for the matrix."""

from __future__ import annotations

import pytest
import scipy.sparse
import torch
from linear_cases import SYSTEMS, right_hand_side, seeded
from torch.autograd import gradcheck

from slipstream.errors import InputError
from slipstream.solvers.linear import (
    CG,
    FGMRES,
    GCRODR,
    GMRES,
    ILU,
    LU,
    MINRES,
    BiCGStab,
    Diffusion,
    FastPoisson,
    Jacobi,
    Multigrid,
    solve,
)
from slipstream.solvers.linear.systems import unit_box

GENERAL = {
    "GMRES": (GMRES(40), None),
    "GMRES-Jacobi": (GMRES(40), Jacobi()),
    "FGMRES-ILU": (FGMRES(10), ILU()),
    "BiCGStab": (BiCGStab(), None),
    "GCRODR": (GCRODR(12, 4), None),
    "LU": (LU(), None),
}


def entries(dtype, seed=0, n=5):
    A = torch.randn(n, n, generator=seeded(seed), dtype=dtype) + 5 * torch.eye(n, dtype=dtype)
    b = torch.randn(2, n, generator=seeded(seed + 1), dtype=dtype)
    return A.requires_grad_(), b.requires_grad_()


def solved(A, b, method, preconditioner=None):
    rows = [b] if not isinstance(method, GCRODR) else [b[i] for i in range(b.shape[0])]
    found = [solve(A, r, method=method, preconditioner=preconditioner, tol=1e-12, max_iterations=400) for r in rows]
    assert all(f.converged for f in found), [f.reason for f in found]
    return found[0].x if len(found) == 1 else torch.stack([f.x for f in found])


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("name", GENERAL)
def test_dense_entries_and_right_hand_sides(name, dtype):
    A, b = entries(dtype, n=3)
    assert gradcheck(lambda A, b: solved(A, b, *GENERAL[name]), (A, b), atol=1e-6)


@pytest.mark.parametrize("layout", ["coo", "csr"])
@pytest.mark.parametrize("name", GENERAL)
def test_sparse_values(name, layout):
    dense, b = entries(torch.float64)
    places = torch.tensor([[0, 0, 1, 1, 2, 2, 3, 3, 4, 4], [0, 3, 1, 0, 2, 4, 3, 2, 4, 1]])
    values = dense.detach()[places[0], places[1]].requires_grad_()

    def function(values, b):
        A = torch.sparse_coo_tensor(places, values, (5, 5), check_invariants=True)
        if layout == "csr":
            starts = torch.arange(0, 11, 2)
            order = torch.argsort(places[0] * 5 + places[1])
            A = torch.sparse_csr_tensor(starts, places[1][order], values[order], (5, 5), check_invariants=True)
        return solved(A, b, *GENERAL[name])

    assert gradcheck(function, (values, b), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_what_a_plain_function_closes_over(dtype):
    w, b = entries(dtype)

    def function(w, b):
        return solved(lambda v: torch.tanh(w.real).sum() * v + v @ w.T, b, GMRES(20))

    assert gradcheck(function, (w, b), atol=1e-6)


@pytest.mark.parametrize(
    ("method", "preconditioner"),
    [
        (CG(), FastPoisson()),
        (CG(), Multigrid(coarsest=4)),
        (Multigrid(coarsest=4), None),
        (CG(), Jacobi()),
        (MINRES(), None),
        (LU(), None),
    ],
    ids=["FastPoisson", "CG-Multigrid", "Multigrid", "Jacobi", "MINRES", "LU"],
)
def test_coefficients_of_a_diffusion(method, preconditioner):
    grid = unit_box(4, 2)
    a = torch.rand(1, 4, 4, generator=seeded(0), dtype=torch.float64).add(0.5).requires_grad_()
    b = torch.randn(1, 4, 4, generator=seeded(1), dtype=torch.float64, requires_grad=True)
    # One random direction instead of every entry: the same law, at a sixteenth of the price.
    assert gradcheck(
        lambda a, b: solved(Diffusion(a, grid), b, method, preconditioner), (a, b), atol=1e-6, fast_mode=True
    )


def test_scipy_matrices_carry_the_gradient_of_the_right_hand_side():
    A, b = entries(torch.complex128)
    matrix = scipy.sparse.csr_array(A.detach().numpy())
    for name in ("GMRES", "FGMRES-ILU", "LU"):
        assert gradcheck(lambda b, name=name: solved(matrix, b, *GENERAL[name]), (b,), atol=1e-6)


def test_second_derivatives_are_refused():
    A, b = entries(torch.float64)
    x = solved(A, b, GMRES(20))
    for wanted in (A, b):
        with pytest.raises(InputError, match="Second derivatives"):
            torch.autograd.grad(x.sum(), wanted, create_graph=True)


def test_a_symmetric_matrix_has_entries_of_its_own_each():
    A, b = entries(torch.float64)
    A = (A.detach() + A.detach().T).requires_grad_()
    x = solved(A, b, GMRES(20))
    found = torch.autograd.grad(x.sum(), A)[0]
    inverse = torch.linalg.inv(A.detach())
    weight = inverse.T @ torch.ones(5, dtype=torch.float64)
    torch.testing.assert_close(found, -torch.einsum("i,rj->ij", weight, x.detach()))


def test_gradient_of_what_did_not_converge_is_refused():
    A = SYSTEMS["positive"](num_points=16)
    b = right_hand_side(A, "stencil", None).requires_grad_()
    result = solve(A, b, method=CG(), max_iterations=3)
    assert not result.converged
    with pytest.raises(InputError, match="did not converge"):
        result.x.sum().backward()


def test_no_graph_where_none_is_asked_for():
    A, b = entries(torch.float64)
    with torch.no_grad():
        assert not solve(A, b, method=GMRES(), tol=1e-10).x.requires_grad
    assert not solve(A.detach(), b.detach(), method=GMRES(), tol=1e-10).x.requires_grad
