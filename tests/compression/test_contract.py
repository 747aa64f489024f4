"""The word Transform: laws that every one keeps. A new one adds its name to CASES."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache, partial
from importlib.util import find_spec

import jaxtyping
import pytest
import torch

from slipstream.compression import (
    Accelerated,
    Batched,
    Bfloat16,
    ChannelsLast,
    Compiled,
    Int8Linear,
    Onnx,
    SpectralForm,
    Transform,
    precision,
)
from slipstream.compression.transform import Unsuitable, cost_of
from slipstream.operators import FNO, UNet
from slipstream.operators.operator import Operator
from slipstream.pretrained import describe
from slipstream.problems import KolmogorovFlow
from slipstream.stepper import Stepper
from slipstream.steppers import Autoregressive, rollout

UNET = partial(UNet, hidden_channels=8, levels=1)
PRODUCTS = partial(FNO, n_modes=(4, 4), hidden_channels=8, n_layers=2, form="dft")
FAST = partial(FNO, n_modes=(4, 4), hidden_channels=8, n_layers=2)
NO_ONNX = pytest.mark.skipif(find_spec("onnxruntime") is None, reason="needs the extra [onnx]")

CASES: dict[str, tuple[Callable[[], Transform], Callable[..., Operator]]] = {
    "dft-fno": (lambda: SpectralForm("dft"), FAST),
    "fft-fno": (lambda: SpectralForm("fft"), PRODUCTS),
    "bfloat16-unet": (Bfloat16, UNET),
    "bfloat16-fno": (Bfloat16, PRODUCTS),
    "int8-unet": (Int8Linear, UNET),
    "int8-fno": (Int8Linear, FAST),
    "channels-last-unet": (ChannelsLast, UNET),
    "compiled-unet": (lambda: Compiled(backend="eager"), UNET),
    "compiled-fno": (lambda: Compiled(backend="eager"), FAST),
    "batched-unet": (lambda: Batched(2), UNET),
    "batched-fno": (lambda: Batched(1), FAST),
}
MARKED = {
    "inductor-unet": (lambda: Compiled(freeze=True), UNET, pytest.mark.slow),
    "inductor-fno": (lambda: Compiled(freeze=False), PRODUCTS, pytest.mark.slow),
    "onnx-unet": (Onnx, UNET, NO_ONNX),
    "onnx-fno": (Onnx, PRODUCTS, NO_ONNX),
}
ALL = CASES | {name: case[:2] for name, case in MARKED.items()}
EXACT = (SpectralForm, ChannelsLast, Compiled, Onnx, Batched)
PROBLEM = KolmogorovFlow(num_points=16, reynolds=(4.0, 8.0), interval=0.05, warm_up=0.5)


@pytest.fixture(params=[*CASES, *(pytest.param(n, marks=m) for n, (*_, m) in MARKED.items())], ids=str)
def case(request, monkeypatch):
    prepare(monkeypatch, request.param)
    return finished(request.param)


def prepare(monkeypatch, name: str) -> None:
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: True)  # slow without, but right
    if name.startswith(("compiled", "inductor")):  # the compiler cannot trace the checks of shapes at run time
        monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def drawn(factory: Callable[..., Operator]) -> Operator:
    """An operator with conditions, all of whose parameters matter."""
    torch.manual_seed(0)
    operator = factory(in_channels=3, out_channels=2, num_dims=2, num_scalars=1)
    for parameter in operator.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return operator


def fields() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 3, 16, 16, generator=generator), torch.randn(3, 1, generator=generator)


def snapshot(operator: Operator) -> list[tuple]:
    tensors = {**dict(operator.named_parameters()), **dict(operator.named_buffers())}
    return [(n, t.detach().clone(), t.dtype, t.stride(), t.requires_grad) for n, t in tensors.items()]


@cache
def finished(name: str):
    make, factory = ALL[name]
    transform, operator = make(), drawn(factory)
    before = snapshot(operator), describe(operator), operator.training, [type(m) for m in operator.modules()]
    handle = transform.attach(operator)
    stated = handle.after
    return transform, operator, before, handle, stated, handle.finish()


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def test_outputs_are_those_of_the_original_within_the_stated_tolerance(case):
    transform, operator, *_, module = case
    x, scalars = fields()
    with torch.no_grad():
        expected, found = operator.eval()(x, scalars), module(x, scalars)
        operator.train()
    assert found.shape == expected.shape
    assert found.dtype == torch.float32
    assert found.is_contiguous()
    assert apart(found, expected) < transform.tolerance
    if not isinstance(transform, EXACT):
        assert apart(found, expected) > 1e-4  # or it does nothing


def test_other_batches_and_grids_are_taken_too(case):
    transform, operator, *_, module = case
    x, scalars = fields()
    for u, s in ((x[:1], scalars[:1]), (x.repeat(1, 1, 2, 1), scalars)):
        with torch.no_grad():
            assert apart(module(u, s), operator(u, s)) < transform.tolerance


def test_conditions_reach_it(case):
    *_, module = case
    x, scalars = fields()
    with torch.no_grad():
        assert apart(module(x, scalars + 10), module(x, scalars)) > 1e-2


def test_samples_do_not_see_each_other(case):
    transform, *_, module = case
    x, scalars = fields()
    with torch.no_grad():
        together = module(x, scalars)
        alone = torch.cat([module(x[i : i + 1], scalars[i : i + 1]) for i in range(3)])
    # The range that int8 activations are rounded in is one of the whole batch.
    assert apart(alone, together) < (transform.tolerance if isinstance(transform, Int8Linear) else 1e-2)


def test_the_original_is_untouched(case):
    _, operator, (tensors, arguments, training, kinds), *_ = case
    assert describe(operator) == arguments
    assert operator.training == training
    assert [type(m) for m in operator.modules()] == kinds
    for (name, value, dtype, stride, grad), again in zip(tensors, snapshot(operator), strict=True):
        assert (name, dtype, stride, grad) == (again[0], *again[2:])
        assert torch.equal(value, again[1])


def test_twice_is_refused_with_a_reason(case):
    transform, *_, module = case
    with pytest.raises(Unsuitable, match=transform.label.split()[0]):
        transform.attach(module)


def test_costs_are_stated_before_and_after(case):
    transform, operator, _, handle, stated, module = case
    assert handle.before == cost_of(operator)
    assert stated is None
    assert handle.after == cost_of(module)
    assert handle.before.parameters == handle.after.parameters == sum(p.numel() for p in operator.parameters())
    if isinstance(transform, Bfloat16):
        assert handle.after.bytes == handle.before.bytes / 2
    if isinstance(transform, Int8Linear):
        linear = sum(m.weight.numel() for m in operator.modules() if isinstance(m, torch.nn.Linear))
        assert handle.before.bytes - handle.after.bytes == 3 * linear


def test_it_is_for_inference(case):
    *_, module = case
    assert not module.training
    assert not any(p.requires_grad for p in module.parameters())


@pytest.mark.parametrize(
    "name",
    [*CASES, *(pytest.param(n, marks=[*[m], *([pytest.mark.slow] * (m is NO_ONNX))]) for n, (*_, m) in MARKED.items())],
)
def test_a_stepper_with_it_is_saved_and_read_back(name, tmp_path, monkeypatch):
    prepare(monkeypatch, name)
    make, factory = ALL[name]
    stepper = Autoregressive(factory, PROBLEM)
    for parameter in stepper.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    fast = Accelerated(stepper, [make()])
    fast.save_pretrained(tmp_path / "fast")
    again = Stepper.from_pretrained(tmp_path / "fast")
    assert isinstance(again, Accelerated)
    assert describe(again) == describe(fast)
    assert [type(t) for t in again.transforms] == [type(t) for t in fast.transforms]
    known = torch.randn(2, 1, 1, 16, 16)
    parameters = {"viscosity": torch.tensor([0.2, 0.15])}
    one, other = (rollout(s, known, 3, parameters=parameters) for s in (fast, again))
    assert torch.equal(one, other)
    away = apart(one, rollout(stepper, known, 3, parameters=parameters))
    assert away < fast.transforms[0].tolerance


@pytest.mark.parametrize(
    ("transform", "module", "reason"),
    [
        (SpectralForm("dft"), UNET, "no spectral"),
        (SpectralForm("fft"), FAST, "already"),
        (Bfloat16(), FAST, "'dft' does"),
        (Bfloat16(), lambda **k: UNET(**k).double(), "float64"),
        (Onnx(), FAST, "cannot be exported"),
        (ChannelsLast(), FAST, "no convolutions"),
        (Int8Linear(), lambda **k: UNET(**{**k, "num_scalars": 0}), "no linear"),
        (Int8Linear(), lambda **k: UNET(**k).double(), "float32"),
    ],
    ids=lambda v: v.label if isinstance(v, Transform) else None,
)
def test_what_suits_nothing_says_why(transform, module, reason, monkeypatch):
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: True)
    monkeypatch.setattr("slipstream.compression.onnx.ONNX_PACKAGES", ())
    with pytest.raises(Unsuitable, match=reason):
        transform.attach(drawn(module))


def test_a_processor_without_bfloat16_is_told_so(monkeypatch):
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: False)
    with pytest.raises(Unsuitable, match="processor"):
        Bfloat16().attach(drawn(UNET))


def test_the_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr("slipstream.compression.onnx.find_spec", lambda name: None)
    with pytest.raises(Unsuitable, match=r"slipstream\[onnx\]"):
        Onnx().attach(drawn(UNET))


def test_operations_are_those_of_products_and_convolutions():
    unet = UNet(in_channels=2, out_channels=3, hidden_channels=4, levels=0)
    x = torch.randn(1, 2, 8, 8)
    # Per block: 3x3 on 10x10 points (padded by 2), 3x3 on 8x8, the 1x1 around it where widths differ; then 1x1 to the outputs.
    block = 2 * 9 * (2 * 4 * 10 * 10 + 4 * 4 * 8 * 8) + 2 * 2 * 4 * 8 * 8
    assert cost_of(unet, x).flops == block + 2 * 4 * 3 * 8 * 8


def test_a_wrapped_module_shares_nothing_with_the_original():
    operator = drawn(UNET)
    module = Batched(2).attach(operator).finish()
    twin = copy.deepcopy(operator.state_dict())
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert all(torch.equal(v, twin[k]) for k, v in operator.state_dict().items())
