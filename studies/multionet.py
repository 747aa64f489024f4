"""MultiONet: whether branch and trunk that are multiplied after several layers say more than those multiplied after the last alone."""

from __future__ import annotations

from functools import partial

from slipstream.app.studies import Study

QUESTION = (
    "Does a deep operator network that listens to its last four layers beat one that listens to the last, "
    "at equal parameters and steps?"
)
TABLE = {
    "error": "relative L2 on new samples",
    "seen": "relative L2 on those it was trained on",
    "parameters": "parameters",
    "seconds_a_step": "seconds a training step",
    "gap": "deviation",
}
BUDGET = {"steps": 4000, "samples": 1000, "tests": 200}
QUICK = {"steps": 30, "samples": 40, "tests": 10}

study = Study(QUESTION, seeds=(0, 1, 2), budget=BUDGET, quick=QUICK, table=TABLE)

POINTS = 29
ROCKS = {"two rocks": 0.1, "large rocks": 0.25}
"""Correlation lengths of the ground."""


def networks():
    """One width, one depth and the same nonlinearities; "plain" has those that deep operator networks usually have."""
    from slipstream.operators import DeepONet, MultiONet

    sizes = {"hidden_channels": 100, "n_layers": 5, "sensors": POINTS}
    ours = {"branch_activation": "silu_id", "trunk_activation": "tanh_sin"}
    return {
        "multionet": partial(MultiONet, pairs=4, **sizes, **ours),
        "deeponet": partial(DeepONet, **sizes, **ours),
        "plain": partial(DeepONet, **sizes),
    }


def row(seed, network, ground, steps, samples, tests, folder):
    import torch
    from _darcy import darcy
    from _maps import Maps, fit, relative_errors, size

    from slipstream.objectives.norms import RelativeL2

    known, new = (darcy(n, POINTS, s, ROCKS[ground]) for n, s in ((samples, 100), (tests, 200)))
    torch.manual_seed(seed)
    model = networks()[network]()
    source = Maps(known.inputs, known.targets, known.grid, 25)
    spent = fit(model, source, RelativeL2(), seed=seed, folder=folder, steps=steps)
    errors = {
        name: relative_errors(model, found.inputs[:tests], found.targets[:tests], found.grid).mean().item()
        for name, found in (("error", new), ("seen", known))
    }
    return {**errors, "parameters": size(model), **spent}


@study.arm(cases=[{"network": n, "ground": g} for g in ROCKS for n in ("multionet", "deeponet")])
def darcy_flow(seed, network, ground, steps, samples, tests, folder):
    """Pressure from a permeability of two values, at equal parameters and equal steps."""
    return row(seed, network, ground, steps, samples, tests, folder)


@study.arm(cases=[{"network": "plain", "ground": "two rocks"}], seeds=1)
def usual(seed, network, ground, steps, samples, tests, folder):
    """The nonlinearities that deep operator networks usually have."""
    return row(seed, network, ground, steps, samples, tests, folder)


@study.arm()
def laws():
    """With all weights zero but the last, which is the number of pairs, it is the deep operator network of the same parameters."""
    import torch

    torch.manual_seed(0)
    multi, single = (networks()[n]().double() for n in ("multionet", "deeponet"))
    single.load_state_dict({k: v for k, v in multi.state_dict().items() if k != "weights"})
    with torch.no_grad():
        multi.weights[-1] = multi.pairs
        x = torch.randn(3, 1, POINTS, POINTS, dtype=torch.float64)
        answer = single(x)
        gap = ((multi(x) - answer).abs().max() / answer.abs().max()).item()
    return {"gap": gap}


@study.law("With all weights zero but the last it is a deep operator network.", at_most=1e-12)
def contains(rows):
    return max(rows.values("gap", arm="laws"))


@study.law("Listening to four layers takes four parameters more.", at_most=4)
def equal_sizes(rows):
    found = rows.where(arm="darcy_flow")
    return max(found.values("parameters", network="multionet")) - min(found.values("parameters", network="deeponet"))


def gain(rows, ground):
    found = rows.where(arm="darcy_flow", ground=ground)
    return found.mean("error", network="multionet") / found.mean("error", network="deeponet")


@study.effect("Through two rocks it has at most 0.8 of the deep operator network's error.", at_most=0.8, quick=10.0)
def rough(rows):
    return gain(rows, "two rocks")


@study.effect("Through larger rocks, which are easier, too.", at_most=0.8, quick=10.0)
def smooth(rows):
    return gain(rows, "large rocks")


@study.picture
def picture(rows, figure):
    axes = figure.subplots()
    for ground in ROCKS:
        for network in ("multionet", "deeponet"):
            errors = rows.values("error", arm="darcy_flow", ground=ground, network=network)
            axes.plot([f"{network}, {ground}"] * len(errors), errors, "o")
    axes.plot(["plain, two rocks"], rows.values("error", arm="usual"), "x")
    axes.set(yscale="log", ylabel="relative L2 on new samples")
    axes.tick_params(axis="x", labelrotation=20)
