"""Deep conjugate directions: what holds whatever the network says, and what it is told."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from linear_cases import positive, seeded
from scipy.sparse.linalg import cg
from torch import nn

from slipstream.errors import InputError, ShapeError
from slipstream.solvers.linear import CG, DCDM, Boundary, CellPoisson, Jacobi, solve
from slipstream.solvers.linear.dcdm import conditions_of
from slipstream.solvers.linear.maps import as_map
from slipstream.solvers.linear.systems import unit_box


class Says(nn.Module):
    """Answers with a function of the residual's fields."""

    def __init__(self, answer, in_channels=1):
        super().__init__()
        self.answer, self.in_channels = answer, in_channels

    def forward(self, x):
        return self.answer(x)


IDENTITY = Says(lambda x: x)


def untrained(seed=0, bias=True):
    torch.manual_seed(seed)
    layers = (nn.Conv2d(1, 8, 3, padding=1, bias=bias), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1, bias=bias))
    return nn.Sequential(*layers)


def random_spd(n=200, condition=1e3):
    q = torch.linalg.qr(torch.randn(n, n, generator=seeded(1), dtype=torch.float64))[0]
    return (q * torch.logspace(0, np.log10(condition), n, dtype=torch.float64)) @ q.T


def steps(method, A, b, count):
    """x after 1 ... count iterations."""
    product = as_map(A, b[None])
    flat = b.reshape(1, -1)
    zero, never = torch.zeros_like(flat), torch.zeros(1, dtype=b.dtype)
    with torch.no_grad():
        return [method.iterate(product, zero, flat, None, never, k).x[0] for k in range(1, count + 1)]


@pytest.mark.parametrize("directions", [1, 2, None])
def test_with_the_identity_it_is_the_conjugate_gradient_method(directions):
    A, b = random_spd(), torch.randn(200, generator=seeded(2), dtype=torch.float64)
    theirs: list[np.ndarray] = []
    cg(A.numpy(), b.numpy(), rtol=1e-14, maxiter=20, callback=lambda x: theirs.append(x.copy()))
    ours = steps(DCDM(IDENTITY, directions, patience=None), A, b, 20)
    for x, y in zip(ours, theirs, strict=True):
        assert float(np.abs(x.numpy() - y).max()) <= 1e-10 * float(np.abs(y).max())


def test_without_conjugation_it_is_steepest_descent_and_slower():
    A, b = random_spd(), torch.randn(200, generator=seeded(2), dtype=torch.float64)
    x = torch.zeros_like(b)
    for ours in steps(DCDM(IDENTITY, 0, patience=None), A, b, 8):
        r = b - A @ x
        x = x + r * (r @ r) / (r @ A @ r)
        torch.testing.assert_close(ours, x, rtol=1e-11, atol=1e-13)


def test_with_a_linear_map_it_is_the_preconditioned_method():
    A = positive(8)
    b = torch.randn(A.space, generator=seeded(3), dtype=torch.float64)
    known = Says(lambda x: x / A.diagonal()[:, None])
    theirs = solve(A, b, method=CG(), preconditioner=Jacobi(), tol=1e-10)
    ours = solve(A, b, method=DCDM(known, 1, patience=None), tol=1e-10)
    assert ours.iterations == theirs.iterations
    torch.testing.assert_close(ours.residuals[:15], theirs.residuals[:15], rtol=1e-8, atol=0)


@pytest.mark.parametrize("directions", [0, 1, 2, 4])
@pytest.mark.parametrize("network", [untrained(0), untrained(1, bias=False), Says(lambda x: torch.sin(9 * x))])
def test_the_energy_norm_of_the_error_never_rises(network, directions):
    A = positive(12)
    b = torch.randn(A.space, generator=seeded(4), dtype=torch.float64)
    exact = torch.linalg.solve(A.dense()[0], b.reshape(-1))
    energies = [
        float((x - exact) @ A.dense()[0] @ (x - exact))
        for x in [torch.zeros_like(exact), *steps(DCDM(network, directions, patience=None), A, b, 25)]
    ]
    assert all(after <= before * (1 + 1e-12) for before, after in pairwise(energies))
    assert energies[-1] < energies[0]


@pytest.mark.parametrize("factor", [-7.0, 1e-12])
def test_a_constant_factor_of_the_network_changes_nothing(factor):
    A, network = positive(12), untrained().double()
    b = torch.randn(A.space, generator=seeded(5), dtype=torch.float64)
    scaled = Says(lambda x: factor * network(x))
    plain, other = (steps(DCDM(net, patience=None), A, b, 12)[-1] for net in (Says(network), scaled))
    torch.testing.assert_close(plain, other, rtol=1e-7, atol=1e-10)


def test_it_does_not_matter_how_large_the_right_hand_side_is():
    A, network = positive(12), untrained()
    b = torch.randn(A.space, generator=seeded(6), dtype=torch.float64)
    small = solve(A, 2.0**-40 * b, method=DCDM(network), tol=1e-9)
    large = solve(A, b, method=DCDM(network), tol=1e-9)
    assert small.iterations == large.iterations
    assert torch.equal(small.residuals, large.residuals)


USELESS = {
    "nothing": Says(lambda x: torch.zeros_like(x)),
    "nan": Says(lambda x: x * float("nan")),
    "constant": Says(lambda x: torch.ones_like(x)),
    "noise": Says(lambda x: torch.cos(1e3 * torch.arange(x.numel()).reshape(x.shape).to(x))),
    "untrained": untrained(2),
}


@pytest.mark.parametrize("name", USELESS)
@pytest.mark.parametrize("rhs", [1, 3])
def test_a_useless_network_costs_a_few_iterations_and_is_told(name, rhs):
    A = positive(16)
    b = torch.randn(rhs, *A.space, generator=seeded(7), dtype=torch.float64)
    result = solve(A, b, method=DCDM(USELESS[name]), tol=1e-10, max_iterations=400)
    plain = solve(A, b, method=CG(), tol=1e-10, max_iterations=400)
    assert result.converged, result.reason
    assert 0 < result.fallback <= result.iterations
    assert result.iterations <= plain.iterations + 15


def test_a_good_network_needs_no_fallback_and_few_iterations():
    A = positive(12)
    inverse = torch.linalg.inv(A.dense()[0])
    good = Says(lambda x: (x.flatten(1) @ inverse.to(x)).reshape(x.shape))
    b = torch.randn(A.space, generator=seeded(8), dtype=torch.float64)
    result = solve(A, b, method=DCDM(good), tol=1e-8)
    assert result.converged
    assert result.iterations <= 2
    assert result.fallback == 0


def test_the_fallback_is_each_right_hand_sides_own():
    A = positive(12)
    inverse = torch.linalg.inv(A.dense()[0])

    def answer(x):  # good, but for the side whose first value is not positive
        good = (x.flatten(1) @ inverse.to(x)).reshape(x.shape)
        return torch.where(x[:, :, :1, :1] > 0, good, 0)

    b = torch.randn(2, *A.space, generator=seeded(9), dtype=torch.float64)
    b[0, 0, 0], b[1, 0, 0] = 1.0, -1.0
    both = solve(A, b, method=DCDM(Says(answer)), tol=1e-8)
    plain = solve(A, b[1], method=CG(), tol=1e-8)
    assert both.converged
    assert both.iterations == plain.iterations
    torch.testing.assert_close(both.x[1], plain.x, rtol=1e-9, atol=1e-11)


def test_without_fallback_a_useless_network_is_named():
    result = solve(positive(8), torch.ones(8, 8, dtype=torch.float64), method=DCDM(USELESS["nothing"], patience=None))
    assert not result.converged
    assert "without curvature" in result.reason


def test_a_preconditioner_serves_the_fallback():
    A = positive(16)
    b = torch.randn(A.space, generator=seeded(10), dtype=torch.float64)
    best = Says(lambda x: torch.zeros_like(x))
    seen = solve(A, b, method=DCDM(best), preconditioner=Jacobi(), tol=1e-10)
    plain = solve(A, b, method=CG(), preconditioner=Jacobi(), tol=1e-10)
    assert seen.iterations == plain.iterations


@pytest.mark.parametrize("directions", [3, None])
def test_directions_are_a_orthogonal(directions):
    A, b = positive(10), torch.randn(10, 10, generator=seeded(11), dtype=torch.float64)
    xs = steps(DCDM(untrained(3), directions, patience=None), A, b, 8)
    p = torch.stack([b - a for a, b in zip([torch.zeros_like(xs[0]), *xs], xs, strict=False)])
    gram = p @ A.dense()[0] @ p.T
    gram = (gram / gram.diagonal().outer(gram.diagonal()).sqrt()).abs()
    near = torch.tril(torch.triu(gram, 1), directions or 8)
    assert float(near.max()) < 1e-9
    if directions:
        assert float(torch.triu(gram, directions + 1).max()) > 1e-6, "and the older ones are forgotten"


def test_a_network_in_single_precision_serves_a_double_precision_answer():
    A, seen = positive(12), []
    network = untrained()
    network.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0].dtype))
    b = torch.randn(A.space, generator=seeded(12), dtype=torch.float64)
    result = solve(A, b, method=DCDM(network), tol=1e-13, max_iterations=300)
    assert set(seen) == {torch.float32}
    assert result.converged
    assert float(torch.linalg.vector_norm(b - A(result.x[None])[0])) <= 1.01e-13 * float(torch.linalg.vector_norm(b))


def test_the_network_sees_mean_square_one_and_what_the_cells_are():
    seen = []

    def answer(x):
        seen.append(x)
        return x[:, :1]

    fluid = torch.ones(1, 6, 6, dtype=torch.bool)
    fluid[0, 2, 3] = False
    A = CellPoisson(fluid, unit_box(6, 2), [Boundary.DIRICHLET, Boundary.NEUMANN])
    b = torch.where(fluid, torch.randn(1, 6, 6, generator=seeded(13), dtype=torch.float64), 0)[0]
    result = solve(A, b, method=DCDM(Says(answer, in_channels=6)), tol=1e-6)
    assert result.converged
    assert float(result.x[2, 3]) == 0
    for x in seen:
        assert x.shape == (1, 6, 6, 6)
        assert float(x[0, 0].square().mean()) == pytest.approx(1.0)
        low_x, low_y, high_x, high_y, excess = x[0, 1:].double()
        assert float(x[0, 1:, 4, 4].sum()) == pytest.approx(1.0), "an inner cell is the unit"
        assert float(low_x[0, 1]) == 0
        assert float(excess[0, 1]) == pytest.approx(0.5), "the wall that holds the value, half a cell away"
        assert float(low_y[1, 0]) == 0
        assert float(excess[1, 0]) == 0, "the wall without flux"
        assert [float(c) for c in (high_x[1, 3], low_x[3, 3], high_y[2, 2], low_y[2, 4])] == [0] * 4, "the obstacle"
        assert float(x[0, 1:, 2, 3].abs().max()) == 0
        assert float(high_x[2, 2]) == pytest.approx(0.25)


def test_cells_that_couple_with_nothing_are_kept_from_the_network():
    fluid = torch.ones(1, 6, 6, dtype=torch.bool)
    fluid[0, :2] = False
    A = CellPoisson(fluid, unit_box(6, 2), Boundary.DIRICHLET)
    b = torch.where(fluid, 1.0, 0.0).double()[0]
    result = solve(A, b, method=DCDM(Says(lambda x: torch.ones_like(x)), patience=None), max_iterations=1)
    assert not result.x[:2].any()
    assert result.x[2:].all()


def test_systems_with_different_obstacles_are_solved_at_once_as_each_alone():
    fluid = torch.rand(3, 8, 8, generator=seeded(14)) > 0.2
    A = CellPoisson(fluid, unit_box(8, 2), Boundary.DIRICHLET)
    torch.manual_seed(4)
    network = nn.Conv2d(6, 1, 3, padding=1)
    network.in_channels = 6
    b = torch.where(A.fluid, torch.randn(3, 8, 8, generator=seeded(15), dtype=torch.float64), 0)
    together = solve(A, b, method=DCDM(network), tol=1e-10)
    assert together.converged
    for i in range(3):
        alone = solve(A[i], b[i], method=DCDM(network), tol=1e-10)
        torch.testing.assert_close(together.x[i], alone.x, rtol=1e-7, atol=1e-9)
    b[0] = 0.0  # is there already: the network is asked for the others only, and told of their cells
    begun = solve(A, b, method=DCDM(network), tol=1e-10, max_iterations=3)
    for i in (1, 2):
        alone = solve(A[i], b[i], method=DCDM(network), tol=1e-10, max_iterations=3)
        torch.testing.assert_close(begun.x[i], alone.x, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_box_without_any_fixed_value_is_solved_up_to_its_constant(dims):
    grid = unit_box(6, dims)
    A = CellPoisson(torch.ones(1, *grid.shape, dtype=torch.bool), grid)
    b = A.consistent(torch.randn(1, *grid.shape, generator=seeded(16), dtype=torch.float64))[0]
    result = solve(A, b, method=DCDM(Says(lambda x: x + 0.1)), tol=1e-10, max_iterations=300)
    assert result.converged, result.reason
    hopeless = solve(A, b + 1, method=DCDM(IDENTITY), tol=1e-10, max_iterations=300)
    assert not hopeless.converged
    assert hopeless.reason


def test_refreshing_the_residual_costs_products_and_changes_nothing_in_double_precision():
    A, b = positive(12), torch.randn(12, 12, generator=seeded(17), dtype=torch.float64)
    never = solve(A, b, method=DCDM(untrained(), refresh=0), tol=1e-8)
    often = solve(A, b, method=DCDM(untrained(), refresh=1), tol=1e-8)
    assert abs(often.iterations - never.iterations) <= 3
    assert often.applications >= 2 * often.iterations
    torch.testing.assert_close(often.residuals[:12], never.residuals[:12], rtol=1e-8, atol=0)


def test_what_does_not_fit_is_refused_with_advice():
    A, b = positive(8), torch.ones(8, 8, dtype=torch.float64)
    with pytest.raises(InputError, match="MINRES"):
        solve(torch.eye(4) * 1j, torch.ones(4, dtype=torch.complex64), method=DCDM(IDENTITY))
    with pytest.raises(InputError, match="wants 2 channels"):
        solve(A.dense()[0], b.flatten(), method=DCDM(Says(lambda x: x, in_channels=3), space=(8, 8)))
    with pytest.raises(ShapeError, match=r"space=\(8, 7\)"):
        solve(A.dense()[0], b.flatten(), method=DCDM(IDENTITY, space=(8, 7)))
    with pytest.raises(ShapeError, match="must give"):
        solve(A, b, method=DCDM(Says(lambda x: x[..., :-1])))
    with pytest.raises(InputError, match="fallback needs"):
        DCDM(IDENTITY, directions=0)
    with pytest.raises(InputError, match="refresh"):
        DCDM(IDENTITY, refresh=-1)


def test_an_unknown_that_couples_with_nothing_is_solved_by_division():
    """A fluid cell shut in between an obstacle and a wall that holds the value."""
    fluid = torch.ones(1, 8, 8, dtype=torch.bool)
    fluid[0, 1, 0] = fluid[0, 0, 1] = False
    A = CellPoisson(fluid, unit_box(8, 2), Boundary.DIRICHLET)
    assert bool(A.fluid[0, 0, 0])
    dense = A.dense()[0]
    good = Says(lambda x: 4 * 64 * (x.flatten(1) @ torch.linalg.inv(dense).to(x)).reshape(x.shape))
    b = torch.where(fluid, torch.randn(1, 8, 8, generator=seeded(19), dtype=torch.float64), 0)[0]
    result = solve(
        A,
        b,
        method=DCDM(Says(lambda x: torch.where(fluid[:, None] & (torch.arange(64).reshape(8, 8) > 0), good(x), 0))),
    )
    assert result.converged
    assert result.fallback == 0
    assert result.iterations <= 3
    torch.testing.assert_close(result.x.flatten(), torch.linalg.solve(dense, b.flatten()), rtol=1e-6, atol=1e-8)


def test_what_reaches_beyond_an_end_is_not_told_and_rings_are():
    from slipstream.solvers.linear import Stencil

    n, ends = 5, []
    for ring in (False, True):
        centre = torch.full((1, n), 3.0, dtype=torch.float64)
        A = Stencil(centre, [-torch.ones_like(centre)], [-torch.ones_like(centre)], [ring], hermitian=True)
        told = conditions_of(A)[0]
        ends.append([float(told[0, 0]), float(told[1, -1])])
        torch.testing.assert_close(2 * told.sum(0), A.centre[0])
    assert ends == [[0.0, 0.0], [0.5, 0.5]]


class _Rising(nn.Module):
    """A direction that is right but for a rough part, which the residual magnifies: it takes energy off while the residual rises."""

    def __init__(self, A, share):
        super().__init__()
        self.inverse = torch.linalg.inv(A.dense()[0])
        self.rough = torch.where(torch.arange(A.centre[0].numel()) % 2 == 0, 1.0, -1.0)
        self.share = share

    def forward(self, x):
        y = x.flatten(1) @ self.inverse.to(x)
        return (y + self.share * y.norm(dim=1, keepdim=True) * self.rough / self.rough.norm()).reshape(x.shape)


def test_a_network_whose_residuals_rise_at_first_is_not_given_up():
    A = CellPoisson(torch.ones(1, 32, 32, dtype=torch.bool), unit_box(32, 2), Boundary.DIRICHLET)
    x = A.grid.coordinates(torch.float64)
    b = torch.exp(-10 * (x - 0.4).square().sum(0))
    with torch.no_grad():
        first = solve(A, b, method=DCDM(_Rising(A, 0.03), patience=1), tol=1e-8, max_iterations=1)
        result = solve(A, b, method=DCDM(_Rising(A, 0.03), patience=1), tol=1e-8, max_iterations=300)
    assert float(first.residuals[1, 0] / first.residuals[0, 0]) > 2, "so the case is one"
    assert result.fallback == 0
    assert result.converged


def test_conditions_are_those_of_each_system():
    fluid = torch.rand(2, 8, 8, generator=seeded(18)) > 0.3
    A = CellPoisson(fluid, unit_box(8, 2), Boundary.DIRICHLET)
    told = conditions_of(A)
    assert told.shape == (2, 5, 8, 8)
    for i in range(2):
        torch.testing.assert_close(conditions_of(A[i])[0], told[i])


def test_as_the_pressure_solver_of_a_flow_past_a_disc_it_gives_the_same_flow():
    batch = 2
    from slipstream.equations.boundary import Conditions, Dirichlet, Inflow, Obstacle, Outflow, Wall
    from slipstream.equations.incompressible import IncompressibleFlow
    from slipstream.grids import Grid
    from slipstream.operators import CycleNet
    from slipstream.solvers.projection import ProjectionStepper

    equation = IncompressibleFlow(0.02, 2)
    inflow = {c.name: Dirichlet(0.0) for c in equation.channels} | {"velocity_x": Inflow("speed")}
    disc = Obstacle(lambda x: ((x - 0.5 * torch.ones_like(x)).square().sum(0)).sqrt() - 0.2)
    conditions = Conditions(equation.channels, {"x": (inflow, Outflow()), "y": Wall()}, disc)
    grid = Grid.box(16, 1.0, num_dims=2, periodic=False)
    torch.manual_seed(0)
    network = CycleNet(hidden_channels=4)
    speed, found = torch.linspace(0.5, 1.0, batch, dtype=torch.float64), []
    for solver in (None, DCDM(network)):
        stepper = ProjectionStepper(
            equation, grid, 0.05, conditions, substeps=2, pressure_solver=solver, tolerance=1e-11
        )
        state = stepper.start(torch.zeros(batch, 1, 2, 16, 16, dtype=torch.float64), {"speed": speed})
        found.append(stepper.advance(state, {"speed": speed})[1])
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-9)


def aside(x):
    """A new direction each time, and hardly one that helps."""
    return torch.roll(x, 5, -1)


@pytest.mark.parametrize("silent", [True, False])
def test_the_fallback_is_conjugate_gradients_from_where_it_begins(silent):
    """Directions of the network are forgotten: those of conjugate gradients would not stay conjugate to them."""
    A, patience = positive(12), 4
    b = torch.randn(A.space, generator=seeded(20), dtype=torch.float64)
    before = steps(DCDM(Says(aside), patience=None), A, b, patience)[-1]
    start = b - (A.dense()[0] @ before).reshape(A.space)
    plain = steps(DCDM(IDENTITY, 1, patience=None), A, start, 20)
    for more in (1, 4, 20):
        calls = []

        def answer(x, calls=calls):
            calls.append(x)
            return aside(x) if len(calls) <= patience else torch.zeros_like(x)

        method = DCDM(Says(answer if silent else aside), patience=100 if silent else patience, progress=0.99)
        with torch.no_grad():
            trace = method.iterate(
                as_map(A, b[None]),
                torch.zeros(1, b.numel(), dtype=b.dtype),
                b.reshape(1, -1),
                None,
                torch.zeros(1, dtype=b.dtype),
                patience + more,
            )
        assert trace.fallback == more
        torch.testing.assert_close(trace.x[0] - before, plain[more - 1], rtol=1e-7, atol=1e-9)


def test_a_network_that_stalls_for_one_right_hand_side_goes_on_for_the_other():
    A, patience = positive(12), 3
    inverse, asked = torch.linalg.inv(A.dense()[0]), []

    def answer(x):
        asked.append(len(x))
        r, first = x[:, :1], x[:, 1:] > 0
        good = (r.flatten(1) @ inverse.to(r)).reshape(r.shape)
        return torch.where(first, good + 0.05 * aside(good), aside(r))

    b = torch.randn(2, *A.space, generator=seeded(21), dtype=torch.float64)
    which = torch.tensor([1.0, 0.0]).reshape(2, 1, 1, 1).expand(2, 1, *A.space)
    method = DCDM(Says(answer, in_channels=2), patience=patience, progress=0.5, conditions=which)
    zero, never = torch.zeros_like(b.flatten(1)), torch.zeros(2, dtype=b.dtype)
    with torch.no_grad():
        method.iterate(as_map(A, b), zero, b.flatten(1), None, never, 2 * patience)
    assert asked == [2] * patience + [1] * patience


class _Coordinates(nn.Module):
    """One unit vector after the other."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        y = torch.zeros_like(x)
        y.flatten()[self.calls] = 1.0
        self.calls += 1
        return y


def test_a_network_whose_steps_take_off_no_less_than_before_is_given_up_at_the_second_look():
    """Many slow parts, each taken off by a step, under a rough part that hides them from the residual: every step takes off more than one
    along the residual would, but the same as the step before, so there is no end in sight."""
    slow, patience = 200, 5
    values = torch.cat([torch.full((slow,), 1e-4, dtype=torch.float64), torch.ones(1, dtype=torch.float64)])
    A, b = torch.diag(values), torch.cat([torch.ones(slow, dtype=torch.float64), torch.tensor([30.0]).double()])
    method = DCDM(_Coordinates(), directions=1, patience=patience)
    with torch.no_grad():
        trace = method.iterate(
            as_map(A, b[None]),
            torch.zeros(1, slow + 1).double(),
            b[None],
            None,
            torch.zeros(1).double(),
            2 * patience + 3,
        )
    assert (trace.iterations, trace.fallback) == (2 * patience + 3, 3)


@pytest.mark.parametrize("refresh", [1, 3])
def test_a_refreshed_residual_knows_the_start(refresh):
    A = positive(12)
    b, x0 = torch.randn(2, *A.space, generator=seeded(22), dtype=torch.float64)
    fresh, running = (
        solve(A, b, x0=x0, method=DCDM(IDENTITY, patience=None, refresh=every), tol=1e-3) for every in (refresh, 0)
    )
    assert fresh.converged
    left = b.reshape(-1) - A.dense()[0] @ fresh.x.reshape(-1)
    assert float(left.norm()) <= 1e-3 * float(b.norm())
    torch.testing.assert_close(fresh.residuals[:20], running.residuals[:20], rtol=1e-4, atol=1e-12)


def test_rows_that_are_there_stay_as_they_are():
    A = positive(12)
    b = torch.randn(2, *A.space, generator=seeded(23), dtype=torch.float64).flatten(1)
    inverse = torch.linalg.inv(A.dense()[0])
    target = torch.tensor([1e3, 1e-6], dtype=torch.float64) * torch.linalg.vector_norm(b, dim=1)
    with torch.no_grad():
        trace = DCDM(IDENTITY).iterate(as_map(A, b.reshape(2, *A.space)), torch.zeros_like(b), b, None, target, 200)
    assert not trace.x[0].any()
    torch.testing.assert_close(trace.x[1], inverse @ b[1], rtol=1e-4, atol=1e-4)
