"""Boundary conditions: what ghost points hold, and what is refused."""

from __future__ import annotations

import pytest
import torch

from slipstream.equations.boundary import (
    Conditions,
    Dirichlet,
    Inflow,
    Neumann,
    Obstacle,
    Outflow,
    Periodic,
    Robin,
    Wall,
)
from slipstream.equations.ghosts import pad
from slipstream.errors import InputError, ShapeError
from slipstream.grids import Axis, Grid

F64 = torch.float64
SLOPES = torch.tensor([0.7, -1.3], dtype=F64)


def plane(x):
    """A linear function of coordinates (dim, ...): ghost points of every condition continue it exactly."""
    return 0.4 + (SLOPES[: len(x)].reshape([-1] + [1] * (x.ndim - 1)) * x).sum(0)


def box(n, dims=1, centred=True):
    return Grid(tuple(Axis("xy"[i], n + 3 * i, 0.5, 2.0, False, centred) for i in range(dims)))


def wider(grid, width):
    """Coordinates of the grid and its ghost points."""
    axes = [a.coordinates()[0] + a.spacing * torch.arange(-width, a.num_points + width) for a in grid.axes]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def normal(axis, side):
    return float(SLOPES[axis]) * (1 if side else -1)


CONDITIONS = {
    "dirichlet": lambda axis, side: Dirichlet(plane),
    "neumann": lambda axis, side: Neumann(normal(axis, side)),
    "robin": lambda axis, side: Robin(2.0, 0.5, lambda x: 2.0 * plane(x) + 0.5 * normal(axis, side)),
}


@pytest.mark.parametrize("centred", [True, False], ids=["cells", "nodes"])
@pytest.mark.parametrize("upper", CONDITIONS)
@pytest.mark.parametrize("lower", CONDITIONS)
def test_ghost_points_continue_what_the_conditions_know(lower, upper, centred):
    grid = box(6, 2, centred)
    sides = {a: (CONDITIONS[lower](i, 0), CONDITIONS[upper](i, 1)) for i, a in enumerate("xy")}
    u = plane(grid.coordinates(F64))[None, None]
    padded = pad(u, grid, Conditions(("u",), sides), 3)
    assert torch.allclose(padded[0, 0], plane(wider(grid, 3)), atol=1e-12)  # corners too


def test_periodic_axes_wrap_around_beside_walls():
    grid = Grid((Axis("x", 6), Axis("y", 5, periodic=False)))
    u = torch.randn(2, 1, 6, 5, dtype=F64)
    value = torch.randn(2, 6, 1, dtype=F64)
    padded = pad(u, grid, Conditions(("u",), {"x": Periodic(), "y": (Dirichlet(value), Outflow())}), 2)
    rolled = torch.cat([u[:, :, -2:], u, u[:, :, :2]], 2)
    around = torch.cat([value[:, -2:], value, value[:, :2]], 1)
    assert torch.equal(padded[..., 2:-2], rolled)
    assert torch.allclose(0.5 * (padded[..., 1] + padded[..., 2]), around[:, None, :, 0])
    assert torch.equal(padded[..., -2:], rolled[..., -1:].expand(-1, -1, -1, 2))


def test_streams_enter_as_given_and_leave_as_they_are():
    grid = box(4)
    u = torch.randn(1, 1, 4, dtype=F64)
    padded = pad(u, grid, Conditions(("u",), {"x": (Inflow(3.0), Outflow())}), 2)
    assert padded[0, 0, :2].tolist() == [3.0, 3.0]
    assert torch.equal(padded[0, 0, -2:], u[0, 0, -1:].expand(2))


def test_walls_know_which_components_cross_them():
    grid = box(4, 2)
    names = ("density", "velocity_x", "velocity_y")
    lid = Wall(moving={"velocity_x": 1.0})
    conditions = Conditions(names, {"x": Wall(slip=True), "y": (Wall(), lid)})
    u = torch.rand(1, 3, 4, 7, dtype=F64)
    padded = pad(u, grid, conditions, 1)[0]
    left, bottom, top = padded[:, 0, 1:-1], padded[:, 1:-1, 0], padded[:, 1:-1, -1]
    assert torch.allclose(left, u[0, :, 0] * torch.tensor([1.0, -1.0, 1.0], dtype=F64)[:, None])
    assert torch.allclose(bottom, u[0, :, :, 0] * torch.tensor([1.0, -1.0, -1.0], dtype=F64)[:, None])
    assert torch.allclose(0.5 * (top[1] + u[0, 1, :, -1]), torch.ones(4, dtype=F64))
    assert torch.allclose(top[2], -u[0, 2, :, -1])
    one = pad(u[:, :1, :, 0], box(4), Conditions(("velocity",), {"x": Wall()}), 1)
    assert torch.allclose(one[0, 0, 0], -u[0, 0, 0, 0])


def test_values_are_parameters_and_receive_gradients():
    grid = box(5)
    conditions = Conditions(("a", "b"), {"x": ({"a": Dirichlet("hot"), "b": Neumann(1.0)}, Robin(1.0, 1.0, "cold"))})
    hot, cold = torch.tensor([1.0, 2.0], dtype=F64, requires_grad=True), torch.zeros(2, dtype=F64, requires_grad=True)
    u = torch.randn(2, 2, 5, dtype=F64, requires_grad=True)
    call = lambda u, hot, cold: pad(u, grid, conditions, 2, {"hot": hot, "cold": cold})  # noqa: E731
    assert torch.autograd.gradcheck(call, (u, hot, cold))
    padded = call(u, hot, cold)
    assert torch.allclose(0.5 * (padded[:, 0, 1] + padded[:, 0, 2]), hot)
    assert torch.allclose(padded[:, 1, 1] - padded[:, 1, 2], torch.full((2,), grid.spacing[0], dtype=F64))
    with pytest.raises(InputError, match="'hot'"):
        pad(u, grid, conditions, 1, {"cold": cold})


def test_given_values_are_imposed_on_nodes_and_in_solids():
    grid = box(5, 2, centred=False)
    solid = Obstacle(lambda x: (x - 1.5).square().sum(0).sqrt() - 0.3, value=7.0)
    conditions = Conditions(("u", "v"), {"x": {"u": Dirichlet(2.0), "v": Neumann()}, "y": Neumann()}, solid)
    mask = conditions.mask(grid)
    u = torch.randn(3, 2, 5, 8)
    hard = conditions.impose(u, grid)
    assert torch.equal(hard[:, mask], u[:, mask])
    assert (hard[:, 0, 0] == 2.0).all()
    assert (hard[:, 0, -1] == 2.0).all()
    inside = solid.inside(grid)
    assert 0 < int(inside.sum()) < 20
    assert (hard[:, :, inside] == 7.0).all()
    assert not mask[0, 0].any()
    assert mask[1, 0].all()
    assert mask[0, 1:-1][~inside[1:-1]].all()


def test_distance_tells_where_walls_and_solids_are():
    grid = Grid((Axis("x", 40, 0.0, 1.0, False), Axis("y", 40, 0.0, 1.0)))
    walls = Conditions(("u",), {"x": Neumann()})
    x = grid.coordinates()
    assert torch.allclose(walls.distance(grid)[0], torch.minimum(x[0], 1 - x[0]))
    round_ = Obstacle(lambda x: (x - 0.5).square().sum(0).sqrt() - 0.25)
    pixels = Obstacle(round_.inside(grid))
    assert torch.equal(pixels.inside(grid), round_.inside(grid))
    near = (round_.distance(grid) - pixels.distance(grid)).abs().max()
    assert 0 < float(near) < 1.5 * grid.spacing[0]
    both = Conditions(("u",), {"x": Neumann()}, round_).distance(grid)[0]
    assert (both[round_.inside(grid)] == 0).all()
    assert (both <= walls.distance(grid)[0]).all()
    with pytest.raises(InputError, match="no wall"):
        Conditions(("u",), {}).distance(Grid.box(8))


def test_convolutions_get_the_nearest_padding():
    grid = Grid((Axis("x", 4), Axis("y", 4, periodic=False), Axis("z", 4, periodic=False)))
    assert Conditions(("u",), {"y": (Neumann(), Dirichlet()), "z": Outflow()}).paddings(grid) == (
        "periodic",
        "zero",
        "reflect",
    )


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        ({}, "has ends and no conditions"),
        ({"x": Periodic()}, "has ends, but its condition is Periodic"),
        ({"x": Neumann(), "q": Neumann()}, r"\['q'\]"),
        ({"x": (Neumann(), Neumann(), Neumann())}, "two sides; got 3"),
        ({"x": {"a": Neumann()}}, "says nothing about the channel 'b'"),
        ({"x": {"a": Neumann(), "b": Neumann(), "c": Neumann()}}, "'c'"),
        ({"x": Neumann(), "y": Neumann()}, "periodic and has no sides"),
    ],
)
def test_conditions_that_do_not_fit_are_refused(sides, message):
    grid = Grid((Axis("x", 4, periodic=False), Axis("y", 4)))
    with pytest.raises(InputError, match=message):
        pad(torch.zeros(1, 2, 4, 4), grid, Conditions(("a", "b"), sides), 1)


def test_other_wrong_input_is_refused():
    grid = box(4)
    conditions = Conditions(("a",), {"x": Dirichlet(torch.zeros(3, 2))})
    with pytest.raises(ShapeError, match=r"shape \(3, 2\)"):
        pad(torch.zeros(2, 1, 4), grid, conditions, 1)
    with pytest.raises(ShapeError, match="1 channels"):
        pad(torch.zeros(2, 2, 4), grid, conditions, 1)
    with pytest.raises(ShapeError, match="5 ghost points"):
        pad(torch.zeros(2, 1, 4), grid, Conditions(("a",), {"x": Neumann()}), 5)
    with pytest.raises(InputError, match="one sign"):
        Robin(1.0, -1.0)
