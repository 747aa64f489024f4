"""Solutions that others computed (see `tests/data/reference/README.md`): we get the same, to the accuracy of the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from slipstream.equations import AllenCahn, Burgers, Equation, KortewegDeVries, KuramotoSivashinsky, Schroedinger
from slipstream.grids import Grid
from slipstream.solvers import ETDRK4, SpectralStepper

FOLDER = Path(__file__).parents[1] / "data" / "reference"

CASES: dict[str, tuple[Equation, int, float]] = {
    "pinns_kdv": (KortewegDeVries(0.0025, 1.0), 1000, 4e-9),
    "pinns_allen_cahn": (AllenCahn(1e-4, 5.0), 50, 6e-5),
    "pinns_schroedinger": (Schroedinger(1.0, 0.5), 300, 5e-5),
    "deephpms_burgers_sine": (Burgers(0.1), 100, 5e-6),
    "deephpms_kdv_sine": (KortewegDeVries(1.0, 1.0), 1600, 2e-8),
    "pysindy_burgers": (Burgers(0.1), 400, 1e-8),
    "pysindy_kuramoto_sivashinsky": (KuramotoSivashinsky(), 800, 2e-8),
}
"""Equation, time steps a frame, largest relative error."""


@pytest.mark.parametrize("name", CASES)
def test_we_agree_with_files_that_others_made(name):
    compare(name, *CASES[name])


@pytest.mark.slow
def test_more_steps_agree_with_the_most_accurate_file_to_its_last_digits():
    compare("deephpms_kdv_sine", KortewegDeVries(1.0, 1.0), 4800, 2e-10)


def compare(name: str, equation: Equation, substeps: int, accuracy: float) -> None:
    data = np.load(FOLDER / f"{name}.npz")
    x, t = data["x"], data["t"]
    u = torch.tensor(
        np.stack([data["u"].real, data["u"].imag], 1) if len(equation.channels) == 2 else data["u"][:, None]
    )
    grid = Grid.box(len(x), float((x[1] - x[0]) * len(x)))
    stepper = SpectralStepper(equation, grid, float(t[1] - t[0]), substeps, ETDRK4, guard=False)
    frames = stepper.march(u[None, :1], {})
    for exact in u[1:]:
        new = next(frames)[0, 0]
        assert float((new - exact).norm() / exact.norm()) < accuracy
        assert float((u[0] - exact).norm() / exact.norm()) > 0.1
