"""The word Update: laws of every way to change parameters. A new one adds its name to CASES."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import nn

from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.objectives.objective import Loss, Objective
from slipstream.training.checkpoint import pack, unpack
from slipstream.training.fit import Fit
from slipstream.training.muon import Muon
from slipstream.training.update import Descent, Update
from slipstream.trajectories import Window

SGD = partial(torch.optim.SGD, momentum=0.9, nesterov=True)

CASES: dict[str, Callable[[], Update]] = {
    "descent": Descent,
    "descent-unclipped": lambda: Descent(1e-2, clip=None),
    "descent-clipped": lambda: Descent(1e-2, clip=1e-2),
    "descent-sgd": lambda: Descent(1e-2, SGD),
    "descent-adamw": lambda: Descent(1e-2, partial(torch.optim.AdamW, weight_decay=0.1)),
    "descent-muon": lambda: Descent(1e-2, Muon),
    "fit": Fit,
}
GRID = Grid.box(6)


class Net(nn.Module):
    """Real, complex, frozen and unused parameters, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layers = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 6)).double()
        self.turn = nn.Parameter(torch.randn(4, dtype=torch.complex128))
        self.frozen = nn.Parameter(torch.ones(6, dtype=torch.float64), requires_grad=False)
        self.idle = nn.Parameter(torch.ones(2, dtype=torch.float64))
        self.register_buffer("shift", torch.ones(6, dtype=torch.float64))

    def fit(self, window: Window) -> None:
        """The shift for which the error of the fields themselves is least."""
        u = window.frames[:, 0, 0]
        self.shift += (u - self(u)).mean(0)

    def forward(self, u):
        return self.layers(u + self.frozen) + torch.fft.irfft(torch.fft.rfft(u) * self.turn, n=6) + self.shift


class Denoise(Objective):
    """Find the fields under noise, which is drawn from the generator."""

    def __call__(self, module, window, generator):
        u = window.frames[:, 0, 0]
        made = module(u + 0.1 * torch.randn(u.shape, generator=generator, dtype=u.dtype))
        error = (made - u).square().mean()
        return Loss(error, {"data": error.detach()}, made[:, None, None].detach())


def window(seed: int = 0) -> Window:
    frames = torch.randn(5, 1, 1, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Window(frames, GRID, 0.1)


def take(update: Update, module: nn.Module, seeds, rate: float = 1.0) -> list[float]:
    losses = []
    for seed in seeds:
        draws = torch.Generator().manual_seed(seed)
        losses.append(float(update.step(module, Denoise(), window(seed), draws, rate).total.detach()))
    return losses


def values(module: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in module.state_dict().items()}


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


DESCENTS = pytest.mark.parametrize("make", [pytest.param(v, id=k) for k, v in CASES.items() if k != "fit"])
"""Laws of those that go step by step along a gradient."""


@pytest.fixture(params=CASES)
def make(request):
    return CASES[request.param]


@pytest.fixture
def module():
    return Net()


@pytest.fixture
def update(make, module):
    update = make()
    update.prepare(module)
    return update


def test_preparing_changes_nothing(make, module):
    before = values(module)
    make().prepare(module)
    assert same(before, values(module))


@DESCENTS
def test_a_step_changes_what_is_trained_and_nothing_else(update, module):
    before = values(module)
    take(update, module, range(2))
    after = values(module)
    for name in ("turn", *(f"layers.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias"))):
        assert not torch.equal(before[name], after[name]), name
    for name in ("frozen", "shift", "idle"):
        assert torch.equal(before[name], after[name]), name
    assert all(v.isfinite().all() for v in after.values())


def test_the_loss_is_the_one_before_the_change(update, module):
    take(update, module, range(3))
    before = copy.deepcopy(module)
    seen = update.step(module, Denoise(), window(9), torch.Generator().manual_seed(9), 1.0)
    expected = Denoise()(before, window(9), torch.Generator().manual_seed(9))
    assert torch.equal(seen.total.detach(), expected.total.detach())
    assert torch.equal(seen.parts["data"], expected.parts["data"])
    assert torch.equal(seen.outputs, expected.outputs)


@DESCENTS
def test_steps_lower_the_loss(update, module):
    losses = take(update, module, [0] * 60)
    assert losses[-1] < 0.9 * losses[0]
    assert sum(b < a for a, b in pairwise(losses)) > 40


def test_at_rate_zero_nothing_changes(update, module):
    take(update, module, range(3))  # momentum and moments are there
    before = values(module)
    take(update, module, range(3, 6), rate=0.0)
    assert same(before, values(module))


@DESCENTS
def test_the_rate_shortens_the_first_step(make):
    moved = []
    for rate in (1.0, 0.5, 0.125):
        module = Net()
        update = make()
        update.prepare(module)
        before = module.turn.detach().clone()
        take(update, module, [0], rate)
        moved.append(float((module.turn.detach() - before).abs().norm()))
    assert moved[0] > moved[1] > moved[2] > 0


@pytest.mark.parametrize("after", [0, 1, 4])
def test_it_goes_on_to_the_bit_from_its_state(make, update, module, after):
    """Through the checkpoint's own format, and with the learning rate of each step, not that of the state."""
    take(update, module, range(after), rate=0.3)
    weights, state = values(module), unpack(pack(update.state_dict()))
    expected = take(update, module, range(10, 16))
    again, other = make(), Net()
    other.load_state_dict(weights)
    again.prepare(other)
    again.load_state_dict(state)
    assert take(again, other, range(10, 16)) == expected
    assert same(values(other), values(module))


@DESCENTS
def test_without_its_state_it_goes_on_otherwise(make, update, module):
    """Else the test above would prove nothing. An update that keeps nothing has nothing to lose."""
    take(update, module, range(4))
    kept = bool(update.state_dict())
    weights = values(module)
    take(update, module, range(10, 16))
    again, other = make(), Net()
    other.load_state_dict(weights)
    again.prepare(other)
    take(again, other, range(10, 16))
    assert same(values(other), values(module)) != kept


def test_randomness_comes_from_the_generator_alone(make):
    found = []
    for seed in (1, 2):
        module = Net()
        update = make()
        update.prepare(module)
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        take(update, module, range(3))
        assert torch.equal(torch.get_rng_state(), before)
        found.append(values(module))
    assert same(*found)


def test_preparing_again_starts_afresh(make, module):
    update = make()
    first = copy.deepcopy(module)
    update.prepare(first)
    take(update, first, range(4))
    update.prepare(module)
    other, fresh = copy.deepcopy(module), make()
    fresh.prepare(other)
    assert take(update, module, range(4)) == take(fresh, other, range(4))
    assert same(values(module), values(other))


@pytest.mark.parametrize("state", [{"nonsense": 1}, {"state": {}, "param_groups": []}])
def test_a_state_of_something_else_is_refused(update, state):
    with pytest.raises(InputError, match="state"):
        update.load_state_dict(state)


def test_figures_for_the_log_are_single_numbers_without_a_graph(update, module):
    loss = update.step(module, Denoise(), window(), torch.Generator().manual_seed(0), 1.0)
    for name, value in loss.parts.items():
        assert value.shape == (), name
        assert not value.requires_grad, name
        assert not value.is_complex(), name


# ---- Descent -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [None, 1e-2, 1e6])
def test_descent_reports_the_norm_of_the_gradient_before_clipping(module, clip):
    other = copy.deepcopy(module)
    Denoise()(other, window(), torch.Generator().manual_seed(0)).total.backward()
    flat = torch.cat(
        [
            torch.view_as_real(p.grad).flatten() if p.is_complex() else p.grad.flatten()
            for p in other.parameters()
            if p.grad is not None
        ]
    )
    update = Descent(clip=clip)
    update.prepare(module)
    loss = update.step(module, Denoise(), window(), torch.Generator().manual_seed(0), 1.0)
    assert float(loss.parts["gradient_norm"]) == pytest.approx(float(flat.norm()), rel=1e-12)
    left = torch.cat([p.grad.abs().flatten() for p in module.parameters() if p.grad is not None]).norm()
    assert float(left) == pytest.approx(min(float(flat.norm()), clip or 1e9), rel=1e-3)
    assert list(loss.parts) == ["data", "gradient_norm"]


def test_descent_refuses_a_module_without_anything_to_train():
    frozen = nn.Linear(2, 2).requires_grad_(False)
    for module in (nn.Identity(), frozen):
        with pytest.raises(InputError, match=f"{type(module).__name__} has no parameters that could be trained"):
            Descent().prepare(module)


def test_the_word_itself_changes_nothing_and_keeps_nothing(module):
    update = Update()
    update.prepare(module)
    with pytest.raises(TypeError, match="defines step"):
        take(update, module, [0])
    assert update.state_dict() == {}
    with pytest.raises(InputError, match=r"keeps no state, but got \['a'\]"):
        update.load_state_dict({"a": 1})
