"""The word Equation: every equation keeps these laws. A new one adds its name to CASES."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest
import torch

from slipstream.equations import (
    ActiveSuspension,
    Advection,
    AdvectionDiffusion,
    AllenCahn,
    Autograd,
    Burgers,
    BurgersLaw,
    CahnHilliard,
    CellularStirring,
    DampedWave,
    DiagonalForcing,
    Diffusion,
    Equation,
    FiniteDifferences,
    FisherKPP,
    GrayScott,
    KleinGordon,
    KortewegDeVries,
    KuramotoSivashinsky,
    KuramotoSivashinskyFront,
    LinearElasticity,
    NavierStokes,
    NonlinearDiffusion,
    Schroedinger,
    ShallowWater,
    ShearForcing,
    Spectral,
    StirredScalar,
    SwiftHohenberg,
    TransportLaw,
    VorticityFlow,
    parse,
)
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.pretrained import describe, rebuild
from slipstream.solvers.schemes import act

GRAY_SCOTT = "a_t = Da*laplace(a) - a*b**2 + F*(1 - a); b_t = Db*laplace(b) + a*b**2 - (F + k)*b"
VORTICITY = "w_t = nu*laplace(w) - m*w + dy(inverse_laplace(w))*w_x - dx(inverse_laplace(w))*w_y - 1.4*cos(2*y)"

CASES: dict[str, tuple[Callable[[], Equation], int]] = {
    "burgers-1d": (lambda: Burgers(0.05), 1),
    "burgers-2d": (lambda: Burgers(0.05, num_dims=2), 2),
    "burgers-law": (lambda: BurgersLaw(0.05), 1),
    "vorticity": (lambda: VorticityFlow(0.02), 2),
    "vorticity-sheared": (lambda: VorticityFlow(0.02, drag=0.1, forcing=ShearForcing(2.0, 0.7)), 2),
    "vorticity-diagonal": (lambda: VorticityFlow(0.02, forcing=DiagonalForcing()), 2),
    "advection": (lambda: Advection((0.7, -0.4), 2), 2),
    "advection-diffusion": (lambda: AdvectionDiffusion((0.7, -0.4, 0.2), 0.3, 3), 3),
    "transport-law": (lambda: TransportLaw((0.7, -0.4), 0.3, 2), 2),
    "diffusion": (lambda: Diffusion(0.3, 2), 2),
    "kdv": (lambda: KortewegDeVries(0.3, 2.0), 1),
    "kuramoto-sivashinsky": (lambda: KuramotoSivashinsky(0.9, 1.1), 1),
    "kuramoto-sivashinsky-front": (lambda: KuramotoSivashinskyFront(0.9, 1.1), 2),
    "fisher": (lambda: FisherKPP(0.1, 0.8), 1),
    "allen-cahn": (lambda: AllenCahn(0.1, 0.8, 2), 2),
    "gray-scott": (lambda: GrayScott(0.04, 0.06, 0.2, 0.1), 2),
    "swift-hohenberg": (lambda: SwiftHohenberg(0.3, 0.9, 0.4), 2),
    "cahn-hilliard": (lambda: CahnHilliard(0.7, 0.3), 2),
    "nonlinear-diffusion": (lambda: NonlinearDiffusion(0.1, 0.5, 0.3), 1),
    "active": (lambda: ActiveSuspension(-0.7, 0.4, 0.3, 0.1, 0.2, moments=1, sweeps=4), 2),
    "schroedinger": (lambda: Schroedinger(0.8), 1),
    "schroedinger-2d": (lambda: Schroedinger(-0.8, 0.4, 2), 2),
    "damped-wave": (lambda: DampedWave(0.8, 0.1, 2), 2),
    "klein-gordon": (lambda: KleinGordon(0.9, 0.8, 0.7, 0.1), 1),
    "shallow-water": (lambda: ShallowWater(0.1, 0.9, 1.1, 0.3), 2),
    "navier-stokes": (lambda: NavierStokes(0.1), 3),
    "stirred": (lambda: StirredScalar(CellularStirring(6.283185307179586, 1), 0.8, 0.1), 2),
    "elastic": (lambda: LinearElasticity(1.6, 0.9, 0.1, 2), 2),
    "elastic-3d": (lambda: LinearElasticity(1.6, 0.9, 0.1, 3), 3),
    "parsed-scalar": (lambda: parse("u_t = D*laplace(u) + k*u*(1 - u)", {"D": 0.1, "k": 0.8}), 1),
    "parsed-plain": (lambda: parse("u_t = -u_xx - 0.3*u_xxxx - u*u_x - 0.2*dx(sin(u))"), 1),
    "parsed-system": (lambda: parse(GRAY_SCOTT, {"Da": 0.2, "Db": 0.1, "F": 0.04, "k": 0.06}, num_dims=2), 2),
    "parsed-vector": (
        lambda: parse("v_t = nu*laplace(v) - advect(v, v) + [a*cos(y), 0.2*sin(x)]", {"nu": 0.1, "a": 0.3}),
        2,
    ),
    "parsed-waves": (lambda: parse("u_t = v; v_t = c**2*laplace(u) - u**3 - g*v", {"c": 0.8, "g": 0.1}, num_dims=2), 2),
    "parsed-nested": (
        lambda: parse(
            "u_t = D*u_xx + r*u*dx(u*u_x) - q*dot(grad(u), grad(u)) + 0.1*tanh(u)", {"D": 0.1, "r": 0.2, "q": 0.3}
        ),
        1,
    ),
    "parsed-vorticity": (lambda: parse(VORTICITY, {"nu": 0.02, "m": 0.1}), 2),
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


def calculi(equation: Equation, dims: int) -> list[Spectral]:
    """Dealiased, and as the equation is marched where that is not the same."""
    grid = Grid.box([24, 20, 18][:dims])
    return [Spectral(grid, torch.float64, dealias=dealias) for dealias in {True, equation.dealias}]


def test_structured_forms_add_up_to_the_rate(case):
    equation, dims = case
    for d in calculi(equation, dims):
        u = smooth(equation, d.grid)
        p = equation.ready({}, u)
        u_hat = d.forward(u)
        total = equation.nonlinear(u_hat, d, p)
        linear, force = equation.linear(d.grid, p), equation.force(d, p)
        total = total + (0 if linear is None else linear * u_hat) + (0 if force is None else force)
        rate = equation.rate(u, d, p)
        assert torch.allclose(d.inverse(total), rate, atol=1e-11 * float(rate.abs().max()))


def test_the_layout_of_steppers_holds_the_same_equation(case):
    equation, dims = case
    for d in calculi(equation, dims):
        u = smooth(equation, d.grid)
        p = equation.ready({}, u)
        form, force = equation.form(d), equation.force(d, p)
        y = form.forward(u)
        assert torch.allclose(form.inverse(y, None), u, atol=1e-12)
        assert torch.allclose(form.from_half(d.forward(u)), y, atol=1e-9)
        linear = equation.linear(d.grid, p)
        if form.linear is not None:
            linear = form.linear(p)
        elif linear is not None:
            linear = form.from_half(linear)
        total = form.nonlinear(y, p)
        total = total + (0 if linear is None else act(linear, y)) + (0 if force is None else form.from_half(force))
        rate = d.truncate(equation.rate(u, d, p))
        assert torch.allclose(d.truncate(form.inverse(total, None)), rate, atol=1e-11 * float(rate.abs().max()))
        fine = Grid.box([36, 30, 27][:dims])
        assert torch.allclose(form.inverse(y, fine), d.inverse(d.forward(u), fine), atol=1e-12)


def test_autograd_at_points_gives_the_spectral_rate(case):
    equation, dims = case
    grid = Grid.box([12, 10, 10][:dims])
    points = grid.coordinates(torch.float64).flatten(1)[None].requires_grad_()
    generator = torch.Generator().manual_seed(2)
    waves = torch.randint(-1, 2, (len(equation.channels), 3, dims), generator=generator).double()
    phases = 6 * torch.rand(len(equation.channels), 3, 1, generator=generator, dtype=torch.float64)
    u = torch.sin(waves @ points[0] + phases).sum(1)[None]
    here = Autograd(points)
    p = equation.ready({}, u)
    if "inverse_laplace(" in getattr(equation, "text", inspect.getsource(type(equation))):
        if not getattr(equation, "forcing", None):
            with pytest.raises(InputError, match="channel of its own"):
                equation.rate(u, here, p)
        return
    n = 24 if dims > 1 else 192
    exact = Grid.box(n, num_dims=dims)
    d = Spectral(exact, torch.float64)
    coarse = Spectral(grid, torch.float64)
    on_exact = coarse.inverse(coarse.forward(u.detach().unflatten(-1, grid.shape)), exact)
    rate = d.inverse(d.forward(equation.rate(on_exact, d, equation.ready({}, on_exact))), exact)
    at = torch.fft.rfftn(rate, dim=d.axes, norm="forward")
    k = exact.wavenumbers(torch.float64)
    phase = sum(q[..., None] * x for q, x in zip(k, points[0].detach(), strict=True))
    weight = torch.where((k[-1] > 0) & (k[-1] < n // 2), 2.0, 1.0)
    values = torch.einsum("bcm,mp->bcp", (at * weight).flatten(2), torch.exp(1j * phase).flatten(0, -2)).real
    assert torch.allclose(equation.rate(u, here, p).detach(), values, atol=1e-10)


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
    fast = dims == 3
    assert torch.autograd.gradcheck(lambda v: equation.rate(v, d, p), (u,), atol=1e-5, nondet_tol=0.0, fast_mode=fast)
    assert torch.autograd.gradcheck(
        lambda v: torch.view_as_real(equation.nonlinear(d.forward(v), d, p)), (u,), atol=1e-5, fast_mode=fast
    )


def test_each_run_has_its_own_parameters(case):
    equation, dims = case
    grid = Grid.box(12, num_dims=dims)
    u = smooth(equation, grid, 2, 3.0)
    d = Spectral(grid, torch.float64)
    for name in equation.parameters:
        value = torch.tensor([0.01, 0.3], dtype=torch.float64)
        both = equation.rate(u, d, equation.ready({name: value}, u))
        for i in range(2):
            alone = equation.rate(u[i : i + 1], d, equation.ready({name: value[i : i + 1]}, u[i : i + 1]))
            assert torch.allclose(both[i : i + 1], alone)
        assert not torch.allclose(both, equation.rate(u, d, equation.ready({name: value.flip(0)}, u)))


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
