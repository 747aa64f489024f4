"""Honest speed, on a clock that the tests move: what is timed, what is compared, and what follows from it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from growth import GRID, RATE, Grower, Growth

from slipstream.assessment import speed
from slipstream.assessment.assessment import MODEL
from slipstream.assessment.metrics import relative_l2
from slipstream.problems.problem import Setting
from slipstream.solvers.schemes import ETDRK4


@pytest.fixture
def job(clock):
    problem = Growth(clock)
    whole = problem.simulate(3, 11)
    return problem, whole[:, :1], whole[:, 1:]


# ---- race --------------------------------------------------------------------------------------------------------------


def ticking(clock, durations, log=None, name=""):
    durations = iter(durations)

    def work():
        clock.now += next(durations)
        if log is not None:
            log.append(name)

    return work


def test_the_minimum_of_the_rounds_counts_and_the_first_is_not_one_of_them(clock):
    jobs = {"a": ticking(clock, [0.5, 3.0, 2.0, 4.0]), "b": ticking(clock, [9.0, 1.5, 1.25, 1.0])}
    assert speed.race(jobs, rounds=3) == {"a": 2.0, "b": 1.0}


def test_jobs_take_turns(clock):
    log: list[str] = []
    speed.race({n: ticking(clock, [0.1] * 9, log, n) for n in "abc"}, rounds=4)
    assert "".join(log) == "abc" * 5


def test_a_short_job_is_called_until_it_is_warm_and_a_long_one_once_a_turn(clock, monkeypatch):
    monkeypatch.setattr(speed, "TURN", 0.05)
    log: list[str] = []
    cold = [0.02, 0.007, 0.0025] + [0.0025] * 9
    jobs = {"s": ticking(clock, [0.02] + cold * 4, log, "s"), "l": ticking(clock, [0.3] * 9, log, "l")}
    assert speed.race(jobs, rounds=3)["s"] == pytest.approx(0.0025)
    assert "".join(log) == "sl" + ("s" * 12 + "l") * 3


def test_a_turn_ends_on_a_clock_that_stands_still(clock, monkeypatch):
    monkeypatch.setattr(speed, "TURN", 0.05)
    log: list[str] = []
    speed.race({"a": ticking(clock, [0.0] * 99, log, "a")}, rounds=3)
    assert len(log) == 1 + 3 * speed.CALLS


@pytest.mark.parametrize(("seconds", "rounds"), [(0.1, 7), (2.0, 6), (3.0, 4), (100.0, 3)])
def test_no_round_begins_after_the_budget_but_three_always_do(clock, seconds, rounds):
    log: list[str] = []
    speed.race({"a": ticking(clock, [seconds] * 9, log, "a")}, rounds=7, budget=10.0)
    assert len(log) == 1 + rounds


def test_the_warm_up_does_not_use_up_the_budget(clock):
    log: list[str] = []
    speed.race({"a": ticking(clock, [1000.0] + [1.0] * 9, log, "a")}, rounds=7, budget=10.0)
    assert len(log) == 8


def test_a_race_of_nobody_is_empty_and_a_job_that_fails_is_heard(clock):
    assert speed.race({}) == {}
    with pytest.raises(ZeroDivisionError):
        speed.race({"a": lambda: 1 / 0})


def test_threads_are_as_before_also_after_an_error():
    before = torch.get_num_threads()
    with speed.threads(before + 1):
        assert torch.get_num_threads() == before + 1
    with pytest.raises(ZeroDivisionError), speed.threads(before + 1):
        1 / 0  # noqa: B018
    assert torch.get_num_threads() == before


# ---- error ---------------------------------------------------------------------------------------------------------------


def test_the_final_error_is_that_of_the_last_frame_in_the_mean_over_runs(job):
    _, known, truth = job
    stepper = Grower(1.06)
    u = known.frames[:, -1:] * 1.06**10
    expected = float(relative_l2(u, truth.frames[:, -1:], GRID).mean())
    assert speed.final_error(stepper, known, truth) == pytest.approx(expected, rel=1e-5)
    assert expected == pytest.approx(abs(1.06**10 / math.exp(RATE) - 1), rel=1e-4)


def test_the_error_of_a_rollout_that_blows_up_is_infinite(job):
    _, known, truth = job
    assert speed.final_error(Grower(1e30), known, truth) == math.inf
    assert speed.final_error(Grower(math.nan), known, truth) == math.inf


# ---- ladder --------------------------------------------------------------------------------------------------------------


def test_the_ladder_states_error_and_cost_of_every_setting(job):
    problem, known, truth = job
    rungs = speed.ladder(problem, known, truth)
    assert [setting.substeps for setting, _ in rungs] == [1, 2, 4, 8, 16, 32]
    for setting, rung in rungs:
        n = setting.substeps
        assert rung.seconds == pytest.approx(10 * 1e-3 * n), "ten frames of one run on one thread"
        assert rung.error == pytest.approx(1 - (1 + 0.05 / n) ** (10 * n) / math.exp(RATE), rel=1e-2)
        assert (rung.num_points, rung.scheme, rung.dt) == ((8,), ETDRK4.name, 0.1 / n)
    assert all(rung.pareto for _, rung in rungs)
    assert {call for s in problem.solvers for call in s.calls if call[1] == 1} == {(1, 1)}


def test_settings_that_blow_up_are_not_on_the_ladder_and_cost_no_race(clock):
    problem = Growth(clock, substeps=(0, 4))
    whole = problem.simulate(2, 6)
    rungs = speed.ladder(problem, whole[:, :1], whole[:, 1:])
    assert [setting.substeps for setting, _ in rungs] == [4]


# ---- measure -------------------------------------------------------------------------------------------------------------


def measured(job, clock, model, error, training_seconds=None, rivals=None):
    problem, known, truth = job
    rungs = speed.ladder(problem, known, truth)
    return speed.measure(model, problem, known, truth, rungs, rivals or {}, error, training_seconds, batch=4), rungs


def test_the_matched_setting_is_the_cheapest_that_is_as_accurate(job, clock):
    errors = {s.substeps: r.error for s, r in speed.ladder(*job)}
    for error, matched in ((errors[4], 4), (1.01 * errors[4], 4), (0.99 * errors[4], 8), (1.0, 1)):
        result, _ = measured(job, clock, Grower(1.05, 1e-3, clock), error)
        assert result.matched is not None
        assert result.matched.name == str(Setting(8, matched, ETDRK4))
        assert result.matched.error <= error
        assert result.ratio_at_matched_error == pytest.approx(matched)


def test_a_level_above_the_models_error_lets_cheaper_settings_match(job, clock):
    problem, known, truth = job
    rungs = speed.ladder(problem, known, truth)
    errors = {s.substeps: r.error for s, r in rungs}
    model = Grower(1.05, 1e-3, clock)
    strict, lenient = (
        speed.measure(model, problem, known, truth, rungs, {}, errors[16], None, level, batch=2)
        for level in (None, errors[4])
    )
    assert (strict.level, lenient.level) == (errors[16], errors[4])
    assert (strict.matched.name, lenient.matched.name) == tuple(str(Setting(8, n, ETDRK4)) for n in (16, 4))
    assert lenient.ratio_at_matched_error == pytest.approx(strict.ratio_at_matched_error / 4)


def test_a_batch_of_a_slow_setting_is_smaller(job, clock, monkeypatch):
    problem, known, truth = job
    rungs = speed.ladder(problem, known, truth)
    monkeypatch.setattr(speed, "PATIENCE", 0.5)
    result = speed.measure(Grower(1.05, 1e-3, clock), problem, known, truth, rungs, {}, 1e-3, None, batch=16)
    assert {t.batch for t in result.timings} == {1, round(0.5 / 0.16)}


def test_where_no_setting_is_as_accurate_nothing_is_matched(job, clock):
    result, rungs = measured(job, clock, Grower(1.05, 1e-3, clock), 1e-9, 5.0)
    assert (result.matched, result.ratio_at_matched_error, result.break_even_runs) == (None, None, None)
    assert {t.arm for t in result.timings} == {MODEL}
    assert result.error_at_matched_time == rungs[0][1].error


def test_the_error_at_matched_time_is_the_best_within_the_models_time(job, clock):
    result, rungs = measured(job, clock, Grower(1.05, 5e-3, clock), 1.0)
    assert result.error_at_matched_time == rungs[2][1].error  # 1, 2 and 4 ms a frame
    result, _ = measured(job, clock, Grower(1.05, 0.5e-3, clock), 1.0)
    assert result.error_at_matched_time is None


def test_break_even_counts_the_runs_that_pay_for_the_training(job, clock):
    result, rungs = measured(job, clock, Grower(1.05, 1e-3, clock), 1e-3, 7.0)
    matched = next(s.substeps for s, r in rungs if r.error <= 1e-3)
    assert matched == 16
    assert result.break_even_runs == pytest.approx(7.0 / (10 * (16 - 1) * 1e-3))
    slower, _ = measured(job, clock, Grower(1.05, 20e-3, clock), 1e-3, 7.0)
    assert slower.break_even_runs is None
    assert slower.ratio_at_matched_error == pytest.approx(16 / 20)
    unknown, _ = measured(job, clock, Grower(1.05, 1e-3, clock), 1e-3)
    assert unknown.break_even_runs is None


def test_timings_are_a_run_by_threads_and_batch(job, clock):
    rival = Grower(1.0, 3e-3, clock)
    result, _ = measured(job, clock, Grower(1.05, 1e-3, clock), 1e-3, rivals={"rbf": rival})
    found = {(t.arm, t.threads, t.batch): t.seconds for t in result.timings}
    for arm, once in ((MODEL, 1e-2), ("classical", 16e-2)):
        for threads in (1, 2):
            for batch in (1, 4):
                assert found[arm, threads, batch] == pytest.approx(once / threads)
    assert len(result.timings) == 8
    assert [(r.name, r.seconds) for r in result.rivals] == [("rbf", pytest.approx(3e-2))]
    assert set(rival.calls) == {(1, 1)}
    assert result.job == "10 frames (1 time units) of one run"
    assert result.model.seconds == pytest.approx(1e-2)


def test_the_matched_setting_wins_the_race_beside_the_model_and_not_the_first_look(job, clock):
    """The ladder's seconds only choose the finalists: here they lie, and the slowest of the three is the fastest."""
    problem, known, truth = job
    rungs = [(s, replace(r, seconds=1.0 / s.substeps)) for s, r in speed.ladder(problem, known, truth)]
    result = speed.measure(Grower(1.05, 1e-3, clock), problem, known, truth, rungs, {}, 1.0, None, batch=2)
    assert result.matched is not None
    assert result.matched.name == str(Setting(8, 8, ETDRK4))
    assert result.matched.seconds == pytest.approx(8e-2)
