"""The cell problem: exact solutions, bounds, symmetries, tangents, convergence."""

from __future__ import annotations

import math

import pytest
import torch

from slipstream.errors import InputError, UnstableStep
from slipstream.solvers.cell import CellLaw, divergence, gradients
from slipstream.solvers.macro import Turned
from slipstream.solvers.voxels import Voxels, ellipse

TIGHT = {"tolerance": 1e-9, "tangent_tolerance": 1e-6}
EXACT = {"rtol": 1e-7, "atol": 1e-7}


def samples(count=12, generator=None):
    generator = generator or torch.Generator().manual_seed(3)
    unit = torch.rand(count, 5, generator=generator, dtype=torch.float64)
    gradient = 6 * (unit[:, :2] - 0.5)
    semi = 0.12 + 0.3 * unit[:, 2:4]
    return gradient, torch.cat([semi, math.log(10) * (2 * unit[:, 4:] - 1)], dim=1)


def laminate(fraction, angle, n=16):
    """Layers across the x axis (angle 0) or along it, whose interfaces cut pixels."""
    edge = torch.arange(n + 1, dtype=torch.float64) / n
    covered = (edge[1:].clamp(max=fraction) - edge[:-1].clamp(max=fraction)) * n
    normal = torch.stack([torch.ones(n, n), torch.zeros(n, n)]).double()
    picture = torch.cat([covered[:, None].expand(n, n)[None], normal])[None]
    return picture if angle == 0 else torch.stack([picture[:, 0].mT, picture[:, 2], picture[:, 1]], dim=1)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("fraction", [0.3, 0.52])
def test_layers_are_exact_wherever_their_interfaces_lie(axis, fraction):
    kappa, h, g = 5.0, 1.0, torch.tensor([[1.3, -0.7]], dtype=torch.float64)
    across, along = float(g[0, axis]), float(g[0, 1 - axis])
    low, high = 0.0, kappa * 100.0
    for _ in range(200):  # bisection for the conductivity of the inclusion: independent of the solver's Newton sweeps
        k = 0.5 * (low + high)
        inner = across / ((1 - fraction) * k + fraction)
        low, high = (k, high) if k < kappa * math.sqrt(1 + h * (inner**2 + along**2)) else (low, k)
    expected = [0.0, 0.0]
    expected[axis] = k * inner
    expected[1 - axis] = ((1 - fraction) + fraction * k) * along
    law = CellLaw(16, **TIGHT, hardening=h)
    found = law.respond(laminate(fraction, axis), torch.tensor([math.log(kappa)]).double(), g)
    torch.testing.assert_close(found.flux, torch.tensor([expected]).double(), **EXACT)


def test_equal_phases_conduct_like_one():
    gradient, features = samples()
    features[:, 2] = 0.0
    found = CellLaw(12, **TIGHT, hardening=0.0)(gradient, features)
    torch.testing.assert_close(found.flux, gradient, **EXACT)
    torch.testing.assert_close(found.tangent, torch.eye(2).double().expand(12, 2, 2), **EXACT)


def test_the_linear_limit_is_linear_and_within_the_bounds_for_its_volume_fraction():
    gradient, features = samples()
    law = CellLaw(24, **TIGHT, hardening=0.0)
    one, two = law(gradient, features), law(2 * gradient, features)
    torch.testing.assert_close(2 * one.flux, two.flux, **EXACT)
    torch.testing.assert_close(one.flux, (one.tangent @ gradient[..., None])[..., 0], **EXACT)
    c, k = ellipse(features[:, 0], features[:, 1], 24)[:, 0].mean((1, 2)), features[:, 2].exp()
    values = torch.linalg.eigvalsh(one.tangent)
    reuss, voigt = 1 / (1 - c + c / k), 1 - c + c * k
    assert bool((values[:, 0] > reuss).all())
    assert bool((values[:, 1] < voigt).all())
    # Hashin-Shtrikman (plane, isotropic) holds for the mean of a circle's equal eigenvalues.
    semi = torch.full((2,), 0.3, dtype=torch.float64)
    k = torch.tensor([0.1, 10.0], dtype=torch.float64)
    circle = law(gradient[:2], torch.stack([semi, semi, k.log()], dim=1)).tangent
    c = math.pi * 0.09
    matrix_outside = 1 + c / (1 / (k - 1) + (1 - c) / 2)
    inclusion_outside = k + (1 - c) / (1 / (1 - k) + c / (2 * k))
    low, high = torch.minimum(matrix_outside, inclusion_outside), torch.maximum(matrix_outside, inclusion_outside)
    assert bool((circle[:, 0, 0] > low * 0.999).all())
    assert bool((circle[:, 0, 0] < high * 1.001).all())
    # A square array of circles stays close to the bound whose matrix is the outer phase (Rayleigh).
    torch.testing.assert_close(circle[:, 0, 0], matrix_outside, rtol=0.02, atol=0)


def test_mirrors_and_an_exchange_of_the_axes_are_exact():
    gradient, features = samples()
    law = CellLaw(15, **TIGHT)
    flux = law(gradient, features).flux
    mirrored = law(gradient * torch.tensor([-1.0, 1.0]), features).flux
    torch.testing.assert_close(mirrored, flux * torch.tensor([-1.0, 1.0]), **EXACT)
    exchanged = law(gradient.flip(1), features[:, [1, 0, 2]]).flux
    torch.testing.assert_close(exchanged, flux.flip(1), **EXACT)


def test_the_turned_law_is_objective_and_a_quarter_turn_exchanges_the_semi_axes():
    gradient, features = samples()
    law = Turned(CellLaw(15, **TIGHT))
    angle, by = torch.linspace(0, 3, 12, dtype=torch.float64), 0.7

    def at(g, turn, semi):
        return law(g, torch.cat([semi, turn[:, None], features[:, 2:]], dim=1))

    rotation = torch.tensor([[math.cos(by), -math.sin(by)], [math.sin(by), math.cos(by)]], dtype=torch.float64)
    here, there = at(gradient, angle, features[:, :2]), at(gradient @ rotation.mT, angle + by, features[:, :2])
    torch.testing.assert_close(there.flux, here.flux @ rotation.mT, **EXACT)
    torch.testing.assert_close(there.tangent, rotation @ here.tangent @ rotation.mT, rtol=1e-6, atol=1e-6)
    quarter = at(gradient, angle + math.pi / 2, features[:, [1, 0]])
    torch.testing.assert_close(quarter.flux, here.flux, **EXACT)


def test_tangents_are_symmetric_positive_and_agree_with_finite_differences():
    gradient, features = samples()
    law, h = CellLaw(16, **TIGHT), 1e-4
    tangent = law(gradient, features).tangent
    torch.testing.assert_close(tangent, tangent.mT, rtol=0, atol=1e-9)
    assert float(torch.linalg.eigvalsh(tangent).min()) > 0.1
    for axis in range(2):
        step = h * torch.eye(2, dtype=torch.float64)[axis]
        difference = (law(gradient + step, features).flux - law(gradient - step, features).flux) / (2 * h)
        torch.testing.assert_close(tangent[:, :, axis], difference, rtol=1e-5, atol=1e-5)


def test_gradients_reach_gradient_shape_and_contrast():
    gradient, features = samples(3)
    law, h = CellLaw(16, **TIGHT), 1e-5
    weights = torch.randn(3, 2, dtype=torch.float64)
    direction_g, direction_p = torch.randn(3, 2).double(), torch.randn(3, 3).double()
    g, p = gradient.clone().requires_grad_(), features.clone().requires_grad_()
    (law(g, p).flux * weights).sum().backward()
    slope = (g.grad * direction_g).sum() + (p.grad * direction_p).sum()

    def value(t):
        return (law(gradient + t * direction_g, features + t * direction_p).flux * weights).sum()

    torch.testing.assert_close(slope, (value(h) - value(-h)) / (2 * h), rtol=1e-5, atol=1e-6)


def test_the_flux_converges_with_the_number_of_points():
    gradient, features = samples(12)
    best = CellLaw(128, 1e-5, 1e-3)(gradient, features).flux
    errors = [float((CellLaw(n, 1e-5, 1e-3)(gradient, features).flux - best).norm() / best.norm()) for n in (8, 16, 32)]
    assert errors[0] < 0.03
    assert errors[1] < 0.4 * errors[0]
    assert errors[2] < 0.5 * errors[1]


def test_correctors_square_the_error_of_a_loose_tolerance():
    gradient, features = samples(24)
    exact = CellLaw(16, **TIGHT)(gradient, features).flux
    loose = CellLaw(16, 0.05, 0.05)
    plain, corrected = (float((loose(gradient, features, None, t).flux - exact).norm()) for t in (False, True))
    assert plain > 1e-3 * float(exact.norm())
    assert corrected < 0.1 * plain


def test_a_warm_start_is_correct_to_second_order():
    gradient, features = samples()
    law = CellLaw(16, 1e-7, 1e-5)
    cold = law(gradient, features)
    step = torch.randn(12, 2, dtype=torch.float64)
    misses = []
    for h in (0.02, 0.01):
        there = law(gradient + h * step, features)
        predicted = law._predicted(gradient + h * step, cold.memory)
        misses.append(float((predicted - there.memory.field).norm()))
        warm = law(gradient + h * step, features, cold.memory)
        torch.testing.assert_close(warm.flux, there.flux, rtol=1e-6, atol=1e-6)
    assert misses[1] == pytest.approx(misses[0] / 4, rel=0.2)


def test_cut_pixels_derive_from_a_potential():
    generator = torch.Generator().manual_seed(1)
    fraction = torch.rand(1, 1, 6, 6, generator=generator, dtype=torch.float64)
    angle = 6.3 * torch.rand(1, 6, 6, generator=generator, dtype=torch.float64)
    picture = torch.cat([fraction, torch.stack([angle.cos(), angle.sin()], dim=1)], dim=1)
    g = 3 * torch.randn(1, 2, 6, 6, generator=generator, dtype=torch.float64)
    voxels = Voxels(picture, torch.tensor([8.0]).double(), 1.0)
    jacobian = torch.func.jacrev(voxels.flux)(g)[0, :, :, :, 0]
    local = torch.einsum("ixyjxy->ijxy", jacobian)
    xx, xy, yy = (m[0] for m in voxels.moduli(g))
    torch.testing.assert_close(local, torch.stack([torch.stack([xx, xy]), torch.stack([xy, yy])]), rtol=1e-9, atol=1e-9)
    assert bool((xx * yy > xy**2).all())


def test_an_ellipse_covers_its_area_and_divergence_is_the_adjoint_of_gradients():
    semi = torch.tensor([0.15, 0.3, 0.42], dtype=torch.float64)
    area = ellipse(semi, semi.flip(0), 24)[:, 0].mean((1, 2))
    torch.testing.assert_close(area, math.pi * semi * semi.flip(0), rtol=3e-3, atol=0)
    v, f = torch.randn(2, 9, 9).double(), torch.randn(2, 2, 9, 9).double()
    torch.testing.assert_close((gradients(v) * f).sum(), -(v * divergence(f)).sum())
    x = torch.arange(64, dtype=torch.float64) / 64  # nodes; the centres lie half a pixel on
    wave = torch.sin(2 * math.pi * x)[:, None].expand(64, 64)
    slope = 2 * math.pi * torch.cos(2 * math.pi * (x + 1 / 128))[:, None].expand(64, 64)
    torch.testing.assert_close(gradients(wave)[0], slope, rtol=1e-3, atol=1e-2)
    assert float(gradients(wave)[1].abs().max()) < 1e-10


def test_cells_do_not_see_each_other_and_single_precision_agrees(monkeypatch):
    gradient, features = samples()
    law = CellLaw(12, 1e-4, 1e-2)
    together = law(gradient, features)
    monkeypatch.setattr("slipstream.solvers.cell.CHUNK_BYTES", 5 * 144 * 8)
    torch.testing.assert_close(law(gradient, features).flux, together.flux, rtol=1e-5, atol=1e-5)
    single = law(gradient.float(), features.float())
    assert single.flux.dtype == single.tangent.dtype == torch.float32
    torch.testing.assert_close(single.flux.double(), together.flux, rtol=1e-4, atol=1e-4)


def test_what_makes_no_sense_is_refused():
    gradient, features = samples(2)
    with pytest.raises(InputError, match=r"\(0, 0.5\]"):
        CellLaw()(gradient, features * torch.tensor([9.0, 1.0, 1.0]))
    with pytest.raises(InputError, match="num_points"):
        CellLaw(2)
    with pytest.raises(UnstableStep, match="residual"):
        CellLaw(12, 1e-12)(gradient.float(), features.float())
