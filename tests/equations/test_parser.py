"""Equations from text: the same as those written by hand, as few transforms, and clear refusals."""

from __future__ import annotations

import pytest
import sympy
import torch

from slipstream.equations import (
    Burgers,
    DampedWave,
    Equation,
    FisherKPP,
    GrayScott,
    KuramotoSivashinsky,
    KuramotoSivashinskyFront,
    NonlinearDiffusion,
    Parameter,
    Spectral,
    VorticityFlow,
    evaluation,
    parse,
)
from slipstream.equations.parser import values_of
from slipstream.errors import InputError, ShapeError
from slipstream.grids import Grid
from slipstream.pretrained import describe, rebuild
from slipstream.solvers import ETDRK2, ETDRK4, SpectralStepper

GRAY_SCOTT = """
    a_t = Da*laplace(a) - a*b**2 + F*(1 - a)
    b_t = Db*laplace(b) + a*b**2 - (F + k)*b
"""
VORTICITY = "w_t = nu*laplace(w) - m*w - advect([-dy(inverse_laplace(w)), dx(inverse_laplace(w))], w)"

PAIRS: dict[str, tuple[str, dict, Equation, int, int]] = {
    "burgers": ("u_t = nu*u_xx - u*u_x", {"nu": 0.05}, Burgers(0.05), 1, 2),
    "burgers-2d": ("u_t = nu*laplace(u) - advect(u, u)", {"nu": 0.05}, Burgers(0.05, 2), 2, 8),
    "ks": ("u_t = -u_xx - u_xxxx - dx(u**2)/2", {}, KuramotoSivashinsky(), 1, 2),
    "front": (
        "h_t = -laplace(h) - laplace(laplace(h)) - inverse_laplace(laplace(dot(grad(h), grad(h))))/2",
        {},
        KuramotoSivashinskyFront(),
        2,
        3,
    ),
    "fisher": ("u_t = D*laplace(u) + r*u*(1 - u)", {"D": 0.1, "r": 0.7}, FisherKPP(0.1, 0.7), 1, 2),
    "gray-scott": (
        GRAY_SCOTT,
        {"Da": 0.2, "Db": 0.1, "F": 0.04, "k": 0.06},
        GrayScott(0.04, 0.06, 0.2, 0.1),
        2,
        3,
    ),
    "diffusion": (
        "u_t = D*laplace(u + a*u**2/2 + b*u**3/3)",
        {"D": 0.1, "a": 0.5, "b": 0.3},
        NonlinearDiffusion(0.1, 0.5, 0.3),
        2,
        3,
    ),
    "vorticity": (VORTICITY, {"nu": 0.05, "m": 0.1}, VorticityFlow(0.05, 0.1), 2, 5),
    "wave": ("u_t = v; v_t = c**2*laplace(u) - g*v", {"c": 0.8, "g": 0.1}, DampedWave(0.8, 0.1, 2), 2, 0),
}
"""Text, parameters, the class that says the same, axes, transforms an evaluation."""


def smooth(channels: int, grid: Grid, highest: float = 3.0) -> torch.Tensor:
    d = Spectral(grid, torch.float64)
    u = d.inverse((d.square.sqrt() <= highest) * d.forward(torch.randn(2, channels, *grid.shape, dtype=torch.float64)))
    return 0.5 * (u - u.mean((-1,), keepdim=True).mean()) / u.std()


@pytest.mark.parametrize("name", PAIRS)
def test_text_says_the_same_as_the_class_in_no_more_transforms(name):
    text, parameters, by_hand, dims, transforms = PAIRS[name]
    equation = parse(text, parameters, num_dims=dims)
    assert equation.dealias == by_hand.dealias
    grid = Grid.box([20, 18][:dims])
    d, u = Spectral(grid, torch.float64), smooth(len(equation.channels), grid)
    u = u - u.flatten(2).mean(-1).reshape(2, -1, *[1] * dims)
    p, q = equation.ready({}, u), by_hand.ready({}, u)
    rate = by_hand.rate(u, d, q)
    scale = float(rate.abs().max())
    assert torch.allclose(d.truncate(equation.rate(u, d, p)), d.truncate(rate), atol=1e-11 * scale)
    linear, exact = equation.linear(grid, p), by_hand.linear(grid, q)
    assert (linear is None) == (exact is None)
    if exact is not None:
        assert torch.allclose(linear.expand_as(d.forward(u)), exact.expand_as(d.forward(u)).to(linear.dtype), atol=1e-9)
    assert equation._plan.transforms <= transforms
    steps = [SpectralStepper(e, grid, 0.1, 4, ETDRK4, guard=False) for e in (equation, by_hand)]
    new, old = (next(s.march(u[:, None], {})) for s in steps)
    assert torch.allclose(new, old, atol=1e-9)


def count(monkeypatch, call) -> int:
    """Fields transformed, in either direction."""
    done = [0]

    def counting(function):
        def wrapped(a, *args, **kwargs):
            done[0] += a.shape[1]
            return function(a, *args, **kwargs)

        return wrapped

    with monkeypatch.context() as m:
        for name in ("rfftn", "irfftn"):
            m.setattr(torch.fft, name, counting(getattr(torch.fft, name)))
        call()
    return done[0]


@pytest.mark.parametrize("name", PAIRS)
def test_an_evaluation_makes_the_transforms_that_the_plan_promises(name, monkeypatch):
    text, parameters, _, dims, _ = PAIRS[name]
    equation = parse(text, parameters, num_dims=dims)
    d = Spectral(Grid.box([12, 10][:dims]), torch.float64)
    u = smooth(len(equation.channels), d.grid)
    form, p, u_hat = equation.form(d), equation.ready({}, u), d.forward(u)
    form.nonlinear(u_hat, p)
    assert count(monkeypatch, lambda: form.nonlinear(u_hat, p)) == equation._plan.transforms


TOGETHER = {
    "carried": ("v_t = laplace(v) - advect(v, v)", 2, True),
    "carried and eaten": ("v_t = laplace(v) - advect(v, v) - dot(v, v)*v", 3, True),
    "two scalars": ("u_t = u_xx - u*w*u_x; w_t = w_xx - u*w*w_x", 1, True),
    "carried by a slope of a product": ("u_t = u_xx - u*dx(u**2*w); w_t = w_xx - w*dx(u**2*w)", 1, True),
    "unlike coefficients": ("u_t = u_xx - u*u_x; w_t = w_xx - 2*u*w_x - u_x*w", 1, False),
    "the same pieces twice": ("u_t = u_xx - u*u_x - w**2; w_t = w_xx - u*w_x - u_x*w", 1, False),
    "one product, two signs": ("u_t = u_xx - u*w**2; w_t = w_xx + 3*u*w**2", 1, False),
    "one product, one taker": ("u_t = u_xx - u*w**2; w_t = w_xx", 1, False),
}


@pytest.mark.parametrize("name", TOGETHER)
def test_evaluating_channels_together_gives_the_same_as_each_alone(name, monkeypatch):
    text, dims, expected = TOGETHER[name]
    equation, grid = parse(text, num_dims=dims), Grid.box(12, 5.0, num_dims=dims)
    d = Spectral(grid, torch.float64)
    u = torch.randn(2, len(equation.channels), *grid.shape, dtype=torch.float64)
    u_hat, p = d.forward(u), equation.ready({}, u)
    together = equation.form(d).nonlinear(u_hat, p)
    assert (equation._bound[d]._together is not None) == expected
    monkeypatch.setattr(evaluation, "_together", lambda plan, *_: (None, set(plan.atoms)))
    alone = parse(text, num_dims=dims).form(d).nonlinear(u_hat, p)
    torch.testing.assert_close(together, alone)
    d_kept = d.inverse(d.kept * u_hat)  # as the equation says it, term by term
    by_calculus = d.kept * d.forward(equation.rate(d_kept, d, p)) - equation.linear(grid, p) * d.kept * u_hat
    torch.testing.assert_close(together, by_calculus)


def test_linear_systems_are_stepped_exactly():
    grid = Grid.box(16)
    x = grid.coordinates(torch.float64)[0]
    psi = torch.stack([torch.cos(3 * x), torch.sin(3 * x)])[None]
    equation = parse("a_t = -0.5*b_xx; b_t = 0.5*a_xx")
    new = next(SpectralStepper(equation, grid, 2.0, 1, ETDRK2).march(psi[:, None], {}))[0, 0]
    assert torch.allclose(new, torch.stack([torch.cos(3 * x - 9.0), torch.sin(3 * x - 9.0)]), atol=1e-12)


def test_forcing_fields_and_functions_of_coordinates_are_what_they_say():
    grid = Grid.box([16, 15])
    x, y = grid.coordinates(torch.float64)
    f = torch.cos(2 * x) + torch.sin(y)
    equation = parse("u_t = c*laplace(u) + f*u**2 + f + exp(sin(x))*tanh(u) - 3*y", {"c": 0.1, "f": f})
    u = torch.sin(x + y)[None, None]
    d = Spectral(grid, torch.float64)
    p = equation.ready({}, u)
    expected = -0.2 * u + d.truncate(f * u**2 + torch.exp(torch.sin(x)) * torch.tanh(u)) + f - 3 * y
    assert torch.allclose(equation.rate(u, d, p), expected, atol=1e-9)
    total = equation.nonlinear(d.forward(u), d, p) + equation.linear(grid, p) * d.forward(u) + equation.force(d, p)
    assert torch.allclose(d.inverse(total), expected, atol=1e-9)
    fine = Grid.box([32, 30])
    assert torch.allclose(equation.ready({}, u.new_zeros(1, 1, 32, 30))["f"][0, 0, ::2, ::2], f, atol=1e-12)
    xs, ys = fine.coordinates(torch.float64)
    assert torch.allclose(equation.ready({}, u.new_zeros(1, 1, 32, 30))["f"][0, 0], torch.cos(2 * xs) + torch.sin(ys))
    own = {"f": torch.stack([f, 2 * f])}
    assert equation.ready(own, u)["f"].shape == (2, 1, 16, 15)
    assert torch.allclose(
        values_of("exp(-(x - 3)**2)*cos(pi*y)/2", grid), torch.exp(-((x - 3) ** 2)) * torch.cos(torch.pi * y) / 2
    )


def test_speeds_limit_steps_as_by_hand():
    grid = Grid.box([16, 15])
    d, u = Spectral(grid, torch.float64), smooth(2, grid)
    assert torch.allclose(parse("v_t = -advect(v, v)", num_dims=2).speed(u, d, {}), Burgers(0.1, 2).speed(u, d, {}))
    assert torch.allclose(
        parse("u_t = -3*dx(u**2)", num_dims=2).speed(u[:, :1], d, {})[:, 0], (6 * u[:, :1]).abs().flatten(1).amax(1)
    )
    assert parse("u_t = u_xx + u**2").speed(u[:, :1, :, 0], d, {}) is None


def test_it_is_saved_as_its_text():
    equation = parse(
        ["u_t = D*u_xx + s*u**2 + f"], {"D": Parameter("m^2/s", 0.1, low=0.0), "s": None, "f": torch.ones(8)}
    )
    again = rebuild(describe(equation))
    assert describe(again) == describe(equation)
    assert again.parameters["D"].unit == "m^2/s"
    assert again.parameters["s"].default is None
    assert torch.equal(again.fields["f"], torch.ones(8))
    with pytest.raises(InputError, match="needs the parameter 's'"):
        again.ready({}, torch.zeros(1, 1, 8))


def test_sympy_and_latex_say_the_same():
    equation = parse("u_t = D*laplace(u) - u*u_x + sin(x)*sqrt(k)", {"D": 0.1, "k": 2.0})
    (eq,) = equation.to_sympy()
    t, x, D, k = sympy.symbols("t x D k")
    u = sympy.Function("u")(t, x)
    expected = D * u.diff(x, 2) - u * u.diff(x) + sympy.sin(x) * sympy.sqrt(k)
    assert sympy.simplify(eq.rhs - expected) == 0
    assert eq.lhs == u.diff(t)
    assert r"\frac{\partial^{2}}{\partial x^{2}}" in equation.to_latex()
    assert len(parse("v_t = nu*laplace(v) - advect(v, v)", {"nu": 1.0}, 2).to_sympy()) == 2


REFUSED = {
    "u_t = D*laplace(uu)": r"Unknown symbol 'uu'. Did you mean 'u'\?(?s:.*)\^ column 17",
    "u_t = v_x": r"derivative of 'v', which has no equation(?s:.*)v_t = (?s:.*)column 7",
    "u_t = laplace(u": r"no expression(?s:.*)column 14",
    "u_t = u^2": r"Powers are written \*\*",
    "u_t = lapace(u)": r"no function 'lapace'. Did you mean 'laplace'\?",
    "u_t = __import__('os').system('true')": "not part of the language|called by name|no function",
    "u_t = (lambda: 1)()": "called by name",
    "u_t = u.__class__": "not part of the language",
    "u_t = [i for i in u]": "not part of the language",
    "u_t = 'text'": "no number",
    "u_t = True*u": "no number",
    "u_t = u if u else 1": "not part of the language",
    "u_t = laplace(u, 2)": "takes 1 argument",
    "u_t = laplace": r"laplace\(...\)",
    "u_t = sin(t)": "must not depend on the time",
    "u = 1": "left side is the time derivative",
    "u_t": "needs '='",
    "u_t =": "right side is empty",
    "x_t = 1": "left side",
    "u_t = u; u_t = 2*u": "more than one equation",
    "u_t = div(u) + u": "cannot be added",
    "u_t = u**u": "a scalar and a number",
    "u_t = log(0)": "no finite number",
    "u_t = 9e999": "too large",
    "u_t = 10**400*u": "no finite number",
    "u_t = (u + 1)**8*(u + x + 2)**8*(u + x + y + 3)**8": "more than 400 terms",
    "u_t = é": "ASCII",
    "": "no equation in the text",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_not_understood_is_refused_with_place_and_remedy(text):
    with pytest.raises(InputError, match=REFUSED[text]):
        parse(text, {"D": 1.0} if "D" in text else None, num_dims=2)


@pytest.mark.parametrize(
    "text",
    [
        "u_t = -laplace(u)",
        "u_t = u_xxxx",
        "u_t = D*u_xx",
        "u_t = v; v_t = -u_xx",
        "u_t = u_xx - 2*u_yy + u_xy",
        "u_t = u_xx + 3*u_xy + u_yy",
    ],
)
def test_ill_posed_equations_are_refused(text):
    with pytest.raises(InputError, match="ill-posed"):
        parse(text, {"D": -0.1} if "D" in text else None)


@pytest.mark.parametrize(
    "text",
    [
        "u_t = -u_xx - u_xxxx",
        "u_t = u_xxx",
        "u_t = v; v_t = u_xx",
        "a_t = -b_xx; b_t = a_xx",
        "u_t = 5*u + u_x",
        "u_t = u_xx + u_xy + u_yy",
        "u_t = u**2",
    ],
)
def test_well_posed_equations_are_not(text):
    assert parse(text).channels


def test_long_text_and_deep_nesting_end_in_an_error_and_not_in_a_crash():
    with pytest.raises(InputError, match="too long"):
        parse("u_t = " + "u + " * 2000 + "u")
    with pytest.raises(InputError, match=r"nested too deeply|no expression"):
        parse("u_t = " + "(" * 1500 + "u" + ")" * 1500)
    with pytest.raises(InputError, match="nested too deeply"):
        parse("u_t = " + "-" * 3000 + "u")


def test_arguments_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"\['q'\] are given but do not occur"):
        parse("u_t = u_xx", {"q": 1.0})
    with pytest.raises(InputError, match="cannot be called 'x'"):
        parse("u_t = u_xx", {"x": 1.0})
    with pytest.raises(InputError, match="both an unknown and a parameter"):
        parse("u_t = u_xx", {"u": 1.0})
    with pytest.raises(InputError, match="speaks of 2 axes"):
        parse("u_t = u_xx + u_yy", num_dims=1)
    with pytest.raises(ShapeError, match="field 'f'"):
        parse("u_t = u_xx + u_yy + f", {"f": torch.ones(8)})


@pytest.mark.parametrize(
    ("text", "dealias"),
    [
        ("u_t = u_xx + u - u**3", False),
        ("u_t = -u_xxxx + u_xx + sin(u)", False),
        ("u_t = laplace(u) - laplace(laplace(u)) + u_y - u**3", False),
        ("u_t = u_xx - u_y - u**3", True),  # along y nothing damps it
        ("u_t = u_xx + dx(u**2)", True),  # what folds over is carried on
        ("u_t = u_xx + u*u_xx", True),
        ("u_t = v; v_t = u_xx - u**3", True),  # nothing damps it
        ("u_t = u_xx - u*v; v_t = u*v", True),
        ("u_t = -v_xx - v*(u**2 + v**2); v_t = u_xx + u*(u**2 + v**2)", True),
    ],
)
def test_products_are_dealiased_unless_they_only_react_beside_diffusion(text, dealias):
    assert parse(text).dealias is dealias
