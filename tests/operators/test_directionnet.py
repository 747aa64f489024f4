"""DirectionNet: homogeneous, linear where it says so, and deeper on larger grids with the same weights."""

from __future__ import annotations

import pytest
import torch

from slipstream.errors import InputError, ShapeError
from slipstream.operators import DirectionNet


def made(seed=0, noise=0.05, **arguments):
    torch.manual_seed(seed)
    network = DirectionNet(**{"hidden_channels": 6, **arguments}).double()
    with torch.no_grad():
        for p in network.parameters():
            p.add_(torch.randn_like(p), alpha=noise)
    return network


def field(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("wiring", [{}, {"shared": False, "levels": 2}])
def test_it_is_linear_in_the_residual_and_not_in_the_conditions(wiring):
    network = made(in_channels=3, conditions=2, **wiring)
    a, b, c = field(2, 1, 16, 16), field(2, 1, 16, 16, seed=2), field(2, 2, 16, 16, seed=3)
    told = [torch.cat([r, c], 1) for r in (a, b, 2 * a - 3 * b)]
    y = [network(x) for x in told]
    torch.testing.assert_close(y[2], 2 * y[0] - 3 * y[1], rtol=1e-9, atol=1e-9)
    other = network(torch.cat([a, 2 * c], 1))
    assert float((other - 2 * y[0]).abs().max()) > 1e-3
    assert float((other - y[0]).abs().max()) > 1e-3


def test_with_rectifiers_it_is_homogeneous_but_not_linear_and_with_bias_neither():
    a, b = field(1, 1, 16, 16), field(1, 1, 16, 16, seed=2)
    for linear, bias in ((False, False), (False, True)):
        network = made(linear=linear, bias=bias)
        gap = float((network(3 * a) - 3 * network(a)).abs().max())
        assert gap > 1e-3 if bias else gap < 1e-9
        assert float((network(a + b) - network(a) - network(b)).abs().max()) > 1e-3


def test_larger_grids_get_more_levels_from_the_same_weights():
    """A point source reaches every cell of any grid; with a fixed number of levels it does not."""
    free, fixed = made(blocks=(0, 1, 0)), made(blocks=(0, 1, 0), levels=1, shared=False)
    for n in (16, 64):
        x = torch.zeros(1, 1, n, n, dtype=torch.float64)
        x[0, 0, 0, 0] = 1.0
        assert bool(free(x)[0, 0, -1, -1] != 0)
        assert bool(fixed(x)[0, 0, -1, -1] == 0)


def test_every_level_answers_as_the_whole_does_on_its_own_grid():
    """Where blocks change nothing, the net of a large grid is the interpolated net of the half grid, joined to its own residual."""
    network = made(noise=0.0, hidden_channels=4, blocks=(0, 0, 0))
    x = field(1, 1, 32, 32)
    features = network.enter(network.pad(x, 1))
    coarse = network._level(torch.nn.functional.avg_pool2d(x, 2), x[:, :0], None, 0)
    expected = network.leave(features + network._finer(network.join[0](coarse)))
    torch.testing.assert_close(network(x), expected, rtol=1e-12, atol=1e-12)


def test_it_begins_near_a_multilevel_preconditioner():
    """Half the iterations of conjugate gradients before any training."""
    from slipstream.grids import Grid
    from slipstream.solvers.linear import CG, DCDM, Boundary, CellPoisson, solve

    torch.manual_seed(0)
    grid = Grid.box(32, 1.0, num_dims=2, periodic=False)
    A = CellPoisson(torch.ones(1, 32, 32, dtype=torch.bool), grid, Boundary.DIRICHLET)
    b = field(1, 32, 32)
    learnt = solve(A, b, method=DCDM(DirectionNet(), patience=None), tol=1e-6, max_iterations=200)
    assert learnt.converged
    assert learnt.iterations < 0.75 * solve(A, b, method=CG(), tol=1e-6).iterations


def test_the_network_of_the_paper_has_its_layers():
    network = DirectionNet(num_dims=3, levels=1, shared=False, linear=False, bias=True)
    kernels = [m for m in network.modules() if isinstance(m, torch.nn.Conv3d) and m.kernel_size == (3, 3, 3)]
    assert len(kernels) == 1 + 2 * (1 + 3 + 2)
    assert network(torch.zeros(1, 1, 8, 8, 8)).shape == (1, 1, 8, 8, 8)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ShapeError, match="multiples of 4"):
        DirectionNet(levels=2)(torch.zeros(1, 1, 10, 12))
    for wrong in ({"conditions": 1}, {"levels": -1}, {"num_dims": 4}):
        with pytest.raises(InputError, match="DirectionNet got"):
            DirectionNet(**wrong)
    with pytest.raises(InputError, match="counted"):
        DirectionNet(shared=False)
    with pytest.raises(InputError, match="three numbers"):
        DirectionNet(blocks=(1, 2))
