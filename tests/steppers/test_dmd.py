"""DMD: exact where the dynamics are linear, the rank by energy, saved like any stepper."""

from __future__ import annotations

import pytest
import torch

from slipstream.channels import Channel
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.stepper import Stepper
from slipstream.steppers import rollout
from slipstream.steppers.dmd import DMD
from slipstream.trajectories import Trajectories

GRID = Grid.box((6, 5), 1.0, periodic=False, centred=False)
CHANNELS = (Channel("u"), Channel("v"))


def linear(runs=3, steps=12, modes=4, noise=0.0):
    """Decaying, turning combinations of a few random fields, one of them a slow decay."""
    g = torch.Generator().manual_seed(1)
    shapes = torch.linalg.qr(torch.randn(60, 60, generator=g, dtype=torch.float64))[0][:, :modes]
    decay = torch.tensor([-0.1, -0.5, -0.5, -1.0], dtype=torch.float64)[:modes]
    generator = torch.diag(decay)
    generator[1, 2], generator[2, 1] = 3.0, -3.0
    step = torch.linalg.matrix_exp(0.2 * generator)
    c = torch.randn(runs, modes, generator=g, dtype=torch.float64)
    frames = []
    for _ in range(steps):
        frames.append(c @ shapes.mT)
        c = c @ step.mT
    u = torch.stack(frames, dim=1).reshape(runs, steps, 2, 6, 5)
    return Trajectories(u + noise * torch.randn(u.shape, generator=g, dtype=torch.float64), GRID, 0.2, CHANNELS)


def test_linear_dynamics_are_continued_exactly_for_unseen_runs_in_their_span():
    data = linear()
    model = DMD.of(data[:2], energy=1 - 1e-14)
    assert model.rank == 4
    new = rollout(model, data[2, :1], 11)
    torch.testing.assert_close(new.frames, data[2, 1:].frames, rtol=1e-9, atol=1e-10)


def test_rates_are_those_of_the_system():
    rates = DMD.of(linear(), rank=4).rates
    assert float(rates[0].real) == pytest.approx(-0.1, abs=1e-8)
    assert sorted(float(r.imag) for r in rates) == pytest.approx([-3, 0, 0, 3], abs=1e-8)
    assert float(rates[-1].real) == pytest.approx(-1.0, abs=1e-8)


def test_the_rank_keeps_the_energy_asked_for_and_no_more():
    data = linear(noise=1e-3)
    w = data.grid.cell_weights(torch.float64).sqrt().expand(2, 6, 5).flatten()
    size = torch.linalg.svdvals(data.frames[:, :-1].flatten(0, 1).flatten(1) * w).square()
    for energy in (0.5, 0.9, 0.999):
        rank = DMD.of(data, energy=energy).rank
        assert float(size[:rank].sum() / size.sum()) >= energy
        assert rank == 1 or float(size[: rank - 1].sum() / size.sum()) < energy
    assert DMD.of(data, energy=0.999).rank <= 4


def test_a_truncated_map_is_the_projection_of_the_best_one():
    data = linear(runs=8, noise=1e-2)
    w = data.grid.cell_weights(torch.float64).sqrt().expand(2, 6, 5).flatten()
    before, after = (data.frames[:, s].flatten(0, 1).flatten(1) * w for s in (slice(None, -1), slice(1, None)))
    best = torch.linalg.lstsq(before, after).solution
    left = torch.linalg.svd(before.mT, full_matrices=False)[0][:, :3]
    expected = ((data.frames[0, 0].flatten() * w) @ left @ left.mT @ best / w).reshape(2, 6, 5)
    found = DMD.of(data, rank=3)(data.frames[:1, :1], {})[0, 0]
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


def test_it_is_saved_and_read_back(tmp_path):
    data = linear().to(torch.float32)
    model = DMD.of(data, rank=3)
    model.save_pretrained(tmp_path / "dmd")
    again = Stepper.from_pretrained(tmp_path / "dmd")
    assert again.interval == pytest.approx(0.2)
    assert torch.equal(rollout(again, data[:, :1], 3).frames, rollout(model, data[:, :1], 3).frames)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(InputError, match="pairs"):
        DMD.of(linear()[:, :1])
    with pytest.raises(InputError, match="60 values"):
        DMD(GRID, 0.2, CHANNELS, 61)
