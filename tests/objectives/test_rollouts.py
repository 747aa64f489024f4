"""Objectives for long rollouts: what each does to the plain objective, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from slipstream.equations import AdvectionDiffusion
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.objectives import (
    Curriculum,
    Noise,
    PhysicsResidual,
    PushForward,
    RelativeL2,
    RelativeSpectral,
    Supervised,
)
from slipstream.operators import UNet
from slipstream.problems import KolmogorovFlow
from slipstream.problems.periodic import PeriodicProblem, smooth_field
from slipstream.stepper import State, Stepper
from slipstream.steppers import Autoregressive
from slipstream.trajectories import Window

PROBLEM = KolmogorovFlow(num_points=16, reynolds=30, interval=0.05, warm_up=0.5)


@pytest.fixture(scope="module")
def data():
    return PROBLEM.simulate(2, 10, seed=1)


@pytest.fixture(params=[(1, 1), (2, 1), (3, 2)], ids=str)
def stepper(request):
    history, horizon = request.param
    made = Autoregressive(partial(UNet, hidden_channels=4, levels=1), PROBLEM, history=history, horizon=horizon)
    for p in made.parameters():
        torch.nn.init.normal_(p, std=0.1)
    return made


def seen(objective, stepper, data):
    past, future = objective.frames_needed(stepper)
    return Window(data.frames[:, : past + future], data.grid, data.interval, data.parameters)


def gradients(objective, stepper, window, seed=0):
    stepper.zero_grad()
    loss = objective(stepper, window, torch.Generator().manual_seed(seed))
    loss.total.backward()
    return loss, [p.grad.clone() for p in stepper.parameters()]


def test_no_gradient_passes_through_pushed_calls(stepper, data):
    """The same loss and gradients as by hand: two calls, detached, and one that counts; and not those of three calls unrolled."""
    objective = PushForward(Supervised(), calls=2)
    w = seen(objective, stepper, data)
    loss, found = gradients(objective, stepper, w)
    stepper.zero_grad()
    h, k = stepper.history, stepper.horizon
    known = w.frames[:, :h]
    for _ in range(2):
        known = torch.cat([known, stepper(known, {}).detach()], dim=1)[:, -h:]
    new = stepper(known, {})
    by_hand = RelativeL2()(new, w.frames[:, h + 2 * k : h + 3 * k], w.grid).mean()
    by_hand.backward()
    assert torch.allclose(loss.total, by_hand)
    assert all(
        torch.allclose(a, p.grad, rtol=1e-4, atol=1e-6) for a, p in zip(found, stepper.parameters(), strict=True)
    )
    _, through = gradients(Supervised(calls=3), stepper, w)
    assert not all(torch.allclose(a, b, rtol=1e-2) for a, b in zip(found, through, strict=True))
    assert loss.outputs.shape[1] == 3 * k


def test_pushed_frames_and_labels_are_those_of_one_time(data):
    """A stepper that knows the truth has no loss wherever it is pushed to."""

    class Knows(Stepper):
        interval, history, horizon = PROBLEM.interval, 1, 1

        def forward(self, past, parameters):
            at = (data.frames[:, :, None] - past[:, None]).flatten(2).norm(dim=-1).argmin(1)
            return data.frames[torch.arange(2), at + 1][:, None]

    objective = PushForward(Supervised(), calls=4)
    assert float(objective(Knows(), seen(objective, Knows(), data), torch.Generator()).total) < 1e-6


def test_label_free_objectives_stay_so_when_pushed(stepper, data):
    objective = PushForward(PhysicsResidual(trusted=1.0), calls=3)
    assert objective.frames_needed(stepper) == (stepper.history, 0)
    loss = objective(stepper, seen(objective, stepper, data), torch.Generator())
    assert loss.outputs.shape[1] == 4 * stepper.horizon


def test_noise_of_zero_is_the_plain_objective_and_labels_stay_clean(stepper, data):
    w = seen(Supervised(), stepper, data)
    plain, exact = gradients(Supervised(), stepper, w)
    none, found = gradients(Noise(Supervised(), scale=0.0), stepper, w)
    assert torch.equal(plain.total, none.total)
    assert all(torch.equal(a, b) for a, b in zip(exact, found, strict=True))

    frames = []

    class Spy(Supervised):
        def __call__(self, module, window, generator):
            frames.append(window.frames)
            return super().__call__(module, window, generator)

    Noise(Spy(), scale=0.1)(stepper, w, torch.Generator().manual_seed(0))
    h = stepper.history
    assert torch.equal(frames[0][:, h:], w.frames[:, h:])
    size = (frames[0] - w.frames)[:, :h].flatten(3).std(-1) / w.frames[:, :h].flatten(3).std(-1)
    assert torch.allclose(size, torch.full_like(size, 0.1), rtol=0.2)


class Drunk(Stepper):
    """Draws from the generator at every call."""

    interval, history, horizon = 0.1, 1, 1

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.7))

    def advance(self, state, parameters, generator=None):
        u = state.values
        new = torch.tanh(self.weight * u + 0.3 * torch.randn(u.shape, generator=generator) * u.roll(1, -1))
        return replace(state, values=new, stats={"size": new.norm()}), new


@pytest.mark.parametrize("residual", [False, True])
def test_checkpointing_gives_identical_gradients(stepper, data, residual):
    make = partial(PhysicsResidual, trusted=1.0) if residual else Supervised
    w = seen(Supervised(calls=3), stepper, data)
    plain, exact = gradients(make(calls=3), stepper, w)
    kept, found = gradients(make(calls=3, checkpoint=True), stepper, w)
    assert torch.equal(plain.total, kept.total)
    assert all(torch.equal(a, b) for a, b in zip(exact, found, strict=True))


def test_checkpointed_calls_draw_the_same_numbers_again():
    stepper, grid = Drunk(), Grid.box(8)
    w = Window(torch.randn(2, 5, 1, 8), grid, 0.1)
    after = []
    for checkpoint in (False, True):
        generator = torch.Generator().manual_seed(3)
        stepper.weight.grad = None
        Supervised(calls=4, checkpoint=checkpoint)(stepper, w, generator).total.backward()
        after.append((stepper.weight.grad.clone(), generator.get_state()))
    assert torch.equal(after[0][0], after[1][0])
    assert torch.equal(after[0][1], after[1][1])


def test_checkpointing_keeps_the_inside_of_no_call(stepper, data):
    def kept(checkpoint):
        sizes = []

        def pack(t):
            sizes.append(t.numel())
            return t

        w = seen(Supervised(calls=2), stepper, data)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            Supervised(calls=2, checkpoint=checkpoint)(stepper, w, torch.Generator())
        return sum(sizes)

    assert kept(True) < 0.2 * kept(False)


def test_a_curriculum_unrolls_more_as_training_goes_on(stepper, data):
    inner = Supervised()
    objective = Curriculum(inner, calls=(1, 2), starts=(0, 0.6))
    w = seen(objective, stepper, data)
    assert (
        w.frames.shape[1] == stepper.history + 2 * stepper.horizon
    )  # windows hold the longest stage from the beginning
    for progress, calls in [(0.0, 1), (0.59, 1), (0.6, 2), (1.0, 2), (0.3, 1)]:
        (0.5 * (objective + 0.0 * Supervised())).on_progress(progress)  # through a sum
        assert objective.now == calls
        expected = Supervised(calls=calls)(stepper, w, torch.Generator()).total
        assert torch.equal(objective(stepper, w, torch.Generator()).total, expected)
    assert inner.calls == 1


def test_a_training_walks_through_the_stages_and_goes_on_in_the_right_one(data, tmp_path):
    from slipstream.data.windows import Windows
    from slipstream.training.callbacks import Callback
    from slipstream.training.loop import train

    def run(folder, stop_at=None):
        torch.manual_seed(0)
        stepper = Autoregressive(partial(UNet, hidden_channels=4, levels=1), PROBLEM)
        objective, stages = Noise(Curriculum(PushForward(), calls=(1, 2, 3)), scale=0.01), []

        class Watch(Callback):
            def on_step(self, run):
                stages.append(objective.objective.now)
                if run.step == stop_at:
                    run.stop("enough")

        train(stepper, Windows(data, 5, 2), objective, steps=9, callbacks=[Watch()], folder=folder, show=False)
        return stages, stepper

    whole, expected = run(tmp_path / "a")
    assert whole == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    first, _ = run(tmp_path / "b", stop_at=5)
    second, found = run(tmp_path / "b")
    assert first + second == whole
    assert all(torch.equal(a, b) for a, b in zip(expected.parameters(), found.parameters(), strict=True))


def test_arguments_that_make_no_sense_are_refused(stepper, data):
    for make, match in [
        (lambda: PushForward(calls=0), "at least 1 call"),
        (lambda: Noise(scale=-1.0), "scale"),
        (lambda: Curriculum(calls=()), "calls"),
        (lambda: Curriculum(calls=(1, 2), starts=(0.1, 0.5)), "starts"),
        (lambda: Curriculum(calls=(1, 2), starts=(0, 0)), "starts"),
        (lambda: Curriculum(Noise()), "inside"),
        (lambda: RelativeSpectral(edges=(5.0, 2.0)), "rising"),
        (lambda: RelativeSpectral(emphasis=(1.0,)), "one weight a band"),
    ]:
        with pytest.raises(InputError, match=match):
            make()
    with pytest.raises(InputError, match="needs windows"):
        PushForward()(stepper, seen(Supervised(), stepper, data), torch.Generator())
    walled = Grid.box(8, num_dims=1, periodic=False)
    with pytest.raises(InputError, match="periodic"):
        RelativeSpectral()(torch.ones(1, 1, 1, 8), torch.ones(1, 1, 1, 8), walled)


@pytest.mark.parametrize("shape", [(16,), (15,), (16, 12), (9, 8, 6)])
def test_one_band_is_the_relative_l2_norm(shape):
    grid = Grid.box(shape)
    a, b = torch.randn(2, 3, 2, 2, *shape, dtype=torch.float64)
    for squared in (False, True):
        found = RelativeSpectral((), squared=squared)(a, b, grid)
        assert torch.allclose(found, RelativeL2(squared=squared)(a, b, grid), rtol=1e-6)


def test_each_band_counts_by_its_own_size():
    grid = Grid.box(64, num_dims=1)
    x = grid.coordinates(torch.float64)
    target = (torch.cos(2 * x) + 0.1 * torch.cos(7 * x) + 0.05 * torch.cos(13 * x))[None, None]
    for wave, size in ((2, 1.0), (7, 0.1), (13, 0.05)):
        wrong = target + 0.2 * size * torch.sin(wave * x)
        assert float(RelativeSpectral()(wrong, target, grid)) == pytest.approx(0.2 / 3**0.5, rel=1e-6)
    wrong = target + 0.2 * 0.05 * torch.sin(13 * x)
    assert float(RelativeSpectral(emphasis=(1, 1, 6))(wrong, target, grid)) == pytest.approx(
        0.2 * (6 / 8) ** 0.5, rel=1e-6
    )
    # An empty band is measured against a share of the whole.
    low, off = torch.cos(2 * x)[None, None], torch.cos(2 * x)[None, None] + 0.001 * torch.cos(20 * x)
    assert float(RelativeSpectral(floor=1e-2, squared=True)(off, low, grid)) == pytest.approx(1e-6 / 1e-2 / 3, rel=1e-6)


class Stream(PeriodicProblem):
    """A stiff linear one: nu k^2 times the interval is 6 at the highest wavenumber, and waves travel."""

    def __init__(self, interval: float = 0.3) -> None:
        self.interval = interval
        self._box(16, 6.283185307179586, interval, 2)
        self.equation = AdvectionDiffusion((1.0, 0.5), 0.3, 2)
        self._settings(0.1, 0.1)

    def initial(self, generator):
        return smooth_field(self.grid, generator, 3)[None]


class Answers(torch.nn.Module):
    """A stepper that says what it was told."""

    history, horizon = 1, 1

    def __init__(self, problem, answer):
        super().__init__()
        self.problem, self.answer = problem, answer

    def start(self, frames, parameters):
        return State(frames)

    def advance(self, state, parameters, generator=None):
        return state, self.answer


def test_the_preconditioned_residual_of_a_linear_equation_is_the_error_of_the_implicit_step(generator):
    """What is left of a pair lies between its second frame and the Crank-Nicolson step from its first, in every mode."""
    p = Stream()
    u = torch.randn(2, 1, 16, 16, dtype=torch.float64, generator=generator)
    d = p.calculus(u)
    half = 0.5 * p.interval * p.equation.linear(p.grid, p.equation.ready({}, u))
    error = torch.randn(u.shape, dtype=torch.float64, generator=generator)
    stepped = d.inverse((1 + half) / (1 - half) * d.forward(u))
    stepper, w = Answers(p, (stepped + error)[:, None]), Window(u[:, None], p.grid, p.interval)
    loss = PhysicsResidual(precondition=True, trusted=1e9)(stepper, w, generator)
    expected = (error / p.statistics.increment[0]).square().mean()
    assert float(loss.total) == pytest.approx(float(expected), rel=1e-6)
    plain = PhysicsResidual(trusted=1e9)(stepper, w, generator)
    assert float(plain.total) > 2 * float(expected)


def test_preconditioning_damps_stiff_modes_and_leaves_others(data, generator):
    x = PROBLEM.grid.coordinates()[0]
    w = Window(data.frames[:, :1], data.grid, data.interval, data.parameters)

    def ratio(wave):
        error = torch.cos(wave * x) * 100.0  # large against what the true pair leaves over
        a, b = (
            PhysicsResidual(precondition=on, trusted=1.0)(
                Answers(PROBLEM, data.frames[:, 1:2] + error), w, generator
            ).scores.mean()
            for on in (False, True)
        )
        return float(a / b)

    damped = 0.5 * PROBLEM.interval * (49 / 30 + 0.1)
    assert ratio(7) / ratio(1) == pytest.approx((1 + damped) / (1 + 0.5 * PROBLEM.interval * (1 / 30 + 0.1)), rel=0.05)


def test_preconditioning_needs_modes_and_a_linear_part():
    from slipstream.equations import FiniteDifferences

    stepper = Autoregressive(partial(UNet, hidden_channels=4, levels=1), PROBLEM)
    with pytest.raises(InputError, match="spectral calculus"):
        PhysicsResidual(calculus=FiniteDifferences, precondition=True, trusted=1.0).check(stepper)
