"""The loss of conjugate directions: what it says of a direction is what the solver makes of it."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import nn

import slipstream as ss
from slipstream.data import RitzVectors
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.objectives import ConjugateDirection
from slipstream.operators import CycleNet, DirectionNet
from slipstream.solvers.linear import CG, DCDM, Boundary, CellPoisson, solve
from slipstream.trajectories import Window


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def poisson(n=8, count=1, dims=2, share=0.2):
    grid = Grid.box(n, 1.0, num_dims=dims, periodic=False)
    fluid = torch.rand(count, *grid.shape, generator=generator(1)) >= share
    return CellPoisson(fluid, grid, Boundary.DIRICHLET)


class Exact(nn.Module):
    """The inverse of one matrix."""

    def __init__(self, A, factor=1.0):
        super().__init__()
        self.inverse, self.factor = factor * torch.linalg.inv(A.dense()[0]), factor

    def forward(self, x):
        return (x.flatten(1) @ self.inverse.to(x)).reshape(x.shape)


def net(seed=0, **arguments):
    torch.manual_seed(seed)
    return DirectionNet(**{"hidden_channels": 6, "in_channels": 6, "conditions": 5, **arguments}).double()


def window(A, batch=5, **arguments):
    return RitzVectors(A, batch=batch, vectors=64, dtype=torch.float64, **arguments).next(generator(2))


@pytest.mark.parametrize("left", ["energy", "residual"])
def test_it_is_what_one_step_of_the_solver_leaves(left):
    A, network = poisson(count=2), net()
    w = window(A)
    said = ConjugateDirection(A, left)(network, w, generator())
    for i in range(5):
        system, b = A[int(w.parameters["system"][i])], w.frames[i, 0, 0]
        x = solve(system, b, method=DCDM(network, patience=None), tol=1e-16, max_iterations=1).x.detach()
        dense = system.dense()[0]
        exact = torch.linalg.solve(dense, b.flatten())
        error = exact - x.flatten()
        residual = b.flatten() - dense @ x.flatten()
        energy = (error @ dense @ error) / (exact @ dense @ exact)
        expected = energy if left == "energy" else residual.square().sum()
        assert float(said.scores[i]) == pytest.approx(float(expected), rel=1e-6)
    assert float(said.total.detach()) == pytest.approx(float(said.scores.mean()))


@pytest.mark.parametrize("left", ["energy", "residual"])
@pytest.mark.parametrize("factor", [1.0, -1e-9])
def test_the_solution_up_to_a_factor_leaves_nothing(left, factor):
    A = poisson()
    assert abs(float(ConjugateDirection(A, left)(Exact(A, factor), window(A), generator()).total)) < 1e-7


@pytest.mark.parametrize("left", ["energy", "residual"])
@pytest.mark.parametrize("factor", [1e-25, -1e15])
def test_the_length_of_an_answer_in_single_precision_changes_nothing(left, factor):
    """The square of a small one would be zero there."""
    A, network = poisson(), net().float()
    objective, w = ConjugateDirection(A, left), RitzVectors(A, batch=5, vectors=64).next(generator(2))
    scaled = nn.Module()
    scaled.in_channels, scaled.forward = network.in_channels, lambda x: factor * network(x)
    expected = objective(network, w, generator()).scores
    torch.testing.assert_close(objective(scaled, w, generator()).scores, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("left", ["energy", "residual"])
def test_the_length_of_a_right_hand_side_changes_nothing(left):
    A, network = poisson(), net()
    objective, w = ConjugateDirection(A, left), window(A)
    parameters = {**w.parameters, "energy": 9 * w.parameters["energy"]}
    longer = Window(3 * w.frames, w.grid, 0.0, parameters)
    expected = objective(network, w, generator()).scores
    torch.testing.assert_close(objective(network, longer, generator()).scores, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("left", ["energy", "residual"])
def test_its_gradient_is_that_of_differences_through_the_length_of_the_step(left):
    A, network = poisson(count=2), net()
    objective, w = ConjugateDirection(A, left), window(A)
    weights = list(network.parameters())
    objective(network, w, generator()).total.backward()
    along = [torch.randn_like(p) for p in weights]
    slope = sum((p.grad * v).sum() for p, v in zip(weights, along, strict=True))
    h, values = 1e-6, []
    for sign in (1, -1):
        with torch.no_grad():
            for p, v in zip(weights, along, strict=True):
                p.add_(v, alpha=sign * h)
            values.append(objective(network, w, generator()).total)
            for p, v in zip(weights, along, strict=True):
                p.sub_(v, alpha=sign * h)
    torch.testing.assert_close(slope, (values[0] - values[1]) / (2 * h), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("kind", ["scipy", "csr", "function"])
def test_every_kind_of_matrix_gives_the_same_loss_and_gradient(kind):
    A, network = poisson(), net(in_channels=1, conditions=0)
    dense = A.dense()[0]
    other = {"scipy": A.matrix(), "csr": dense.to_sparse_csr(), "function": lambda v: v @ dense.T}[kind]
    w, found = window(A), []
    cells = A.fluid[0].double()
    masked = nn.Module()
    masked.forward = lambda x: network(x) * cells
    for system in (A, other):
        network.zero_grad()
        loss = ConjugateDirection(system)(masked, w, generator())
        loss.total.backward()
        found.append((loss.total.detach(), network.enter.weight.grad.clone()))
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-12)


def test_what_is_missing_is_named():
    A, network = poisson(count=2), net()
    w = window(A)
    bare = Window(w.frames, w.grid, 0.0)
    with pytest.raises(InputError, match="'system'"):
        ConjugateDirection(A)(network, bare, generator())
    with pytest.raises(InputError, match="'energy'"):
        ConjugateDirection(A[0])(network, bare, generator())
    with pytest.raises(InputError, match="'member'"):
        ConjugateDirection([A, A])(network, bare, generator())
    with pytest.raises(InputError, match="acts on"):
        ConjugateDirection(poisson(12))(network, w, generator())
    with pytest.raises((InputError, TypeCheckError), match="residual"):
        ConjugateDirection(A, "both")


@pytest.mark.parametrize(("dims", "sizes"), [(2, (8, 16)), (3, (8,))])
def test_training_makes_a_solver_that_survives_saving(dims, sizes, tmp_path):
    """A minute's worth of nothing: on unseen right-hand sides, and obstacles that it never saw."""
    systems = [poisson(n, 2, dims, share=0.1) for n in sizes]
    torch.manual_seed(0)
    network = CycleNet(in_channels=2 + 2 * dims, num_dims=dims, hidden_channels=8)
    objective = ConjugateDirection([CellPoisson(A.fluid, A.grid, Boundary.DIRICHLET) for A in systems])
    source = RitzVectors(systems, batch=8, vectors=150, stress=3.0)
    before = objective(network, source.next(generator(7)), generator()).total.detach()
    ss.train(network, source, objective, steps=60, lr=1e-2, show=False)
    assert objective(network, source.next(generator(7)), generator()).total.detach() < 0.5 * before
    grid = systems[-1].grid
    unseen = CellPoisson(torch.rand(1, *grid.shape, generator=generator(9)) > 0.1, grid, Boundary.DIRICHLET)
    b = torch.where(unseen.fluid, torch.randn(1, *grid.shape, generator=generator(8), dtype=torch.float64), 0)
    ours = solve(unseen, b, method=DCDM(network), tol=1e-6)
    theirs = solve(unseen, b, method=CG(), tol=1e-6)
    assert ours.converged
    assert ours.fallback == 0
    assert ours.iterations <= 0.67 * theirs.iterations
    network.save_pretrained(tmp_path / "net")
    for saved in (CycleNet.from_pretrained(tmp_path / "net"), str(tmp_path / "net")):
        assert torch.equal(solve(unseen, b, method=DCDM(saved), tol=1e-6).x, ours.x)
