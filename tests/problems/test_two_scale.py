"""The two-scale problem: reproducible, inside its box, trusted, and solved alike by whoever knows the law."""

from __future__ import annotations

import pytest
import torch

from slipstream.errors import InputError
from slipstream.pretrained import describe, rebuild
from slipstream.problems import TwoScaleConduction
from slipstream.problems.problem import Setting
from slipstream.problems.two_scale import Cells
from slipstream.solvers import ETDRK2


@pytest.fixture(scope="module")
def problem():
    return TwoScaleConduction(macro=(8, 8), micro=(10, 10))


def test_runs_are_the_same_whatever_their_company(problem):
    frames, parameters = problem.sample(3, seed=4)
    _, alone = problem.sample([2], seed=4)
    assert frames.shape == (3, 0, 1, 8, 8)
    assert set(parameters) == set(problem.fields)
    for name in problem.fields:
        assert parameters[name].shape == (3, 8, 8)
        assert torch.equal(parameters[name][2:], alone[name])
        assert float((parameters[name][0] - parameters[name][1]).abs().max()) > 0


def test_a_finer_mesh_sees_the_same_fields(problem):
    _, coarse = problem.sample(1, seed=4)
    _, fine = TwoScaleConduction(macro=(24, 24), micro=(10, 10)).sample(1, seed=4)
    for name in problem.fields:  # centres of coarse cells are centres of every third fine one
        torch.testing.assert_close(fine[name][:, 1::3, 1::3], coarse[name], rtol=1e-5, atol=1e-5)


def test_parameters_and_gradients_stay_inside_the_box_of_the_law(problem):
    _, parameters = problem.sample(6, seed=1)
    low, high = problem.law_box()
    for name, i in (("semi_a", 2), ("semi_b", 3), ("log_kappa", 4)):
        assert low[i] <= parameters[name].min() < parameters[name].max() <= high[i]
    stepper = problem.solver()
    features = torch.stack([stepper.at_points(parameters, n) for n in problem.features], dim=-1)
    solved = stepper.mesh.solve(stepper.material(), features, stepper.at_points(parameters, "source"), tolerance=1e-3)
    assert float(stepper.mesh.gradients(solved.u).norm(dim=-1).max()) * 1.2 < float(high[0])


def test_simulation_is_one_field_a_run_and_its_error_is_stated(problem):
    data = problem.simulate(2, 1, seed=4)
    assert data.frames.shape == (2, 1, 1, 8, 8)
    assert data.interval == 0
    assert float(data.frames.min()) > 0  # heated inside, cold outside
    frames, parameters = problem.sample(2, seed=4)
    error = float(problem.reference_error(frames, parameters, 1))
    assert 1e-5 < error < 0.02


def test_the_reference_balances_its_source(problem):
    frames, parameters = problem.sample(1, seed=4)
    stepper = problem.reference()
    state, _ = stepper.advance(
        stepper.start(frames.double(), parameters), {k: v.double() for k, v in parameters.items()}
    )
    assert 2 <= int(state.stats["law_calls"]) <= 8
    assert int(state.stats["fallbacks"]) == 0


def test_the_ladder_holds_cheap_and_accurate_settings(problem):
    settings = problem.ladder()
    assert len({str(s) for s in settings}) == len(settings) >= 8
    frames, parameters = problem.sample(1, seed=4)
    truth = problem.simulate(1, 1, seed=4).frames
    errors = {}
    for s in (Setting(4, 0, Cells(6)), Setting(8, 0, Cells(6)), Setting(8, 0, Cells(24))):
        new = problem.march(problem.solver(s), frames, parameters, 1)
        errors[str(s)] = float((new - truth).norm() / truth.norm())
    coarse, middle, fine = errors.values()
    assert fine < middle < coarse < 0.3
    with pytest.raises(InputError, match="Cells"):
        problem.solver(Setting(8, 1, ETDRK2))


def test_law_data_fill_the_box_and_are_what_the_cells_say(problem):
    x, y = problem.law_data(64, seed=2)
    low, high = problem.law_box()
    assert torch.equal(x.amin(0), low)
    assert torch.equal(x.amax(0), high)
    torch.testing.assert_close(y, problem.cell_law()(x[:, :2], x[:, 2:]).flux, rtol=3e-3, atol=3e-3)
    again, _ = problem.law_data(64, seed=2)
    assert torch.equal(again, x)
    assert not torch.equal(problem.law_data(64, seed=3)[0], x)


def test_gradients_reach_the_parameters(problem):
    frames, parameters = problem.sample(1, seed=4)
    kappa = parameters["log_kappa"].double()
    given = {k: v.double() for k, v in parameters.items()}
    stepper = problem.solver(Setting(8, 0, Cells(8, 1e-8, 1e-5)))
    stepper.tolerance = 1e-9

    def value(k):
        return stepper(frames.double(), given | {"log_kappa": k}).square().sum()

    k = kappa.clone().requires_grad_()
    value(k).backward()
    direction, h = torch.randn_like(kappa), 1e-4
    difference = (value(kappa + h * direction) - value(kappa - h * direction)) / (2 * h)
    torch.testing.assert_close((k.grad * direction).sum(), difference, rtol=1e-4, atol=1e-7)


def test_it_is_written_down_and_read_back(problem):
    again = rebuild(describe(problem))
    assert torch.equal(again.sample(1, seed=0)[1]["angle"], problem.sample(1, seed=0)[1]["angle"])


def test_bad_arguments_are_refused(problem):
    with pytest.raises(InputError, match="macro"):
        TwoScaleConduction(macro=(8, 9))
    with pytest.raises(InputError, match="contrast"):
        TwoScaleConduction(contrast=0.5)
    with pytest.raises(InputError, match="steady"):
        problem.simulate(1, 3)
    with pytest.raises(InputError, match="at least 1 sample"):
        problem.law_data(0)
