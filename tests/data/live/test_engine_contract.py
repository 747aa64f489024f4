"""What every engine promises to the ensemble. An engine joins by its name."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch

from slipstream.data.live.batched import InProcess
from slipstream.data.live.engine import Delivered, Engine, Finished, Lost, Member
from slipstream.data.live.programs import Programs, python_client
from slipstream.problems import SteepeningWaves

HERE = Path(__file__).parent
PROGRAM = [sys.executable, str(HERE / "program.py"), "good"]


def ray_engine(clients):
    pytest.importorskip("ray")
    from ray_clients import rising

    from slipstream.data.live.ray import RayEngine

    return RayEngine(solver=rising(), clients=clients, cores=0)


ENGINES = {
    "in process": lambda clients: InProcess(SteepeningWaves(num_points=64), clients),
    "programs": lambda clients: Programs(PROGRAM, clients),
    "programs by socket": lambda clients: Programs(PROGRAM, clients, transport="socket"),
    "python class": lambda clients: Programs(python_client("program:Rising", ("program",)), clients, cwd=HERE),
    "ray": ray_engine,
}


@pytest.fixture(scope="module", autouse=True)
def _one_ray():
    """Started once, by whoever needs it first, and stopped here."""
    yield
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()


@pytest.fixture(params=[pytest.param(n, marks=pytest.mark.slow) if n == "ray" else n for n in ENGINES])
def make(request):
    if request.param == "ray":
        ray = pytest.importorskip("ray")
        if not ray.is_initialized():
            ray.init("local", include_dashboard=False, log_to_driver=False, object_store_memory=10**8)
    made = []

    def build(clients=2):
        made.append(ENGINES[request.param](clients))
        return made[-1]

    yield build
    for engine in made:
        engine.close()


def members(count, steps=4, first=0):
    return [Member(first + i, 7 + first + i, {}, steps) for i in range(count)]


def everything(engine):
    events = []
    while new := engine.poll(wait=True):
        events += new
    return events


def of(events, number):
    return [e for e in events if e.member == number]


def test_it_is_an_engine(make):
    engine = make(3)
    assert isinstance(engine, Engine)
    assert engine.clients == 3
    assert json.loads(json.dumps(engine.describe())) == engine.describe()


def test_an_engine_without_work_does_not_wait(make):
    engine = make()
    assert engine.poll() == []
    assert engine.poll(wait=True) == []


def test_each_run_sends_its_frames_in_order_and_then_its_end_once(make):
    engine = make()
    runs = [*members(3), *members(1, steps=1, first=3), *members(1, steps=7, first=4)]
    engine.submit(runs)
    events = everything(engine)
    for run in runs:
        *frames, end = of(events, run.number)
        assert [f.step for f in frames] == list(range(run.steps))
        assert all(isinstance(f, Delivered) and f.seconds >= 0 and torch.isfinite(f.frame).all() for f in frames)
        assert end == Finished(run.number)
    assert len(events) == sum(r.steps + 1 for r in runs)


def test_runs_start_in_their_order_and_no_more_than_clients_at_once(make):
    engine = make(2)
    engine.submit(members(6, steps=3))
    events = everything(engine)
    started: set[int] = set()
    ended: set[int] = set()
    for event in events:
        started.add(event.member)
        assert started <= set(range(len(ended) + 2))  # the next in order, when there is room
        assert len(started - ended) <= 2
        if isinstance(event, Finished):
            ended.add(event.member)
    assert ended == set(range(6))


def test_a_run_is_the_same_whenever_it_is_computed(make):
    engine = make(1)
    engine.submit(members(2))
    first = everything(engine)
    engine.submit(members(2))
    second = everything(engine)
    assert [type(e) for e in first] == [type(e) for e in second]
    for a, b in zip(first, second, strict=True):
        if isinstance(a, Delivered):
            assert (a.member, a.step) == (b.member, b.step)
            assert torch.equal(a.frame, b.frame)
    frames = [e.frame for e in first if isinstance(e, Delivered)]
    assert not torch.equal(frames[0], frames[4])


def test_frames_are_the_callers_own(make):
    engine = make(1)
    engine.submit(members(1))
    events = [e for e in everything(engine) if isinstance(e, Delivered)]
    kept = [e.frame.clone() for e in events]
    for e in events:
        e.frame.zero_()
    engine.submit(members(1))
    again = [e for e in everything(engine) if isinstance(e, Delivered)]
    assert all(torch.equal(a, e.frame) for a, e in zip(kept, again, strict=True))


def test_cancelled_runs_are_not_heard_of_again_and_the_others_finish(make):
    engine = make(2)
    engine.submit(members(5, steps=6))
    before = engine.poll(wait=True)
    under_way = next(n for n in range(5) if Finished(n) not in before)
    engine.cancel([under_way, 4, 99])
    events = everything(engine)
    assert not {under_way, 4} & {e.member for e in events}
    rest = {0, 1, 2, 3} - {under_way}
    assert {e.member for e in [*before, *events] if isinstance(e, Finished)} == rest
    for n in rest:
        assert [e.step for e in of([*before, *events], n)[:-1]] == list(range(6))


def test_the_number_of_clients_changes_while_it_works(make):
    engine = make(1)
    engine.submit(members(8, steps=3))
    events = engine.poll(wait=True)
    engine.resize(4)
    assert engine.clients == 4
    events += engine.poll(wait=True)
    engine.resize(2)
    events += everything(engine)
    assert engine.clients == 2
    assert {e.member for e in events if isinstance(e, Finished)} == set(range(8))
    assert not any(isinstance(e, Lost) for e in events)
    with pytest.raises(ValueError, match="0"):
        engine.resize(0)


def test_close_ends_everything_and_may_be_called_twice(make):
    engine = make(2)
    engine.submit(members(3, steps=50))
    engine.poll(wait=True)
    processes = [c.process.pid for c in engine._running.values()] if isinstance(engine, Programs) else []
    engine.close()
    engine.close()
    assert engine.poll() == []
    assert engine.poll(wait=True) == []
    for number in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)  # a zombie would still answer
