"""Reduced: a basis that is optimal, laws that stand in it, symmetries that hold exactly, and a Newton step that pays."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from slipstream.errors import InputError, ShapeError
from slipstream.objectives import Own
from slipstream.operators import RBF, CoefficientNet, PolynomialLaw
from slipstream.pretrained import describe
from slipstream.problems import KolmogorovFlow, MovingSource, Problem, Setting
from slipstream.problems.moving_source import Newton
from slipstream.stepper import Stepper
from slipstream.steppers import Reduced, rollout
from slipstream.training import Fit, train
from slipstream.trajectories import Window


class Still(MovingSource):
    """The strength and the source's place change, little and smoothly: a polynomial can follow."""

    varying = MovingSource.varying | {
        "source_width": (0.08, 0.0801),
        "source_x": (-0.1, 0.1),
        "source_y": (-0.1, 0.1),
        "hole_x": (-0.1, 0.1),
        "hole_y": (-0.1, 0.1),
        "hole_radius": (0.15, 0.1501),
    }


@pytest.fixture(scope="module")
def problem():
    return Still(num_cells=8, edge=0.1)


@pytest.fixture(scope="module")
def data(problem):
    return problem.simulate(400, 1, seed=1)


def window(data):
    return Window(data.frames, data.grid, 0.0, data.parameters)


@pytest.fixture(scope="module")
def fitted(problem, data):
    stepper = Reduced(PolynomialLaw(7, 20, 3), problem, snapshots=300)
    train(stepper, data, Own(), steps=1, batch=400, update=Fit(), show=False)
    return stepper


def error(stepper, data):
    new = rollout(stepper, data.frames[:, :0], 1, parameters=data.parameters)
    return float(((new - data.frames).flatten(1).norm(dim=1) / data.frames.flatten(1).norm(dim=1)).mean())


def test_a_fitted_law_answers_unseen_queries(problem, data, fitted):
    unseen = problem.simulate(30, 1, seed=2)
    mean = (data.frames.mean(0) - unseen.frames).flatten(1).norm(dim=1) / unseen.frames.flatten(1).norm(dim=1)
    assert error(fitted, unseen) < 0.02 < 0.1 * float(mean.mean())


def test_the_basis_is_orthonormal_in_the_grids_norm_and_the_best_there_is(problem, data, fitted):
    w = problem.grid.cell_weights().flatten()
    gram = (fitted.decoder * w) @ fitted.decoder.mT
    torch.testing.assert_close(gram, torch.eye(20), rtol=0, atol=2e-4)
    torch.testing.assert_close(fitted.decoder @ fitted.encoder, torch.eye(20), rtol=0, atol=2e-4)
    _, way, _ = fitted.scaled(data.parameters)
    same_mesh = problem.solver(
        replace(problem.fast_setting, num_points=8)
    )  # as the snapshots: no error of a mesh is in it
    frames = rollout(same_mesh, data.frames[:, :0], 1, parameters=data.parameters)
    u = problem.folded(frames.flatten(1), way) - fitted.mean
    left = ((u - u @ fitted.encoder @ fitted.decoder) * w.sqrt()).norm() / (u * w.sqrt()).norm()
    singular = torch.linalg.svdvals(u * w.sqrt())
    best = singular[20:].norm() / singular.norm()
    assert best <= left < 2 * best
    assert bool((fitted.spread[1:] <= fitted.spread[:-1]).all())
    decay = fitted.decay[:3]
    assert bool((decay[1:] < decay[:-1]).all())
    assert "with 10" in fitted.remarks()[0]


def test_the_loss_is_the_error_in_the_basis(problem, data, fitted):
    total, parts = fitted.loss(window(data), torch.Generator())
    w = problem.grid.cell_weights()
    new = rollout(fitted, data.frames[:, :0], 1, parameters=data.parameters)
    _, way, _ = fitted.scaled(data.parameters)
    u = problem.folded(data.frames.flatten(1), way)
    kept = problem.unfold(fitted.mean + (u - fitted.mean) @ fitted.encoder @ fitted.decoder, way).reshape(new.shape)
    whole = ((kept - new).square() * w).flatten(1).sum(1) / (data.frames.square() * w).flatten(1).sum(1)
    assert float(total) == pytest.approx(float(whole.mean()), rel=1e-3)
    assert float(parts["relative"]) == pytest.approx(float(total) ** 0.5, rel=1e-5)


def test_symmetries_hold_exactly(problem, data, fitted):
    p = data[:5].parameters
    u = rollout(fitted, data.frames[:5, :0], 1, parameters=p)[:, 0, 0]
    mirrored = p | {"source_x": -p["source_x"], "hole_x": -p["hole_x"]}
    torch.testing.assert_close(rollout(fitted, data.frames[:5, :0], 1, parameters=mirrored)[:, 0, 0], u.flip(1))
    turned = {"source_x": "source_y", "source_y": "source_x", "hole_x": "hole_y", "hole_y": "hole_x"}
    swapped = p | {a: p[b] for a, b in turned.items()}
    torch.testing.assert_close(rollout(fitted, data.frames[:5, :0], 1, parameters=swapped)[:, 0, 0], u.mT)
    plain = Reduced(PolynomialLaw(7, 20, 3), problem, snapshots=60, folded=False)
    plain.fit(window(data))
    v = rollout(plain, data.frames[:5, :0], 1, parameters=p)[:, 0, 0]
    there = rollout(plain, data.frames[:5, :0], 1, parameters=mirrored)[:, 0, 0]
    assert float((there - v.flip(1)).abs().max()) > 1e-5  # a law that is told nothing does not know


def test_a_newton_step_pays_and_shows_its_residual(problem, data, fitted):
    polished = Reduced(PolynomialLaw(7, 20, 3), problem, snapshots=60, polish=1)
    polished.load_state_dict(fitted.state_dict())
    exact = problem.newton(Setting(8, 0, Newton(tolerance=1e-6)))
    truth = rollout(exact, data.frames[:20, :0], 1, parameters=data[:20].parameters)
    before, after = (rollout(s, data.frames[:20, :0], 1, parameters=data[:20].parameters) for s in (fitted, polished))
    assert float((after - truth).norm()) < 0.1 * float((before - truth).norm())
    state, _ = polished.advance(polished.start(data.frames[:20, :0], {}), data[:20].parameters)
    assert bool((state.stats["residual"] < 0.1 * state.stats["residual_before"]).all())


def test_networks_learn_by_descent(problem, data):
    torch.manual_seed(0)
    stepper = Reduced(CoefficientNet(7, 20, 32, 2, 1), problem, snapshots=60)
    done = train(stepper, data, Own(), steps=150, batch=64, lr=5e-3, show=False)
    first, last = done.history[0], done.history[-1]
    assert last["total"] < 0.2 * first["total"]
    assert error(stepper, problem.simulate(20, 1, seed=2)) < 0.1


def test_gradients_reach_parameters_and_weights(problem, data, fitted):
    p = {k: v[:2].clone().requires_grad_() for k, v in data.parameters.items()}
    new = rollout(fitted, data.frames[:2, :0], 1, parameters=p, grad=True)
    new.square().sum().backward()
    assert all(float(v.grad.abs().max()) > 0 for v in p.values())
    net = CoefficientNet(7, 20, 8, 1)
    net(torch.rand(3, 7)).square().sum().backward()
    assert all(v.grad is not None for v in net.parameters())


@pytest.mark.parametrize("waves", [0, 2])
def test_a_network_knows_its_shapes(waves):
    net = CoefficientNet(3, 5, 8, 2, waves)
    assert net(torch.zeros(4, 3)).shape == (4, 5)
    assert net.layers[0].in_features == 3 * (1 + 2 * waves)
    with pytest.raises(ShapeError, match="3"):
        net(torch.zeros(4, 2))
    with pytest.raises(InputError, match="waves"):
        CoefficientNet(waves=-1)
    with pytest.raises(TypeError, match="fit"):
        net.fit(torch.zeros(4, 3), torch.zeros(4, 5))


@pytest.mark.parametrize(
    "law", [lambda: PolynomialLaw(7, 12, 2), lambda: RBF(7, 12, 60), lambda: CoefficientNet(7, 12, 8, 1)]
)
def test_it_is_saved_and_read_back_with_its_basis(problem, data, law, tmp_path):
    stepper = Reduced(law(), problem, snapshots=40)
    if isinstance(stepper.law, CoefficientNet):
        stepper.loss(window(data), torch.Generator())
    else:
        stepper.fit(window(data))
    # The class of the problem lives in this file, which a stranger's reader would have to allow.
    plain = Reduced(law(), MovingSource(num_cells=8, edge=0.1), snapshots=40)
    plain.load_state_dict(
        stepper.state_dict() | {"low": plain.low, "high": plain.high, "_logarithmic": plain._logarithmic}
    )
    plain.save_pretrained(tmp_path / "model")
    again = Stepper.from_pretrained(tmp_path / "model")
    assert describe(again) == describe(plain)
    p = data[:3].parameters | {"source_width": torch.full((3,), 0.05)}
    new = [rollout(s, data.frames[:3, :0], 1, parameters=p) for s in (again, plain)]
    assert torch.equal(*new)
    assert float(new[0].abs().max()) > 0


def test_queries_outside_the_ranges_and_bad_arguments_are_refused(problem, data, fitted):
    p = data[:2].parameters
    for value in (0.3, float("nan")):
        with pytest.raises(InputError, match="hole_x"):
            rollout(fitted, data.frames[:2, :0], 1, parameters=p | {"hole_x": torch.full((2,), value)})
    with pytest.raises(InputError, match="needs the parameter"):
        rollout(fitted, data.frames[:2, :0], 1, parameters={})
    with pytest.raises(InputError, match="more snapshots than modes"):
        Reduced(CoefficientNet(), problem, snapshots=100)
    with pytest.raises(InputError, match="7 numbers"):
        Reduced(CoefficientNet(inputs=3, outputs=5), problem)
    flow: Problem = KolmogorovFlow(num_points=16)
    with pytest.raises(InputError, match="steady problems"):
        Reduced(CoefficientNet(outputs=5), flow)
    with pytest.raises(InputError, match="one frame a run"):
        fitted.loss(Window(data.frames.repeat(1, 2, 1, 1, 1), data.grid, 0.0, data.parameters), torch.Generator())
