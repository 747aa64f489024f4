"""Stencils and diffusion: the same matrix applied, assembled and transposed; second order; conservative."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from linear_cases import SYSTEMS, seeded

from slipstream.errors import InputError, ShapeError
from slipstream.grids import Grid
from slipstream.solvers.linear import LU, Boundary, Diffusion, Stencil, solve
from slipstream.solvers.linear.systems import convection_diffusion, darcy, gaussian_fields, helmholtz, unit_box


def random_stencil(shape, ring, dtype=torch.complex128, count=2):
    def some(seed):
        return torch.randn(count, *shape, generator=seeded(seed), dtype=dtype)

    return Stencil(
        some(0), [some(i) for i in (1, 2, 3)[: len(shape)]], [some(i) for i in (4, 5, 6)[: len(shape)]], ring
    )


STENCILS = {
    **{name: make(6, 2) for name, make in SYSTEMS.items()},
    "line": random_stencil((7,), (False,)),
    "ring": random_stencil((7,), (True,)),
    "box": random_stencil((3, 4, 5), (False, True, False)),
    "two": random_stencil((2, 3), (True, True)),
}


@pytest.mark.parametrize("A", STENCILS.values(), ids=STENCILS)
def test_applied_assembled_and_transposed_agree(A):
    dense = A.dense()
    v = torch.randn(2, *A.space, generator=seeded(7), dtype=A.dtype)
    torch.testing.assert_close(A(v).flatten(1), (dense @ v.flatten(1)[..., None])[..., 0])
    torch.testing.assert_close(A.adjoint(v).flatten(1), (dense.mH @ v.flatten(1)[..., None])[..., 0])
    for i in range(2):
        np.testing.assert_allclose(A.matrix(i).toarray(), dense[i].numpy())
        np.testing.assert_allclose(A[i].matrix().toarray(), dense[i].numpy())
        torch.testing.assert_close(A[i](v[i : i + 1]), A(v)[i : i + 1])
    torch.testing.assert_close(A.diagonal().flatten(1)[:, 0], A.centre.flatten(1)[:, 0])
    if A.hermitian:
        torch.testing.assert_close(dense, dense.mH)


def test_last_of_a_batch_by_a_negative_index():
    A = SYSTEMS["positive"](6, 3)
    torch.testing.assert_close(A[-1].dense()[0], A.dense()[2])


@pytest.mark.parametrize("boundary", list(Boundary), ids=lambda b: b.name)
def test_diffusion_is_second_order(boundary):
    """-(a u')' + s u of a known u, solved on four grids, in one dimension where the answer is known."""
    errors = []
    for n in (16, 32, 64, 128):
        grid = Grid.box(n, 1.0, num_dims=1, periodic=boundary is Boundary.PERIODIC)
        x = grid.coordinates(torch.float64)[0]
        a = 1.5 + 0.4 * torch.cos(2 * math.pi * x)
        da = -0.8 * math.pi * torch.sin(2 * math.pi * x)
        wave, u = (
            (2 * math.pi, torch.sin(2 * math.pi * x))
            if boundary is not Boundary.NEUMANN
            else (math.pi, torch.cos(math.pi * x))
        )
        du = wave * (torch.cos(wave * x) if boundary is not Boundary.NEUMANN else -torch.sin(wave * x))
        b = -(da * du - a * wave**2 * u) + 2.0 * u
        A = Diffusion(a[None], grid, Boundary.NEUMANN if boundary is Boundary.NEUMANN else Boundary.DIRICHLET, 2.0)
        errors.append(float((solve(A, b, method=LU(), tol=1e-11).x - u).abs().max()))
    slopes = [math.log2(e / f) for e, f in itertools.pairwise(errors)]
    assert slopes[-1] == pytest.approx(2.0, abs=0.1)
    assert slopes[-2] == pytest.approx(2.0, abs=0.2)


def test_layers_in_series_resist_as_their_sum():
    """Two layers and a difference of pressure held by walls: the harmonic mean makes the piecewise linear solution exact."""
    grid = Grid.box(8, 1.0, num_dims=1, periodic=False)
    a = torch.tensor([[1.0] * 4 + [100.0] * 4], dtype=torch.float64)
    b = torch.zeros(8, dtype=torch.float64)
    b[-1] = 2 * 100.0 * 1.0 / (1 / 8) ** 2  # the wall at x = 1 is held at 1
    x = grid.coordinates(torch.float64)[0]
    flux = 1 / (0.5 / 1.0 + 0.5 / 100.0)
    exact = torch.where(x < 0.5, flux * x, 1 - flux * (1 - x) / 100.0)
    torch.testing.assert_close(solve(Diffusion(a, grid), b, method=LU()).x, exact)


def test_diffusion_conserves_where_nothing_leaves():
    for periodic in (True, False):
        grid = Grid.box(6, 1.0, num_dims=2, periodic=periodic)
        A = Diffusion(gaussian_fields(2, grid, seeded(0)).exp(), grid, Boundary.NEUMANN)
        v = torch.randn(2, 6, 6, generator=seeded(1), dtype=torch.float64)
        torch.testing.assert_close(A(v).sum((1, 2)), torch.zeros(2, dtype=torch.float64), atol=1e-10, rtol=0)
        assert A.singular
        torch.testing.assert_close(A(torch.ones_like(v)), torch.zeros_like(v), atol=1e-10, rtol=0)


def test_what_is_promised_of_each_family():
    assert float(torch.linalg.eigvalsh(darcy(2, 6, seeded(0)).A.dense()).min()) > 0
    values = torch.linalg.eigvals(helmholtz(1, 6, seeded(0), absorption=0.1).A.dense())
    assert float(values.real.min()) < 0 < float(values.real.max())
    assert float(values.imag.max()) < 0
    wind = convection_diffusion(2, 6, seeded(0), dims=3)
    dense = wind.A.dense()
    off = dense - torch.diag_embed(dense.diagonal(dim1=1, dim2=2))
    assert float(off.max()) <= 0
    assert float((dense - dense.mT).abs().max()) > 0.1
    constant = wind.A(torch.ones_like(wind.b))[:, 2:-2, 2:-2, 2:-2]
    torch.testing.assert_close(constant, torch.zeros_like(constant), atol=1e-10, rtol=0)
    A, b = wind[1]
    torch.testing.assert_close(A.dense()[0], dense[1])
    assert b.shape == (6, 6, 6)


def test_upwind_takes_the_side_that_the_wind_comes_from():
    x = unit_box(32, 1).coordinates(torch.float64)[0]
    for wind in (1.0, -1.0):
        system = convection_diffusion(1, 32, seeded(0), dims=1, diffusivity=1e-4, wind=wind, deviation=0.0)
        u = solve(*system[0], method=LU()).x
        travelled = x if wind > 0 else 1 - x
        torch.testing.assert_close(u[4:-4], travelled[4:-4], atol=0.03, rtol=0)


def test_gaussian_fields_have_the_moments_that_were_asked_for():
    fields = gaussian_fields(4000, unit_box(8, 2), seeded(0), length=0.3)
    assert float(fields.mean()) == pytest.approx(0, abs=0.02)
    assert float(fields.square().mean()) == pytest.approx(1, abs=0.03)
    walk = gaussian_fields(4000, unit_box(4, 1), seeded(0), correlation=0.9)
    assert float(walk.square().mean()) == pytest.approx(1, abs=0.1)
    assert float((walk[1:] * walk[:-1]).mean() / walk.square().mean()) == pytest.approx(0.9, abs=0.02)
    rough, smooth = (gaussian_fields(50, unit_box(32, 1), seeded(1), length=length) for length in (0.02, 0.5))
    assert float(rough.diff(dim=1).square().mean()) > 4 * float(smooth.diff(dim=1).square().mean())


def test_bad_coefficients_are_refused():
    grid = unit_box(4, 2)
    a = torch.ones(1, 4, 4)
    with pytest.raises(ShapeError):
        Diffusion(torch.ones(1, 4, 5), grid)
    with pytest.raises(ShapeError, match="shift"):
        Diffusion(a, grid, shift=torch.ones(4, 4))
    with pytest.raises(ShapeError, match="boundary"):
        Diffusion(a, grid, [Boundary.NEUMANN])
    for value in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="positive and finite"):
            Diffusion(torch.full((1, 4, 4), value), grid)
    with pytest.raises(InputError, match="cell centres"):
        Diffusion(a, Grid.box(4, 1.0, num_dims=2, periodic=False, centred=False))
    with pytest.raises(ShapeError, match="2 dimensions"):
        Stencil(a, [a], [a], [False])
