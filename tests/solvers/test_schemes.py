"""Schemes: order, exactness in the linear part, stiffness."""

from __future__ import annotations

import math

import pytest
import torch

from slipstream.solvers import ARS222, ARS443, CNRK2, ETDRK1, ETDRK2, ETDRK4, HEUN, RK4, SSPRK3
from slipstream.solvers.schemes import phi, phi_of_blocks

SPLIT = [ETDRK1, ETDRK2, ETDRK4, CNRK2, ARS222, ARS443]


def march(scheme, linear, rate, u, time, steps):
    coefficients = scheme.coefficients(linear, time / steps)
    for _ in range(steps):
        u = scheme.step(u, rate, coefficients)
    return u


def slope(errors):
    return math.log2(errors[-2] / errors[-1])


@pytest.mark.parametrize("scheme", SPLIT, ids=lambda s: s.name)
def test_error_falls_with_the_order_of_the_scheme(scheme):
    linear = torch.tensor([-0.5, -3.0], dtype=torch.float64)

    def rate(u):
        return torch.stack([u[0] * u[1] - u[0] ** 2, torch.sin(u[0]) + 2.5 * u[1]])

    u = torch.tensor([1.0, 0.5], dtype=torch.float64)
    exact = march(ETDRK4, linear, rate, u, 2.0, 4096)
    errors = [float((march(scheme, linear, rate, u, 2.0, n) - exact).norm()) for n in (32, 64, 128)]
    assert slope(errors) == pytest.approx(scheme.order, abs=0.2)


@pytest.mark.parametrize("scheme", [HEUN, SSPRK3, RK4], ids=lambda s: s.name)
def test_explicit_error_falls_with_the_order(scheme):
    def end(n):
        u = torch.tensor([1.0, 0.0], dtype=torch.float64)
        for _ in range(n):
            u = scheme.step(u, lambda v: torch.stack([v[1], -torch.sin(v[0])]), 2.0 / n)
        return u

    exact = end(4096)
    errors = [float((end(n) - exact).norm()) for n in (32, 64, 128)]
    assert slope(errors) == pytest.approx(scheme.order, abs=0.2)


@pytest.mark.parametrize("scheme", [ETDRK1, ETDRK2, ETDRK4], ids=lambda s: s.name)
def test_exponential_schemes_are_exact_for_linear_decay_and_constant_forcing(scheme):
    linear = torch.tensor([0.0, -1e-3, -1.0, -1e4], dtype=torch.float64)
    u = torch.ones(4, dtype=torch.float64)
    got = march(scheme, linear, lambda v: torch.full_like(v, 0.7), u, 1.0, 3)
    exact = torch.where(linear == 0, 1 + 0.7, torch.exp(linear) + 0.7 * torch.expm1(linear) / linear.clamp(max=-1e-30))
    assert torch.allclose(got, exact, rtol=1e-12)


@pytest.mark.parametrize("scheme", SPLIT, ids=lambda s: s.name)
def test_stiff_decay_stays_bounded_at_large_steps(scheme):
    linear = torch.tensor([-1e6], dtype=torch.float64)
    u = march(scheme, linear, lambda v: -0.1 * v, torch.ones(1, dtype=torch.float64), 10.0, 10)
    assert float(u.abs()) <= 1.01


@pytest.mark.parametrize("k", [1, 2, 3])
def test_phi_functions_meet_their_series_and_their_recurrence(k):
    z = torch.tensor([-1e-9, -1e-3, 0.0, 0.3, -2.0, -40.0, -1e5], dtype=torch.float64)
    value = phi(k, z)
    series = sum(z**j / float(math.factorial(j + k)) for j in range(30))
    near = z.abs() < 3
    assert torch.allclose(value[near], series[near], rtol=1e-13)
    assert torch.allclose(z * value + 1 / math.factorial(k - 1), phi(k - 1, z), atol=1e-10)


def test_phi_is_differentiable():
    z = torch.tensor([-1e-4, -0.5, -7.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: phi(2, x), (z,))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 60.0])
def test_phi_functions_of_matrices_are_those_of_their_eigenvalues(scale):
    vectors = torch.randn(5, 3, 3, dtype=torch.complex128)
    values = scale * torch.complex(-torch.rand(5, 3), torch.randn(5, 3)).to(torch.complex128)
    z = (vectors * values[:, None]) @ torch.linalg.inv(vectors)
    got = phi_of_blocks(3, z.movedim(0, -1)[None])
    for k in range(4):
        exact = (vectors * phi(k, values)[:, None]) @ torch.linalg.inv(vectors)
        assert torch.allclose(got[k][0].movedim(-1, 0), exact, rtol=1e-9, atol=1e-9)


def test_phi_functions_of_defective_matrices_are_right_and_differentiable():
    z = torch.tensor([[-2.0, 1.0], [0.0, -2.0]], dtype=torch.float64)[None, :, :, None].requires_grad_()
    for k, got in enumerate(phi_of_blocks(3, z)):
        at = torch.tensor([-2.0], dtype=torch.float64, requires_grad=True)
        value = phi(k, at)
        (slope,) = torch.autograd.grad(value.sum(), at)
        expected = torch.stack([torch.stack([value[0], slope[0]]), torch.stack([0 * slope[0], value[0]])])
        assert torch.allclose(got[0, :, :, 0], expected, rtol=1e-12)
    assert torch.autograd.gradcheck(lambda x: phi_of_blocks(2, x)[2], (z,))
