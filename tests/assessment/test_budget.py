"""The budget check: what must be beaten, and whether it can be; on a clock that the tests move."""

from __future__ import annotations

import math

import pytest
import torch
from growth import Grower, Growth

from slipstream.assessment import speed
from slipstream.assessment.budget import WORTHWHILE, Budget, budget
from slipstream.assessment.verification import UNSEEN


def test_the_classical_time_is_of_the_cheapest_rung_that_reaches_the_error(clock):
    problem = Growth(clock)
    whole = problem.simulate(2, 11)
    errors = {s.substeps: r.error for s, r in speed.ladder(problem, whole[:, :1], whole[:, 1:])}
    for error, substeps in ((1.01 * errors[4], 4), (0.99 * errors[4], 8), (1.0, 1)):
        found = budget(problem, {"net": Grower(1.0, 1e-3, clock)}, error=error, steps=10)
        assert found.setting == f"ETDRK4 8 points, {substeps} steps"
        assert found.seconds == pytest.approx(10 * 1e-3 * substeps)
        assert found.costs == {"net": pytest.approx(1e-2)}
        assert found.ratio == pytest.approx(substeps)
        assert found.worthwhile == (substeps >= WORTHWHILE)


def test_the_cheapest_of_the_steppers_is_what_counts(clock):
    steppers = {"large": Grower(1.0, 50e-3, clock), "small": Grower(1.0, 2e-3, clock)}
    found = budget(Growth(clock), steppers, error=1e-3, steps=10)
    assert found.ratio == pytest.approx(16 / 2)
    assert "the smallest of yours (small) costs 20 ms" in str(found)
    assert all(set(s.calls) == {(1, 1)} for s in steppers.values()), "one run, one thread"


def test_where_no_rung_reaches_the_error_everything_may_pay(clock):
    found = budget(Growth(clock), {"net": Grower(1.0, 1.0, clock)}, error=1e-9, steps=10)
    assert (found.setting, found.seconds, found.ratio, found.worthwhile) == (None, None, math.inf, True)
    assert "no classical setting tried reaches 1e-09 on 10 frames (1 time units)" in str(found)


def test_the_job_is_on_runs_that_neither_training_nor_verification_sees(clock, monkeypatch):
    problem, seeds = Growth(clock), []
    simulate = problem.simulate
    monkeypatch.setattr(
        problem, "simulate", lambda runs, steps=1, seed=0: (seeds.append(seed), simulate(runs, steps))[1]
    )
    budget(problem, {"net": Grower(1.0, 1e-3, clock)})
    assert seeds == [UNSEEN + 1]


def test_the_sentence_gives_error_time_setting_and_advice_only_where_it_does_not_pay():
    pays = Budget(0.01, "20 frames (2 time units)", "ETDRK4 64 points, 4 steps", 0.030, {"net": 0.010})
    assert str(pays) == (
        "Budget: a network must reach 1 % on 20 frames (2 time units) in less than 30 ms (ETDRK4 64 points, 4 steps); "
        "the smallest of yours (net) costs 10 ms; the ratio is at most 3."
    )
    lost = Budget(0.01, "20 frames (2 time units)", "ETDRK4 64 points, 4 steps", 0.019, {"net": 0.010})
    assert not lost.worthwhile
    assert str(lost).endswith(
        "at most 1.9. Below 2 training does not pay: a smaller network, longer jumps or a harder problem would."
    )


def test_steppers_are_left_as_they_were(clock):
    stepper = Grower(1.0, 1e-3, clock)
    before = torch.get_num_threads()
    budget(Growth(clock), {"net": stepper}, steps=3)
    assert stepper.training
    assert torch.get_num_threads() == before
