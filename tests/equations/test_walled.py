"""The calculus for walls: order, conditions, and the Laplacian undone."""

from __future__ import annotations

import itertools
import math
from functools import partial

import pytest
import torch

from slipstream.equations import AdvectionDiffusion, Burgers, Diffusion, FiniteDifferences
from slipstream.equations.boundary import Conditions, Dirichlet, Inflow, Neumann, Obstacle, Outflow, Robin
from slipstream.equations.walled import WalledDifferences
from slipstream.errors import InputError
from slipstream.grids import Axis, Grid
from slipstream.solvers import RK4, LinesStepper

F64 = torch.float64


def interval(n, extent=1.0):
    return Grid.box(n, extent, num_dims=1, periodic=False)


def wave(x):
    return torch.sin(3 * x + 0.2)


def slope(x):
    return 3 * torch.cos(3 * x + 0.2)


def condition(kind, side, made=wave, slope=slope):
    out = 1 if side else -1
    return {
        "dirichlet": Dirichlet(lambda x: made(x[0])),
        "neumann": Neumann(lambda x: out * slope(x[0])),
        "robin": Robin(2.0, 0.5, lambda x: 2 * made(x[0]) + 0.5 * out * slope(x[0])),
    }[kind]


PAIRS = [p for p in itertools.product(("dirichlet", "neumann", "robin"), repeat=2) if p != ("neumann", "neumann")]


@pytest.mark.parametrize(("lower", "upper"), PAIRS)
def test_manufactured_solutions_converge_with_order_2(lower, upper):
    errors = []
    for n in (20, 40):
        grid = interval(n)
        d = WalledDifferences(grid, Conditions(("u",), {"x": (condition(lower, 0), condition(upper, 1))}), dtype=F64)
        u = wave(grid.coordinates(F64))[None]
        errors.append(float((d.inverse_laplace(-9 * u) - u).abs().max()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.15)


@pytest.mark.parametrize("kind", ["dirichlet", "neumann", "robin"])
def test_marched_solutions_converge_with_order_2(kind):
    """A steady boundary layer of advection and diffusion, reached in time."""

    def layer(x):
        return torch.expm1(2 * x) / math.expm1(2)

    errors = []
    for n in (6, 12):
        grid = interval(n)
        ends = (Dirichlet(0.0), condition(kind, 1, layer, lambda x: 2 * torch.exp(2 * x) / math.expm1(2)))
        calculus = partial(WalledDifferences, conditions=Conditions(("u",), {"x": ends}))
        stepper = LinesStepper(AdvectionDiffusion(1.0, 0.5), grid, 1.0, n * n, RK4, calculus)
        u = layer(grid.coordinates(F64))[None]
        new = stepper.advance(stepper.start(u[:, None], {}), {})[1][:, -1]
        errors.append(float((new - u).abs().max()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.25)


def test_heat_in_a_box_decays_as_it_should():
    errors = []
    for n in (10, 20):
        grid = Grid((Axis("x", n, 0, math.pi, False), Axis("y", n, 0, math.pi, False), Axis("z", n, 0, 2 * math.pi)))
        x, y, z = grid.coordinates(F64)
        u = (torch.sin(x) * torch.cos(2 * y) * torch.sin(z))[None, None]
        sides = {"x": Dirichlet(0.0), "y": Neumann(0.0)}
        calculus = partial(WalledDifferences, conditions=Conditions(("temperature",), sides))
        stepper = LinesStepper(Diffusion(0.1, 3), grid, 0.5, 10, RK4, calculus)
        new = stepper.advance(stepper.start(u[:, None], {}), {})[1][:, -1]
        errors.append(float((new - math.exp(-0.3) * u).norm() / u.norm()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize(("kind", "sign"), [(Neumann(0.0), 1), (Dirichlet(0.0), -1)], ids=["even", "odd"])
def test_walls_are_mirrors_of_periodic_fields(kind, sign):
    n = 7
    u = torch.randn(2, 1, n, dtype=F64)
    d = WalledDifferences(interval(n), Conditions(("velocity",), {"x": kind}), dtype=F64)
    ring = FiniteDifferences(Grid.box(2 * n, 2.0), dtype=F64)
    mirrored = torch.cat([u, sign * u.flip(-1)], -1)
    for name in ("dx", "laplace"):
        assert torch.allclose(getattr(d, name)(u), getattr(ring, name)(mirrored)[..., :n])
    if sign < 0:  # the whole rate of an equation, nonlinear terms too
        equation = Burgers(0.1)
        p = equation.ready({}, u)
        assert torch.allclose(equation.rate(u, d, p), equation.rate(mirrored, ring, p)[..., :n])


def test_without_walls_it_is_the_periodic_calculus():
    grid = Grid.box((8, 6))
    d, other = WalledDifferences(grid, Conditions(("a", "b"), {}), dtype=F64), FiniteDifferences(grid, 2, F64)
    v = torch.randn(2, 2, 8, 6, dtype=F64)
    for name in ("div", "curl", "laplace", "inverse_laplace"):
        assert torch.allclose(getattr(d, name)(v), getattr(other, name)(v), atol=1e-12)
    assert torch.allclose(d.advect(v, v), other.advect(v, v))


def test_fluxes_have_one_sided_differences_at_walls():
    errors = []
    for n in (20, 40):
        grid = Grid((Axis("x", n, 0, 1, False), Axis("y", n, 0, 2 * math.pi)))
        d = WalledDifferences(grid, Conditions(("u",), {"x": Dirichlet(5.0)}), dtype=F64)
        x, y = grid.coordinates(F64)
        v = torch.stack([torch.exp(x) * torch.sin(y), torch.cos(y) * x])[None]
        errors.append(float((d.div(v)[0, 0] - (torch.exp(x) - x) * torch.sin(y)).abs().max()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.15)


@pytest.mark.parametrize(
    "sides", [Dirichlet(2.0), Neumann(0.3), Robin(1.0, 0.4, 0.7), (Dirichlet(-1.0), Neumann(0.5))], ids=repr
)
def test_the_laplacian_is_undone_to_rounding(sides):
    grid = Grid((Axis("x", 9, 0, 1, False), Axis("y", 8)))
    d = WalledDifferences(grid, Conditions(("u",), {"x": sides}), dtype=F64)
    f = torch.randn(2, 1, 9, 8, dtype=F64)
    back = d.laplace(d.inverse_laplace(f))
    if sides == Neumann(0.3):  # what flows in must be used up: the mean of f is not free
        mean = 2 * 0.3 / 1.0
        assert torch.allclose(back - mean, f - f.mean((2, 3), keepdim=True), atol=1e-9)
        assert float(d.inverse_laplace(f).mean((2, 3)).abs().max()) < 1e-12
    else:
        assert torch.allclose(back, f, atol=1e-9)


def test_gradients_reach_values_on_walls():
    grid = interval(6)
    conditions = Conditions(("u",), {"x": (Dirichlet("left"), Neumann("right"))})

    def value(u, left, right):
        d = WalledDifferences(grid, conditions, {"left": left, "right": right}, F64)
        return d.laplace(u) + d.inverse_laplace(u).square()

    u = torch.randn(2, 1, 6, dtype=F64, requires_grad=True)
    ends = [torch.randn(2, dtype=F64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(value, (u, *ends))


def test_what_has_no_answer_is_refused():
    different = Conditions(("a", "b"), {"x": {"a": Dirichlet(), "b": Neumann()}})
    d = WalledDifferences(interval(8), different, dtype=F64)
    u = torch.randn(1, 2, 8, dtype=F64)
    assert d.laplace(u).shape == u.shape
    with pytest.raises(InputError, match="conditions differ"):
        d.laplace(u[:, :1])
    with pytest.raises(InputError, match="differ between channels"):
        d.inverse_laplace(u)
    with pytest.raises(InputError, match="order 4"):
        d.derivative(u, 0, 4)
    nodes = Grid.box(8, 1.0, num_dims=1, periodic=False, centred=False)
    with pytest.raises(InputError, match="cell-centred"):
        WalledDifferences(nodes, Conditions(("a",), {"x": (Neumann(), Dirichlet())}))
    with pytest.raises(InputError, match="Dirichlet, Neumann and Robin"):
        WalledDifferences(interval(8), Conditions(("a",), {"x": (Inflow(1.0), Outflow())})).inverse_laplace(
            torch.zeros(1, 1, 8)
        )


def test_nodes_on_walls_with_a_flux_converge_too():
    errors = []
    for n in (11, 21):
        grid = Grid.box(n, 1.0, num_dims=1, periodic=False, centred=False)
        d = WalledDifferences(
            grid, Conditions(("u",), {"x": (condition("robin", 0), condition("neumann", 1))}), dtype=F64
        )
        x = grid.coordinates(F64)
        matrix = d.laplace(torch.eye(n, dtype=F64)[:, None])[:, 0] - (
            known := d.laplace(torch.zeros(1, 1, n, dtype=F64))[0]
        )
        u = torch.linalg.solve(matrix.T, -9 * wave(x)[0] - known[0])
        errors.append(float((u - wave(x)[0]).abs().max()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.2)


def test_obstacles_are_refused_and_not_overlooked():
    grid = Grid.box(8, 1.0)
    with pytest.raises(InputError, match="obstacles"):
        WalledDifferences(grid, Conditions(("u",), {}, Obstacle(torch.zeros(8))))
