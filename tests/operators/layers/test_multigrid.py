"""Multigrid as a linear layer, and as the solver that it contains."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse.linalg as sparse
import torch
from torch.nn import functional as F

from slipstream.errors import InputError, ShapeError
from slipstream.operators.layers import Pad
from slipstream.operators.layers.levels import Transfer
from slipstream.operators.layers.multigrid import MultigridConv
from slipstream.operators.layers.stencils import galerkin

CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
FIRST = {"periodic": 0, "zero": 1, "reflect": 0}


def laplacian(weights: tuple[float, ...]) -> torch.Tensor:
    """The stencil of minus the weighted sum of second differences."""
    stencil = torch.zeros((3,) * len(weights), dtype=torch.float64)
    for axis, weight in enumerate(weights):
        for offset, value in ((0, -1.0), (1, 2.0), (2, -1.0)):
            at = [1] * len(weights)
            at[axis] = offset
            stencil[tuple(at)] += weight * value
    return stencil


def operate(stencil: torch.Tensor, u: torch.Tensor, padding: str) -> torch.Tensor:
    return CONVOLVE[stencil.ndim](Pad(padding, stencil.ndim)(u, 1), stencil[None, None])


def contraction(layer: MultigridConv, stencil: torch.Tensor, points: int, cycles: int = 20) -> float:
    """The factor by which a cycle shrinks the slowest error, by power iteration."""
    padding, e = layer.padding[0], torch.randn(1, 1, *(points,) * stencil.ndim, dtype=torch.float64)
    factor = 1.0
    with torch.no_grad():
        for _ in range(cycles):
            e = e / e.norm()
            e = e - layer(operate(stencil, e, padding))
            if padding != "zero":  # constants are in the kernel of the operator
                e = e - e.mean()
            factor = e.norm().item()
    return factor


def made(seed: int = 0, **arguments) -> MultigridConv:
    torch.manual_seed(seed)
    return MultigridConv(2, 3, **arguments).double()


@pytest.mark.parametrize("restriction", ["field", "residual"])
@pytest.mark.parametrize("norm", [False, True])
def test_it_is_linear_unless_normalised(restriction, norm):
    layer = made(cycle=((1, 1), (2, 1), (2, 0)), restriction=restriction, norm=norm)
    f, g = torch.randn(2, 1, 2, 16, 16, dtype=torch.float64)
    error = (layer(2 * f - 3 * g) - (2 * layer(f) - 3 * layer(g))).abs().max()
    assert (error < 1e-13) == (not norm)


# The reference: dense matrices of one axis, joined by Kronecker products, and a recursive cycle.


def fold(i: int, n: int, kind: str) -> int | None:
    """Which of n points a point beyond the ends stands for."""
    if kind == "periodic":
        return i % n
    if kind == "reflect":
        return -i if i < 0 else 2 * (n - 1) - i if i >= n else i
    return i if 0 <= i < n else None


def coarse_points(n: int, kind: str) -> int:
    return {"periodic": (n + 1) // 2, "zero": (n - 1) // 2, "reflect": n // 2 + 1}[kind]


def along_axis(n: int, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Second differences, restriction and prolongation."""
    m, first = coarse_points(n, kind), FIRST[kind]
    a, r, p = np.zeros((n, n)), np.zeros((m, n)), np.zeros((n, m))

    def add(matrix, row, column, value):
        if column is not None:
            matrix[row, column] += value

    for i in range(n):
        for step, value in ((-1, -1.0), (0, 2.0), (1, -1.0)):
            add(a, i, fold(i + step, n, kind), value)
        offset = i - first
        if offset % 2 == 0:
            add(p, i, fold(offset // 2, m, kind), 1.0)
        else:
            for k in ((offset - 1) // 2, (offset + 1) // 2):
                add(p, i, fold(k, m, kind), 0.5)
    for k in range(m):
        for step, value in ((-1, 0.25), (0, 0.5), (1, 0.25)):
            add(r, k, fold(first + 2 * k + step, n, kind), value)
    return a, r, p


def reference_cycle(shape: tuple[int, int], kind: str, levels: int, before: int, after: int, scale: float = 1.0):
    """The matrix of V(before, after) for the five-point Laplacian with damped Jacobi smoothing."""
    (ax, rx, px), (ay, ry, py) = (along_axis(n, kind) for n in shape)
    a = scale * (np.kron(ax, np.eye(shape[1])) + np.kron(np.eye(shape[0]), ay))
    unit, damped, w = np.eye(len(a)), 0.8 / (4 * scale), np.zeros_like(a)
    for _ in range(before if levels > 1 else before + after):
        w = w + damped * (unit - a @ w)
    if levels > 1:
        coarse = reference_cycle((len(rx), len(ry)), kind, levels - 1, before, after, scale / 4)
        w = w + np.kron(px, py) @ coarse @ np.kron(rx, ry) @ (unit - a @ w)
        for _ in range(after):
            w = w + damped * (unit - a @ w)
    return w


@pytest.mark.parametrize("kind", ["periodic", "zero", "reflect"])
@pytest.mark.parametrize(("shape", "steps"), [((8, 12), (1, 1)), ((7, 15), (2, 0)), ((9, 6), (1, 2))])
def test_a_cycle_from_an_operator_is_the_textbook_cycle(kind, shape, steps):
    levels = 2 if min(coarse_points(coarse_points(n, kind), kind) for n in shape) < 2 else 3
    layer = MultigridConv.from_operator(laplacian((1.0, 1.0)), levels, steps, kind, coarse="rescaled")
    expected = reference_cycle(shape, kind, levels, *steps)
    np.testing.assert_allclose(layer.as_matrix(shape).detach().numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("steps", "rate"), [((1, 0), 0.59), ((1, 1), 0.37), ((2, 2), 0.19)])
@pytest.mark.parametrize(
    ("padding", "sizes"), [("periodic", {32: 5, 64: 6, 128: 7, 256: 8}), ("zero", {31: 5, 63: 6, 127: 7})]
)
def test_a_cycle_contracts_at_the_known_rate_on_every_grid(padding, sizes, steps, rate):
    stencil = laplacian((1.0, 1.0))
    rates = []
    for points, levels in sizes.items():
        layer = MultigridConv.from_operator(stencil * points**2, levels, steps, padding, coarse="rescaled")
        rates.append(contraction(layer, stencil * points**2, points))
    assert rates == pytest.approx([rate] * len(rates), abs=0.03)


@pytest.mark.parametrize(
    ("padding", "points", "levels", "most"),
    [
        ("reflect", 65, 6, 0.38),
        ("reflect", 64, 6, 0.38),
        ("zero", 64, 6, 0.78),
        ("zero", 128, 7, 0.78),
        ("periodic", 63, 6, 0.38),
    ],
)
def test_it_converges_on_awkward_grids_too(padding, points, levels, most):
    stencil = laplacian((1.0, 1.0))
    layer = MultigridConv.from_operator(stencil, levels, (1, 1), padding)
    assert contraction(layer, stencil, points, 15) < most


@pytest.mark.parametrize(("dims", "most"), [(1, 0.2), (3, 0.55)])
def test_it_converges_in_one_and_three_dimensions(dims, most):
    stencil = laplacian((1.0,) * dims)
    layer = MultigridConv.from_operator(stencil, 4, (1, 1), "zero")
    assert contraction(layer, stencil, 15) < most


def test_coarsening_only_the_stiff_axis_saves_the_rate():
    stencil = laplacian((16.0, 1.0))
    both = MultigridConv.from_operator(stencil, 5, (1, 1))
    stiff = MultigridConv.from_operator(stencil, 6, (1, 1), coarsen=((2, 1),) * 2 + ((2, 2),) * 3)
    assert contraction(both, stencil, 32) > 0.75
    assert contraction(stiff, stencil, 32) < 0.4


@pytest.mark.parametrize("factors", [(2, 2), (2, 1), (1, 2)])
def test_a_galerkin_stencil_is_restriction_times_operator_times_prolongation(factors):
    """For any stencil, against matrices built point by point."""
    shape, stencil = (8, 12), torch.randn(3, 3, dtype=torch.float64)
    r, p = [], []
    for n, factor in zip(shape, factors, strict=True):
        _, rows, columns = along_axis(n, "periodic") if factor == 2 else (None, np.eye(n), np.eye(n))
        r.append(rows)
        p.append(columns)
    a = np.zeros((96, 96))
    for i in range(8):
        for j in range(12):
            for di in range(3):
                for dj in range(3):
                    a[i * 12 + j, (i + di - 1) % 8 * 12 + (j + dj - 1) % 12] += stencil[di, dj]
    u = torch.randn(1, 1, r[0].shape[0], r[1].shape[0], dtype=torch.float64)
    expected = np.kron(*r) @ a @ np.kron(*p) @ u.flatten().numpy()
    answer = operate(galerkin(stencil, factors), u, "periodic")
    np.testing.assert_allclose(answer.flatten().numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("padding", "shape"), [("zero", (15, 7)), ("periodic", (8, 8))])
def test_with_as_many_steps_before_as_after_it_is_symmetric_and_positive(padding, shape):
    layer = MultigridConv.from_operator(laplacian((1.0, 1.0)) + 0.1 * (padding == "periodic"), 3, (1, 1), padding)
    matrix = layer.as_matrix(shape)
    torch.testing.assert_close(matrix, matrix.mT, rtol=0, atol=1e-13)
    assert torch.linalg.eigvalsh(matrix).min() > 0
    skewed = MultigridConv.from_operator(laplacian((1.0, 1.0)), 3, (1, 0), padding).as_matrix(shape)
    assert (skewed - skewed.mT).abs().max() > 1e-3


def test_it_preconditions_conjugate_gradients():
    shape, size = (63, 63), 63 * 63
    stencil = laplacian((1.0, 1.0))
    layer = MultigridConv.from_operator(stencil, 6, (1, 1), "zero").requires_grad_(False)
    apply = layer.preconditioner(shape)

    def of_vectors(function):
        return sparse.LinearOperator(
            (size, size), lambda v: function(torch.from_numpy(v.reshape(-1))).numpy(), dtype=float
        )

    system = of_vectors(lambda v: operate(stencil, v.reshape(1, 1, *shape), "zero").flatten())
    right = np.random.default_rng(0).standard_normal(size)
    counts = []
    for preconditioner in (of_vectors(apply), None):
        steps: list[int] = []
        u, trouble = sparse.cg(
            system, right, rtol=1e-8, M=preconditioner, callback=lambda _, steps=steps: steps.append(1)
        )
        assert trouble == 0
        assert np.linalg.norm(system @ u - right) < 2e-8 * np.linalg.norm(right)
        counts.append(len(steps))
    assert counts[0] <= 12
    assert counts[1] > 8 * counts[0]
    batch = torch.randn(2, 3, size, dtype=torch.float64)
    torch.testing.assert_close(apply(batch)[1, 2], apply(batch[1, 2]))


@pytest.mark.parametrize(("restriction", "exact"), [("residual", True), ("field", False)])
def test_in_a_v_cycle_coarse_grids_have_nothing_to_add_to_an_exact_answer(restriction, exact):
    """A = 2 and S = 1/2 solve at once, whatever the transfers are."""
    layer = MultigridConv(1, 1, cycle=((1, 0),) * 3, restriction=restriction).double()
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if name.endswith(("smoother.weight", "operator.weight")):
                parameter.zero_()[0, 0, 1, 1] = 0.5 if "smoother" in name else 2.0
    f = torch.randn(1, 1, 16, 16, dtype=torch.float64)
    error = (layer(f) - f / 2).abs().max()
    assert (error < 1e-14) == exact


def test_steps_and_grids_are_those_of_the_formula():
    """u = S f;  u += S (f - A u);  coarse: f = R f, u = Pi u;  u += P u_coarse, by torch's own padding and strides."""
    layer = made(cycle=((2, 1), (1, 0)))

    def conv(weight, x, stride=1):
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), weight, stride=stride)

    def step(module, f, u):
        return u + conv(module.smoother.weight, f - conv(module.operator.weight, u))

    f = torch.randn(2, 2, 8, 12, dtype=torch.float64)
    transfer = layer.transfers[0]
    u = step(layer.before[0][1], f, conv(layer.before[0][0].smoother.weight, f))
    low = step(layer.before[1][0], conv(transfer.restrict.weight, f, 2), conv(transfer.guess.weight, u, 2))
    far = F.conv_transpose2d(F.pad(low, (1, 1, 1, 1), mode="circular"), transfer.prolong.weight, stride=2, padding=1)
    u = step(layer.after[0][0], f, u + far[..., 2:-2, 2:-2])
    torch.testing.assert_close(layer(f), u, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", ["periodic", "zero", "reflect"])
def test_coarse_grids_keep_the_ends_where_they_are(kind):
    transfer = Transfer(1, 1, Pad(kind, 1), (2,), "field")
    assert [transfer.coarsened((n,)) for n in range(3, 12)] == [(coarse_points(n, kind),) for n in range(3, 12)]
    for nested in {"periodic": [8, 16], "zero": [7, 15], "reflect": [9, 17]}[kind]:
        (coarse,) = transfer.coarsened((nested,))
        gaps = {"periodic": 0, "zero": 1, "reflect": -1}[kind]  # spacings across the domain, less the points
        assert 2 * (coarse + gaps) == nested + gaps


@pytest.mark.parametrize("kind", ["periodic", "zero", "reflect"])
@pytest.mark.parametrize("points", [(16, 16), (15, 17), (19, 22)])
def test_any_number_of_points_comes_back(kind, points):
    layer = made(cycle=((1, 1),) * 3 + ((1, 0),), padding=kind)
    y = layer(torch.randn(1, 2, *points, dtype=torch.float64))
    assert y.shape == (1, 3, *points)
    assert [g[0] for g in layer.grids(points)][1] == coarse_points(points[0], kind)


def test_every_point_hears_of_every_other():
    layer = made(cycle=((1, 0),) * 4 + ((2, 0),))
    matrix = layer.as_matrix((16, 16))
    assert (matrix != 0).all()
    near = made(cycle=((2, 0),)).as_matrix((16, 16))
    assert (near != 0).double().mean() < 0.25


def test_what_is_filled_in_can_be_trained():
    layer = MultigridConv.from_operator(laplacian((1.0, 1.0)), 3, (1, 1))
    layer(torch.randn(1, 1, 16, 16, dtype=torch.float64)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in layer.parameters())


@pytest.mark.parametrize(("padding", "points", "grids"), [("zero", 14, 4), ("reflect", 2, 2), ("zero", 2, 2)])
def test_grids_too_small_for_the_cycle_are_refused(padding, points, grids):
    layer = made(cycle=((1, 0),) * grids, padding=padding)
    with pytest.raises(
        ShapeError, match=rf"cycle over {grids} grids with {padding} padding .* of {points} along an axis.*shorter"
    ):
        layer(torch.randn(1, 2, 64, points, dtype=torch.float64))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cycle": ((0, 1), (1, 0))}, "at least one before on the finest"),
        ({"cycle": ((1, 0), (0, 0))}, "at least one before on the finest and the coarsest"),
        ({"cycle": ((1, 0), (0, 0), (1, 0)), "restriction": "residual"}, "on every one"),
        ({"cycle": ((1, 0),) * 3, "coarsen": ((2, 2),)}, r"does not fit 3 grids of 2 axes; expected 2 entries"),
        ({"coarsen": ((2, 2), (2, 3), (2, 2))}, "each 1 or 2"),
        ({"num_dims": 4}, "num_dims=4"),
    ],
)
def test_impossible_cycles_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        MultigridConv(1, 1, **wrong)


def test_impossible_operators_are_refused():
    with pytest.raises(InputError, match=r"stencil of shape \(5, 3\)"):
        MultigridConv.from_operator(torch.ones(5, 3), 2)
    with pytest.raises(InputError, match="centre that is not zero"):
        MultigridConv.from_operator(torch.tensor([1.0, 0.0, -1.0]), 2)
    with pytest.raises(InputError, match="expected 'galerkin', or 'rescaled' with every axis halved"):
        MultigridConv.from_operator(laplacian((1.0, 1.0)), 2, coarse="rescaled", coarsen=((2, 1),))
