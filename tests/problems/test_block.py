"""The elastic block: order, exact limits, forces that balance, symmetries, and elements that somebody else assembled."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from slipstream.equations import Spectral, StaticElasticity
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.problems import ElasticBlock, LognormalMedium
from slipstream.problems.problem import Setting
from slipstream.solvers import ETDRK2, Assembled
from slipstream.solvers.elements import Elements
from slipstream.solvers.linear import LU, solve


def solved(problem, parameters, cells=None):
    """The displacement on a mesh of so many cells, at the points of the grid, (run, 2, x, y)."""
    setting = Setting(cells or problem.num_points, 0, problem._scheme(1e-11))
    past = torch.empty(len(parameters["modulus"]), 0, 2, *problem.grid.shape)
    return problem.solver(setting)(past, parameters)[:, 0]


def load(runs=1, modulus=None, pull=0.01, shear=0.0, n=8):
    even = torch.full((runs, n + 1, n + 1), 2.0, dtype=torch.float64) if modulus is None else modulus
    return {
        "modulus": even,
        "pull": torch.full((runs,), pull, dtype=torch.float64),
        "shear": torch.full((runs,), shear, dtype=torch.float64),
    }


def drawn(problem, runs=2, seed=3):
    return {k: v.double() for k, v in problem.sample_parameters(runs, seed).items()}


def everywhere_free(problem, parameters):
    """The elements of the problem with nothing held, and their coefficients."""
    A, b = problem.system(parameters)
    return Elements(A.elements.mesh, A.elements.form, fixed=()), A.parameters, b


def test_it_converges_with_second_order_where_the_modulus_is_smooth():
    # sin^2 in both directions leaves no displacement and no stress on any side, and is periodic, as is the modulus: the force that
    # holds it comes from the equation itself, by spectral derivatives.
    errors = []
    for n in (16, 32, 64):
        ring = Grid.box(n, 1.0, num_dims=2)
        x, y = 2 * math.pi * ring.coordinates(torch.float64)
        bump = (1 - torch.cos(x)) * (1 - torch.cos(y)) / 4
        u, modulus = torch.stack([bump, -0.5 * bump])[None], 2 + torch.sin(x + 0.3) * torch.cos(y)
        equation = StaticElasticity(0.25)
        force = equation.residual(u, Spectral(ring, torch.float64), equation.ready({"modulus": modulus[None]}, u))
        u, force, modulus = (closed(v) for v in (u, force, modulus[None]))
        problem = ElasticBlock(n, poisson_ratio=0.25)
        A, _ = problem.system(load(modulus=modulus))
        b = -A.elements.residual(torch.zeros_like(u).flatten(2), A.parameters, force.flatten(2)).reshape(u.shape)
        errors.append(float((solve(A, b, method=LU(), tol=1e-10).x - u).abs().max()))
    assert [math.log2(a / b) for a, b in itertools.pairwise(errors)][-1] == pytest.approx(2.0, abs=0.1)


def closed(v):
    """A periodic field with its right ends."""
    v = torch.cat([v, v[..., :1, :]], -2)
    return torch.cat([v, v[..., :1]], -1)


@pytest.mark.parametrize("cells", [4, 8, 16])
def test_a_uniform_pull_is_reproduced_to_rounding_on_every_mesh(cells):
    problem = ElasticBlock(8, poisson_ratio=0.0)
    u = solved(problem, load(pull=0.01), cells)[0]
    x, _ = problem.grid.coordinates(torch.float64)
    torch.testing.assert_close(u, torch.stack([0.01 * x / 2.0, torch.zeros_like(x)]), rtol=0, atol=1e-14)


def test_a_linear_displacement_needs_the_pull_that_hooke_says_and_nothing_else():
    # In plane strain a free side takes u_y = -nu / (1 - nu) e y, and the pull is E / (1 - nu^2) e.
    problem, stretch = ElasticBlock(8, poisson_ratio=0.3), 0.004
    x, y = problem.grid.coordinates(torch.float64)
    u = torch.stack([stretch * x, -0.3 / 0.7 * stretch * y])
    free, p, b = everywhere_free(problem, load(pull=2.0 * stretch / (1 - 0.3**2)))
    left = free.residual(u[None].flatten(2), p).reshape(b.shape) - b
    assert float(left[:, :, 1:].abs().max()) < 1e-16
    assert float(left[:, 0, 0].abs().min()) > 1e-5  # the clamp has to pull


def test_layers_across_the_pull_give_way_one_after_the_other():
    n = 16
    along = 1 + 9 * torch.rand(n + 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    problem = ElasticBlock(n, poisson_ratio=0.0)
    u = solved(problem, load(modulus=along[None, :, None].expand(1, n + 1, n + 1), pull=0.02))[0]
    cells = (along[1:] + along[:-1]) / 2
    expected = torch.cat([torch.zeros(1), (0.02 / cells / n).cumsum(0)])
    torch.testing.assert_close(u[0], expected[:, None].expand(-1, n + 1), rtol=0, atol=1e-13)


def test_rigid_motions_cost_nothing_and_need_no_clamp():
    problem = ElasticBlock(8)
    p = drawn(problem)
    x, y = problem.grid.coordinates(torch.float64)
    free, lame, _ = everywhere_free(problem, p)
    motions = (torch.stack([x * 0 + 1, y * 0 - 2]), torch.stack([-y, x]))
    for motion in motions:
        u = motion.expand(2, -1, -1, -1)
        assert float(free.energy(u.flatten(2), lame).abs().max()) < 1e-13
        assert float(problem.reactions(u[:, None], p).abs().max()) < 1e-12
    assert float(free.energy(torch.stack([y, x]).expand(2, -1, -1, -1).flatten(2), lame).min()) > 0.1


def test_matrices_are_symmetric_positive_and_what_the_operator_multiplies_with():
    problem = ElasticBlock(8)
    p = drawn(problem)
    A, b = problem.system(p)
    v = torch.randn(b.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for i in range(2):
        M = A.matrix(i).toarray()
        assert np.abs(M - M.T).max() < 1e-14 * np.abs(M).max()
        assert np.linalg.eigvalsh(M).min() > 0
        np.testing.assert_allclose(M @ v[i].flatten().numpy(), A(v)[i].flatten().numpy(), atol=1e-12)
        assert torch.equal(A[i](v[i : i + 1])[0], A(v)[i])


def test_the_clamp_bears_the_load_and_its_moment():
    problem = ElasticBlock(12)
    p = drawn(problem, 3)
    u = solved(problem, p)
    force = problem.reactions(u[:, None], p)[:, 0]
    torch.testing.assert_close(force, -torch.stack([p["pull"], p["shear"]], 1), rtol=1e-9, atol=1e-12)
    # About the origin the load turns with x t_y - y t_x: shear at x = 1, pull at y = 1/2 in the mean.
    free, lame, _ = everywhere_free(problem, p)
    at_clamp = free.residual(u.flatten(2), lame).reshape(u.shape)[:, 0, 0]
    y = problem.grid.axes[1].coordinates()
    torch.testing.assert_close(-(at_clamp * y).sum(1), -(p["shear"] - p["pull"] / 2), rtol=1e-9, atol=1e-12)


def test_twice_the_load_moves_twice_as_far_and_twice_the_modulus_half():
    problem = ElasticBlock(8)
    p = drawn(problem)
    u = solved(problem, p)
    harder = solved(problem, {**p, "modulus": 2 * p["modulus"]})
    more = solved(problem, {**p, "pull": 2 * p["pull"], "shear": 2 * p["shear"]})
    torch.testing.assert_close(harder, u / 2, rtol=1e-8, atol=1e-14)
    torch.testing.assert_close(more, 2 * u, rtol=1e-8, atol=1e-14)


def test_a_mirror_image_moves_as_in_a_mirror():
    problem = ElasticBlock(8)
    p = drawn(problem)
    u = solved(problem, p)
    mirrored = solved(problem, {**p, "modulus": p["modulus"].flip(-1), "shear": -p["shear"]}).flip(-1)
    torch.testing.assert_close(mirrored, u * torch.tensor([1.0, -1.0]).reshape(2, 1, 1), rtol=1e-8, atol=1e-13)


def test_it_agrees_with_elements_that_scikit_fem_assembled():
    import skfem
    from skfem.helpers import dot

    n, ratio = 8, 0.3
    problem = ElasticBlock(n, poisson_ratio=ratio)
    p = drawn(problem, 1)
    at = p["modulus"][0].numpy()
    cells = (at[1:, 1:] + at[1:, :-1] + at[:-1, 1:] + at[:-1, :-1]) / 4

    def modulus(x):
        return cells[tuple(np.minimum((x * n).astype(int), n - 1))]

    theirs = Assembled(problem.system(p)[0].elements.mesh, vector=True)
    matrix, b = theirs.elasticity(
        lambda x: modulus(x) * ratio / ((1 + ratio) * (1 - 2 * ratio)),
        lambda x: modulus(x) / (2 * (1 + ratio)),
        lambda x: np.zeros_like(x),
    )
    side = skfem.FacetBasis(theirs.basis.mesh, theirs.basis.elem, facets=theirs.basis.mesh.boundaries["right"])
    t = np.array([float(p["pull"]), float(p["shear"])])
    b = b + skfem.LinearForm(lambda v, w: dot(t[:, None, None] + 0 * w.x, v)).assemble(side)
    u = torch.from_numpy(theirs.at_points(theirs.solve(matrix, b, fixed=["left"]))).reshape(2, n + 1, n + 1)
    torch.testing.assert_close(solved(problem, p)[0], u, rtol=0, atol=1e-11 * float(u.abs().max()))


def test_coarser_and_finer_meshes_see_the_same_block():
    problem = ElasticBlock(8, LognormalMedium(deviation=0.5, modes=20))
    p = drawn(problem)
    own = problem.modulus(p, problem.grid)
    fine = problem.modulus(p, problem.grid.with_points([17, 17]))
    coarse = problem.modulus(p, problem.grid.with_points([5, 5]))
    torch.testing.assert_close(
        fine.unflatten(1, (8, 2)).unflatten(3, (8, 2)).mean((2, 4)), own
    )  # bilinear: the mean of four
    four = own.unflatten(1, (4, 2)).unflatten(3, (4, 2))
    assert bool((coarse <= four.mean((2, 4)) + 1e-12).all())
    assert bool((coarse >= 1 / (1 / four).mean((2, 4)) - 1e-12).all())
    torch.testing.assert_close(coarse, (four.mean((2, 4)) / (1 / four).mean((2, 4))).sqrt())


def test_numbers_that_do_not_vary_are_what_runs_without_them_get():
    fixed, given = ElasticBlock(8, pull=0.03, shear=0.001), ElasticBlock(8)
    assert fixed.varying == {}
    p = drawn(fixed)
    assert set(p) == {"modulus"}
    double = torch.float64
    told = {**p, "pull": torch.full((2,), 0.03, dtype=double), "shear": torch.full((2,), 0.001, dtype=double)}
    torch.testing.assert_close(solved(fixed, p), solved(given, told), rtol=1e-7, atol=1e-12)


def test_bad_arguments_are_refused():
    with pytest.raises(InputError, match=r"poisson_ratio from -0\.9 to 0\.45; got 0\.49"):
        ElasticBlock(poisson_ratio=0.49)
    with pytest.raises(InputError, match="pull as a number or a range"):
        ElasticBlock(pull=(2.0, 1.0))
    with pytest.raises(InputError, match="even num_points of at least 8; got 7"):
        ElasticBlock(7)
    problem = ElasticBlock(8)
    with pytest.raises(InputError, match="multiple or a divisor, got 6"):
        problem.solver(Setting(6, 0, problem.fast_setting.scheme))
    with pytest.raises(InputError, match="`Solved`"):
        problem.solver(Setting(8, 0, ETDRK2))
    with pytest.raises(InputError, match="positive modulus"):
        problem.system(load(modulus=torch.zeros(1, 9, 9, dtype=torch.float64)))
    with pytest.raises(InputError, match="pull"):
        problem.system({**load(), "pull": torch.tensor([math.nan])})
    with pytest.raises(InputError, match="Tractions mix"):
        problem.calculus(torch.zeros(1, 2, 9, 9))
