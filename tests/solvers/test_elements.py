"""Finite elements: the two ways agree to the last digit, errors fall with their order, and gradients are right."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from slipstream.errors import InputError, ShapeError, UnstableStep
from slipstream.meshes import Mesh
from slipstream.solvers.elements import Darcy, Elasticity, Elements, Helmholtz


def bent(cells: tuple[int, int], quads: bool = False) -> Mesh:
    m = Mesh.rectangle(cells, (1.0, 1.0), quads=quads)
    x, y = m.points.T
    return Mesh(torch.stack([x + 0.08 * torch.sin(3 * y + x), y + 0.07 * torch.cos(4 * x)], 1), m.cells, m.boundaries)


def ell(quads: bool = False) -> Mesh:
    """The L-shaped domain."""
    m = Mesh.rectangle((4, 4), quads=quads)
    return Mesh.trimmed(m.points, m.cells[(m.points[m.cells].mean(1) < 0.5).any(1)])


def tetrahedra() -> Mesh:
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
    paths = [[0, 4, 6, 7], [0, 6, 2, 7], [0, 2, 3, 7], [0, 3, 1, 7], [0, 1, 5, 7], [0, 5, 4, 7]]
    return Mesh(corners + 0.05 * torch.sin(5 * corners.roll(1, 1)), torch.tensor(paths)).refine()


MESHES = {"triangles": bent((4, 3)), "quads": bent((4, 3), True), "tetrahedra": tetrahedra(), "ell": ell()}
FORMS = {"darcy": Darcy(), "helmholtz": Helmholtz(), "elasticity": Elasticity()}


@pytest.fixture(params=MESHES, ids=str)
def mesh(request):
    return MESHES[request.param]


@pytest.fixture(params=FORMS, ids=str)
def form(request):
    return FORMS[request.param]


def coefficients(form, mesh, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        k: 0.5 + torch.rand(batch, len(mesh.cells), generator=generator, dtype=torch.float64) for k in form.coefficients
    }


def field(elements, batch=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, elements.channels, elements.mesh.size, generator=generator, dtype=torch.float64)


def product(matrix, u):
    """Of a matrix on (point, channel) with one field (channel, point)."""
    flat = torch.from_numpy(matrix @ u.mT.flatten().numpy())
    return flat.unflatten(0, (u.shape[1], u.shape[0])).mT


def test_the_operator_is_its_matrix(mesh, form):
    elements = Elements(mesh, form, fixed=())
    p, u = coefficients(form, mesh), field(elements)
    left = elements.residual(u, p)
    for run in range(2):
        a = elements.matrix(p, run)
        torch.testing.assert_close(left[run], product(a, u[run]), rtol=0, atol=1e-12 * float(abs(a).max()) * 10)
        assert abs(a - a.T).max() < 1e-13 * abs(a).max()
    single = elements.residual(u.float(), {k: v.float() for k, v in p.items()})
    torch.testing.assert_close(single.double(), left, rtol=0, atol=1e-5 * float(left.abs().max()))


def test_the_residual_is_the_slope_of_the_energy(mesh, form):
    elements = Elements(mesh, form, fixed=())
    p, u, f = coefficients(form, mesh), field(elements).requires_grad_(), field(elements, seed=2)
    (slope,) = torch.autograd.grad(elements.energy(u, p, f).sum(), u)
    torch.testing.assert_close(slope, elements.residual(u, p, f).detach(), rtol=1e-10, atol=1e-12)


def test_solutions_leave_no_residual_and_keep_what_is_given(mesh, form):
    elements = Elements(mesh, form)
    p, f, given = coefficients(form, mesh), field(elements), field(elements, seed=3)
    u = elements.solve(p, f, given)
    held = ~elements.free
    assert torch.equal(u[..., held], given[..., held])
    assert float(elements.residual(u, p, f).abs().max()) < 1e-10
    assert float(elements.free.sum()) > 0


def test_gradients_of_solutions_are_those_of_differences(form):
    mesh = bent((4, 3))
    elements = Elements(mesh, form)
    p, f, given = coefficients(form, mesh, 1), field(elements, 1), field(elements, 1, 3)
    weight = field(elements, 1, 4)
    leaves = {**p, "f": f, "given": given}
    for name, leaf in leaves.items():
        direction, h = torch.randn(leaf.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64), 1e-5

        def value(x, name=name):
            now = {**leaves, name: x}
            return (elements.solve({k: now[k] for k in p}, now["f"], now["given"]) * weight).sum()

        x = leaf.clone().requires_grad_()
        value(x).backward()
        difference = (value(leaf + h * direction) - value(leaf - h * direction)) / (2 * h)
        torch.testing.assert_close((x.grad * direction).sum(), difference, rtol=1e-6, atol=1e-9)


def test_a_linear_displacement_passes_the_patch_test():
    for mesh in (bent((4, 3)), bent((4, 3), True), tetrahedra()):
        elements = Elements(mesh, Elasticity())
        p = {
            k: torch.full((1, len(mesh.cells)), v, dtype=torch.float64)
            for k, v in (("lame_lambda", 2.0), ("lame_mu", 0.7))
        }
        slope = torch.arange(1.0, 1 + mesh.num_dims**2, dtype=torch.float64).reshape(mesh.num_dims, -1).roll(1, 0)
        exact = (slope @ mesh.points.T)[None]
        torch.testing.assert_close(elements.solve(p, given=exact), exact, rtol=0, atol=1e-11)


def test_rigid_motions_cost_nothing(mesh):
    elements = Elements(mesh, Elasticity(), fixed=())
    p = coefficients(Elasticity(), mesh)
    spin = torch.zeros(mesh.num_dims, mesh.num_dims, dtype=torch.float64)
    spin[0, 1], spin[1, 0] = 1.0, -1.0
    motion = (spin @ mesh.points.T + 3.0).expand(2, -1, -1)
    assert float(elements.energy(motion, p).abs().max()) < 1e-13
    assert float(elements.energy(torch.rand_like(motion), p).min()) > 1e-3


def test_a_singular_system_and_bad_arguments_are_refused():
    mesh = bent((3, 3))
    elements = Elements(mesh, Darcy(), fixed=("left",))
    assert bool((elements.free.nonzero()[:, 0][:, None] != mesh.boundary("left")).all())
    with pytest.raises(InputError, match="conductivity"):
        elements.residual(field(elements), {"k": torch.ones(2, len(mesh.cells))})
    with pytest.raises(ShapeError, match="one value a cell"):
        elements.residual(field(elements), {"conductivity": torch.ones(2, 5)})
    with pytest.raises(InputError, match="no boundary"):
        Elements(mesh, Darcy(), fixed=("nowhere",))
    with pytest.raises(UnstableStep, match="fix u"):
        elements.solve({"conductivity": torch.zeros(1, len(mesh.cells), dtype=torch.float64)})


# ---- order of convergence, and scikit-fem --------------------------------------------------------------------------------------------


def wave(x):
    return np.sin(2.1 * x[0] + 0.3) * np.cos(1.7 * x[1])


def sag(x):
    return np.stack([np.sin(2.0 * x[0]) * x[1], np.cos(1.5 * x[1]) * x[0]])


def sag_load(x, lam=1.3, mu=0.8):
    """Minus the divergence of the stress of `sag`, worked out by hand."""
    div_x = -4.0 * np.sin(2 * x[0]) * x[1] - 1.5 * np.sin(1.5 * x[1])
    div_y = 2.0 * np.cos(2 * x[0]) - 2.25 * np.cos(1.5 * x[1]) * x[0]
    lap = np.stack([-4.0 * np.sin(2 * x[0]) * x[1], -2.25 * np.cos(1.5 * x[1]) * x[0]])
    return -((lam + mu) * np.stack([div_x, div_y]) + mu * lap)


def conductivity(x):
    return 1.0 + 0.5 * x[0]


def wave_load(x):
    slope_x = 2.1 * np.cos(2.1 * x[0] + 0.3) * np.cos(1.7 * x[1])
    return conductivity(x) * (2.1**2 + 1.7**2) * wave(x) - 0.5 * slope_x


CASES = {
    "darcy": (False, wave, lambda a: a.darcy(conductivity, wave_load)),
    "helmholtz": (False, wave, lambda a: a.helmholtz(lambda x: 3.0, lambda x: (2.1**2 + 1.7**2 - 9.0) * wave(x))),
    "elasticity": (True, sag, lambda a: a.elasticity(lambda x: 1.3, lambda x: 0.8, sag_load)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("domain", ["ell", "bent quads"])
def test_errors_of_references_fall_with_the_order(case, order, domain):
    pytest.importorskip("skfem")
    from slipstream.solvers.assembled import Assembled

    vector, exact, system = CASES[case]
    mesh = ell() if domain == "ell" else bent((4, 3), True)
    errors = []
    for times in (0, 1, 2):
        a = Assembled(mesh.refine(times), order, vector)
        errors.append(a.error(a.solve(*system(a), given=exact), exact))
    slopes = [math.log2(x / y) for x, y in pairwise(errors)]
    assert slopes[-1] == pytest.approx(order + 1, abs=0.2), slopes


@pytest.mark.parametrize("case", CASES)
def test_the_two_assemblies_agree(case):
    pytest.importorskip("skfem")
    from slipstream.solvers.assembled import Assembled

    form = FORMS[case]
    constant = {"conductivity": 1.7, "wavenumber": 2.0, "lame_lambda": 1.3, "lame_mu": 0.8}
    # Sheared: on quadrilaterals that are no parallelograms both quadratures are inexact, and differ.
    plain = Mesh.rectangle((4, 3), quads=True)
    sheared = Mesh(plain.points @ torch.tensor([[1.0, 0.2], [0.3, 1.1]], dtype=torch.float64), plain.cells)
    for mesh in (ell(), sheared, tetrahedra()):
        a = Assembled(mesh, 1, case == "elasticity")
        values = [constant[k] for k in form.coefficients]
        theirs, _ = getattr(a, case)(
            *[lambda x, v=v: v for v in values], (lambda x: 0 * x) if a.vector else (lambda x: 0 * x[0])
        )
        elements = Elements(mesh, form, fixed=())
        p = {k: torch.full((1, len(mesh.cells)), constant[k], dtype=torch.float64) for k in form.coefficients}
        ours = elements.matrix(p)
        order = a.basis.nodal_dofs.T.flatten()  # theirs in (point, channel)
        assert abs(theirs[order][:, order] - ours).max() < 1e-12 * abs(ours).max()


def test_answers_at_points_and_bad_words_of_references():
    pytest.importorskip("skfem")
    from slipstream.solvers.assembled import Assembled

    for order, vector, f in ((1, False, wave), (2, False, wave), (2, True, sag)):
        a = Assembled(ell(), order, vector)
        np.testing.assert_allclose(a.at_points(a.interpolated(f)), f(ell().points.T.numpy()), atol=1e-12)
    with pytest.raises(InputError, match="orders 1 and 2"):
        Assembled(ell(), 3)
    with pytest.raises(InputError, match="vector=True"):
        Assembled(ell()).elasticity(lambda x: 1.0, lambda x: 1.0, sag)
    b = Assembled(bent((3, 3)))
    system = b.darcy(conductivity, wave_load)
    with pytest.raises(InputError, match="no boundary"):
        b.solve(*system, fixed=["nowhere"])
