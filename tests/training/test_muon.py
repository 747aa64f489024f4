"""Muon: orthogonal updates, PyTorch's own on matrices, Adam on the rest, exact continuation."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from slipstream.errors import InputError
from slipstream.training.muon import Muon, orthogonalise


@pytest.mark.parametrize("shape", [(5, 8, 8), (3, 4, 36), (2, 36, 4)])
def test_singular_vectors_stay_and_singular_values_go_to_one(shape):
    m = torch.randn(*shape, dtype=torch.float64)
    u, s, v = torch.linalg.svd(m, full_matrices=False)
    found = torch.einsum("bji,bjk,blk->bil", u, orthogonalise(m), v)
    values = found.diagonal(dim1=1, dim2=2)
    assert torch.allclose(found, torch.diag_embed(values), atol=1e-9)
    large = s / s.norm(dim=1, keepdim=True) > 0.05
    assert float(values[large].min()) > 0.6
    assert float(values.max()) < 1.25


def test_matrices_move_as_with_the_optimiser_of_pytorch():
    ours, theirs = (nn.Parameter(torch.linspace(-1, 1, 48).reshape(6, 8)) for _ in range(2))
    a = Muon([ours], lr=0.02)
    b = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    torch.manual_seed(0)
    for _ in range(4):
        ours.grad = torch.randn(6, 8)
        theirs.grad = ours.grad.clone()
        a.step()
        b.step()
    moved = theirs.detach() - torch.linspace(-1, 1, 48).reshape(6, 8)
    assert float((ours - theirs).detach().norm() / moved.norm()) < 0.02  # theirs works in bfloat16


def test_vectors_move_as_with_adam():
    ours, theirs = (nn.Parameter(torch.ones(7)) for _ in range(2))
    a, b = Muon([ours], lr=0.01), torch.optim.Adam([theirs], lr=0.01, betas=(0.9, 0.99))
    torch.manual_seed(0)
    for _ in range(5):
        ours.grad = torch.randn(7)
        theirs.grad = ours.grad.clone()
        a.step()
        b.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def test_many_weights_of_one_shape_move_as_each_would_alone():
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(4, 3, 3, 3)) for _ in range(3)]
    alone = [nn.Parameter(w.detach().clone()) for w in weights]
    together, single = Muon(weights), [Muon([w]) for w in alone]
    for _ in range(3):
        for w, other in zip(weights, alone, strict=True):
            w.grad = torch.randn_like(w)
            other.grad = w.grad.clone()
        together.step()
        for optim in single:
            optim.step()
    for w, other in zip(weights, alone, strict=True):
        torch.testing.assert_close(w, other, rtol=1e-5, atol=1e-6)


def test_it_goes_on_from_its_state_to_the_bit():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.GELU(), nn.Conv2d(4, 1, 1))
    x = torch.randn(8, 2, 8, 8)

    def go(module, optim, steps):
        for _ in range(steps):
            optim.zero_grad()
            module(x).square().mean().backward()
            optim.step()

    optim = Muon(net.parameters(), lr=0.01)
    go(net, optim, 3)
    other, kept = copy.deepcopy(net), copy.deepcopy(optim.state_dict())
    go(net, optim, 3)
    again = Muon(other.parameters(), lr=0.01)
    again.load_state_dict(kept)
    go(other, again, 3)
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match="momentum"):
        Muon([nn.Parameter(torch.ones(2))], momentum=1.0)
