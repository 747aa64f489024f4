"""Steady linear problems: laws that all keep, manufactured solutions, physical bounds, and data that others made."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.sparse.linalg import spsolve

import slipstream as ss
from slipstream.data import Windows
from slipstream.equations.elliptic import Poisson
from slipstream.errors import InputError, ShapeError
from slipstream.grids import Grid
from slipstream.objectives import Supervised, SystemResidual
from slipstream.pretrained import describe, rebuild
from slipstream.problems import (
    DarcyColumn,
    DarcyFlow,
    ElasticBlock,
    LognormalMedium,
    MultiScaleMedium,
    PoissonPotential,
    SmoothMedium,
    SteadyLinear,
    TwoPhaseMedium,
    WaveScattering,
)
from slipstream.problems.media import frequencies, karhunen_loeve
from slipstream.problems.problem import Setting
from slipstream.solvers import ETDRK2
from slipstream.solvers.linear import CG, FastPoisson, Flat, solve
from slipstream.solvers.linear.choosing import Candidate
from slipstream.solvers.steady import Solved
from slipstream.trajectories import Window

DATA = Path(__file__).parents[2] / "examples" / "data"

CASES: dict[str, Callable[[], SteadyLinear]] = {
    "poisson-dirichlet": lambda: PoissonPotential(16, length=0.25),
    "poisson-neumann": lambda: PoissonPotential(16, boundary="neumann", length=0.25),
    "poisson-periodic": lambda: PoissonPotential(16, boundary="periodic", extent=2.0, length=0.25),
    "poisson-3d": lambda: PoissonPotential(12, num_dims=3, length=0.3),
    "darcy-two-phase": lambda: DarcyFlow(16),
    "darcy-smooth": lambda: DarcyFlow(16, SmoothMedium(deviation=0.5, length=0.4), source=3.0, extent=2.0),
    "darcy-multi-scale": lambda: DarcyFlow(16, MultiScaleMedium(deviation=0.5, octaves=2)),
    "darcy-3d": lambda: DarcyFlow(8, SmoothMedium(deviation=0.5, length=0.5), num_dims=3),
    "column-lognormal": lambda: DarcyColumn(16, LognormalMedium(modes=30)),
    "waves-open": lambda: WaveScattering(16, frequency=(0.7, 1.2)),
    "waves-closed": lambda: WaveScattering(16, frequency=1.0, boundary="dirichlet", absorption=0.1),
    "block": lambda: ElasticBlock(12, LognormalMedium(median=3.0, deviation=0.5, modes=30), refine=2),
    "waves-3d": lambda: WaveScattering(8, frequency=0.5, num_dims=3, refine=1, width=0.2),
}


@pytest.fixture(params=CASES, ids=str, scope="module")
def problem(request):
    return CASES[request.param]()


def exact(parameters):
    return {k: v.double() for k, v in parameters.items()}


def on_own_grid(problem, parameters, tolerance=1e-10):
    """The solution of the system on the problem's own grid."""
    setting = Setting(problem.fast_setting.num_points, 0, Solved(*problem.way, tolerance))
    runs = len(next(iter(parameters.values())))
    return problem.solver(setting)(torch.empty(runs, 0, len(problem.channels), *problem.grid.shape), parameters)


def test_runs_are_the_same_whatever_their_company(problem):
    frames, parameters = problem.sample(3, seed=4)
    _, alone = problem.sample([2], seed=4)
    assert frames.shape == (3, 0, len(problem.channels), *problem.grid.shape)
    assert set(parameters) >= {*problem.fields, *problem.varying}
    for name, value in parameters.items():
        assert torch.equal(value[2:], alone[name])
        assert float((value[0] - value[1]).abs().max()) > 0


def test_simulation_is_one_field_a_run_that_does_not_depend_on_company(problem):
    data = problem.simulate(2, 1, seed=4)
    assert data.frames.shape == (2, 1, len(problem.channels), *problem.grid.shape)
    assert data.frames.dtype == torch.float32
    assert data.interval == 0
    more = problem.simulate(3, 1, seed=4)
    torch.testing.assert_close(more.frames[:2], data.frames, rtol=1e-5, atol=1e-6 * float(data.frames.abs().max()))
    with pytest.raises(InputError, match="steady"):
        problem.simulate(1, 2)


def test_the_reference_states_an_error_that_its_doubled_grid_shows(problem):
    frames, parameters = problem.sample(1, seed=4)
    error = float(problem.reference_error(frames, parameters, 1))
    assert 1e-7 < error < (0.1 if problem.grid.num_dims == 3 else 0.02)


def test_the_stepper_solves_the_system_of_the_problem(problem):
    _, parameters = problem.sample(2, seed=3)
    p = exact(parameters)
    u = on_own_grid(problem, p)
    A, b = problem.system(p)
    left = problem.residual(u, p)
    assert float(left.norm()) < 1e-9 * float(b.norm())
    # And the system is what a sparse matrix of it says, solved by somebody else.
    x = torch.from_numpy(A.matrix(1).toarray() @ _flat(u[1:, 0], b).numpy())
    assert torch.allclose(x, b[1].flatten(), atol=1e-8 * float(b.abs().max()))


def _flat(u, b):
    return (torch.complex(u[:, 0], u[:, 1]) if b.is_complex() else u).flatten()


def test_the_ladder_grows_better_with_its_points(problem):
    settings = problem.ladder()
    assert len({str(s) for s in settings}) == len(settings) >= 2
    data = problem.simulate(2, 1, seed=4)
    frames, parameters = problem.sample(2, seed=4)
    best = {}
    for s in settings:
        u = problem.march(problem.solver(s, guard=False), frames, parameters, 1)
        assert u.shape == data.frames.shape
        error = float((u - data.frames).norm() / data.frames.norm())
        best[s.num_points] = min(error, best.get(s.num_points, math.inf))
    errors = [best[n] for n in sorted(best)]
    assert errors[-1] == min(errors) < 0.5 * errors[0]


def test_it_is_written_down_and_read_back(problem):
    again = rebuild(describe(problem))
    assert describe(again) == describe(problem)
    for name, value in again.sample(1, seed=0)[1].items():
        assert torch.equal(value, problem.sample(1, seed=0)[1][name])


def test_bad_parameters_are_refused(problem):
    _, parameters = problem.sample(1, seed=0)
    name = problem.fields[0]
    broken = exact(parameters)
    broken[name][0][(0,) * problem.grid.num_dims] = float("nan")
    with pytest.raises(InputError, match=name):
        problem.system(broken)
    with pytest.raises(InputError, match=f"needs the field '{name}'"):
        problem.system({k: v for k, v in parameters.items() if k != name})
    with pytest.raises(ShapeError, match=problem.fields[0]):
        problem.system({**parameters, name: parameters[name][..., :-1]})


# --- manufactured solutions -------------------------------------------------------------------------------------------------


def slope(errors):
    return [math.log2(a / b) for a, b in itertools.pairwise(errors)]


def wave(boundary, x, extent):
    if boundary == "periodic":
        return torch.sin(2 * math.pi * x / extent)
    return (torch.sin if boundary == "dirichlet" else torch.cos)(math.pi * x / extent)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic"])
def test_poisson_converges_with_second_order(boundary, dims):
    errors = []
    for n in (8, 16, 32):
        problem = PoissonPotential(n, dims, boundary, extent=1.5)
        x = problem.grid.coordinates(torch.float64)
        u = torch.stack([wave(boundary, x[i], 1.5) for i in range(dims)]).prod(0)
        f = dims * ((2 if boundary == "periodic" else 1) * math.pi / 1.5) ** 2 * u
        errors.append(float((on_own_grid(problem, {"source": f[None]})[0, 0, 0] - u).abs().max()))
    assert slope(errors)[-1] == pytest.approx(2.0, abs=0.1)


def test_darcy_converges_with_second_order_where_the_medium_is_smooth():
    errors = []
    for n in (16, 32, 64):
        problem = DarcyFlow(n)
        x, y = problem.grid.coordinates(torch.float64)
        a, u = (x + 0.5 * y).exp(), torch.sin(math.pi * x) * torch.sin(2 * math.pi * y)
        ux = math.pi * torch.cos(math.pi * x) * torch.sin(2 * math.pi * y)
        uy = 2 * math.pi * torch.sin(math.pi * x) * torch.cos(2 * math.pi * y)
        f = -a * (ux + 0.5 * uy - 5 * math.pi**2 * u)
        A, _ = problem.system({"permeability": a[None]})
        found = solve(A, f[None], method=CG(), preconditioner=FastPoisson(), tol=1e-11).x[0]
        errors.append(float((found - u).abs().max()))
    assert slope(errors)[-1] == pytest.approx(2.0, abs=0.1)


def test_waves_leave_through_open_walls_with_second_order():
    # u(x) v(y) with u = 1 + q (x - 1/2)^2 and q chosen so that du/dn = i k u at both ends.
    errors = []
    k = 2 * math.pi * 0.8
    q = 1j * k / (1 - 0.25j * k)
    for n in (16, 32, 64):
        problem = WaveScattering(n, frequency=0.8)
        x, y = problem.grid.coordinates(torch.float64)
        u, v = 1 + q * (x - 0.5) ** 2, 1 + q * (y - 0.5) ** 2
        f = -2 * q * (u + v) - k**2 * u * v
        one = torch.ones(1, n, n, dtype=torch.float64)
        A, _ = problem.system({"speed": one, "source": one})
        found = torch.from_numpy(spsolve(A.matrix(0).tocsc(), f.flatten().numpy())).reshape(n, n)
        errors.append(float((found - u * v).abs().max()))
    assert slope(errors)[-1] == pytest.approx(2.0, abs=0.1)


def test_equations_vanish_on_their_solutions_in_any_calculus():
    problem = PoissonPotential(24, boundary="periodic", length=0.3)
    x, y = problem.grid.coordinates(torch.float64)
    u = (torch.sin(2 * math.pi * x) * torch.cos(4 * math.pi * y))[None, None]
    f = 20 * math.pi**2 * u[:, 0]
    d = problem.calculus(u)
    assert float(problem.residual(u[:, None], {"source": f}, d).abs().max()) < 1e-9
    assert Poisson().residual(u, d, Poisson().ready({"source": 2 * f}, u).copy()).abs().max() > 1
    walled = DarcyFlow(48)
    x, y = walled.grid.coordinates(torch.float64)
    a = (1 + x)[None]
    v = (torch.sin(math.pi * x) * torch.sin(math.pi * y))[None, None, None]
    of_equation = walled.residual(v, {"permeability": a}, walled.calculus(v))
    of_system = walled.residual(v, {"permeability": a})
    inner = (..., slice(2, -2), slice(2, -2))
    assert float((of_equation - of_system)[inner].abs().max()) < 0.02 * float(of_system.abs().max())
    closed = WaveScattering(48, frequency=1.0, boundary="dirichlet", absorption=0.2)
    p = exact(closed.sample(1, seed=1)[1])
    w = torch.cat([v, 0.5 * v], dim=2)
    difference = closed.residual(w, p, closed.calculus(w)) - closed.residual(w, p)
    assert float(difference.abs().max()) < 1e-9 * float(closed.residual(w, p).abs().max())


# --- independent assembly and physics -----------------------------------------------------------------------------------------


def by_hand(a, h):
    """Harmonic faces, walls half a cell away, written out cell by cell."""
    n, m = a.shape
    A = scipy.sparse.lil_matrix((n * m, n * m))
    for i in range(n):
        for j in range(m):
            for di, dj in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                p, q = i + di, j + dj
                if 0 <= p < n and 0 <= q < m:
                    t = 2 / (1 / a[i, j] + 1 / a[p, q]) / h**2
                    A[i * m + j, p * m + q] -= t
                else:
                    t = 2 * a[i, j] / h**2
                A[i * m + j, i * m + j] += t
    return A.toarray()


def test_darcy_is_assembled_as_by_hand_symmetric_and_positive():
    problem = DarcyFlow(8)
    p = exact(problem.sample(1, seed=2)[1])
    A = problem.system(p)[0].matrix(0).toarray()
    np.testing.assert_allclose(A, by_hand(p["permeability"][0].numpy(), 1 / 8), rtol=1e-12)
    assert np.array_equal(A, A.T)
    assert np.linalg.eigvalsh(A).min() > 0
    waves = WaveScattering(8, frequency=0.5)
    W = waves.system(exact(waves.sample(1)[1]))[0].matrix(0).toarray()
    np.testing.assert_allclose(W, W.T, rtol=1e-14)
    # Energy leaves and never enters: the imaginary part of -u^H A u is what flows through the walls.
    assert np.linalg.eigvalsh((W - W.conj().T) / 2j).max() <= 1e-12


def test_pressure_obeys_the_maximum_principle():
    problem = DarcyFlow(32, TwoPhaseMedium(low=0.01, high=10.0))
    u = on_own_grid(problem, exact(problem.sample(3, seed=5)[1]))
    assert float(u.min()) > 0
    inside = u[..., 1:-1, 1:-1].flatten(1).amax(1)
    assert bool((inside >= u.flatten(1).amax(1)).all())
    column = DarcyColumn(32, drop=2.0)
    v = on_own_grid(column, exact(column.sample(3, seed=5)[1]))
    assert 0 < float(v.min()) < float(v.max()) < 2


def test_layers_conduct_as_their_means_say():
    a = torch.ones(1, 16, 16, dtype=torch.float64)
    a[:, 8:] = 4.0
    column = DarcyColumn(16, drop=3.0, extent=2.0)
    for field, effective in ((a, 1.6), (a.mT.contiguous(), 2.5)):  # in series the harmonic mean, side by side the mean
        p = {"permeability": field}
        assert float(column.mean_flux(on_own_grid(column, p), p)) == pytest.approx(effective * 3.0 / 2.0, rel=1e-8)


def test_the_flux_is_the_same_through_every_section_and_hardly_depends_on_the_grid():
    column = DarcyColumn(32, LognormalMedium(modes=20))
    numbers = torch.randn(4, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    fluxes = []
    for n in (32, 64):
        column = DarcyColumn(n, LognormalMedium(modes=20))
        p = {"permeability": column.medium.field(numbers, column.grid)}
        u = on_own_grid(column, p)
        fluxes.append(column.mean_flux(u, p))
        a = p["permeability"]
        faces = 2 / (1 / a[:, 1:] + 1 / a[:, :-1]) * (u[:, 0, 0, :-1] - u[:, 0, 0, 1:]) * n
        assert torch.allclose(faces.mean(2), fluxes[-1].expand(-1, n - 1), rtol=1e-7)
    assert torch.allclose(fluxes[0], fluxes[1], rtol=5e-3)


def test_modes_are_those_of_the_covariance():
    w, length = frequencies(0.2, 12), 0.2
    x = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000 - 0.5
    for i, one in enumerate(w):
        f = torch.cos(one * x) if i % 2 == 0 else torch.sin(one * x)
        at = torch.tensor([-0.37, 0.11, 0.49], dtype=torch.float64)
        left = ((-(at[:, None] - x).abs() / length).exp() * f).mean(1)
        right = 2 * length / (1 + (length * one) ** 2) * (torch.cos(one * at) if i % 2 == 0 else torch.sin(one * at))
        assert torch.allclose(left, right, atol=1e-5)
    grid = Grid.box(64, 3.0, num_dims=2, periodic=False)
    values, vectors = karhunen_loeve(grid, 0.2, 60)
    assert torch.allclose(vectors @ vectors.T / grid.size, torch.eye(60, dtype=torch.float64), atol=2e-2)
    assert bool((values[1:] <= values[:-1]).all())
    assert 0.7 < float(values.sum()) < 1.0


def test_two_phases_are_half_and_half_and_as_far_apart_as_asked():
    _, p = DarcyFlow(32).sample(64, seed=0)
    a = p["permeability"]
    assert set(a.unique().tolist()) == {3.0, 12.0}
    assert abs(float((a == 12).float().mean()) - 0.5) < 0.05


def test_fields_come_from_data_that_others_made():
    """The published small Darcy set: its permeability is known at 32 points an axis, its pressure up to a scale."""
    theirs = torch.load(DATA / "darcy_test_32.pt", weights_only=True)
    x, y = theirs["x"][:6], theirs["y"][:6].double()
    # Points lie at i / 32, so that a point's value fills the cells nearest to it; the last ones reach to the wall.
    n = 128
    nearest = torch.round((torch.arange(n) + 0.5) / n * 32).long().clamp(max=31)
    problem = DarcyFlow(n)
    a = torch.where(x, 1.0, 0.055).double()[:, nearest][:, :, nearest]
    u = on_own_grid(problem, {"permeability": a}, 1e-6)[:, 0, 0, :: n // 32, :: n // 32]
    scale = float((u * y).sum() / u.square().sum())
    assert scale == pytest.approx(2.75, abs=0.2)
    assert float((scale * u - y).norm() / y.norm()) < 0.04


# --- preconditioning, gradients, learning ---------------------------------------------------------------------------------------


def test_the_flat_preconditioner_needs_as_many_iterations_as_the_contrast_says():
    counts = []
    for n in (16, 64):
        problem = DarcyFlow(n)
        A, b = problem.system(exact(problem.sample(2, seed=1)[1]))
        result = solve(A, b, method=CG(), preconditioner=Flat(), tol=1e-8)
        assert result.converged
        counts.append(result.iterations)
    assert (
        max(counts) <= 0.5 * 2 * math.log(2 * 4 / 1e-8) + 1
    )  # sqrt(contrast) = 2, and the bound is of the energy norm
    with pytest.raises(InputError, match="Flat preconditions"):
        solve(A.matrix(0), b[0].flatten(), method=CG(), preconditioner=Flat())


@pytest.mark.parametrize("name", ["darcy-smooth", "waves-open", "block"])
def test_gradients_reach_the_medium(name):
    problem = CASES[name]()
    p = exact(problem.sample(2, seed=1)[1])
    field = problem.fields[0]
    stepper = problem.solver(Setting(problem.fast_setting.num_points, 0, Solved(*problem.way, 1e-9)))
    direction = torch.randn(p[field].shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def loss(t):
        u = stepper(
            torch.empty(2, 0, len(problem.channels), *problem.grid.shape), {**p, field: p[field] * (1 + t * direction)}
        )
        return u.square().sum() * 1e3

    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(t), t)
    with torch.no_grad():
        difference = (loss(torch.tensor(1e-4)) - loss(torch.tensor(-1e-4))) / 2e-4
    assert float(gradient) == pytest.approx(float(difference), rel=1e-3)


@pytest.mark.parametrize("name", ["darcy-two-phase", "waves-closed", "column-lognormal", "block"])
def test_the_system_residual_vanishes_for_the_solution_and_measures_the_error(name):
    problem = CASES[name]()
    _, parameters = problem.sample(3, seed=1)
    p = exact(parameters)
    truth = on_own_grid(problem, p)
    objective = SystemResidual(problem)
    window = Window(torch.empty(3, 0, *truth.shape[2:]), problem.grid, 0.0, p)

    class Says(torch.nn.Module):
        history = 0

        def __init__(self, u):
            super().__init__()
            self.u = u

        def forward(self, past, parameters):
            return self.u

    def loss(u):
        return objective(Says(u), window, torch.Generator())

    assert float(loss(truth).total) < 1e-14
    assert float(loss(torch.zeros_like(truth)).total) == pytest.approx(1.0, rel=1e-6)
    half = loss(0.5 * truth)
    assert float(half.total) == pytest.approx(0.25, rel=1e-6)
    assert half.scores is not None
    assert torch.allclose(half.scores, torch.full((3,), 0.5, dtype=half.scores.dtype))
    with pytest.raises(InputError, match="constant only"):
        SystemResidual(CASES["poisson-neumann"]()).check(torch.nn.Identity())
    with pytest.raises(InputError, match="steady linear problem"):
        SystemResidual().check(torch.nn.Identity())


@pytest.mark.parametrize("objective", [Supervised, SystemResidual])
def test_a_network_learns_it_with_and_without_labels(objective):
    torch.manual_seed(0)
    problem = DarcyFlow(16, refine=1)
    fno = partial(ss.operators.FNO, n_modes=(4, 4), hidden_channels=8, n_layers=2)
    stepper = ss.steppers.Steady(fno, problem)
    data, unseen = problem.simulate(32, 1, seed=0), problem.simulate(8, 1, seed=9)

    def error():
        with torch.no_grad():
            u = stepper(unseen.frames[:, :0], unseen.parameters)
        return float((u - unseen.frames).norm() / unseen.frames.norm())

    before = error()
    ss.train(stepper, Windows(data, 1, batch=16), objective(), steps=40, lr=2e-2)
    assert error() < 0.45 * before


def test_bad_arguments_are_refused():
    with pytest.raises(InputError, match="even num_points of at least 8; got 33"):
        DarcyFlow(33)
    with pytest.raises(InputError, match="num_dims 2 or 3; got 1"):
        PoissonPotential(num_dims=1)
    with pytest.raises(InputError, match="boundary as one of"):
        PoissonPotential(boundary="robin")
    with pytest.raises(InputError, match="positive source"):
        DarcyFlow(source=-1.0)
    with pytest.raises(InputError, match="positive drop"):
        DarcyColumn(drop=0.0)
    with pytest.raises(InputError, match="positive low"):
        TwoPhaseMedium(low=-3.0)
    with pytest.raises(InputError, match="points a wavelength"):
        WaveScattering(32, frequency=10.0)
    with pytest.raises(InputError, match="frequency as a positive number or a range"):
        WaveScattering(32, frequency=(2.0, 1.0))
    with pytest.raises(InputError, match="absorption"):
        WaveScattering(32, frequency=1.0, absorption=float("nan"))
    with pytest.raises(InputError, match="refine"):
        DarcyFlow(refine=0)
    problem = DarcyFlow(16)
    for wrong in (-1.0, 0.0):
        with pytest.raises(InputError, match="permeability"):
            problem.system({"permeability": torch.full((1, 16, 16), wrong)})
    with pytest.raises(InputError, match="multiple or a divisor, got 12"):
        problem.solver(Setting(12, 0, problem.fast_setting.scheme))
    with pytest.raises(InputError, match="`Solved`"):
        problem.solver(Setting(16, 0, ETDRK2))
    with pytest.raises(InputError, match="mean zero"):
        PoissonPotential(16, boundary="neumann").system({"source": torch.ones(1, 16, 16)})
    with pytest.raises(InputError, match="SystemResidual"):
        problem.reference_residual()
    _, p = problem.sample(2)
    hasty = Solved("CG", Candidate(CG()), 1e-9, max_iterations=3)
    with pytest.raises(InputError, match="3 iterations were not enough"):
        problem.solver(Setting(16, 0, hasty))(torch.empty(2, 0, 1, 16, 16), exact(p))
