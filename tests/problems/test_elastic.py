"""Elastic waves: speeds, polarisation, energy, conversion, and an independent solver."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

from slipstream.equations import LinearElasticity, Spectral
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.problems import ElasticWaves, Setting
from slipstream.solvers import ETDRK4, RK4, LinesStepper, SpectralStepper
from slipstream.steppers import rollout


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("along", "speed"), [(True, 1.7), (False, 1.0)], ids=["pressure", "shear"])
def test_plane_waves_run_at_the_speed_of_their_kind_at_any_step(dims, along, speed):
    problem = ElasticWaves(num_points=8 if dims == 3 else 16, contrast=0.0, interval=7.3, num_dims=dims, highest=2)
    k = torch.tensor([1.0, 2.0, -1.0][:dims], dtype=torch.float64)
    n = k / k.norm()
    way = n if along else torch.tensor([n[1], -n[0], 0.0][:dims], dtype=torch.float64)
    way = (way / way.norm()).reshape(-1, *[1] * dims)
    x, omega = problem.grid.coordinates(torch.float64), speed * float(k.norm())
    phase = torch.tensordot(k, x, 1)

    def wave(t):
        return torch.cat([way * torch.sin(phase - omega * t), -omega * way * torch.cos(phase - omega * t)])[None, None]

    assert torch.allclose(rollout(problem.solver(), wave(0.0), 2), torch.cat([wave(7.3), wave(14.6)], 1), atol=1e-9)


def test_energy_and_momentum_stay_in_uneven_rock_and_fall_with_damping():
    problem = ElasticWaves(num_points=32, contrast=0.3, highest=2, interval=0.1)
    frames, parameters = problem.sample(2, 1)
    d, p = problem.calculus(frames.double()), problem.equation.ready(parameters, frames[:, 0].double())
    energy, momentum = (problem.equation.invariants()[name] for name in ("energy", "momentum"))
    u = problem.march(problem.solver(Setting(32, 20, ETDRK4)), frames.double(), parameters, 9)
    # the moduli are truncated by the solver: the energy that it keeps is that of the truncated ones
    e = torch.stack([energy(d.truncate(v), d, p) for v in u.unbind(1)])
    assert float((e / e[0] - 1).abs().max()) < 2e-3
    assert float(torch.stack([momentum(v, d, p) for v in u.unbind(1)]).abs().max()) < 1e-10
    damped = {**parameters, "damping": torch.full((2,), 0.5)}
    v = problem.march(problem.solver(Setting(32, 20, ETDRK4)), frames.double(), damped, 9)
    assert torch.all(energy(v[:, -1], d, p) < 0.9 * e[0])


def test_uneven_rock_turns_pressure_waves_into_shear_and_even_rock_does_not():
    for contrast, least, most in ((0.0, 0.0, 1e-6), (0.3, 1e-2, math.inf)):
        problem = ElasticWaves(num_points=32, contrast=contrast, interval=0.5)
        x = problem.grid.coordinates(torch.float64)
        u = torch.zeros(1, 1, 4, 32, 32, dtype=torch.float64)
        u[0, 0, 0] = torch.sin(2 * x[0])
        parameters = problem.sample_parameters(1, 3)
        end = rollout(problem.solver(Setting(32, 40, ETDRK4)), u, 2, parameters=parameters)[:, -1]
        curl = problem.calculus(end).curl(end[:, :2])
        assert least <= float(curl.abs().max()) <= most


@pytest.mark.parametrize("fast", [False, True])
def test_the_exponential_solver_agrees_with_runge_kutta_on_the_plain_rate(fast):
    problem = ElasticWaves(num_points=16, contrast=0.2, highest=1, interval=0.1)
    frames, parameters = problem.sample(2, 0)
    frames = problem.calculus(frames.double()).truncate(frames[:, 0].double())[:, None]
    plain = LinesStepper(problem.equation, problem.grid, 0.1, 30, RK4, partial(Spectral))
    ours = problem.solver(Setting(16, 12 if fast else 48, ETDRK4), guard=False)
    u, v = (rollout(s, frames, 2, parameters=parameters) for s in (plain, ours))
    assert float((u - v).norm() / u.norm()) < (2e-4 if fast else 2e-6)


def test_gradients_with_respect_to_the_rock_agree_with_differences():
    problem = ElasticWaves(num_points=8, contrast=0.2, highest=1, interval=0.1)
    frames, parameters = problem.sample(1, 0)
    fixed = {k: v.double() for k, v in parameters.items()}
    way = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def value(size):
        p = {**fixed, "shear_speed": fixed["shear_speed"] + size * way * 0.05}
        return rollout(problem.solver(guard=False), frames.double(), 3, parameters=p, grad=True)[:, -1].pow(2).sum()

    size = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(value(size), size)
    h = 1e-5
    assert float((value(torch.tensor(h)) - value(torch.tensor(-h))) / (2 * h)) == pytest.approx(float(slope), rel=1e-4)


def test_bad_arguments_and_unstable_solids_are_refused():
    with pytest.raises(InputError, match=r"ratio above 1\.16"):
        ElasticWaves(ratio=1.1)
    with pytest.raises(InputError, match="2 or 3 axes"):
        LinearElasticity(num_dims=1)
    with pytest.raises(InputError, match="not stable"):
        SpectralStepper(LinearElasticity(0.9, 1.0), Grid.box(8, num_dims=2), 0.1).start(torch.zeros(1, 1, 4, 8, 8), {})
