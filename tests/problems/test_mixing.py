"""A front wound up by eddies, against exact circles, traced particles, and what advection keeps."""

from __future__ import annotations

import pytest
import torch

from slipstream.equations import CellularStirring, Spectral, VortexStirring
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.problems import FlowMixing
from slipstream.solvers.lines import RK4
from slipstream.steppers import rollout


def front(x):
    return torch.tanh(2 * torch.sin(2 * torch.pi * x[1] + 0.3))[None, None, None]


def exact(problem, turn):
    return front(problem.stirring.origin(problem.grid.coordinates(torch.float64), turn))


def test_the_vortex_carries_a_front_exactly_as_circles_turn():
    errors = []
    for n in (32, 48, 64):
        problem = FlowMixing(num_points=n, strength=2.0, diffusivity=0.0, cells=0, interval=0.1)
        u = rollout(problem.reference(), front(problem.grid.coordinates(torch.float64)), 10)[:, -1:]
        errors.append(float((u - exact(problem, 2.0)).norm() / exact(problem, 2.0).norm()))
    assert errors[2] < 1e-4
    assert errors[2] < errors[1] / 4 < errors[0] / 16  # faster than any power: spectral


def test_the_front_of_eddies_is_where_traced_particles_came_from():
    problem = FlowMixing(num_points=64, strength=4.0, diffusivity=0.0, interval=0.1)
    x, dt = problem.grid.coordinates(torch.float64), 0.005
    for _ in range(60):
        x = RK4.step(x, lambda q: -4.0 * problem.stirring.velocity(q), dt)
    u = rollout(problem.reference(), front(problem.grid.coordinates(torch.float64)), 3)[:, -1:]
    assert float((u - front(x)).norm() / u.norm()) < 5e-4


@pytest.mark.parametrize("stirring", [CellularStirring(2.0, 2), VortexStirring(2.0)], ids=["cells", "vortex"])
def test_the_flow_has_no_divergence_and_unit_turning(stirring):
    grid = Grid.box(96, 2.0, num_dims=2)
    v = stirring.velocity(grid.coordinates(torch.float64))[None]
    d = Spectral(grid, torch.float64)
    assert float(d.div(v).abs().max()) < 1e-5
    assert float(d.curl(v).abs().max()) == pytest.approx(2.0, rel=1e-3)  # a solid turning at 1/s has vorticity 2


def test_more_cells_are_smaller_eddies():
    problem = FlowMixing(num_points=48, cells=3)
    v = problem.stirring.velocity(problem.grid.coordinates(torch.float64))
    assert torch.allclose(v.roll(16, -1), v)
    assert torch.allclose(v.roll(16, -2), v)
    assert not torch.allclose(v.roll(8, -1), v)


def test_without_diffusion_mean_and_variance_stay_and_with_it_variance_falls_as_the_gradient_says():
    problem = FlowMixing(num_points=48, strength=4.0, diffusivity=(1e-4, 2e-3), interval=0.02)
    start = front(problem.grid.coordinates(torch.float64)).expand(2, -1, -1, -1, -1)
    kappa = torch.tensor([0.0, 2e-3], dtype=torch.float64)
    u = rollout(problem.reference(), start, 2, parameters={"diffusivity": kappa})
    mean, square = u.mean((2, 3, 4)), u.square().mean((2, 3, 4))
    assert torch.allclose(mean, start.mean((2, 3, 4)).expand(2, 2), atol=1e-12)
    assert float((square[0] - start[0].square().mean()).abs().max()) < 1e-8
    middle = problem.calculus(u).grad(u[1:, 0])
    lost = -2 * 2e-3 * middle.square().sum(1).mean()
    measured = (square[1, 1] - start[1].square().mean()) / 0.04
    assert float(measured) == pytest.approx(float(lost), rel=0.01)


def test_gradients_with_respect_to_the_strength_agree_with_differences():
    problem = FlowMixing(num_points=16, interval=0.02, sharpness=0.5)
    start = front(problem.grid.coordinates(torch.float64))

    def value(s):
        parameters = {"strength": s, "diffusivity": torch.tensor([1e-3], dtype=torch.float64)}
        return (
            rollout(problem.solver(), start, 3, parameters=parameters, grad=True)[:, -1]
            .mul(torch.linspace(0, 1, 16).double())
            .sum()
        )

    s = torch.tensor([3.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(value(s), s)
    h = 1e-4
    assert float((value(s.detach() + h) - value(s.detach() - h)) / (2 * h)) == pytest.approx(float(slope), rel=1e-5)


def test_bad_arguments_are_refused():
    with pytest.raises(InputError, match="cells from 0"):
        FlowMixing(num_points=16, cells=3)
    with pytest.raises(InputError, match="strength as a positive number"):
        FlowMixing(strength=0.0)
