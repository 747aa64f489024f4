"""The word Source: laws of everything that hands out windows. A new one adds its name to CASES."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from slipstream.channels import Channel
from slipstream.data import (
    FIRO,
    Cycles,
    Ensemble,
    InProcess,
    Level,
    Mixture,
    Multigrid,
    Reservoir,
    SimulatedWindows,
    Source,
    StatePool,
    Store,
    Windows,
)
from slipstream.data.live.buffers import Buffer
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.problems import Problem, Recorded
from slipstream.stepper import State, Stepper
from slipstream.training.checkpoint import pack, unpack
from slipstream.trajectories import Trajectories

RUNS, STEPS, GRID = 6, 9, Grid.box((4, 6))
CHANNELS = (Channel("u"), Channel("v"))
BATCH = 4


def data(dtype: torch.dtype = torch.float32) -> Trajectories:
    """Every frame another one, and with each run its own parameters."""
    frames = torch.randn(RUNS, STEPS, 2, *GRID.shape, generator=torch.Generator().manual_seed(3), dtype=dtype)
    parameters = {"nu": frames[:, 0, 0, 0, 0].clone(), "map": frames[:, 0, 0].clone(), "kind": torch.arange(RUNS)}
    return Trajectories(frames, GRID, 0.5, CHANNELS, parameters)


def store(folder: Path) -> Store:
    known = data()
    path = folder / "data.zarr"
    if not path.exists():
        arguments = {"grid": GRID, "channels": CHANNELS, "interval": 0.5, "runs": RUNS, "steps": STEPS, "block": 2}
        with Store.create(path, **arguments, parameters=dict(known.parameters)) as made:
            for block in made.missing():
                made.write(block, 0, known.frames[block])
    return Store.open(path)


class Known(Problem):
    """Its trusted runs are the data."""

    def __init__(self, frames: Trajectories | None = None) -> None:
        self.frames = data() if frames is None else frames

    def simulate(self, runs, steps=1, seed=0, out=None):
        return self.frames


class Replay(Stepper):
    """Says the frames of the run that a parameter names."""

    interval = 0.5

    def start(self, frames, parameters):
        return State((data().frames[parameters["kind"]], 0))

    def advance(self, state, parameters, generator=None):
        runs, time = state.values
        return State((runs, time + 1)), runs[:, time + 1 : time + 2]


class Replayed(Recorded):
    """Its solver says the data."""

    solvable = True
    reference_setting = None

    def draw(self, generator):
        kind = int(torch.randint(RUNS, (), generator=generator))
        return {k: v[kind] for k, v in data().parameters.items()}

    def initial_for(self, generator, parameters):
        return data().frames[parameters["kind"], 0]

    def reference(self):
        return Replay()


def live(batch: int, buffer: Buffer, horizon: int = 2) -> Source:
    """A live ensemble of runs that are the data."""
    known = data()
    problem = Replayed(GRID, 0.5, CHANNELS, Recorded.of(known).statistics)
    source = Ensemble(problem, STEPS, batch, InProcess(problem, 1, 2.5), buffer, horizon=horizon)
    source.data = known
    return source


def mixture(batch: int) -> Source:
    """Two sources that give other numbers of windows at once than are drawn."""
    source = Mixture([Windows(data(), 3, batch), Windows(data(), 3, 3)], batch, shares=(1, 2))
    source.data = data()
    return source


WHOLE = Cycles(long=(Level(),), short=())
"""Multigrid windows that are always whole; what its levels do is in test_multigrid."""

CASES: dict[str, tuple[int, Callable[..., Source]]] = {
    # name: (frames in a window, made from (folder, batch))
    "windows": (3, lambda folder, batch: Windows(data(), 3, batch)),
    "windows-float64": (3, lambda folder, batch: Windows(data(torch.float64), 3, batch)),
    "windows-stride": (2, lambda folder, batch: Windows(data(), 2, batch, stride=3, runs=slice(1, 5))),
    "windows-store": (3, lambda folder, batch: Windows(store(folder), 3, batch)),
    "windows-store-parts": (2, lambda folder, batch: Windows(store(folder), 2, batch, memory=2 * 9 * 2 * 24 * 4)),
    "pool": (1, lambda folder, batch: StatePool(data(), 1, batch, size=8)),
    "pool-history": (3, lambda folder, batch: StatePool(data(), 3, batch, size=8, reset=0.2, longest=4)),
    "multigrid-windows": (3, lambda folder, batch: Multigrid(Windows(data(), 3, batch), cycles=WHOLE)),
    "multigrid-pool": (1, lambda folder, batch: Multigrid(StatePool(data(), 1, batch, size=8), known=0, cycles=WHOLE)),
    "simulated": (3, lambda folder, batch: SimulatedWindows(Known(), 3, batch, RUNS, STEPS)),
    "mixture": (3, lambda folder, batch: mixture(batch)),
    "live": (3, lambda folder, batch: live(batch, Reservoir(80, 20))),
    "live-firo": (3, lambda folder, batch: live(batch, FIRO(80, 12))),
}
OTHER: dict[str, Callable[..., Source]] = {
    "windows": lambda folder: Windows(data(), 4, BATCH),
    "windows-float64": lambda folder: Windows(data(), 3, BATCH, runs=slice(0, 4)),
    "windows-stride": lambda folder: Windows(data(), 2, BATCH, stride=2, runs=slice(1, 5)),
    "windows-store": lambda folder: Windows(store(folder), 3, BATCH, memory=2 * 9 * 2 * 24 * 4),
    "windows-store-parts": lambda folder: Windows(store(folder), 3, BATCH),
    "pool": lambda folder: StatePool(data(), 1, BATCH, size=9),
    "pool-history": lambda folder: StatePool(data(), 2, BATCH, size=8, reset=0.2, longest=4),
    "multigrid-windows": lambda folder: Multigrid(Windows(data(), 3, BATCH), cycles=WHOLE, strides=True),
    "multigrid-pool": lambda folder: Multigrid(StatePool(data(), 1, BATCH, size=9), known=0, cycles=WHOLE),
    "simulated": lambda folder: SimulatedWindows(Known(), 2, BATCH, RUNS, STEPS),
    "mixture": lambda folder: Mixture([Windows(data(), 3, BATCH)], BATCH),
    "live": lambda folder: live(BATCH, FIRO(80, 20)),
    "live-firo": lambda folder: live(BATCH, FIRO(80, 12), horizon=1),
}
"""The same kind of source with other arguments, whose state must not be mistaken."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sources")


@pytest.fixture(params=CASES)
def case(request):
    return request.param


@pytest.fixture
def make(case, folder):
    return lambda batch=BATCH: CASES[case][1](folder, batch)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def train(source: Source, draws: torch.Generator, count: int, outputs: bool = True) -> list[Any]:
    """Windows in turn with feedback, as the loop does it; everything that a training could see of them."""
    seen = []
    for _ in range(count):
        window = source.next(draws)
        seen.append((window.frames.clone(), {k: v.clone() for k, v in window.parameters.items()}))
        source.feedback(window, 0.9 * window.frames[:, -1:] if outputs else None)
    return seen


def same(a: list[Any], b: list[Any]) -> bool:
    return len(a) == len(b) and all(
        torch.equal(u, v) and p.keys() == q.keys() and all(torch.equal(p[k], q[k]) for k in p)
        for (u, p), (v, q) in zip(a, b, strict=True)
    )


def test_windows_have_the_declared_shapes_batch_after_batch(make, case):
    source, draws = make(), generator()
    known = data(torch.float64 if "float64" in case else torch.float32)
    for _ in range(12):
        window = source.next(draws)
        assert window.frames.shape == (BATCH, CASES[case][0], 2, *GRID.shape)
        assert window.frames.dtype == known.frames.dtype
        assert window.grid == GRID
        assert window.interval == known.interval * getattr(source, "stride", 1)
        assert {k: (v.shape[1:], v.dtype) for k, v in window.parameters.items()} == {
            k: (v.shape[1:], v.dtype) for k, v in known.parameters.items()
        }
        assert all(len(v) == BATCH for v in window.parameters.values())
        source.feedback(window, window.frames[:, -1:])


def test_first_windows_are_frames_of_the_data_with_the_parameters_of_their_run(make, case):
    window = make().next(generator())
    known = data(window.frames.dtype)
    stride = round(window.interval / known.interval)
    for i in range(BATCH):
        run = int(window.parameters["kind"][i])
        begin = int((known.frames[run] - window.frames[i, :1]).abs().flatten(1).sum(1).argmin())
        end = begin + CASES[case][0] * stride
        assert torch.equal(window.frames[i], known.frames[run, begin:end:stride][: CASES[case][0]])
        assert torch.equal(window.parameters["nu"][i], known.parameters["nu"][run].to(window.parameters["nu"].dtype))
        assert torch.equal(window.parameters["map"][i], known.parameters["map"][run].to(window.parameters["map"].dtype))


def test_the_generator_alone_decides(make):
    torch.manual_seed(1)
    one = train(make(), generator(7), 10)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert same(one, train(make(), generator(7), 10))
    assert torch.equal(torch.get_rng_state(), before), "and nobody else's numbers are used up"
    assert not same(one, train(make(), generator(8), 10))


@pytest.mark.parametrize("after", [0, 1, 5, 13])
def test_it_goes_on_exactly_from_its_state(make, after):
    """Through the checkpoint's own format, which also says that the state is plain: tensors, numbers, text and nests of those."""
    source, draws = make(), generator(2)
    train(source, draws, after)
    state, random = unpack(pack(source.state_dict())), draws.get_state()
    expected = train(source, draws, 12)
    again, others = make(), generator(99)
    again.load_state_dict(state)
    others.set_state(random)
    assert same(expected, train(again, others, 12))


def test_a_used_source_goes_back_to_its_state_too(make):
    source, draws = make(), generator(2)
    state, random = unpack(pack(source.state_dict())), draws.get_state()
    expected = train(source, draws, 8)
    source.load_state_dict(state)
    draws.set_state(random)
    assert same(expected, train(source, draws, 8))


def test_what_was_loaded_is_not_shared_with_who_loads_it(make):
    first = make()
    train(first, generator(2), 3)
    state = unpack(pack(first.state_dict()))
    one, two = make(), make()
    one.load_state_dict(state)
    train(one, generator(5), 6)
    two.load_state_dict(state)
    fresh = make()
    fresh.load_state_dict(unpack(pack(first.state_dict())))
    assert same(train(two, generator(6), 6), train(fresh, generator(6), 6))


def test_feedback_is_accepted_with_and_without_outputs_and_leaves_the_data_alone(make, case):
    source, draws = make(), generator()
    known = data(torch.float64 if "float64" in case else torch.float32)
    train(source, draws, 4, outputs=False)
    train(source, draws, 4)
    source = getattr(source, "source", getattr(source, "windows", source))
    held = getattr(source, "starts", None) or source.data
    frames = held.trajectories().frames if isinstance(held, Store) else held.frames
    assert torch.equal(frames, known.frames)


def test_a_window_is_the_trainings_own(make):
    """Whoever changes a window changes neither the data nor the next windows."""
    source, draws, other, others = make(), generator(4), make(), generator(4)
    for _ in range(6):
        window, expected = source.next(draws), other.next(others)
        assert torch.equal(window.frames, expected.frames)
        source.feedback(window, window.frames[:, -1:].clone())
        other.feedback(expected, expected.frames[:, -1:].clone())
        window.frames.fill_(torch.nan)


@pytest.mark.parametrize("state", [{"nonsense": 1}, {}, {"layout": {}}, {"layout": 3}])
def test_a_state_of_something_else_is_refused_and_changes_nothing(make, state):
    source, draws, other, others = make(), generator(), make(), generator()
    train(source, draws, 3)
    train(other, others, 3)
    with pytest.raises(InputError, match="state"):
        source.load_state_dict(state)
    assert same(train(source, draws, 5), train(other, others, 5))


def test_the_state_of_another_batch_size_is_refused_by_one_clear_error(make):
    source = make()
    train(source, generator(), 2)
    with pytest.raises(
        InputError, match=rf"batch was {BATCH} and is {BATCH - 1}\. Continue with the same data and arguments"
    ):
        make(BATCH - 1).load_state_dict(unpack(pack(source.state_dict())))


def test_the_state_of_other_arguments_is_refused(make, case, folder):
    other = OTHER[case](folder)
    train(other, generator(), 2)
    with pytest.raises(InputError, match=r"cannot go on from the state of another one: .* was .* and is "):
        make().load_state_dict(unpack(pack(other.state_dict())))


@pytest.mark.parametrize("place", ["frames", "parameter", "map"])
def test_data_that_are_not_finite_are_refused(case, place):
    if case.startswith("live"):
        pytest.skip("what solvers send is looked at when it comes: tests/data/live/test_ensemble.py")
    known = data()
    {"frames": known.frames[4], "parameter": known.parameters["nu"][4:5], "map": known.parameters["map"][4]}[
        place
    ].view(-1)[-1] = torch.nan
    make = {
        "windows": lambda: Windows(known, 3, BATCH),
        "pool": lambda: StatePool(known, 1, BATCH, size=8),
        "multigrid": lambda: Multigrid(Windows(known, 3, BATCH)),
        "mixture": lambda: Mixture([Windows(known, 3, BATCH)], BATCH),
        "simulated": lambda: SimulatedWindows(Known(known), 3, BATCH, RUNS, STEPS).next(generator()),
    }
    with pytest.raises(InputError, match=r"run 4"):
        make[case.partition("-")[0]]()


def test_the_word_itself_gives_nothing_and_keeps_nothing():
    with pytest.raises(TypeError, match="defines next"):
        Source().next(generator())
    assert Source().state_dict() == {}
    Source().load_state_dict({})
    with pytest.raises(InputError, match=r"keeps no state, but got \['a'\]"):
        Source().load_state_dict({"a": 1})
