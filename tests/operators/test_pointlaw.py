"""PointLaw: exact symmetries, tangents, the potential form, the fit."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from slipstream.errors import InputError, ShapeError
from slipstream.operators.law import levenberg_marquardt
from slipstream.operators.pointlaw import PointLaw

FORMS = {
    "secant": {},
    "secant-deep": {"width": 9, "depth": 3},
    "secant-unlike-axes": {"symmetries": ()},
    "potential": {"potential": True, "terms": 2},
    "potential-unlike-axes": {"potential": True, "symmetries": (), "width": 7},
}


def inputs(count=40):
    x = 4 * torch.rand(count, 5, generator=torch.Generator().manual_seed(5), dtype=torch.float64) - 2
    return x


@pytest.fixture(params=FORMS, ids=str)
def law(request):
    made = PointLaw(**FORMS[request.param]).double()
    with torch.no_grad():
        made.scale.fill_(1.3)
        made.centre.copy_(torch.randn(5))
        made.centre[:4] = made.centre[[0, 0, 2, 2]]  # inputs that trade places share their units
        made.spread.copy_(1 + torch.rand(5))
        made.spread[:4] = made.spread[[0, 0, 2, 2]]
    return made


def test_mirrors_hold_whatever_the_weights(law):
    x = inputs()
    for axis in range(2):
        mirror = torch.ones(5).double()
        mirror[axis] = -1
        assert torch.equal(law(x * mirror), law(x) * mirror[:2])


def test_an_exchange_of_the_axes_holds_where_it_is_asked_for_and_not_otherwise(law):
    x = inputs()
    exchanged, flux = law(x[:, [1, 0, 3, 2, 4]]).detach(), law(x).detach().flip(1)
    if law.symmetries:
        torch.testing.assert_close(exchanged, flux, rtol=1e-13, atol=1e-13)
    else:
        assert float((exchanged - flux).abs().max()) > 1e-2


def test_no_gradient_no_flux_and_flux_runs_down_the_gradient(law):
    x = inputs()
    assert bool(((law(x) * x[:, :2]) > 0).all())
    x[:, :2] = 0
    assert float(law(x).abs().max()) == 0


def test_closed_tangents_are_the_derivative_of_the_flux(law, monkeypatch):
    x = inputs()
    flux, tangent = law.linearised(x)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda p: law(p[None])[0]))(x)
    torch.testing.assert_close(flux, law(x), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(tangent, jacobian[..., :2], rtol=1e-10, atol=1e-12)
    monkeypatch.setattr("slipstream.operators.pointlaw.CHUNK_POINTS", 7)
    torch.testing.assert_close(law.linearised(x)[1], tangent, rtol=1e-12, atol=1e-13)


def test_the_potential_form_has_symmetric_positive_tangents_far_beyond_its_samples(law):
    x = inputs(400)
    x[:, :2] *= 50
    tangent = law.linearised(x)[1]
    if law.potential:
        assert torch.equal(tangent, tangent.mT)
        assert float(torch.linalg.eigvalsh(tangent).min()) > 0
        loop = torch.linspace(0, 2 * torch.pi, 2001, dtype=torch.float64)[:-1]
        path = torch.stack([2 + loop.cos(), 1 + 3 * loop.sin()], dim=1)
        around = torch.cat([path, x[:1, 2:].expand(2000, 3)], dim=1)
        along = torch.stack([-loop.sin(), 3 * loop.cos()], dim=1)
        assert abs(float((law(around) * along).sum(1).mean())) < 1e-10 * float(law(around).norm(dim=1).mean())
    else:
        assert float((tangent - tangent.mT).abs().max()) > 1e-2


def known(x):
    """A hardening, anisotropic law with a convex potential: q = G (p + (1 - p) |G|^2 / (1 + |G|^2)) stretched along one axis."""
    stretched = x[:, :2] * (1.5 + 0.3 * x[:, 2:4])
    size = stretched.square().sum(1, keepdim=True)
    k = (0.3 * x[:, 4:]).exp() * (2 - 1 / (1 + size))
    return x[:, :2] * k * (1.5 + 0.3 * x[:, 2:4]) ** 2


@pytest.mark.parametrize("potential", [False, True])
def test_a_fit_learns_a_law_in_seconds(potential):
    law = PointLaw(width=10, potential=potential, terms=2)
    x, unseen = inputs(600).float(), inputs(900)[600:].float()
    law.fit(x, known(x), steps=25)
    error = float((law(unseen) - known(unseen)).detach().norm() / known(unseen).norm())
    assert error < 0.02
    assert next(law.parameters()).dtype == torch.float32
    assert bool(law.inside(x).all())
    assert not bool(law.inside(1.5 * x[x.abs().amax(1) > 1.9]).any())


def test_the_fit_never_gets_worse_and_starts_from_its_seed():
    x = inputs(200)
    laws = [PointLaw(width=6).fit(x.float(), known(x).float(), steps=4, seed=s) for s in (1, 1, 2)]
    assert torch.equal(laws[0](x.float()), laws[1](x.float()))
    assert not torch.equal(laws[0](x.float()), laws[2](x.float()))
    losses = levenberg_marquardt(laws[0], x, known(x), torch.ones(200), steps=6)
    assert all(b < a for a, b in pairwise(losses))


def test_a_step_is_the_gauss_newton_step_of_the_whole_sample_however_it_is_cut():
    x = inputs(100)
    a, b = (PointLaw(width=4).double() for _ in range(2))
    b.load_state_dict(a.state_dict())
    one = levenberg_marquardt(a, x, known(x), torch.rand(100, generator=torch.Generator().manual_seed(0)), 3, rows=100)
    two = levenberg_marquardt(b, x, known(x), torch.rand(100, generator=torch.Generator().manual_seed(0)), 3, rows=13)
    assert one == pytest.approx(two, rel=1e-6)


def test_saving_and_loading_changes_no_bit(law, tmp_path):
    x = inputs()
    law.save_pretrained(tmp_path / "law")
    again = PointLaw.from_pretrained(tmp_path / "law")
    assert torch.equal(again(x), law(x))
    assert torch.equal(again.low, law.low)


def test_double_and_single_precision_agree_and_gradients_reach_features(law):
    x = inputs()
    torch.testing.assert_close(law.float()(x.float()).double(), law.double()(x), rtol=1e-4, atol=1e-4)
    x.requires_grad_()
    law.linearised(x)[0].sum().backward()
    assert bool((x.grad.abs().amax(0) > 0).all())


def test_what_makes_no_sense_is_refused(law):
    with pytest.raises(ShapeError, match=r"\(point, 5\)"):
        law(torch.ones(3, 4).double())
    with pytest.raises(InputError, match=r"\(0, 1\)"):
        PointLaw(symmetries=((2, 3),))
    with pytest.raises(InputError, match="pairs"):
        PointLaw(symmetries=((0, 2),))
    with pytest.raises(InputError, match="non-finite"):
        law.fit(inputs() * float("nan"), torch.ones(40, 2).double())


def test_the_exchange_is_exact_after_a_fit_too():
    """What normalises the inputs is computed from samples, and must not tell the axes apart by its rounding."""
    x = torch.rand(200, 5, generator=torch.Generator().manual_seed(1)) - 0.5
    law = PointLaw(width=5).fit(x, x[:, :2] * (1 + x[:, 2:3].square()), steps=2).double()
    z = x.double()
    assert torch.equal(law(z[:, [1, 0, 3, 2, 4]]).flip(1), law(z))
