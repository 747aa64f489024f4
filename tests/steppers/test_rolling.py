"""Rollout: exactly the frames asked for, in order, whatever the stepper's horizon and memory."""

from __future__ import annotations

import math

import pytest
import torch

from slipstream.channels import Channel
from slipstream.errors import InputError, ShapeError, UnstableStep
from slipstream.grids import Grid
from slipstream.stepper import Stepper
from slipstream.steppers import rollout
from slipstream.trajectories import Trajectories

GRID = Grid.box(4)


class Counter(Stepper):
    """Each frame is the one before plus the run's parameter; `history` frames must be at hand, `horizon` come at once."""

    def __init__(self, history: int = 1, horizon: int = 1, breaks: int | None = None, noise: bool = False) -> None:
        super().__init__()
        self.interval, self.history, self.horizon, self.noise = 0.5, history, horizon, noise
        self.breaks, self.seen = breaks, []
        self.inner = torch.nn.Dropout(0.5)
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, past, parameters):
        assert past.shape[1] == self.history
        self.seen.append((past.shape[0], self.training, self.inner.training))
        pace = self.weight * parameters["pace"].reshape(-1, 1, 1, 1)
        ahead = torch.arange(1, self.horizon + 1, dtype=past.dtype).reshape(1, -1, 1, 1)
        new = past[:, -1:] + pace * ahead
        return new if self.breaks is None else new.where(new < self.breaks, torch.nan)

    def advance(self, state, parameters, generator=None):
        state, new = super().advance(state, parameters, generator)
        return state, new + torch.randn(new.shape, generator=generator) if self.noise else new


def known(runs: int = 5, steps: int = 1) -> Trajectories:
    """Run r at 10 r, moving by r + 1 a frame."""
    run = torch.arange(runs)[:, None]
    frames = 10.0 * run + (run + 1.0) * torch.arange(1 - steps, 1)
    frames = frames[:, :, None, None].expand(runs, steps, 1, 4).clone()
    return Trajectories(frames, GRID, 0.5, (Channel("u"),), {"pace": torch.arange(runs) + 1.0}, start_time=2.0)


def expected(runs: int, steps: int) -> torch.Tensor:
    run = torch.arange(runs)[:, None]
    return (10.0 * run + (run + 1.0) * torch.arange(1, steps + 1))[:, :, None, None].expand(runs, steps, 1, 4)


@pytest.mark.parametrize("horizon", [1, 2, 3, 5])
@pytest.mark.parametrize("history", [1, 2, 4])
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_exactly_the_frames_asked_for_follow_the_known_ones(history, horizon, steps):
    stepper = Counter(history, horizon)
    new = rollout(stepper, known(5, 4), steps)
    assert torch.equal(new.frames, expected(5, steps))
    assert torch.allclose(new.times, 2.0 + 0.5 * (4 + torch.arange(steps, dtype=torch.float64)))
    assert len(stepper.seen) == math.ceil(steps / horizon), "and no call more than they need"


@pytest.mark.parametrize("chunk", [1, 2, 4, 5, 99])
def test_chunks_make_no_difference_and_are_no_larger_than_asked(chunk):
    stepper = Counter(2, 2)
    assert torch.equal(rollout(stepper, known(5, 2), 5, chunk=chunk).frames, expected(5, 5))
    sizes = [n for n, *_ in stepper.seen]
    assert max(sizes) == min(chunk, 5)
    assert sum(sizes) == 5 * 3


def test_members_are_run_major_with_the_parameters_of_their_run():
    new = rollout(Counter(), known(3), 4, members=2, chunk=4)
    assert torch.equal(new.frames, expected(3, 4).repeat_interleave(2, 0))
    assert new.parameters["pace"].tolist() == [1, 1, 2, 2, 3, 3]
    assert new.about["members"] == 2


def test_members_differ_by_what_the_generator_gives_and_by_nothing_else():
    def frames(seed):
        torch.manual_seed(seed)
        return rollout(Counter(noise=True), known(3), 4, members=2, generator=torch.Generator().manual_seed(1)).frames

    one = frames(1)
    assert not torch.equal(one[0], one[1])
    assert torch.equal(one, frames(2))


@pytest.mark.parametrize("horizon", [1, 2, 3])
@pytest.mark.parametrize("step", [1, 2, 5, 6])
def test_the_guard_names_the_first_step_that_is_not_finite(horizon, step):
    """Run 0 is at `step` after that many frames; run 1 (at 10, twice as fast) is left out of it."""
    breaking = Counter(1, horizon, breaks=step)
    with pytest.raises(UnstableStep, match=rf"Counter left finite numbers at step {step} \(t = {0.5 * step:.4g}\)"):
        rollout(breaking, known(1), 9)
    before = (step - 1) // horizon * horizon
    with pytest.raises(UnstableStep, match=rf"the last finite frame before that call had max\|u\| = {before}\."):
        rollout(breaking, known(1), 9)


def test_the_first_run_that_breaks_decides_whatever_its_place():
    with pytest.raises(UnstableStep, match="at step 2 "):
        rollout(Counter(breaks=14), known(2), 9)  # 12, 14 in run 1; run 0 only after 13 steps


def test_without_the_guard_frames_come_as_they_are():
    new = rollout(Counter(breaks=3), known(1), 6, guard=False)
    assert torch.isfinite(new.frames[:, :2]).all()
    assert torch.isnan(new.frames[:, 2:]).all()


def short_starter(frames, missing, parameters):
    pace = parameters["pace"].reshape(-1, 1, 1, 1)
    made = frames[:, -1:] + pace * torch.arange(1, missing + 1).reshape(1, -1, 1, 1)
    return torch.cat([frames, made], dim=1), 7 * missing


@pytest.mark.parametrize("horizon", [1, 2])
@pytest.mark.parametrize("steps", [1, 2, 3, 8])
@pytest.mark.parametrize("given", [1, 2, 3])
def test_frames_made_for_a_short_start_are_new_frames_and_counted(given, steps, horizon):
    stepper = Counter(4, horizon)
    stepper.starter = short_starter
    new = rollout(stepper, known(3, given), steps)
    assert torch.equal(new.frames, expected(3, steps))
    assert new.starter_steps == 7 * (4 - given)
    assert len(stepper.seen) == math.ceil(max(0, steps - (4 - given)) / horizon)


def test_a_short_start_without_a_starter_is_refused_and_a_full_one_costs_nothing():
    with pytest.raises(ShapeError, match="needs 4 frames to start and got 3"):
        rollout(Counter(4), known(2, 3), 2)
    stepper = Counter(4)
    stepper.starter = short_starter
    assert rollout(stepper, known(2, 4), 2).starter_steps == 0


def test_tensors_give_tensors_and_take_parameters():
    frames, pace = known(3).frames, known(3).parameters
    assert torch.equal(rollout(Counter(), frames, 3, parameters=pace), expected(3, 3))
    doubled = rollout(Counter(), known(3), 1, parameters={"pace": 2 * pace["pace"]})
    assert torch.equal(doubled.frames, known(3).frames + 2 * (expected(3, 1) - known(3).frames))
    assert torch.equal(doubled.parameters["pace"], 2 * pace["pace"])


def test_the_graph_is_kept_only_if_asked_for():
    stepper = Counter()
    assert not rollout(stepper, known(2), 3).frames.requires_grad
    rollout(stepper, known(2), 3, grad=True).frames[:, -1].sum().backward()
    assert float(stepper.weight.grad) == 4 * 3 * (1 + 2)  # points, steps, paces


@pytest.mark.parametrize("training", [True, False])
def test_a_stepper_is_evaluated_and_then_as_before_also_after_an_error(training):
    stepper = Counter(breaks=2).train(training)
    rollout(stepper, known(1), 1)
    with pytest.raises(UnstableStep):
        rollout(stepper, known(1), 5)
    assert {(outer, inner) for _, outer, inner in stepper.seen} == {(False, False)}
    assert (stepper.training, stepper.inner.training) == (training, training)


def test_numbers_below_one_and_other_intervals_are_refused():
    for arguments in ({"steps": 0}, {"steps": 2, "members": 0}, {"steps": 2, "chunk": 0}):
        with pytest.raises(InputError, match="at least 1"):
            rollout(Counter(), known(2), **arguments)
    with pytest.raises(InputError, match=r"advances by 0\.5, the frames are 1 apart"):
        rollout(Counter(), known(2, 3)[:, ::2], 2)
