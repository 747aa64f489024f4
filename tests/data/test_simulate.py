"""Simulation onto the disk: the numbers of memory, whatever interrupts it."""

from __future__ import annotations

import math
import resource
import signal

import pytest
import torch

from slipstream.data import Store
from slipstream.data.simulate import BLOCK, simulate
from slipstream.data.writer import Writer
from slipstream.errors import StoreError, UnstableStep
from slipstream.problems import KolmogorovFlow

RUNS, STEPS, SEED = 11, 6, 4


@pytest.fixture(scope="module")
def problem():
    return KolmogorovFlow(num_points=16, reynolds=(4.0, 8.0), interval=0.05, warm_up=0.2)


@pytest.fixture(scope="module")
def whole(problem, tmp_path_factory):
    """An uninterrupted simulation."""
    return simulate(problem, RUNS, STEPS, SEED, tmp_path_factory.mktemp("whole") / "flow.zarr").trajectories()


def test_frames_are_those_of_memory(problem, whole):
    """To the bit where as many runs are marched together as in a block; else up to the rounding of the transform's batch."""
    memory = problem.simulate(BLOCK, STEPS, SEED)
    assert torch.equal(whole.frames[:BLOCK], memory.frames)
    memory = problem.simulate(RUNS, STEPS, SEED)
    assert torch.allclose(whole.frames, memory.frames, rtol=0, atol=1e-6 * float(memory.frames.abs().max()))
    assert torch.equal(whole.parameters["viscosity"], memory.parameters["viscosity"])
    assert (whole.grid, whole.channels, whole.interval) == (memory.grid, memory.channels, memory.interval)
    assert whole.about["seed"] == SEED
    assert whole.about["solver"] == str(problem.reference_setting)


def test_the_problem_itself_gives_the_same(problem, whole, tmp_path):
    out = problem.simulate(RUNS, STEPS, SEED, out=tmp_path / "flow.zarr")
    assert torch.equal(out.frames, whole.frames)


@pytest.mark.parametrize("stop", [0, 3, 8, 9, 11])
def test_an_interrupted_simulation_ends_with_the_same_bits(problem, whole, tmp_path, monkeypatch, stop):
    """Stopped at any write: of the first frames, within a block, between two blocks, within the second."""
    write, count = Writer.write, []

    def stopping(self, runs, start, frames):
        if len(count) == stop:
            raise KeyboardInterrupt
        count.append(start)
        write(self, runs, start, frames)

    monkeypatch.setattr(Writer, "write", stopping)
    with pytest.raises(KeyboardInterrupt):
        simulate(problem, RUNS, STEPS, SEED, tmp_path / "flow.zarr")
    monkeypatch.setattr(Writer, "write", write)
    store = Store.open(tmp_path / "flow.zarr")
    assert not store.done
    assert [b.start for b in store.missing()] == ([0, BLOCK] if stop < STEPS else [BLOCK])
    again = simulate(problem, RUNS, STEPS, SEED, tmp_path / "flow.zarr")
    assert torch.equal(again.trajectories().frames, whole.frames)


def test_what_is_done_is_not_done_again(problem, whole, tmp_path, monkeypatch):
    simulate(problem, RUNS, STEPS, SEED, tmp_path / "flow.zarr")

    def refuse(*_):
        raise AssertionError("it was simulated again")

    monkeypatch.setattr(KolmogorovFlow, "sample", refuse)
    assert torch.equal(simulate(problem, RUNS, STEPS, SEED, tmp_path / "flow.zarr").trajectories().frames, whole.frames)


def test_it_tells_how_far_it_is_and_counts_what_was_there(problem, tmp_path, monkeypatch):
    told: list[tuple[int, int]] = []
    simulate(problem, RUNS, STEPS, SEED, tmp_path / "flow.zarr", lambda *how_far: told.append(how_far))
    total = RUNS * STEPS
    blocks = [(0, BLOCK), (BLOCK, RUNS - BLOCK)]
    assert told == [(first * STEPS + n * i, total) for first, n in blocks for i in range(2, STEPS + 1)]
    assert told[-1] == (total, total)
    told.clear()
    with Store.open(tmp_path / "flow.zarr", "a") as store:
        store._writer._do_over(BLOCK, RUNS)  # as if it had been killed in the second block
    simulate(problem, RUNS, STEPS, SEED, tmp_path / "flow.zarr", lambda *how_far: told.append(how_far))
    assert told[0] == (BLOCK * STEPS + 2 * (RUNS - BLOCK), total)
    assert told[-1] == (total, total)


def test_one_frame_is_the_sample(problem, tmp_path):
    data = simulate(problem, 3, 1, SEED, tmp_path / "flow.zarr").trajectories()
    assert torch.equal(data.frames, problem.sample(3, SEED)[0])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seed": SEED + 1}, r"about\.seed: 4 in the store, 5 asked"),
        ({"runs": RUNS + 1}, r"runs: 11 in the store, 12 asked"),
        ({"steps": STEPS + 1}, r"steps: 6 in the store, 7 asked"),
        (
            {"problem": {"reynolds": (4.0, 9.0)}},
            r"about\.problem\.arguments\.reynolds\.1: 8\.0 in the store, 9\.0 asked",
        ),
        ({"problem": {"warm_up": 0.25}}, r"about\.problem\.arguments\.warm_up: 0\.2 in the store, 0\.25 asked"),
    ],
)
def test_a_store_of_another_recipe_is_refused_with_the_difference_and_left_alone(
    problem, whole, tmp_path, change, says
):
    path = tmp_path / "flow.zarr"
    simulate(problem, RUNS, STEPS, SEED, path)
    other = {"num_points": 16, "reynolds": (4.0, 8.0), "interval": 0.05, "warm_up": 0.2, **change.pop("problem", {})}
    arguments = {"runs": RUNS, "steps": STEPS, "seed": SEED, **change}
    with pytest.raises(StoreError, match=says):
        simulate(KolmogorovFlow(**other), path=path, **arguments)
    assert torch.equal(Store.open(path).trajectories().frames, whole.frames)


def test_a_full_disk_is_one_error_and_the_same_call_goes_on_once_there_is_space(problem, whole, tmp_path):
    path = tmp_path / "flow.zarr"
    Store.create(path, **_arguments(problem)).close()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))
    try:
        with pytest.raises(StoreError, match=r"Could not write frames .* free some space"):
            simulate(problem, RUNS, STEPS, SEED, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert Store.open(path).complete.tolist() == [0] * RUNS
    assert torch.equal(simulate(problem, RUNS, STEPS, SEED, path).trajectories().frames, whole.frames)


def _arguments(problem):
    from slipstream.pretrained import describe

    return {
        "grid": problem.grid,
        "channels": problem.channels,
        "interval": problem.interval,
        "runs": RUNS,
        "steps": STEPS,
        "parameters": problem.sample_parameters(RUNS, SEED),
        "about": {"problem": describe(problem), "seed": SEED, "solver": str(problem.reference_setting)},
        "block": BLOCK,
    }


def test_a_solver_that_leaves_finite_numbers_is_said_and_its_frames_are_not_kept(problem, tmp_path, monkeypatch):
    reference = KolmogorovFlow.reference

    def breaking(self):
        stepper = reference(self)
        march = stepper.march

        def broken(frames, parameters):
            for i, new in enumerate(march(frames, parameters), start=1):
                if i == 3 and frames.shape[0] != BLOCK:  # in the second block
                    new = new.clone()
                    new[1, 0, 0, 2, 2] = math.inf
                yield new

        monkeypatch.setattr(stepper, "march", broken)
        return stepper

    monkeypatch.setattr(KolmogorovFlow, "reference", breaking)
    with pytest.raises(UnstableStep, match=rf"finite numbers at frame 3 of run {BLOCK + 1} "):
        simulate(problem, RUNS, STEPS, SEED, tmp_path / "flow.zarr")
    assert Store.open(tmp_path / "flow.zarr").complete.tolist() == [STEPS] * BLOCK + [0] * (RUNS - BLOCK)


def test_a_second_process_is_refused(problem, tmp_path):
    path = tmp_path / "flow.zarr"
    with Store.create(path, **_arguments(problem)), pytest.raises(StoreError, match="is in use by process"):
        simulate(problem, RUNS, STEPS, SEED, path)
