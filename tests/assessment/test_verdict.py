"""The first sentence: who wins, at what error, in readable figures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slipstream.assessment import verify
from slipstream.assessment.assessment import MODEL, Rung, Speed
from slipstream.assessment.verdict import _time, verdict
from slipstream.problems import KolmogorovFlow
from slipstream.steppers import wrap

PROBLEM = KolmogorovFlow(num_points=16, reynolds=8.0, interval=0.05, warm_up=0.5)


@pytest.fixture(scope="module")
def judged():
    """A stepper that does a little better than nothing, without a race."""
    return verify(
        wrap(lambda u: 0.999 * u, 0.05, ["vorticity"], grid=PROBLEM.grid), PROBLEM, runs=2, steps=3, ladder=False
    )


def raced(judged, error: float, seconds: float, level: float | None = None):
    """The same with a race made up: the classical solver takes 0.638 s."""
    last = {**judged.metrics[MODEL], "relative_l2": (error,) * len(judged.times)}
    reference = replace(judged.reference, error=(error / 100,) * len(judged.times))
    cost = Speed(
        "the job",
        Rung("model", error, seconds),
        Rung("RK4 8 points", error, 0.638, (8, 8), "RK4"),
        ratio_at_matched_error=0.638 / seconds,
        break_even_runs=69.2,
        level=level,
    )
    return verdict(replace(judged, metrics={**judged.metrics, MODEL: last}, speed=cost, reference=reference))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2e-6, "2 us"), (3.67e-3, "3.7 ms"), (0.0995, "100 ms"), (0.116, "116 ms"), (0.638, "638 ms"), (1.04, "1 s"), (212.0, "212 s")],
)  # fmt: skip
def test_times_have_no_exponent(seconds, text):
    assert _time(seconds) == text


def test_a_win_names_factor_setting_error_times_and_when_it_has_paid_off(judged):
    sentence = raced(judged, 0.01, 0.0141, level=0.01)
    assert "wins: 45.2 times faster than RK4 on 8 x 8 points" in sentence
    assert "of equal error (1 % after 3 frames), 14 ms against 638 ms a run" in sentence
    assert sentence.endswith("paid off after 69 runs.")


def test_below_ten_times_the_references_error_the_level_is_named(judged):
    sentence = raced(judged, 0.01, 0.0141, level=0.02)
    assert "with an error below 2 %, ten times the reference's own" in sentence
    assert "that of Wrapped is 1 % after 3 frames" in sentence


def test_where_the_classical_solver_wins_it_is_said_first(judged):
    assert raced(judged, 0.01, 6.38, level=0.01).startswith("The classical solver wins: at the error of Wrapped (1 %")
