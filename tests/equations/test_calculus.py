"""The word Calculus: identities of vector analysis, in every discretisation."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

from slipstream.equations import Autograd, Burgers, FiniteDifferences, Spectral
from slipstream.errors import InputError, ShapeError
from slipstream.grids import Grid

GRIDDED = {
    "spectral": Spectral,
    "differences-2": partial(FiniteDifferences, accuracy=2),
    "differences-4": partial(FiniteDifferences, accuracy=4),
    "differences-6": partial(FiniteDifferences, accuracy=6),
}


@pytest.fixture(params=GRIDDED, ids=str)
def calculus(request):
    return GRIDDED[request.param]


@pytest.mark.parametrize("shape", [(15,), (12, 10), (8, 7, 6)])
def test_inverse_laplace_undoes_laplace(calculus, shape):
    d = calculus(Grid.box(shape), dtype=torch.float64)
    u = torch.randn(2, 2, *shape, dtype=torch.float64)
    u = u - u.flatten(2).mean(-1).reshape(2, 2, *[1] * len(shape))
    assert torch.allclose(d.inverse_laplace(d.laplace(u)), u, atol=1e-9)


def test_curl_of_a_gradient_and_divergence_of_a_curl_vanish(calculus):
    d = calculus(Grid.box([9, 11, 7]), dtype=torch.float64)
    phi, v = torch.randn(1, 1, 9, 11, 7, dtype=torch.float64), torch.randn(1, 3, 9, 11, 7, dtype=torch.float64)
    assert d.curl(d.grad(phi)).abs().max() < 1e-10
    assert d.div(d.curl(v)).abs().max() < 1e-10


@pytest.mark.parametrize("axis", [0, 1])
def test_derivatives_sum_to_zero_and_are_antisymmetric(calculus, axis):
    d = calculus(Grid.box([8, 10]), dtype=torch.float64)
    u, v = torch.randn(2, 1, 1, 8, 10, dtype=torch.float64)
    assert d.derivative(u, axis).sum().abs() < 1e-10
    assert torch.allclose((v * d.derivative(u, axis)).sum(), -(u * d.derivative(v, axis)).sum())


def test_dealiased_products_are_exact_in_the_kept_wavenumbers():
    grid, fine = Grid.box(18), Grid.box(72)
    d, e = Spectral(grid, torch.float64), Spectral(fine, torch.float64)
    a, b = (d.truncate(torch.randn(1, 1, 18, dtype=torch.float64)) for _ in range(2))
    exact = e.carry(e.forward(d.inverse(d.forward(a), fine) * d.inverse(d.forward(b), fine)), grid)
    assert torch.allclose(d.forward(d.multiply(a, b)), d.kept * exact, atol=1e-10)
    assert not torch.allclose(d.forward(a * b), exact, atol=1e-3)


@pytest.mark.parametrize(("m", "n"), [(12, 16), (16, 12), (9, 16), (16, 9)])
def test_carrying_coefficients_keeps_the_field(m, n):
    source, target = Grid.box([m, m]), Grid.box([n, n])
    d = Spectral(source, torch.float64)
    x, y = source.coordinates(torch.float64)
    u = (1 + torch.cos(3 * x) * torch.sin(2 * y))[None, None]
    x, y = target.coordinates(torch.float64)
    assert torch.allclose(d.inverse(d.forward(u), target), (1 + torch.cos(3 * x) * torch.sin(2 * y))[None, None])


def cole_hopf(x: torch.Tensor, t: torch.Tensor, nu: float) -> torch.Tensor:
    """An exact solution of Burgers' equation: u = -2 nu phi_x / phi with phi a solution of the heat equation."""
    k = math.pi
    e = torch.exp(-nu * k**2 * t)
    return 2 * nu * k * e * torch.sin(k * x) / (2 + e * torch.cos(k * x))


def test_autograd_at_points_satisfies_burgers_on_an_exact_solution():
    nu = 0.1
    points = (2 * torch.rand(3, 1, 40, dtype=torch.float64) - 1).requires_grad_()
    t = torch.full_like(points, 0.3, requires_grad=True)
    u = cole_hopf(points, t, nu)
    equation = Burgers(nu)
    (u_t,) = torch.autograd.grad(u.sum(), t, create_graph=True)
    rate = equation.rate(u, Autograd(points), equation.ready({}, u))
    assert torch.allclose(rate, u_t, atol=1e-12)
    assert u_t.abs().max() > 0.1


def test_autograd_and_spectral_calculus_agree_in_two_dimensions():
    grid = Grid.box(16, num_dims=2)
    x = grid.coordinates(torch.float64)
    points = x.flatten(1)[None].clone().requires_grad_()

    def field(q):
        return torch.stack([torch.sin(q[:, 0]) * torch.cos(2 * q[:, 1]), torch.cos(q[:, 0] + q[:, 1])], dim=1)

    equation = Burgers(0.2, num_dims=2)
    on_points = field(points)
    on_grid = field(x[None])
    a = equation.rate(on_points, Autograd(points), equation.ready({}, on_points)).unflatten(-1, grid.shape)
    b = equation.rate(on_grid, Spectral(grid, torch.float64), equation.ready({}, on_grid))
    assert torch.allclose(a, b, atol=1e-10)


def test_what_a_calculus_cannot_do_it_says():
    points = torch.rand(1, 2, 5, requires_grad=True)
    with pytest.raises(InputError, match="channel of its own"):
        Autograd(points).inverse_laplace(points[:, :1])
    with pytest.raises(InputError, match="requires_grad_"):
        Autograd(points.detach())
    with pytest.raises(ShapeError, match="one vector"):
        Spectral(Grid.box(8, num_dims=2)).div(torch.zeros(1, 3, 8, 8))
    with pytest.raises(InputError, match="accuracy 3"):
        FiniteDifferences(Grid.box(8), 3)
