"""Ray actors as clients, on this machine. Without Ray only its absence is tested."""

import os
import signal
import sys

import pytest
import torch
from ray_clients import counting, dying, failing, hanging, stopping, telling

from slipstream.data.live.batched import InProcess
from slipstream.data.live.engine import Delivered, Finished, Lost, Member
from slipstream.errors import InputError, MissingExtra
from slipstream.problems import SteepeningWaves


def on_ray(test):
    """Starting actors takes seconds each."""
    return pytest.mark.slow(pytest.mark.usefixtures("_ray")(test))


def engine_of(*arguments, **named):
    pytest.importorskip("ray")
    from slipstream.data.live.ray import RayEngine

    return RayEngine(*arguments, **{"cores": 0, **named})


@pytest.fixture(scope="module")
def _ray():
    ray = pytest.importorskip("ray")
    ray.init("local", include_dashboard=False, log_to_driver=False, object_store_memory=10**8)
    yield
    ray.shutdown()


def everything(engine):
    events = []
    while new := engine.poll(wait=True):
        events += new
    return events


def test_without_ray_the_extra_is_named(monkeypatch):
    from slipstream.data.live.ray import RayEngine

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"slipstream\[ray\]"):
        RayEngine(failing())


@pytest.mark.parametrize("wrong", [{"clients": 0}, {"cores": -1.0}, {"retries": -1}, {"timeout": 0.0}])
def test_arguments_that_make_no_engine_are_refused(wrong):
    from slipstream.data.live.ray import RayEngine

    with pytest.raises(InputError, match=next(iter(wrong))):
        RayEngine(failing(), **wrong)


@on_ray
def test_a_problem_gives_the_frames_of_the_engine_in_this_process_to_the_bit():
    problem = SteepeningWaves(num_points=64)
    runs = [Member(i, 5 + i, {}, 4) for i in range(2)]
    found = []
    for engine in (engine_of(problem, clients=2), InProcess(problem, clients=1)):
        engine.submit(runs)
        events = everything(engine)
        engine.close()
        found.append({(e.member, e.step): e.frame for e in events if isinstance(e, Delivered)})
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][k], found[1][k]) for k in found[0])


@on_ray
def test_the_kill_of_a_worker_is_survived_and_no_frame_comes_twice():
    engine = engine_of(telling(), retries=2)
    engine.submit([Member(0, 0, {}, 8)])
    first = engine.poll(wait=True)
    worker = int(first[0].frame[0, 0])
    os.kill(worker, signal.SIGKILL)
    events = first + everything(engine)
    engine.close()
    assert [type(e) for e in events] == [Delivered] * 8 + [Finished]
    assert [int(e.frame[0, 1]) for e in events[:8]] == list(range(8))
    assert int(events[7].frame[0, 0]) != worker


@on_ray
def test_a_run_that_kills_every_worker_is_lost_and_the_next_is_computed():
    engine = engine_of(dying(), retries=0)
    engine.submit([Member(0, 0, {}, 4), Member(1, 1, {}, 1)])
    events = everything(engine)
    engine.close()
    assert isinstance(events[-3], Lost)
    assert "Ray gave the run up after" in events[-3].reason
    assert [type(e) for e in events if e.member == 1] == [Delivered, Finished]


@on_ray
@pytest.mark.parametrize(
    ("solver", "reason"),
    [(failing, "after 1 of 4 frames: ValueError: the Newton"), (stopping, "solver stopped after 1 of 4 frames")],
)
def test_a_solver_that_fails_loses_its_run(solver, reason):
    engine = engine_of(solver())
    engine.submit([Member(0, 0, {}, 4)])
    delivered, lost = everything(engine)
    engine.close()
    assert isinstance(delivered, Delivered)
    assert reason in lost.reason


@on_ray
def test_a_silent_actor_is_replaced_when_its_time_is_over():
    now = [0.0]
    engine = engine_of(hanging(), timeout=60.0, clock=lambda: now[0])
    engine.submit([Member(0, 0, {}, 4), Member(1, 1, {}, 1)])
    engine.poll(wait=True)
    now[0] = 60.0
    assert engine.poll() == []
    now[0] = 60.1
    (lost,) = engine.poll()
    assert "silent for 60.1 s after 1 of 4 frames" in lost.reason
    assert [type(e) for e in everything(engine)] == [Delivered, Finished]
    engine.close()


@on_ray
def test_actors_wait_while_nobody_polls(tmp_path):
    import ray

    path = tmp_path / "step"
    engine = engine_of(counting(str(path)))
    engine.submit([Member(0, 0, {}, 50)])
    assert engine.poll(wait=True)[0].step == 0
    for _ in range(20):  # long enough for all 50, were they not held back
        ray.wait([ray.put(0)], timeout=0)
        ray.get(ray.remote(num_cpus=0)(lambda: None).remote())
    assert int(path.read_text()) <= 4
    assert len(everything(engine)) == 50
    engine.close()
