"""Levels of a staggered solver: any regular subset of its sub-solvers is a solver, of the same numbers at its points."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from slipstream.assessment import verify
from slipstream.errors import InputError, ShapeError
from slipstream.grids import Axis, Grid
from slipstream.operators import FNO, UNet
from slipstream.problems import KolmogorovFlow, UnevenMedium
from slipstream.problems.problem import Statistics
from slipstream.stepper import Stepper
from slipstream.steppers import Staggered, rollout
from slipstream.steppers.executions import Grouped, Loop
from slipstream.steppers.parts import Part

FLOW = KolmogorovFlow(num_points=32, reynolds=(20.0, 40.0), interval=0.05, warm_up=0.2)
FACTORY = partial(UNet, hidden_channels=4, levels=1)
CASES = [(4, 4, False), (4, 4, True), ((4, 2), 2, False), ((2, 4), 6, True)]


def staggered(space, time, fan, problem=FLOW, **more):
    torch.manual_seed(0)
    made = Staggered(FACTORY, problem, space=space, time=time, fan=fan, **more)
    for p in made.parameters():
        torch.nn.init.normal_(p, std=0.05)
    return made


@pytest.fixture(scope="module")
def data():
    return FLOW.simulate(2, 9, seed=1)


@pytest.mark.parametrize(("space", "time", "fan"), CASES)
def test_a_level_gives_the_frames_of_the_whole_at_its_points_and_times(data, space, time, fan):
    whole = staggered(space, time, fan)
    start = data[:, : whole.history]
    full = rollout(whole, start, 3 * time)
    for row in whole.levels():
        level = whole.at_level(row.space, row.time)
        known = level.restrict(start)[:, -level.history :]
        assert known.frames.shape[-2:] == level.grid.shape == row.num_points
        new = rollout(level, known, 3 * level.horizon)
        # With chains the first frame of a level is the first one that it knows; with a fan, one interval of its own ahead.
        expected = full.frames[:, (level._every - 1 if fan else 0) :: level._every]
        points = tuple(slice(None, None, t) for t in row.space)
        assert torch.allclose(new.frames, expected[(..., *points)], atol=1e-6)
        assert new.interval == pytest.approx(row.interval) == pytest.approx(level.interval)
        assert row.sub_solvers == len(level.networks)
        assert row.work == pytest.approx(row.sub_solvers / len(whole.networks))


def test_levels_run_from_the_whole_to_one_sub_solver():
    rows = staggered(4, 4, False).levels()
    assert (rows[0].sub_solvers, rows[0].work, rows[0].num_points) == (64, 1.0, (32, 32))
    assert (rows[-1].sub_solvers, rows[-1].work, rows[-1].num_points) == (1, 1 / 64, (8, 8))
    assert len(rows) == 9


def test_sub_solvers_merge_to_the_whole(data):
    whole = staggered((4, 2), 2, False)
    full = rollout(whole, data[:, :2], 2).frames
    for i in range(4):
        for j in range(2):
            for r in range(2):
                one = whole.export((i, j), r)
                assert one.history == one.horizon == len(one.networks) == 1
                new = one(data.frames[:, r : r + 1, :, i::4, j::2], data.parameters)
                assert torch.allclose(new[:, 0], full[:, r, :, i::4, j::2], atol=1e-6)


def test_the_heads_of_a_fan_jump_farther_and_farther(data):
    whole = staggered(2, 3, True)
    full = rollout(whole, data[:, :1], 3).frames
    for r in range(3):
        head = whole.export(0, r)
        assert head.interval == pytest.approx((r + 1) * FLOW.interval)
        new = rollout(head, data.frames[:, :1, :, ::2, ::2], 1, parameters=data.parameters)
        assert torch.allclose(new[:, 0], full[:, r, :, ::2, ::2], atol=1e-6)


def test_points_of_a_shifted_part_lie_where_they_were():
    part = staggered(4, 1, False).export((1, 3))
    fine, coarse = FLOW.grid.coordinates(), part.grid.coordinates()
    assert torch.allclose(coarse, fine[:, 1::4, 3::4])
    assert torch.equal(part.restrict(FLOW.simulate(1, 2, seed=3)).frames.isfinite().all(), torch.tensor(True))


def test_a_part_is_saved_with_its_own_networks_only(data, tmp_path):
    whole = staggered(2, 2, False)
    for part in (whole.export((0, 1), 1), whole.at_level(2, 2), whole.at_level(1, 2)):
        part.save_pretrained(tmp_path / "part")
        again = Stepper.from_pretrained(tmp_path / "part")
        assert len(again.networks) == len(part.networks) < len(whole.networks)
        assert again.grid == part.grid
        known = part.restrict(data[:, :1])
        assert torch.equal(rollout(again, known, 3).frames, rollout(part, known, 3).frames)


def test_a_part_shares_its_weights_and_leaves_random_numbers_alone():
    whole = staggered(2, 2, False)
    torch.manual_seed(4)
    before = torch.get_rng_state()
    level = whole.at_level(2, 1)
    assert torch.equal(torch.get_rng_state(), before)
    assert level.sub_solver(0, 1) is whole.sub_solver(0, 1)


def test_a_part_follows_precision_and_shared_weights(data):
    whole = staggered(2, 2, False, share=True).double()
    level = whole.at_level(2, 2)
    assert len(level.networks) == 1
    assert level(level.restrict(data[:, :1]).frames.double(), data.parameters).dtype == torch.float64


def test_fields_are_restricted_too():
    medium = UnevenMedium(num_points=32, interval=0.05)
    data, whole = medium.simulate(2, 4, seed=0), staggered(2, 1, False, medium)
    level = whole.at_level(2)
    sparse = level.restrict(data)
    assert torch.equal(sparse.parameters["wave_speed"], data.parameters["wave_speed"][:, ::2, ::2])
    full = rollout(whole, data[:, :1], 3).frames[..., ::2, ::2]
    assert torch.allclose(rollout(level, sparse[:, :1], 3).frames, full, atol=1e-6)


def test_starting_frames_of_a_level_are_every_other_one_of_the_solver(data):
    level = staggered(2, 4, False).at_level(1, 2)
    short = rollout(level, data[:, :1], 4) if level.interval == data.interval else None
    assert short is None
    known = level.restrict(data[:, :1])
    known = type(known)(known.frames, known.grid, level.interval, known.channels, known.parameters)
    new = rollout(level, known, 4)
    made, steps = FLOW.starter(data.frames[:, :1], 2, data.parameters)
    assert torch.allclose(new.frames[:, 0], made[:, 2], atol=1e-5)
    assert new.starter_steps == steps
    coarse = staggered(2, 4, False).at_level(2, 2)
    with pytest.raises(ShapeError, match="needs 2 frames"):
        rollout(coarse, coarse.restrict(data[:, :3])[:, :1], 2)


def test_levels_are_verified_like_any_stepper(data):
    level = staggered(2, 2, True).at_level(2, 2)
    report = verify(level, level.restrict(data), runs=2, steps=3)
    assert report.subject.grid.shape == (16, 16)
    assert report.times[0] == pytest.approx(2 * FLOW.interval)


def test_subsets_that_are_no_solver_are_refused():
    whole = staggered(4, 4, False)
    for call, match in [
        (lambda: whole.at_level(3), "divide"),
        (lambda: whole.at_level((2, 2, 2)), "divide"),
        (lambda: whole.at_level(2, 3), "dividing"),
        (lambda: whole.export((0, 4)), "below the strides"),
        (lambda: whole.export(0, 4), "equal gaps"),
        (lambda: staggered(2, 4, True, part=Part((1, 1), (0, 0), (1, 2))), "as far ahead"),
        (lambda: staggered(2, 4, False, part=Part((1, 1), (0, 0), (0, 1))), "equal gaps"),
        (lambda: whole.at_level(2).at_level(2), "part already"),
        (lambda: staggered(2, 4, False, execution="threads"), "one of"),
    ]:
        with pytest.raises(InputError, match=match):
            call()
    walled = Grid((Axis("x", 16, periodic=False), Axis("y", 16)))
    with pytest.raises(InputError, match=r"\['x'\]"):
        Part((2, 1), (0, 0), (0,)).check((2, 2), 1, False, walled)
    Part((1, 2), (0, 0), (0,)).check((2, 2), 1, False, walled)


@pytest.mark.parametrize("factory", [FACTORY, partial(FNO, n_modes=(4, 4), hidden_channels=6, n_layers=2)])
@pytest.mark.parametrize("share", [False, True])
def test_grouped_networks_give_the_numbers_and_gradients_of_the_loop(data, factory, share):
    torch.manual_seed(0)
    stepper = Staggered(factory, FLOW, space=2, time=2, share=share)
    for p in stepper.parameters():
        torch.nn.init.normal_(p, std=0.1)
    past, found = data.frames[:, :2], {}
    for execution in ("loop", "grouped"):
        stepper.execution = execution
        stepper.zero_grad()
        new = stepper(past, data.parameters)
        (new * torch.linspace(0, 1, new.numel()).reshape(new.shape)).sum().backward()
        found[execution] = (new.detach(), [p.grad.clone() for p in stepper.parameters()])
    assert torch.allclose(found["loop"][0], found["grouped"][0], atol=1e-6)
    for a, b in zip(found["loop"][1], found["grouped"][1], strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-4 * float(a.abs().max()))


def test_grouped_networks_notice_new_weights(data):
    stepper = staggered(2, 1, False, execution="grouped")
    past = data.frames[:, :1]
    with torch.no_grad():
        before = stepper(past, data.parameters)
        stepper.networks[3].leave.bias.add_(1.0)
        after = stepper(past, data.parameters)
        stepper.execution = "loop"
        assert torch.allclose(after, stepper(past, data.parameters), atol=1e-6)
    assert not torch.allclose(before, after, atol=1e-3)


def test_grouped_networks_learn_also_after_a_look_without_gradients(data):
    stepper, found = staggered(2, 1, False, execution="grouped"), []
    past = data.frames[:, :1]
    with torch.no_grad():
        stepper(past, data.parameters)
    for _ in range(2):
        stepper(past, data.parameters).square().sum().backward()
        found.append([p.grad.clone() for p in stepper.parameters()])
    for once, twice in zip(*found, strict=True):
        assert float(once.abs().max()) > 0
        assert torch.allclose(twice, 2 * once, rtol=1e-4, atol=1e-6 * float(once.abs().max()))


class Shifted(torch.nn.Module):
    """A weight and a buffer."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((), 2.0))
        self.register_buffer("shift", torch.tensor(shift))

    def forward(self, x):
        return self.weight * x + self.shift


def test_grouped_networks_have_each_their_own_buffers():
    networks, grouped, x = [Shifted(float(i)) for i in range(3)], Grouped(), torch.randn(3, 2, 1, 5)
    with torch.no_grad():
        assert torch.equal(grouped(networks, x, None), Loop()(networks, x, None))
        networks[1].shift.fill_(9.0)
        assert torch.equal(grouped(networks, x, None), Loop()(networks, x, None))


def test_grouped_networks_drop_out_each_on_its_own():
    networks = [torch.nn.Sequential(Shifted(1.0), torch.nn.Dropout(0.5)) for _ in range(2)]
    new = Grouped()(networks, torch.ones(2, 1, 1, 64), None)
    assert not torch.equal(new[0], new[1])
    assert set(new.flatten().tolist()) == {0.0, 6.0}


@pytest.mark.parametrize(("fan", "expected"), [(False, [3.0, 3.0, 3.0]), (True, [1.0, 2.0, 3.0])])
def test_changes_are_measured_by_what_is_typical_of_the_intervals_that_are_jumped(fan, expected):
    sizes = Statistics((0.0,), (100.0,), (1.0,))
    assert staggered(2, 3, fan, statistics=sizes).scale.flatten().tolist() == expected
