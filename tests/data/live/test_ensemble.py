"""Ensembles whose clients do as they are told, and worse: every frame is counted once, nothing is lost, and faults are heard."""

from __future__ import annotations

import warnings
from collections import Counter, deque

import pytest
import torch

import slipstream as ss
from slipstream.data import FIFO, FIRO, Ensemble, InProcess, Reservoir, Sobol
from slipstream.data.live.draws import cells, num_cells, place_of
from slipstream.data.live.engine import Delivered, Finished, Lost, Member
from slipstream.data.live.members import seed_of
from slipstream.data.live.reception import Reception, Refused, Run, plain, restored
from slipstream.errors import InputError, LostRun
from slipstream.problems import HeatedPlate, SteepeningWaves
from slipstream.steppers import wrap
from slipstream.training.checkpoint import pack, unpack

PLATE = HeatedPlate(num_points=4)
STEPS = 6


def true_frame(member: int, step: int) -> torch.Tensor:
    return torch.full((1, 4, 4), 100.0 * member + step)


class Scripted:
    """An engine of other processes, as far as an ensemble can tell: `pace` frames of each client a poll.

    Mishaps are given by (member, attempt, step): what is sent instead of the frame, or "stop" for a client that says it has
    finished.
    """

    def __init__(self, clients=2, pace=1, mishaps=None):
        self._clients, self.pace, self.mishaps = clients, pace, mishaps or {}
        self.waiting, self.active, self.attempts = deque(), {}, Counter()
        self.polls = self.most = 0
        self.closed = False
        self.submitted = []

    @property
    def clients(self):
        return self._clients

    def resize(self, clients):
        self._clients = clients

    def submit(self, members):
        self.waiting.extend(members)
        self.submitted += members

    def cancel(self, members):
        self.waiting = deque(m for m in self.waiting if m.number not in members)
        for n in members:
            self.active.pop(n, None)

    def close(self):
        self.closed = True

    def describe(self):
        return {}

    def poll(self, wait=False):
        self.polls += 1
        while self.waiting and len(self.active) < self._clients:
            member = self.waiting.popleft()
            self.attempts[member.number] += 1
            self.active[member.number] = [member, 0]
        self.most = max(self.most, len(self.active))
        events = []
        for number, state in list(self.active.items()):
            member = state[0]
            for _ in range(self.pace):
                step = state[1]
                mishap = self.mishaps.get((number, self.attempts[number], step))
                if isinstance(mishap, Lost):
                    events.append(mishap)
                    self.active.pop(number, None)
                    break
                if mishap == "stop":
                    events.append(Finished(number))
                    self.active.pop(number, None)
                    break
                events.append(mishap or Delivered(number, step, true_frame(number, step), 0.5))
                state[1] += 1
                if state[1] == member.steps:
                    events.append(Finished(number))
                    self.active.pop(number, None)
                    break
        return events


def ensemble(engine, buffer=None, **arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Ensemble(
            PLATE, steps=STEPS, batch=4, engine=engine, buffer=FIRO(64, 8) if buffer is None else buffer, **arguments
        )


def all_windows(source, generator):
    """(member, step of the last frame) of every window until the ensemble has ended; frames are checked against what was computed."""
    seen = Counter()
    while not source.ended():
        window = source.next(generator)
        for frames, member in zip(window.frames, window.token.tolist(), strict=True):
            last = int(frames[-1, 0, 0, 0]) - 100 * member
            expected = [true_frame(member, last - i) for i in reversed(range(len(frames)))]
            assert torch.equal(frames, torch.stack(expected)), "consecutive frames of one run"
            seen[member, last] += 1
    return seen


WHOLE = {(m, s): 1 for m in range(5) for s in range(1, STEPS)}


@pytest.mark.parametrize("buffer", [FIFO(64), FIFO(4), FIRO(9, 2), FIRO(64, 20)])
@pytest.mark.parametrize("pace", [1, 3, 10])
def test_every_window_of_every_run_comes_exactly_once(buffer, pace, generator):
    buffer.reset()
    source = ensemble(Scripted(clients=3, pace=pace), buffer, runs=5)
    assert all_windows(source, generator) == WHOLE
    assert (source.counters.frames, source.counters.runs, source.counters.duplicates) == (30, 5, 0)
    assert source.counters.solver == 15.0
    assert source.ended() == "all 5 runs of the ensemble have been seen"
    with pytest.raises(InputError, match="no more windows: all 5 runs"):
        source.next(generator)


def bad(frame, step=3):
    return Delivered(1, step, frame)


MISHAPS = {
    "died": Lost(1, "died"),
    "not finite": bad(torch.full((1, 4, 4), torch.nan)),
    "infinite both ways": bad(torch.tensor([torch.inf, -torch.inf] * 8).reshape(1, 4, 4)),
    "infinite as float32": bad(torch.full((1, 4, 4), 1e300, dtype=torch.float64)),
    "of another shape": bad(torch.zeros(1, 4, 5)),
    "integers": bad(torch.zeros(1, 4, 4, dtype=torch.long)),
    "a step too late": bad(true_frame(1, 4), 4),
    "a step twice": bad(true_frame(1, 2), 2),
    "finished early": "stop",
}


def test_values_whose_sum_is_too_large_are_finite_all_the_same():
    run, reception = Run(Member(0, 0, {}, 1)), Reception((1, 4, 4), 1, 1.0, direct=False)
    assert reception.take(run, Delivered(0, 0, torch.full((1, 4, 4), 3e38))) is not None


@pytest.mark.parametrize("mishap", MISHAPS.values(), ids=MISHAPS)
@pytest.mark.parametrize("pace", [1, 5])
def test_a_run_that_fails_starts_again_and_no_frame_is_counted_twice(mishap, pace, generator):
    engine = Scripted(clients=2, pace=pace, mishaps={(1, 1, 3): mishap, (1, 2, 3): mishap})
    source = ensemble(engine, runs=5)
    assert all_windows(source, generator) == WHOLE
    assert source.counters.losses == 2
    assert source.counters.duplicates == 6, "three frames of each attempt were here already"
    assert source.counters.frames == 30
    again = [m for m in engine.submitted if m.number == 1]
    assert len(again) == 3
    assert all(m is again[0] for m in again), "with the same seed and the same parameters"


def test_a_run_that_fails_for_ever_is_one_clear_error(generator):
    mishaps = {(1, attempt, 2): Delivered(1, 2, torch.full((1, 4, 4), torch.inf)) for attempt in range(9)}
    source = ensemble(Scripted(mishaps=mishaps), runs=5, restarts=2)
    with pytest.raises(
        LostRun, match=r"Run 1 .* lost 3 times; the last time it sent values that are not finite at step 2\. .*initial"
    ):
        all_windows(source, generator)


def test_an_engine_that_forgets_a_run_is_told_so(generator):
    engine = Scripted()
    engine.submit = lambda members: None
    with pytest.raises(LostRun, match="nothing under way"):
        ensemble(engine).next(generator)


def test_while_the_buffer_can_take_nothing_nobody_is_asked(generator):
    engine = Scripted(clients=2)
    source = ensemble(engine, FIFO(4))
    for turn in range(40):
        before = engine.polls
        source.next(generator)
        # One poll at most beyond what fills the buffer: what came too much waits, and is put first.
        assert len(source._pending) <= engine.clients * engine.pace
        assert engine.polls - before <= 4, turn
    held = len(source.buffer) + len(source._pending)
    assert source.buffer.produced + len(source._pending) - source.buffer.consumed == held
    full = ensemble(Scripted(clients=2), Reservoir(12, 4))
    while len(full.buffer) < 12 or not full._pending:
        full._listen(generator, wait=True)
    polls = full.engine.polls
    for _ in range(5):
        full._listen(generator, wait=True)
    assert full.engine.polls == polls, "all 12 are unseen: clients wait"
    full.next(generator)
    assert full.buffer.unseen <= 12
    full._listen(generator, wait=False)
    assert not full._pending or full.buffer.room == 0


def test_clients_are_kept_busy_and_their_number_may_change(generator):
    engine = Scripted(clients=3)
    source = ensemble(engine, FIFO(64))
    for _ in range(20):
        source.next(generator)
        assert len(engine.active) + len(engine.waiting) >= 3
    source.resize(7)
    for _ in range(20):
        source.next(generator)
    assert engine.most == 7
    source.resize(1)
    for _ in range(40):
        source.next(generator)
    engine.most = 0
    for _ in range(40):
        source.next(generator)
    assert engine.most == 1


def test_no_number_is_used_twice_and_each_run_has_its_seed(generator):
    engine = Scripted(clients=3)
    source = ensemble(engine, FIFO(64), draws=Sobol())
    for _ in range(60):
        source.next(generator)
    numbers, seeds = [m.number for m in engine.submitted], {m.seed for m in engine.submitted}
    assert numbers == list(range(len(numbers)))
    assert len(seeds) == len(numbers)
    assert len({float(m.parameters["initial"]) for m in engine.submitted}) == len(numbers)


def test_windows_of_single_frames_know_their_time(generator):
    source = ensemble(Scripted(), direct=True, runs=5)
    seen = Counter()
    while not source.ended():
        window = source.next(generator)
        assert window.frames.shape[1:] == (1, 1, 4, 4)
        steps = (window.parameters["lead_time"] / PLATE.interval).round().long()
        expected = torch.stack([true_frame(int(m), int(s)) for m, s in zip(window.token, steps, strict=True)])
        assert torch.equal(window.frames[:, 0], expected)
        assert set(window.parameters) == {*PLATE.varying, "lead_time"}
        seen.update(zip(window.token.tolist(), steps.tolist(), strict=True))
    assert seen == WHOLE


def test_longer_histories_make_longer_windows(generator):
    source = ensemble(Scripted(), history=2, horizon=2, runs=5)
    assert all_windows(source, generator) == {(m, s): 1 for m in range(5) for s in range(3, STEPS)}


@pytest.mark.parametrize("after", [0, 1, 4, 6])
def test_another_engine_goes_on_with_what_was_under_way(after, generator):
    """Nothing comes twice, nothing is missing, also when the process with its clients is gone."""
    source = ensemble(Scripted(clients=3, pace=3), FIFO(5), runs=5)
    seen = Counter()
    for _ in range(after):
        window = source.next(generator)
        seen.update(zip(window.token.tolist(), (window.frames[:, -1, 0, 0, 0] % 100).long().tolist(), strict=True))
    assert source._pending or after not in (1, 4), "some have come and wait for room"
    state = unpack(pack(source.state_dict()))
    fresh = ensemble(Scripted(clients=3, pace=2), FIFO(5), runs=5)
    fresh.load_state_dict(state)
    assert seen + all_windows(fresh, generator) == WHOLE
    assert fresh.counters.frames == 30
    assert fresh.counters.losses == 0, "a restart of the whole is no fault of a run"


class Late(Scripted):
    """Says that a run has finished a poll after its last frame, as programs do."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.held = []

    def poll(self, wait=False):
        before, now = self.held, super().poll(wait)
        self.held = [e for e in now if isinstance(e, Finished)]
        return before + [e for e in now if not isinstance(e, Finished)]


def test_training_ends_with_the_last_window_and_not_with_the_last_word(generator):
    source = ensemble(Late(clients=1, pace=1), FIFO(64), runs=2)
    source.batch = 1
    assert all_windows(source, generator) == {(m, s): 1 for m in range(2) for s in range(1, STEPS)}


def test_what_goes_on_with_nothing_but_repetitions_to_come_has_ended(generator):
    source = ensemble(Late(clients=1, pace=1), FIFO(64), runs=1)
    source.batch = 1
    all_windows(source, generator)
    assert source._runs, "its client has not said that it has finished"
    fresh = ensemble(Scripted(clients=1), FIFO(64), runs=1)
    fresh.batch = 1
    fresh.load_state_dict(unpack(pack(source.state_dict())))
    assert fresh.ended() == "all 1 runs of the ensemble have been seen"


def test_closed_clients_stop_and_the_next_window_lets_them_go_on(generator):
    engine = Scripted(clients=3)
    source = ensemble(engine, FIFO(16), runs=5)
    source.next(generator)
    source.close()
    assert not engine.active
    assert not engine.waiting
    assert source.buffer.consumed == 4
    assert sum(all_windows(source, generator).values()) == 25 - 4


def test_the_loss_of_each_run_reaches_the_draws(generator):
    class Ear(Sobol):
        heard = ()

        def feedback(self, members, scores):
            self.heard = (*self.heard, (members.tolist(), scores.tolist()))

    ear = Ear()
    source = ensemble(Scripted(), draws=ear)
    window = source.next(generator)
    source.feedback(window, None)
    source.feedback(window, window.frames, torch.arange(4.0))
    assert ear.heard == ((window.token.tolist(), [0.0, 1.0, 2.0, 3.0]),)


def test_parameters_that_are_not_finite_are_refused(generator):
    class Broken(Sobol):
        def draw(self, problem, number, seed, run_seed):
            drawn = super().draw(problem, number, seed, run_seed)
            return {**drawn, "west": torch.tensor(torch.nan if number == 2 else 300.0)}

    with pytest.raises(InputError, match="Broken gave run 2 parameters that are not finite: west"):
        ensemble(Scripted(), draws=Broken()).next(generator)


def test_a_small_buffer_is_warned_of_once(generator):
    with pytest.warns(UserWarning, match=r"not even one run.* 10 times all that \(100\)"):
        source = Ensemble(PLATE, steps=STEPS, batch=1, engine=Scripted(clients=2), buffer=Reservoir(4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(5):
            source.next(generator)
    with pytest.warns(UserWarning, match="holds 99 samples, little"):
        Ensemble(PLATE, steps=STEPS, batch=1, engine=Scripted(clients=2), buffer=Reservoir(99))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Ensemble(PLATE, steps=STEPS, batch=1, engine=Scripted(clients=2), buffer=Reservoir(100))
        Ensemble(PLATE, steps=STEPS, batch=1, engine=Scripted(clients=2))


def test_bad_arguments_are_refused():
    with pytest.raises(InputError, match="batch >= 1"):
        ensemble(Scripted(), runs=0)
    with pytest.raises(InputError, match="need at least 9"):
        ensemble(Scripted(), history=8)
    with pytest.raises(InputError, match="is drawn from 5 samples, and the FIFO holds 4"):
        ensemble(Scripted(), FIFO(4, 2))
    with pytest.raises(InputError, match="varying is empty"):
        Ensemble(SteepeningWaves(viscosity=0.1), draws=Sobol())


def stepper():
    return wrap(torch.nn.Conv2d(1, 1, 3, padding=1, padding_mode="replicate"), PLATE.interval)


def test_training_stops_by_itself_when_all_runs_have_been_seen(tmp_path):
    source = ensemble(Scripted(), runs=5)
    done = ss.train(stepper(), source, ss.objectives.Supervised(), steps=1000, folder=tmp_path, show=False)
    assert done.reason == "all 5 runs of the ensemble have been seen"
    assert done.steps == 7, "25 windows in batches of 4"
    fresh = ensemble(Scripted(), runs=5)
    again = ss.train(stepper(), fresh, ss.objectives.Supervised(), steps=1000, folder=tmp_path, show=False)
    assert (again.steps, again.reason) == (7, done.reason)
    assert fresh.engine.polls == 0


def test_figures_are_in_the_log(tmp_path):
    engine = Scripted()
    source = ensemble(engine, Reservoir(200, 8))
    done = ss.train(stepper(), source, ss.objectives.Supervised(), steps=40, folder=tmp_path, show=False)
    row = done.history[-1]
    assert row["repetitions"] == pytest.approx(160 / source.buffer.produced)
    assert row["runs"] == source.counters.runs > 0
    assert row["covered_times"] == 1.0
    assert 0 < row["covered_parameters"] < 1
    assert {"produced_a_second", "consumed_a_second", "waiting"} <= row.keys()
    assert (tmp_path / "log.csv").read_text().splitlines()[0].count("repetitions") == 1
    assert not engine.active, "the clients rest when the training has ended"


def test_in_one_process_windows_are_those_of_simulated_runs(generator):
    problem = SteepeningWaves(num_points=16, viscosity=(0.05, 0.1))
    source = Ensemble(problem, steps=5, batch=3, engine=InProcess(problem, clients=3), history=1, horizon=2, seed=4)
    window = source.next(generator)
    for frames, number in zip(window.frames, window.token.tolist(), strict=True):
        known = problem.simulate(1, 5, seed_of(4, number))
        apart = (known.frames[0].unfold(0, 3, 1).movedim(-1, 1) - frames).abs().flatten(1).amax(1)
        assert float(apart.min()) < 1e-6
    assert window.interval == problem.interval


def test_a_state_that_is_loaded_stops_the_clients_of_before(generator):
    engine = Scripted(clients=3, pace=2)
    source = ensemble(engine, FIFO(64), runs=5)
    begin = unpack(pack(source.state_dict()))
    for _ in range(3):
        source.next(generator)
    assert engine.active
    source.load_state_dict(begin)
    assert not engine.active
    assert not engine.waiting
    assert all_windows(source, generator) == WHOLE


def test_rates_begin_anew_where_a_training_goes_on(generator):
    source, fresh = ensemble(Scripted()), ensemble(Scripted())
    for _ in range(5):
        source.next(generator)
    fresh.load_state_dict(unpack(pack(source.state_dict())))
    found = fresh.figures()
    assert [found[k] for k in ("produced_a_second", "consumed_a_second", "waiting")] == [0, 0, 0]
    assert found["repetitions"] == 20 / source.buffer.produced


def test_a_run_waits_for_every_client_so_that_none_is_idle_between_two_polls(generator):
    engine = Scripted(clients=3)
    source = ensemble(engine, FIFO(64))
    for _ in range(20):
        source.next(generator)
        assert len(engine.active) + len(engine.waiting) == 6


def test_a_frame_after_the_last_one_is_refused():
    run, reception = Run(Member(0, 0, {}, 2)), Reception((1, 4, 4), 2, 1.0, direct=False)
    for step in range(2):
        reception.take(run, Delivered(0, step, true_frame(0, step)))
    with pytest.raises(Refused, match="sent step 2 where step 2 of 2"):
        reception.take(run, Delivered(0, 2, true_frame(0, 2)))


def test_a_run_under_way_is_written_down_whole():
    tail = [true_frame(3, 2), true_frame(3, 3)]
    run = Run(Member(3, 7, {"west": torch.tensor(300.0)}, 6), received=4, sent=2, losses=1, tail=tail)
    again = restored(unpack(pack(plain(run))))
    assert (again.received, again.sent, again.losses) == (4, 2, 1)
    assert (again.member.number, again.member.seed, again.member.steps) == (3, 7, 6)
    assert dict(again.member.parameters) == {"west": torch.tensor(300.0)}
    assert torch.equal(torch.stack(again.tail), torch.stack(tail))


def test_the_share_of_the_ranges_that_was_met_counts_every_run(generator):
    engine = Scripted()
    source = ensemble(engine, FIFO(64), draws=Sobol())
    for _ in range(20):
        source.next(generator)
    met = set().union(*(cells(place_of(PLATE, m.parameters)) for m in engine.submitted))
    assert len(met) > 20
    assert source.figures()["covered_parameters"] == len(met) / num_cells(len(PLATE.varying))
