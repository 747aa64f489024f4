"""Trainings whose solver programs fail in every way, whose own process is killed, whose disk is full: they go on, or say why not."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import live_training
import pytest
from live_training import FRAMES, LINE, RUNS, command, counted, line_stepper
from program import FAULTS

import slipstream as ss
from slipstream.data import Programs, Reservoir, Uniform
from slipstream.data.live.engine import Lost
from slipstream.data.live.members import seed_of
from slipstream.errors import LostRun
from slipstream.objectives import Supervised
from slipstream.training.callbacks import Callback

HERE = Path(__file__).parent
NAMES = list(FAULTS)


class Ear(Programs):
    """Remembers why runs were lost. Its clock stands still while any program works, and runs fast once all have said that they think:
    so the silent one is found silent, and one that has not even started yet is not, however busy the machine."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, clock=self.time, **named)
        self.reasons, self.now = {}, 0.0

    def time(self):
        if self._running and all(b"thinking" in client.tail for client in self._running.values()):
            self.now += 60.0
        return self.now

    def poll(self, wait=False):
        events = super().poll(wait)
        for event in events:
            if isinstance(event, Lost):
                self.reasons.setdefault(event.member, []).append(event.reason)
        return events


def train(source, **more):
    return ss.train(line_stepper(), source, Supervised(), **{"steps": 1000, "lr": 1e-6, "show": False, **more})


def every_window(number):
    """What `Counted` writes down of a run: the first value of each of its windows."""
    seed = seed_of(0, number)
    rate = float(Uniform().draw(LINE, number, 0, seed)["rate"])
    return [seed % 1000 + rate * step for step in range(FRAMES - 1)]


def assert_once(seen, runs):
    """Each window of each run was given once, and holds what the program computes for its seed and its rate."""
    found = {n: sorted(v for m, v in seen if m == n) for n in {m for m, _ in seen}}
    assert found.keys() == set(range(runs))
    for n in found:
        assert found[n] == pytest.approx(every_window(n), abs=1e-3), n


REASONS = {
    "nan": "not finite",
    "shape": "has shape (8, 1)",
    "half": "in the middle of a record",
    "killed": "killed by SIGKILL",
    "silent": "silent for",
    "endless": "expected no more than 6 frames",
    "babbling": "expected a record",
    "huge": "bytes; at most",
    "corrupt": "checksum",
    "once": "killed by SIGKILL",
    "leaves child": "exit status 3",
    "raises": "Newton iteration did not converge",
    "early end": "finished after 1 of 6 frames",
    "exits": "no licence",
}


@pytest.mark.parametrize("transport", ["pipe", "socket"])
def test_a_training_meets_every_fault_once_and_sees_every_window_once(transport):
    engine = Ear(command("each"), clients=3, transport=transport, shape=(1, 8))
    source = counted(engine, runs=len(NAMES))
    done = train(source)
    assert done.reason == f"all {len(NAMES)} runs of the ensemble have been seen"
    for name, reason in REASONS.items():
        assert reason in engine.reasons[NAMES.index(name)][0], name
    assert_once(source.seen, len(NAMES))
    assert source.counters.frames == len(NAMES) * FRAMES
    assert source.counters.losses >= len(REASONS)
    assert not engine._running
    engine.close()


class KillClients(Callback):
    """kill -9 for all programs that run, after some steps."""

    def __init__(self, engine, steps):
        self.engine, self.steps, self.killed = engine, steps, 0

    def on_step(self, run):
        if run.step in self.steps:
            for client in self.engine._running.values():
                os.kill(client.process.pid, signal.SIGKILL)
                self.killed += 1


def test_clients_that_are_killed_from_outside_begin_again_and_nothing_is_counted_twice():
    engine = Programs(command(), clients=3)
    source = counted(engine, runs=12)
    killer = KillClients(engine, {1, 3, 5})
    train(source, callbacks=[killer])
    assert killer.killed > 0
    assert_once(source.seen, 12)
    engine.close()


@pytest.mark.parametrize(("fault", "reason"), [("nan", "not finite"), ("shape", r"\(8, 1\)"), ("killed", "SIGKILL")])
def test_a_program_that_always_fails_ends_the_training_with_one_clear_error(fault, reason, tmp_path):
    engine = Programs(command(fault), clients=2, shape=(1, 8))
    source = counted(engine, runs=4, restarts=2)
    with pytest.raises(
        LostRun, match=rf"Run \d of the ensemble was lost 3 times; the last time it .*{reason}(?s:.*)rate"
    ):
        train(source, folder=tmp_path)
    assert not engine._running, "no program is left behind"
    engine.close()


def processes_with(word):
    """Numbers of the processes of this machine that were called with a word."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in place.read_bytes().split(b"\0"):
                found.append(int(place.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("transport", ["pipe", "socket"])
def test_a_trainer_that_is_killed_goes_on_and_counts_nothing_twice(transport, tmp_path):
    moment = random.Random(os.urandom(4)).randrange(1, RUNS * (FRAMES - 1) // 4)
    folder = tmp_path / "killed"
    program = f"import live_training as t; t.go_with_programs({str(folder)!r}, {moment}, 'once', {transport!r})"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    died = subprocess.run([sys.executable, "-c", program], cwd=HERE, env=environment, timeout=600)
    assert died.returncode == -signal.SIGKILL, moment
    for _ in range(600):
        if not (left := processes_with(str(folder))):
            break
        time.sleep(0.05)
    assert not left, "programs end when their ensemble is gone"
    source = live_training.go_with_programs(folder, fault="good", transport=transport)
    assert len(source.seen) == RUNS * (FRAMES - 1), moment
    assert_once(source.seen, RUNS)
    assert source.counters.frames == RUNS * FRAMES, moment
    assert source.counters.runs == RUNS
    source.engine.close()


FULL = """
import resource, sys, live_training as t
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
t.go_with_programs(sys.argv[1])
"""


@pytest.mark.parametrize("room", [600, 4096])
def test_a_full_disk_is_one_clear_error_and_with_room_again_the_training_goes_on(room, tmp_path):
    """600 bytes are not enough for the log, 4096 not for the state."""
    folder, environment = tmp_path / "full", {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", FULL, str(folder), str(room)]
    died = subprocess.run(words, cwd=HERE, env=environment, timeout=600, capture_output=True, text=True)
    assert died.returncode == 1
    last = died.stderr.strip().splitlines()[-1]
    assert "StoreError: Could not write" in last, died.stderr[-3000:]
    assert "File too large" in last
    source = live_training.go_with_programs(folder)
    assert_once(source.seen, RUNS)
    source.engine.close()


def resident():
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Soak(Callback):
    """Kills a program every so many steps, and looks at the memory."""

    def __init__(self, engine):
        self.engine, self.random, self.killed, self.sizes = engine, random.Random(0), 0, []

    def on_step(self, run):
        self.sizes.append(resident())
        if run.step % 20 == 0 and self.engine._running:
            client = self.random.choice(list(self.engine._running.values()))
            os.kill(client.process.pid, signal.SIGKILL)
            self.killed += 1


@pytest.mark.slow
def test_a_long_training_with_clients_killed_at_random_needs_no_more_memory_than_at_its_begin():
    engine = Programs(command("good", 1, "", 4096), clients=3, shape=(1, 8))
    source = counted(engine, runs=None, batch=16, buffer=Reservoir(256, 16), restarts=100)
    soak = Soak(engine)
    train(source, steps=3000, callbacks=[soak])
    assert soak.killed > 50
    assert source.counters.losses > 50
    warm = max(soak.sizes[: len(soak.sizes) // 4])
    assert max(soak.sizes) <= 1.05 * warm
    engine.close()
