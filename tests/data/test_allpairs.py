"""All pairs of frames: each once an epoch, with the time between them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest
import torch

from slipstream.channels import Channel
from slipstream.data import AllPairs
from slipstream.data.dataset import Dataset
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.trajectories import Trajectories

RUNS, STEPS, INTERVAL = 3, 6, 0.25


def trajectories(runs: int = RUNS, steps: int = STEPS, **parameters) -> Trajectories:
    frames = (100.0 * torch.arange(runs)[:, None] + torch.arange(steps))[:, :, None, None].expand(-1, -1, 2, 4)
    own = {"run": torch.arange(runs), **parameters}
    return Trajectories(frames.clone(), Grid.box(4), INTERVAL, (Channel("u"), Channel("v")), own)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pairs(window) -> list[tuple[int, int, int]]:
    """(run, first frame, second frame) of each pair, read off the frames; all else in the window has to agree."""
    found = []
    for i, (a, b) in enumerate(window.frames):
        (run, first), (same, second) = (divmod(int(v[0, 0]), 100) for v in (a, b))
        assert run == same == int(window.parameters["run"][i])
        assert float(window.parameters["lead_time"][i]) == INTERVAL * (second - first)
        found.append((run, first, second))
    return found


def test_an_epoch_shows_every_pair_of_every_run_once():
    source, g = AllPairs(trajectories(), batch=9), generator()
    expected = Counter((r, i, j) for r in range(RUNS) for i in range(STEPS) for j in range(i + 1, STEPS))
    assert source.num_windows == len(expected) == 45
    epochs = [[p for _ in range(5) for p in pairs(source.next(g))] for _ in range(2)]
    assert Counter(epochs[0]) == Counter(epochs[1]) == expected
    assert epochs[0] != epochs[1]
    assert epochs[0] != sorted(epochs[0])


@pytest.mark.parametrize(
    ("steps", "identity", "count"), [(21, True, 231), (21, False, 210), (2, False, 1), (1, True, 1)]
)
def test_k_steps_hold_as_many_pairs_as_the_semigroup_says(steps, identity, count):
    assert AllPairs(trajectories(steps=steps), 1, identity=identity).num_pairs == count


def test_only_allowed_transitions_come():
    source, g = AllPairs(trajectories(), 8, transitions=(4, 0, 2, 2)), generator()
    assert source.num_pairs == 6 + 4 + 2
    shown = [p for _ in range(9) for p in pairs(source.next(g))]
    assert {j - i for _, i, j in shown} == {0, 2, 4}
    assert Counter(shown) == Counter(dict.fromkeys(shown, 2))


def test_a_batch_may_span_the_end_of_an_epoch():
    source, g = AllPairs(trajectories(), 7), generator()
    shown = [p for _ in range(45) for p in pairs(source.next(g))]
    assert set(Counter(shown).values()) == {7}


def test_balanced_lead_times_come_equally_often_and_starts_too():
    source, g = AllPairs(trajectories(), 20, balanced=True), generator()
    shown = [p for _ in range(500) for p in pairs(source.next(g))]
    leads = Counter(j - i for _, i, j in shown)
    assert set(leads) == {1, 2, 3, 4, 5}
    assert all(abs(n - 2000) < 200 for n in leads.values())  # five standard deviations
    starts = Counter(i for _, i, j in shown if j - i == 1)
    assert all(abs(n - leads[1] / 5) < 100 for n in starts.values())
    unbalanced = AllPairs(trajectories(), 45)
    assert Counter(j - i for _, i, j in pairs(unbalanced.next(g))) == {k: 3 * (6 - k) for k in range(1, 6)}


@pytest.mark.parametrize("balanced", [False, True])
def test_the_generator_alone_decides(balanced):
    def shown(seed):
        source, g = AllPairs(trajectories(), 10, balanced=balanced), generator(seed)
        torch.rand(seed + 1)
        return [pairs(source.next(g)) for _ in range(6)]

    assert shown(0) == shown(0)
    assert shown(0) != shown(1)


@pytest.mark.parametrize("calls", [0, 1, 4, 5])
@pytest.mark.parametrize("balanced", [False, True])
def test_it_goes_on_exactly_where_it_was_saved(calls, balanced):
    source, g = AllPairs(trajectories(), 10, balanced=balanced), generator()
    for _ in range(calls):
        source.next(g)
    saved, random = json.loads(json.dumps(source.state_dict())), g.get_state()
    expected = [pairs(source.next(g)) for _ in range(6)]
    again = AllPairs(trajectories(), 10, balanced=balanced)
    again.load_state_dict(saved)
    g.set_state(random)
    assert [pairs(again.next(g)) for _ in range(6)] == expected


def test_a_state_of_other_pairs_is_refused():
    state = AllPairs(trajectories(), 5, transitions=(1, 5)).state_dict()
    for other in (
        AllPairs(trajectories(), 5, transitions=(2, 4)),
        AllPairs(trajectories(), 5, transitions=(1, 5), balanced=True),
        AllPairs(trajectories(2), 5, transitions=(1, 5)),
        AllPairs(trajectories(4), 5, runs=slice(1, 4), transitions=(1, 5)),
        AllPairs(trajectories(), 6, transitions=(1, 5)),
        AllPairs(trajectories(steps=7), 5, transitions=(1, 5)),
    ):
        with pytest.raises(InputError):
            other.load_state_dict(state)


def test_runs_are_chosen_and_data_sets_are_read():
    class Recorded(Dataset):
        def trajectories(self, runs=slice(None), times=slice(None)):
            return trajectories()[runs, times]

    for data in (trajectories(), Recorded()):
        window = AllPairs(data, 30, runs=slice(1, 3)).next(generator())
        assert {r for r, _, _ in pairs(window)} == {1, 2}
        assert window.interval == INTERVAL
        assert window.grid == Grid.box(4)


def test_lead_times_keep_the_precision_of_the_frames():
    window = AllPairs(trajectories().to(torch.float64), 4).next(generator())
    assert window.parameters["lead_time"].dtype == torch.float64


def test_what_makes_no_sense_is_refused():
    with pytest.raises(InputError, match=r"transitions \(6,\) for runs of 6 frames.*0 to 5"):
        AllPairs(trajectories(), 1, transitions=(6,))
    with pytest.raises(InputError, match="at least one"):
        AllPairs(trajectories(steps=1), 1)
    with pytest.raises(InputError, match=r"batch of 46 pairs.*1 to 45"):
        AllPairs(trajectories(), 46)
    with pytest.raises(InputError, match="a parameter 'lead_time' of their own"):
        AllPairs(trajectories(lead_time=torch.ones(RUNS)), 1)
    broken = trajectories()
    broken.frames[1, 2, 0, 3] = float("nan")
    with pytest.raises(InputError, match="run 1, frame 2"):
        AllPairs(broken, 1)


def test_weights_of_the_data_go_along():
    mask = torch.tensor([1.0, 0.0, 1.0, 1.0])
    window = AllPairs(replace(trajectories(), weights=mask), 4).next(generator())
    assert torch.equal(window.weights, mask)
