"""Schedules rise, fall and end where they say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.errors import InputError
from slipstream.pretrained import describe, rebuild
from slipstream.training.schedules import Constant, Cosine, Linear

shares = st.floats(0, 0.9)


@pytest.mark.parametrize("kind", [Cosine, Linear])
@given(warmup=shares, final=st.floats(0, 0.9), at=st.floats(0, 1), step=st.floats(0, 1))
def test_one_summit_at_the_end_of_the_warm_up_and_both_ends_at_final(kind, warmup, final, at, step):
    schedule = kind(warmup, final)
    assert schedule(warmup) == pytest.approx(1)
    assert schedule(1.0) == pytest.approx(final)
    assert schedule(0.0) == pytest.approx(final if warmup > 0 else 1)
    near, far = sorted((at, step))
    if far <= warmup:
        assert schedule(near) <= schedule(far) + 1e-12
    if near >= warmup:
        assert schedule(near) >= schedule(far) - 1e-12


def test_cosine_and_line_are_what_they_are_called():
    assert Cosine(0.2, 0.1)(0.4) == pytest.approx(0.1 + 0.9 * (2 + 2**0.5) / 4)
    assert [Cosine(0.2, 0.1)(0.6), Linear(0.2, 0.1)(0.6)] == pytest.approx([0.55, 0.55])
    assert Linear(0.2, 0.1)(0.4) == pytest.approx(0.1 + 0.9 * 0.75)
    assert Linear(0.2, 0.1)(0.1) == pytest.approx(0.55)
    assert [Constant()(p / 4) for p in range(5)] == [1.0] * 5


def test_the_default_never_wastes_a_step():
    assert min(Cosine()(p / 1000) for p in range(1001)) == pytest.approx(0.01)


@pytest.mark.parametrize("schedule", [Cosine(0.1, 0.2), Linear(0.3, 0.0), Constant()])
def test_schedules_can_be_written_down(schedule):
    assert rebuild(describe(schedule)) == schedule


@pytest.mark.parametrize(("warmup", "final"), [(1.0, 0.1), (-0.1, 0.1), (0.1, 1.1), (0.1, float("nan"))])
def test_shares_out_of_range_are_refused(warmup, final):
    with pytest.raises(InputError, match="shares"):
        Cosine(warmup, final)
