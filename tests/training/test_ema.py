"""The average of the weights."""

import pytest
import torch
import trainee
from torch import nn

from slipstream.errors import InputError
from slipstream.training.ema import EMA


def test_the_average_of_constant_weights_is_those_weights():
    module = trainee.Net()
    ema = EMA(0.9)
    ema.prepare(module)
    for _ in range(5):
        ema.step()
    assert all(torch.allclose(m, p) for m, p in zip(ema.mean, module.parameters(), strict=True))


def test_it_follows_the_closed_form_for_real_and_complex_weights():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.real = nn.Parameter(torch.zeros(3, dtype=torch.float64))
            self.complex = nn.Parameter(torch.zeros(3, dtype=torch.complex128))

    module, ema = Two(), EMA(0.7)
    ema.prepare(module)
    mean = 0.0
    for n in range(1, 15):
        with torch.no_grad():
            module.real.fill_(n)
            module.complex.fill_(n * (1 - 2j))
        ema.step()
        decay = min(0.7, (1 + n) / (10 + n))
        mean = decay * mean + (1 - decay) * n
    assert ema.mean[0].tolist() == pytest.approx([mean] * 3)
    assert torch.allclose(ema.mean[1], torch.full((3,), mean * (1 - 2j), dtype=torch.complex128))


def test_wearing_the_average_is_undone_to_the_bit_even_after_an_error():
    module = trainee.Net()
    ema = EMA(0.5)
    ema.prepare(module)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.1)
    ema.step()
    before = [p.clone() for p in module.parameters()]

    def use():
        assert all(torch.equal(p, m) for p, m in zip(module.parameters(), ema.mean, strict=True))
        assert not any(torch.equal(p, b) for p, b in zip(module.parameters(), before, strict=True))
        raise ArithmeticError

    with pytest.raises(ArithmeticError), ema.worn():
        use()
    assert all(torch.equal(p, b) for p, b in zip(module.parameters(), before, strict=True))


def test_an_average_of_other_weights_is_refused():
    ema, other = EMA(), EMA()
    ema.prepare(nn.Linear(2, 2))
    other.prepare(trainee.Net())
    with pytest.raises(InputError, match="other parameters"):
        ema.load_state_dict(other.state_dict())


@pytest.mark.parametrize("decay", [1.0, -0.1, float("nan")])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(InputError, match="decay"):
        EMA(decay)
