"""Jacobi, ILU, IC: what they invert, exactly or on the pattern."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch
from linear_cases import SYSTEMS, right_hand_side, seeded

from slipstream.errors import InputError
from slipstream.solvers.linear import CG, GMRES, IC, ILU, LU, Jacobi, solve
from slipstream.solvers.linear.maps import as_map
from slipstream.solvers.linear.preconditioners import incomplete_cholesky
from slipstream.solvers.linear.systems import darcy


def textbook(dense: np.ndarray) -> np.ndarray:
    """Incomplete Cholesky without fill, entry by entry."""
    n = len(dense)
    L = np.zeros_like(dense)
    for i in range(n):
        for j in range(i + 1):
            if dense[i, j] == 0:
                continue
            rest = dense[i, j] - L[i, :j] @ L[j, :j].conj()
            L[i, j] = np.sqrt(rest.real) if i == j else rest / L[j, j]
    return L


@pytest.mark.parametrize("kind", ["positive", "magnetic"])
def test_incomplete_cholesky_is_the_textbook_factor(kind):
    A = SYSTEMS[kind](6)
    ours = incomplete_cholesky(A.matrix(), 0.0, 300).toarray()
    theirs = textbook(A.dense()[0].numpy())
    np.testing.assert_allclose(ours, theirs, atol=1e-9 * abs(theirs).max())
    assert (ours[A.dense()[0].numpy() == 0] == 0).all()


@pytest.mark.parametrize("kind", ["positive", "magnetic", "transport", "waves"])
@pytest.mark.parametrize("preconditioner", [Jacobi(), ILU(drop=0.1), IC(), LU()], ids=lambda p: type(p).__name__)
def test_inverse_forward_and_adjoint_belong_together(kind, preconditioner):
    if isinstance(preconditioner, IC) and kind in ("transport", "waves"):
        pytest.skip("IC is for Hermitian matrices")
    A = SYSTEMS[kind](6)
    inverse = preconditioner.build(as_map(A, right_hand_side(A, "stencil", 1)))
    eye = torch.eye(36, dtype=A.dtype)
    B = inverse(eye).T
    torch.testing.assert_close(inverse.forward(inverse(eye)), eye, atol=1e-9, rtol=0)
    torch.testing.assert_close(inverse.H(eye).T, B.mH)
    if isinstance(preconditioner, LU):
        torch.testing.assert_close(B @ A.dense()[0], eye, atol=1e-9, rtol=0)


def test_they_help_in_their_order():
    A, b = darcy(1, 24, seeded(0), deviation=1.5)[0]
    counts = [solve(A, b, method=CG(), preconditioner=p).iterations for p in (None, Jacobi(), IC())]
    assert counts[0] > 1.5 * counts[1] > 3 * counts[2]


def test_a_factor_that_does_not_exist_is_made_by_a_shift():
    """Kershaw's matrix: positive definite, yet incomplete Cholesky meets a negative pivot."""
    kershaw = scipy.sparse.csr_array(np.array([[3.0, -2, 0, 2], [-2, 3, -2, 0], [0, -2, 3, -2], [2, 0, -2, 3]]))
    assert incomplete_cholesky(kershaw, 0.0, 300) is None
    result = solve(kershaw, torch.ones(4, dtype=torch.float64), method=CG(), preconditioner=IC(), tol=1e-10)
    assert result.converged


def test_what_they_are_not_for_is_refused():
    transport = SYSTEMS["transport"]()
    b = right_hand_side(transport, "stencil", None)
    with pytest.raises(InputError, match="Hermitian"):
        solve(transport, b, method=CG(), preconditioner=IC())
    hollow = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    with pytest.raises(InputError, match="2 zeros"):
        solve(hollow, torch.ones(2, dtype=torch.float64), method=GMRES(), preconditioner=Jacobi())
    with pytest.raises(InputError, match="positive diagonal"):
        solve(hollow, torch.ones(2, dtype=torch.float64), method=CG(), preconditioner=IC())
