"""The guard stops what is lost and nothing else."""

import math
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.errors import InputError
from slipstream.training.divergence import Guard


def judge_all(guard, losses):
    """The first step judged to be a divergence."""
    return next((i for i, loss in enumerate(losses, 1) if guard.judge(loss, {})), None)


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.integers(1, 20))
def test_the_level_is_the_median_of_the_last_losses(losses, window):
    guard = Guard(factor=math.inf, window=window)
    for loss in losses:
        guard.judge(loss, {})
    last = sorted(losses[-window:])
    assert guard.ordered == last
    assert guard.ordered[len(last) // 2] == statistics.median_high(last)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_named_at_once(bad):
    assert Guard().judge(1.0, {"residual": 0.5, "gradient": bad}) == f"gradient = {bad}"


def test_only_patience_suspects_in_a_row_are_a_divergence():
    calm, high = [1.0] * 50, 60.0
    assert judge_all(Guard(50.0, 10, 20), calm + [high] * 30) == 60
    assert judge_all(Guard(50.0, 10, 20), calm + ([high] * 9 + [1.0]) * 30) is None
    assert judge_all(Guard(50.0, 10, 20), calm + [49.0] * 9 + [60.0] * 5) is None, (
        "49 is not suspect and breaks the row"
    )


def test_a_slow_rise_moves_the_level_and_is_let_be():
    assert judge_all(Guard(50.0, 10, 20), [1.1**k for k in range(300)]) is None


def test_losses_that_may_be_negative_have_no_level():
    assert judge_all(Guard(50.0, 10, 20), [-1.0] * 50 + [100.0] * 50) is None


def test_the_first_losses_are_not_suspect():
    assert judge_all(Guard(50.0, 1, 20), [1e-6, 1.0]) is None


@given(st.lists(st.floats(0.1, 1000), min_size=40, max_size=80), st.integers(0, 40))
def test_a_guard_goes_on_from_its_state(losses, cut):
    whole, first, second = Guard(5.0, 4, 10), Guard(5.0, 4, 10), Guard(5.0, 4, 10)
    expected = [whole.judge(loss, {}) for loss in losses]
    found = [first.judge(loss, {}) for loss in losses[:cut]]
    second.load_state_dict(first.state_dict())
    assert found + [second.judge(loss, {}) for loss in losses[cut:]] == expected


@pytest.mark.parametrize("bad", [{"factor": 1.0}, {"patience": 0}, {"window": 0}, {"factor": math.nan}])
def test_a_guard_that_cannot_judge_is_refused(bad):
    with pytest.raises(InputError, match="Guard takes factor > 1"):
        Guard(**bad)


def test_a_state_of_a_longer_window_is_cut_to_this_one():
    long, short = Guard(window=50), Guard(window=20)
    for i in range(60):
        long.judge(1.0 + i, {})
    short.load_state_dict(long.state_dict())
    short.judge(100.0, {})
    assert list(short.recent) == [*(1.0 + i for i in range(41, 60)), 100.0]
    assert short.ordered == sorted(short.recent)
