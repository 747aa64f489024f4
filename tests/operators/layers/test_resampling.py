"""Half as many points and twice as many."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from slipstream.operators.layers.resampling import CUBIC, LINEAR, enlarge, halve

MODES = {1: {"linear": LINEAR}, 2: {"bilinear": LINEAR, "bicubic": CUBIC}, 3: {"trilinear": LINEAR}}
CASES = [(dims, mode, weights) for dims, modes in MODES.items() for mode, weights in modes.items()]


@pytest.mark.parametrize(("dims", "mode", "weights"), CASES)
def test_it_interpolates_as_torch_does(dims, mode, weights):
    """With ends: torch's own way. Periodic: torch's way on a field continued by two points and cut back."""
    x = torch.randn(2, 3, *(5, 4, 6)[:dims], dtype=torch.float64)
    torch.testing.assert_close(enlarge(x, ("zero",) * dims, weights), F.interpolate(x, scale_factor=2, mode=mode))
    assert torch.equal(enlarge(x, ("reflect",) * dims, weights), enlarge(x, ("zero",) * dims, weights))
    wide = F.interpolate(F.pad(x, (2,) * (2 * dims), mode="circular"), scale_factor=2, mode=mode)
    inner = wide[(..., *(slice(4, -4),) * dims)]
    torch.testing.assert_close(enlarge(x, ("periodic",) * dims, weights), inner)


@pytest.mark.parametrize("weights", [LINEAR, CUBIC])
def test_every_axis_has_its_own_ends(weights):
    x = torch.randn(1, 1, 6, 5, dtype=torch.float64)
    mixed = enlarge(x, ("periodic", "zero"), weights)
    torch.testing.assert_close(enlarge(x.roll(1, 2), ("periodic", "zero"), weights), mixed.roll(2, 2))
    assert (enlarge(x.roll(1, 3), ("periodic", "zero"), weights) - mixed.roll(2, 3)).abs().max() > 0.1


@pytest.mark.parametrize("weights", [LINEAR, CUBIC])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_constants_stay_and_halving_brings_slopes_back(weights, dims):
    assert sum(weights) == pytest.approx(1, abs=1e-15)
    one = torch.ones(1, 1, *(4,) * dims, dtype=torch.float64)
    for kind in ("zero", "reflect", "periodic"):
        torch.testing.assert_close(enlarge(one, (kind,) * dims, weights), one.new_ones(1, 1, *(8,) * dims))
    x = torch.arange(9.0, dtype=torch.float64).reshape(1, 1, 9, *(1,) * (dims - 1)) * torch.ones(9, *(4,) * (dims - 1))
    torch.testing.assert_close(halve(enlarge(x, ("zero",) * dims, weights))[0, 0, 2:-2], x[0, 0, 2:-2])


def test_halving_takes_means():
    x = torch.randn(2, 3, 4, 6)
    torch.testing.assert_close(halve(x), x.unflatten(3, (3, 2)).unflatten(2, (2, 2)).mean((3, 5)))
