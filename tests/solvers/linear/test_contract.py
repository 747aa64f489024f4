"""The word Method: laws of everything that solves a linear system. A new one adds its line to METHODS."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from linear_cases import KINDS, SYSTEMS, as_kind, right_hand_side, seeded

from slipstream.errors import InputError, MissingExtra, ShapeError
from slipstream.solvers.linear import (
    AMG,
    CG,
    DCDM,
    FGMRES,
    GCRODR,
    GMRES,
    IC,
    ILU,
    LU,
    MINRES,
    BiCGStab,
    FastPoisson,
    Jacobi,
    Multigrid,
    Solver,
    solve,
)

ALL = tuple(SYSTEMS)
HERMITIAN = ("positive", "magnetic", "indefinite")
DEFINITE = ("positive", "magnetic")
AVERAGE = torch.nn.AvgPool2d(3, stride=1, padding=1)
MATRICES = ("stencil", "scipy", "csr", "coo", "dense")

pyamg = pytest.mark.skipif(importlib.util.find_spec("pyamg") is None, reason="needs the extra [amg]")

# name: (method, preconditioner, systems that it solves, what may stand for the matrix)
METHODS = {
    "CG": (CG(), None, DEFINITE, KINDS),
    "CG-Jacobi": (CG(), Jacobi(), DEFINITE, MATRICES),
    "CG-IC": (CG(), IC(), DEFINITE, MATRICES),
    "CG-flexible": (CG(flexible=True), lambda r: r / 3, DEFINITE, KINDS),
    "CG-FastPoisson": (CG(), FastPoisson(), ("positive",), ("stencil",)),
    "CG-Multigrid": (CG(), Multigrid(coarsest=16), ("positive",), ("stencil",)),
    "CG-AMG": (CG(), AMG(), DEFINITE, MATRICES),
    "DCDM": (DCDM(AVERAGE, space=(8, 8)), None, ("positive",), KINDS),
    "DCDM-Jacobi": (DCDM(AVERAGE, space=(8, 8)), Jacobi(), ("positive",), MATRICES),
    "MINRES": (MINRES(), None, HERMITIAN, KINDS),
    "MINRES-Jacobi": (MINRES(), Jacobi(), DEFINITE, MATRICES),
    "GMRES": (GMRES(40), None, ALL, KINDS),
    "GMRES-ILU": (GMRES(20), ILU(), ALL, MATRICES),
    "FGMRES": (FGMRES(40), None, ALL, KINDS),
    "FGMRES-Jacobi": (FGMRES(40), Jacobi(), ALL, MATRICES),
    "BiCGStab": (BiCGStab(), None, (*DEFINITE, "transport"), KINDS),
    "BiCGStab-ILU": (BiCGStab(), ILU(), ALL, MATRICES),
    "GCRODR": (GCRODR(20, 8), None, ALL, KINDS),
    "GCRODR-Jacobi": (GCRODR(20, 8), Jacobi(), ALL, MATRICES),
    "LU": (LU(), None, ALL, MATRICES),
    "AMG": (AMG(), None, ("positive",), MATRICES),
    "Multigrid": (Multigrid(coarsest=16), None, ("positive",), ("stencil",)),
}
# FastPoisson alone solves for a constant coefficient only: test_poisson.py.
CASES = [
    pytest.param(name, system, kind, id=f"{name}-{system}-{kind}", marks=[pyamg] if "AMG" in name else [])
    for name, (_, _, systems, kinds) in METHODS.items()
    for system in systems
    for kind in kinds
]
FEW = [p for p in CASES if p.values[2] == "stencil"]


def case(name, system, kind, rhs, tol=1e-10):
    method, preconditioner, _, _ = METHODS[name]
    stencil = SYSTEMS[system]()
    A, b = as_kind(stencil, kind), right_hand_side(stencil, kind, rhs)
    arguments = {"method": method, "preconditioner": preconditioner, "tol": tol, "max_iterations": 3000}
    return stencil.dense()[0], A, b, arguments


@pytest.mark.parametrize(("name", "system", "kind"), CASES)
def test_solution_is_that_of_a_dense_solver(name, system, kind):
    rhs = None if "GCRODR" in name else 3
    dense, A, b, arguments = case(name, system, kind, rhs)
    result = solve(A, b, **arguments)
    assert result.converged, result.reason
    assert result.x.shape == b.shape
    assert result.x.dtype == b.dtype
    rows = b.reshape(rhs or 1, -1)
    exact = torch.linalg.solve(dense, rows.T).T
    bound = 1e-10 * float(torch.linalg.cond(dense))
    error = torch.linalg.vector_norm(result.x.reshape(rows.shape) - exact, dim=1) / torch.linalg.vector_norm(
        exact, dim=1
    )
    assert float(error.max()) <= bound
    true = torch.linalg.vector_norm(rows - result.x.reshape(rows.shape) @ dense.T, dim=1)
    true = true / torch.linalg.vector_norm(rows, dim=1)
    assert float(true.max()) <= 1.01e-10
    torch.testing.assert_close(result.residuals[-1], true, rtol=0.2, atol=1e-14)
    assert result.residuals.shape == (result.iterations + 1, rhs or 1)
    assert float(result.residuals[0].max()) == pytest.approx(1.0)


@pytest.mark.parametrize(("name", "system", "kind"), [p for p in FEW if "GCRODR" not in p.values[0]])
def test_right_hand_sides_do_not_see_each_other(name, system, kind):
    _, A, b, arguments = case(name, system, kind, 3)
    b = b * torch.tensor([1.0, 1e-6, 1e5]).reshape(3, *[1] * (b.ndim - 1))
    together = solve(A, b, **arguments)
    for i in range(3):
        alone = solve(A, b[i], **arguments)
        scale = float(alone.x.abs().max())
        assert float((together.x[i] - alone.x).abs().max()) <= 1e-7 * scale


@pytest.mark.parametrize(("name", "system", "kind"), FEW)
def test_too_few_iterations_are_admitted(name, system, kind):
    if name in ("LU", "GMRES-ILU", "BiCGStab-ILU", "CG-AMG"):
        pytest.skip("one iteration may be enough")
    dense, A, b, arguments = case(name, system, kind, None)
    result = solve(A, b, **{**arguments, "max_iterations": 1})
    assert not result.converged
    assert result.reason
    row = b.reshape(-1)
    true = torch.linalg.vector_norm(row - dense @ result.x.reshape(-1)) / torch.linalg.vector_norm(row)
    assert float(true) > 1e-10
    assert float(result.residuals[-1, 0]) == pytest.approx(float(true), rel=1e-8)


@pytest.mark.parametrize(("name", "system", "kind"), FEW)
def test_starting_at_the_solution_costs_one_product(name, system, kind):
    _, A, b, arguments = case(name, system, kind, None)
    x = solve(A, b, **{**arguments, "tol": 1e-12}).x
    again = solve(A, b, x, **arguments)
    assert again.converged
    assert again.iterations == 0
    assert again.applications == 1


@pytest.mark.parametrize(("name", "system", "kind"), FEW)
def test_zero_right_hand_side_gives_zero(name, system, kind):
    _, A, b, arguments = case(name, system, kind, None)
    result = solve(A, torch.zeros_like(b), torch.ones_like(b), **arguments)
    assert result.converged
    assert not result.x.any()


@pytest.mark.parametrize(("name", "system", "kind"), FEW)
def test_bad_input_is_refused(name, system, kind):
    _, A, b, arguments = case(name, system, kind, None)
    broken = b.clone()
    broken.view(-1)[0] = float("nan")
    with pytest.raises(InputError, match="not finite"):
        solve(A, broken, **arguments)
    with pytest.raises(InputError, match="x0"):
        solve(A, b, broken, **arguments)
    with pytest.raises(ShapeError):
        solve(A, b, b[..., :-1], **arguments)
    with pytest.raises(ShapeError):
        solve(A, b[..., :-1], **arguments)
    with pytest.raises(InputError, match="real or complex"):
        solve(A, b.real.long(), **arguments)


@pytest.mark.parametrize("name", [n for n, c in METHODS.items() if "positive" in c[2] and "AMG" not in n])
def test_single_precision_stays_single(name):
    method, preconditioner, _, _ = METHODS[name]
    A = SYSTEMS["positive"](dtype=torch.float32)
    b = right_hand_side(A, "stencil", None)
    result = solve(A, b, method=method, preconditioner=preconditioner, tol=1e-4)
    assert result.x.dtype == torch.float32
    assert result.converged, result.reason


@pytest.mark.parametrize("kind", KINDS[1:])
def test_arrays_give_arrays(kind):
    stencil = SYSTEMS["transport"]()
    b = right_hand_side(stencil, kind, 2).numpy()
    result = solve(as_kind(stencil, kind), b, method=GMRES(64), tol=1e-10)
    assert isinstance(result.x, np.ndarray)
    np.testing.assert_allclose(result.x @ stencil.dense()[0].numpy().T, b, atol=1e-8)


def test_a_batch_of_systems_is_solved_as_each_alone():
    A = SYSTEMS["positive"](count=3)
    b = right_hand_side(A, "stencil", 3)
    for method, preconditioner in (
        (CG(), FastPoisson()),
        (CG(), Multigrid(coarsest=16)),
        (CG(), Jacobi()),
        (MINRES(), None),
        (GMRES(30), Jacobi()),
        (BiCGStab(), Jacobi()),
    ):
        result = solve(A, b, method=method, preconditioner=preconditioner, tol=1e-11)
        assert result.converged, result.reason
        exact = torch.linalg.solve(A.dense(), b.flatten(1)[..., None]).reshape(b.shape)
        torch.testing.assert_close(result.x, exact, rtol=1e-7, atol=1e-9)
    with pytest.raises(InputError, match="one by one"):
        solve(A, b, method=LU())
    with pytest.raises(ShapeError, match="3 matrices"):
        solve(A, b[:2], method=CG())


def test_what_is_not_definite_is_named_by_cg():
    A = SYSTEMS["indefinite"]()
    result = solve(A, right_hand_side(A, "stencil", None), method=CG(), max_iterations=500)
    assert not result.converged
    assert "not positive definite" in result.reason


def test_what_is_not_hermitian_is_named_by_minres():
    A = SYSTEMS["transport"]()
    result = solve(A, right_hand_side(A, "stencil", None), method=MINRES(), max_iterations=500)
    assert not result.converged
    assert "not Hermitian" in result.reason


def test_cg_on_what_is_not_symmetric_does_not_pretend():
    A = SYSTEMS["transport"]()
    b = right_hand_side(A, "stencil", None)
    result = solve(A, b, method=CG(), max_iterations=300)
    true = torch.linalg.vector_norm(b - A(result.x[None])[0]) / torch.linalg.vector_norm(b)
    assert result.converged == bool(true <= 1e-8)
    assert not result.converged


@pytest.mark.parametrize(
    "method", [CG(), MINRES(), GMRES(40), FGMRES(40), BiCGStab(), GCRODR(30, 5)], ids=lambda m: type(m).__name__
)
def test_singular_systems_are_solved_where_consistent_and_admitted_where_not(method):
    ring = torch.diag(torch.full((16,), 2.0, dtype=torch.float64))
    ring = (
        ring
        - torch.roll(torch.eye(16, dtype=torch.float64), 1, 0)
        - torch.roll(torch.eye(16, dtype=torch.float64), -1, 0)
    )
    b = torch.randn(16, generator=seeded(0), dtype=torch.float64)
    consistent = solve(ring, b - b.mean(), method=method, tol=1e-10)
    assert consistent.converged, consistent.reason
    torch.testing.assert_close(ring @ consistent.x, b - b.mean())
    hopeless = solve(ring, b, method=method, tol=1e-10)
    assert not hopeless.converged
    assert hopeless.reason
    assert bool(torch.isfinite(hopeless.x).all())


def test_singular_matrices_are_refused_where_they_are_factorised():
    singular = torch.ones(4, 4, dtype=torch.float64).to_sparse_csr()
    b = torch.ones(4, dtype=torch.float64)
    with pytest.raises(InputError, match="singular"):
        solve(singular, b, method=LU())
    with pytest.raises(InputError, match="singular"):
        solve(singular, b, method=GMRES(), preconditioner=ILU())


def test_matrices_that_are_not_finite_or_not_square_are_refused():
    A = torch.eye(4, dtype=torch.float64)
    A[1, 2] = float("inf")
    for kind in (A, A.to_sparse_csr(), A.to_sparse_coo()):
        with pytest.raises(InputError, match="not finite"):
            solve(kind, torch.ones(4, dtype=torch.float64), method=CG())
    with pytest.raises(ShapeError, match="square"):
        solve(torch.ones(4, 3), torch.ones(3), method=CG())
    with pytest.raises(InputError, match="from_numpy"):
        solve(np.eye(3), torch.ones(3), method=CG())


def test_a_function_that_gives_nan_never_converges():
    for method in (CG(), MINRES(), GMRES(), FGMRES(), BiCGStab(), GCRODR(10, 2)):
        result = solve(lambda v: v * float("nan"), torch.ones(8, dtype=torch.float64), method=method)
        assert not result.converged
        assert result.reason
        assert bool(torch.isfinite(result.x).all())
        with pytest.raises(InputError, match="not finite"):
            solve(lambda v: v * float("nan"), torch.ones(8), torch.ones(8), method=method)


def test_functions_that_change_shape_or_dtype_are_refused():
    with pytest.raises(ShapeError, match="keep the shape"):
        solve(lambda v: v[:, :-1], torch.ones(4), method=CG())
    with pytest.raises(InputError, match="complex"):
        solve(lambda v: v * 1j, torch.ones(4), method=GMRES())


def test_entries_are_asked_for_where_nobody_knows_them():
    for arguments in (
        {"method": LU()},
        {"method": CG(), "preconditioner": ILU()},
        {"method": CG(), "preconditioner": Jacobi()},
    ):
        with pytest.raises(InputError, match="needs the entries"):
            solve(lambda v: 2 * v, torch.ones(4), **arguments)


def test_preconditioners_of_preconditioners_and_names_are_refused():
    with pytest.raises(InputError, match="takes no preconditioner"):
        Solver(torch.eye(3), method=LU(), preconditioner=Jacobi())
    for name in ("cg", CG):
        with pytest.raises((InputError, TypeCheckError), match=r"object|method"):
            Solver(torch.eye(3), method=name)
    with pytest.raises(InputError, match="one right-hand side"):
        solve(torch.eye(3), torch.ones(2, 3), method=GCRODR())


def test_factors_are_made_once(monkeypatch):
    import scipy.sparse.linalg

    made = []
    real = scipy.sparse.linalg.splu
    monkeypatch.setattr(scipy.sparse.linalg, "splu", lambda *a, **k: made.append(1) or real(*a, **k))
    stencil = SYSTEMS["transport"]()
    solver = Solver(stencil, method=LU())
    for seed in range(4):
        assert solver.solve(right_hand_side(stencil, "stencil", 2, seed)).converged
    assert len(made) == 1


def test_applications_are_what_the_function_saw():
    dense = SYSTEMS["transport"]().dense()[0]
    for method in (GMRES(10), FGMRES(10), BiCGStab(), GCRODR(10, 4)):
        seen = []

        def function(v, seen=seen):
            seen.append(v.shape[0])
            return v @ dense.T

        result = solve(function, torch.ones(64, dtype=torch.float64), method=method)
        assert result.converged
        assert result.applications == sum(seen)
        assert result.applications >= result.iterations


def test_amg_without_its_package_names_the_extra(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyamg", None)
    A = SYSTEMS["positive"]()
    with pytest.raises(MissingExtra, match=r"slipstream\[amg\]"):
        solve(A, right_hand_side(A, "stencil", None), method=CG(), preconditioner=AMG())
