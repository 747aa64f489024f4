"""WithinWindow: the calls that a window has frames for."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from slipstream.errors import InputError
from slipstream.objectives import Curriculum, PhysicsResidual, Supervised, WithinWindow
from slipstream.operators import UNet
from slipstream.problems import KolmogorovFlow
from slipstream.steppers import Autoregressive
from slipstream.trajectories import Window

PROBLEM = KolmogorovFlow(num_points=16, reynolds=30, interval=0.05, warm_up=0.5)


@pytest.fixture(scope="module")
def window():
    known = PROBLEM.simulate(2, 9, seed=1)
    return Window(known.frames, known.grid, known.interval, known.parameters)


def stepper(horizon: int = 1) -> Autoregressive:
    torch.manual_seed(0)
    return Autoregressive(partial(UNet, hidden_channels=4, levels=1), PROBLEM, horizon=horizon)


def total(objective, module, window) -> torch.Tensor:
    return objective(module, window, torch.Generator()).total


@pytest.mark.parametrize("horizon", [1, 2])
@pytest.mark.parametrize(("frames", "calls"), [(0, 1), (1, 2), (2, 3), (3, 3)])
def test_it_is_the_objective_with_as_many_calls_as_fit(window, horizon, frames, calls):
    """Also with a frame too many for a whole call, and never with more calls than its own."""
    module, objective = stepper(horizon), WithinWindow(Supervised(calls=3))
    for extra in range(horizon):
        length = min(1 + horizon * (frames + 1) + extra, 9)
        part = replace(window, frames=window.frames[:, :length])
        expected = total(Supervised(calls=calls), module, part)
        assert torch.equal(total(objective, module, part), expected)
    assert objective.frames_needed(module) == (1, 3 * horizon)
    assert objective.objective.calls == 3, "and the objective itself is as it was"


def test_a_window_without_a_single_call_is_refused(window):
    with pytest.raises(InputError, match=r"1 \+ 1 frames; got 1"):
        total(WithinWindow(Supervised(calls=3)), stepper(), replace(window, frames=window.frames[:, :1]))


def test_without_labels_it_is_the_objective_itself(window):
    module = stepper()
    one, other = (
        total(o, module, window)
        for o in (WithinWindow(PhysicsResidual(calls=2, trusted=1.0)), PhysicsResidual(calls=2, trusted=1.0))
    )
    assert torch.equal(one, other)


def test_steppers_of_one_interval_are_not_trained_on_others(window):
    led = replace(window, parameters={**window.parameters, "lead_time": torch.tensor([0.05, 0.1])})
    with pytest.raises(InputError, match=r"Autoregressive steps 0\.05 and nothing else"):
        total(WithinWindow(), stepper(), led)


def test_an_objective_without_calls_is_refused():
    with pytest.raises(InputError, match="unrolls no fixed number of calls"):
        WithinWindow(Curriculum(Supervised()))
