"""The word Objective: laws of everything that is minimised. A new one adds its name to CASES."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from slipstream.equations import FiniteDifferences
from slipstream.errors import InputError
from slipstream.objectives import (
    Curriculum,
    GroupedL1,
    Noise,
    Objective,
    PhysicsResidual,
    PushForward,
    RelativeH1,
    RelativeL2,
    RelativeSpectral,
    Supervised,
    WithinWindow,
)
from slipstream.operators import UNet
from slipstream.problems import KolmogorovFlow, Recorded
from slipstream.steppers import Autoregressive, Staggered
from slipstream.trajectories import Window

PROBLEM = KolmogorovFlow(num_points=16, reynolds=30, interval=0.05, warm_up=0.5)
UNET = partial(UNet, hidden_channels=8, levels=2)

CASES: dict[str, Objective] = {
    "supervised": Supervised(),
    "supervised-unrolled": Supervised(RelativeL2(squared=True), calls=2),
    "supervised-h1": Supervised(RelativeH1()),
    "residual": PhysicsResidual(trusted=1.0),
    "residual-integrated": PhysicsResidual(integrated=True, trusted=1.0),
    "residual-unrolled": PhysicsResidual(calls=2, trusted=1.0),
    "residual-differences": PhysicsResidual(calculus=partial(FiniteDifferences, accuracy=4), trusted=1.0),
    "residual-preconditioned": PhysicsResidual(precondition=True, trusted=1.0),
    "supervised-bands": Supervised(RelativeSpectral()),
    "supervised-checkpointed": Supervised(calls=2, checkpoint=True),
    "pushed": PushForward(Supervised(), calls=2),
    "pushed-residual": PushForward(PhysicsResidual(trusted=1.0)),
    "pushed-and-plain": Supervised() + PushForward(Supervised()),
    "noisy": Noise(Supervised(), scale=0.01),
    "curriculum": Curriculum(Supervised(), calls=(1, 3)),
    "within-window": WithinWindow(Supervised(calls=2)),
    "supervised-grouped": Supervised(GroupedL1()),
    "sum": 0.5 * PhysicsResidual(trusted=1.0) + Supervised(),
}


@pytest.fixture(params=CASES, ids=str)
def objective(request):
    return CASES[request.param]


@pytest.fixture(scope="module")
def data():
    return PROBLEM.simulate(2, 10, seed=1)


@pytest.fixture(params=["autoregressive", "staggered"])
def stepper(request):
    torch.manual_seed(0)
    made = (
        Autoregressive(UNET, PROBLEM)
        if request.param == "autoregressive"
        else Staggered(UNET, PROBLEM, space=2, time=2)
    )
    for p in made.parameters():
        torch.nn.init.normal_(p, std=0.05)
    return made


def window(objective, stepper, data):
    past, future = objective.frames_needed(stepper)
    return Window(data.frames[:, : past + future], data.grid, data.interval, data.parameters)


def test_it_is_a_finite_positive_scalar_with_named_parts(objective, stepper, data, generator):
    loss = objective(stepper, window(objective, stepper, data), generator)
    assert loss.total.shape == ()
    assert float(loss.total.detach()) > 0
    assert loss.parts
    assert all(v.shape == () and not v.requires_grad for v in loss.parts.values())


def test_it_reaches_every_weight(objective, stepper, data, generator):
    objective(stepper, window(objective, stepper, data), generator).total.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in stepper.parameters())


def test_it_tells_what_the_stepper_made(objective, stepper, data, generator):
    w = window(objective, stepper, data)
    outputs = objective(stepper, w, generator).outputs
    first = stepper(w.frames[:, : stepper.history], w.parameters)
    away = 0.05 if isinstance(objective, Noise) else 0.0  # it was given noisy frames, and makes nearly the same of them
    assert torch.allclose(outputs[:, : stepper.horizon], first, atol=1e-8 + away * float(first.detach().std()))


def test_equal_generators_give_equal_losses(objective, stepper, data):
    w = window(objective, stepper, data)
    a, b = (objective(stepper, w, torch.Generator().manual_seed(5)).total for _ in range(2))
    assert torch.equal(a, b)


def test_descent_lowers_it(objective, stepper, data, generator):
    w = window(objective, stepper, data)
    optimiser = torch.optim.Adam(stepper.parameters(), lr=1e-3)
    first = float(objective(stepper, w, generator).total)
    for _ in range(12):
        optimiser.zero_grad()
        loss = objective(stepper, w, generator).total
        loss.backward()
        optimiser.step()
    assert float(objective(stepper, w, generator).total) < first


def test_objectives_add_and_scale(stepper, data, generator):
    a, b = Supervised(), PhysicsResidual(trusted=1.0)
    w = window(a + b, stepper, data)
    total = (2.0 * (a + 0.25 * b))(stepper, w, generator).total
    parts = 2 * a(stepper, w, generator).total + 0.5 * b(stepper, w, generator).total
    assert torch.allclose(total, parts)


def test_label_free_objectives_ask_for_no_later_frames(stepper):
    assert PhysicsResidual().frames_needed(stepper) == (stepper.history, 0)
    assert Supervised(calls=3).frames_needed(stepper) == (stepper.history, 3 * stepper.horizon)


def test_the_truth_leaves_a_small_residual_and_persistence_a_large_one(data):
    class Known(torch.nn.Module):
        history, horizon, problem = 1, 1, PROBLEM

        def __init__(self, answer):
            super().__init__()
            self.answer = answer

        def start(self, frames, parameters):
            return frames

        def advance(self, state, parameters, generator=None):
            return state, self.answer

    w = Window(data.frames[:, :1], data.grid, data.interval, data.parameters)
    true = PhysicsResidual(trusted=1.0)(Known(data.frames[:, 1:2]), w, torch.Generator()).total
    lazy = PhysicsResidual(trusted=1.0)(Known(data.frames[:, :1]), w, torch.Generator()).total
    assert float(true) < 0.01 * float(lazy)
    assert 0.2 < float(lazy) < 5


def test_the_integrated_residual_sums_what_pairs_leave(data, generator):
    torch.manual_seed(0)
    stepper = Staggered(UNET, PROBLEM, space=2, time=2)
    w = window(PhysicsResidual(), stepper, data)
    loss = PhysicsResidual(integrated=True, trusted=1.0)(stepper, w, generator)
    frames = torch.cat([w.frames[:, -1:], stepper(w.frames, w.parameters)], dim=1)
    left = PROBLEM.residual(frames, w.parameters) * PROBLEM.interval / PROBLEM.statistics.increment[0]
    expected = torch.stack([left[:, 0], left[:, 0] + left[:, 1]]).square().mean()
    assert torch.allclose(loss.total, expected, rtol=1e-4)


def test_an_interval_that_the_reference_cannot_carry_is_refused_with_one_that_would_do(data, generator):
    slow = KolmogorovFlow(num_points=32, reynolds=10, interval=0.8, warm_up=1.0)
    stepper = Autoregressive(UNET, slow)
    w = Window(torch.zeros(1, 1, 1, 32, 32), slow.grid, slow.interval)
    with pytest.raises(InputError, match=r"interval=0\.\d+ would do"):
        PhysicsResidual()(stepper, w, generator)
    with pytest.raises(InputError, match=r"interval=0\.\d+ would do"):
        (0.5 * PhysicsResidual() + Supervised()).check(stepper)
    Supervised().check(stepper)


def test_a_problem_without_equation_is_refused(data, generator):
    stepper = Autoregressive(UNET, Recorded.of(data))
    with pytest.raises(InputError, match="needs a problem with an equation"):
        PhysicsResidual()(stepper, window(PhysicsResidual(), stepper, data), generator)


def test_windows_too_short_are_refused(stepper, data, generator):
    with pytest.raises(InputError, match="needs windows"):
        Supervised(calls=2)(stepper, Window(data.frames[:, :2], data.grid, data.interval), generator)


def test_norms_are_relative_and_h1_sees_the_small_scales():
    grid = PROBLEM.grid
    x, _ = grid.coordinates()
    u = torch.sin(x)[None, None, None]
    assert float(RelativeL2()(1.1 * u, u, grid)) == pytest.approx(0.1, rel=1e-4)
    assert float(RelativeL2(squared=True)(1.1 * u, u, grid)) == pytest.approx(0.01, rel=1e-4)
    rough = u + 0.1 * torch.sin(5 * x)
    assert float(RelativeL2()(rough, u, grid)) == pytest.approx(0.1, rel=1e-3)
    assert float(RelativeH1()(rough, u, grid)) == pytest.approx(0.1 * (26 / 2) ** 0.5, rel=1e-3)
