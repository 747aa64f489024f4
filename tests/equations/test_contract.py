"""The word Equation: every equation keeps these laws. A new one adds its name to CASES."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from slipstream.equations import (
    Burgers,
    DiagonalForcing,
    Equation,
    FiniteDifferences,
    ShearForcing,
    Spectral,
    VorticityFlow,
)
from slipstream.grids import Grid
from slipstream.pretrained import describe, rebuild

CASES: dict[str, tuple[Callable[[], Equation], int]] = {
    "burgers-1d": (lambda: Burgers(0.05), 1),
    "burgers-2d": (lambda: Burgers(0.05, num_dims=2), 2),
    "vorticity": (lambda: VorticityFlow(0.02), 2),
    "vorticity-sheared": (lambda: VorticityFlow(0.02, drag=0.1, forcing=ShearForcing(2.0, 0.7)), 2),
    "vorticity-diagonal": (lambda: VorticityFlow(0.02, forcing=DiagonalForcing()), 2),
}


@pytest.fixture(params=CASES, ids=str)
def case(request):
    make, dims = CASES[request.param]
    return make(), dims


def smooth(equation: Equation, grid: Grid, batch: int = 2, highest: float = 4.0) -> torch.Tensor:
    """Random band-limited fields (float64) that the grid resolves with room for products."""
    d = Spectral(grid, torch.float64)
    u = torch.randn(batch, len(equation.channels), *grid.shape, dtype=torch.float64)
    return d.inverse((d.square.sqrt() <= highest) * d.forward(u))


def test_structured_forms_add_up_to_the_rate(case):
    equation, dims = case
    grid = Grid.box([24, 20, 18][:dims])
    d, u = Spectral(grid, torch.float64), smooth(equation, grid)
    p = equation.ready({}, u)
    u_hat = d.forward(u)
    total = equation.nonlinear(u_hat, d, p)
    linear, force = equation.linear(grid, p), equation.force(d, p)
    total = total + (0 if linear is None else linear * u_hat) + (0 if force is None else force)
    rate = equation.rate(u, d, p)
    assert torch.allclose(d.inverse(total), rate, atol=1e-11 * float(rate.abs().max()))


@pytest.mark.parametrize("accuracy", [2, 4, 6])
def test_finite_differences_approach_the_spectral_rate_at_their_order(case, accuracy):
    equation, dims = case
    errors = []
    for n in (24, 48):
        grid = Grid.box(n, num_dims=dims)
        torch.manual_seed(1)
        coarse = Grid.box(16, num_dims=dims)
        u = Spectral(coarse, torch.float64).inverse(
            Spectral(coarse, torch.float64).forward(smooth(equation, coarse, highest=2.0)), grid
        )
        d = Spectral(grid, torch.float64)
        exact = equation.rate(u, d, equation.ready({}, u))
        got = equation.rate(u, FiniteDifferences(grid, accuracy, torch.float64), equation.ready({}, u))
        errors.append(float((got - exact).norm() / exact.norm()))
    order = torch.log2(torch.tensor(errors[0] / errors[1]))
    assert float(order) == pytest.approx(accuracy, abs=0.35)


def test_gradients_reach_the_state(case):
    equation, dims = case
    grid = Grid.box(8, num_dims=dims)
    d, u = Spectral(grid, torch.float64), smooth(equation, grid, 1, 2.0).requires_grad_()
    p = equation.ready({}, u)
    assert torch.autograd.gradcheck(lambda v: equation.rate(v, d, p), (u,), atol=1e-5, nondet_tol=0.0)
    assert torch.autograd.gradcheck(
        lambda v: torch.view_as_real(equation.nonlinear(d.forward(v), d, p)), (u,), atol=1e-5
    )


def test_each_run_has_its_own_parameters(case):
    equation, dims = case
    grid = Grid.box(12, num_dims=dims)
    u = smooth(equation, grid, 2, 3.0)
    d = Spectral(grid, torch.float64)
    nu = torch.tensor([0.01, 0.3], dtype=torch.float64)
    both = equation.rate(u, d, equation.ready({"viscosity": nu}, u))
    for i in range(2):
        alone = equation.rate(u[i : i + 1], d, equation.ready({"viscosity": nu[i : i + 1]}, u[i : i + 1]))
        assert torch.allclose(both[i : i + 1], alone)
    assert not torch.allclose(both, equation.rate(u, d, equation.ready({"viscosity": nu.flip(0)}, u)))


def test_it_is_written_down_and_read_back(case):
    equation, _ = case
    again = rebuild(describe(equation))
    assert type(again) is type(equation)
    assert describe(again) == describe(equation)
    assert equation.latex
    assert all(c.name for c in equation.channels)


def test_invariants_have_one_value_a_run(case):
    equation, dims = case
    grid = Grid.box(12, num_dims=dims)
    u, d = smooth(equation, grid), Spectral(grid, torch.float64)
    for value in equation.invariants().values():
        assert value(u, d, equation.ready({}, u)).shape == (2,)
