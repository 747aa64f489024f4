"""CycleNet and what it knows of a system: exact where a field is linear, Galerkin's where it is constant, linear in the residual."""

from __future__ import annotations

import pytest
import torch

from slipstream.errors import InputError, ShapeError
from slipstream.grids import Grid
from slipstream.operators import CycleNet
from slipstream.operators.layers.couplings import Couplings
from slipstream.solvers.linear import CG, DCDM, Boundary, CellPoisson, Diffusion, solve
from slipstream.solvers.linear.dcdm import conditions_of


def field(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def system(n=16, dims=2, walls=Boundary.DIRICHLET, share=0.2, periodic=False):
    grid = Grid.box(n, 1.0, num_dims=dims, periodic=periodic)
    fluid = torch.rand(1, *grid.shape, generator=torch.Generator().manual_seed(3)) >= share
    return CellPoisson(fluid, grid, walls)


def net(seed=0, noise=0.05, **arguments):
    torch.manual_seed(seed)
    network = CycleNet(**{"hidden_channels": 6, **arguments}).double()
    with torch.no_grad():
        for p in network.parameters():
            p.add_(torch.randn_like(p), alpha=noise)
    return network


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("periodic", [False, True])
def test_its_product_is_that_of_the_system(dims, periodic):
    A = system(8, dims, periodic=periodic)
    v = torch.where(A.fluid, field(1, *A.space), 0)
    image = Couplings(conditions_of(A))(v[:, None])[:, 0] * 2 * dims / A.grid.spacing[0] ** 2
    inside = conditions_of(A).sum(1) > 0
    torch.testing.assert_close(torch.where(inside, image, 0), torch.where(inside, A(v), 0), rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("walls", [Boundary.DIRICHLET, Boundary.NEUMANN])
def test_a_whole_box_is_the_same_box_on_half_the_points(dims, walls):
    """What is made coarser is what the coarse box would have told itself, whatever the walls."""
    fine, coarse = (conditions_of(system(n, dims, walls, share=0.0)) for n in (16, 8))
    torch.testing.assert_close(Couplings(fine).coarser().channels, coarse, rtol=1e-12, atol=1e-12)


def test_the_coarser_system_is_galerkins_for_constant_cells():
    A = system(16, 2, share=0.3)
    fine = Couplings(conditions_of(A))
    v = field(1, 1, 8, 8)
    copied = v.repeat_interleave(2, 2).repeat_interleave(2, 3)
    summed = 4 * torch.nn.functional.avg_pool2d(fine(copied), 2)  # P' A P, of which a coarse face has two parts
    torch.testing.assert_close(2 * fine.coarser()(v), summed, rtol=1e-10, atol=1e-10)


def test_interpolation_is_linear_inside_and_knows_both_kinds_of_walls():
    A = CellPoisson(
        torch.ones(1, 16, 16, dtype=torch.bool),
        Grid.box(16, 1.0, num_dims=2, periodic=False),
        [Boundary.DIRICHLET, Boundary.NEUMANN],
    )
    coarse = Couplings(conditions_of(A)).coarser()
    (x,), (half,) = (torch.meshgrid(A.grid.coordinates(torch.float64)[0, :, 0], indexing="ij"), [torch.arange(8.0) / 8])
    half = half.double() + 1 / 16
    slope = (half[:, None] + 0 * half)[None, None]
    made = coarse.finer(slope)[0, 0]
    torch.testing.assert_close(made[:-1, 3:-3], (x[:, None] + 0 * x)[:-1, 3:-3], rtol=1e-12, atol=1e-12)
    assert bool((made[0, :] > 0).all()), "a field that is zero at the held wall x = 0 is met there too"
    assert float(made[-1, 8]) == pytest.approx(float(half[-1]) / 2), "and one that is not falls to it, linearly"
    torch.testing.assert_close(coarse.finer(torch.ones_like(slope))[0, 0, 2:-2], torch.ones(12, 16).double())


def test_nothing_passes_a_solid_wall():
    grid = Grid.box(16, 1.0, num_dims=2, periodic=False)
    fluid = torch.ones(1, 16, 16, dtype=torch.bool)
    fluid[:, 8:10] = False
    coarse = Couplings(conditions_of(CellPoisson(fluid, grid, Boundary.NEUMANN))).coarser()
    assert not coarse.cells[0, 0, 4].any()
    y = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    y[:, :, :4] = 1.0
    made = coarse.finer(y)[0, 0]
    torch.testing.assert_close(made[:8], torch.ones(8, 16).double(), rtol=1e-12, atol=1e-12)
    assert not made[10:].any()


def test_it_is_linear_in_the_residual_and_not_in_the_couplings_and_with_rectifiers_homogeneous():
    told = conditions_of(system())
    a, b = field(1, 1, 16, 16), field(1, 1, 16, 16, seed=2)
    straight, bent = net(), net(linear=False)
    answers = [[n(torch.cat([r, told], 1)) for r in (a, b, 2 * a - 3 * b, 5 * a)] for n in (straight, bent)]
    torch.testing.assert_close(answers[0][2], 2 * answers[0][0] - 3 * answers[0][1], rtol=1e-9, atol=1e-9)
    assert float((answers[1][2] - 2 * answers[1][0] + 3 * answers[1][1]).abs().max()) > 1e-3
    torch.testing.assert_close(answers[1][3], 5 * answers[1][0], rtol=1e-9, atol=1e-9)
    other = straight(torch.cat([a, 2 * told], 1))
    assert float((other - answers[0][0]).abs().max()) > 1e-3


def test_a_source_reaches_every_cell_of_any_grid_and_no_cell_outside():
    network = net(smoothings=1, coarsest=1)
    for n in (16, 64):
        A = system(n, share=0.0)
        x = torch.zeros(1, 1, n, n, dtype=torch.float64)
        x[0, 0, 0, 0] = 1.0
        assert bool((network(torch.cat([x, conditions_of(A)], 1)) != 0).all())
    A = system(16)
    y = network(torch.cat([field(1, 1, 16, 16), conditions_of(A)], 1))[:, 0]
    assert not y[~A.fluid].any()


def test_it_turns_with_a_ring():
    A = system(16, periodic=True, walls=Boundary.NEUMANN)
    network, r = net(padding="periodic"), field(1, 1, 16, 16)
    x = torch.cat([r, conditions_of(A)], 1)
    torch.testing.assert_close(network(x.roll(4, 2)), network(x).roll(4, 2), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("dims", "points"), [(2, (32, 64)), (3, (16,))])
@pytest.mark.parametrize("walls", [[Boundary.DIRICHLET, Boundary.NEUMANN], [Boundary.DIRICHLET] * 2])
def test_untrained_it_is_a_multigrid_cycle(dims, points, walls):
    """So few iterations, before any training, and hardly more on the larger grid."""
    torch.manual_seed(0)
    network = CycleNet(in_channels=2 + 2 * dims, num_dims=dims, hidden_channels=4)
    needed = []
    for n in points:
        grid = Grid.box(n, 1.0, num_dims=dims, periodic=False)
        x = grid.coordinates(torch.float64)
        fluid = ((x - 0.45).square().sum(0) > 0.2**2)[None]
        A = CellPoisson(fluid, grid, (walls + walls)[:dims])
        b = torch.where(A.fluid, field(1, *A.space), 0)
        result = solve(A, b, method=DCDM(network), tol=1e-6, max_iterations=100)
        assert result.converged
        assert result.fallback == 0
        needed.append(result.iterations)
    assert max(needed) <= 30
    assert needed[-1] <= needed[0] + 6


def test_a_smooth_coefficient_is_known_too():
    grid = Grid.box(32, 1.0, num_dims=2, periodic=False)
    x = grid.coordinates(torch.float64)
    kappa = torch.exp(2 * torch.sin(6 * x[0]) * torch.cos(5 * x[1]))[None]
    A = Diffusion(kappa, grid, Boundary.DIRICHLET)
    torch.manual_seed(0)
    b = field(1, 32, 32)
    ours = solve(A, b, method=DCDM(CycleNet(hidden_channels=4)), tol=1e-6)
    assert ours.fallback == 0
    assert ours.iterations < 0.3 * solve(A, b, method=CG(), tol=1e-6).iterations


def test_it_survives_saving_and_refuses_what_does_not_fit(tmp_path):
    network = CycleNet(hidden_channels=4, smoothings=2, coarsest=3, linear=False)
    network.save_pretrained(tmp_path / "net")
    x = torch.cat([field(1, 1, 16, 16), conditions_of(system())], 1).float()
    assert torch.equal(CycleNet.from_pretrained(tmp_path / "net")(x), network(x))
    with pytest.raises(ShapeError, match="CycleNet"):
        network(x[:, :4])
    for wrong in ({"in_channels": 3}, {"num_dims": 4, "in_channels": 10}):
        with pytest.raises(InputError, match="CycleNet takes"):
            CycleNet(**wrong)
    with pytest.raises(InputError, match="at least 1"):
        CycleNet(smoothings=0)
