"""`fit`: data in, the best stepper out; nothing judged on what it learnt from, and the sentence says what came out."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

import slipstream as ss
from slipstream.assessment import fitting
from slipstream.assessment.assessment import Assessment
from slipstream.channels import as_channels
from slipstream.errors import InputError
from slipstream.operators import UNet
from slipstream.stepper import Stepper
from slipstream.steppers import DMD, Affine, Held, Persistence

GRID = ss.Grid.box(16, num_dims=1)
SMALL = partial(UNet, hidden_channels=4, levels=1, output_scale=0.1)


def marked(runs: int, steps: int) -> ss.Trajectories:
    """Every frame holds its own number: run * 1000 + time."""
    numbers = 1000.0 * torch.arange(runs)[:, None] + torch.arange(steps)
    frames = numbers[:, :, None, None].expand(runs, steps, 1, 16).clone()
    return ss.Trajectories(frames, GRID, 0.5, as_channels(["u"]), {"nu": torch.arange(float(runs))})


def waves(runs: int = 1, steps: int = 60) -> ss.Trajectories:
    """Travelling waves with decay: linear dynamics, which DMD has exactly."""
    x = GRID.coordinates(torch.float64)[0]
    t = 0.1 * torch.arange(steps, dtype=torch.float64)[:, None]
    phase = torch.arange(1.0, runs + 1, dtype=torch.float64)[:, None, None]
    u = torch.exp(-0.1 * t) * torch.sin(x - t + phase) + torch.exp(-0.4 * t) * torch.sin(2 * (x - 2 * t) * 1.0)
    return ss.Trajectories(u[:, :, None].float(), GRID, 0.1, as_channels(["u"]))


@pytest.mark.parametrize(("runs", "steps"), [(1, 60), (2, 40), (1, 12), (10, 30), (5, 3), (20, 1), (3, 100)])
def test_the_three_parts_share_no_frame_and_all_of_them_are_frames_of_the_data(runs, steps):
    parts = fitting.parted(marked(runs, steps), history=2 if steps > 3 else 1)
    seen = [set(p.frames[..., 0].flatten().tolist()) for p in (parts.train, parts.choose, parts.test)]
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]
    everything = set(marked(runs, steps).frames[..., 0].flatten().tolist())
    assert seen[0] | seen[1] | seen[2] <= everything
    assert len(seen[0]) >= 0.5 * len(everything)
    for part in (parts.train, parts.choose, parts.test):
        of_run = torch.div(part.frames[:, :, 0, 0], 1000, rounding_mode="floor")
        assert torch.equal(of_run, part.parameters["nu"][:, None].expand_as(of_run)), "conditions stay with their runs"
        assert (part.frames[:, 1:] - part.frames[:, :-1] == 1).all(), "pieces are consecutive frames"


def test_time_is_cut_in_order():
    parts = fitting.parted(marked(2, 40))
    last = [float((p.frames[..., 0] % 1000).max()) for p in (parts.train, parts.choose, parts.test)]
    first = [float((p.frames[..., 0] % 1000).min()) for p in (parts.train, parts.choose, parts.test)]
    assert last[0] < first[1] <= last[1] < first[2]
    assert last[2] == 39.0


@pytest.mark.parametrize(("runs", "steps", "words"), [(1, 11, "12 frames"), (4, 1, "5"), (4, 11, "12 frames")])
def test_too_little_data_are_refused(runs, steps, words):
    with pytest.raises(InputError, match=words):
        fitting.parted(marked(runs, steps))


def fitted(data, **more) -> fitting.Fit:
    return ss.fit(data, steps=3, operator=SMALL, batch=4, show=False, **more)


def test_linear_dynamics_are_given_to_the_linear_model_and_the_sentence_says_so():
    result = fitted(waves())
    assert isinstance(result.stepper, DMD)
    assert isinstance(result.report, Assessment)
    assert result.sentence.startswith("The linear model (rank ")
    assert "is the best" in result.sentence
    assert result.chosen_by["linear"] == min(result.chosen_by.values()) < 1e-3
    assert {"network", "persistence"} < set(result.report.metrics)


def test_of_a_random_walk_persistence_is_what_you_get():
    steps = torch.randn(1, 60, 1, 16, generator=torch.Generator().manual_seed(0))
    data = ss.Trajectories(steps.cumsum(1), GRID, 0.1, as_channels(["u"]))
    result = fitted(data)
    assert isinstance(result.stepper, Persistence)
    assert result.sentence.startswith("Nothing beats persistence, which is what you get: a mean error of ")
    assert result.chosen_by["persistence"] == min(result.chosen_by.values())


def test_a_network_that_beats_all_is_what_you_get():
    """Handed in as the operator: the exact answer to dynamics that no linear map of one frame has."""

    class Exact(ss.operators.Operator):
        def __init__(self, in_channels=1, out_channels=1, num_dims=1, num_scalars=0):
            super().__init__()
            self.in_channels, self.out_channels, self.num_dims, self.num_scalars = (
                in_channels,
                out_channels,
                num_dims,
                num_scalars,
            )
            self.size = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x, scalars=None):
            return self.size * x[:, :1] + x[:, 1:2] - x[:, :1]

    x = GRID.coordinates(torch.float64)[0]
    t = torch.arange(60.0, dtype=torch.float64)[:, None]
    frames = (torch.sin(x) + 0.05 * t * torch.cos(3 * x) + 0.05 * t).float()[None, :, None]
    data = ss.Trajectories(frames, GRID, 1.0, as_channels(["u"]))
    problem = ss.problems.Recorded.of(data)
    stepper = ss.steppers.Autoregressive(Exact, problem, history=2)
    candidates = {"network": stepper, "persistence": Persistence(GRID, 1.0, ["u"])}
    parts = fitting.parted(data, 2)
    errors = {n: fitting._error(s, parts.choose) for n, s in candidates.items()}
    scale = float(stepper.jump(1).flatten()[0]) / float(stepper.std.flatten()[0])
    assert scale != pytest.approx(1.0)
    assert errors["network"] < errors["persistence"]
    report = ss.verify(stepper, parts.test, runs=parts.test.runs)
    assert fitting._sentence("network", candidates, parts, report).startswith("The network (1 parameters) is the best")


def test_a_choice_that_the_unseen_rest_does_not_bear_out_is_said():
    parts = fitting.parted(waves())
    zero = ss.steppers.wrap(lambda u: 0 * u, 0.1, ["u"])
    report = ss.verify(zero, parts.test, runs=parts.test.runs, ladder=False)
    sentence = fitting._sentence(
        "network", {"network": zero, "persistence": Persistence(GRID, 0.1, ["u"])}, parts, report
    )
    assert "does not beat persistence" in sentence
    assert "Do not rely on it" in sentence


def test_the_same_call_gives_the_same_numbers():
    one, two = fitted(waves()), fitted(waves())
    assert one.chosen_by == two.chosen_by
    assert one.sentence == two.sentence
    assert fitted(waves(), seed=1).chosen_by["network"] != one.chosen_by["network"]


def test_a_file_is_enough_and_the_result_can_be_kept(tmp_path):
    data = waves(1, 40)
    np.savez(
        tmp_path / "measurements.npz",
        x=data.grid.axes[0].coordinates().numpy(),
        t=data.times.numpy(),
        u=data.frames[0, :, 0].numpy(),
    )
    result = fitted(tmp_path / "measurements.npz")
    folder = result.save(tmp_path / "kept")
    again = Stepper.from_pretrained(folder)
    known = data[:, :2]
    assert torch.equal(ss.rollout(again, known, 5).frames, ss.rollout(result.stepper, known, 5).frames)
    assert {"report.html", "report.json", "model.json"} <= {p.name for p in folder.iterdir()}


def test_masked_data_are_fitted_and_masked_points_keep_what_they_held():
    rng = np.random.default_rng(0)
    u = np.cumsum(rng.normal(size=(40, 8, 8)), axis=0)
    u[:, 2:4, 3:6] = np.nan
    data = ss.data.open({"t": np.arange(40.0), "x": np.arange(8.0), "y": np.arange(8.0) * 2, "u": u}, axes="t x y")
    network = fitting._network(data, SMALL, 2, 0)
    assert isinstance(network, Held)
    counts = data.weights > 0
    new = ss.rollout(network, data[:, :2], 4).frames
    assert torch.equal(new[..., ~counts], data.frames[:, 1:2, :, ~counts].expand_as(new[..., ~counts]))
    result = fitted(data)
    assert all(np.isfinite(v) for v in result.chosen_by.values())


def test_steady_pairs_are_fitted_and_an_affine_truth_goes_to_the_affine_map():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 8, 8)).astype(np.float32)
    made = np.einsum("nk,kxy->nxy", rng.normal(size=(40, 3)), x[:3]).astype(np.float32)
    result = fitted({"x": made, "y": 2 * np.roll(made, 1, axis=1) + 1})
    assert result.report.subject.interval == 0
    assert isinstance(result.stepper, Affine)
    assert "on unseen cases" in result.sentence
    assert result.chosen_by["linear"] < 1e-4 < result.chosen_by["mean answer"]


@pytest.mark.parametrize(
    "budget", [{"minutes": 0}, {"steps": -1}, {"minutes": 1, "steps": 2}, {"minutes": float("nan")}]
)
def test_budgets_are_checked(budget):
    with pytest.raises(InputError, match="budget"):
        ss.fit(waves(), show=False, **budget)


@pytest.mark.parametrize("shape", [(37,), (64,), (18, 30), (5, 16)])
def test_any_grid_has_a_network(shape):
    grid = ss.Grid.box(shape, [1.0] * len(shape), periodic=[True] + [False] * (len(shape) - 1))
    data = ss.Trajectories(torch.randn(1, 14, 1, *shape), grid, 1.0, as_channels(["u"]))
    stepper = fitting._network(data, None, 2, 0)
    assert ss.rollout(stepper, data[:, :2], 2).frames.shape == (1, 2, 1, *shape)
