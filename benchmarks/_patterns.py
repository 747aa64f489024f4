"""Reaction and diffusion in the periodic plane: our spectral solver, and py-pde with Numba."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from _equal import OURS, Job, Way

PEER = "py-pde"
TRANSFORMS = find_spec("rocket_fft") is not None
"""Whether py-pde can have spectral derivatives besides differences."""


@dataclass(frozen=True)
class Pattern:
    """One equation, written for both sides.

    Parameters
    ----------
    problem : its name in `slipstream.problems`. options : of the problem, but points and interval.
    duration : of the run. rates : what py-pde is told, by field. spread : the largest diffusivity. speed : of the reaction, 1/time.
    """

    problem: str
    options: Mapping[str, Any]
    duration: float
    rates: Mapping[str, str]
    spread: float
    speed: float

    def at(self, points: int) -> Any:
        import slipstream as ss

        return getattr(ss.problems, self.problem)(num_points=points, interval=self.duration, **self.options)

    def initial(self, points: int) -> Any:
        """The same smooth state, seen by any grid (float64)."""
        import torch

        return self.at(points).initial(torch.Generator().manual_seed(0))


PATTERNS = {
    "Allen-Cahn": Pattern(
        "PhaseOrdering",
        {"diffusivity": 3e-3, "reaction": 2.0},
        2.0,
        {"c": "3e-3 * laplace(c) + 2 * (c - c**3)"},
        3e-3,
        4.0,
    ),
    "Gray-Scott": Pattern(
        "GrayScottPatterns",
        {"feed": 0.035, "kill": 0.06, "warm_up": 0.0},
        100.0,
        {
            "u": "2e-5 * laplace(u) - u * v**2 + 0.035 * (1 - u)",
            "v": "1e-5 * laplace(v) + u * v**2 - 0.095 * v",
        },
        2e-5,
        0.2,
    ),
}


def our_job(pattern: Pattern, points: int, steps: int, scheme: Any) -> Job:
    import torch

    from slipstream.problems.problem import Setting

    stepper = pattern.at(points).solver(Setting(points, steps, scheme), guard=False)
    frames = pattern.initial(points)[None, None]

    def job() -> np.ndarray:
        with torch.no_grad():
            return stepper.advance(stepper.start(frames, {}), {})[1][0, -1].numpy()

    return job


def our_ways(pattern: Pattern, points: tuple[int, ...]) -> Iterator[Way]:
    from slipstream.solvers.schemes import CNRK2, ETDRK2, ETDRK4

    for n in points:
        for scheme in (ETDRK2, CNRK2, ETDRK4):
            for dt in (2.0, 1.0, 0.5, 0.25):
                steps = math.ceil(pattern.duration * pattern.speed / dt)
                yield Way(OURS, scheme.name, n, steps, lambda n=n, k=steps, s=scheme: our_job(pattern, n, k, s))


def reference(pattern: Pattern, points: int) -> tuple[np.ndarray, float]:
    """Our solver with fourth order, and how far it is from itself on half the points with half the steps."""
    from slipstream.solvers.schemes import ETDRK4

    steps = math.ceil(20 * pattern.speed * pattern.duration)
    fine = our_job(pattern, points, steps, ETDRK4)()
    return fine, error_of(fine)(our_job(pattern, points // 2, math.ceil(steps / 2), ETDRK4)())


def error_of(fine: np.ndarray) -> Callable[[np.ndarray], float]:
    """The root mean square error of a state on a coarser grid, at its own points, relative to how much the solution varies in space."""

    def error(state: np.ndarray) -> float:
        every = fine.shape[-1] // state.shape[-1]
        exact = fine[:, ::every, ::every]
        varies = exact - exact.mean(axis=(-2, -1), keepdims=True)
        return float(np.linalg.norm(state - exact) / np.linalg.norm(varies))

    return error


def their_job(pattern: Pattern, points: int, solver: str, steps: int, spectral: bool) -> Job:
    import pde
    from pde.backends import get_backend
    from pde.solvers.base import SolverBase

    side = pattern.at(points).grid.extent[0]
    grid = pde.CartesianGrid([[0, side]] * 2, points, periodic=True)
    start = pattern.initial(points).numpy()
    fields = [pde.ScalarField(grid, values) for values in start]
    state = fields[0] if len(fields) == 1 else pde.FieldCollection(fields)
    backend = get_backend("numba", {"use_spectral": spectral, "multithreading": "never"})
    marcher = SolverBase.from_name(solver, pde=pde.PDE(dict(pattern.rates)), backend=backend)
    march = marcher.make_stepper(state, pattern.duration / steps)

    def job() -> np.ndarray:
        new = state.copy()
        march(new, 0.0, pattern.duration)
        return new.data.reshape(start.shape)

    return job


def their_ways(pattern: Pattern, points: tuple[int, ...], spectral: bool) -> Iterator[Way]:
    """Steps at 0.9 of the limit of stability, or of accuracy where that is tighter; each is compiled anew, which takes long."""
    for n in points:
        h = pattern.at(n).grid.spacing[0]
        fastest = pattern.spread * 2 * ((math.pi / h) ** 2 if spectral else 4 / h**2) + pattern.speed
        for solver, limit, accurate in (("runge-kutta", 2.78, 1.0), ("euler", 2.0, 0.1)):
            steps = math.ceil(pattern.duration * max(fastest / (0.9 * limit), pattern.speed / accurate))
            yield Way(
                PEER,
                f"{solver}, {'Fourier' if spectral else 'differences'}",
                n,
                steps,
                lambda n=n, s=solver, k=steps: their_job(pattern, n, s, k, spectral),
            )
