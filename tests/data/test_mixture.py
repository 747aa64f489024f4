"""Mixtures of sources, and of problems on one grid with one list of channels."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch

from slipstream.channels import Channel
from slipstream.data import AllPairs, Mixture, PretrainingMixture, Source, Windows
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.problems import DarcyFlow, DecayingFlow, KolmogorovFlow, Recorded, SteepeningWaves
from slipstream.training.checkpoint import pack, unpack
from slipstream.trajectories import Trajectories

FLOW = DecayingFlow(num_points=8, reynolds=20, interval=0.1, warm_up=0.0)
WAVES = SteepeningWaves(num_points=8, num_dims=2, viscosity=0.1, interval=0.02)
NAMES = ["vorticity", "velocity_x", "velocity_y"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(
    first: int, runs: int, steps: int = 2, weights: torch.Tensor | None = None, points: int = 4
) -> Trajectories:
    """Every frame holds one number of its own."""
    frames = (
        (first + torch.arange(runs * steps).reshape(runs, steps)).float()[:, :, None, None].expand(-1, -1, 1, points)
    )
    parameters = {"of": torch.arange(runs) + first}
    return Trajectories(frames.clone(), Grid.box(points), 0.5, (Channel("u"),), parameters, weights=weights)


@pytest.mark.parametrize("shares", [None, (1.0, 3.0)])
def test_every_source_has_its_share_of_the_samples_whatever_its_size_and_batch(shares):
    mixture = Mixture([Windows(numbered(0, 2), 2, 1), Windows(numbered(100, 30), 2, 7)], 16, shares)
    draws, count, batches = generator(), 0, 400
    for _ in range(batches):
        count += int((mixture.next(draws).frames[:, 0, 0, 0] >= 100).sum())
    p = 0.5 if shares is None else 0.75
    n = 16 * batches
    assert abs(count - p * n) < 4 * (p * (1 - p) * n) ** 0.5


def test_samples_of_a_batch_are_drawn_independently():
    """The number from one source is binomial: neither constant, nor all or nothing. Its place in the batch says nothing."""
    mixture = Mixture([Windows(numbered(0, 5), 2, 4), Windows(numbered(100, 5), 2, 4)], 8)
    draws = generator()
    of = torch.stack([(mixture.next(draws).frames[:, 0, 0, 0] >= 100).double() for _ in range(1500)])
    assert float(of.sum(1).var()) == pytest.approx(8 * 0.25, rel=0.15)
    assert (of.mean(0) - 0.5).abs().max() < 4 * 0.5 / 1500**0.5


@pytest.mark.parametrize("batch", [1, 3, 10])
def test_no_sample_is_lost_and_none_comes_twice(batch):
    """An epoch of each source comes whole before its next one begins, whatever was drawn at once; parameters go with their frames."""
    mixture = Mixture([Windows(numbered(0, 6), 2, 4), Windows(numbered(100, 9), 2, 5)], batch)
    draws, seen = generator(3), ([], [])
    for _ in range(90 // batch):
        window = mixture.next(draws)
        for value, frames, of in zip(
            window.frames[:, 0, 0, 0].tolist(), window.frames, window.parameters["of"].tolist(), strict=True
        ):
            source = int(value >= 100)
            assert value == 100 * source + 2 * (of - 100 * source)
            assert bool((frames[1] == value + 1).all())
            seen[source].append(of)
    for runs, of in zip((6, 9), seen, strict=True):
        assert len(of) > 2 * runs
        for begin in range(0, len(of) - runs + 1, runs):
            assert set(Counter(of[begin : begin + runs]).values()) == {1}


def test_weights_of_sources_are_spelled_out_where_they_differ():
    mask = torch.tensor([1.0, 0.0, 1.0, 1.0])
    mixture = Mixture([Windows(numbered(0, 4), 2, 2), Windows(numbered(100, 4, weights=mask), 2, 2)], 12)
    window = mixture.next(generator())
    plain = window.grid.cell_weights(torch.float32)
    masked = window.frames[:, 0, 0, 0] >= 100
    assert 0 < int(masked.sum()) < 12
    assert torch.equal(window.weights, torch.where(masked[:, None], mask, plain))


def test_a_mixture_goes_on_exactly_with_the_samples_that_wait():
    def made(second: int = 4):
        return Mixture([Windows(numbered(0, 6), 2, 5), Windows(numbered(100, 6), 2, second)], 3)

    one, draws = made(), generator(1)
    for _ in range(4):
        one.next(draws)
    state, random = unpack(pack(one.state_dict())), draws.get_state()
    assert any(waiting is not None for waiting in state["waiting"])
    expected = [one.next(draws) for _ in range(9)]
    other = made()
    other.load_state_dict(state)
    draws.set_state(random)
    for window in expected:
        again = other.next(draws)
        assert torch.equal(again.frames, window.frames)
        assert (again.grid, again.interval) == (window.grid, window.interval)

    wrong, others, twin = made(5), generator(4), generator(4)
    with pytest.raises(InputError, match="batch was 4 and is 5"):
        wrong.load_state_dict(state)
    untouched = made(5)
    for _ in range(4):
        assert torch.equal(wrong.next(others).frames, untouched.next(twin).frames), "nothing was changed"


def test_windows_that_cannot_lie_in_one_batch_are_refused():
    for other, word in [
        (Windows(numbered(100, 5, points=6), 2, 4), "shape"),
        (AllPairs(numbered(100, 5), 4), "parameters"),
    ]:
        mixture = Mixture([Windows(numbered(0, 5), 2, 4), other], 16)
        with pytest.raises(InputError, match=f"cannot lie in one batch: .*{word}"):
            mixture.next(generator())
    for sources, batch in ([], 4), ([Windows(numbered(0, 5), 2, 4)], 0):
        with pytest.raises(InputError, match="Mixture draws batches"):
            Mixture(sources, batch)
    for shares in [(1.0,), (1.0, 0.0), (1.0, float("nan"))]:
        with pytest.raises(InputError, match="share above 0"):
            Mixture([Windows(numbered(0, 5), 2, 4)] * 2, 4, shares)


def test_problems_lie_in_the_common_channels_as_they_were_simulated():
    mixture = PretrainingMixture([FLOW, WAVES], runs=3, steps=4, seed=5, interval=0.25)
    whole = mixture.trajectories()
    assert [c.name for c in whole.channels] == NAMES
    assert (whole.runs, whole.steps, whole.interval) == (6, 4, 0.25)
    for k, (problem, place) in enumerate([(FLOW, [0]), (WAVES, [1, 2])]):
        known, own = problem.simulate(3, 4, 5), whole[k::2]
        absent = [c for c in range(3) if c not in place]
        assert torch.equal(own.frames[:, :, place], known.frames)
        assert not own.frames[:, :, absent].any()
        assert own.parameters["present"].tolist() == [[float(c in place) for c in range(3)]] * 3
    posed = Recorded.of(whole)
    assert posed.interval == 0.25
    assert not posed.varying


def test_the_mixtures_windows_are_all_pairs_of_its_runs():
    mixture = PretrainingMixture([FLOW, WAVES], runs=2, steps=4, batch=8, interval=0.5, transitions=(1, 3))
    whole, draws, found, present = mixture.trajectories(), generator(), Counter(), 0
    for _ in range(200):
        window = mixture.next(draws)
        assert window.frames.shape == (8, 2, 3, 8, 8)
        lead = window.parameters["lead_time"] / 0.5
        for i in range(8):
            same = [(whole.frames[:, :] == f).flatten(2).all(-1).nonzero()[0].tolist() for f in window.frames[i]]
            (run, first), (other, second) = same
            assert run == other
            assert second - first == int(lead[i])
            assert torch.equal(window.parameters["present"][i], whole.parameters["present"][run])
            found[run, first, second] += 1
            present += int(window.parameters["present"][i, 0])
    pairs = {(r, f, f + lead) for r in range(4) for lead in (1, 3) for f in range(4 - lead)}
    assert set(found) == pairs
    assert abs(present - 800) < 4 * 20, "each problem has half of the samples"


def test_the_mixture_goes_on_exactly_before_and_after_its_first_window():
    def made(**more):
        return PretrainingMixture([FLOW, WAVES], **{"runs": 2, "steps": 3, "batch": 5, **more})

    for after in (0, 3):
        one, draws = made(), generator(2)
        for _ in range(after):
            one.next(draws)
        state, random = unpack(pack(one.state_dict())), draws.get_state()
        expected = [one.next(draws).frames for _ in range(5)]
        fresh, used = made(), made()
        for _ in range(2):
            used.next(generator(9))
        for other in (fresh, used):
            other.load_state_dict(state)
            draws.set_state(random)
            assert all(torch.equal(other.next(draws).frames, frames) for frames in expected)
    for more in ({"seed": 1}, {"batch": 4}, {"interval": 2.0}, {"shares": (1, 2)}):
        with pytest.raises(InputError, match="cannot go on from the state of another one"):
            made(**more).load_state_dict(state)


def test_problems_that_do_not_go_together_are_refused():
    wrong = {
        r"\(8, 8\) points and KolmogorovFlow \(16, 16\)": [FLOW, KolmogorovFlow(num_points=16)],
        "is steady": [DarcyFlow(num_points=8)],
        "at least one problem": [],
    }
    for message, problems in wrong.items():
        with pytest.raises(InputError, match=message):
            PretrainingMixture(problems)
    with pytest.raises(InputError, match=r"velocity_y.* among them"):
        PretrainingMixture([WAVES], channels=["velocity_x", "pressure"])
    grid = Grid.box(8, num_dims=2)
    other = Recorded(grid, 1.0, [Channel("vorticity", "rpm")], FLOW.statistics)
    with pytest.raises(InputError, match="not the same"):
        PretrainingMixture([FLOW, other])


def test_what_sources_say_and_are_told_goes_through_the_mixture():
    class Live(Source):
        def __init__(self, name):
            self.name, self.told, self.over, self.closed = name, [], "", 0

        def on_progress(self, progress):
            self.told.append(progress)

        def figures(self):
            return {f"waiting_{self.name}": 0.25}

        def ended(self):
            return self.over

        def close(self):
            self.closed += 1

    one, other = Live("one"), Live("other")
    mixture = Mixture([one, other], 3)
    mixture.on_progress(0.5)
    assert one.told == other.told == [0.5]
    assert mixture.figures() == {"waiting_one": 0.25, "waiting_other": 0.25}
    assert mixture.ended() == ""
    other.over = "all runs have been seen"
    assert mixture.ended() == "all runs have been seen"
    mixture.close()
    assert (one.closed, other.closed) == (1, 1)


def test_samples_that_wait_keep_their_weights():
    mask = torch.tensor([1.0, 0.0, 1.0, 1.0])

    def made():
        return Mixture([Windows(numbered(0, 6), 2, 5), Windows(numbered(100, 6, weights=mask), 2, 5)], 3)

    one, draws = made(), generator(1)
    for _ in range(4):
        one.next(draws)
    state, random = unpack(pack(one.state_dict())), draws.get_state()
    assert state["waiting"][1] is not None
    expected = [one.next(draws).weights for _ in range(9)]
    other = made()
    other.load_state_dict(state)
    draws.set_state(random)
    for weights in expected:
        again = other.next(draws).weights
        assert (again is None) == (weights is None)
        assert weights is None or torch.equal(again, weights)
    assert sum(weights is not None for weights in expected) > 3


def test_windows_of_another_grid_or_interval_are_refused():
    longer = Grid.box(4, 2.0)
    for word, other in {
        "the grid": replace(numbered(100, 5), grid=longer),
        "the interval 0.5 and 0.25": replace(numbered(100, 5), interval=0.25),
    }.items():
        mixture = Mixture([Windows(numbered(0, 5), 2, 4), Windows(other, 2, 4)], 16)
        with pytest.raises(InputError, match=f"cannot lie in one batch: {word}"):
            mixture.next(generator())
