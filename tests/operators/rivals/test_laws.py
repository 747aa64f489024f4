"""Rivals at points: what each represents exactly, and the laws that all keep."""

from __future__ import annotations

import pytest
import torch

from slipstream.errors import InputError
from slipstream.operators.law import PointwiseLaw
from slipstream.operators.rivals import RBF, PolynomialLaw, SecantLaw, TableLaw
from slipstream.operators.rivals.polynomial import exponents

CASES = {
    "polynomial": lambda: PolynomialLaw(3, 2, degree=3),
    "table": lambda: TableLaw(3, 2, num_points=(3, 4, 2)),
    "rbf": lambda: RBF(3, 2, num_centres=60),
    "rbf-gaussian": lambda: RBF(3, 2, num_centres=60, kernel="gaussian", nugget=1e-6),
    "secant-polynomial": lambda: SecantLaw(PolynomialLaw(3, 1, degree=3), symmetries=((0, 1),)),
    "secant-table": lambda: SecantLaw(TableLaw(3, 1, num_points=4), symmetries=((0, 1),)),
}


def points(count=200, seed=0):
    return 4 * torch.rand(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1.5


def smooth(x):
    return torch.stack([x[:, 0] * (1 + x[:, 2] ** 2).log1p(), x[:, 1] * (1 + x[:, 2] ** 2).log1p()], dim=1)


@pytest.fixture(params=CASES, ids=str)
def law(request):
    return CASES[request.param]().double().fit(points(), smooth(points()))


def test_a_fit_follows_its_samples_and_knows_their_box(law):
    x = points(100, seed=1)
    error = float((law(x) - smooth(x)).norm() / smooth(x).norm())
    assert error < 0.3
    assert isinstance(law, PointwiseLaw)
    assert bool(law.inside(points()).all())
    assert not bool(law.inside(points() + 4.1).any())


def test_tangents_agree_with_finite_differences(law):
    x, h = points(20, seed=2), 1e-6
    y, tangent = law.linearised(x)
    torch.testing.assert_close(y, law(x))
    for axis in range(2):
        step = h * torch.eye(3, dtype=torch.float64)[axis]
        difference = (law(x + step) - law(x - step)) / (2 * h)
        torch.testing.assert_close(tangent[..., axis], difference, rtol=1e-5, atol=1e-5)


def test_saving_and_loading_changes_no_bit(law, tmp_path):
    law.save_pretrained(tmp_path / "law")
    again = PointwiseLaw.from_pretrained(tmp_path / "law")
    assert type(again) is type(law)
    assert torch.equal(again(points()), law(points()))


def test_single_precision_is_kept_and_agrees(law):
    x = points(30, seed=3)
    y = law(x)
    single = law.float()(x.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), y, rtol=2e-3, atol=2e-3)


def cubic(x):
    a, b, c = x.unbind(1)
    return torch.stack([1 + a * b * c - 2 * b**3 + a**2, c - b * c**2], dim=1)


def test_a_polynomial_of_the_degree_is_met_exactly_with_as_many_samples_as_terms():
    index = exponents(3, 3)
    assert len(index) == len(set(index)) == 20
    assert max(map(sum, index)) == 3
    law = PolynomialLaw(3, 2, degree=3).double().fit(points(20), cubic(points(20)))
    x = points(50, seed=1)
    torch.testing.assert_close(law(x), cubic(x), rtol=1e-7, atol=1e-7)
    lower = PolynomialLaw(3, 2, degree=2).double().fit(points(), cubic(points()))
    assert float((lower(x) - cubic(x)).norm() / cubic(x).norm()) > 0.05
    with pytest.raises(InputError, match="20 terms"):
        PolynomialLaw(3, 2, degree=3).fit(points(19).float(), cubic(points(19)).float())
    with pytest.raises(InputError, match="apart"):
        PolynomialLaw(3, 2, degree=3).double().fit(points(5).repeat(5, 1), cubic(points(5)).repeat(5, 1))


def test_least_squares_leaves_residuals_that_no_term_explains():
    weight = torch.rand(200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    law = PolynomialLaw(3, 2, degree=2).double().fit(points(), cubic(points()), weight)
    left = law.terms(points()).mT @ (weight[:, None] * (law(points()) - cubic(points())))
    assert float(left.abs().max()) < 1e-10


def multilinear(x):
    a, b, c = x.unbind(1)
    return torch.stack([1 + a - b * c + 2 * a * b * c, c + a * b], dim=1)


def test_a_table_is_exact_on_multilinear_functions_from_nodes_or_scattered_samples():
    low, high = torch.tensor([-1.5, -1.5, -1.0]).double(), torch.tensor([2.5, 2.5, 2.0]).double()
    x = points(50, seed=1).clamp(max=2.0, min=-1.0)
    filled = TableLaw(3, 2, num_points=(2, 5, 3)).double().fill(multilinear, low, high)
    torch.testing.assert_close(filled(x), multilinear(x), rtol=1e-10, atol=1e-10)
    fitted = TableLaw(3, 2, num_points=(2, 3, 2)).double().fit(points(400), multilinear(points(400)))
    torch.testing.assert_close(fitted(x), multilinear(x), rtol=1e-6, atol=1e-6)


def test_a_table_converges_to_second_order_and_ends_at_its_edge():
    low, high = torch.full((3,), -1.5).double(), torch.full((3,), 2.5).double()
    x = points(300, seed=1)
    laws = [TableLaw(3, 2, n).double().fill(smooth, low, high) for n in (9, 17, 33)]
    errors = [float((law(x) - smooth(x)).norm()) for law in laws]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.3)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.3)
    torch.testing.assert_close(laws[0](high[None] + 1), smooth(high[None]))


@pytest.mark.parametrize("kernel", ["cubic", "thin_plate", "gaussian"])
def test_radial_functions_go_through_their_samples_and_keep_linear_functions(kernel):
    x = points(80)
    law = RBF(3, 2, num_centres=80, kernel=kernel).double().fit(x, smooth(x))
    torch.testing.assert_close(law(x), smooth(x), rtol=1e-6, atol=1e-6)

    def plane(z):
        return torch.stack([1 + z[:, 0] - z[:, 2], 3 * z[:, 1]], dim=1)

    law.fit(x, plane(x))
    far = 3 * points(20, seed=1)
    torch.testing.assert_close(law(far), plane(far), rtol=1e-5, atol=1e-5)
    loose = RBF(3, 2, num_centres=80, kernel=kernel, nugget=0.1).double().fit(x, smooth(x))
    assert float((loose(x) - smooth(x)).abs().max()) > 1e-4


def test_coinciding_centres_are_refused():
    x = points(30)[[*range(29), 0]]
    with pytest.raises(InputError, match="coincide"):
        RBF(3, 2, num_centres=30).double().fit(x, smooth(points(30)))
    with pytest.raises(InputError, match="num_centres=12"):
        RBF(3, 2, num_centres=20).fit(points(12).float(), smooth(points(12)).float())
    with pytest.raises(InputError, match="kernel"):
        RBF(kernel="hat")


def test_the_secant_form_keeps_mirrors_and_the_exchange_of_the_axes():
    law = CASES["secant-polynomial"]().double().fit(points(), smooth(points()))
    x = points(30, seed=1)
    flip = torch.tensor([-1.0, 1.0, 1.0]).double()
    assert torch.equal(law(x * flip), law(x) * flip[:2])
    torch.testing.assert_close(law(x[:, [1, 0, 2]]), law(x).flip(1))
