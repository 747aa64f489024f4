"""How fast the spectral solver steps, beside Exponax 0.2.0: four more equations, in one, two and three dimensions, ETDRK2, float32.

Run ``python benchmarks/catalogue.py`` where both are installed (``pip install exponax==0.2.0`` beside slipstream); ten minutes on two
quiet cores. Writes ``benchmarks/results/catalogue.json``.

Kuramoto-Sivashinsky on a line, Burgers and Gray-Scott in the plane, Navier-Stokes in space: our ready-made problems at their usual
sizes, and the stepper that Exponax has for each. Both sides take the same steps with the same scheme from the same states, keep the
same wavenumbers in the nonlinear term, and must agree before anything is timed. A step takes a state at points and gives one. Timed as in
``spectral.py``: in one process, in turn, in blocks of a few milliseconds, and the shortest block of each counts. Steps of Exponax are
compiled, whole; over several runs they are mapped by `jax.vmap`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _turns import Block, run, shortest

if TYPE_CHECKING:
    from slipstream.assessment.evidence import Claim

QUESTION = (
    "Are spectral steps of other equations in PyTorch as fast as compiled ones in JAX, one run or sixteen at a time?"
)
STEPS_TO_AGREE, AGREEMENT = 50, 1e-5
SPEED = {1: 0.9, 16: 1.3}
"""Least speed relative to Exponax, by the number of runs; a physical state in and out of every step."""


@dataclass(frozen=True)
class Case:
    """One equation on both sides.

    Parameters
    ----------
    problem : its name in `slipstream.problems`. options : of the problem, all but the interval, which is one time step.
    dt : the same on both sides.
    theirs : from a problem and what both sides share (axes, extent, points, dt, order, dealiasing) to a stepper of Exponax.
    """

    problem: str
    options: dict[str, Any]
    dt: float
    theirs: Callable[[Any, tuple, dict[str, Any]], Any]

    def ours(self) -> Any:
        import slipstream as ss

        return getattr(ss.problems, self.problem)(interval=self.dt, **self.options)


def flame(problem: Any, domain: tuple, same: dict[str, Any]) -> Any:
    import exponax

    e = problem.equation
    return exponax.stepper.KuramotoSivashinskyConservative(
        *domain, second_order_scale=e.instability, fourth_order_scale=e.hyperviscosity, **same
    )


def waves(problem: Any, domain: tuple, same: dict[str, Any]) -> Any:
    import exponax

    # As advection, like ours: the conservative form of Exponax is another equation where the velocity diverges.
    return exponax.stepper.Burgers(*domain, diffusivity=problem.equation.viscosity, conservative=False, **same)


def spots(problem: Any, domain: tuple, same: dict[str, Any]) -> Any:
    import exponax

    e = problem.equation
    return exponax.stepper.reaction.GrayScott(
        *domain,
        diffusivity_1=e.diffusivity_u,
        diffusivity_2=e.diffusivity_v,
        feed_rate=e.feed,
        kill_rate=e.kill,
        **same,
    )


def vortices(problem: Any, domain: tuple, same: dict[str, Any]) -> Any:
    import exponax

    return exponax.stepper.NavierStokesVelocity(*domain, diffusivity=problem.equation.viscosity, **same)


CASES = {
    "Kuramoto-Sivashinsky, 128 points": Case("FlameSlope", {"num_points": 128, "warm_up": 0.0}, 0.05, flame),
    "Burgers, 128 x 128": Case("SteepeningWaves", {"num_points": 128, "viscosity": 0.01, "num_dims": 2}, 5e-4, waves),
    # Exponax has feeding and decay in the nonlinear part, we in the exact one: the schemes differ by O(dt^2), here below the bar.
    "Gray-Scott, 96 x 96": Case(
        "GrayScottPatterns", {"num_points": 96, "feed": 0.035, "kill": 0.06, "warm_up": 0.0}, 0.1, spots
    ),
    "Navier-Stokes, 32 x 32 x 32": Case("TaylorGreen", {"num_points": 32, "reynolds": 100.0}, 0.02, vortices),
}


def our_blocks(case: Case, u: Any) -> dict[str, Block]:
    import slipstream as ss
    from slipstream.problems.problem import Setting

    problem, frames = case.ours(), u[:, None]
    stepper = problem.solver(Setting(problem.grid.shape[0], 1, ss.solvers.ETDRK2), guard=False)
    parameters: dict[str, Any] = {}

    def in_and_out(steps: int) -> Any:
        v = frames
        for _ in range(steps):
            v = stepper.advance(stepper.start(v, parameters), parameters)[1]
        return v

    def out(steps: int) -> Any:
        state, v = stepper.start(frames, parameters), frames
        for _ in range(steps):
            state, v = stepper.advance(state, parameters)
        return v

    return {"ours, in and out": in_and_out, "ours, out": out}


def their_blocks(case: Case, u: Any) -> dict[str, Block]:
    import jax

    problem = case.ours()
    n = problem.grid.shape[0]
    # Ours; theirs keep what lies at or below half the points times the fraction, less one.
    kept = (n - 1) // 3 if problem.equation.dealias else n // 2
    domain = (problem.grid.num_dims, problem.grid.extent[0], n, case.dt)
    step = case.theirs(problem, domain, {"order": 2, "dealiasing_fraction": (kept + 1.01) / (n / 2)})
    frames = jax.numpy.asarray(u.numpy() if len(u) > 1 else u[0].numpy())
    compiled = jax.jit(jax.vmap(lambda v: step(v)) if len(u) > 1 else lambda v: step(v))

    def march(steps: int) -> Any:
        v = frames
        for _ in range(steps):
            v = compiled(v)
        return v.block_until_ready()

    return {"exponax, in and out": march}


def measure(name: str, runs: int, threads: int, seconds: float) -> dict[str, Any]:
    import numpy
    import torch

    case = CASES[name]
    generator, problem = torch.Generator().manual_seed(0), case.ours()
    u = torch.stack([problem.initial(generator) for _ in range(runs)]).float()
    mine, their = our_blocks(case, u), their_blocks(case, u)
    a = mine["ours, in and out"](STEPS_TO_AGREE).reshape(u.shape)
    b = torch.from_numpy(numpy.array(their["exponax, in and out"](STEPS_TO_AGREE))).reshape(u.shape)
    difference, change = float((a - b).norm() / b.norm()), float((b - u).norm() / u.norm())
    if not difference <= AGREEMENT:
        raise SystemExit(
            f"{name}, {runs} run(s): the solutions differ by {difference:.1e} after {STEPS_TO_AGREE} steps; nothing was timed."
        )
    row = {"threads": threads, "case": name, "runs": runs, "difference": difference, "change": change}
    return {**row, "microseconds_a_step": shortest({**mine, **their}, seconds)}


def work(threads: int, seconds: float) -> None:
    """All cases with one number of threads; one line of JSON each."""
    try:
        import exponax  # noqa: F401
    except ImportError:
        raise SystemExit("This benchmark needs Exponax: pip install exponax==0.2.0") from None
    import torch

    torch.set_num_threads(threads)
    with torch.no_grad():
        for name in CASES:
            for runs in SPEED:
                print(json.dumps(measure(name, runs, threads, seconds)), flush=True)


def claims(rows: list[dict[str, Any]]) -> Iterator[Claim]:
    from slipstream.assessment.evidence import Claim

    for name in CASES:
        worst = max(row["difference"] for row in rows if row["case"] == name)
        yield Claim(
            f"{name}: both compute the same solution ({STEPS_TO_AGREE} steps).", "law", worst, AGREEMENT, "at most"
        )
    for row in rows:
        t, bar = row["microseconds_a_step"], SPEED[row["runs"]]
        where = f"{row['case']}, {row['runs']} run(s), {row['threads']} thread(s)"
        speed = t["exponax, in and out"] / t["ours, in and out"]
        yield Claim(f"{where}: at least {bar} times the speed of Exponax.", "effect", speed, bar, "at least")


if __name__ == "__main__":
    run(Path(__file__), QUESTION, work, claims, ["exponax", "jax", "jaxlib"])
