"""Whole sets of systems: order, recycling, batches and shared factors give what each system alone would, or raise."""

from __future__ import annotations

import pytest
import torch

from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.solvers.linear import (
    CG,
    GCRODR,
    GMRES,
    LU,
    Boundary,
    Candidate,
    Diffusion,
    FastPoisson,
    Jacobi,
    SharedLU,
    Stencil,
    generate,
    solve,
)
from slipstream.solvers.linear.systems import Systems, darcy, helmholtz


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def systems():
    return darcy(5, 12, seeded(), length=0.3)


@pytest.fixture(scope="module")
def exact(systems):
    return torch.linalg.solve(systems.A.dense(), systems.b.flatten(1)[..., None])[..., 0].reshape(systems.b.shape)


@pytest.mark.parametrize(
    "solver",
    [
        Candidate(CG(), FastPoisson()),
        Candidate(CG(), Jacobi()),
        Candidate(GMRES(40), Jacobi()),
        Candidate(GCRODR(20, 8), Jacobi()),
        Candidate(LU()),
        Candidate(SharedLU()),
        Candidate(SharedLU(single=True)),
    ],
    ids=lambda c: f"{type(c.method).__name__}-{type(c.preconditioner).__name__}",
)
def test_every_way_gives_the_solutions_in_the_order_of_the_systems(systems, exact, solver):
    made = generate(systems, solver, tol=1e-10, chunk=2)
    assert torch.allclose(made.x, exact, atol=1e-8 * float(exact.abs().max()))
    left = (systems.A(made.x) - systems.b).flatten(1).norm(dim=1) / systems.b.flatten(1).norm(dim=1)
    assert float(left.max()) <= made.residual * (1 + 1e-3) + 1e-15 <= 1e-10 * (1 + 1e-3) + 1e-15
    assert len(made.iterations) == 5
    assert sorted(made.order) == list(range(5))


def test_recycling_goes_to_the_nearest_next_and_pays():
    # One field times t: the nearest next is the next t, wherever it stands.
    t = torch.tensor([0.0, 1.5, 0.5, 2.0, 1.0], dtype=torch.float64)
    field = torch.randn(1, 16, 16, generator=seeded(3), dtype=torch.float64)
    grid = Grid.box(16, 1.0, num_dims=2, periodic=False)
    a = (t[:, None, None] * field * 0.4).exp()
    many = Systems(Diffusion(a, grid), torch.ones_like(a), a.log())
    made = generate(many, Candidate(GCRODR(20, 8)))
    assert made.order == (0, 2, 4, 1, 3)
    alone = sum(solve(*many[i], method=GCRODR(20, 8)).iterations for i in range(5))
    assert sum(made.iterations) < alone
    assert generate(many, Candidate(GCRODR(20, 8)), order=[4, 3, 2, 1, 0]).order == (4, 3, 2, 1, 0)
    with pytest.raises(InputError, match="each of 0"):
        generate(many, Candidate(GCRODR(20, 8)), order=[0, 0, 1, 2, 3])


def test_without_a_solver_the_fastest_is_found(systems, exact, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = generate(systems, trials=1, tol=1e-9)
    assert torch.allclose(made.x, exact, atol=1e-7 * float(exact.abs().max()))
    assert made.solver
    assert made.rate > 0


@pytest.mark.parametrize("method", [CG(), GCRODR(4, 2), LU()], ids=lambda m: type(m).__name__)
def test_a_system_that_does_not_converge_raises_and_is_named(systems, method):
    b = systems.b.clone()
    if isinstance(method, LU):
        singular = Stencil(
            torch.zeros_like(systems.A.centre), [torch.zeros_like(c) for c in systems.A.below],
            [torch.zeros_like(c) for c in systems.A.above], systems.A.ring,
        )  # fmt: skip
        with pytest.raises(InputError):
            generate(Systems(singular, b, systems.parameters), Candidate(method))
        return
    with pytest.raises(InputError, match=r"System \d of 5 was solved to a relative residual of .* only"):
        generate(systems, Candidate(method), max_iterations=3)
    with pytest.raises(InputError, match="no systems"):
        generate(Systems(systems.A[:0], b[:0], b[:0]), Candidate(method))


@pytest.mark.parametrize(
    ("shape", "periodic"),
    [((9, 12), False), ((8, 7), (True, False)), ((6, 5), True), ((4, 5, 3), (False, True, False))],
)
def test_shared_factors_are_those_of_each_matrix(shape, periodic):
    generator = seeded(1)
    grid = Grid.box(shape, 1.0, periodic=periodic if isinstance(periodic, bool) else list(periodic))

    def random(*lead):
        return torch.randn(*lead, 2, *shape, generator=generator, dtype=torch.complex128)

    ring = [a.periodic for a in grid.axes]
    A = Stencil(random() + 9, list(random(len(shape))), list(random(len(shape))), ring, hermitian=False)
    b = random()
    for i in range(2):
        expected = torch.linalg.solve(A.dense()[i], b[i].flatten()).reshape(shape)
        assert torch.allclose(solve(A[i], b[i], method=SharedLU(), tol=1e-12).x, expected, atol=1e-10)
    # The adjoint, by which gradients come.
    right = b[0].clone().requires_grad_()
    weights = torch.ones(shape, dtype=torch.complex128)
    (gradient,) = torch.autograd.grad((solve(A[0], right, method=SharedLU(), tol=1e-12).x * weights).sum().real, right)
    turned = torch.linalg.solve(A.dense()[0].mH, weights.flatten()).reshape(shape)
    assert torch.allclose(gradient, turned, atol=1e-10)


def test_single_precision_factors_reach_double_precision_or_say_that_they_do_not():
    waves = helmholtz(2, 24, seeded(2), absorption=0.1)
    made = generate(waves, Candidate(SharedLU(single=True)), tol=1e-11)
    assert made.residual <= 1e-11
    assert min(made.iterations) >= 2
    exact = solve(waves.A[1], waves.b[1], method=LU(), tol=1e-12).x
    assert torch.allclose(made.x[1], exact, atol=1e-8 * float(exact.abs().max()))
    grid = Grid.box(16, 1.0, num_dims=2, periodic=False)
    one = torch.ones(1, 16, 16, dtype=torch.float64)
    b = torch.randn(1, 16, 16, generator=seeded(0), dtype=torch.float64)
    hard = Systems(Diffusion(one, grid, Boundary.NEUMANN, shift=1e-5), b, one)  # condition number 2e8
    assert generate(hard, Candidate(SharedLU()), tol=1e-9).residual <= 1e-9
    with pytest.raises(InputError, match=r"was solved to a relative residual|zero pivot"):
        generate(hard, Candidate(SharedLU(single=True)), tol=1e-9)


def test_what_shared_factors_do_not_take_is_refused(systems):
    with pytest.raises(InputError, match="one matrix at a time"):
        solve(systems.A, systems.b, method=SharedLU())
    with pytest.raises(InputError, match="works on a Stencil"):
        solve(systems.A.matrix(0), systems.b[0].flatten(), method=SharedLU())
    nothing = torch.zeros(1, 4, 4, dtype=torch.float64)
    zero = Stencil(nothing, [nothing] * 2, [nothing] * 2, [False] * 2)
    with pytest.raises(InputError, match=r"zero pivot|singular"):
        solve(zero, torch.ones(4, 4, dtype=torch.float64), method=SharedLU())
    thin = torch.ones(1, 2, 4, dtype=torch.float64)
    with pytest.raises(InputError, match="at least 3 points around a ring"):
        solve(Stencil(thin * 9, [thin] * 2, [thin] * 2, [True, False]), thin[0], method=SharedLU())
