"""The source that fits: what was given, and what is to be minimised, decide."""

from __future__ import annotations

import pytest
import torch

from slipstream.channels import Channel
from slipstream.data import Dataset, StatePool, Store, Windows, as_source
from slipstream.data import choose as choosing
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.objectives import Supervised
from slipstream.objectives.objective import Objective
from slipstream.problems import KolmogorovFlow, Problem
from slipstream.steppers import wrap
from slipstream.trajectories import Trajectories

GRID, CHANNELS = Grid.box(4), (Channel("u"),)
FRAMES = torch.randn(5, 12, 1, 4, generator=torch.Generator().manual_seed(0))
STEPPER = wrap(torch.nn.Identity(), 0.5, history=2, horizon=3)
"""Objectives with labels ask it for 2 frames and 3 later ones."""


class NoLabels(Objective):
    """Looks at the past alone."""


def known() -> Trajectories:
    return Trajectories(FRAMES, GRID, 0.5, CHANNELS)


class Readings(Dataset):
    """A data set that is no store."""

    def trajectories(self, runs=slice(None), times=slice(None)):
        return known()[runs, times]


@pytest.fixture
def path(tmp_path):
    arguments = {"grid": GRID, "channels": CHANNELS, "interval": 0.5, "runs": 5, "steps": 12}
    with Store.create(tmp_path / "u.zarr", **arguments) as store:
        store.write(slice(0, 5), 0, FRAMES)
    return tmp_path / "u.zarr"


GIVEN = {
    "trajectories": lambda path: known(),
    "data set": lambda path: Readings(),
    "store": lambda path: Store.open(path),
    "path": lambda path: path,
    "text": str,
}


@pytest.mark.parametrize("given", GIVEN)
def test_labels_make_windows_of_as_many_frames_as_are_asked_for(given, path, generator):
    source = as_source(GIVEN[given](path), STEPPER, Supervised(calls=2), batch=4)
    assert isinstance(source, Windows)
    assert (source.length, source.batch) == (2 + 2 * 3, 4)
    assert isinstance(source.data, Store) == (given in ("store", "path", "text")), "a store is not read into memory"
    assert source.next(generator).frames.shape == (4, 8, 1, 4)


@pytest.mark.parametrize("given", GIVEN)
def test_without_labels_the_data_are_starts_of_a_pool(given, path, generator):
    pool = as_source(GIVEN[given](path), STEPPER, NoLabels(), batch=4)
    assert isinstance(pool, StatePool)
    assert (pool.history, pool.batch) == (2, 4)
    assert torch.equal(pool.starts.frames, FRAMES)
    assert pool.next(generator).frames.shape == (4, 2, 1, 4)


def test_a_source_is_taken_as_it_is():
    source = Windows(known(), 3, 2)
    assert as_source(source, STEPPER, NoLabels(), batch=5) is source


def test_a_batch_may_be_larger_than_a_pool_usually_is(generator):
    assert as_source(known(), STEPPER, NoLabels(), batch=8).size == choosing.POOL
    pool = as_source(known(), STEPPER, NoLabels(), batch=choosing.POOL + 44)
    assert pool.next(generator).frames.shape[0] == 300


@pytest.fixture(scope="module")
def problem():
    return KolmogorovFlow(num_points=16, reynolds=(4.0, 8.0), interval=0.05, warm_up=0.2)


def test_a_problem_is_simulated_where_labels_are_needed(problem, monkeypatch):
    monkeypatch.setattr(choosing, "RUNS", 2)
    for steps, expected in ((6, 6), (3, 5)):  # never fewer than a window needs
        monkeypatch.setattr(choosing, "STEPS", steps)
        source = as_source(problem, STEPPER, Supervised(), batch=2, seed=3)
        assert isinstance(source, Windows)
        assert torch.equal(source.data.frames, problem.simulate(2, expected, seed=3).frames)


def test_without_labels_a_problem_gives_short_marches_of_its_fast_solver(problem, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("trusted trajectories are not needed")

    monkeypatch.setattr(KolmogorovFlow, "simulate", refuse)
    one = as_source(problem, STEPPER, NoLabels(), batch=3, seed=1)
    assert isinstance(one, StatePool)
    assert set(one.starts.parameters) == {"viscosity"}
    frames, parameters = problem.sample(64, seed=1)
    assert torch.equal(one.starts.frames[::64, :1], frames)
    assert torch.equal(one.starts.parameters["viscosity"], parameters["viscosity"].repeat_interleave(64))


def test_a_steady_problem_is_simulated_one_frame_a_run(monkeypatch):
    class Still(Problem):
        steady = True

        def simulate(self, runs, steps=1, seed=0, out=None):
            assert (runs, steps) == (choosing.RUNS, 1)
            return Trajectories(FRAMES[:, :1], GRID, 0.0, CHANNELS)

    source = as_source(Still(), wrap(torch.nn.Identity(), 0.5, history=0), Supervised(), batch=2)
    assert isinstance(source, Windows)
    assert source.length == 1


def test_a_pool_of_a_problem_takes_every_argument_of_a_pool(problem):
    pool = StatePool.of(problem, 2, 3, runs=4, frames=5, apart=2, seed=1, size=7, reset=0.25, longest=3, trust=0.1)
    assert pool.starts.frames.shape[:2] == (20, 2)
    assert (pool.history, pool.batch, pool.size, pool.reset, pool.longest, pool.trust) == (2, 3, 7, 0.25, 3, 0.1)


@pytest.mark.parametrize("given", [None, 3, [1.0], FRAMES])
def test_anything_else_is_refused_by_its_kind(given):
    with pytest.raises(InputError, match=rf"Training needs a problem.*; got {type(given).__name__}\."):
        as_source.__wrapped__(given, STEPPER, Supervised())


def test_a_state_without_a_frame_is_refused():
    steady = wrap(torch.nn.Identity(), 0.5, history=0)
    with pytest.raises(InputError, match="history=0"):
        as_source(known(), steady, NoLabels())
