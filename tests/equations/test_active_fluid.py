"""The active suspension: its moments against the kinetic equation on a grid of angles, closures in their limits, the known threshold."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.special import ive

from slipstream.equations import Spectral
from slipstream.equations.active_fluid import ActiveSuspension, Bingham, Geometric, Truncated
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.solvers import ETDRK4, SpectralStepper

F64 = torch.float64
BOX = Grid.box(32, 10.0, num_dims=2)
D = Spectral(BOX, F64)
ANGLES = 48
THETA = 2 * math.pi * torch.arange(ANGLES, dtype=F64) / ANGLES
STEP = 2 * math.pi / ANGLES
ROD = torch.stack([torch.cos(THETA), torch.sin(THETA)])
ALPHA, BETA, ZETA, D_T, D_R = -2.0, 0.8, 0.7, 0.05, 0.04
EQUATION = ActiveSuspension(ALPHA, BETA, ZETA, D_T, D_R, moments=8, sweeps=12)


def along(f, axis):
    return D.derivative(f[None, None], axis)[0, 0]


def distribution():
    """Rods of some order and uneven number, not of Bingham's kind: (x, y, angle)."""
    x, y = BOX.coordinates(F64)
    w = 2 * math.pi / 10
    a = 0.2 * torch.cos(w * x) + 0.1 * torch.sin(w * (x + y))
    b = 0.15 * torch.sin(w * y)
    f = torch.exp(a[..., None] * torch.cos(2 * THETA) + b[..., None] * torch.sin(2 * THETA))
    f = f * (1 + 0.2 * torch.cos(4 * THETA + 0.3))
    return f / (f.sum(-1, keepdim=True) * STEP) * (1 + 0.1 * torch.cos(w * (x + y)))[..., None]


def moments(f, count=8):
    parts = [(f * turn(2 * j * THETA)).sum(-1) * STEP for j in range(1, count + 1) for turn in (torch.cos, torch.sin)]
    return torch.stack([f.sum(-1) * STEP, *parts])[None]


@pytest.fixture(scope="module")
def state():
    f = distribution()
    u = moments(f)
    v = EQUATION.velocity(u, D, EQUATION.ready({}, u))[0]
    gradient = torch.stack([torch.stack([along(v[i], k) for k in (0, 1)]) for i in (0, 1)])
    second = torch.einsum("xya,ia,ja->ijxy", f, ROD, ROD) * STEP
    return f, u, v, gradient, second


def test_the_flow_is_that_of_the_rods_stress(state):
    f, _, v, gradient, second = state
    strain = 0.5 * (gradient + gradient.transpose(0, 1))
    fourth = torch.einsum("xya,ia,ja,ka,la->ijklxy", f, ROD, ROD, ROD, ROD) * STEP
    stretched, aligned = (torch.einsum("ijklxy,klxy->ijxy", fourth, t) for t in (strain, second))
    square = torch.einsum("ikxy,kjxy->ijxy", second, second)
    stress = ALPHA * second + BETA * stretched - 2 * ZETA * BETA * (square - aligned)
    force = [along(stress[i, 0], 0) + along(stress[i, 1], 1) for i in (0, 1)]
    vorticity = along(v[1], 0) - along(v[0], 1)
    left, right = -D.laplace(vorticity[None, None])[0, 0], along(force[1], 0) - along(force[0], 1)
    assert torch.allclose(left, right, atol=1e-8 * float(right.abs().max()))
    assert float((along(v[0], 0) + along(v[1], 1)).abs().max()) < 1e-13


def test_moments_move_as_those_of_the_kinetic_equation(state):
    f, u, v, gradient, second = state
    turning = torch.einsum("ia,ijxy,ja->xya", torch.stack([-ROD[1], ROD[0]]), gradient + 2 * ZETA * second, ROD)
    k = torch.fft.fftfreq(ANGLES, 1 / ANGLES).double()

    def about(g):
        return torch.fft.ifft(1j * k * torch.fft.fft(g)).real

    slices = f.movedim(-1, 0)[None]
    carried = sum(v[i, ..., None] * D.derivative(slices, i)[0].movedim(0, -1) for i in (0, 1))
    spread = D_T * D.laplace(slices)[0].movedim(0, -1)
    kinetic = moments(-carried - about(turning * f) + spread + D_R * about(about(f)))
    ours = EQUATION.rate(u, D, EQUATION.ready({}, u))
    assert torch.allclose(D.truncate(ours), D.truncate(kinetic), atol=1e-8)


def test_rods_are_kept_and_an_even_concentration_stays_even():
    equation = ActiveSuspension(-2.0, moments=4)
    f = distribution()
    stepper = SpectralStepper(equation, BOX, 0.5, 5, ETDRK4, guard=False)
    u = moments(f, 4)
    new = next(stepper.march(u[:, None], {}))[:, 0]
    assert float(new[:, 0].mean()) == pytest.approx(float(u[:, 0].mean()), abs=1e-14)
    even = u.clone()
    even[:, 1:] = even[:, 1:] / even[:, :1]
    even[:, 0] = 1
    new = next(stepper.march(even[:, None], {}))[:, 0]
    assert float((new[:, 0] - 1).abs().max()) < 1e-13
    assert float((new - even).abs().max()) > 1e-3


@pytest.mark.parametrize(
    ("alpha", "zeta", "grows"), [(-3.0, 0.1, True), (-1.0, 0.0, True), (-0.5, 0.0, False), (2.0, 0.0, False)]
)
def test_isotropy_loses_its_stability_where_linear_theory_says(alpha, zeta, grows):
    equation = ActiveSuspension(alpha, BETA, zeta, D_T, D_R, moments=3)
    k = 2 * math.pi / 10
    expected = zeta - 4 * D_R - D_T * k**2 - (alpha - zeta * BETA / 2) / (4 + BETA / 2)
    x, _ = BOX.coordinates(F64)
    u = torch.zeros(1, 7, 32, 32, dtype=F64)
    u[:, 0] = 1
    u[:, 2] = 1e-7 * torch.cos(k * x)  # bends: makes shear
    rate = equation.rate(u, D, equation.ready({}, u))
    growth = float((rate[:, 2] * u[:, 2]).sum() / u[:, 2].square().sum())
    assert growth == pytest.approx(expected, rel=1e-6)
    assert (growth > 0) == grows
    u[:, 1], u[:, 2] = u[:, 2].clone(), 0.0  # stretches along itself: makes no flow
    rate = equation.rate(u, D, equation.ready({}, u))
    quiet = float((rate[:, 1] * u[:, 1]).sum() / u[:, 1].square().sum())
    assert quiet == pytest.approx(zeta - 4 * D_R - D_T * k**2, rel=1e-6)


def test_bingham_is_exact_for_binghams_distribution_and_in_both_limits():
    kappa = torch.cat([torch.linspace(0.01, 10, 40, dtype=F64), torch.logspace(1, 4, 20, dtype=F64)])
    m, second = (torch.from_numpy(ive(n, kappa.numpy()) / ive(0, kappa.numpy())) for n in (1, 2))
    turn = torch.exp(torch.tensor(0.7j, dtype=torch.complex128))
    c = torch.full((1, 1, 60), 1.7, dtype=F64)
    found = Bingham()(c, c * m * turn)
    assert torch.allclose(found[0, 0], 1.7 * second * turn**2, atol=1e-8)
    ends = Bingham()(torch.ones(1, 1, 2, dtype=F64), torch.tensor([[[1e-6, 1.0]]], dtype=torch.complex128))
    assert abs(complex(ends[0, 0, 0])) < 1e-12
    assert complex(ends[0, 0, 1]) == pytest.approx(1.0, abs=1e-8)


def test_the_geometric_closure_is_exact_for_perfect_alignment_and_never_singular():
    aligned = torch.exp(1j * torch.arange(1, 4, dtype=F64) * 0.6).reshape(1, 3, 1)
    one = torch.ones(1, 1, 1, dtype=F64)
    assert torch.allclose(Geometric()(one, aligned), torch.exp(torch.tensor(2.4j)).to(aligned).reshape(1, 1, 1))
    wild = torch.tensor([0.0, 0.5], dtype=torch.complex128).reshape(1, 2, 1)
    assert float(Geometric()(one, wild).abs()) <= 0.5


@pytest.mark.parametrize("closure", [Truncated(), Bingham(), Geometric()], ids=lambda c: type(c).__name__)
def test_turning_the_plane_turns_the_rates(closure):
    """A quarter turn of space and rods: Z_j gets the factor (-1)^j."""
    equation = ActiveSuspension(ALPHA, moments=1, closure=closure)
    u = moments(distribution(), 1)

    def turned(w):
        return torch.rot90(w, 1, (-2, -1)).roll(1, -2) * torch.tensor([1.0, -1.0, -1.0], dtype=F64).reshape(3, 1, 1)

    p = equation.ready({}, u)
    assert torch.allclose(equation.rate(turned(u), D, p), turned(equation.rate(u, D, p)), atol=1e-12)


def test_moments_that_are_cut_off_matter_less_the_more_are_kept():
    f = distribution()

    def order(count):
        stepper = SpectralStepper(ActiveSuspension(ALPHA, moments=count), BOX, 1.0, 4, ETDRK4, guard=False)
        return next(stepper.march(moments(f, count)[:, None], {}))[:, :, 1:3]

    whole = order(8)
    errors = [float((order(count) - whole).norm()) for count in (1, 2, 4)]
    assert errors[0] > 4 * errors[1] > 16 * errors[2]


def test_wrong_input_is_refused():
    with pytest.raises(InputError, match="moments"):
        ActiveSuspension(moments=0)
    with pytest.raises(InputError, match="one moment"):
        Bingham()(torch.ones(1, 1, 2), torch.zeros(1, 2, 2, dtype=torch.complex64))
