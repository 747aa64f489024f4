"""Baselines: what each forecast gets exactly right, and what it must get wrong."""

from __future__ import annotations

import pytest
import torch

from slipstream.assessment import baselines
from slipstream.assessment.metrics import relative_l2, vrmse
from slipstream.grids import Axis, Grid
from slipstream.problems import KolmogorovFlow
from slipstream.problems.problem import Setting
from slipstream.solvers.schemes import ETDRK4
from slipstream.steppers.rolling import rollout

GRID = Grid((Axis("x", 6), Axis("y", 5, extent=2.0)))


def frames(generator, steps=7, dtype=torch.float64):
    return torch.randn(3, steps, 2, *GRID.shape, generator=generator, dtype=dtype)


def line(generator, dtype=torch.float64):
    """Fields that change at a steady pace, another one at every point."""
    start, pace = frames(generator, 2, dtype).split(1, dim=1)
    return start + pace * torch.arange(9, dtype=dtype).reshape(1, -1, 1, 1, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_persistence_repeats_the_last_known_frame(generator, dtype):
    u = frames(generator, dtype=dtype)
    forecast = baselines.persistence(u[:, :3], u[:, 3:])
    assert forecast.dtype == dtype
    assert all(torch.equal(forecast[:, i], u[:, 2]) for i in range(4))


def test_the_mean_has_vrmse_one_at_every_time(generator):
    u = frames(generator) * 3 + 5
    forecast = baselines.mean(u[:, :1], u[:, 1:])
    assert forecast.shape == u[:, 1:].shape
    assert torch.allclose(vrmse(forecast, u[:, 1:], GRID), torch.ones(3, 6, dtype=u.dtype))
    assert float(forecast.flatten(3).std(-1).max()) < 1e-12


@pytest.mark.parametrize("known", [2, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_linear_extrapolation_is_exact_on_what_moves_at_a_steady_pace(generator, known, dtype):
    u = line(generator, dtype)
    forecast = baselines.linear_extrapolation(u[:, :known], u[:, known:])
    assert forecast.dtype == dtype
    assert float(relative_l2(forecast, u[:, known:], GRID).max()) < 1e-5
    bent = u + 0.1 * torch.arange(9, dtype=dtype).square().reshape(1, -1, 1, 1, 1)
    forecast = baselines.linear_extrapolation(bent[:, :known], bent[:, known:])
    error = (forecast - bent[:, known:]).abs().amax((0, 2, 3, 4))
    ahead = torch.arange(1, 10 - known, dtype=dtype)
    assert torch.allclose(error, 0.1 * ahead * (ahead + 1), atol=1e-4), (
        "the error of a parabola's secant, h (h + 1) / 2 times u''"
    )


def test_extrapolation_needs_two_frames_and_is_left_out_without_them(generator):
    u = frames(generator)
    assert set(baselines.simple(u[:, :1], u[:, 1:])) == {"persistence", "mean"}
    assert set(baselines.simple(u[:, :2], u[:, 2:])) == {"persistence", "mean", "linear_extrapolation"}


def test_every_baseline_says_what_it_is(generator):
    u = frames(generator)
    assert baselines.WHAT.keys() == {*baselines.simple(u[:, :2], u[:, 2:]), "coarse_classical"}


@pytest.fixture(scope="module")
def problem():
    return KolmogorovFlow(num_points=32, reynolds=10.0, interval=0.05, warm_up=0.5)


def test_the_coarse_solver_has_a_quarter_of_the_points_and_half_the_steps(problem, monkeypatch):
    for fast, coarse in (((64, 6), (16, 3)), ((48, 1), (12, 1)), ((16, 4), (8, 2))):
        monkeypatch.setattr(problem, "fast_setting", Setting(*fast, ETDRK4), raising=False)
        assert baselines.coarse_setting(problem) == Setting(*coarse, ETDRK4)


def test_the_coarse_solver_is_worse_than_the_fast_one_and_better_than_nothing(problem):
    whole = problem.simulate(2, 9, seed=3)
    known, truth = whole[:, :1], whole[:, 1:]
    forecast = baselines.coarse_classical(problem, known, 8)
    assert forecast.shape == truth.frames.shape

    def error(u):
        return float(relative_l2(u, truth.frames, problem.grid)[:, -1].mean())

    fast = error(rollout(problem.solver(), known, 8).frames)
    assert 2 * fast < error(forecast) < error(baselines.persistence(known.frames, truth.frames))
