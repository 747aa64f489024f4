"""Upscaled: a learnt law in place of the cells, and what happens outside its samples."""

from __future__ import annotations

import pytest
import torch

from slipstream.errors import InputError
from slipstream.operators import PointLaw
from slipstream.operators.law import PointwiseLaw
from slipstream.operators.rivals import PolynomialLaw, SecantLaw
from slipstream.problems import TwoScaleConduction
from slipstream.stepper import Stepper
from slipstream.steppers import Upscaled, rollout

PROBLEM = TwoScaleConduction(macro=(6, 6), micro=(8, 8))
LAWS = {
    "network": lambda: PointLaw(width=12),
    "potential": lambda: PointLaw(width=12, potential=True, terms=2),
    "polynomial": lambda: SecantLaw(PolynomialLaw(5, 1, degree=3)),
}


@pytest.fixture(scope="module")
def samples():
    return PROBLEM.law_data(500, seed=0)


@pytest.fixture(params=LAWS, scope="module")
def law(request, samples):
    torch.manual_seed(0)
    made = LAWS[request.param]()
    return made.fit(*samples, steps=14) if isinstance(made, PointLaw) else made.fit(*samples)


@pytest.fixture(scope="module")
def data():
    return PROBLEM.simulate(2, 1, seed=3)


def test_it_solves_the_problem_as_well_as_it_knows_the_law(law, data):
    new = rollout(Upscaled(law, PROBLEM), data[:, :0], 1).frames
    assert float((new - data.frames).norm() / data.frames.norm()) < 0.05


def test_a_law_that_is_the_cells_gives_the_classical_solution(data):
    class Exact(PointwiseLaw):
        def __init__(self):
            super().__init__(5)

        def linearised(self, x):
            response = PROBLEM.trusted.law()(x[:, :2], x[:, 2:])
            return response.flux, response.tangent

    stepper = Upscaled(Exact(), PROBLEM, tolerance=1e-5)
    torch.testing.assert_close(rollout(stepper, data[:, :0], 1).frames, data.frames, rtol=1e-3, atol=1e-4)


def narrowed(law):
    """Half of the gradients are outside now."""
    low, high = law.low.clone(), law.high.clone()
    law.low[:2], law.high[:2] = -0.5, 0.5
    return low, high


def test_outside_its_samples_the_cells_are_asked_and_counted(law, data):
    frames, parameters = data.frames[:, :0], data.parameters
    stepper = Upscaled(law, PROBLEM)
    inside, _ = stepper.advance(stepper.start(frames, parameters), parameters)
    assert int(inside.stats["fallbacks"]) == 0
    low, high = narrowed(law)
    try:
        state, new = stepper.advance(stepper.start(frames, parameters), parameters)
        points = 2 * 4 * 36 * int(state.stats["law_calls"])
        assert 0.1 * points < int(state.stats["fallbacks"]) < points
        assert float((new - data.frames).norm() / data.frames.norm()) < 0.03
        with pytest.raises(InputError, match="outside the samples"):
            rollout(Upscaled(law, PROBLEM, fallback=False), data[:, :0], 1)
    finally:
        law.low.copy_(low)
        law.high.copy_(high)


def test_it_is_saved_with_its_law_and_read_back_bit_for_bit(law, data, tmp_path):
    stepper = Upscaled(law, PROBLEM)
    stepper.save_pretrained(tmp_path / "model")
    again = Stepper.from_pretrained(tmp_path / "model")
    assert torch.equal(rollout(again, data[:, :0], 1).frames, rollout(stepper, data[:, :0], 1).frames)


def test_gradients_reach_the_parameters_and_agree_with_finite_differences(law, data):
    stepper = Upscaled(law, PROBLEM, tolerance=1e-9).double()
    given = {k: v[:1].double() for k, v in data.parameters.items()}
    frames = data.frames[:1, :0].double()

    def value(p):
        return stepper(frames, given | {"semi_a": p}).square().sum()

    p = given["semi_a"].clone().requires_grad_()
    value(p).backward()
    direction, h = torch.randn_like(p).detach(), 1e-5
    q = p.detach()
    difference = (value(q + h * direction) - value(q - h * direction)) / (2 * h)
    stepper.float()
    torch.testing.assert_close((p.grad * direction).sum(), difference.detach(), rtol=1e-4, atol=1e-8)


def test_runs_do_not_see_each_other(law, data):
    stepper = Upscaled(law, PROBLEM, tolerance=1e-5)
    together = rollout(stepper, data[:, :0], 1).frames
    alone = torch.cat([rollout(stepper, data[i, :0], 1).frames for i in range(2)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_laws_of_other_inputs_are_refused():
    with pytest.raises(InputError, match="4 inputs"):
        Upscaled(PointLaw(4, symmetries=((0, 1),)), PROBLEM)
