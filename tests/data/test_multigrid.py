"""Multigrid: shapes that cost the same, views that keep the physics, and nothing lost between steps."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from slipstream.channels import Channel
from slipstream.data import Cycles, Level, Multigrid, Source, StatePool, Windows
from slipstream.data.coarser import coarsen, coarser_grid, summed
from slipstream.errors import InputError
from slipstream.grids import Axis, Grid, resample
from slipstream.training.checkpoint import pack, unpack
from slipstream.trajectories import Trajectories, Window

SQUARE = Grid.box(32, num_dims=2)
LINE = Grid.box(64, num_dims=1)
WHOLE = Cycles(long=(Level(),), short=())


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def band_limited(grid: Grid, waves: int, shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    """Random fields (float64) of wavenumbers up to `waves` along each axis, made from few points."""
    few = grid.with_points(2 * waves + 1)
    u = torch.randn(*shape, *few.shape, generator=generator(seed), dtype=torch.float64)
    return resample(u, few, grid)


def data(grid: Grid = SQUARE, runs: int = 5, steps: int = 9, dtype: torch.dtype = torch.float64) -> Trajectories:
    """Frames that say where they are: the mean of each is its run and its time."""
    frames = band_limited(grid, 3, (runs, steps, 2)).to(dtype)
    clock = torch.arange(runs, dtype=dtype)[:, None] * 100 + torch.arange(steps, dtype=dtype)
    frames = frames - frames.flatten(3).mean(-1).reshape(runs, steps, 2, *[1] * grid.num_dims)
    frames = frames + clock.reshape(runs, steps, 1, *[1] * grid.num_dims)
    parameters = {"nu": torch.arange(runs, dtype=dtype), "map": frames[:, 0, 0].clone(), "kind": torch.arange(runs)}
    return Trajectories(frames, grid, 0.5, (Channel("u"), Channel("v")), parameters)


def clock(window: Window) -> tuple[torch.Tensor, torch.Tensor]:
    """Run and time of every frame, read from its mean."""
    read = window.frames[:, :, 0].flatten(2).mean(-1).round()
    return read // 100, read % 100


def work(window: Window, known: int) -> float:
    return len(window.frames) * (window.frames.shape[1] - known) * math.prod(window.frames.shape[3:])


def same(a: Window, b: Window) -> bool:
    return torch.equal(a.frames, b.frames) and all(torch.equal(a.parameters[k], b.parameters[k]) for k in b.parameters)


class Recorder(Source):
    """A source that remembers what it was told."""

    def __init__(self, inner: Source) -> None:
        self.inner, self.given, self.heard, self.progress = inner, [], [], []

    def next(self, generator):
        window = self.inner.next(generator)
        self.given.append(Window(window.frames, window.grid, window.interval, window.parameters, token=len(self.given)))
        return self.given[-1]

    def on_progress(self, progress):
        self.progress.append(progress)

    def feedback(self, window, outputs, scores=None):
        self.heard.append((window, outputs, scores))


# --- the schedule


def test_the_published_cycles_give_the_published_shapes():
    """Base 8 x (1 + 4) x 64 x 64: batches 8 * round(T S^2 / (t s^2)), worked out by hand; 45.25 points become 48."""
    cycles = Cycles()
    flow = Trajectories(torch.zeros(4, 24, 1, 64, 64), Grid.box(64, num_dims=2), 0.1, (Channel("u"),))
    source = Multigrid(Windows(flow, 5, 8), cycles=cycles)
    found = []
    for i in range(4):
        source.on_progress((i + 0.5) / 4 * (1 - cycles.final))
        for _ in range(3):
            frames = source.next(generator()).frames
            found.append((len(frames) // 8, frames.shape[1] - 1, frames.shape[-1]))
    by_hand = [(16, 1, 32), (7, 1, 48), (7, 1, 48), (8, 2, 32), (4, 2, 48), (4, 2, 48)]
    by_hand += [(8, 2, 32), (4, 2, 48), (2, 2, 64), (4, 4, 32), (2, 4, 48), (1, 4, 64)]
    # The short cycle starts anew with the long one here, because three steps were made at each level.
    assert found == by_hand


@pytest.mark.parametrize("repeats", [1, 3])
def test_every_level_gets_the_same_share_and_the_end_is_whole(repeats):
    cycles = Cycles(repeats=repeats, final=0.2)
    steps = 2400
    seen = [cycles.level(i / steps) for i in range(steps)]
    counts = [seen.count(level) for level in cycles.long]
    assert counts[:3] == [480, 480, 480]
    assert counts[3] == 960  # the last level is the whole one, as is the final share
    changes = sum(a != b for a, b in pairwise(seen))
    assert changes == 4 * repeats - 1
    assert all(cycles.seen(i / steps, i) == Level() for i in range(int(0.8 * steps), steps + 1))


def test_the_short_cycle_never_refines_a_level():
    cycles = Cycles(long=(Level(1.0, 0.6),), short=(0.5, 0.9), final=0.0)
    assert [cycles.seen(0.1, k).space for k in range(6)] == [0.5, 0.6, 0.6] * 2


@pytest.mark.parametrize(
    "wrong", [{"long": ()}, {"repeats": 0}, {"final": 1.0}, {"short": (0.0,)}, {"short": (1.5,)}], ids=str
)
def test_cycles_that_are_none_are_refused(wrong):
    with pytest.raises(InputError, match=r"expect|shares"):
        Cycles(**wrong)


@pytest.mark.parametrize("share", [0.0, -1.0, 1.1, math.nan])
def test_levels_are_shares(share):
    for level in ({"time": share}, {"space": share}):
        with pytest.raises(InputError, match=r"shares in \(0, 1\]"):
            Level(**level)


# --- constant work


@pytest.mark.parametrize(("grid", "batch", "draws"), [(SQUARE, 2, 1), (SQUARE, 1, 3), (LINE, 3, 1), (LINE, 1, 4)])
@pytest.mark.parametrize("known", [1, 3])
def test_every_step_costs_what_a_whole_one_costs(grid, batch, draws, known):
    """Batch x sought frames x points, as exact as whole draws allow: half a draw of those that there are."""
    source = Multigrid(Windows(data(grid), known + 4, batch), known=known, draws=draws, multiple=4)
    whole = batch * draws * 4 * grid.size
    shapes = set()
    for i in range(22):
        source.on_progress(i / 22)
        window = source.next(generator(i))
        drawn = len(window.frames) / batch
        assert abs(work(window, known) / whole - 1) <= 0.5 / (drawn - 0.5)
        assert window.frames.shape[3:] == window.grid.shape
        assert len(window.parameters["nu"]) == len(window.frames)
        shapes.add(tuple(window.frames.shape))
    assert len(shapes) >= 6
    assert max(s[0] for s in shapes) >= 4 * min(s[0] for s in shapes)
    assert window.frames.shape == (batch * draws, known + 4, 2, *grid.shape), "restored at the end"
    assert window.grid == grid


def test_frames_come_in_whole_calls():
    source = Multigrid(Windows(data(), 1 + 6, 2), horizon=3, cycles=Cycles(long=(Level(0.2), Level()), short=()))
    assert source.next(generator()).frames.shape == (4, 4, 2, 32, 32)


# --- whole windows are the source's own


@pytest.mark.parametrize(
    "make", [lambda: Windows(data(), 4, 3), lambda: StatePool(data(), 2, 4, size=8)], ids=["w", "p"]
)
def test_the_whole_level_alone_is_the_plain_source_to_the_bit(make):
    plain, wrapped, one, two = make(), Multigrid(make(), cycles=WHOLE), generator(3), generator(3)
    for i in range(12):
        wrapped.on_progress(i / 12)
        a, b = plain.next(one), wrapped.next(two)
        assert same(b, a)
        assert (a.grid, a.interval) == (b.grid, b.interval)
        for source, window in ((plain, a), (wrapped, b)):
            source.feedback(window, 0.9 * window.frames[:, -1:], torch.full((len(window.frames),), 0.1))
    assert torch.equal(one.get_state(), two.get_state())


# --- space


@pytest.mark.parametrize("points", [8, 10, 15, 16, 24])
def test_a_coarse_view_of_a_band_limited_field_is_exact(points):
    """The same field, made directly on the coarse points."""
    coarse = SQUARE.with_points(points)
    u, expected = (band_limited(g, 3, (2, 3), seed=5) for g in (SQUARE, coarse))
    assert torch.allclose(coarsen(u, SQUARE, coarse), expected, atol=1e-12)


def test_waves_that_a_coarse_grid_does_not_resolve_are_gone_and_do_not_alias():
    coarse = SQUARE.with_points(16)
    x = SQUARE.coordinates(torch.float64)[0]
    slow, fast = torch.sin(3 * x), torch.sin(14 * x)  # on 16 points, 14 waves look like 2
    assert torch.allclose(
        coarsen(slow + fast, SQUARE, coarse), torch.sin(3 * coarse.coordinates(torch.float64)[0]), atol=1e-12
    )


MIXED = Grid((Axis("x", 24, 0.0, 2.0), Axis("y", 16, 0.0, 1.0, periodic=False)))


@pytest.mark.parametrize("grid", [SQUARE, MIXED, Grid.box(16, 1.0, num_dims=2, periodic=False)], ids=["xx", "x|", "||"])
@pytest.mark.parametrize("weighted", [False, True])
def test_integrals_stay(grid, weighted):
    coarse = grid.with_points([n // 2 for n in grid.shape])
    u = torch.randn(3, 2, *grid.shape, dtype=torch.float64, generator=generator())
    if not weighted:
        before, after = (
            (f * g.cell_weights(torch.float64)).sum((-2, -1))
            for f, g in ((u, grid), (coarsen(u, grid, coarse), coarse))
        )
    else:
        w = torch.rand(grid.shape, dtype=torch.float64, generator=generator(1)) * (torch.arange(grid.shape[1]) > 5)
        v = summed(w, grid, coarse)
        before, after = (w * u).sum((-2, -1)), (v * coarsen(u, grid, coarse, w)).sum((-2, -1))
        assert torch.allclose(v.sum(), w.sum())
    assert torch.allclose(before, after, atol=1e-12)


def test_what_a_mask_hides_stays_hidden():
    mask = (torch.arange(32) < 20).double().expand(32, 32)
    u = torch.ones(1, 2, 1, 32, 32, dtype=torch.float64)
    u[..., 20:] = 1e6
    coarse = SQUARE.with_points(8)
    seen, v = coarsen(u, SQUARE, coarse, mask), summed(mask, SQUARE, coarse)
    assert torch.allclose(seen[..., v > 0], torch.ones((), dtype=torch.float64))
    assert (v == 0).any()
    assert torch.equal(seen[..., v == 0], torch.zeros_like(seen[..., v == 0]))
    each = coarsen(u, SQUARE, coarse, mask[None])
    assert torch.equal(each, seen)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_weighted_averages_lie_around_the_coarse_points(factor):
    """A wave keeps its phase: averaging scales a cosine about a coarse point, and does not turn it into a sine."""
    grid = Grid.box(8 * factor, num_dims=1)
    coarse = grid.with_points(8)
    ones = torch.ones(grid.shape, dtype=torch.float64)
    sine = coarsen(torch.sin(grid.coordinates(torch.float64)[0]), grid, coarse, ones)
    exact = torch.sin(coarse.coordinates(torch.float64)[0])
    assert torch.allclose(sine, exact * (sine @ exact) / (exact @ exact), atol=1e-12)
    assert 0.85 < sine @ exact / (exact @ exact) < 1


def test_field_parameters_and_weights_go_along():
    known = data()
    known = Trajectories(
        known.frames, SQUARE, 0.5, known.channels, known.parameters, weights=torch.ones(32, 32, dtype=torch.float64)
    )
    cycles = Cycles(long=(Level(1.0, 0.5),), short=(), final=0.0)
    window = Multigrid(Windows(known, 3, 2), cycles=cycles).next(generator())
    assert window.frames.shape == (8, 3, 2, 16, 16)
    assert window.parameters["map"].shape == (8, 16, 16)
    assert window.parameters["kind"].dtype == torch.int64
    assert torch.equal(window.parameters["kind"].double(), clock(window)[0][:, 0])
    assert torch.allclose(window.parameters["map"].flatten(1).mean(-1), 100 * window.parameters["nu"])
    assert window.weights is not None
    assert torch.equal(window.weights, torch.full((16, 16), 4.0, dtype=torch.float64))


@pytest.mark.parametrize(
    ("axis", "multiple", "match"),
    [
        (Axis("x", 12), 16, "multiple of 16"),
        (Axis("x", 15, periodic=False), 2, "divisor and multiple of 2"),
        (Axis("x", 17, periodic=False, centred=False), 1, "points on both ends"),
    ],
)
def test_grids_that_no_coarse_one_fits_are_refused(axis, multiple, match):
    with pytest.raises(InputError, match=match):
        coarser_grid(Grid((axis,)), 0.5, multiple)


def test_a_level_that_does_not_fit_is_refused_with_the_first_window_and_not_in_the_middle():
    late = Cycles(long=(Level(), Level(1.0, 0.5)), short=(), final=0.0)
    with pytest.raises(InputError, match="multiple of 64"):
        Multigrid(Windows(data(), 3, 2), cycles=late, multiple=64).next(generator())
    with pytest.raises(InputError, match="of which 3 are given"):
        Multigrid(Windows(data(), 3, 2), known=3).next(generator())


def test_fields_of_whole_numbers_are_refused():
    with pytest.raises(InputError, match="int64"):
        coarsen(torch.zeros(32, 32, dtype=torch.int64), SQUARE, SQUARE.with_points(16))


# --- time


def seen_times(strides: bool, time: float = 0.5) -> tuple[Window, torch.Tensor]:
    cycles = Cycles(long=(Level(time),), short=(), final=0.0)
    window = Multigrid(Windows(data(), 7, 4), cycles=cycles, draws=8, strides=strides).next(generator())
    run, time_ = clock(window)
    assert torch.equal(run, run[:, :1].expand_as(run)), "a window is one run"
    return window, time_


def test_without_strides_frames_stay_neighbours_from_all_over_the_window():
    recorder = Recorder(Windows(data(), 7, 4))
    cycles = Cycles(long=(Level(0.5),), short=(), final=0.0)
    window = Multigrid(recorder, cycles=cycles, draws=8).next(generator())
    times = clock(window)[1]
    assert torch.equal(times.diff(dim=1), torch.ones(64, 3, dtype=torch.float64))
    assert window.interval == 0.5
    assert "lead_time" not in window.parameters
    offset = times[:, 0] - torch.cat([clock(w)[1][:, 0] for w in recorder.given])
    assert set(offset.tolist()) == {0.0, 1.0, 2.0, 3.0}


def test_with_strides_frames_are_as_far_apart_as_their_lead_time_says():
    window, times = seen_times(strides=True)
    apart = window.parameters["lead_time"] / 0.5
    assert window.interval == 0.5
    assert torch.equal(times.diff(dim=1), apart[:, None].expand(-1, 3))
    assert set(apart.tolist()) == {1.0, 2.0}
    window, times = seen_times(strides=True, time=1 / 6)
    assert set((window.parameters["lead_time"] / 0.5).tolist()) == {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}
    assert torch.equal(times.diff(dim=1)[:, 0] * 0.5, window.parameters["lead_time"])


def test_with_strides_whole_windows_say_their_lead_time_too():
    window = Multigrid(Windows(data(), 3, 2), cycles=WHOLE, strides=True).next(generator())
    assert torch.equal(window.parameters["lead_time"], torch.full((2,), 0.5, dtype=torch.float64))


def test_strides_are_refused_where_something_goes_with_single_frames_or_has_lead_times_already():
    known = data()
    for name, value, match in (
        ("push", torch.zeros(5, 9, 3), "single frames"),
        ("lead_time", torch.ones(5), "of their own"),
    ):
        more = Trajectories(known.frames, SQUARE, 0.5, known.channels, {**known.parameters, name: value})
        with pytest.raises(InputError, match=match):
            Multigrid(Windows(more, 3, 2), strides=True).next(generator())


# --- feedback and continuation


def test_the_source_hears_all_scores_and_the_frames_of_whole_windows_each_with_its_own():
    recorder = Recorder(Windows(data(), 3, 2))
    source = Multigrid(recorder, cycles=Cycles(long=(Level(1.0, 0.5), Level()), short=(), final=0.0), draws=3)
    for progress, pieces in ((0.0, 12), (0.9, 3)):
        source.on_progress(progress)
        before = len(recorder.given)
        recorder.heard.clear()
        window = source.next(generator())
        assert len(window.frames) == 2 * pieces
        source.feedback(window, window.frames[:, -1:], torch.arange(2 * pieces))
        assert len(recorder.heard) == pieces
        for k, (piece, outputs, heard) in enumerate(recorder.heard):
            assert piece.token == before + k
            assert heard.tolist() == [2 * k, 2 * k + 1]
            assert outputs is None if pieces == 12 else torch.equal(outputs, piece.frames[:, -1:])
    assert recorder.progress == [0.0, 0.9]


def test_a_source_that_ends_gives_what_it_has_left():
    class Ending(Recorder):
        def ended(self):
            return "all seen" if len(self.given) == 5 else ""

    source = Multigrid(Ending(Windows(data(), 3, 2)), cycles=Cycles(long=(Level(1.0, 0.5),), short=(), final=0.0))
    assert [len(source.next(generator()).frames), len(source.next(generator()).frames)] == [8, 2]
    assert source.ended() == "all seen"


@pytest.mark.parametrize("after", [1, 7, 14])
@pytest.mark.parametrize("strides", [False, True])
def test_it_goes_on_exactly_from_the_middle_of_a_cycle(after, strides):
    def make() -> Multigrid:
        return Multigrid(Windows(data(Grid.box(16, num_dims=2)), 5, 1), draws=2, strides=strides, multiple=4)

    def steps(source: Multigrid, draws: torch.Generator, first: int, last: int) -> list[Window]:
        found = []
        for i in range(first, last):
            source.on_progress(i / 24)
            found.append(source.next(draws))
        return found

    source, draws = make(), generator(2)
    steps(source, draws, 0, after)
    state, random = unpack(pack(source.state_dict())), draws.get_state()
    expected = steps(source, draws, after, 24)
    again, others = make(), generator(99)
    again.load_state_dict(state)
    others.set_state(random)
    found = steps(again, others, after, 24)
    assert all(a.frames.shape == b.frames.shape and same(a, b) for a, b in zip(found, expected, strict=True))


def test_its_own_state_says_how_far_it_was():
    """Without anybody who tells the progress again."""
    source, draws = Multigrid(Windows(data(), 5, 2)), generator()
    source.on_progress(0.5)
    source.next(draws)
    again = Multigrid(Windows(data(), 5, 2))
    again.load_state_dict(unpack(pack(source.state_dict())))
    assert again.next(generator()).frames.shape == source.next(generator()).frames.shape


def test_what_a_live_source_says_of_itself_is_said_through_the_levels():
    """Figures, the end and the closing of the source inside are those of the whole."""

    class Live(Source):
        left, closed = 3, 0

        def __init__(self):
            self.inner = Windows(data(), 3, 2)

        def next(self, generator):
            self.left -= 1
            return self.inner.next(generator)

        def figures(self):
            return {"waiting": 0.25}

        def ended(self):
            return "" if self.left else "all runs have been seen"

        def close(self):
            self.closed += 1

    inner = Live()
    source = Multigrid(inner, cycles=Cycles(long=(Level(1.0, 0.5),), short=()))
    source.on_progress(0.0)
    assert source.figures() == {"level_time": 1.0, "level_space": 0.5, "waiting": 0.25}
    assert source.ended() == ""
    window = source.next(generator())
    assert inner.left == 0, "a coarse step would take four windows, and there are three"
    assert len(window.frames) == 6
    assert source.ended() == "all runs have been seen"
    source.close()
    assert inner.closed == 1


def test_with_strides_frames_come_from_all_over_the_window():
    recorder = Recorder(Windows(data(), 7, 4))
    cycles = Cycles(long=(Level(1 / 6),), short=(), final=0.0)
    window = Multigrid(recorder, cycles=cycles, draws=16, strides=True).next(generator())
    first = clock(window)[1][:, 0] - torch.cat([clock(w)[1][:, 0] for w in recorder.given])
    apart = window.parameters["lead_time"] / 0.5
    for k in range(1, 7):
        assert set(first[apart == k].tolist()) == set(range(7 - k))


def test_what_a_mask_hides_is_not_seen_by_coarse_levels():
    known, mask = data(), torch.ones(32, 32, dtype=torch.float64)
    mask[:, 20:] = 0

    def coarse(hidden: float) -> Window:
        frames, field = known.frames.clone(), known.parameters["map"].clone()
        frames[..., 20:], field[..., 20:] = hidden, hidden
        parameters = {**known.parameters, "map": field}
        masked = Trajectories(frames, SQUARE, 0.5, known.channels, parameters, weights=mask)
        cycles = Cycles(long=(Level(1.0, 0.5),), short=(), final=0.0)
        return Multigrid(Windows(masked, 3, 2), cycles=cycles).next(generator())

    assert same(coarse(0.0), coarse(1e6))


def test_every_sample_keeps_weights_of_its_own():
    class Weighted(Recorder):
        def next(self, generator):
            window = super().next(generator)
            each = (1 + clock(window)[0][:, 0])[:, None, None].expand(-1, 32, 32)
            return replace(window, weights=each)

    cycles = Cycles(long=(Level(1.0, 0.5),), short=(), final=0.0)
    window = Multigrid(Weighted(Windows(data(), 3, 2)), cycles=cycles).next(generator())
    expected = 4 * (1 + clock(window)[0][:, 0])
    assert len(expected.unique()) > 1
    assert torch.equal(window.weights, expected[:, None, None].expand(-1, 16, 16))
