"""State pool: inputs that the stepper makes itself."""

from __future__ import annotations

import pytest
import torch

from slipstream.channels import Channel
from slipstream.data.pool import StatePool
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.problems import DecayingFlow, KolmogorovFlow
from slipstream.trajectories import Trajectories


def starts(runs: int = 4, steps: int = 6) -> Trajectories:
    frames = torch.arange(runs)[:, None] * 100.0 + torch.arange(steps)
    frames = frames[:, :, None, None].expand(runs, steps, 1, 4).clone() + 1
    return Trajectories(frames, Grid.box(4), 0.1, (Channel("u"),), {"nu": torch.arange(runs) * 1.0})


def test_states_are_consecutive_frames_with_the_parameters_of_their_run(generator):
    window = StatePool(starts(), history=3, batch=4, size=8).next(generator)
    assert torch.all(window.frames[:, 1:] - window.frames[:, :-1] == 1)
    assert torch.equal((window.frames[:, 0, 0, 0] - 1).div(100, rounding_mode="floor"), window.parameters["nu"])


def test_own_predictions_come_back_as_states(generator):
    pool = StatePool(starts(), history=2, batch=4, size=4, reset=1e-9)
    window = pool.next(generator)
    outputs = torch.full((4, 3, 1, 4), 7.25)
    pool.feedback(window, outputs)
    assert torch.all(pool.next(generator).frames == 7.25)


@pytest.mark.parametrize("bad", [float("nan"), 1e9])
def test_states_that_blow_up_start_afresh(bad, generator):
    pool = StatePool(starts(), history=1, batch=4, size=4, reset=1e-9)
    pool.feedback(pool.next(generator), torch.full((4, 1, 1, 4), bad))
    assert torch.all(pool.next(generator).frames < 500)


def test_states_start_afresh_at_the_stated_rate_and_age(generator):
    pool = StatePool(starts(), history=1, batch=500, size=500, reset=0.3)
    pool.feedback(pool.next(generator), torch.full((500, 1, 1, 4), 7.25))
    stayed = float((pool.next(generator).frames == 7.25).float().mean())
    assert stayed == pytest.approx(0.7, abs=0.08)
    old = StatePool(starts(), history=1, batch=4, size=4, reset=1e-9, longest=2)
    old.feedback(old.next(generator), torch.full((4, 1, 1, 4), 7.25))
    old.feedback(old.next(generator), torch.full((4, 1, 1, 4), 7.5))
    assert torch.all(old.next(generator).frames != 7.5)


def test_a_pool_continues_exactly(generator):
    def run(pool, generator, count):
        seen = []
        for _ in range(count):
            window = pool.next(generator)
            pool.feedback(window, window.frames * 1.01)
            seen.append(window.frames.clone())
        return seen

    whole = StatePool(starts(), history=1, batch=2, size=8)
    expected = run(whole, torch.Generator().manual_seed(1), 10)
    first, g = StatePool(starts(), history=1, batch=2, size=8), torch.Generator().manual_seed(1)
    run(first, g, 4)
    second, h = StatePool(starts(), history=1, batch=2, size=8), torch.Generator()
    second.load_state_dict(first.state_dict())
    h.set_state(g.get_state())
    assert all(torch.equal(a, b) for a, b in zip(run(second, h, 6), expected[4:], strict=True))


def test_predictions_that_are_far_off_start_afresh():
    pool, generator = StatePool(starts(), batch=4, size=4, reset=1e-9, trust=0.5), torch.Generator().manual_seed(0)
    window, outputs = pool.next(generator), torch.full((4, 1, 1, 4), 7.25)
    pool.feedback(window, outputs, torch.tensor([0.1, 0.6, 0.4, 3.0]))
    moved = (pool._frames == 7.25).flatten(1).all(1)
    assert moved[window.token].tolist() == [True, False, True, False]


def test_bad_arguments_are_refused():
    with pytest.raises(InputError, match="7 consecutive"):
        StatePool(starts(), history=7)
    with pytest.raises(InputError, match="reset"):
        StatePool(starts(), reset=0.0)


def test_starts_of_a_problem_are_stretches_of_its_marches(generator):
    problem = DecayingFlow(num_points=16, reynolds=20, interval=0.05, warm_up=0.1)
    pool = StatePool.of(problem, history=2, batch=4, runs=3, frames=4, apart=3, seed=5)
    initial, parameters = problem.sample(3, 5)
    with torch.no_grad():
        whole = problem.march(problem.solver(guard=False), initial, parameters, 11)
    expected = torch.stack([whole[:, i : i + 2] for i in (0, 3, 6, 9)], dim=1).flatten(0, 1)
    assert torch.equal(pool.starts.frames, expected)
    window = pool.next(generator)
    assert all(any(torch.equal(w, e) for e in expected) for w in window.frames)


def test_starts_of_a_stationary_problem_lie_far_apart():
    problem = KolmogorovFlow(num_points=16, reynolds=20, interval=0.1, warm_up=2.0)
    pool = StatePool.of(problem, runs=2, frames=3)
    near, far = (pool.starts.frames[i, 0] for i in (0, 1))
    moved = float((far - near).square().mean().sqrt())
    assert moved > 4 * problem.statistics.increment[0]
