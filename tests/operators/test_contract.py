"""The word Operator: laws that every architecture keeps. A new one adds its name to CASES."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch.export import Dim, export

from slipstream.errors import ShapeError
from slipstream.grids import Grid, resample
from slipstream.operators import (
    FNO,
    IFNO,
    LSM,
    MLP,
    DeepONet,
    DirectionNet,
    Folded,
    KernelIntegral,
    MessagePassing,
    MgNO,
    MultiONet,
    Operator,
    OperatorFactory,
    ScOT,
    SineNet,
    SpaceTimeFNO,
    UNet,
)


@dataclass(frozen=True)
class Case:
    """An architecture as steppers get it.

    `factory` makes a factory for a number of axes. `stride`: with periodic padding it commutes with shifts by multiples of so many
    points (0: with none). `functional`: it acts on functions, so that a finer grid gives the same answer.
    """

    factory: Callable[[int], OperatorFactory]
    dims: tuple[int, ...] = (1, 2, 3)
    stride: int = 1
    functional: bool = False


VCYCLE = ((1, 1), (1, 1))
CASES = {
    "fno": Case(lambda d: partial(FNO, n_modes=(6, 5, 6)[:d], hidden_channels=8, n_layers=2), functional=True),
    "fno-dft": Case(
        lambda d: partial(FNO, n_modes=(6, 5, 6)[:d], hidden_channels=8, n_layers=2, form="dft"), functional=True
    ),
    "fno-without-mlp": Case(
        lambda d: partial(FNO, n_modes=(4,) * d, hidden_channels=6, channel_mlp_expansion=0.0),
        dims=(2,),
        functional=True,
    ),
    "fno-reflect": Case(
        lambda d: partial(FNO, n_modes=(4,) * d, hidden_channels=6, padding="reflect", coordinates=True), stride=0
    ),
    "unet": Case(lambda d: partial(UNet, hidden_channels=8, levels=2), stride=4),
    "unet-zero": Case(lambda d: partial(UNet, hidden_channels=8, levels=1, padding="zero"), dims=(1, 2), stride=0),
    "mgno": Case(lambda d: partial(MgNO, hidden_channels=4, n_layers=2, cycle=((1, 0), (1, 1), (1, 0))), stride=4),
    "mgno-vcycle": Case(
        lambda d: partial(MgNO, hidden_channels=6, n_layers=2, cycle=VCYCLE, padding="zero", restriction="residual"),
        stride=0,
    ),
    "mgno-semicoarsening": Case(
        lambda d: partial(MgNO, hidden_channels=4, n_layers=2, cycle=((1, 0),) * 2, coarsen=((2, 1),), norm=True),
        dims=(2,),
        stride=2,
    ),
    "lsm": Case(lambda d: partial(LSM, hidden_channels=8, levels=1, patch=2, heads=2, basis=4), stride=4),
    "lsm-zero": Case(
        lambda d: partial(
            LSM, hidden_channels=8, levels=2, patch=3, heads=2, padding="zero", coordinates=True, transition=False
        ),
        dims=(1, 2),
        stride=0,
    ),
    "sinenet": Case(lambda d: partial(SineNet, hidden_channels=6, waves=2, levels=2), stride=4),
    "sinenet-tangled": Case(
        lambda d: partial(SineNet, hidden_channels=6, waves=1, levels=2, blocks=2, disentangled=False, padding="zero"),
        dims=(1, 2),
        stride=0,
    ),
    "scot": Case(
        lambda d: partial(
            ScOT, hidden_channels=8, depths=(2, 2), heads=(2, 4), window=2, patch=2, position_channels=8, skips=(1,)
        ),
        dims=(1, 2),
        stride=8,
    ),
    "scot-zero": Case(
        lambda d: partial(
            ScOT, hidden_channels=4, depths=(2, 1), heads=(1, 2), window=3, patch=2, position_channels=8, padding="zero"
        ),
        stride=0,
    ),
    "scot-product": Case(
        lambda d: partial(
            ScOT,
            hidden_channels=4,
            depths=(2,),
            heads=(2,),
            window=4,
            patch=2,
            position_channels=0,
            attention="product",
        ),
        dims=(2,),
        stride=8,
    ),
    "ifno": Case(lambda d: partial(IFNO, n_modes=(6, 5, 6)[:d], hidden_channels=8, n_iterations=3), functional=True),
    "ifno-reflect": Case(
        lambda d: partial(
            IFNO, n_modes=(4,) * d, hidden_channels=6, n_iterations=2, padding="reflect", shared=False, form="dft"
        ),
        stride=0,
    ),
    "deeponet": Case(lambda d: partial(DeepONet, hidden_channels=12, n_layers=2, sensors=4, periodic=True), stride=0),
    "multionet": Case(lambda d: partial(MultiONet, hidden_channels=12, n_layers=3, sensors=4, pairs=2), stride=0),
    "messages": Case(lambda d: partial(MessagePassing, hidden_channels=8, n_layers=2)),
    "messages-with-ends": Case(
        lambda d: partial(
            MessagePassing, hidden_channels=8, n_layers=2, reach=2.0, periodic=False, differences=False, offsets=True
        ),
        dims=(1, 2),
        stride=0,
    ),
    "kernel": Case(lambda d: partial(KernelIntegral, hidden_channels=6, n_layers=2, radius=0.13, kernel_channels=4)),
    "kernel-diagonal": Case(
        lambda d: partial(
            KernelIntegral,
            hidden_channels=6,
            n_layers=2,
            radius=0.13,
            kernel="diagonal",
            sees_fields=False,
            taper=False,
        ),
        dims=(1, 2),
    ),
    "mlp": Case(lambda d: partial(MLP, hidden_channels=12, n_layers=2)),
    "space-time": Case(
        lambda d: partial(SpaceTimeFNO, n_modes=(6, 5, 6)[-d:], hidden_channels=6, n_layers=2, latent_steps=5), stride=0
    ),
    "space-time-bare": Case(
        lambda d: partial(
            SpaceTimeFNO,
            n_modes=(4,) * d,
            hidden_channels=6,
            n_layers=1,
            latent_steps=4,
            form="dft",
            coordinates=False,
            time_features=0,
            norm=False,
            zero_padding=False,
            source=0.0,
            residual=False,
        ),
        dims=(2,),
        stride=0,
    ),
    "direction": Case(lambda d: partial(DirectionNet, hidden_channels=6, padding="periodic"), stride=8),
    "direction-paper": Case(
        lambda d: partial(
            DirectionNet, hidden_channels=6, levels=1, shared=False, linear=False, bias=True, padding="periodic"
        ),
        stride=2,
    ),
    "direction-conditions": Case(lambda d: partial(DirectionNet, hidden_channels=6, conditions=1), stride=0),
    "folded": Case(
        lambda d: partial(
            Folded,
            operator=partial(
                SpaceTimeFNO,
                n_modes=(4,) * (d + 1),
                hidden_channels=6,
                n_layers=2,
                latent_steps=4,
                coordinates=False,
                source=0.0,
            ),
            horizon=3,
        ),
        dims=(1, 2),
        stride=1,
    ),
}
EVERY = [pytest.param(case, d, id=f"{name}-{d}d") for name, case in CASES.items() for d in case.dims]
POINTS = {1: (32,), 2: (16, 24), 3: (8, 12, 8)}
every = pytest.mark.parametrize(("case", "dims"), EVERY)


def make(case: Case, dims: int, num_scalars: int = 0, moved: bool = True) -> Operator:
    """Two channels in, three out; `moved` away from what is special about the start."""
    operator = case.factory(dims)(in_channels=2, out_channels=3, num_dims=dims, num_scalars=num_scalars)
    if moved:
        with torch.no_grad():
            for parameter in operator.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return operator


def fields(dims: int, batch: int = 3, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(batch, 2, *POINTS[dims], dtype=dtype)


@every
def test_a_factory_call_builds_an_operator_for_these_channels_and_axes(case, dims):
    operator = make(case, dims)
    y = operator(fields(dims, dtype=torch.float32))
    assert isinstance(operator, Operator)
    assert y.shape == (3, 3, *POINTS[dims])
    assert (operator.in_channels, operator.out_channels, operator.num_dims, operator.num_scalars) == (2, 3, dims, 0)


@every
def test_samples_of_a_batch_do_not_see_each_other(case, dims):
    operator, x, s = make(case, dims, 2).double(), fields(dims), torch.randn(3, 2, dtype=torch.float64)
    y = operator(x, s)
    torch.testing.assert_close(
        torch.cat([operator(x[i : i + 1], s[i : i + 1]) for i in range(3)]), y, rtol=0, atol=1e-11
    )


@every
def test_every_parameter_matters_and_has_a_finite_gradient(case, dims):
    operator = make(case, dims, num_scalars=2)
    operator(fields(dims, dtype=torch.float32), torch.randn(3, 2)).square().sum().backward()
    for name, parameter in operator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@every
def test_gradients_to_the_input_agree_with_finite_differences(case, dims):
    operator, x, v = make(case, dims).double(), fields(dims, 1), fields(dims, 1)
    weights = torch.randn_like(operator(x))
    (slope,) = torch.autograd.grad((operator(x.requires_grad_()) * weights).sum(), x)
    with torch.no_grad():
        h = 1e-5
        difference = ((operator(x + h * v) - operator(x - h * v)) * weights).sum() / (2 * h)
    torch.testing.assert_close((slope * v).sum(), difference, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", CASES)
def test_it_survives_export_with_any_batch_size(name):
    case, dims = CASES[name], 2
    operator = make(case, dims, num_scalars=1).eval()
    batch = Dim("batch")
    program = export(
        operator, (fields(dims, dtype=torch.float32), torch.randn(3, 1)), dynamic_shapes=({0: batch}, {0: batch})
    )
    x, s = fields(dims, 5, torch.float32), torch.randn(5, 1)
    torch.testing.assert_close(program.module()(x, s), operator(x, s), rtol=1e-6, atol=1e-6)


@every
def test_saving_and_loading_changes_no_bit(case, dims, tmp_path):
    operator, x, s = make(case, dims, num_scalars=1), fields(dims, dtype=torch.float32), torch.randn(3, 1)
    operator.save_pretrained(tmp_path / "model")
    loaded = type(operator).from_pretrained(tmp_path / "model")
    assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in operator.state_dict().items())
    assert torch.equal(loaded(x, s), operator(x, s))


@every
def test_scalars_do_nothing_at_first_and_then_steer_their_own_sample(case, dims):
    x, s = fields(dims), torch.randn(3, 2, dtype=torch.float64)
    other = s.clone()
    other[0] += 1.0
    fresh = make(case, dims, num_scalars=2, moved=False).double()
    assert torch.equal(fresh(x, s), fresh(x, other))
    moved = make(case, dims, num_scalars=2).double()
    change = (moved(x, s) - moved(x, other)).abs().flatten(1).amax(1)
    assert change[0] > 1e-4
    assert change[1:].max() < 1e-12


@pytest.mark.parametrize(("case", "dims"), [p for p in EVERY if p.values[0].stride])
def test_it_commutes_with_shifts(case, dims):
    operator, x = make(case, dims).double(), fields(dims)
    for axis in range(2, 2 + dims):
        shifted = operator(x.roll(case.stride, axis)).roll(-case.stride, axis)
        torch.testing.assert_close(shifted, operator(x), rtol=0, atol=1e-11)


@pytest.mark.parametrize(("case", "dims"), [p for p in EVERY if p.values[0].functional and p.values[1] < 3])
def test_a_finer_grid_gives_the_same_function(case, dims):
    operator = make(case, dims).double()
    coarse = Grid.box((8,) * dims)
    u = resample(0.3 * torch.randn(1, 2, 4, *(4,) * (dims - 1), dtype=torch.float64), Grid.box((4,) * dims), coarse)
    grids = [coarse.refine(f) for f in (1, 2, 4, 8)]
    answers = [resample(operator(resample(u, coarse, g)), g, coarse) for g in grids]
    errors = [(a - answers[-1]).abs().max() for a in answers[:-1]]
    assert errors[1] < 0.2 * errors[0]
    assert errors[2] < 0.02 * errors[1]


@every
def test_double_precision_is_kept_throughout(case, dims):
    operator, x = make(case, dims), fields(dims)
    single = operator(x.float())
    double = operator.double()(x)
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-4)


@every
def test_wrong_channels_axes_and_scalars_are_refused_with_advice(case, dims):
    operator, steered, x = make(case, dims), make(case, dims, num_scalars=2), fields(dims, dtype=torch.float32)
    name = type(operator).__name__
    with pytest.raises(ShapeError, match=rf"{name} expects \(batch, 2, \*space\).*in_channels=2.*write u\[:, None\]"):
        operator(x[:, 0])
    with pytest.raises(ShapeError, match=r"got \(3, 1, .*build it with in_channels=1"):
        operator(x[:, :1])
    with pytest.raises(ShapeError, match="one axis too many"):
        operator(x[:, None])
    with pytest.raises(ShapeError, match="num_scalars=0 but got scalars"):
        operator(x, torch.ones(3, 1))
    with pytest.raises(ShapeError, match=r"scalars of shape \(3, 2\).*got none"):
        steered(x)
    with pytest.raises(ShapeError, match=r"scalars of shape \(3, 2\).*got shape \(3, 1\)"):
        steered(x, torch.ones(3, 1))
