"""Multigrid neural operators."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from slipstream.errors import InputError, ShapeError
from slipstream.operators import MgNO
from slipstream.operators.layers.multigrid import MultigridConv

WALLS = {"periodic": "circular", "zero": "constant", "reflect": "reflect"}


def moved(model: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model.double()


def size(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("shortcut", [True, False])
def test_a_network_is_its_layers_and_a_last_combination(shortcut):
    model = moved(MgNO(2, 3, hidden_channels=4, n_layers=2, cycle=((1, 0), (1, 0)), shortcut=shortcut))
    x = torch.randn(2, 2, 8, 8, dtype=torch.float64)
    y = x
    for block in model.blocks:
        z = block.multigrid(y) + block.bias
        if shortcut:
            z = z + torch.einsum("oi,bixy->boxy", block.shortcut.weight, y)
        y = F.gelu(z)
    expected = torch.einsum("oi,bixy->boxy", model.last.weight, y)
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("padding", WALLS)
def test_on_one_grid_it_is_a_plain_convolutional_network(padding):
    """The ablation of multigrid: ``cycle=((1, 0),)``."""
    model = moved(MgNO(2, 1, hidden_channels=4, n_layers=2, cycle=((1, 0),), padding=padding, shortcut=False))
    x = y = torch.randn(2, 2, 8, 8, dtype=torch.float64)
    for block in model.blocks:
        wide = F.pad(y, (1, 1, 1, 1), mode=WALLS[padding])
        y = F.gelu(F.conv2d(wide, block.multigrid.before[0][0].smoother.weight) + block.bias)
    torch.testing.assert_close(model(x), torch.einsum("oi,bixy->boxy", model.last.weight, y))


def test_one_layer_reaches_the_whole_domain_and_without_coarse_grids_does_not():
    x = torch.randn(1, 1, 33, 31, dtype=torch.float64, requires_grad=True)
    for cycle, whole in ((((1, 0),) * 4 + ((2, 0),), True), (((2, 0),), False)):
        model = moved(MgNO(hidden_channels=3, n_layers=1, cycle=cycle, padding="zero"))
        (seen,) = torch.autograd.grad(model(x)[0, 0, 2, 2], x)
        assert bool(seen.all()) == whole


def test_there_are_as_many_parameters_as_the_stencils_say():
    """Darcy's network of the paper: 24 channels, 6 grids of one step each, two on the last; 9 points a stencil, 16 on the way up."""
    c = 24

    def layer(inputs: int) -> int:
        smoothing = 9 * c * inputs * (1 + 2 * 4 + 4)  # S; then A and S once on four grids, twice on the last
        transfers = 5 * (9 * inputs**2 + 9 * c**2 + 16 * c**2)
        return smoothing + transfers + c * inputs + c

    model = MgNO(hidden_channels=c, n_layers=4, cycle=((1, 0),) * 5 + ((2, 0),), padding="zero")
    assert size(model) == layer(1) + 3 * layer(c) + c == 572_661


def test_it_contains_a_multigrid_solver():
    """A first layer filled in from an operator, and the nonlinearity undone by a pair of channels: gelu(v) - gelu(-v) = v."""
    stencil = torch.zeros(3, 3, dtype=torch.float64)
    stencil[1] += torch.tensor([-1.0, 2.0, -1.0])
    stencil[:, 1] += torch.tensor([-1.0, 2.0, -1.0])
    solver = MultigridConv.from_operator(stencil, 4, (1, 1), "zero")
    model = MgNO(
        hidden_channels=2, n_layers=1, cycle=solver.cycle, padding="zero", restriction="residual", shortcut=False
    ).double()
    twin = model.blocks[0].multigrid
    with torch.no_grad():
        for own, theirs in zip(twin.parameters(), solver.parameters(), strict=True):
            own.zero_()
            if own.shape[:2] == (2, 1):  # smoothing: from the right-hand side to the pair
                own.copy_(torch.cat([theirs, -theirs]))
            elif own.shape[:2] == (1, 2):  # the operator: from the first of the pair back
                own[:, :1] = theirs
            else:  # transfers: each channel its own
                for channel in range(own.shape[0]):
                    own[channel, channel] = theirs[0, 0]
        model.blocks[0].bias.zero_()
        model.last.weight.copy_(torch.tensor([[1.0, -1.0]]))
    f = torch.randn(1, 1, 15, 15, dtype=torch.float64)
    torch.testing.assert_close(model(f), solver(f))


@pytest.mark.parametrize("padding", ["zero", "reflect"])
def test_ends_are_ends(padding):
    model = moved(MgNO(hidden_channels=3, n_layers=1, cycle=((1, 0), (1, 0)), padding=padding))
    x = torch.randn(1, 1, 16, 16, dtype=torch.float64)
    assert (model(x.roll(2, 2)).roll(-2, 2) - model(x)).abs().max() > 1e-3


def test_each_axis_has_its_own_ends():
    model = moved(MgNO(hidden_channels=3, n_layers=2, cycle=((1, 0), (1, 0)), padding=("periodic", "zero")))
    x = torch.randn(1, 1, 16, 15, dtype=torch.float64)
    y = model(x)
    torch.testing.assert_close(model(x.roll(2, 2)).roll(-2, 2), y, rtol=0, atol=1e-12)
    assert (model(x.roll(2, 3)).roll(-2, 3) - y).abs().max() > 1e-3


def test_odd_grids_and_impossible_ones():
    model = MgNO(hidden_channels=4, n_layers=1, padding="zero")
    assert model(torch.randn(1, 1, 31, 53)).shape == (1, 1, 31, 53)
    with pytest.raises(ShapeError, match="cycle over 5 grids with zero padding"):
        model(torch.randn(1, 1, 30, 53))
    with pytest.raises(InputError, match=r"n_layers.*at least 1"):
        MgNO(n_layers=0)
    with pytest.raises((InputError, TypeError), match="both"):
        MgNO(restriction="both")
