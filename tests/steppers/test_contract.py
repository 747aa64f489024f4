"""The word Stepper: laws that everything which advances a state in time keeps. A new one adds its name to CASES."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch

from slipstream.compression import Accelerated, Batched, ChannelsLast
from slipstream.errors import ShapeError, UnstableStep
from slipstream.operators import FNO, UNet
from slipstream.pretrained import describe
from slipstream.problems import KolmogorovFlow, Problem
from slipstream.solvers import ETDRK4, LinesStepper, OdeStepper, SpectralStepper
from slipstream.stepper import Stepper
from slipstream.steppers import (
    Autoregressive,
    CommonChannels,
    Held,
    LearnedStepper,
    LowPass,
    Multiresolution,
    Persistence,
    Staggered,
    rollout,
    wrap,
)

PROBLEM = KolmogorovFlow(num_points=16, reynolds=(4.0, 8.0), interval=0.05, warm_up=0.5)
UNET = partial(UNet, hidden_channels=8, levels=2)


def flow(problem: Problem) -> Stepper:
    return SpectralStepper(problem.equation, problem.grid, problem.interval, 4, ETDRK4, guard=False)


CASES: dict[str, Callable[[Problem], Stepper]] = {
    "spectral": flow,
    "lines": lambda p: LinesStepper(p.equation, p.grid, p.interval, 8),
    "ode": lambda p: OdeStepper(p.equation, p.interval, rtol=1e-4, atol=1e-4, grid=p.grid),
    "autoregressive": partial(Autoregressive, UNET),
    "autoregressive-fno": partial(Autoregressive, partial(FNO, n_modes=(4, 4), hidden_channels=8, n_layers=2)),
    "autoregressive-history": partial(Autoregressive, UNET, history=3, horizon=2),
    "staggered-space": partial(Staggered, UNET, space=2),
    "staggered-chains": partial(Staggered, UNET, space=(2, 1), time=3),
    "staggered-fan": partial(Staggered, UNET, space=2, time=3, fan=True),
    "staggered-shared": partial(Staggered, UNET, space=2, time=2, share=True),
    "staggered-grouped": partial(Staggered, UNET, space=2, time=2, execution="grouped"),
    "multiresolution": partial(Multiresolution, UNET),
    "multiresolution-lead-times": partial(Multiresolution, UNET, history=2, longest=4),
    "common-channels": partial(CommonChannels, UNET, longest=4),
    "low-pass": lambda p: LowPass(Autoregressive(UNET, p), 0.75),
    "accelerated": lambda p: Accelerated(Autoregressive(UNET, p), [ChannelsLast(), Batched(2)]),
    "held": lambda p: Held(Autoregressive(UNET, p, history=2), torch.arange(256).reshape(16, 16) % 7 > 0),
    "persistence": lambda p: Persistence(p.grid, p.interval, p.channels),
    "wrapped": lambda p: wrap(lambda u: 0.9 * u, p.interval, p.channels),
}


@pytest.fixture(scope="module")
def data():
    return PROBLEM.simulate(3, 8, seed=1)


@pytest.fixture(params=CASES, ids=str)
def stepper(request):
    torch.manual_seed(0)
    made = CASES[request.param](PROBLEM)
    for parameter in made.parameters():  # operators may start at zero change
        torch.nn.init.normal_(parameter, std=0.05)
    return made


def known(stepper, data):
    return data[:, : max(1, stepper.history)]


def test_it_gives_horizon_frames_a_call_in_physical_layout(stepper, data):
    past = known(stepper, data)
    state, new = stepper.advance(stepper.start(past.frames, past.parameters), past.parameters)
    assert new.shape == (3, stepper.horizon, 1, 16, 16)
    _, again = stepper.advance(state, past.parameters)
    assert again.shape == new.shape
    assert torch.isfinite(again).all()


def test_rollout_gives_exactly_the_steps_asked_for_and_times_follow(stepper, data):
    past = known(stepper, data)
    for steps in (1, 5, 2 * stepper.horizon):
        new = rollout(stepper, past, steps)
        assert new.steps == steps
        assert float(new.times[0]) == pytest.approx(float(past.times[-1]) + stepper.interval)


def test_a_longer_rollout_begins_with_the_shorter_one(stepper, data):
    past = known(stepper, data)
    assert torch.equal(rollout(stepper, past, 4).frames, rollout(stepper, past, 9).frames[:, :4])


def test_runs_do_not_see_each_other(stepper, data):
    past = known(stepper, data)
    together = rollout(stepper, past, 4).frames
    alone = torch.cat([rollout(stepper, past[i], 4).frames for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-4)
    assert torch.allclose(rollout(stepper, past, 4, chunk=2).frames, together, atol=1e-4)


def test_it_does_not_change_what_it_was_given(stepper, data):
    past = known(stepper, data)
    before = past.frames.clone()
    state = stepper.start(past.frames, past.parameters)
    _, first = stepper.advance(state, past.parameters)
    _, second = stepper.advance(state, past.parameters)
    assert torch.equal(past.frames, before)
    assert torch.equal(first, second)


def test_gradients_reach_the_first_frames(stepper, data):
    past = known(stepper, data)
    u = past.frames.clone().requires_grad_()
    rollout(stepper, u, 2 * stepper.horizon, parameters=past.parameters, grad=True)[:, -1].square().sum().backward()
    assert torch.isfinite(u.grad).all()
    assert u.grad.abs().max() > 0


def test_rollout_keeps_no_graph_unless_asked(stepper, data):
    assert not rollout(stepper, known(stepper, data), 2).frames.requires_grad


def test_members_repeat_every_run(stepper, data):
    past = known(stepper, data)
    two = rollout(stepper, past, 3, members=2)
    assert two.runs == 6
    assert torch.allclose(two.frames[::2], two.frames[1::2], atol=1e-5)
    assert torch.equal(two.parameters["viscosity"][::2], past.parameters["viscosity"])


def test_wrong_layout_and_wrong_grid_are_refused(stepper, data):
    with pytest.raises(ShapeError):
        stepper.start(data.frames[:, 0], data.parameters)
    if stepper.grid is not None and not isinstance(stepper, Multiresolution):  # it takes any grid
        with pytest.raises(ShapeError, match="16"):
            rollout(
                stepper, torch.zeros(1, max(1, stepper.history), 1, 12, 12), 1, parameters={"viscosity": torch.ones(1)}
            )


def test_a_rollout_that_leaves_finite_numbers_says_at_which_step(stepper, data):
    past = known(stepper, data)
    calls = 0
    advance = stepper.advance

    def break_down(state, parameters, generator=None):
        nonlocal calls
        calls += 1
        state, new = advance(state, parameters, generator)
        return state, new if calls < 3 else new * float("inf")

    stepper.advance = break_down
    with pytest.raises(UnstableStep, match=f"step {2 * stepper.horizon + 1} "):
        rollout(stepper, past, 5 * stepper.horizon)


def test_learned_steppers_are_saved_and_read_back_bit_for_bit(stepper, data, tmp_path):
    if not isinstance(stepper, LearnedStepper):
        return
    stepper.save_pretrained(tmp_path / "model")
    again = Stepper.from_pretrained(tmp_path / "model")
    assert type(again) is type(stepper)
    assert describe(again) == describe(stepper)
    past = known(stepper, data)
    assert torch.equal(rollout(again, past, 4).frames, rollout(stepper, past, 4).frames)


def test_learned_steppers_see_their_parameters(stepper, data):
    if not isinstance(stepper, LearnedStepper):
        return
    past = known(stepper, data)
    other = {"viscosity": past.parameters["viscosity"].flip(0)}
    assert not torch.equal(rollout(stepper, past, 2).frames, rollout(stepper, past, 2, parameters=other).frames)


def test_missing_starting_frames_are_made_by_the_solver_and_counted(stepper, data):
    if stepper.history < 2:
        return
    short = rollout(stepper, data[:, :1], 8)
    missing = stepper.history - 1
    assert short.starter_steps == missing * PROBLEM.fast_setting.substeps
    true = data.frames[:, 1 : 1 + missing]
    # The fast solver keeps 5 of 8 wavenumbers on this small grid: near the truth, not on it.
    assert (short.frames[:, :missing] - true).norm() < 0.5 * (data.frames[:, :1] - true).norm()
    stepper.starter = None
    with pytest.raises(ShapeError, match="needs"):
        rollout(stepper, data[:, :1], 2)
