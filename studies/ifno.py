"""Implicit Fourier neural operator: whether one Fourier layer, applied ten times as a small step, does the work of four."""

from __future__ import annotations

from functools import partial

from slipstream.app.studies import Study

QUESTION = (
    "Does one Fourier layer, iterated, reach the error of four layers with weights of their own, "
    "and does depth help that costs no parameters?"
)
TABLE = {
    "error": "relative L2 on new samples",
    "doubled": "the same with twice the iterations",
    "parameters": "parameters",
    "seconds_a_step": "seconds a training step",
    "ratio": "change from 40 to 80 iterations, in units of that from 20 to 40",
}
BUDGET = {"steps": 600, "samples": 600, "tests": 100}
QUICK = {"steps": 5, "samples": 24, "tests": 8}

study = Study(QUESTION, seeds=(0, 1, 2), budget=BUDGET, quick=QUICK, table=TABLE)

POINTS, WIDTH, MODES, BATCH = 48, 24, (12, 12), 8


def networks():
    """All of one width and the same modes."""
    from slipstream.operators import FNO, IFNO

    common = {"n_modes": MODES, "hidden_channels": WIDTH, "in_channels": 3}
    walls = partial(IFNO, **common, padding="zero")
    return {
        "10 times one": partial(walls, n_iterations=10),
        "2 times one": partial(walls, n_iterations=2),
        "4 of their own": partial(walls, n_iterations=4, shared=False),
        "fno": partial(FNO, **common, n_layers=4, padding="zero"),
    }


def placed(inputs, grid):
    """With the coordinates, which tell where the walls are."""
    import torch

    places = torch.stack(torch.meshgrid(*(torch.linspace(-1, 1, n) for n in grid.shape), indexing="ij"))
    return torch.cat([inputs, places.expand(len(inputs), -1, -1, -1)], 1)


def row(seed, network, steps, samples, tests, folder):
    import torch
    from _darcy import darcy
    from _maps import Maps, fit, relative_errors, size

    from slipstream.objectives.norms import RelativeL2

    known, new = darcy(samples, POINTS, 100), darcy(tests, POINTS, 200)
    torch.manual_seed(seed)
    model = networks()[network]()
    source = Maps(placed(known.inputs, known.grid), known.targets, known.grid, BATCH)
    spent = fit(model, source, RelativeL2(), seed=seed, folder=folder, steps=steps)

    def error():
        return relative_errors(model, placed(new.inputs, new.grid), new.targets, new.grid).mean().item()

    found = {"error": error(), "parameters": size(model), **spent}
    if network.endswith("times one"):
        model.n_iterations *= 2
        found["doubled"] = error()
    return found


@study.arm(cases=[{"network": n} for n in ("10 times one", "2 times one", "fno")])
def darcy_flow(seed, network, steps, samples, tests, folder):
    """Pressure from a permeability of two values, at equal steps."""
    return row(seed, network, steps, samples, tests, folder)


@study.arm(cases=[{"network": "4 of their own"}], seeds=1)
def controls(seed, network, steps, samples, tests, folder):
    """The same small steps, with weights of their own."""
    return row(seed, network, steps, samples, tests, folder)


@study.arm()
def laws():
    """More iterations of one layer: Euler's method for one equation, at first order."""
    import torch

    torch.manual_seed(0)
    model = networks()["10 times one"]().double()
    answers, x = [], torch.randn(2, 3, 24, 24, dtype=torch.float64)
    with torch.no_grad():
        for iterations in (20, 40, 80):
            model.n_iterations = iterations
            answers.append(model(x))
    return {"ratio": ((answers[2] - answers[1]).norm() / (answers[1] - answers[0]).norm()).item()}


@study.law("Twice the iterations halve the change: the answer converges at first order.", at_most=0.55)
def converges(rows):
    return max(rows.values("ratio", arm="laws"))


@study.law("One layer has at most a third of the parameters of four.", at_most=1 / 3)
def smaller(rows):
    found = rows.where(arm="darcy_flow")
    return max(found.values("parameters", network="10 times one")) / min(found.values("parameters", network="fno"))


@study.effect("Ten times one layer has at most 1.1 of the error of an FNO of four.", at_most=1.1, quick=10.0)
def against_fno(rows):
    found = rows.where(arm="darcy_flow")
    return found.mean("error", network="10 times one") / found.mean("error", network="fno")


@study.effect(
    "Depth without parameters helps: ten times have at most 0.9 of the error of twice.", at_most=0.9, quick=10.0
)
def depth(rows):
    found = rows.where(arm="darcy_flow")
    return found.mean("error", network="10 times one") / found.mean("error", network="2 times one")


@study.effect(
    "Iterated twenty times instead of ten after training, its error grows by a tenth at most.", at_most=1.1, quick=10.0
)
def doubled(rows):
    found = rows.where(arm="darcy_flow", network="10 times one")
    return found.mean("doubled") / found.mean("error")


@study.picture
def picture(rows, figure):
    axes = figure.subplots()
    for arm, network in (
        ("darcy_flow", "10 times one"),
        ("darcy_flow", "2 times one"),
        ("darcy_flow", "fno"),
        ("controls", "4 of their own"),
    ):
        found = rows.where(arm=arm, network=network)
        axes.plot([r["parameters"] for r in found], [r["error"] for r in found], "o", label=network)
    axes.set(xscale="log", yscale="log", xlabel="parameters", ylabel="relative L2 on new samples")
    axes.legend()
