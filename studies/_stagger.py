"""Label-free solvers of a turbulent flow: what is compared in the study of NeuralStagger, how it is trained, and how it is judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

import slipstream as ss
from slipstream.assessment.metrics import relative_l2
from slipstream.assessment.stagger import jitter_ratio, stagger_harmonics
from slipstream.data import StatePool
from slipstream.equations import FiniteDifferences
from slipstream.objectives import PhysicsResidual
from slipstream.operators import FNO, Operator, OperatorFactory, UNet
from slipstream.problems import KolmogorovFlow
from slipstream.problems.problem import Statistics
from slipstream.stepper import Stepper
from slipstream.steppers import Autoregressive, Staggered, rollout
from slipstream.steppers.staggered import merge, split
from slipstream.training import Descent, Muon
from slipstream.training.loop import train
from slipstream.trajectories import Trajectories

JUMP = 4
"""Frames a call."""
LONG = 100
"""Frames of the rollouts that show whether sub-solvers keep together."""

SMALL = partial(UNet, hidden_channels=16, levels=2, output_scale=0.1)
NARROW = partial(UNet, hidden_channels=8, levels=2, output_scale=0.1)
ROUGH = partial(FiniteDifferences, accuracy=2)


class SpaceToDepth(Operator):
    """One network on the coarse grid that is given all parts of the field as channels, and gives all parts of the answer."""

    def __init__(
        self,
        operator: OperatorFactory,
        factor: int = 2,
        in_channels: int = 1,
        out_channels: int = 1,
        num_dims: int = 2,
        num_scalars: int = 0,
    ) -> None:
        super().__init__()
        self.operator, self.factor, self.num_dims, self.num_scalars = operator, factor, num_dims, num_scalars
        self.in_channels, self.out_channels = in_channels, out_channels
        number = factor**num_dims
        self.inner = operator(in_channels=number * in_channels, out_channels=number * out_channels, num_dims=num_dims)

    def forward(self, x: Tensor) -> Tensor:
        factors = (self.factor,) * self.num_dims
        parts = split(x, factors).transpose(0, 1).flatten(1, 2)
        return merge(self.inner(parts).unflatten(1, (-1, self.out_channels)).transpose(0, 1), factors)


def flow(points: int, reynolds: float, warm_up: float) -> KolmogorovFlow:
    return KolmogorovFlow(num_points=points, reynolds=reynolds, interval=0.025, warm_up=warm_up)


def solver(name: str, problem: KolmogorovFlow) -> Stepper:
    """They differ from the first in one thing."""
    staggered = partial(Staggered, SMALL, problem, space=2, time=JUMP, fan=True)
    made: dict[str, Callable[[], Stepper]] = {
        "staggered": staggered,
        "space to depth": lambda: Autoregressive(partial(SpaceToDepth, SMALL), problem, horizon=JUMP),
        "full grid": partial(staggered, space=1),
        "full grid, narrow": lambda: Staggered(NARROW, problem, space=1, time=JUMP, fan=True),
        "shared": partial(staggered, share=True),
        "shared, blind": partial(staggered, share=True, coordinates=False),
        "4 x 4 parts": partial(staggered, space=4),
        "chains": partial(staggered, fan=False),
        "one step": partial(staggered, time=1),
        "fine differences": staggered,
        "coarse differences": partial(staggered, space=1),
    }
    return made[name]()


def trained(
    name: str,
    *,
    seed: int,
    points: int,
    reynolds: float,
    warm_up: float,
    starts: Sequence[int],
    minutes: float,
    folder: Path,
) -> tuple[Stepper, KolmogorovFlow, dict[str, float]]:
    """A solver after so many minutes of label-free training, with the problem that it was trained on."""
    fine = flow(points, reynolds, warm_up)
    problem = flow(points // 2, reynolds, warm_up) if name == "coarse differences" else fine
    # Scales of the flow itself, also on the coarse grid.
    torch.manual_seed(seed)
    stepper = solver(name, problem)
    pool = StatePool.of(fine, stepper.history, 4, runs=starts[0], frames=starts[1], seed=seed)
    if problem is not fine:  # its states are those of the true flow, at its points
        pool = StatePool(Staggered(SMALL, fine, space=2).at_level(2).restrict(pool.starts), stepper.history, 4)
    rough = name.endswith("differences")
    objective = PhysicsResidual(integrated=True, calculus=ROUGH if rough else None, trusted=1.0 if rough else 0.02)
    update = Descent(lr=0.01, optimiser=Muon)
    done = train(stepper, pool, objective, minutes=minutes, update=update, seed=seed, folder=folder / name, show=False)
    return stepper, problem, {"steps_done": done.steps, "seconds_a_step": done.seconds / max(done.steps, 1)}


def judged(stepper: Stepper, truth: Trajectories, frames: int) -> dict[str, float]:
    """Errors on runs that it has not seen, after one call and after `frames`; against persistence over one call."""
    h = stepper.history
    known, after = truth[:, :h], truth[:, h:]
    found = rollout(stepper, known, after.steps, guard=False).frames
    errors = relative_l2(found, after.frames, truth.grid).mean(0)
    still = relative_l2(known.frames[:, -1:].expand_as(after.frames), after.frames, truth.grid).mean(0)
    number = stepper.horizon
    row = {
        "error_call": errors[:number].mean().item(),
        "against_persistence": (errors[:number].mean() / still[:number].mean()).item(),
        "error_rollout": errors[frames - 1].item(),
        "parameters": sum(p.numel() for p in stepper.parameters()),
        "gflop": gflop(stepper, known),
    }
    if isinstance(stepper, Staggered):
        factors = (
            (2, 2) if max(stepper.factors) == 1 else stepper.factors
        )  # the same wavenumbers where nothing is split
        mine, theirs = (float(stagger_harmonics(u, truth.grid, factors).mean(0).amax()) for u in (found, after.frames))
        row |= {"harmonics": mine, "harmonics_truth": theirs, "jitter": jitter_ratio(found, after.frames)}
    return row


def gflop(stepper: Stepper, known: Trajectories) -> float:
    """Work of a call in products and sums, as far as torch counts it: convolutions and matrix products."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        stepper(known.frames[:1], {})
    return counter.get_total_flops() / 1e9


def level_rows(stepper: Staggered, truth: Trajectories) -> list[dict[str, object]]:
    """Each level after one call of the coarsest in time: its error at its own points, the error of the whole there, and its time."""
    rows: list[dict[str, object]] = []
    levels = [stepper.at_level(row.space, row.time) for row in stepper.levels()]
    seconds = timed([partial(_call, level, level.restrict(truth[:1, :1]).frames) for level in levels])
    whole = rollout(stepper, truth[:, :1], JUMP, guard=False)
    for row, level, time_of_one in zip(stepper.levels(), levels, seconds, strict=True):
        known, after = level.restrict(truth[:, :1]), level.restrict(truth)[:, 1 : 1 + level.horizon]
        found = rollout(level, known, level.horizon, guard=False).frames
        points = tuple(slice(None, None, t) for t in row.space)
        there = whole.frames[:, row.time - 1 :: row.time][(..., *points)]
        error, same = (relative_l2(u, after.frames, level.grid).mean().item() for u in (found, there))
        rows.append(
            {
                "kind": "level",
                "space": list(row.space),
                "time": row.time,
                "work": row.work,
                "error": error,
                "error_of_whole": same,
                "seconds": time_of_one,
            }
        )
    return rows


def _call(stepper: Stepper, known: Tensor) -> None:
    with torch.no_grad():
        stepper(known, {})


def timed(jobs: Sequence[Callable[[], object]], repeats: int = 20) -> list[float]:
    """Seconds of each job: the least of many, taken in turn, so that whatever else runs meets all alike."""
    best = [float("inf")] * len(jobs)
    for i in range(repeats + 2):
        for k, job in enumerate(jobs):
            start = time.perf_counter()
            job()
            best[k] = min(best[k], time.perf_counter() - start) if i >= 2 else best[k]
    return best


def speeds(network: str, points: int, repeats: int) -> dict[str, float]:
    """One network on the whole grid, one sub-solver, and all of them: one after the other, as one, and in two processes."""
    factory = {"FNO": partial(FNO, n_modes=(12, 12), hidden_channels=20, n_layers=4), "UNet": SMALL}[network]
    problem, sizes = flow(points, 100.0, 0.0), Statistics((0.0,), (1.0,), (0.1,))
    whole = Staggered(factory, problem, space=1, statistics=sizes)
    parts = Staggered(factory, problem, space=2, time=JUMP, fan=True, statistics=sizes)
    one = parts.export()
    u = torch.randn(1, 1, 1, points, points)
    classical = problem.solver(guard=False)
    state = classical.start(u, {})
    with torch.no_grad():
        full, single, step = timed(
            [partial(whole, u, {}), partial(one, u[..., ::2, ::2], {}), partial(classical.advance, state, {})], repeats
        )
        loop, grouped, processes = (_with(parts, e, u, repeats) for e in ("loop", "grouped", "processes"))
    parts.execution = "loop"
    return {
        "full_grid": full,
        "one_sub_solver": single,
        "loop": loop,
        "grouped": grouped,
        "processes": processes,
        "classical_interval": step,
    }


def _with(stepper: Staggered, execution: str, u: Tensor, repeats: int) -> float:
    stepper.execution = execution
    return timed([partial(stepper, u, {})], max(repeats // 4, 2))[0]


def oracle_gap() -> float:
    """Sub-solvers that say what the truth is at their points: how far the merged frames lie from the truth."""
    problem = ss.problems.KolmogorovFlow(num_points=16, reynolds=30, interval=0.05, warm_up=0.5)
    data, worst = problem.simulate(2, 5, seed=2), 0.0
    for fan in (False, True):
        stepper = Staggered(Told, problem, space=2, time=2, fan=fan)
        past, future = (data.frames[:, 1:2], data.frames[:, 2:4]) if fan else (data.frames[:, :2], data.frames[:, 2:4])
        parts = split((future - past) / stepper.scale, (2, 2))
        for s in range(4):
            for r in range(2):
                stepper.sub_solver(s, r).told = parts[s, :, r]  # type: ignore[assignment]
        worst = max(worst, (stepper(past, {}) - future).abs().max().item() / future.abs().max().item())
        level = stepper.at_level(2, 2)
        ahead = level(past[:, -1:, :, ::2, ::2] if fan else past[:, :1, :, ::2, ::2], {})
        true = future[:, 1:, :, ::2, ::2] if fan else future[:, :1, :, ::2, ::2]
        worst = max(worst, (ahead - true).abs().max().item() / future.abs().max().item())
    return worst


class Told(Operator):
    """Says what it was told."""

    told: Tensor

    def __init__(self, in_channels: int = 1, out_channels: int = 1, num_dims: int = 2, num_scalars: int = 0) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.num_dims, self.num_scalars = num_dims, num_scalars

    def forward(self, x: Tensor) -> Tensor:
        return self.told
