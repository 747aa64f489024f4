"""Ray actors as clients, on this machine. Without Ray only its absence is tested."""

import os
import signal
import sys

import pytest
import torch
from live_training import LINE, counted, line_stepper
from ray_clients import counting, dying, failing, hanging, lines, stopping, telling
from test_faults import assert_once

from slipstream.data.live.batched import InProcess
from slipstream.data.live.engine import Delivered, Finished, Lost, Member
from slipstream.errors import InputError, MissingExtra
from slipstream.objectives import Supervised
from slipstream.problems import SteepeningWaves
from slipstream.training.callbacks import Callback
from slipstream.training.loop import train


def on_ray(test):
    """Starting actors takes seconds each."""
    return pytest.mark.slow(pytest.mark.usefixtures("_ray")(test))


def engine_of(solver, **named):
    pytest.importorskip("ray")
    from slipstream.data.live.ray import RayEngine

    what = {"problem": solver} if isinstance(solver, SteepeningWaves) else {"solver": solver}
    return RayEngine(**{"cores": 0, **what, **named})


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
        RayEngine(solver=failing())


@pytest.mark.parametrize("wrong", [{"clients": 0}, {"cores": -1.0}, {"retries": -1}, {"timeout": 0.0}])
def test_arguments_that_make_no_engine_are_refused(wrong):
    from slipstream.data.live.ray import RayEngine

    with pytest.raises(InputError, match=next(iter(wrong))):
        RayEngine(solver=failing(), **wrong)


def test_an_engine_without_anything_to_run_is_refused():
    from slipstream.data.live.ray import RayEngine

    with pytest.raises(InputError, match="there is no problem; give RayEngine a function"):
        RayEngine()
    with pytest.raises(InputError, match="has no classical solver to run; give RayEngine a function"):
        RayEngine(LINE)


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


class KillActors(Callback):
    """Kills the process of every actor at some steps; Ray may start them again."""

    def __init__(self, engine, steps):
        self.engine, self.steps, self.killed = engine, steps, 0

    def on_step(self, run):
        import ray

        for actor in self.engine._actors if run.step in self.steps else ():
            ray.kill(actor.handle, no_restart=False)
            self.killed += 1


@on_ray
def test_a_training_whose_actors_are_killed_sees_every_window_once():
    engine = engine_of(lines(), clients=2, retries=3)
    source = counted(engine, runs=8)
    killer = KillActors(engine, {1, 4})
    done = train(line_stepper(), source, Supervised(), steps=1000, lr=1e-6, callbacks=[killer], show=False)
    engine.close()
    assert killer.killed == 4
    assert done.reason == "all 8 runs of the ensemble have been seen"
    assert_once(source.seen, 8)
