"""ByLevel: the rate of every stage, against a table by hand; and the loop that tells sources how far it is."""

from __future__ import annotations

import pytest
import torch
import trainee
from torch import nn

from slipstream.data import Cycles, Level
from slipstream.errors import InputError
from slipstream.training import ByLevel, Constant, Cosine
from slipstream.training.loop import train


def test_the_published_multipliers_are_8_4_2_1_and_their_roots():
    """Linear, as published, for plain descent; 2 sqrt(2), 2, sqrt(2), 1 for Adam. The end has the rate of whole windows."""
    middles = [0.82 * (i + 0.5) / 4 for i in range(4)] + [0.9, 1.0]
    linear, root = (ByLevel(Cycles(), Constant(), power) for power in (1.0, 0.5))
    assert [linear(p) for p in middles] == pytest.approx([8, 4, 2, 1, 1, 1])
    assert [root(p) for p in middles] == pytest.approx([8**0.5, 2, 2**0.5, 1, 1, 1])
    assert [ByLevel(Cycles(), Constant(), 0.0)(p) for p in middles] == [1.0] * 6


@pytest.mark.parametrize(("num_dims", "growth"), [(1, 4 * 2**0.5), (2, 8), (3, 8 * 2**0.5)])
def test_it_counts_the_axes(num_dims, growth):
    assert ByLevel(Cycles(), Constant(), 1.0, num_dims)(0.0) == pytest.approx(growth)


def test_it_multiplies_another_schedule():
    cycles = Cycles(long=(Level(0.5), Level()), short=(), repeats=2, final=0.0)
    for p in (0.01, 0.3, 0.6, 0.8):
        assert ByLevel(cycles, Cosine(), 1.0)(p) == Cosine()(p) * (2 if int(p * 4) % 2 == 0 else 1)


@pytest.mark.parametrize("wrong", [{"power": -0.1}, {"power": 1.5}, {"num_dims": 0}], ids=str)
def test_arguments_that_make_no_rate_are_refused(wrong):
    with pytest.raises(InputError, match="expects a power"):
        ByLevel(**wrong)


def test_the_loop_tells_the_source_before_every_window_how_far_it_is(tmp_path):
    """Also when it goes on from a folder."""
    told = []

    class Told(trainee.Pool):
        def on_progress(self, progress):
            told.append(progress)

        def next(self, generator):
            told.append("window")
            return super().next(generator)

    def go(steps, **more):
        torch.manual_seed(1)
        train(nn.Linear(4, 4), Told(), trainee.Rotate(), steps=steps, folder=tmp_path, show=False, **more)

    go(4)
    assert told == [0.0, "window", 0.25, "window", 0.5, "window", 0.75, "window"]
    told.clear()
    go(8, force=True)
    assert told == [0.5, "window", 0.625, "window", 0.75, "window", 0.875, "window"]
