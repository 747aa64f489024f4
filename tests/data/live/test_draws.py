"""Which parameters the runs of an ensemble get."""

from __future__ import annotations

import math

import pytest
import torch

from slipstream.data import Adaptive, Sobol, Uniform
from slipstream.data.live.draws import cells, mirrored, num_cells, place_of, placed
from slipstream.data.live.members import seed_of
from slipstream.errors import InputError
from slipstream.problems import DecayingFlow, HeatedPlate, SteepeningWaves
from slipstream.training.checkpoint import pack, unpack

PLATE = HeatedPlate(num_points=4)
WAVES = SteepeningWaves(num_points=16, viscosity=(0.01, 0.04))


def drawn(draws, problem, numbers, seed=0):
    return [draws.draw(problem, n, seed, seed_of(seed, n)) for n in numbers]


def places(draws, problem, count, seed=0):
    return torch.stack([place_of(problem, p) for p in drawn(draws, problem, range(count), seed)])


def test_uniform_is_the_problems_own_draw():
    for number in (0, 5):
        run_seed = seed_of(7, number)
        own = PLATE.sample_parameters([0], run_seed)
        assert {k: v[None] for k, v in Uniform().draw(PLATE, number, 7, run_seed).items()} == own


def test_places_and_parameters_are_inverse_and_logarithmic_where_positive():
    half = placed(WAVES, torch.tensor([0.5], dtype=torch.float64))
    assert float(half["viscosity"]) == pytest.approx(math.sqrt(0.01 * 0.04), rel=1e-6)
    point = torch.tensor([0.2, 0.9, 0.0, 1.0, 0.4], dtype=torch.float64)
    assert torch.allclose(place_of(PLATE, placed(PLATE, point)), point, atol=1e-6)


def test_sobol_fills_the_box_more_evenly_than_chance():
    """The mean of a smooth function over n points is off by about 1/n, not 1/sqrt(n)."""

    def off(points):
        return abs(float(points.square().prod(1).mean()) - (1 / 3) ** 5)

    errors = {kind: [] for kind in (Sobol, Uniform)}
    for kind, found in errors.items():
        found += [off(places(kind(), PLATE, 128, seed)) for seed in range(6)]
    assert sum(errors[Sobol]) < 0.4 * sum(errors[Uniform])
    one = places(Sobol(), WAVES, 32)[:, 0]
    assert torch.equal((one * 32).long().sort().values, torch.arange(32)), "one point in each of 32 equal parts"


def test_sobol_depends_on_number_and_seed_alone():
    whole = places(Sobol(), PLATE, 12)
    draws = Sobol()
    late = torch.stack([place_of(PLATE, p) for p in drawn(draws, PLATE, [7, 9, 3])])
    assert torch.equal(late, whole[[7, 9, 3]])
    assert not torch.equal(places(Sobol(), PLATE, 12, seed=1), whole)


def test_adaptive_draws_go_where_the_loss_is_high_and_keep_their_uniform_share():
    draws = Adaptive(uniform=0.4, width=0.04, least=8, memory=1000)
    points = places(draws, WAVES, 60)[:, 0]
    bad = points > 0.8
    assert 3 < int(bad.sum()) < 30, "nothing is known, so they are uniform"
    for _ in range(30):
        draws.feedback(torch.arange(60), torch.where(bad, 1.0, 1e-6))
    later = torch.stack([place_of(WAVES, p) for p in drawn(draws, WAVES, range(100, 700))])[:, 0]
    # Losses of the new runs are unknown: all that is adapted goes to the upper fifth, of the uniform ones a fifth does.
    share = float((later > 0.75).float().mean())
    assert share == pytest.approx(0.6 + 0.4 * 0.25, abs=0.06)
    assert float((later < 0.25).float().mean()) == pytest.approx(0.4 * 0.25, abs=0.04), "no region is starved"
    assert 0 <= float(later.min()) <= float(later.max()) <= 1


def test_adaptive_forgets_old_runs_and_ignores_broken_losses():
    draws = Adaptive(memory=10, least=2)
    places(draws, WAVES, 40)
    draws.feedback(torch.arange(40), torch.full((40,), torch.nan))
    assert len(draws._places) == 10
    assert draws._losses == {}
    draws.feedback(torch.tensor([39, 39]), torch.tensor([1.0, 2.0]))
    assert draws._losses[39] == pytest.approx(1.2)


def test_adaptive_goes_on_exactly():
    def tell(draws, numbers):
        draws.feedback(torch.tensor(numbers), torch.tensor([1.0 + n % 5 for n in numbers]))

    draws = Adaptive(least=3, memory=20)
    drawn(draws, PLATE, range(15))
    tell(draws, [1, 4, 4, 9, 12])
    again = Adaptive(least=3, memory=20)
    again.load_state_dict(unpack(pack(draws.state_dict())))
    for one in (draws, again):
        tell(one, [3, 9])
    assert drawn(again, PLATE, range(15, 40)) == drawn(draws, PLATE, range(15, 40))
    with pytest.raises(InputError, match="width was"):
        Adaptive(width=0.2, least=3, memory=20).load_state_dict(draws.state_dict())


def test_mirrors_keep_points_inside_and_inner_ones_still():
    point = torch.tensor([-0.1, 0.3, 1.2, 2.1, -1.3], dtype=torch.float64)
    assert torch.allclose(mirrored(point), torch.tensor([0.1, 0.3, 0.8, 0.1, 0.7], dtype=torch.float64))


def test_cells_are_counted_in_planes_of_neighbouring_ranges():
    generator = torch.Generator().manual_seed(0)
    for dims in (1, 2, 5):
        met = set().union(*(cells(torch.rand(dims, generator=generator)) for _ in range(500)))
        assert len(met) == num_cells(dims)
    assert len(cells(torch.zeros(5))) == 5


def test_bad_arguments_and_problems_without_ranges_are_refused():
    for bad in ({"uniform": 0.2}, {"uniform": 0.6}, {"width": 0.0}, {"least": 9, "memory": 8}):
        with pytest.raises(InputError, match=r"uniform <= 0\.5"):
            Adaptive(**bad)
    for draws in (Sobol(), Adaptive()):
        with pytest.raises(InputError, match="varying is empty"):
            draws.check(DecayingFlow(num_points=16))


def test_adapted_draws_lie_a_gaussian_step_around_the_runs_that_were_worst():
    """In five ranges, hardly any uniform draw is that near to the parent by chance."""
    draws = Adaptive(uniform=0.3, width=0.02, least=1, memory=1000)
    first = places(draws, PLATE, 20)
    number = int(((first - 0.5).abs().amax(1) < 0.4).nonzero()[0])  # far from the sides, where steps would be mirrored
    draws.feedback(torch.tensor([number]), torch.tensor([1.0]))
    later = torch.stack([place_of(PLATE, p) for p in drawn(draws, PLATE, range(20, 320))])
    steps = later - first[number]
    near = steps[steps.abs().amax(1) < 0.1]
    assert len(near) == pytest.approx(0.7 * 300, abs=32), "four standard deviations"
    assert float(near.std()) == pytest.approx(0.02, rel=0.1)
    assert float(near.mean()) == pytest.approx(0, abs=0.003)


def test_losses_are_forgotten_with_their_runs():
    draws = Adaptive(memory=10, least=2)
    places(draws, WAVES, 10)
    draws.feedback(torch.arange(10), torch.ones(10))
    assert len(draws._losses) == 10
    drawn(draws, WAVES, range(10, 20))
    assert draws._losses == {}


def test_every_run_of_every_ensemble_has_a_seed_of_its_own_that_any_program_can_take():
    seeds = [seed_of(seed, number) for seed in range(12) for number in range(120)]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= 0
    assert max(seeds) < 2**31


def test_one_stream_may_serve_ensembles_of_several_seeds_in_turns():
    shared = Sobol()
    for number in range(4):
        for seed in (0, 1):
            (alone,) = drawn(Sobol(), PLATE, [number], seed)
            assert drawn(shared, PLATE, [number], seed) == [alone]
