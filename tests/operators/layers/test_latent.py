"""The neural spectral block."""

from __future__ import annotations

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from slipstream.errors import InputError, ShapeError
from slipstream.operators.layers.latent import NeuralSpectralBlock, TrigonometricMap, join, split


def moved(module: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.5)
    return module.double()


@pytest.mark.parametrize("space", [(12,), (6, 9), (3, 6, 9)])
def test_patches_are_blocks_and_come_back_exactly(space):
    x = torch.randn(2, 4, *space)
    patches = split(x, 3)
    assert patches.shape == (2 * math.prod(n // 3 for n in space), 4, 3 ** len(space))
    block = x[(1, slice(None), *(slice(n - 3, n) for n in space))]
    assert torch.equal(patches[-1], block.flatten(1))
    assert torch.equal(join(patches, 3, space), x)


@pytest.mark.parametrize("basis", [1, 2, 3, 4, 5, 7, 12])
def test_the_spectral_map_is_its_series(basis):
    layer = moved(TrigonometricMap(3, basis))
    t = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    expected = t.clone()
    for channel in range(3):
        a, b = layer.coefficients[channel, :basis], layer.coefficients[channel, basis:]
        for k in range(basis):
            angle = math.pi * k / basis * t[:, channel]
            expected[:, channel] += a[k] * angle.cos() + (b[k - 1] * angle.sin() if k else 0)
    torch.testing.assert_close(layer(t), expected)
    torch.testing.assert_close(layer(t), t + (layer.functions(t) * layer.coefficients[:, None]).sum(-1))
    wanted = (t, layer.coefficients)
    weights = torch.randn_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad(layer(t), wanted, weights), torch.autograd.grad(expected, wanted, weights)
    )


def test_its_functions_approximate_a_smooth_one_ever_better():
    t = torch.linspace(-1, 1, 201, dtype=torch.float64)
    target = torch.exp(-t) * torch.sin(3 * t) + t**2
    errors = []
    for basis in (4, 8, 12):
        functions = TrigonometricMap(1, basis).functions(t)
        fit = functions @ torch.linalg.lstsq(functions, target[:, None], driver="gelsd").solution
        errors.append((fit[:, 0] - target).abs().max().item())
    assert errors[0] > 10 * errors[1] > 10 * errors[2]
    assert errors[2] < 1e-6


@pytest.mark.parametrize("transition", [True, False])
def test_a_block_is_what_its_formula_says_patch_by_patch_and_head_by_head(transition):
    block = moved(NeuralSpectralBlock(4, 2, tokens=3, basis=5, patch=2, heads=2, transition=transition))
    x = torch.randn(2, 4, 4, 6, dtype=torch.float64)

    def linear(layer, points):
        return points @ layer.weight.T + (0 if layer.bias is None else layer.bias[:, 0])

    expected = x.clone()
    for b in range(2):
        for i in range(0, 4, 2):
            for j in range(0, 6, 2):
                points = x[b, :, i : i + 2, j : j + 2].flatten(1).T  # (point, channel)
                keys, values, queries = (linear(layer, points) for layer in (block.key, block.value, block.query))
                latent = torch.zeros(3, 4, dtype=torch.float64)  # (token, channel)
                for h in range(2):
                    own = slice(2 * h, 2 * h + 2)
                    scores = (block.tokens[h] @ keys[:, own].T).softmax(1)
                    latent[:, own] = block.tokens[h] + scores @ values[:, own]
                if transition:
                    latent = block.transition(latent.T[None])[0].T
                for h in range(2):
                    own = slice(2 * h, 2 * h + 2)
                    answer = (queries[:, own] @ latent[:, own].T).softmax(1) @ latent[:, own]
                    expected[b, own, i : i + 2, j : j + 2] += answer.T.unflatten(1, (2, 2))
    torch.testing.assert_close(block(x), expected, rtol=0, atol=1e-12)


def test_without_values_and_series_the_raw_tokens_are_read_out():
    block = moved(NeuralSpectralBlock(4, 1, tokens=3, patch=4, heads=1))
    with torch.no_grad():
        for parameter in (block.value.weight, block.value.bias, block.transition.coefficients):
            parameter.zero_()
    x = torch.randn(1, 4, 4, dtype=torch.float64)
    tokens = block.tokens[0]
    expected = x + ((block.query(x).mT @ tokens.T).softmax(-1) @ tokens).mT
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_patches_do_not_see_each_other(dims):
    block = moved(NeuralSpectralBlock(4, dims, patch=2, heads=2))
    x = torch.randn(1, 4, *(4,) * dims, dtype=torch.float64, requires_grad=True)
    (seen,) = torch.autograd.grad(block(x)[(0, slice(None), *(0,) * dims)].sum(), x)
    assert (seen[0, 0].nonzero() < 2).all()
    assert len(seen[0, 0].nonzero()) == 2**dims


def test_the_cost_is_linear_in_the_number_of_points():
    block = NeuralSpectralBlock(8, 2, patch=4, heads=2)
    counts = []
    # What does not depend on the points, the tokens times the keys, falls out of the differences.
    for points in (16, 32, 64):
        with FlopCounterMode(display=False) as counter:
            block(torch.randn(1, 8, points, points))
        counts.append(counter.get_total_flops())
    assert counts[2] - counts[1] == 4 * (counts[1] - counts[0])


def test_second_derivatives_exist():
    block = moved(NeuralSpectralBlock(4, 1, patch=2, heads=2))
    x = torch.randn(1, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(block, (x,))


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match=r"channels=6.*divisible by heads"):
        NeuralSpectralBlock(6, heads=4)
    with pytest.raises(ShapeError, match=r"4 points an axis do not fill a grid of \(8, 6\) points"):
        NeuralSpectralBlock(8)(torch.randn(1, 8, 8, 6))
