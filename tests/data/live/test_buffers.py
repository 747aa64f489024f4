"""The laws of the buffers: what is put, what is drawn, and what is never lost."""

from __future__ import annotations

import copy
import math
import pickle
from collections import Counter

import pytest
import torch

from slipstream.data import FIFO, FIRO, Reservoir
from slipstream.data.live.buffers import Sample
from slipstream.errors import InputError, ShapeError
from slipstream.training.checkpoint import pack, unpack

KINDS = (FIFO, FIRO, Reservoir)


def sample(number: int, step: int = 0) -> Sample:
    """Its number stands in its frame and in its parameter."""
    return Sample(torch.full((2, 1, 3), float(number)), number, step, {"p": torch.tensor(float(number))})


def numbers(batch) -> list[int]:
    """Which samples were drawn, as their frames say; parameters and origin have to agree."""
    said = batch.frames[:, 0, 0, 0].long()
    assert torch.equal(said, batch.members)
    assert torch.equal(said, batch.parameters["p"].long())
    return said.tolist()


def feed(buffer, generator, puts, gets, batch=4, total=400):
    """Everything drawn from an alternating stream, and everything drawn after the end of production."""
    seen, drained, number = [], [], 0
    while number < total:
        for _ in range(puts):
            number += number < total and buffer.put(sample(number), generator)
        for _ in range(gets):
            if buffer.ready(batch):
                seen += numbers(buffer.get(batch, generator))
    buffer.close()
    while len(buffer):
        drained += numbers(buffer.get(batch, generator))
    return seen, drained


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("puts", "gets"), [(1, 1), (7, 1), (1, 3), (30, 2)])
def test_every_sample_is_drawn_at_least_once_and_none_is_invented(kind, puts, gets, generator):
    buffer = kind(32, threshold=8)
    seen, drained = feed(buffer, generator, puts, gets)
    times = Counter(seen + drained)
    assert set(times) == set(range(400))
    assert buffer.repetitions() == dict(sorted(Counter(times.values()).items()))
    assert (buffer.produced, buffer.consumed) == (400, len(seen) + len(drained))
    if kind is not Reservoir:
        assert set(times.values()) == {1}


def test_first_in_is_first_out(generator):
    seen, drained = feed(FIFO(32), generator, 5, 1)
    assert seen + drained == list(range(400))


def test_draining_serves_each_once_and_the_last_batch_may_be_short(generator):
    buffer = Reservoir(32, threshold=3)
    for i in range(10):
        buffer.put(sample(i), generator)
    buffer.get(4, generator)
    buffer.close()
    drawn = [numbers(buffer.get(4, generator)) for _ in range(3)]
    assert [len(d) for d in drawn] == [4, 4, 2]
    assert sorted(n for d in drawn for n in d) == list(range(10))
    assert not buffer.ready()
    with pytest.raises(InputError, match="closed"):
        buffer.put(sample(0), generator)


def test_an_unseen_sample_is_never_evicted_the_client_waits_instead(generator):
    buffer, seen = Reservoir(16, threshold=4), set()
    number = 0
    for turn in range(300):
        while buffer.put(sample(number), generator):
            number += 1
        assert len(buffer) == 16, "it is full"
        assert buffer.room == 0
        assert buffer.unseen == 16, "and holds new samples only: whatever was seen has made room"
        drawn = set(numbers(buffer.get(3, generator)))
        assert buffer.room == len(drawn), turn
        seen |= drawn
    here = set(buffer._members.tolist())
    assert seen | here == set(range(number))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_drawn_below_the_threshold_and_everything_above(kind, generator):
    buffer = kind(20, threshold=6)
    for i in range(9):
        needed = 6 if kind is Reservoir else 6 + 3
        assert buffer.ready(4) == (len(buffer) >= needed)
        buffer.put(sample(i), generator)
    assert buffer.ready(4)
    if kind is Reservoir:  # and never waits again
        for _ in range(50):
            buffer.get(4, generator)
            assert buffer.ready(4)
    else:
        buffer.get(4, generator)
        with pytest.raises(InputError, match="cannot be drawn before there are 9"):
            buffer.get(4, generator)


def chi_square(counts: torch.Tensor) -> float:
    """Survival function of the chi-square statistic against equal counts, by the normal approximation of Wilson and Hilferty."""
    expected = counts.sum() / len(counts)
    statistic, k = float(((counts - expected) ** 2 / expected).sum()), len(counts) - 1
    z = ((statistic / k) ** (1 / 3) - (1 - 2 / (9 * k))) / math.sqrt(2 / (9 * k))
    return 0.5 * math.erfc(z / math.sqrt(2))


def test_draws_are_uniform_over_what_is_there_seen_or_not(generator):
    buffer = Reservoir(50, threshold=1)
    for i in range(50):
        buffer.put(sample(i), generator)
    for _ in range(5):
        buffer.get(4, generator)  # some are seen, some are not
    assert 0 < buffer.unseen < 50
    counts = torch.zeros(50)
    while buffer.unseen:  # the next draw alone is counted, from many copies of this moment
        buffer.get(1, generator)
    state = unpack(pack(buffer.state_dict()))
    for _ in range(4000):
        counts[numbers(buffer.get(1, generator))] += 1
    assert chi_square(counts) > 0.01
    fresh = torch.zeros(50)
    for _ in range(1500):
        half = Reservoir(50, threshold=1)
        half.load_state_dict(state)
        half._seen = 25  # as if the second half of the order had not been drawn
        fresh[numbers(half.get(1, generator))] += 1
    assert chi_square(fresh) > 0.01


def test_which_seen_sample_goes_is_uniform(generator):
    gone = torch.zeros(12)
    for _ in range(600):
        buffer = Reservoir(12, threshold=1)
        for i in range(12):
            buffer.put(sample(i), generator)
        while buffer.unseen:
            buffer.get(12, generator)
        buffer.put(sample(99), generator)
        (missing,) = set(range(12)) - set(buffer._members.tolist())
        gone[missing] += 1
    assert chi_square(gone) > 0.01


def test_random_out_is_uniform(generator):
    first = torch.zeros(20)
    for _ in range(600):
        buffer = FIRO(20, threshold=1)
        for i in range(20):
            buffer.put(sample(i), generator)
        first[numbers(buffer.get(2, generator))] += 1
    assert chi_square(first) > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_taken_once_and_never_grows(kind, generator):
    buffer = kind(24, threshold=4)
    buffer.put(sample(0), generator)
    before, store = buffer.nbytes, buffer._frames.data_ptr()
    feed_generator = torch.Generator().manual_seed(1)
    feed(buffer, feed_generator, 5, 2, total=300)
    assert buffer.nbytes == before
    assert buffer._frames.data_ptr() == store
    payload = 24 * (2 * 3 + 1) * 4
    assert buffer.nbytes <= payload + 24 * 4 * 8


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("after", [0, 3, 17, 60, 130])
def test_it_goes_on_exactly_from_its_state(kind, after):
    def go(buffer, generator, first, count):
        seen = []
        for number in range(first, first + count):
            buffer.put(sample(number, number % 7), generator)
            if number % 3 == 0 and buffer.ready(3):
                seen.append(numbers(buffer.get(3, generator)))
            if number == 150:
                buffer.close()
                break
        return seen, buffer.repetitions(), buffer.ages().tolist(), buffer.occupancy()

    buffer, generator = kind(20, threshold=5), torch.Generator().manual_seed(3)
    go(buffer, generator, 0, after)
    state, random = unpack(pack(buffer.state_dict())), generator.get_state()
    expected = go(buffer, generator, after, 60)
    again, other = kind(20, threshold=5), torch.Generator()
    for i in range(4):
        again.put(sample(1000 + i), other)
    again.load_state_dict(state)
    other.set_state(random)
    assert go(again, other, after, 60) == expected


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda buffer: pickle.loads(pickle.dumps(buffer))])
@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_is_a_buffer_of_its_own_that_goes_on_the_same(kind, copied, generator):
    buffer = kind(8, threshold=2)
    for i in range(6):
        buffer.put(sample(i), generator)
    again = copied(buffer)
    for i in range(6, 9):
        assert buffer.put(sample(i), generator) == (i < 8)
    assert len(again) == 6
    for i in range(10, 12):
        again.put(sample(i), generator)
    again.close()
    assert sorted(n for _ in range(2) for n in numbers(again.get(4, generator))) == [0, 1, 2, 3, 4, 5, 10, 11]


def test_the_generator_alone_decides():
    def go(seed):
        return feed(Reservoir(16, threshold=4), torch.Generator().manual_seed(seed), 3, 2, total=80)

    assert go(1) == go(1)
    assert go(1) != go(2)


def test_statistics_tell_of_ages_times_and_runs(generator):
    buffer = FIRO(10, threshold=1)
    for i in range(6):
        buffer.put(Sample(torch.zeros(1, 1, 1), i // 3, i % 3), generator)
    assert sorted(buffer.ages().tolist()) == [0, 1, 2, 3, 4, 5]
    assert buffer.occupancy() == ({0: 2, 1: 2, 2: 2}, {0: 3, 1: 3})
    buffer.get(2, generator)
    assert buffer.repetitions() == {0: 4, 1: 2}


@pytest.mark.parametrize("kind", KINDS)
def test_bad_numbers_samples_and_states_are_refused(kind, generator):
    with pytest.raises(InputError, match="threshold <= capacity"):
        kind(4, threshold=5)
    with pytest.raises(InputError, match="threshold <= capacity"):
        kind(0)
    buffer = kind(4, threshold=1)
    buffer.put(sample(0), generator)
    with pytest.raises(ShapeError, match=r"holds samples of shape \(2, 1, 3\)"):
        buffer.put(Sample(torch.zeros(2, 1, 4), 1, 0, {"p": torch.zeros(())}), generator)
    with pytest.raises(InputError, match="capacity was 4 and is 5"):
        kind(5, threshold=1).load_state_dict(buffer.state_dict())


def test_default_thresholds_are_a_third_of_the_capacity():
    assert [kind(30).needs(1) for kind in KINDS] == [1, 10, 10]


def test_a_batch_says_which_steps_it_holds_and_how_often_each_was_drawn(generator):
    buffer, times = Reservoir(8, threshold=1), Counter()
    for i in range(5):
        buffer.put(sample(i, 10 + i), generator)
    for _ in range(6):
        batch = buffer.get(4, generator)
        drawn = numbers(batch)
        times.update(drawn)
        assert batch.steps.tolist() == [10 + n for n in drawn]
        assert batch.drawn.tolist() == [times[n] for n in drawn], "this time included"


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_closed_is_closed_when_it_goes_on(kind, generator):
    buffer = kind(8, threshold=4)
    for i in range(6):
        buffer.put(sample(i), generator)
    buffer.get(2, generator)
    buffer.close()
    again = kind(8, threshold=4)
    again.load_state_dict(unpack(pack(buffer.state_dict())))
    assert (again.produced, again.consumed) == (6, 2)
    assert again.ready(8), "the threshold is lifted"
    with pytest.raises(InputError, match="was closed"):
        again.put(sample(9), generator)


def test_the_state_of_an_empty_buffer_empties_one_that_held_other_samples(generator):
    used = FIRO(4, threshold=1)
    used.put(sample(0), generator)
    used.load_state_dict(unpack(pack(FIRO(4, threshold=1).state_dict())))
    assert len(used) == 0
    assert used.put(Sample(torch.ones(1, 5), 3, 0), generator)
    assert torch.equal(used.get(1, generator).frames, torch.ones(1, 1, 5))
