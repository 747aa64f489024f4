"""The word Problem: laws of every ready-made problem. A new one adds its name to CASES."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from slipstream.equations import parse
from slipstream.errors import InputError
from slipstream.pretrained import describe, rebuild
from slipstream.problems import (
    ActiveTurbulence,
    BasinWaves,
    ConvectionRolls,
    CubicSpiral,
    Custom,
    DecayingFlow,
    DiffusionSorption,
    ElasticWaves,
    FlameSlope,
    FlameSurface,
    FlowMixing,
    GrayScottPatterns,
    HeatedMaterial,
    IsotropicTurbulence,
    KolmogorovFlow,
    LidDrivenCavity,
    LorenzAttractor,
    MassiveField,
    MixingLayer,
    PhaseOrdering,
    PhaseSeparation,
    PollutedAir,
    PopulationFronts,
    PredatorPrey,
    Problem,
    Recorded,
    RelaxationOscillator,
    RobertsonKinetics,
    Solitons,
    SteepeningWaves,
    TaylorGreen,
    TracerTransport,
    UnevenMedium,
    WavePackets,
)

CASES: dict[str, Callable[[], Problem]] = {
    "kolmogorov": lambda: KolmogorovFlow(num_points=24, reynolds=25, interval=0.05, warm_up=1.0),
    "kolmogorov-varying": lambda: KolmogorovFlow(num_points=24, reynolds=(15, 30), interval=0.05, warm_up=1.0),
    "decaying": lambda: DecayingFlow(num_points=32, reynolds=40, interval=0.05, warm_up=0.2),
    "tracer": lambda: TracerTransport(num_points=32, num_dims=2, highest=3),
    "heated-material": lambda: HeatedMaterial(num_points=48, diffusivity=0.02, highest=2),
    "steepening": lambda: SteepeningWaves(num_points=128, viscosity=(0.02, 0.04), highest=2, interval=0.01),
    "solitons": lambda: Solitons(num_points=192, fastest=2.5),
    "packets": lambda: WavePackets(num_points=96),
    "flame-slope": lambda: FlameSlope(num_points=96, extent=32.0, warm_up=2.0),
    "flame-surface": lambda: FlameSurface(num_points=40, extent=12.0, warm_up=1.0),
    "fronts": lambda: PopulationFronts(num_points=96, diffusivity=(4e-3, 8e-3)),
    "ordering": lambda: PhaseOrdering(num_points=40, diffusivity=(0.03, 0.04), highest=2),
    "gray-scott": lambda: GrayScottPatterns(num_points=64, extent=0.5, warm_up=5.0, interval=2.5),
    "rolls": lambda: ConvectionRolls(num_points=40, extent=19.0, warm_up=1.0),
    "separation": lambda: PhaseSeparation(num_points=40, width=0.08, interval=5e-4, warm_up=0.002),
    "uneven": lambda: UnevenMedium(num_points=128, contrast=0.2, interval=0.05, num_dims=1),
    "massive": lambda: MassiveField(num_points=96),
    "basin": lambda: BasinWaves(num_points=32, steepness=0.02),
    "custom": lambda: Custom(
        parse("u_t = D*laplace(u) + k*u*(1 - u)", {"D": 0.05, "k": 1.0}),
        num_points=48,
        start="0.5 + 0.2*cos(x)",
        amplitude=0.1,
        varying={"k": (0.5, 1.5)},
        highest=3,
    ),
    "custom-vector": lambda: Custom(
        parse("v_t = nu*laplace(v) - advect(v, v) + [0, a*sin(x)]", {"nu": 0.2, "a": 0.5}), num_points=24, highest=2
    ),
    "cavity": lambda: LidDrivenCavity(num_points=16, reynolds=(20, 50), eddies=2),
    "lorenz": lambda: LorenzAttractor(interval=0.02, warm_up=1.0),
    "predators": lambda: PredatorPrey(),
    "relaxation": lambda: RelaxationOscillator(damping=(1.0, 4.0), interval=0.05),
    "robertson": lambda: RobertsonKinetics(interval=2.0),
    "spiral": lambda: CubicSpiral(interval=0.05),
    "polluted-air": lambda: PollutedAir(cells=(8,), interval=2.0, warm_up=30.0),
    "active": lambda: ActiveTurbulence(num_points=24, moments=2, interval=0.1, order=0.05, highest=1),
    "taylor-green": lambda: TaylorGreen(num_points=12, reynolds=(5, 10)),
    "mixing": lambda: FlowMixing(num_points=48, strength=(1.0, 2.0)),
    "mixing-vortex": lambda: FlowMixing(num_points=64, strength=(1.0, 2.0), cells=0, sharpness=1.0),
    "elastic": lambda: ElasticWaves(num_points=32, contrast=0.1, highest=2, interval=0.025),
    "sorption": lambda: DiffusionSorption(num_points=48, freundlich=(3e-4, 4e-4), warm_up=50.0),
    "mixing-layer": lambda: MixingLayer(num_points=40, reynolds=(8, 10), thickness=0.08, detail=2),
    "isotropic-2d": lambda: IsotropicTurbulence(num_points=32, reynolds=(8, 10), peak=2.0, num_dims=2),
    "isotropic": lambda: IsotropicTurbulence(num_points=12, reynolds=(4, 5), peak=1.0),
}


@pytest.fixture(params=CASES, ids=str, scope="module")
def problem(request):
    return CASES[request.param]()


def test_runs_are_the_same_whatever_their_company(problem):
    frames, parameters = problem.sample(3, seed=4)
    alone, its = problem.sample([2], seed=4)
    assert torch.equal(frames[2:], alone)
    assert all(torch.equal(parameters[k][2:], its[k]) for k in parameters)
    other, _ = problem.sample(1, seed=5)
    assert not torch.equal(other, alone)


def test_trajectories_start_with_the_sample_and_move(problem):
    data = problem.simulate(2, 5, seed=4)
    frames, _ = problem.sample(2, seed=4)
    assert torch.equal(data.frames[:, :1], frames)
    assert data.frames.dtype == torch.float32
    assert data.interval == problem.interval
    change = (data.frames[:, 1:] - data.frames[:, :-1]).flatten(2).norm(dim=-1) / data.frames[:, 1:].flatten(2).norm(
        dim=-1
    )
    assert float(change.min()) > 1e-4
    assert set(data.parameters) == {*problem.varying, *problem.fields}


def test_parameters_stay_in_their_ranges_and_differ(problem):
    _, parameters = problem.sample(8, seed=1)
    for name, (low, high) in problem.varying.items():
        assert low * 0.999 <= float(parameters[name].min()) < float(parameters[name].max()) <= high * 1.001


def test_the_reference_states_an_error_far_below_a_step(problem):
    frames, parameters = problem.sample(2, seed=4)
    error = problem.reference_error(frames, parameters, 4)
    data = problem.simulate(2, 5, seed=4)
    moved = float((data.frames[:, -1] - data.frames[:, 0]).norm() / data.frames[:, -1].norm())
    assert error.shape == (4,)
    assert float(error.max()) < 0.02 * moved


def test_the_reference_solves_its_equation(problem):
    if isinstance(problem, LidDrivenCavity):
        pytest.skip("a staggered rate has the error of its own grid: test_staggered.py")
    assert problem.reference_residual() < 0.05


def test_the_ladder_holds_cheap_and_accurate_settings(problem):
    settings = problem.ladder()
    assert len(settings) >= 8
    assert len({str(s) for s in settings}) == len(settings)
    frames, parameters = problem.sample(2, seed=4)
    data = problem.simulate(2, 3, seed=4)
    best = 1.0
    for s in [s for s in settings if s.num_points == max(r.num_points for r in settings)]:
        new = problem.march(problem.solver(s, guard=False), frames, parameters, 3)
        best = min(best, float((new - data.frames).norm() / data.frames.norm()))
    assert best < 2e-3


def test_it_is_written_down_and_read_back(problem):
    again = rebuild(describe(problem))
    assert torch.equal(again.sample(1, seed=0)[0], problem.sample(1, seed=0)[0])


def test_rates_agree_with_the_plain_form_where_both_resolve(problem):
    if isinstance(problem, LidDrivenCavity):
        pytest.skip("a staggered rate is held against the spectral one in solvers/test_projection.py")
    if isinstance(problem, DiffusionSorption):
        pytest.skip("a rate between walls is held against the faces of the solver in test_sorption.py")
    data = problem.simulate(1, 3, seed=4)
    d = problem.calculus(data.frames.double())
    u = d.truncate(data.frames[:, -1].double())
    plain = problem.equation.rate(u, d, problem.equation.ready(data.parameters, u))
    atol = 1e-5 * float(plain.abs().max()) if problem.fields else 1e-10  # fields are given in single precision
    assert torch.allclose(d.truncate(problem.rate(u, data.parameters)), d.truncate(plain), atol=atol)


def test_recorded_problems_know_what_data_say():
    data = CASES["kolmogorov-varying"]().simulate(3, 4, seed=0)
    problem = Recorded.of(data)
    assert problem.grid == data.grid
    assert set(problem.varying) == {"viscosity"}
    assert problem.statistics.std[0] == pytest.approx(float(data.frames.std()), rel=1e-3)
    with pytest.raises(InputError, match="no classical solver"):
        problem.solver()
    assert describe(rebuild(describe(problem))) == describe(problem)


def test_bad_arguments_are_refused():
    with pytest.raises(InputError, match="num_points"):
        KolmogorovFlow(num_points=33)
    with pytest.raises(InputError, match="reynolds"):
        KolmogorovFlow(reynolds=-1)
    with pytest.raises(InputError, match="interval"):
        KolmogorovFlow(interval=0)
    with pytest.raises(InputError, match="even num_points of at least 8; got 6"):
        FlameSlope(num_points=6)
    with pytest.raises(InputError, match="positive extent"):
        Solitons(extent=-1.0)
    with pytest.raises(InputError, match="positive extent"):
        PhaseOrdering(extent=float("nan"))
    with pytest.raises(InputError, match="viscosity as a positive number or a range"):
        SteepeningWaves(viscosity=(0.1, 0.01))
    with pytest.raises(InputError, match="asymmetry as a number or a range"):
        ConvectionRolls(asymmetry=(0.1, 0.2, 0.3))
    with pytest.raises(InputError, match="num_dims 1, 2 or 3; got 4"):
        TracerTransport(num_dims=4)
    with pytest.raises(InputError, match="warm_up"):
        FlameSurface(warm_up=-1.0)
    with pytest.raises(InputError, match=r"contrast in \[0, 1\)"):
        UnevenMedium(contrast=1.0)
    with pytest.raises(InputError, match="no parameter 'q'"):
        Custom(parse("u_t = u_xx"), varying={"q": (1, 2)})
    with pytest.raises(InputError, match="one start, or one for each"):
        Custom(parse("u_t = u_xx"), start=["x", "1"])
    with pytest.raises(InputError, match="Only coordinates"):
        Custom(parse("u_t = u_xx"), start="dx(sin(x))*value")
    with pytest.raises(InputError, match="has 2 axes"):
        Custom(parse("u_t = laplace(u)", num_dims=2), num_dims=1)
    with pytest.raises(InputError, match="runs=0"):
        CASES["decaying"]().simulate(0, 3)
