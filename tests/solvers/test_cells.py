"""Kinetics in cells: published values, equality with the dense solver, and what elimination without zeros must keep."""

from __future__ import annotations

import pytest
import torch

from slipstream.equations import NoSpace
from slipstream.equations.kinetics import SPECIES, AirPollution, MassAction, Reaction
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.pretrained import describe, rebuild
from slipstream.problems.kinetics import EMITTED, PollutedAir
from slipstream.solvers import RODAS4, RODAS5P, OdeStepper
from slipstream.solvers.cells import CellStepper, elimination

F64 = torch.float64
AIR = AirPollution()
ROBERTSON = MassAction(
    ("a", "b", "c"),
    (Reaction("a -> b", 0.04, light=True), Reaction("2 b -> b + c", 3e7), Reaction("b + c -> a + c", 1e4)),
)
# IVP test set (Mazzia & Magherini, 2008), POLLU at t = 60 min.
PUBLISHED = [
    0.5646255480022769e-01, 0.1342484130422339, 0.4139734331099427e-08, 0.5523140207484359e-02, 0.2018977262302196e-06,
    0.1464541863493966e-06, 0.7784249118997964e-01, 0.3245075353396018, 0.7494013383880406e-02, 0.1622293157301561e-07,
    0.1135863833257075e-07, 0.2230505975721359e-02, 0.2087162882798630e-03, 0.1396921016840158e-04, 0.8964884856898295e-02,
    0.4352846369330103e-17, 0.6899219696263405e-02, 0.1007803037365946e-03, 0.1772146513969984e-05, 0.5682943292316392e-04,
]  # fmt: skip


def morning(*cells: int) -> torch.Tensor:
    """The published start, everywhere: (1, species, *cells)."""
    u = torch.zeros(1, len(SPECIES), *cells, dtype=F64)
    for name, amount in EMITTED.items():
        u[:, SPECIES.index(name)] = amount
    return u


def march(stepper, u, parameters=None):
    state, frame = stepper.advance(stepper.start(u[:, None], parameters or {}), parameters or {})
    return frame[:, 0], state.stats


@pytest.mark.parametrize("method", [RODAS4, RODAS5P], ids=lambda m: m.name)
def test_published_values_of_polluted_air_are_met(method):
    u, stats = march(CellStepper(AIR, Grid(()), 60.0, 1e-5, 1e-9, method), morning())
    assert torch.allclose(u[0], torch.tensor(PUBLISHED, dtype=F64), rtol=2e-6, atol=0)
    assert int(stats["accepted"]) < 120


def test_sparse_elimination_gives_what_dense_linear_algebra_gives():
    light = torch.tensor([[0.3, 1.0, 0.0]], dtype=F64)
    u = morning(3) * torch.tensor([0.5, 1.0, 1.7], dtype=F64)
    ours, stats = march(CellStepper(AIR, Grid.box(3), 5.0, 1e-4, 1e-9, RODAS4), u, {"light": light})
    rate = lambda t, v, p: AIR.rate(v, NoSpace(), {"light": p["light"][:, None]})  # noqa: E731
    dense, theirs = march(OdeStepper(rate, 5.0, RODAS4, 1e-4, 1e-9), u[0].T, {"light": light[0]})
    assert torch.allclose(ours[0].T, dense, rtol=1e-9, atol=1e-15)
    assert torch.equal(stats["accepted"], theirs["accepted"])
    assert len(set(stats["accepted"].tolist())) > 1  # cells take steps of their own


def test_elimination_solves_any_matrix_of_its_pattern():
    torch.manual_seed(0)
    ring = {(i, (i + k) % 7) for i in range(7) for k in (0, 1, 6)}  # whatever goes first, something fills in
    plan = elimination(7, tuple(sorted(ring)))
    assert any((i, j) not in ring for p, below, right in plan.steps for i in below for j in right)
    matrix = torch.zeros(5, 7, 7, dtype=F64)
    for i, j in plan.pattern:
        matrix[:, i, j] = torch.randn(5, dtype=F64) + (6 if i == j else 0)
    right = torch.randn(7, 5, dtype=F64)
    x = plan.solve(plan.factorise({(i, j): matrix[:, i, j] for i, j in plan.pattern}), right)
    assert torch.allclose(torch.einsum("cij,jc->ic", matrix, x), right, atol=1e-12)


@pytest.mark.parametrize("equation", [AIR, ROBERTSON], ids=["air", "robertson"])
def test_slopes_are_the_derivatives_of_the_rate(equation):
    torch.manual_seed(1)
    u = 0.1 + torch.rand(1, len(equation.species), dtype=F64)
    p = equation.ready({"light": torch.tensor([0.7], dtype=F64)}, u)
    dense = torch.autograd.functional.jacobian(lambda v: equation.rate(v, NoSpace(), p)[0], u)[:, 0]
    found = torch.zeros_like(dense)
    for (i, j), value in equation.slopes(u, p).items():
        found[i, j] = value
    assert torch.allclose(found, dense, rtol=1e-12)
    assert set(equation.slopes(u, p)) == set(equation.pattern)


def test_reactions_written_as_text_are_robertsons():
    u = torch.tensor([[0.7, 1e-5, 0.3]], dtype=F64)
    a, b, c = u[0]
    expected = torch.stack([-0.04 * a + 1e4 * b * c, 0.04 * a - 1e4 * b * c - 3e7 * b * b, 3e7 * b * b])
    assert torch.allclose(ROBERTSON.rate(u, NoSpace(), ROBERTSON.ready({}, u))[0], expected, rtol=1e-13)
    assert describe(rebuild(describe(ROBERTSON))) == describe(ROBERTSON)


def test_atoms_are_kept_and_frames_may_be_single():
    problem = PollutedAir(cells=(8,), warm_up=5.0)
    frames, p = problem.sample(2, seed=0)
    new = problem.march(problem.solver(), frames.double(), p, 3)
    for name, total in AIR.invariants().items():
        before, after = (total(new[:, i], NoSpace(), {}) for i in (0, 2))
        assert torch.allclose(before, after, rtol=1e-10), name
    single = problem.march(problem.solver(), frames, p, 3)
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), new, rtol=1e-6, atol=1e-12)


def test_gradients_with_respect_to_light_are_those_of_finite_differences():
    stepper = CellStepper(AIR, Grid(()), 1.0, 1e-6, 1e-10)
    light = torch.tensor([0.8], dtype=F64, requires_grad=True)
    ozone = SPECIES.index("O3")
    (slope,) = torch.autograd.grad(march(stepper, morning(), {"light": light})[0][0, ozone], light)
    with torch.no_grad():
        ends = [march(stepper, morning(), {"light": light + s})[0][0, ozone] for s in (1e-3, -1e-3)]
    assert float(slope) == pytest.approx(float(ends[0] - ends[1]) / 2e-3, rel=1e-3)


def test_wrong_input_is_refused():
    with pytest.raises(InputError, match="names \\['X'\\]"):
        MassAction(("a",), (Reaction("a -> X", 1.0),))
    with pytest.raises(InputError, match="A \\+ B -> 2 C"):
        MassAction(("a",), (Reaction("a", 1.0),))
    with pytest.raises(InputError, match="cells"):
        PollutedAir(cells=(4, 4))
    with pytest.raises(InputError, match="light"):
        march(CellStepper(AIR, Grid(()), 1.0), morning(), {"light": torch.tensor([-1.0])})
