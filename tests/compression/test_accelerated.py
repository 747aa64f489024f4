"""Accelerated: cheaper operators in a stepper that is otherwise the same."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

import slipstream as ss
from slipstream.compression import Accelerated, Batched, Bfloat16, ChannelsLast, SpectralForm, precision
from slipstream.compression.accelerated import operators_of
from slipstream.compression.precision import Cast
from slipstream.compression.transform import Unsuitable
from slipstream.errors import InputError
from slipstream.operators import FNO, UNet
from slipstream.steppers import Autoregressive, Staggered, rollout, wrap

PROBLEM = ss.problems.KolmogorovFlow(num_points=16, reynolds=10.0, interval=0.05, warm_up=0.5)
UNET = partial(UNet, hidden_channels=4, levels=1)


@pytest.fixture(autouse=True)
def _any_processor(monkeypatch):
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: True)


def made(factory=Autoregressive, operator=UNET, **settings):
    stepper = factory(operator, PROBLEM, **settings)
    for parameter in stepper.parameters():
        nn.init.normal_(parameter, std=0.2)
    return stepper


def known(batch=2, steps=1):
    return torch.randn(batch, steps, 1, 16, 16)


def test_the_state_stays_in_float32_and_increments_alone_are_rounded():
    stepper = made()
    u = known() + 100.0  # bfloat16 would round the state itself to multiples of a half
    one, other = (rollout(s, u, 1) for s in (stepper, Accelerated(stepper, [Bfloat16()])))
    assert other.dtype == torch.float32
    change = (one - u).abs().max()
    assert 0 < (one - other).abs().max() < 0.05 * change


def test_everything_but_the_operators_is_shared():
    stepper = made()
    fast = Accelerated(stepper, [Bfloat16()]).fast
    assert isinstance(fast.network, Cast)
    assert fast.mean is stepper.mean
    assert fast.problem is stepper.problem
    assert type(stepper.network) is UNet


@pytest.mark.parametrize("share", [False, True])
def test_every_network_of_many_is_transformed_once(share):
    stepper = made(Staggered, space=2, share=share)
    fast = Accelerated(stepper, [Bfloat16(), ChannelsLast()])
    networks = list(fast.fast.networks)
    assert len(networks) == len(set(map(id, networks))) == (1 if share else 4)
    u = known()
    one, other = (rollout(s, u, 3) for s in (stepper, fast))
    assert 0 < (one - other).norm() / one.norm() < 0.01


def test_the_outermost_operators_are_found():
    class Outer(UNet):
        def __init__(self, **settings):
            super().__init__(**settings)
            self.inner = UNet(in_channels=1, out_channels=1)

    stepper = made(operator=Outer)
    assert operators_of(stepper) == [stepper.network]


def test_a_transform_that_suits_one_operator_of_two_is_applied_to_it():
    class Two(Staggered):
        pass

    stepper = made(Two, space=2)
    stepper.networks[1] = FNO(
        n_modes=(4, 4), in_channels=stepper.networks[0].in_channels, hidden_channels=4, n_layers=1
    )
    fast = Accelerated(stepper, [SpectralForm("dft")]).fast
    assert fast.networks[1].form == "dft"
    assert stepper.networks[1].form == "fft"
    assert fast.networks[0] is stepper.networks[0]


def test_what_suits_no_operator_is_refused_when_it_is_first_needed():
    with pytest.raises(Unsuitable, match="dft form: it has no spectral"):
        rollout(Accelerated(made(), [SpectralForm("dft")]), known(), 1)
    with pytest.raises(Unsuitable, match="no operator"):
        rollout(Accelerated(wrap(lambda u: u, 0.1), [Bfloat16()]), known(), 1)


def test_its_weights_are_the_original_s():
    stepper = made()
    fast = Accelerated(stepper, [Bfloat16()])
    rollout(fast, known(), 1)
    assert {k.removeprefix("stepper."): v.dtype for k, v in fast.state_dict().items()} == {
        k: v.dtype for k, v in stepper.state_dict().items()
    }


@pytest.mark.parametrize("change", ["in place", "loaded", "dtype"])
def test_new_weights_are_noticed_when_a_rollout_starts(change):
    stepper, u = made(), known()
    fast = Accelerated(stepper, [ChannelsLast()])
    before = rollout(fast, u, 2)
    if change == "in place":
        with torch.no_grad():
            stepper.network.leave.weight.mul_(3)
    elif change == "loaded":
        fast.load_state_dict({k: 2 * v for k, v in fast.state_dict().items()})
    else:
        fast.double()
        u, before = u.double(), before.double()
    after = rollout(fast, u, 2)
    assert (after != before).any()
    torch.testing.assert_close(after, rollout(stepper, u, 2), rtol=1e-5, atol=1e-5)


def test_gradients_are_those_of_the_original():
    stepper = made()
    gradients = []
    for s in (stepper, Accelerated(stepper, [Bfloat16(), Batched(1)])):
        u = known().requires_grad_() if not gradients else gradients[0][0].detach().clone().requires_grad_()
        rollout(s, u, 2, grad=True).square().sum().backward()
        gradients.append((u, u.grad))
    assert torch.equal(gradients[0][1], gradients[1][1])


def test_without_gradients_to_ask_for_it_keeps_no_graph():
    fast = Accelerated(made(), [Bfloat16()])
    assert not rollout(fast, known(), 2, grad=True).requires_grad
    assert not fast(known(), {}).requires_grad


def test_it_is_not_trained():
    stepper = made()
    fast = Accelerated(stepper, [Bfloat16()])
    with pytest.raises(InputError, match="not trained"):
        fast.train()
    with pytest.raises(InputError, match="not trained"):
        ss.train(fast, PROBLEM.simulate(1, 4), ss.objectives.Supervised(), steps=1, batch=2, show=False)
    assert not fast.training
    assert stepper.train().training  # the original is


def test_twice_is_refused():
    fast = Accelerated(made(), [Bfloat16()])
    with pytest.raises(InputError, match=r"accelerated already.*stepper\.stepper"):
        Accelerated(fast, [ChannelsLast()])
    with pytest.raises(InputError, match=r"accelerated already.*stepper\.stepper"):
        ss.accelerate(fast)


def test_transforms_that_exclude_one_another_are_refused():
    with pytest.raises(InputError, match="bfloat16 cannot be combined with bfloat16"):
        Accelerated(made(), [Bfloat16(), Bfloat16()])


def test_the_order_in_which_they_are_written_does_not_matter():
    stepper, u = made(operator=partial(FNO, n_modes=(4, 4), hidden_channels=4, n_layers=2)), known(3)
    transforms = [Batched(2), Bfloat16(), SpectralForm("dft")]
    one, other = (rollout(Accelerated(stepper, t), u, 2) for t in (transforms, transforms[::-1]))
    assert torch.equal(one, other)


def test_missing_starting_frames_and_advice_come_from_the_original():
    stepper = made(history=3)
    fast = Accelerated(stepper, [ChannelsLast()])
    short = PROBLEM.simulate(1, 1, seed=0)
    assert rollout(fast, short, 4).starter_steps == rollout(stepper, short, 4).starter_steps > 0
    assert (fast.interval, fast.history, fast.horizon, fast.grid) == (0.05, 3, 1, PROBLEM.grid)
