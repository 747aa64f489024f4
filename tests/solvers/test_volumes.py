"""Finite volumes: exact Riemann solutions, conservation, order, no new extrema, symmetry, gradients."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy.optimize import brentq

from slipstream.equations import Burgers, Diffusion, Equation, Spectral
from slipstream.equations.boundary import Conditions, Dirichlet, Inflow, Obstacle, Outflow, Wall
from slipstream.equations.conservation import BurgersLaw, TransportLaw
from slipstream.equations.euler import Euler
from slipstream.errors import InputError, UnstableStep
from slipstream.grids import Axis, Grid
from slipstream.solvers import ETDRK4, RK4, Explicit, SpectralStepper
from slipstream.solvers.reconstructions import MUSCL_MC, MUSCL_MINMOD, MUSCL_VAN_LEER, UPWIND, WENO5
from slipstream.solvers.riemann import HLLC, Rusanov
from slipstream.solvers.volumes import VolumeStepper

F64 = torch.float64
LIMITED = [UPWIND, MUSCL_MINMOD, MUSCL_VAN_LEER, MUSCL_MC]


def march(stepper, u, parameters=None):
    parameters = parameters or {}
    state, frames = stepper.advance(stepper.start(u[:, None], parameters), parameters)
    return frames[:, -1], state.stats


def exact_riemann(left, right, x_over_t, gamma=1.4):
    """Density, velocity, pressure of two gases brought into contact (Toro, Riemann Solvers, 3rd ed. 2009, ch. 4)."""

    def curve(p, density, pressure):
        """Change of velocity across a wave to pressure p."""
        a = math.sqrt(gamma * pressure / density)
        if p > pressure:
            return (p - pressure) * math.sqrt(2 / (density * ((gamma + 1) * p + (gamma - 1) * pressure)))
        return 2 * a / (gamma - 1) * ((p / pressure) ** ((gamma - 1) / (2 * gamma)) - 1)

    (rl, ul, pl), (rr, ur, pr) = left, right
    star = brentq(lambda p: curve(p, rl, pl) + curve(p, rr, pr) + ur - ul, 1e-8, 10 * max(pl, pr), xtol=1e-14)
    speed = 0.5 * (ul + ur) + 0.5 * (curve(star, rr, pr) - curve(star, rl, pl))

    def beside(s, density, velocity, pressure, sign):
        """On one side of the contact; sign is -1 on the left."""
        a = math.sqrt(gamma * pressure / density)
        ratio, g = star / pressure, (gamma - 1) / (gamma + 1)
        if star > pressure:
            shock = velocity + sign * a * math.sqrt((gamma + 1) / (2 * gamma) * ratio + (gamma - 1) / (2 * gamma))
            inside = (density * (ratio + g) / (g * ratio + 1), speed, star)
            return inside if sign * (s - shock) < 0 else (density, velocity, pressure)
        head, tail = velocity + sign * a, speed + sign * a * ratio ** ((gamma - 1) / (2 * gamma))
        if sign * (s - head) > 0:
            return density, velocity, pressure
        if sign * (s - tail) < 0:
            return density * ratio ** (1 / gamma), speed, star
        u = 2 / (gamma + 1) * (-sign * a + (gamma - 1) / 2 * velocity + s)
        c = abs(s - u)
        return density * (c / a) ** (2 / (gamma - 1)), u, pressure * (c / a) ** (2 * gamma / (gamma - 1))

    found = [beside(float(s), *left, -1) if s < speed else beside(float(s), *right, 1) for s in x_over_t]
    return torch.tensor(found, dtype=F64).T


SOD = ((1.0, 0.0, 1.0), (0.125, 0.0, 0.1))


def test_the_exact_solution_of_the_test_is_that_of_the_book():
    star = exact_riemann(*SOD, torch.tensor([0.5]))
    assert torch.allclose(star[1:, 0], torch.tensor([0.92745, 0.30313], dtype=F64), atol=1e-5)


def tube(n, time=0.2):
    grid = Grid((Axis("x", n, -0.5, 1.0, False),))
    x = grid.coordinates(F64)
    equation = Euler()
    w = torch.where(x < 0, *(torch.tensor(s, dtype=F64)[:, None] for s in SOD))[None]
    return grid, equation, equation.conserved(w, equation.ready({}, w)), exact_riemann(*SOD, x[0] / time)


@pytest.mark.parametrize(
    ("reconstruction", "riemann", "bar"),
    [
        (UPWIND, Rusanov(), 0.05),
        (MUSCL_MINMOD, HLLC(), 0.016),
        (MUSCL_VAN_LEER, HLLC(), 0.012),
        (WENO5, HLLC(), 0.012),
    ],
    ids=lambda v: getattr(v, "name", ""),
)
def test_a_shock_tube_meets_the_exact_solution(reconstruction, riemann, bar):
    errors = []
    for n in (32, 64):
        grid, equation, u, exact = tube(n)
        stepper = VolumeStepper(
            equation,
            grid,
            0.2,
            Conditions(equation.channels, {"x": Outflow()}),
            cfl=0.8,
            reconstruction=reconstruction,
            riemann=riemann,
        )
        new, _ = march(stepper, u)
        w = equation.primitive(new, equation.ready({}, new))[0]
        errors.append(float((w - exact)[0].abs().mean()))
    assert errors[1] < bar
    assert errors[1] < (0.85 if reconstruction is UPWIND else 0.75) * errors[0]


def test_the_contact_is_sharper_with_three_waves():
    """A contact at rest stays exactly with HLLC; Rusanov smears it."""
    grid, equation, _, _ = tube(20)
    x = grid.coordinates(F64)
    w = torch.where(x < 0, *(torch.tensor(s, dtype=F64)[:, None] for s in ((1.0, 0.0, 1.0), (0.2, 0.0, 1.0))))[None]
    u = equation.conserved(w, equation.ready({}, w))
    ends = Conditions(equation.channels, {"x": Outflow()})
    moved = [
        (march(VolumeStepper(equation, grid, 0.1, ends, riemann=r), u)[0] - u).abs().max() for r in (HLLC(), Rusanov())
    ]
    assert float(moved[0]) < 1e-13
    assert float(moved[1]) > 0.05


def test_three_waves_are_the_exact_solution_for_small_jumps():
    """HLLC differs from the flux of the exact solution by the square of the jump, Rusanov by the jump."""
    equation = Euler()
    base, jump = torch.tensor([1.0, 0.2, 0.8], dtype=F64), torch.randn(10, 3, dtype=F64)
    differences = {}
    for eps in (1e-2, 1e-3):
        left, right = base - eps * jump, base + eps * jump
        between = [exact_riemann(a, b, torch.zeros(1)) for a, b in zip(left.tolist(), right.tolist(), strict=True)]
        states = [
            equation.conserved(w, {"gamma": torch.tensor(1.4)})
            for w in (left[..., None], right[..., None], torch.stack(between))
        ]
        p = equation.ready({}, states[0])
        exact = equation.flux(states[2], 0, p)
        for riemann in (HLLC(), Rusanov()):
            error = (riemann.flux(equation, states[0], states[1], 0, p) - exact).abs().amax((0, 2))
            differences[riemann.name, eps] = error
    for name, fall in (("HLLC", 100), ("Rusanov", 10)):
        ratio = differences[name, 1e-2] / differences[name, 1e-3]
        assert (ratio > 0.5 * fall).all()
        assert (ratio < 2 * fall).all()


def gas(grid, batch=1, seed=0):
    """Smooth random states of density and pressure near 1."""
    torch.manual_seed(seed)
    d = Spectral(Grid(tuple(Axis(a.name, a.num_points, a.start, a.extent) for a in grid.axes)), F64)
    noise = torch.randn(batch, grid.num_dims + 2, *grid.shape, dtype=F64)
    w = d.inverse(d.forward(noise) * (d.square.sqrt() * grid.extent[0] / (2 * math.pi) < 2.5))
    w = 0.3 * w / w.abs().amax()
    w[:, 0] += 1
    w[:, -1] += 1
    equation = Euler(num_dims=grid.num_dims)
    return equation, equation.conserved(w, equation.ready({}, w))


@pytest.mark.parametrize("riemann", [Rusanov(), HLLC()], ids=lambda r: r.name)
def test_what_leaves_one_cell_enters_the_next(riemann):
    grid = Grid.box((12, 10), 1.0)
    equation, u = gas(grid)
    new, _ = march(VolumeStepper(equation, grid, 0.1, reconstruction=WENO5, riemann=riemann), u)
    assert not torch.allclose(new, u, atol=1e-2)
    assert torch.allclose(new.sum((2, 3)), u.sum((2, 3)), atol=1e-12)


def averages(primitive, n, extent):
    """Exact cell averages of a periodic function from its antiderivative."""
    edges = torch.linspace(0, extent, n + 1, dtype=F64)
    return (primitive(edges).diff() * n / extent)[None, None]


@pytest.mark.parametrize(
    ("reconstruction", "order"),
    [(UPWIND, 1), (MUSCL_VAN_LEER, 2), (MUSCL_MC, 2), (WENO5, 5)],
    ids=lambda v: getattr(v, "name", ""),
)
def test_smooth_shapes_are_carried_with_the_order_of_the_reconstruction(reconstruction, order):
    errors = []
    for n in (12, 24) if order > 2 else (32, 64):
        grid = Grid.box(n, 1.0)
        u = averages(lambda x: -torch.cos(2 * math.pi * x) / (2 * math.pi), n, 1.0)
        after = averages(lambda x: -torch.cos(2 * math.pi * (x - 0.25)) / (2 * math.pi), n, 1.0)
        stepper = VolumeStepper(
            TransportLaw(1.0, 0.0), grid, 0.25, substeps=n // 2, reconstruction=reconstruction, scheme=RK4
        )
        errors.append(float((march(stepper, u)[0] - after).abs().mean()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.25)


def vortex(n, shift):
    """Cell averages of an isentropic vortex of strength 5 (Shu 1998) carried by (1, 1)."""
    grid = Grid.box((n, n), 10.0)
    nodes = torch.tensor([-math.sqrt(0.6), 0.0, math.sqrt(0.6)], dtype=F64) * grid.spacing[0] / 2
    weights = torch.tensor([5.0, 8.0, 5.0], dtype=F64) / 18
    equation, total = Euler(num_dims=2), 0.0
    # Points of a periodic grid are taken as centres of cells.
    for (i, a), (j, b) in itertools.product(enumerate(nodes), repeat=2):
        x, y = (grid.coordinates(F64) - 5 - shift + torch.stack([a, b])[:, None, None] + 5) % 10 - 5
        r2 = x * x + y * y
        push = 5 / (2 * math.pi) * torch.exp(0.5 * (1 - r2))
        heat = 1 - 0.4 * 25 / (8 * 1.4 * math.pi**2) * torch.exp(1 - r2)
        w = torch.stack([heat**2.5, 1 - push * y, 1 + push * x, heat**3.5])[None]
        total = total + weights[i] * weights[j] * equation.conserved(w, equation.ready({}, w))
    return grid, equation, total


def test_a_vortex_is_carried_in_two_dimensions():
    errors = {}
    for reconstruction, sizes in ((MUSCL_MC, (24, 48)), (WENO5, (24, 48))):
        for n in sizes:
            grid, equation, u = vortex(n, 0.0)
            stepper = VolumeStepper(equation, grid, 0.25, cfl=0.8, reconstruction=reconstruction, riemann=HLLC())
            errors[reconstruction.name, n] = float((march(stepper, u)[0] - vortex(n, 0.25)[2])[:, 0].abs().mean())
    fall = {name: math.log2(errors[name, 24] / errors[name, 48]) for name in ("MUSCL MC", "WENO5")}
    assert 1.5 < fall["MUSCL MC"] < 2.5  # the limiter clips the extrema of a vortex
    assert fall["WENO5"] > 2.5
    assert errors["WENO5", 48] < 0.3 * errors["MUSCL MC", 48]


def variation(u):
    return (u.roll(-1, -1) - u).abs().sum(-1)


@pytest.mark.parametrize("reconstruction", LIMITED, ids=lambda r: r.name)
def test_limited_reconstructions_make_no_new_extrema(reconstruction):
    grid = Grid.box(40, 1.0)
    u = torch.where(torch.rand(4, 1, 40, dtype=F64) < 0.4, 1.0, 0.0) + 0.2 * torch.randn(4, 1, 40, dtype=F64)
    before = u
    for equation in (BurgersLaw(), TransportLaw(-1.0, 0.0)):
        u = before
        stepper = VolumeStepper(equation, grid, 0.02, cfl=0.5, reconstruction=reconstruction)
        for _ in range(4):
            new, _ = march(stepper, u)
            assert (variation(new) <= variation(u) * (1 + 1e-12)).all()
            u = new
        assert u.max() <= before.max() + 1e-12
        assert u.min() >= before.min() - 1e-12


@pytest.mark.parametrize("reconstruction", [MUSCL_MC, WENO5], ids=lambda r: r.name)
@pytest.mark.parametrize("riemann", [Rusanov(), HLLC()], ids=lambda r: r.name)
def test_mirrored_and_turned_states_have_mirrored_and_turned_rates(reconstruction, riemann):
    grid = Grid.box((10, 10), 1.0)
    equation, u = gas(grid, 2)
    stepper = VolumeStepper(equation, grid, 0.1, reconstruction=reconstruction, riemann=riemann)
    rate = stepper.rate(u, {})

    def mirrored(v):
        return torch.flip(v, [2]) * torch.tensor([1.0, -1.0, 1.0, 1.0], dtype=F64)[:, None, None]

    def turned(v):
        return v.transpose(2, 3)[:, [0, 2, 1, 3]]

    for image in (mirrored, turned):
        assert torch.allclose(stepper.rate(image(u), {}), image(rate), atol=1e-12 * float(rate.abs().max()))


def test_walls_are_mirrors():
    ring, box = Grid.box(24, 2.0), Grid((Axis("x", 12, 0.0, 1.0, False),))
    equation, u = gas(box)
    mirrored = torch.cat([u, u.flip(-1) * torch.tensor([1.0, -1.0, 1.0], dtype=F64)[:, None]], -1)
    walled = VolumeStepper(
        equation, box, 0.3, Conditions(equation.channels, {"x": Wall()}), substeps=20, riemann=HLLC()
    )
    whole = VolumeStepper(equation, ring, 0.3, substeps=20, riemann=HLLC())
    new = march(walled, u)[0]
    assert torch.allclose(new, march(whole, mirrored)[0][..., :12], atol=1e-12)
    assert torch.allclose(new[:, [0, 2]].sum(-1), u[:, [0, 2]].sum(-1))


def test_a_front_enters_and_leaves_exactly_at_unit_courant_number():
    grid = Grid((Axis("x", 8, 0.0, 1.0, False),))
    ends = Conditions(("concentration",), {"x": (Inflow("feed"), Outflow())})
    euler = Explicit("Euler", 1, ((1.0,),))
    stepper = VolumeStepper(TransportLaw(2.0, 0.0), grid, 3 / 16, ends, substeps=3, reconstruction=UPWIND, scheme=euler)
    u = torch.arange(8.0, dtype=F64)[None, None].repeat(2, 1, 1)
    new, _ = march(stepper, u, {"feed": torch.tensor([50.0, 60.0], dtype=F64)})
    assert torch.allclose(new[:, 0], torch.tensor([[f, f, f, 0, 1, 2, 3, 4] for f in (50.0, 60.0)], dtype=F64))


def test_it_agrees_with_the_spectral_stepper_where_all_is_smooth():
    differences = []
    for n in (24, 48):
        grid = Grid.box(n)
        u = (torch.sin(grid.coordinates(F64)[0]) + 0.5).expand(1, 1, n)
        smoothing = torch.sinc(torch.fft.rfftfreq(n, 1 / n, dtype=F64) / n)  # point values to cell averages
        averaged = lambda v, s=smoothing, n=n: torch.fft.irfft(torch.fft.rfft(v) * s, n)  # noqa: E731
        spectral = march(SpectralStepper(Burgers(0.1), grid, 0.6, 30, ETDRK4), u)[0]
        ours = march(VolumeStepper(BurgersLaw(0.1), grid, 0.6, substeps=20, reconstruction=WENO5), averaged(u))[0]
        differences.append(float((ours - averaged(spectral)).abs().max()))
    assert differences[1] < 1e-3
    assert math.log2(differences[0] / differences[1]) == pytest.approx(2, abs=0.4)  # diffusion is of second order


LAWS = [(BurgersLaw(0.1), 1), (TransportLaw((0.7, -0.4), 0.2, 2), 2), (Euler(num_dims=2), 2)]


@pytest.mark.parametrize(("equation", "dims"), LAWS, ids=lambda v: type(v).__name__)
def test_flux_and_remainder_are_the_rate(equation, dims):
    grid = Grid.box([24, 20][:dims])
    d = Spectral(grid, F64)
    u = gas(grid)[1] if isinstance(equation, Euler) else d.inverse(
        d.forward(torch.randn(2, 1, *grid.shape, dtype=F64)) * (d.square < 9)
    )  # fmt: skip
    p = equation.ready({}, u)
    moved = sum(d.derivative(equation.flux(u, i, p), i) for i in range(dims))
    remainder = equation.remainder(u, d, p)
    total = -moved if remainder is None else remainder - moved
    assert torch.allclose(total, equation.rate(u, d, p), atol=1e-10)
    eps = 1e-6
    for axis in range(dims):  # no wave of the flux is faster than stated
        slopes = [
            (equation.flux(u + eps * e, axis, p) - equation.flux(u - eps * e, axis, p)) / (2 * eps)
            for e in torch.eye(u.shape[1], dtype=F64)[:, None, :, *[None] * dims]
        ]
        jacobian = torch.stack(slopes, 2).movedim((1, 2), (-2, -1))
        fastest = torch.linalg.eigvals(jacobian).abs().amax(-1)
        assert torch.allclose(equation.max_speed(u, axis, p)[:, 0], fastest, atol=1e-6)


def test_each_axis_has_its_own_spacing():
    grid = Grid.box((32, 24), (2 * math.pi, 6 * math.pi))
    x, y = grid.coordinates(F64)
    law = TransportLaw((0.7, -0.4), 0.0, 2)
    rate = VolumeStepper(law, grid, 1.0, reconstruction=WENO5).rate(torch.sin(x + y / 3)[None, None], {})
    assert torch.allclose(rate[0, 0], -(0.7 - 0.4 / 3) * torch.cos(x + y / 3), atol=1e-2)


def test_gradients_are_those_of_finite_differences():
    grid = Grid.box(6, 1.0)
    equation, u = gas(grid)
    gamma = torch.tensor([1.4], dtype=F64)

    def loss(u, gamma):
        new, _ = march(VolumeStepper(equation, grid, 0.05, substeps=2, riemann=HLLC()), u, {"gamma": gamma})
        return new.square().sum((1, 2))

    assert torch.autograd.gradcheck(loss, (u.requires_grad_(), gamma.requires_grad_()), eps=1e-6, atol=1e-5)
    assert torch.isfinite(torch.autograd.grad(loss(torch.ones_like(u), gamma).sum(), gamma)[0]).all()


def test_runs_take_their_own_steps():
    grid = Grid.box(20, 1.0)
    u = torch.rand(2, 1, 20, dtype=F64) * torch.tensor([1.0, 5.0], dtype=F64)[:, None, None]
    stepper = VolumeStepper(BurgersLaw(), grid, 0.1, cfl=0.5)
    together, stats = march(stepper, u)
    assert stats["steps"][1] > 2 * stats["steps"][0] > 2
    for i in range(2):
        alone, own = march(stepper, u[i : i + 1])
        assert torch.allclose(alone[0], together[i], atol=1e-13)
        assert own["steps"] == stats["steps"][i]


def test_steps_and_states_that_cannot_be_are_refused():
    grid = Grid.box(20, 1.0)
    u = 4 * torch.rand(2, 1, 20)
    u[1] += 6.0
    with pytest.raises(UnstableStep, match=r"limit .* of run 1\. Use substeps=\d+ or more") as error:
        march(VolumeStepper(BurgersLaw(), grid, 0.1, substeps=2), u)
    enough = int(str(error.value).split("substeps=")[1].split()[0])
    march(VolumeStepper(BurgersLaw(), grid, 0.1, substeps=enough), u)
    gas_ = torch.tensor([1.0, 0.0, 1.0])[None, :, None].repeat(1, 1, 20)
    gas_[0, 2, 7] = -0.5
    with pytest.raises(UnstableStep, match=r"pressure is -0\.2 in run 0, cell \(7,\).*MUSCL_MINMOD"):
        march(VolumeStepper(Euler(), grid, 0.1), gas_)
    gas_[0, 0, 3] = -1.0
    with pytest.raises(UnstableStep, match="density"):
        march(VolumeStepper(Euler(), grid, 0.1), gas_)
    with pytest.raises(UnstableStep, match="left finite numbers"):
        march(VolumeStepper(BurgersLaw(), grid, 0.1), torch.full((1, 1, 20), torch.nan))


def test_diffusion_limits_the_step():
    """By its own formula, and in fact: the limit is stable, twice the limit is not."""
    grid = Grid.box((8, 10), 1.0)
    u = torch.randn(1, 1, 8, 10, dtype=F64)
    law = TransportLaw((0.0, 0.0), 0.3, 2)
    limit = float(VolumeStepper(law, grid, 1.0).largest_dt(u, {}))
    assert limit == pytest.approx(1 / (2 * 0.3 * (64 + 100)), rel=1e-9)
    with pytest.raises(UnstableStep, match="Use substeps"):
        VolumeStepper(law, grid, 1.1 * limit, substeps=1).advance(
            VolumeStepper(law, grid, 1.0).start(u[:, None], {}), {}
        )
    sizes = [
        march(VolumeStepper(law, grid, 100 * f * limit, substeps=100, guard=False), u)[0].abs().max() for f in (1, 2)
    ]
    assert float(sizes[0]) < 1
    assert float(sizes[1]) > 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"riemann": HLLC()}, "Rusanov"),
        ({"cfl": 1.5}, "in \\(0, 1\\]"),
        ({"cfl": 0.5, "substeps": 3}, "one of substeps"),
        ({"conditions": Conditions(("velocity",), {"x": Dirichlet()})}, "periodic and has no sides"),
        ({"conditions": Conditions(("velocity",), {}, Obstacle(torch.zeros(8)))}, "obstacles"),
        ({"grid": Grid.box(8, 1.0, num_dims=1, periodic=False, centred=False)}, "cell-centred"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        VolumeStepper(**({"equation": BurgersLaw(), "grid": Grid.box(8, 1.0), "interval": 0.1} | arguments))


def test_an_equation_without_flux_is_refused():
    equation: Equation = Diffusion()
    with pytest.raises(InputError, match="no flux form"):
        march(VolumeStepper(equation, Grid.box(8, 1.0), 0.1), torch.zeros(1, 1, 8))
