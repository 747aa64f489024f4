"""NeuralStagger: whether many small networks that see nothing of each other solve a flow as well as one that sees all.

All solvers are trained without labels, by the residual of the equation on the fine grid, for the same time. They differ from the staggered
one in one thing each: a single network on all parts at once (space to depth), networks on the full grid (of equal work, and of the latency
of one sub-solver), one network for all parts, more parts, chains in place of a fan, one step a call. Two arms measure the residual by
second-order differences: on the fine grid with staggered networks, and on the coarse grid with the same networks (coarse physics).
"""

from __future__ import annotations

from slipstream.app.studies import Study

QUESTION = "Do small networks on interleaved coarse grids, tied together by the residual on the fine grid alone, solve the fine problem?"
TABLE = {
    "against_persistence": "error of a call / persistence",
    "error_call": "error of a call",
    "error_rollout": "error after 40 frames",
    "gflop": "GFLOP a call",
    "parameters": "parameters",
    "seconds_a_step": "seconds a training step",
    "harmonics": "energy at multiples of N/s",
}
BUDGET = {
    "minutes": 4.5,
    "points": 64,
    "reynolds": 100.0,
    "warm_up": 15.0,
    "starts": [64, 64],
    "tests": 4,
    "frames": 40,
    "sizes": [128, 256],
    "repeats": 40,
}
QUICK = {
    "minutes": 0.03,
    "points": 32,
    "reynolds": 20.0,
    "warm_up": 1.0,
    "starts": [2, 8],
    "tests": 1,
    "frames": 8,
    "sizes": [64],
    "repeats": 4,
}

study = Study(QUESTION, seeds=(0, 1, 2), budget=BUDGET, quick=QUICK, table=TABLE)

MAIN = ("staggered", "space to depth")
SINGLE = (
    "full grid",
    "full grid, narrow",
    "shared",
    "shared, blind",
    "4 x 4 parts",
    "chains",
    "one step",
    "fine differences",
    "coarse differences",
)


@study.arm()
def laws():
    """The split is a permutation, the executions agree, and sub-solvers that know the truth give the truth."""
    from functools import partial

    import torch
    from _stagger import NARROW, flow, oracle_gap

    from slipstream.problems.problem import Statistics
    from slipstream.steppers import Staggered
    from slipstream.steppers.staggered import merge, split

    torch.manual_seed(0)
    moved = 0.0
    for shape, factors in (((12,), (3,)), ((12, 8), (3, 2)), ((4, 8, 6), (2, 4, 3))):
        u = torch.randn(2, 3, *shape)
        moved = max(moved, (merge(split(u, factors), factors) - u).abs().max().item())
    u = torch.randn(2, 3, 8, 12)
    moved = max(
        moved, (split(u, (2, 2)) - torch.nn.PixelUnshuffle(2)(u).unflatten(1, (3, 4)).movedim(2, 0)).abs().max().item()
    )
    make = partial(
        Staggered, NARROW, flow(32, 100.0, 0.0), space=2, time=2, statistics=Statistics((0.0,), (1.0,), (1.0,))
    )
    stepper, u, found = make(), torch.randn(2, 2, 1, 32, 32), {}
    with torch.no_grad():
        for execution in ("loop", "grouped", "processes"):
            stepper.execution = execution
            found[execution] = stepper(u, {})
    stepper.execution = "loop"
    apart = max((found[e] - found["loop"]).abs().max().item() for e in found)
    return {"moved": moved, "apart": apart, "oracle": oracle_gap()}


@study.arm()
def residual():
    """What the reference's own frames leave over in the trapezoidal rule, at one interval and at half of it."""
    from slipstream.problems import KolmogorovFlow

    smooth = KolmogorovFlow(num_points=48, reynolds=8, interval=0.1, warm_up=2.0)
    return [{"interval": h, "left": smooth.with_interval(h).reference_residual()} for h in (0.1, 0.05, 0.025)]


def row_of(seed, solver, minutes, points, reynolds, warm_up, starts, tests, frames, folder):
    from _stagger import LONG, flow, judged, level_rows, trained

    stepper, problem, spent = trained(
        solver,
        seed=seed,
        points=points,
        reynolds=reynolds,
        warm_up=warm_up,
        starts=starts,
        minutes=minutes,
        folder=folder,
    )
    fine = flow(points, reynolds, warm_up)
    steps = stepper.history + (LONG if frames == 40 else frames)
    truth = fine.simulate(tests, steps, seed=2**20)
    rows = []
    if solver.endswith("differences"):  # at the points that both have
        from _stagger import SMALL

        from slipstream.assessment.metrics import relative_l2
        from slipstream.steppers import Staggered, rollout

        nodes = Staggered(SMALL, fine, space=2).at_level(2).restrict(truth)
        start = nodes if problem.grid.shape != fine.grid.shape else truth
        found = rollout(stepper, start[:, :1], stepper.horizon, guard=False)
        found = found.frames if found.grid == nodes.grid else found.frames[..., ::2, ::2]
        error = relative_l2(found, nodes[:, 1 : 1 + stepper.horizon].frames, nodes.grid).mean().item()
        rows.append({"kind": "nodes", "error_nodes": error})
        truth = start
    rows.append({"kind": "whole", **judged(stepper, truth, frames), **spent})
    if solver == "staggered" and seed == 0:
        rows += level_rows(stepper, truth)
    return rows


@study.arm(cases=[{"solver": s} for s in MAIN])
def trained_solvers(seed, solver, minutes, points, reynolds, warm_up, starts, tests, frames, folder):
    """The staggered solver and its strongest rival, at equal training time."""
    return row_of(seed, solver, minutes, points, reynolds, warm_up, starts, tests, frames, folder)


@study.arm(cases=[{"solver": s} for s in SINGLE], seeds=1)
def others(seed, solver, minutes, points, reynolds, warm_up, starts, tests, frames, folder):
    """One thing changed each, at equal training time."""
    return row_of(seed, solver, minutes, points, reynolds, warm_up, starts, tests, frames, folder)


@study.arm(cases=[{"network": n} for n in ("FNO", "UNet")])
def speed(network, sizes, repeats):
    """Untrained networks: what a call costs."""
    from _stagger import speeds

    return [{"points_a_side": n, **speeds(network, n, repeats)} for n in sizes]


@study.law(
    "Splitting and merging moves values and changes none, and is PixelUnshuffle up to the order of channels.",
    at_most=0.0,
)
def permutation(rows):
    return rows.where(arm="laws")[0]["moved"]


@study.law("A loop, grouped convolutions and worker processes give the same numbers to 1e-5.", at_most=1e-5)
def executions(rows):
    return rows.where(arm="laws")[0]["apart"]


@study.law("Sub-solvers that know the truth at their points give the truth, whole and at a coarse level.", at_most=1e-5)
def wiring(rows):
    return rows.where(arm="laws")[0]["oracle"]


@study.law("What the reference leaves over falls with the square of the interval, to 0.2 in the exponent.", at_most=0.2)
def order(rows):
    from itertools import pairwise
    from math import log2

    left = [r["left"] for r in sorted(rows.where(arm="residual"), key=lambda r: r["interval"])]
    return max(abs(log2(b / a) - 2) for a, b in pairwise(left))


def main(rows, key, solver="staggered", **more):
    return rows.mean(key, arm="trained_solvers", solver=solver, kind="whole", **more)


def other(rows, key, solver):
    return rows.mean(key, arm="others", solver=solver, kind="whole")


@study.effect("Without labels, the error of a call is at most 0.2 of that of persistence.", at_most=0.2, quick=10.0)
def learns(rows):
    return main(rows, "against_persistence")


@study.effect(
    "After 40 frames the error is at most twice that of networks on the full grid of equal work.",
    at_most=2.0,
    quick=1e9,
)
def against_full_grid(rows):
    return main(rows, "error_rollout", seed=0) / other(rows, "error_rollout", "full grid")


@study.effect("After 40 frames the error is at most 10 %.", at_most=0.1, quick=1e9)
def rollout_error(rows):
    return main(rows, "error_rollout")


@study.effect(
    "One network on all parts at once is the stronger rival at equal training time: its error of a call is lower.",
    at_most=1.0,
    quick=1e9,
)
def against_space_to_depth(rows):
    return main(rows, "error_call", "space to depth") / main(rows, "error_call")


@study.effect(
    "Coarse physics is worse: with differences of second order, the residual on the fine grid halves the error at the coarse points.",
    at_most=0.5,
    quick=1e9,
)
def against_coarse_physics(rows):
    fine, coarse = (rows.mean("error_nodes", kind="nodes", solver=f"{g} differences") for g in ("fine", "coarse"))
    return fine / coarse


@study.effect("A network of its own for each part beats one for all of them.", at_most=1.0, quick=1e9)
def against_shared(rows):
    return main(rows, "error_call", seed=0) / other(rows, "error_call", "shared")


@study.effect("It beats a network on the full grid that is as fast as one sub-solver.", at_most=1.0, quick=1e9)
def against_narrow(rows):
    return main(rows, "error_call", seed=0) / other(rows, "error_call", "full grid, narrow")


@study.effect(
    "At the points of a level its error is that of the whole there, within a factor of 1.2.", at_most=1.2, quick=1e9
)
def level_errors(rows):
    found = rows.where(arm="trained_solvers", kind="level", time=4)
    whole = rows.where(arm="trained_solvers", kind="level", space=[1, 1], time=4)[0]["error"]
    return max(max(r["error"] / whole, whole / r["error"]) for r in found)


@study.law("A level gives the numbers of the whole at its points.", at_most=1e-4)
def level_numbers(rows):
    return max(abs(r["error"] / r["error_of_whole"] - 1) for r in rows.where(arm="trained_solvers", kind="level"))


@study.effect("The time of a level is its share of the sub-solvers, to 20 %.", at_most=0.2, quick=1e9)
def level_work(rows):
    found = rows.where(arm="trained_solvers", kind="level")
    whole = max(r["seconds"] for r in found)
    return max(abs(r["seconds"] / whole / r["work"] - 1) for r in found)


@study.effect(
    "One sub-solver is at least 0.7 s^2 times as fast as the same network on the full grid (FNO).",
    at_least=0.7 * 4,
    quick=0.0,
)
def sub_solver_speed(rows):
    return min(r["full_grid"] / r["one_sub_solver"] for r in rows.where(arm="speed", network="FNO"))


@study.effect(
    "Two worker processes are at least 1.6 times as fast as the loop on the largest grid.", at_least=1.6, quick=0.0
)
def two_processes(rows):
    found = rows.where(arm="speed", network="UNet")
    row = max(found, key=lambda r: r["points_a_side"])
    return row["loop"] / row["processes"]


@study.effect(
    "Over 100 frames less than 0.1 % of the energy goes to multiples of the parts' wavenumber.", at_most=1e-3, quick=1e9
)
def together_in_space(rows):
    return max(rows.values("harmonics", arm="trained_solvers", solver="staggered", kind="whole"))


@study.effect(
    "Chains keep together in time: second differences are within a factor of 2 of the truth's.", at_most=2.0, quick=1e9
)
def together_in_time(rows):
    ratio = other(rows, "jitter", "chains")
    return max(ratio, 1 / ratio)


@study.picture
def picture(rows, figure):
    left, right = figure.subplots(1, 2)
    whole = rows.where(kind="whole")
    names = [*dict.fromkeys(r["solver"] for r in whole)]
    left.barh(names, [whole.mean("against_persistence", solver=n) for n in names])
    left.set(xlabel="error of a call / persistence")
    levels = rows.where(kind="level")
    right.plot([r["work"] for r in levels], [r["error"] for r in levels], "o")
    right.set(xscale="log", xlabel="share of the work", ylabel="error of a call at the level's points", ylim=(0, None))
