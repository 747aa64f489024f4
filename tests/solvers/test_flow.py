"""Two-dimensional flow: exact solutions, budgets, symmetries, gradients."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

from slipstream.equations import FiniteDifferences, ShearForcing, Spectral, VorticityFlow
from slipstream.errors import InputError, UnstableStep
from slipstream.grids import Grid
from slipstream.problems import KolmogorovFlow
from slipstream.solvers import ARS443, CNRK2, ETDRK2, ETDRK4, LinesStepper, SpectralStepper
from slipstream.solvers import spectral as module

GRID = Grid.box(32, num_dims=2)


def vortices(n: int = 32, batch: int = 1, strength: float = 3.0, highest: float = 5.0) -> torch.Tensor:
    """Random smooth vorticity, frames (batch, 1, 1, n, n), float64."""
    torch.manual_seed(3)
    d = Spectral(Grid.box(n, num_dims=2), torch.float64)
    w = d.inverse(
        (d.square > 0) * (d.square.sqrt() <= highest) * d.forward(torch.randn(batch, 1, n, n, dtype=torch.float64))
    )
    return (strength * w / w.std())[:, None]


def march(stepper, frames, parameters=None, calls=1):
    state = stepper.start(frames, parameters or {})
    for _ in range(calls):
        state, new = stepper.advance(state, parameters or {})
    return new


@pytest.mark.parametrize("scheme", [ETDRK2, ETDRK4], ids=lambda s: s.name)
def test_taylor_green_decays_exactly(scheme):
    nu, mu = 0.05, 0.2
    x, y = GRID.coordinates(torch.float64)
    w = (2 * torch.cos(2 * x) * torch.cos(2 * y))[None, None, None]
    new = march(SpectralStepper(VorticityFlow(nu, mu), GRID, 0.3, 4, scheme), w, calls=3)
    assert torch.allclose(new, w * math.exp(-(8 * nu + mu) * 0.9), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scheme", [ETDRK2, ETDRK4, CNRK2, ARS443], ids=lambda s: s.name)
def test_turbulence_converges_at_the_order_of_the_scheme(scheme):
    flow = VorticityFlow(0.02, 0.1, ShearForcing(2.0))

    def end(s, n):
        return march(SpectralStepper(flow, GRID, 0.4, n, s, guard=False), vortices())

    exact = end(ETDRK4, 256)
    errors = [float((end(scheme, n) - exact).norm()) for n in (16, 32)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(scheme.order, abs=0.2)


def test_energy_and_enstrophy_fall_by_what_viscosity_and_drag_take():
    flow = VorticityFlow(0.01, 0.3, ShearForcing(2.0))
    w = vortices()
    d = Spectral(GRID, torch.float64)
    p = flow.ready({}, w[:, 0])
    force = flow.forcing.curl(GRID.coordinates(torch.float64))
    psi = -d.inverse_laplace(w[:, 0])
    h = 1e-3
    stepper = SpectralStepper(flow, GRID, h, 1, ETDRK4)
    state, first = stepper.advance(stepper.start(w, {}), {})
    _, second = stepper.advance(state, {})
    mid = first[:, 0]
    psi = -d.inverse_laplace(mid)
    budget = {
        "energy": -0.01 * (mid**2).mean() - 0.3 * (psi * mid).mean() + (psi * force).mean(),
        "enstrophy": -0.01 * (d.grad(mid) ** 2).sum(1).mean() - 0.3 * (mid**2).mean() + (mid * force).mean(),
    }
    for name, value in flow.invariants().items():
        slope = (value(second[:, 0], d, p) - value(w[:, 0], d, p)) / (2 * h)
        assert float(slope) == pytest.approx(float(budget[name]), rel=1e-4)


def test_inviscid_flow_keeps_energy_and_enstrophy():
    flow = VorticityFlow(0.0)
    d = Spectral(GRID, torch.float64)
    w = vortices(highest=4.0)
    new = march(SpectralStepper(flow, GRID, 0.2, 40, ETDRK4), w)
    for value in flow.invariants().values():
        assert float(value(new[:, 0], d, {})) == pytest.approx(float(value(w[:, 0], d, {})), rel=1e-7)
    assert (new - w).norm() / w.norm() > 0.1


def shift(w):
    return w.roll((5, -3), (-2, -1))


def turn(w):
    return torch.rot90(w, 1, (-2, -1)).roll(1, -2)


def mirror(w):
    return -w.flip(-1).roll(1, -1)


@pytest.mark.parametrize("symmetry", [shift, turn, mirror])
def test_symmetries_of_the_flow_are_kept(symmetry):
    stepper = SpectralStepper(VorticityFlow(0.01), GRID, 0.1, 4, ETDRK4)
    w = vortices()
    assert torch.allclose(march(stepper, symmetry(w)), symmetry(march(stepper, w)), atol=1e-11)


def test_finite_differences_agree_to_second_order():
    flow = VorticityFlow(0.05, 0.1, ShearForcing(2.0))
    errors = []
    for n in (32, 64):
        grid = Grid.box(n, num_dims=2)
        w = SpectralStepper(flow, GRID, 0.1, frames_grid=grid).calculus(vortices(highest=2.0)[:, 0])
        frames = w.inverse(w.forward(vortices(highest=2.0)[:, 0]), grid)[:, None]
        exact = march(SpectralStepper(flow, grid, 0.2, 20, ETDRK4, guard=False), frames)
        plain = march(LinesStepper(flow, grid, 0.2, 40, calculus=partial(FiniteDifferences, accuracy=2)), frames)
        errors.append(float((plain - exact).norm() / exact.norm()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.3)


def test_gradients_to_state_viscosity_and_forcing_match_finite_differences():
    grid = Grid.box(8, num_dims=2)
    stepper = SpectralStepper(VorticityFlow(0.02), grid, 0.1, 2, ETDRK2)
    w = vortices(8, highest=2.0).requires_grad_()
    nu = torch.tensor([0.05], dtype=torch.float64, requires_grad=True)
    force = torch.randn(1, 8, 8, dtype=torch.float64, requires_grad=True)

    def end(w, nu, force):
        return march(stepper, w, {"viscosity": nu, "forcing": force}, calls=2)

    assert torch.autograd.gradcheck(end, (w, nu, force), atol=1e-6)


def test_runs_march_alike_alone_together_and_in_chunks(monkeypatch):
    stepper = SpectralStepper(VorticityFlow(0.01), GRID, 0.1, 8)
    w = vortices(batch=5)
    nu = {"viscosity": torch.linspace(0.01, 0.1, 5, dtype=torch.float64)}
    together = march(stepper, w, nu)
    monkeypatch.setattr(module, "CHUNK_BYTES", 2 * 2 * 32 * 32 * 8)
    chunked = march(stepper, w, nu)
    alone = torch.cat([march(stepper, w[i : i + 1], {"viscosity": nu["viscosity"][i : i + 1]}) for i in range(5)])
    assert torch.allclose(chunked, together, atol=1e-12)
    assert torch.allclose(alone, together, atol=1e-12)


def test_changed_parameters_take_effect_between_calls():
    stepper = SpectralStepper(VorticityFlow(0.01), GRID, 0.1, 8)
    w = vortices()
    state = stepper.start(w, {})
    _, plain = stepper.advance(state, {"viscosity": torch.tensor([0.01], dtype=torch.float64)})
    _, thick = stepper.advance(state, {"viscosity": torch.tensor([0.5], dtype=torch.float64)})
    assert torch.allclose(plain, march(stepper, w))
    assert thick.square().mean() < 0.9 * plain.square().mean()


def test_another_grid_inside_gives_the_same_flow():
    flow, fine = VorticityFlow(0.05), Grid.box(64, num_dims=2)
    w = vortices(highest=4.0)
    plain = march(SpectralStepper(flow, GRID, 0.05, 8, ETDRK4), w)
    inside = march(SpectralStepper(flow, fine, 0.05, 8, ETDRK4, frames_grid=GRID), w)
    assert torch.allclose(plain, inside, rtol=1e-3, atol=1e-3 * float(w.abs().max()))
    assert inside.shape == plain.shape


def test_single_precision_follows_double():
    stepper = SpectralStepper(VorticityFlow(0.01), GRID, 0.1, 8)
    w = vortices()
    single = march(stepper, w.float())
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), march(stepper, w), atol=1e-4)


def test_a_step_beyond_the_advective_limit_is_refused_with_the_remedy():
    stepper = SpectralStepper(VorticityFlow(0.01), GRID, 1.0, 1)
    with pytest.raises(UnstableStep, match=r"substeps=\d+") as error:
        stepper.start(vortices(), {})
    needed = int(str(error.value).split("substeps=")[1].split(" ")[0])
    SpectralStepper(VorticityFlow(0.01), GRID, 1.0, needed).start(vortices(), {})


def test_bad_values_are_refused():
    stepper = SpectralStepper(VorticityFlow(0.01), GRID, 0.1, 8)
    w = vortices()
    w[0, 0, 0, 3, 3] = float("nan")
    with pytest.raises(InputError, match="non-finite"):
        stepper.start(w, {})
    with pytest.raises(InputError, match="viscosity"):
        stepper.start(vortices(), {"viscosity": torch.tensor([-1.0])})
    with pytest.raises(InputError, match="interval"):
        SpectralStepper(VorticityFlow(0.01), GRID, -0.1)


def test_constants_worked_out_once_serve_training_and_other_parameters_too():
    problem = KolmogorovFlow(num_points=16, reynolds=10.0, interval=0.05, warm_up=0.0)
    solver, u = problem.solver(), problem.sample(2, seed=0)[0]
    with torch.inference_mode():
        plain = next(solver.march(u, {}))
    x = u.clone().requires_grad_()
    again = next(solver.march(x, {}))
    again.square().sum().backward()
    assert bool(x.grad.isfinite().all())
    torch.testing.assert_close(again.detach(), plain, rtol=1e-5, atol=1e-5)
    own = next(solver.march(u, {"viscosity": torch.tensor([0.1, 0.5])}))
    torch.testing.assert_close(own[0], plain[0], rtol=1e-5, atol=1e-5)
    assert float((own[1] - plain[1]).abs().max()) > 1e-3
