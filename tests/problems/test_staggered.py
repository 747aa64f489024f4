"""Problems on staggered grids: what the laws of every problem do not say."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from slipstream.errors import InputError
from slipstream.operators import UNet
from slipstream.pretrained import describe, rebuild
from slipstream.problems import LidDrivenCavity, RisingPlume
from slipstream.problems.problem import Setting
from slipstream.steppers import Autoregressive, rollout

CASES = {
    "cavity": lambda: LidDrivenCavity(num_points=16, reynolds=(20, 50), eddies=2, warm_up=0.0),
    "plume": lambda: RisingPlume(num_points=8, warm_up=0.0),
    "plume-3d": lambda: RisingPlume(num_points=8, num_dims=3, warm_up=0.0),
}


@pytest.fixture(params=CASES, ids=str, scope="module")
def problem(request):
    return CASES[request.param]()


@pytest.fixture(scope="module")
def data(problem):
    frames, parameters = problem.sample(2, seed=1)
    with torch.no_grad():
        return problem.trajectories(problem.march(problem.solver(), frames.double(), parameters, 4), parameters)


def test_frames_are_free_of_divergence_from_the_first(problem, data):
    for k in range(4):
        assert problem._own.divergence(data.frames[:, k], data.parameters).abs().max() < (1e-5 if k == 0 else 1e-7)
    assert float((data.frames[:, -1] - data.frames[:, 0]).norm() / data.frames[:, -1].norm()) > 1e-2


def test_frames_of_the_solver_have_small_residuals(problem, data):
    left = problem.residual(data.frames, data.parameters)[:, 1:]
    change = (data.frames[:, 2:] - data.frames[:, 1:-1]) / problem.interval
    assert float(left.norm() / change.norm()) < 0.03


def test_runs_are_described_and_read_back(problem):
    again = rebuild(describe(problem))
    assert torch.equal(again.sample(1, seed=2)[0], problem.sample(1, seed=2)[0])


def test_learnt_frames_become_divergence_free_and_gradients_flow(problem, data):
    stepper = Autoregressive(partial(UNet, hidden_channels=4, levels=2), problem, statistics=None)
    for parameter in stepper.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    first = data.frames[:, :1].float()
    rolled = rollout(stepper, first, 2, parameters=data.parameters, grad=True)[:, -1]
    made = problem.project(rolled, data.parameters)
    rough = problem._own.divergence(rolled.detach(), data.parameters).abs().max()
    assert problem._own.divergence(made.detach(), data.parameters).abs().max() < 2e-4 * float(rough)
    assert torch.allclose(problem.project(made, data.parameters), made, atol=1e-4)
    made.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in stepper.parameters() if p.grad is not None)


def test_a_plume_above_the_middle_of_a_square_looks_alike_from_both_sides():
    problem = RisingPlume(num_points=8, num_dims=3, source=(0.5, 0.5), warm_up=0.0, interval=0.5)
    frames, parameters = problem.sample(1, seed=3)
    with torch.no_grad():
        last = problem.march(problem.solver(), frames.double(), parameters, 2)[:, -1]
    x, y, up, heat = last.unbind(1)
    assert torch.allclose(x, y.transpose(1, 2), atol=1e-8)
    assert torch.allclose(up, up.transpose(1, 2), atol=1e-8)
    assert torch.allclose(heat, heat.transpose(1, 2), atol=1e-8)
    assert torch.allclose(heat, heat.flip(1), atol=1e-8)
    warmest = heat.sum((0, 1, 2)).argmax()
    assert heat.max() > 0.1
    assert int(warmest) >= 2, "heat rises"
    assert float(x.abs().max()) > 0.02


def test_the_ladder_rises(problem):
    settings = problem.ladder()
    assert len({str(s) for s in settings}) == len(settings) >= 8
    frames, parameters = problem.sample(1, seed=1)
    if problem.grid.num_dims == 3:
        return
    finest = settings[-4]
    truth = problem.march(problem.solver(finest), frames.double(), parameters, 2)
    same = Setting(problem.num_points, problem.fast_setting.substeps, finest.scheme)
    errors = [
        float((problem.march(problem.solver(s), frames.double(), parameters, 2) - truth).norm() / truth.norm())
        for s in (settings[0], same, settings[-3])
    ]
    assert errors[0] >= errors[1] > errors[2]


def test_bad_arguments_are_refused():
    with pytest.raises(InputError, match="even num_points"):
        LidDrivenCavity(num_points=9)
    with pytest.raises(InputError, match="reynolds"):
        LidDrivenCavity(reynolds=(100, 10))
    with pytest.raises(InputError, match="swirl"):
        LidDrivenCavity(swirl=-1)
    with pytest.raises(InputError, match="multiple of 8"):
        RisingPlume(num_points=20)
    with pytest.raises(InputError, match="positive viscosity"):
        RisingPlume(viscosity=0.0)
    with pytest.raises(InputError, match="2 or 3"):
        RisingPlume(num_dims=1)
