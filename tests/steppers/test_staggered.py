"""NeuralStagger: the split is a permutation, the wiring is exact, the coupling is in the loss."""

from __future__ import annotations

from functools import partial

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from slipstream.errors import InputError, ShapeError
from slipstream.objectives import PhysicsResidual
from slipstream.operators import Operator, UNet
from slipstream.problems import KolmogorovFlow
from slipstream.steppers import Staggered, rollout
from slipstream.steppers.staggered import merge, split
from slipstream.trajectories import Window

PROBLEM = KolmogorovFlow(num_points=16, reynolds=30, interval=0.05, warm_up=0.5)
UNET = partial(UNet, hidden_channels=8, levels=2)


@settings(max_examples=40, deadline=None)
@given(
    coarse=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    factors=st.lists(st.integers(1, 4), min_size=3, max_size=3),
    leading=st.lists(st.integers(1, 3), max_size=3),
)
def test_merge_undoes_split_exactly(coarse, factors, leading):
    factors = factors[: len(coarse)]
    u = torch.randn(*leading, *(n * s for n, s in zip(coarse, factors, strict=True)))
    parts = split(u, factors)
    assert parts.shape == (torch.tensor(factors).prod(), *leading, *coarse)
    assert torch.equal(merge(parts, factors), u)


def test_split_is_pixel_unshuffle_up_to_the_order_of_channels():
    u = torch.randn(2, 3, 8, 12)
    oracle = torch.nn.PixelUnshuffle(2)(u).unflatten(1, (3, 4)).movedim(2, 0)
    assert torch.equal(split(u, (2, 2)), oracle)


def test_parts_are_point_samples_and_not_averages():
    u = torch.arange(12.0)
    assert split(u, (3,)).tolist() == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]


class Oracle(Operator):
    """Stands for a sub-solver that knows the truth: returns what it was told."""

    def __init__(self, in_channels: int, out_channels: int, num_dims: int, num_scalars: int = 0) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.num_dims, self.num_scalars = (
            in_channels,
            out_channels,
            num_dims,
            num_scalars,
        )
        self.answer = torch.nn.Parameter(torch.zeros(1))
        self.told: torch.Tensor | None = None

    def forward(self, x):
        return self.told


@pytest.mark.parametrize("fan", [False, True])
def test_sub_solvers_that_know_the_truth_give_the_truth(fan):
    data = PROBLEM.simulate(2, 8, seed=2)
    stepper = Staggered(Oracle, PROBLEM, space=2, time=4, fan=fan)
    past, future = (data.frames[:, 3:4], data.frames[:, 4:]) if fan else (data.frames[:, :4], data.frames[:, 4:])
    parts = split((future - past) / stepper.scale, (2, 2))
    for s in range(4):
        for r in range(4):
            stepper.sub_solver(s, r).told = parts[s, :, r]
    assert torch.allclose(stepper(past, {}), future, atol=1e-5)
    window = Window(past, data.grid, data.interval)
    loss = PhysicsResidual(trusted=1.0)(stepper, window, torch.Generator())
    inner = PROBLEM.residual(data.frames[:, 3:], {})
    rate = PROBLEM.statistics.increment[0] / PROBLEM.interval
    assert float(loss.total) == pytest.approx(float((inner / rate).square().mean()), rel=1e-2)


def test_every_sub_solver_learns_and_feels_its_neighbours_only_through_the_loss():
    stepper = Staggered(UNET, PROBLEM, space=2, time=2)
    data = PROBLEM.simulate(1, 2, seed=3)
    window = Window(data.frames, data.grid, data.interval)
    torch.manual_seed(1)
    for p in stepper.parameters():
        torch.nn.init.normal_(p, std=0.05)

    def gradient(k):
        stepper.zero_grad()
        PhysicsResidual(trusted=1.0)(stepper, window, torch.Generator()).total.backward()
        return torch.cat([p.grad.flatten() for p in stepper.networks[k].parameters()])

    before = [gradient(k).clone() for k in range(8)]
    assert all(float(g.abs().max()) > 0 for g in before)
    out = stepper(data.frames, {})
    with torch.no_grad():
        for p in stepper.networks[0].parameters():
            p.add_(0.1 * torch.randn_like(p))
    changed = split(stepper(data.frames, {}) - out, (2, 2)).abs().flatten(2).amax(-1).amax(1)
    assert float(changed[0].max()) > 0
    assert float(changed[1:].max()) == 0
    assert not torch.allclose(gradient(7), before[7])


def test_the_residual_of_the_reference_falls_with_the_square_of_the_interval():
    smooth = KolmogorovFlow(num_points=48, reynolds=8, interval=0.1, warm_up=2.0)
    sizes = [smooth.with_interval(h).reference_residual() for h in (0.1, 0.05)]
    assert sizes[0] / sizes[1] == pytest.approx(4, rel=0.15)


def test_a_network_sees_its_own_sub_field_only():
    stepper = Staggered(UNET, PROBLEM, space=2)
    for p in stepper.parameters():
        torch.nn.init.normal_(p, std=0.05)
    u = torch.randn(1, 1, 1, 16, 16, requires_grad=True)
    (g,) = torch.autograd.grad(stepper(u, {})[..., ::2, ::2].sum(), u)
    others = g.clone()
    others[..., ::2, ::2] = 0
    assert float(others.abs().max()) == 0


def test_bad_factors_are_refused():
    with pytest.raises(InputError, match="divide"):
        Staggered(UNET, PROBLEM, space=3)
    with pytest.raises(InputError, match="factor"):
        Staggered(UNET, PROBLEM, space=(2, 2, 2))
    with pytest.raises(InputError, match="at least 4 points"):
        Staggered(UNET, PROBLEM, space=8)
    with pytest.raises(ShapeError, match="divisible"):
        split(torch.zeros(9), (2,))
    with pytest.raises(ShapeError, match="parts"):
        merge(torch.zeros(3, 4, 4), (2, 2))
    assert rollout(Staggered(UNET, PROBLEM, space=1, time=1), torch.zeros(1, 1, 1, 16, 16), 1).shape == (
        1,
        1,
        1,
        16,
        16,
    )
