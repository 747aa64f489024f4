"""Fit: modules that fit themselves, beside those that descend."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from slipstream.data import LawSamples
from slipstream.errors import InputError
from slipstream.objectives import Own
from slipstream.operators import PolynomialLaw, SecantLaw
from slipstream.problems import TwoScaleConduction
from slipstream.steppers import Upscaled
from slipstream.training import Fit, train

PROBLEM = TwoScaleConduction(macro=(4, 4), micro=(6, 6))


def law(degree: int = 2) -> Upscaled:
    return Upscaled(SecantLaw(PolynomialLaw(5, 1, degree)), PROBLEM)


def test_one_step_of_the_loop_is_the_whole_fit(tmp_path):
    stepper, samples = law(), LawSamples(PROBLEM, 200, seed=1)
    training = train(stepper, samples, Own(), steps=1, update=Fit(), show=False, folder=tmp_path)
    expected = law()
    expected.law.fit(*PROBLEM.law_data(200, seed=1))
    assert all(torch.equal(a, b) for a, b in zip(stepper.buffers(), expected.buffers(), strict=True))
    (row,) = training.history
    assert row["fitted"] < 0.2 * row["total"]
    again = train(law(), samples, Own(), steps=1, update=Fit(), show=False, folder=tmp_path)
    assert again.steps == 1


def test_a_module_that_cannot_fit_itself_is_refused():
    with pytest.raises(InputError, match=r"Linear cannot fit itself.*Descent"):
        Fit().prepare(nn.Linear(2, 2))


def test_own_needs_a_training_law_and_samples_of_it(generator):
    with pytest.raises(InputError, match="no training law of its own"):
        Own().check(nn.Linear(2, 2))
    window = LawSamples(PROBLEM, 40).next(generator)
    with pytest.raises(InputError, match="LawSamples"):
        law().fit(type(window)(window.frames, window.grid, 0.0))


def test_batches_of_samples_are_drawn_by_the_generator_alone():
    a, b = (LawSamples(PROBLEM, 50, seed=2, batch=8) for _ in range(2))
    g, h = (torch.Generator().manual_seed(0) for _ in range(2))
    for _ in range(3):
        one, other = a.next(g), b.next(h)
        assert one.parameters["law_inputs"].shape == (8, 5)
        assert torch.equal(one.parameters["law_outputs"], other.parameters["law_outputs"])
    with pytest.raises(InputError, match="batch"):
        LawSamples(PROBLEM, 5, batch=6)
    with pytest.raises(InputError, match="samples was 50"):
        LawSamples(PROBLEM, 51, seed=2, batch=8).load_state_dict(a.state_dict())
