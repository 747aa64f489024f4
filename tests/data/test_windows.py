"""Windows: every window once an epoch, in an order that the generator decides, in bounded memory, continued exactly."""

import json
import weakref
from collections import Counter
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.channels import Channel
from slipstream.data import layout
from slipstream.data.store import Store
from slipstream.data.windows import Windows
from slipstream.errors import InputError, StoreError
from slipstream.grids import Grid
from slipstream.trajectories import Trajectories

RUNS, STEPS, BLOCK, GRID = 7, 23, 4, Grid.box(4)
CHANNELS = (Channel("u"), Channel("v"))
FRAME_BYTES = 2 * GRID.size * 4
RUN, TIME = torch.arange(RUNS), torch.arange(STEPS)
FRAMES = (100.0 * RUN[:, None] + TIME)[:, :, None, None].expand(RUNS, STEPS, 2, *GRID.shape).clone()
PARAMETERS = {"run": RUN, "field": RUN[:, None].expand(RUNS, 4).float().clone()}
SMALL = 100 * FRAME_BYTES  # of the 161 frames


def trajectories(frames=FRAMES):
    return Trajectories(frames, GRID, 0.5, CHANNELS, PARAMETERS)


def make_store(path, frames=FRAMES, blocks=None):
    with pytest.MonkeyPatch.context() as patch:  # chunks of 2 runs and 5 frames
        patch.setattr(layout, "CHUNK_BYTES", 10 * FRAME_BYTES)
        patch.setattr(layout, "CHUNK_FRAMES", 5)
        arguments = {"grid": GRID, "channels": CHANNELS, "interval": 0.5, "runs": RUNS, "steps": STEPS, "block": BLOCK}
        parameters = {"run_": PARAMETERS["run"], "field": PARAMETERS["field"]}
        with Store.create(path, **arguments, parameters=parameters) as store:
            assert store.chunk == (2, 5)
            for block in store.missing()[:blocks]:
                store.write(block, 0, frames[block])
    return Store.open(path)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("windows") / "flow.zarr")


@pytest.fixture(params=["trajectories", "small", "whole"])
def sourced(request, store):
    """Windows from memory, from a store in several pools, and from one that fits."""
    data = trajectories() if request.param == "trajectories" else store
    memory = SMALL if request.param == "small" else 2**30

    def make(*args, **kwargs):
        return Windows(data, *args, **kwargs, memory=memory)

    return make


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def names(window):
    """(run, first frame) of each window of a batch."""
    return [divmod(int(v), 100) for v in window.frames[:, 0, 0, 0]]


def first_epochs(windows, seed=0, epochs=1):
    g = generator(seed)
    count, rest = divmod(epochs * windows.num_windows, windows.batch)
    assert rest == 0, "choose a batch that divides the epoch"
    return [name for _ in range(count) for name in names(windows.next(g))]


@pytest.mark.parametrize(
    ("length", "stride", "runs"), [(4, 1, slice(None)), (1, 1, slice(1, 6)), (3, 4, slice(2, 7)), (23, 1, slice(0, 3))]
)
def test_an_epoch_shows_every_window_once(sourced, length, stride, runs):
    windows = sourced(length, 1, stride, runs)
    starts = STEPS - (length - 1) * stride
    expected = Counter((run, start) for run in range(RUNS)[runs] for start in range(starts))
    shown = first_epochs(windows, epochs=3)
    n = windows.num_windows
    assert n == len(expected)
    for epoch in range(3):
        assert Counter(shown[epoch * n : (epoch + 1) * n]) == expected
    if n > 5:
        assert shown[:n] != shown[n : 2 * n]
        assert shown[:n] != sorted(shown[:n])


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 23), st.integers(1, 3), st.integers(0, 6), st.integers(1, 7), st.integers(100, 2000))
def test_an_epoch_is_whole_whatever_the_sizes(store, length, stride, first, count, frames_in_memory):
    length = min(length, (STEPS - 1) // stride + 1)
    runs = slice(first, min(RUNS, first + count))
    windows = Windows(store, length, 1, stride, runs, memory=frames_in_memory * FRAME_BYTES)
    starts = STEPS - (length - 1) * stride
    assert sorted(first_epochs(windows)) == [(run, start) for run in range(RUNS)[runs] for start in range(starts)]


def test_a_window_holds_equidistant_frames_and_the_parameters_of_its_run(sourced, store):
    windows, g = sourced(4, 8, 3), generator()
    for _ in range(40):
        window = windows.next(g)
        assert window.interval == 1.5
        assert window.grid == GRID
        assert window.frames.shape == (8, 4, 2, 4)
        for i, (run, start) in enumerate(names(window)):
            assert torch.equal(window.frames[i], FRAMES[run, start : start + 10 : 3])
            assert torch.equal(window.parameters["field"][i], PARAMETERS["field"][run])
            assert int(next(v for k, v in window.parameters.items() if k.startswith("run"))[i]) == run


def test_the_generator_alone_decides_the_order(sourced):
    torch.manual_seed(0)
    one = first_epochs(sourced(3, 7))
    torch.manual_seed(1)
    assert one == first_epochs(sourced(3, 7))
    assert one == first_epochs(sourced(3, 21))  # and the batch is only how it is cut
    assert one != first_epochs(sourced(3, 7), seed=1)


@pytest.mark.parametrize("after", [0, 1, 6, 13, 14, 40])
def test_training_continues_exactly_anywhere(sourced, after):
    windows, g = sourced(3, 11), generator()  # 147 windows: pools and epochs end within batches
    for _ in range(after):
        windows.next(g)
    state, random = json.loads(json.dumps(windows.state_dict())), g.get_state()
    expected = [windows.next(g) for _ in range(15)]
    again, h = sourced(3, 11), generator(9)
    again.load_state_dict(state)
    h.set_state(random)
    for window in expected:
        other = again.next(h)
        assert torch.equal(window.frames, other.frames)
        assert all(torch.equal(v, other.parameters[k]) for k, v in window.parameters.items())


def test_memory_stays_bounded_and_each_part_is_read_once_an_epoch(store, monkeypatch):
    alive, most, reads = weakref.WeakSet(), 0, Counter()
    load = Store.trajectories

    def spy(self, runs, times):
        nonlocal most
        data = load(self, runs, times)
        reads[(runs.start, times.start)] += 1
        alive.add(data.frames)
        most = max(most, sum(f.nbytes for f in alive))
        return data

    monkeypatch.setattr(Store, "trajectories", spy)
    windows = Windows(store, 3, 7, memory=SMALL)
    first_epochs(windows)
    assert 0.5 * SMALL < most <= SMALL
    assert len(reads) > 8
    assert set(reads.values()) == {1}
    reads.clear()
    first_epochs(Windows(store, 3, 7), epochs=4)
    assert len(reads) > 8
    assert set(reads.values()) == {1}


def test_neighbours_in_the_order_are_no_neighbours_in_the_store(store):
    shown = first_epochs(Windows(store, 3, 7, memory=SMALL))
    near = [a[0] == b[0] and abs(a[1] - b[1]) <= 5 for a, b in pairwise(shown)]
    assert sum(near) / len(near) < 0.3
    assert len({run // 2 for run, _ in shown[:40]}) >= 3


def test_what_is_in_memory_together_is_shuffled_too(store):
    one_part = 2 * 7 * FRAME_BYTES  # 2 runs, 5 first frames and the 2 that windows reach beyond: 10 windows
    parts = {frozenset(first_epochs(Windows(store, 3, 7, memory=one_part), seed)[:10]) for seed in range(5)}
    assert len(parts) > 2


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused_with_its_place(tmp_path, value):
    frames = FRAMES.clone()
    frames[5, 17, 1, 2] = value
    says = rf"{value} in run 5, frame 17, channel 'v', at point \(2,\)"
    with pytest.raises(InputError, match=says):
        Windows(trajectories(frames), 3, 7)
    with pytest.raises(InputError, match=says):
        Windows(trajectories(frames), 3, 7, runs=slice(4, 7))
    windows = Windows(make_store(tmp_path / "flow.zarr", frames), 3, 7, memory=SMALL)
    with pytest.raises(InputError, match=says):
        first_epochs(windows)
    first_epochs(Windows(trajectories(frames), 3, 7, runs=slice(0, 5)))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"length": 24}, "reach over 24 frames; the data have 23 a run.*length <= 23"),
        ({"length": 7, "stride": 4}, "reach over 25 frames.*length <= 6"),
        ({"length": 23, "batch": 8}, "batch of 8 windows.*there are 7"),
        ({"runs": slice(0, 6, 2)}, "neighbouring runs"),
        ({"runs": slice(7, 9)}, "at least one of 7"),
        ({"length": 0}, "length=0"),
        ({"stride": 0}, "stride=0"),
    ],
)
def test_windows_that_cannot_be_are_refused(sourced, arguments, says):
    with pytest.raises(InputError, match=says):
        sourced(**{"length": 3, "batch": 2, **arguments})


def test_too_little_memory_is_refused(store):
    with pytest.raises(InputError, match=f"takes {2 * 7 * FRAME_BYTES} bytes, more than memory=64"):
        Windows(store, 3, 2, memory=64)


def test_incomplete_runs_are_refused_and_complete_ones_taken(tmp_path):
    store = make_store(tmp_path / "flow.zarr", blocks=1)
    with pytest.raises(StoreError, match=r"4 of 7 runs complete.*complete runs only"):
        Windows(store, 3, 7)
    assert {run for run, _ in first_epochs(Windows(store, 3, 7, runs=slice(0, 4)))} == {0, 1, 2, 3}


def test_the_state_of_other_windows_is_refused(sourced):
    state = sourced(3, 7).state_dict()
    for other, says in (
        ({"batch": 5}, "batch was 7 and is 5"),
        ({"length": 4}, "length was 3 and is 4"),
        ({"stride": 2}, "stride was 1 and is 2"),
        ({"runs": slice(0, 3)}, "windows was 147 and is 63"),
    ):
        with pytest.raises(InputError, match=says):
            sourced(**{"length": 3, "batch": 7, **other}).load_state_dict(state)
