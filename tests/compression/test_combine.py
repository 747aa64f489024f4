"""The search, on transforms whose errors and seconds are known."""

from __future__ import annotations

import math
from itertools import chain, combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from slipstream.compression.combine import NOISE, Judgement, label_of, search
from slipstream.compression.transform import Cost, OneShot, Stage, Unsuitable, follows, ordered
from slipstream.errors import InputError

EARLIER = {stage: frozenset(s for s in Stage if s < stage) for stage in Stage}


class _Fake(OneShot):
    """So many times faster, so much error, so long to compile."""

    def __init__(self, name, stage=Stage.ARITHMETIC, gain=1.0, error=0.0, compile=0.0, raises=None, after=None):
        self.name, self.gain, self.error, self.compile, self.raises = name, gain, error, compile, raises
        self.stage, self.after = stage, EARLIER[stage] if after is None else after

    @property
    def label(self):
        return self.name

    def unsuitable(self, module):
        return ""

    def convert(self, module):
        return module


def fake(name, *arguments, **settings):
    """A transform of a class of its own: each class can be there once only."""
    return type(name, (_Fake,), {})(name, *arguments, **settings)


class World:
    """Seconds pass only when work is done."""

    def __init__(self, drift=lambda name, race: 1.0):
        self.now, self.races, self.made, self.drift = 0.0, 0, [], drift

    def make(self, combination):
        self.made.append(label_of(combination))
        for transform in combination:
            if transform.raises is not None:
                raise transform.raises
        module = nn.Identity()
        module.seconds = math.prod(1 / t.gain for t in combination)
        module.compile = sum(t.compile for t in combination)
        module.error = sum(t.error for t in combination)
        return module

    def job(self, module):
        def work():
            self.now += module.seconds + module.compile
            module.compile = 0.0

        work.module = module
        return work

    def race(self, jobs):
        self.races += 1
        return {name: job.module.seconds * self.drift(name, self.races) for name, job in jobs.items()}

    def search(self, *candidates, max_error=0.01, **options):
        return search(
            self.make,
            candidates,
            judge=lambda m: Judgement(m.error, 2 * m.error),
            job=self.job,
            race=self.race,
            clock=lambda: self.now,
            cost=lambda m, c: Cost(10, 40),
            max_error=max_error,
            **options,
        )


def valid(candidates):
    """Every combination that can be made, the brute way."""
    for chosen in chain.from_iterable(combinations(candidates, n) for n in range(len(candidates) + 1)):
        try:
            yield ordered(chosen)
        except InputError:
            continue


def test_gains_are_combined():
    found = World().search(fake("half", gain=2), fake("layout", Stage.LAYOUT, 1.5), fake("engine", Stage.EXECUTION, 3))
    assert found.winner.label == "half + layout + engine"
    assert found.winner.seconds == pytest.approx(1 / 9)
    assert found.module.seconds == found.winner.seconds


@settings(deadline=None)  # no test looks at the clock
@given(
    st.lists(
        st.tuples(st.sampled_from(list(Stage)), st.floats(0.3, 4.0), st.sampled_from([0.0, 0.004, 0.008, 0.02])),
        max_size=5,
    )
)
def test_a_wide_search_finds_the_best_of_all(drawn):
    candidates = [fake(f"t{i}", *d) for i, d in enumerate(drawn)]
    found = World().search(*candidates, width=100)

    def seconds(combination):
        return math.prod(1 / t.gain for t in combination)

    # A search that drops what is beyond the error never sees what would come after it, nor would anyone want that.
    allowed = [c for c in valid(candidates) if sum(t.error for t in c) <= 0.01]
    best = min(map(seconds, allowed))
    assert found.winner.seconds <= best * (1 + NOISE) + 1e-12
    assert found.winner.judgement.error <= 0.01
    assert found.winner.seconds <= 1.0


def test_never_slower_than_what_was_given():
    found = World().search(fake("worse", gain=0.5), fake("worst", Stage.LAYOUT, 0.2))
    assert found.winner.transforms == ()
    assert found.module.seconds == 1.0


def test_a_lucky_first_race_does_not_count():
    lucky = World(lambda name, race: 0.1 if name == "lucky" and race == 1 else 1.0)
    found = lucky.search(fake("lucky", gain=0.8))
    assert found.winner.transforms == ()
    assert lucky.races == 2


def test_within_the_noise_fewer_transforms_are_better():
    assert World().search(fake("little", gain=1 + NOISE / 2)).winner.transforms == ()
    assert World().search(fake("enough", gain=1 + 2 * NOISE)).winner.label == "enough"


@pytest.mark.parametrize("error", [0.0101, math.inf, math.nan])
def test_what_is_beyond_the_error_is_left_out_and_said_so(error):
    found = World().search(fake("rough", gain=100, error=error), fake("fine", Stage.LAYOUT, 2, error=0.01))
    assert found.winner.label == "fine"
    (rough,) = [t for t in found.trials if t.label == "rough"]
    assert rough.status == "too far"
    assert rough.seconds is None


def test_errors_of_a_combination_are_judged_together():
    found = World().search(fake("a", gain=2, error=0.006), fake("b", Stage.LAYOUT, 3, error=0.006))
    assert found.winner.label == "b"


def test_what_cannot_be_combined_is_never_made():
    world = World()
    alone = fake("engine", Stage.EXECUTION, 5, after=frozenset({Stage.STRUCTURE}))
    found = world.search(fake("half", gain=2), fake("int8", gain=3), fake("layout", Stage.LAYOUT, 2), alone)
    assert found.winner.label == "int8 + layout"
    assert not {"half + int8", "int8 + half"} & set(world.made)
    assert not [name for name in world.made if "engine" in name and name != "engine"]


def test_what_cannot_follow_the_best_is_added_to_the_best_that_it_can_follow():
    alone = fake("engine", Stage.EXECUTION, 50, after=frozenset({Stage.STRUCTURE}))
    found = World().search(
        fake("form", Stage.STRUCTURE, 1.5),
        *(fake(f"a{i}", Stage.ARITHMETIC, 2 + i) for i in range(4)),
        fake("layout", Stage.LAYOUT, 2),
        alone,
        width=1,
    )
    assert found.winner.label == "form + engine"


def test_structures_add_up_where_they_may():
    two = [fake(f"s{i}", Stage.STRUCTURE, 2, after=frozenset({Stage.STRUCTURE})) for i in range(2)]
    assert World().search(*two).winner.label == "s0 + s1"


@pytest.mark.parametrize(
    "error", [RuntimeError("no \x1b[96mcompiler\x1b[0m\nlong trace"), NotImplementedError(), ValueError("x")]
)
def test_what_raises_is_reported_and_left_out(error):
    heard = []
    found = World().search(fake("broken", gain=9, raises=error), fake("sound", Stage.LAYOUT, 2), say=heard.append)
    assert found.winner.label == "sound"
    (broken,) = [t for t in found.trials if t.label == "broken"]
    assert broken.status == "failed"
    assert type(error).__name__ in broken.why
    assert not {"trace", "\x1b"} & set(broken.why.replace("\x1b", " \x1b ").split())
    assert broken in heard


def test_what_has_nothing_to_do_is_told_apart_from_what_fails():
    found = World().search(fake("idle", raises=Unsuitable("it has no layers.")))
    assert [(t.label, t.status, t.why) for t in found.trials][1:] == [("idle", "unsuitable", "it has no layers.")]


def test_ctrl_c_goes_through():
    with pytest.raises(KeyboardInterrupt):
        World().search(fake("long", raises=KeyboardInterrupt()))


def test_what_the_original_raises_is_raised():
    world = World()
    world.job = lambda module: (_ for _ in ()).throw(RuntimeError("broken model"))
    with pytest.raises(RuntimeError, match="broken model"):
        world.search(fake("any"))


def test_compile_time_is_counted_apart():
    found = World().search(fake("engine", Stage.EXECUTION, 4, compile=30.0))
    assert found.winner.seconds == 0.25
    assert found.winner.preparation == pytest.approx(30.0)
    assert found.trials[0].preparation == 0.0


def test_one_structure_twice_is_never_made_even_with_other_arguments():
    form = type("Form", (_Fake,), {})
    loose = frozenset({Stage.STRUCTURE})
    world = World()
    found = world.search(*(form(name, Stage.STRUCTURE, gain, after=loose) for name, gain in (("dft", 2), ("fft", 3))))
    assert world.made == ["original", "dft", "fft"]
    assert found.winner.label == "fft"


def test_the_width_bounds_what_is_tried():
    stages = [fake(f"t{s.value}", s, 1.5) for s in Stage]
    narrow, wide = World(), World()
    assert narrow.search(*stages, width=1).winner.label == wide.search(*stages, width=50).winner.label
    assert len(narrow.made) == 1 + len(stages)
    assert len(wide.made) == 2 ** len(stages)


def test_two_of_one_name_are_refused():
    with pytest.raises(InputError, match="same label"):
        World().search(fake("a"), fake("a", Stage.LAYOUT))


def test_a_combination_is_put_in_order_or_refused():
    half, layout = fake("half"), fake("layout", Stage.LAYOUT)
    assert ordered([layout, half]) == (half, layout)
    assert not follows(fake("int8"), [half])
    with pytest.raises(InputError, match="int8 cannot be combined with half"):
        ordered([half, fake("int8")])


def test_fakes_are_transforms_like_others():
    module = nn.Linear(2, 2)
    handle = fake("a").attach(module)
    assert handle.before == Cost(6, 24)
    assert torch.equal(handle.finish().weight, module.weight)
