"""The engine in the same process: frames to trust, in an order that nothing but the polls decides."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import live_training
import pytest
import torch

from slipstream.data import FIFO, Adaptive, Ensemble, InProcess, Reservoir, Sobol, pilot
from slipstream.data.live.engine import Delivered, Engine, Finished, Lost, Member, Resumable
from slipstream.data.live.members import seed_of, start_of
from slipstream.errors import InputError, LostRun
from slipstream.problems import DecayingFlow, HeatedPlate, KolmogorovFlow, Recorded, SteepeningWaves, UnevenMedium
from slipstream.problems.problem import statistics_of
from slipstream.steppers import rollout
from slipstream.training.checkpoint import checksum, pack, unpack

PLATE = HeatedPlate(num_points=6)


def members(count, problem=PLATE, steps=5, seed=0, first=0):
    numbers = range(first, first + count)
    seeds = [seed_of(seed, n) for n in numbers]
    drawn = [{k: v[0] for k, v in problem.sample_parameters([0], s).items()} for s in seeds]
    return [Member(n, s, p, steps) for n, s, p in zip(numbers, seeds, drawn, strict=True)]


def collect(engine, polls):
    return [e for _ in range(polls) for e in engine.poll()]


def frames_of(events):
    runs = {}
    for e in events:
        if isinstance(e, Delivered):
            assert e.step == len(runs.setdefault(e.member, [])), "in the order of their steps"
            runs[e.member].append(e.frame)
    return {n: torch.stack(f) for n, f in runs.items()}


def same_events(a, b):
    def plain(e):
        return (e.member, e.step, e.frame.tolist()) if isinstance(e, Delivered) else e

    return [plain(e) for e in a] == [plain(e) for e in b]


@pytest.mark.parametrize(
    "problem",
    [
        PLATE,
        SteepeningWaves(num_points=16, viscosity=(0.05, 0.1)),
        KolmogorovFlow(num_points=12, reynolds=(4, 8), interval=0.1, warm_up=0.2),
        DecayingFlow(num_points=12, reynolds=5, interval=0.1, warm_up=0.1),
    ],
    ids=lambda p: p.name,
)
def test_runs_are_those_that_the_problem_simulates(problem):
    engine = InProcess(problem, clients=2)
    engine.submit(members(3, problem))
    runs = frames_of(collect(engine, 12))
    assert sorted(runs) == [0, 1, 2]
    for number, frames in runs.items():
        known = problem.simulate(1, 5, seed_of(0, number)).frames[0]
        assert frames.dtype == torch.float32
        assert torch.allclose(frames, known, rtol=1e-5, atol=1e-5 * float(known.abs().max()))


def test_given_parameters_stand_for_drawn_ones_from_the_warm_up_on():
    problem = KolmogorovFlow(num_points=12, reynolds=(4, 8), interval=0.1, warm_up=0.4)
    (name,) = problem.varying
    drawn = problem.sample_parameters([0], 5)[name]
    own, parameters = start_of(problem, Member(0, 5, {}, 2))
    assert torch.equal(parameters[name], drawn)
    same, _ = start_of(problem, Member(0, 5, {name: drawn[0]}, 2))
    assert torch.equal(own, same)
    other, parameters = start_of(problem, Member(0, 5, {name: drawn[0] * 1.2}, 2))
    assert torch.equal(parameters[name], drawn * 1.2)
    change = float((other - own).norm() / own.norm())
    assert 1e-5 < change < 0.2, "the same random state, warmed up with another viscosity"


def test_a_steady_problem_has_runs_of_one_frame():
    frame, parameters = start_of(PLATE, Member(0, 1, {"initial": torch.tensor(123.0)}, 2))
    assert torch.all(frame == 123)
    assert float(parameters["initial"]) == 123


def test_clients_calls_and_turns():
    engine = InProcess(PLATE, clients=2, calls=0.5)
    engine.submit(members(5, steps=2))
    assert [len(engine.poll()) for _ in range(4)] == [0, 2, 0, 4]  # two frames; two frames and two ends
    assert len(engine.poll(wait=True)) == 2, "who waits gets something"
    engine = InProcess(PLATE, clients=1, calls=3)
    engine.submit(members(1, steps=4))
    assert [type(e).__name__ for e in engine.poll()] == ["Delivered"] * 3
    engine.resize(3)
    engine.submit(members(2, steps=4, first=1))
    later = engine.poll()
    assert {e.member for e in later} == {0, 1, 2}, "a second batch starts beside the first"
    assert engine.poll(wait=True)
    for _ in range(9):
        last = engine.poll(wait=True)
    assert last == []


def test_cancelled_runs_are_silent_and_may_be_submitted_again():
    engine = InProcess(PLATE, clients=3)
    engine.submit(members(3))
    engine.poll()
    engine.cancel([1])
    assert {e.member for e in engine.poll()} == {0, 2}
    engine.submit(members(3)[1:2])
    again = collect(engine, 20)
    assert frames_of([e for e in again if e.member == 1])[1].shape[0] == 5
    assert sorted(e.member for e in again if isinstance(e, Finished)) == [0, 1, 2]


def test_lost_runs_do_not_break_the_batches_up():
    """Each that is lost begins again; were it at once, in a batch of its own, a call would soon give a frame of one run."""
    engine, number, calls, frames = InProcess(PLATE, clients=8), 8, 300, 0
    running = {k: Member(k, k, {}, 12) for k in range(8)}
    engine.submit(list(running.values()))
    for call in range(calls):
        for event in engine.poll():
            if isinstance(event, Finished):
                del running[event.member]
                running[number] = Member(number, number, {}, 12)
                engine.submit([running[number]])
                number += 1
            else:
                frames += 1
        if call % 10 == 5:
            lost = min(running)
            engine.cancel([lost])
            engine.submit([running[lost]])
    assert frames >= 6 * calls, "of at most eight a call"


@pytest.mark.parametrize("after", [0, 1, 3, 6, 8])
def test_it_goes_on_to_the_bit(after):
    def begun():
        engine = InProcess(PLATE, clients=2, calls=1.5)
        engine.submit(members(2))
        engine.poll()
        engine.resize(4)
        engine.submit(members(5, first=2))
        return engine

    engine = begun()
    collect(engine, after)
    if after == 3:
        engine.cancel([2])
        engine.submit(members(1, first=2))
    state = unpack(pack(engine.state_dict()))
    expected = collect(engine, 30)
    again = InProcess(PLATE, clients=2, calls=1.5)
    again.load_state_dict(state)
    assert same_events(collect(again, 30), expected)
    assert len(expected) > 5


def test_frames_do_not_carry_a_graph_and_the_callers_mode_stays():
    engine = InProcess(PLATE, clients=1)
    engine.submit(members(1))
    with torch.enable_grad():
        for _ in range(3):
            assert not any(e.frame.requires_grad for e in engine.poll() if isinstance(e, Delivered))
            assert torch.is_grad_enabled()


def test_a_pilot_measures_what_its_runs_hold():
    found = pilot(PLATE, InProcess(PLATE, clients=3), steps=6, runs=5, seed=9)
    runs = torch.cat([PLATE.simulate(1, 6, seed_of(9, n)).frames for n in range(5)])
    known = statistics_of(runs, {})
    assert found.mean == pytest.approx(known.mean, rel=1e-5)
    assert found.std == pytest.approx(known.std, rel=1e-5)
    assert found.increment == pytest.approx(known.increment, rel=1e-4)
    broken = InProcess(PLATE, clients=3)
    broken.poll = lambda wait=False: [Delivered(0, 0, torch.full((1, 6, 6), torch.nan))]
    with pytest.raises(LostRun, match="not finite at step 0"):
        pilot(PLATE, broken, steps=6)


def test_it_is_what_it_says():
    engine = InProcess(PLATE, clients=3)
    assert isinstance(engine, Engine)
    assert isinstance(engine, Resumable)
    assert engine.describe()["clients"] == 3
    with pytest.raises(InputError, match="calls > 0"):
        InProcess(PLATE, calls=0)
    with pytest.raises(InputError, match="At least 1 client"):
        engine.resize(0)
    with pytest.raises(InputError, match="no classical solver"):
        InProcess(Recorded.of(PLATE.simulate(2, 3)))


def ensemble(clients=3, draws=None, buffer=None, **arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        engine = InProcess(PLATE, clients=clients, calls=0.7)
        return Ensemble(PLATE, 6, 4, engine, Reservoir(30, 8) if buffer is None else buffer, draws, **arguments)


def go(source, generator, count):
    seen = []
    for _ in range(count):
        window = source.next(generator)
        seen.append((window.frames.clone(), window.parameters, window.token))
        source.feedback(window, None, window.frames.flatten(1).std(1))
    return checksum(seen)


@pytest.mark.parametrize("seed", range(4))
def test_an_ensemble_goes_on_to_the_bit_from_any_step(seed):
    chance = random.Random(seed)
    kinds = [Adaptive(least=2), Sobol(), None]
    direct, draws = chance.random() < 0.5, chance.choice([0, 1, 2])
    buffers = chance.choice([lambda: Reservoir(30, 8), lambda: FIFO(9)])
    make = lambda: ensemble(draws=kinds[draws], buffer=buffers(), direct=direct)  # noqa: E731
    kinds = [Adaptive(least=2), Sobol(), None]
    source, generator = make(), torch.Generator().manual_seed(seed)
    go(source, generator, chance.randrange(1, 40))
    if chance.random() < 0.5:
        source.resize(5)
        go(source, generator, 6)
    state, random_state = unpack(pack(source.state_dict())), generator.get_state()
    expected, after = go(source, generator, 40), checksum(without_time(source.state_dict()))
    kinds = [Adaptive(least=2), Sobol(), None]
    again, other = make(), torch.Generator()
    again.load_state_dict(state)
    other.set_state(random_state)
    assert go(again, other, 40) == expected
    assert checksum(without_time(again.state_dict())) == after, "and holds the same, to the bit"


def without_time(state):
    counters = {k: v for k, v in state["counters"].items() if k not in ("waiting", "solver")}
    return {**state, "counters": counters}


def test_closed_in_the_middle_it_goes_on_as_if_it_had_not_been():
    one, two = ensemble(), ensemble()
    first, second = (torch.Generator().manual_seed(1) for _ in range(2))
    go(one, first, 7), go(two, second, 7)
    one.close()
    state = checksum(without_time(one.state_dict()))
    assert state == checksum(without_time(two.state_dict()))
    assert go(one, first, 20) == go(two, second, 20)


def test_another_number_of_clients_may_be_asked_for_when_going_on():
    source, generator = ensemble(clients=3), torch.Generator().manual_seed(0)
    go(source, generator, 5)
    more = ensemble(clients=6)
    more.load_state_dict(unpack(pack(source.state_dict())))
    go(more, generator, 30)
    assert more.engine.clients == 6


@pytest.mark.slow
def test_a_training_that_is_killed_ends_with_the_same_weights_and_the_same_ensemble(tmp_path):
    whole, source = live_training.go(tmp_path / "whole")
    moment = random.Random(os.urandom(4)).randrange(2, live_training.STEPS)
    program = f"import live_training; live_training.go({str(tmp_path / 'killed')!r}, {moment})"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    place = Path(live_training.__file__).parent
    died = subprocess.run([sys.executable, "-c", program], cwd=place, env=environment, timeout=100)
    assert died.returncode == -signal.SIGKILL, moment
    again, other = live_training.go(tmp_path / "killed")
    assert checksum(dict(again.state_dict())) == checksum(dict(whole.state_dict())), moment
    assert checksum(without_time(other.state_dict())) == checksum(without_time(source.state_dict())), moment
    assert other.counters.runs == source.counters.runs > 3
    left = {p.name for p in tmp_path.rglob("*") if p.is_file() and not p.name.startswith("events.")}
    assert all(n.startswith("state-") or n in ("log.csv", "lock") for n in left), "no sample is a file"


def test_runs_that_were_cancelled_stay_silent_when_others_of_their_batch_are_cancelled_too():
    engine = InProcess(PLATE, clients=3)
    engine.submit(members(3))
    engine.poll()
    engine.cancel([1])
    engine.cancel([0])
    assert {e.member for e in engine.poll()} == {2}


def test_a_batch_that_was_cancelled_whole_takes_no_turn():
    engine = InProcess(PLATE, clients=2)
    engine.submit(members(2))
    engine.poll()
    engine.resize(4)
    engine.submit(members(2, first=2))
    engine.poll()
    engine.cancel([0, 1])
    assert {e.member for e in engine.poll()} == {2, 3}, "who waits is not told that nothing is under way"


def test_a_pilot_that_fails_leaves_no_run_behind():
    engine = InProcess(PLATE, clients=3)
    engine.poll = lambda wait=False: [Lost(0, "died")]
    with pytest.raises(LostRun, match=r"Run 0 of the pilot was lost: died\."):
        pilot(PLATE, engine, steps=6)
    del engine.poll
    assert engine.poll(wait=True) == []


def test_of_a_batch_whose_last_run_was_cancelled_nothing_is_waited_for():
    """Also where a shorter run of it has ended in peace."""
    engine = InProcess(PLATE, clients=2)
    engine.submit([*members(1, steps=1), *members(1, steps=5, first=1)])
    assert Finished(0) in engine.poll()
    engine.cancel([1])
    engine.submit(members(1, steps=4, first=2))
    assert [[e.member for e in engine.poll(wait=True)] for _ in range(4)] == [[2], [2], [2], [2, 2]]


def test_the_fast_solver_gives_the_frames_where_they_need_not_be_trusted():
    problem, found = SteepeningWaves(num_points=16, viscosity=(0.05, 0.1)), {}
    (run,) = members(1, problem)
    start, parameters = start_of(problem, run)
    for trusted in (False, True):
        engine = InProcess(problem, clients=1, trusted=trusted)
        engine.submit([run])
        found[trusted] = frames_of(collect(engine, 5))[0][1:]
    known = rollout(problem.solver(guard=False), start, 4, parameters=parameters)[0]
    assert torch.equal(found[False], known)
    assert 1e-7 < float((found[True] - known).norm() / known.norm()) < 0.1


def test_a_pilot_measures_field_parameters_too():
    problem = UnevenMedium(num_points=8)
    found = pilot(problem, InProcess(problem, clients=3), steps=2, runs=3, seed=2).fields
    drawn = [problem.sample_parameters([0], seed_of(2, n)) for n in range(3)]
    assert found.keys() == set(problem.fields)
    for name, sizes in found.items():
        values = torch.cat([p[name] for p in drawn])
        assert sizes == pytest.approx((float(values.mean()), float(values.std())))


def test_who_closes_twice_loses_no_run():
    one, two = ensemble(), ensemble()
    first, second = (torch.Generator().manual_seed(1) for _ in range(2))
    go(one, first, 7), go(two, second, 7)
    one.close()
    one.close()
    assert go(one, first, 20) == go(two, second, 20)


def test_batches_take_turns():
    engine = InProcess(PLATE, clients=1)
    engine.submit(members(1))
    engine.poll()
    engine.resize(2)
    engine.submit(members(1, first=1))
    assert [[e.member for e in engine.poll()] for _ in range(4)] == [[1], [0], [1], [0]]


def test_a_pilot_runs_the_random_states_of_its_seed():
    waves = SteepeningWaves(num_points=16, viscosity=(0.05, 0.1))
    found = pilot(waves, InProcess(waves, clients=2), steps=3, runs=2, seed=9)
    runs = torch.cat([waves.simulate(1, 3, seed_of(9, n)).frames for n in range(2)])
    assert found.std == pytest.approx(statistics_of(runs, {}).std, rel=1e-5)
