"""POD: the best subspace; DEIM exact in its span; Galerkin exact where the basis spans the solution."""

from __future__ import annotations

import pytest
import torch

from slipstream.errors import InputError, UnstableStep
from slipstream.operators.rivals.pod import POD, PODGalerkin, deim

N = 24


def snapshots(count=30, rank=5):
    g = torch.Generator().manual_seed(0)
    shapes = torch.linalg.qr(torch.randn(N, rank, generator=g, dtype=torch.float64))[0]
    size = 0.3 ** torch.arange(rank, dtype=torch.float64)
    return 2.0 + (torch.randn(count, rank, generator=g, dtype=torch.float64) * size) @ shapes.mT


def test_snapshots_in_a_subspace_come_back_and_modes_are_orthonormal():
    u = snapshots()
    pod = POD.of(u, energy=1 - 1e-13)
    assert pod.rank == 5
    torch.testing.assert_close(pod.decode(pod.encode(u)), u, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(pod.modes.mT @ pod.modes, torch.eye(5).double(), rtol=0, atol=1e-12)
    assert float(pod.energies.sum()) == pytest.approx(1)


def test_no_subspace_of_the_rank_does_better():
    u = snapshots()
    pod = POD.of(u, rank=2)
    left = (pod.decode(pod.encode(u)) - u).square().sum()
    size = torch.linalg.svdvals(u - u.mean(0)).square()
    torch.testing.assert_close(left, size[2:].sum())
    assert float(pod.energies.sum()) == pytest.approx(float(size[:2].sum() / size.sum()))


def test_sampled_rows_fix_every_vector_of_the_span():
    u = snapshots() - 2.0
    u[:, :12] = 0  # nothing is to be seen there
    pod = POD.of(u, rank=5, centred=False)
    rows = deim(pod.modes)
    assert len(set(rows.tolist())) == 5
    assert int(rows.min()) >= 12
    u = torch.randn(5).double() @ pod.modes.mT
    torch.testing.assert_close(pod.modes @ torch.linalg.solve(pod.modes[rows], u[rows]), u, rtol=1e-9, atol=1e-9)


def test_sampled_residuals_project_like_whole_ones_in_the_span_of_their_modes():
    basis, modes = POD.of(snapshots(), rank=3), POD.of(snapshots(), rank=5, centred=False)
    solver = PODGalerkin(basis, residual, modes)
    r = modes.modes @ torch.randn(5).double()
    torch.testing.assert_close(solver._project @ r[solver._rows], basis.modes.mT @ r, rtol=1e-9, atol=1e-9)


def residual(u, p, rows):
    """-(u'' ) + u^3 = p_0 + p_1 x between cold ends, by differences."""
    x = torch.linspace(0, 1, N + 2, dtype=u.dtype)[1:-1]
    wide = torch.nn.functional.pad(u, (1, 1))
    left = (2 * u - wide[:-2] - wide[2:]) * (N + 1) ** 2 + u**3 - 50 * (p[0] + p[1] * x)
    return left if rows is None else left[rows]


def solved(p):
    """By Newton's method on all points."""
    u = torch.zeros(len(p), N, dtype=torch.float64)
    for _ in range(10):
        r = torch.func.vmap(lambda v, q: residual(v, q, None))(u, p)
        j = torch.func.vmap(torch.func.jacrev(lambda v, q: residual(v, q, None)))(u, p)
        u = u - torch.linalg.solve(j, r)
    assert float(r.abs().max()) < 1e-7
    return u


def parameters(count, seed=0):
    return 0.2 + torch.rand(count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def residuals_on_the_way(basis, p):
    seen = []
    c = torch.randn(len(p), basis.rank, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for share in (0.0, 0.3, 1.0):
        u = basis.decode(share * basis.encode(solved(p)) + 0.1 * share * c)
        seen += [residual(v, q, None) for v, q in zip(u, p, strict=True)]
    return torch.stack(seen)


@pytest.mark.parametrize("sampled", [False, True])
def test_galerkin_is_exact_where_the_basis_spans_the_solution(sampled):
    p = parameters(6)
    u = solved(p)
    basis = POD.of(u, rank=5)
    # Six solutions and a mean: the basis holds all of them; so must the residuals' modes hold theirs.
    modes = POD.of(residuals_on_the_way(basis, p), energy=1 - 1e-14, centred=False) if sampled else None
    found = PODGalerkin(basis, residual, modes, tolerance=1e-11)(p)
    torch.testing.assert_close(found, u, rtol=1e-6, atol=1e-7)


def test_galerkin_converges_with_the_rank_for_unseen_parameters():
    snaps, p = solved(parameters(20)), parameters(5, seed=1)
    truth = solved(p)
    errors = []
    for rank in (1, 2, 4):
        basis = POD.of(snaps, rank=rank)
        found = PODGalerkin(basis, residual)(p)
        errors.append(float((found - truth).norm() / truth.norm()))
        nearest = float((basis.decode(basis.encode(truth)) - truth).norm() / truth.norm())
        assert nearest <= errors[-1] < 10 * nearest + 1e-9
    assert errors[2] < 0.1 * errors[1] < 0.1 * errors[0]
    modes = POD.of(residuals_on_the_way(basis, parameters(20)), rank=10, centred=False)
    sampled = PODGalerkin(basis, residual, modes)
    assert len(sampled._rows) == 10
    assert float((sampled(p) - truth).norm() / truth.norm()) < 5e-3


def test_saving_loading_and_refusals(tmp_path):
    pod = POD.of(snapshots(), rank=3)
    pod.save_pretrained(tmp_path / "pod")
    assert torch.equal(POD.from_pretrained(tmp_path / "pod").modes, pod.modes)
    with pytest.raises(InputError, match="rank"):
        POD(4, 5)
    with pytest.raises(InputError, match="uncentred"):
        PODGalerkin(pod, residual, pod)
    with pytest.raises(UnstableStep, match="PODGalerkin"):
        PODGalerkin(POD.of(solved(parameters(6)), rank=3), residual, tolerance=1e-11, max_iterations=1)(parameters(2))
