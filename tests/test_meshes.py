"""Meshes: weights that integrate, refinement that keeps the domain, location that finds, and refusals."""

from __future__ import annotations

import math

import pytest
import torch

from slipstream.errors import InputError, ShapeError
from slipstream.meshes import Mesh

TETRA = Mesh(
    torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1.2]]),
    torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]]),
    {"floor": torch.tensor([[0, 1, 2]])},
)


def bent(quads: bool) -> Mesh:
    """An irregular mesh: a rectangle whose points were moved smoothly."""
    m = Mesh.rectangle((5, 4), (1.5, 1.0), quads=quads)
    x, y = m.points.T
    moved = torch.stack([x + 0.08 * torch.sin(3 * y + x), y + 0.07 * torch.cos(4 * x)], 1)
    return Mesh(moved, m.cells, m.boundaries)


MESHES = {"triangles": bent(False), "quads": bent(True), "tetrahedra": TETRA}


@pytest.fixture(params=MESHES, ids=str)
def mesh(request):
    return MESHES[request.param]


def linear(points):
    return 2.0 + points @ torch.arange(1.0, 1 + points.shape[1], dtype=torch.float64)


def by_refinement(mesh, f):
    """An integral by midpoints of very small cells: independent of the weights."""
    fine = mesh.refine(4 if mesh.num_dims == 2 else 3)
    return float((fine.cell_volumes * f(fine.points[fine.cells].mean(1))).sum())


def test_weights_integrate_what_shape_functions_span(mesh):
    w = mesh.cell_weights(torch.float64)
    assert float(w.sum()) == pytest.approx(mesh.volume, rel=1e-12)
    assert float((w * linear(mesh.points)).sum()) == pytest.approx(by_refinement(mesh, linear), rel=1e-4)
    assert w.shape == mesh.shape
    assert mesh.coordinates().shape == (mesh.num_dims, mesh.size)


def test_the_area_of_a_polygon_is_that_of_the_shoelace_formula():
    m = bent(True)
    sides = m.boundaries
    there = [sides["bottom"][:, 0], sides["right"][:, 0]]
    back = [sides["top"].flip(0)[:, 1], sides["left"].flip(0)[:, 1]]
    ring = torch.cat([*there, *back])
    x, y = m.points[ring].T
    area = 0.5 * float((x * y.roll(-1) - x.roll(-1) * y).sum())
    assert m.volume == pytest.approx(area, rel=1e-12)
    assert bent(False).volume == pytest.approx(area, rel=1e-12)


def test_refinement_keeps_domain_boundaries_and_first_points(mesh):
    fine = mesh.refine()
    assert len(fine.cells) == 2**mesh.num_dims * len(mesh.cells)
    assert fine.volume == pytest.approx(mesh.volume, rel=1e-12)
    assert torch.equal(fine.points[: mesh.size], mesh.points)
    assert len(fine.boundary_facets) == 2 ** (mesh.num_dims - 1) * len(mesh.boundary_facets)
    for name, facets in mesh.boundaries.items():
        assert len(fine.boundaries[name]) == 2 ** (mesh.num_dims - 1) * len(facets)
    assert len(torch.unique(fine.points, dim=0)) == fine.size
    # Each inner facet is shared by two cells, or the mesh would have cracks.
    inner = len(fine.cells) * (3 if fine.kind == "triangle" else 4) - len(fine.boundary_facets)
    assert inner % 2 == 0


def test_points_are_found_and_linear_fields_are_met_exactly(mesh):
    generator = torch.Generator().manual_seed(0)
    fine = mesh.refine()
    chosen = torch.randint(len(fine.cells), (500,), generator=generator)
    share = torch.rand(500, fine.cells.shape[1], generator=generator, dtype=torch.float64)
    share = share / share.sum(1, keepdim=True)
    q = (share[..., None] * fine.points[fine.cells[chosen]]).sum(1)
    cell, shapes = fine.locate(q)
    assert bool((cell == chosen).all())
    torch.testing.assert_close((shapes[..., None] * fine.points[fine.cells[cell]]).sum(1), q, rtol=0, atol=1e-9)
    u = torch.stack([linear(fine.points), -linear(fine.points)])[None]
    torch.testing.assert_close(fine.interpolate(u, q)[0, 0], linear(q), rtol=0, atol=1e-8)
    assert bool(fine.inside(fine.points).all())


def test_the_inside_test_agrees_with_winding_numbers():
    m = bent(False).refine()
    generator = torch.Generator().manual_seed(1)
    q = 2.4 * torch.rand(3000, 2, generator=generator, dtype=torch.float64) - 0.4
    edges = m.points[m.boundary_facets]
    a, b = edges[:, 0] - q[:, None], edges[:, 1] - q[:, None]
    turn = torch.atan2(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0], (a * b).sum(-1)).sum(1) / (2 * math.pi)
    assert torch.equal(m.inside(q), turn.abs() > 0.5)
    assert 0.1 < float(m.inside(q).double().mean()) < 0.9
    assert not bool(
        m.inside(torch.tensor([[torch.nan, 0.0], [torch.inf, 0.0], [1e9, -1e9]], dtype=torch.float64)).any()
    )
    assert bool(m.interpolate(torch.ones(1, m.size), q)[0].isnan().eq(~m.inside(q)).all())


def test_a_hole_is_outside():
    m = Mesh.rectangle((3, 3), (3.0, 3.0), quads=True)
    middle = (m.points[m.cells].mean(1) - 1.5).norm(dim=1) > 0.1
    ring = Mesh.trimmed(m.points, m.cells[middle], m.boundaries)
    assert ring.volume == pytest.approx(8.0)
    assert ring.inside(torch.tensor([[1.5, 1.5], [0.5, 1.5], [1.0, 1.5]], dtype=torch.float64)).tolist() == [
        False,
        True,
        True,
    ]
    assert len(ring.boundary_facets) == 16


def test_boundaries_are_found_by_name(mesh):
    name = next(iter(mesh.boundaries))
    assert torch.equal(mesh.boundary(name), torch.unique(mesh.boundaries[name]))
    assert set(mesh.boundary(name).tolist()) <= set(mesh.boundary().tolist())
    with pytest.raises(InputError, match="no boundary"):
        mesh.boundary("nowhere")


def test_bad_meshes_are_refused(mesh):
    p, c = mesh.points, mesh.cells
    worse = p.clone()
    worse[1, 0] = torch.nan
    with pytest.raises(InputError, match="point 1"):
        Mesh(worse, c)
    turned = c.clone()
    turned[1] = turned[1][[1, 0, *range(2, c.shape[1])]]
    with pytest.raises(InputError, match="the first is cell 1 "):
        Mesh(p, turned)
    with pytest.raises(InputError, match=f"the first is point {len(p)};"):
        Mesh(torch.cat([p, p[:1]]), c)
    with pytest.raises(InputError, match="there are"):
        Mesh(p, c + 1)
    with pytest.raises(InputError, match="3D"):
        Mesh(p, c[:, :2])
    with pytest.raises(InputError, match="do not lie on the boundary"):
        Mesh(p, c, {"inner": c[:1, :1].expand(-1, mesh.num_dims).contiguous()})
    with pytest.raises(ShapeError, match="facets of"):
        Mesh(p, c, {"points": c[:, :1]})
    with pytest.raises(ShapeError, match="points"):
        mesh.interpolate(torch.zeros(3), p)
    with pytest.raises(ShapeError, match="locate"):
        mesh.locate(p[:, :1])


def test_a_quadrilateral_that_is_not_convex_is_refused():
    with pytest.raises(InputError, match="not convex"):
        Mesh(torch.tensor([[0.0, 0], [1, 0], [0.3, 0.3], [0, 1]]), torch.tensor([[0, 1, 2, 3]]))


@pytest.mark.parametrize("kind", ["MeshTri", "MeshQuad", "MeshTet"])
def test_meshes_of_scikit_fem_come_and_go(kind):
    skfem = pytest.importorskip("skfem")
    theirs = getattr(skfem, kind)().refined(2).with_defaults()
    ours = Mesh.from_skfem(theirs)
    assert ours.volume == pytest.approx(1.0)
    assert set(ours.boundaries) == set(theirs.boundaries)
    assert bool((ours.points[ours.boundary("left")][:, 0] == 0).all())
    again = Mesh.from_skfem(ours.to_skfem())
    assert torch.equal(again.points, ours.points)
    assert {k: torch.unique(v).tolist() for k, v in again.boundaries.items()} == {
        k: torch.unique(v).tolist() for k, v in ours.boundaries.items()
    }


def test_files_are_read(tmp_path):
    meshio = pytest.importorskip("meshio")
    m = bent(False)
    points = torch.cat([m.points, torch.tensor([[9.0, 9.0]])])  # the centre of some arc
    flat = torch.nn.functional.pad(points, (0, 1)).numpy()
    turned = m.cells.clone()
    turned[::2] = turned[::2].flip(1)
    meshio.write(tmp_path / "plate.inp", meshio.Mesh(flat, [("triangle", turned.numpy())]))
    found = Mesh.read(tmp_path / "plate.inp")
    assert found.volume == pytest.approx(m.volume)
    assert found.size == m.size
    lines = m.boundaries["left"].numpy()
    tags = {
        "gmsh:physical": [[2] * len(turned), [1] * len(lines)],
        "gmsh:geometrical": [[1] * len(turned), [1] * len(lines)],
    }
    named = {"left": [1, 1], "plate": [2, 2]}
    whole = meshio.Mesh(flat, [("triangle", turned.numpy()), ("line", lines)], cell_data=tags, field_data=named)
    meshio.write(tmp_path / "plate.msh", whole, file_format="gmsh22", binary=False)
    found = Mesh.read(tmp_path / "plate.msh")
    assert list(found.boundaries) == ["left"]
    assert found.boundaries["left"].sort(0).values.tolist() == m.boundaries["left"].sort(0).values.tolist()
    with pytest.raises(InputError, match="could not be read"):
        Mesh.read(tmp_path / "nothing.msh")
