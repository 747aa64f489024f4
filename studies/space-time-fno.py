"""Fourier operators in space and time: whether frames that were never asked for, finer grids and shorter pasts are really free."""

from __future__ import annotations

from functools import partial

from slipstream.app.studies import Study

QUESTION = (
    "Is a Fourier operator in space and time as good between the frames and on the grids that it was not trained on, "
    "and better than one in space alone?"
)
TABLE = {
    "error": "relative L2 of the frames it was trained for",
    "error_between": "of the frames between them",
    "error_fine": "on a grid twice as fine",
    "error_short": "from half of the past",
    "persistence": "the latest frame, kept",
    "parameters": "parameters",
    "seconds_a_step": "seconds a training step",
    "gap": "deviation",
}
BUDGET = {"steps": 1000, "runs": 24, "tests": 4}
QUICK = {"steps": 4, "runs": 1, "tests": 1}

study = Study(QUESTION, seeds=(0, 1, 2), budget=BUDGET, quick=QUICK, table=TABLE)

POINTS, PAST, FUTURE, STARTS, BATCH = 32, 8, 7, 16, 4
INTERVAL = 0.1
"""Between two frames of the past. Those of the future lie twice as far apart, so that the frames between them are known too."""


def networks():
    """Of about as many parameters, all on frames in channels. Those in space and time have all modes: what they add has no others."""
    from slipstream.operators import FNO, Folded, SpaceTimeFNO

    frames = {"in_channels": PAST, "out_channels": FUTURE}
    stretch = partial(SpaceTimeFNO, n_modes=(POINTS, POINTS, 8), hidden_channels=8, n_layers=3)
    folded = {"history": PAST, "horizon": FUTURE, **frames}
    return {
        "space and time": partial(Folded, stretch, **folded),
        "no zeros": partial(Folded, partial(stretch, zero_padding=False), **folded),
        "space": partial(FNO, n_modes=(16, 16), hidden_channels=44, n_layers=4, **frames),
    }


def stretches(runs, seed):
    """Past (sample, frame, x, y) and future, with the frames between: on a grid twice as fine as that of the training."""
    from slipstream.problems import DecayingFlow

    length = PAST + 2 * FUTURE + 1
    problem = DecayingFlow(num_points=2 * POINTS, reynolds=100.0, interval=INTERVAL)
    frames = problem.simulate(runs, length + STARTS - 1, seed=seed).frames[:, :, 0]
    windows = frames.unfold(1, length, 1).flatten(0, 1).movedim(-1, 1)
    return windows[:, :PAST], windows[:, PAST:], problem.grid


def coarse(x):
    return x[..., ::2, ::2]


def ahead(model, past, frames):
    """So many frames from however many there are."""
    import torch

    model.eval()
    with torch.no_grad():
        found = [model.inner(x.movedim(1, -1)[:, None], steps=frames) for x in past.split(16)]
    return torch.cat(found)[:, 0].movedim(-1, 1)


@study.arm(cases=[{"network": n} for n in ("space and time", "space", "no zeros")])
def flow(seed, network, steps, runs, tests, folder):
    """Decaying turbulence: the next seven frames from eight, at equal steps."""
    import torch
    from _maps import Maps, fit, relative_errors, size

    from slipstream.grids import Grid
    from slipstream.objectives.norms import RelativeL2

    past, future, fine = stretches(runs, 1000)
    grid = Grid.box(POINTS, [axis.extent for axis in fine.axes])
    torch.manual_seed(seed)
    model = networks()[network]()
    spent = fit(
        model,
        Maps(coarse(past), coarse(future[:, 1::2]), grid, BATCH),
        RelativeL2(),
        seed=seed,
        folder=folder,
        steps=steps,
    )
    past, future, _ = stretches(tests, 2000)

    def error(past, future, grid):
        return relative_errors(model, past, future, grid).mean().item()

    kept = RelativeL2()(past[:, None, -1:].expand_as(future[:, None, 1::2]), future[:, None, 1::2], fine).mean().item()
    row = {"error": error(coarse(past), coarse(future[:, 1::2]), grid), "persistence": kept}
    row["error_fine"] = error(past, future[:, 1::2], fine)
    if network != "space":
        many, few = ahead(model, coarse(past), 2 * FUTURE + 1), ahead(model, coarse(past[:, PAST // 2 :]), FUTURE)
        row["error_between"] = RelativeL2()(many[:, None, ::2], coarse(future[:, None, ::2]), grid).mean().item()
        row["error_short"] = RelativeL2()(few[:, None], coarse(future[:, None, 1::2]), grid).mean().item()
    return {**row, "parameters": size(model), **spent}


@study.arm()
def laws():
    """Twice as many frames and one more: every second one is as before."""
    import torch

    torch.manual_seed(0)
    model = networks()["space and time"]().double()
    with torch.no_grad():
        model.inner.added.weight.add_(torch.randn_like(model.inner.added.weight))
        x = torch.randn(2, PAST, 16, 16, dtype=torch.float64)
        few, many = model(x), ahead(model, x, 2 * FUTURE + 1)
    return {"gap": ((many[:, 1::2] - few).abs().max() / few.abs().max()).item()}


@study.law("Asked for the frames between as well, it gives the others as before.", at_most=1e-10)
def consistent(rows):
    return max(rows.values("gap", arm="laws"))


@study.law("The FNO in space has no fewer parameters.", at_least=1.0)
def sizes(rows):
    found = rows.where(arm="flow")
    return min(found.values("parameters", network="space")) / max(found.values("parameters", network="space and time"))


def of_ours(rows, what):
    found = rows.where(arm="flow", network="space and time")
    return found.mean(what) / found.mean("error")


@study.effect("Frames between those that it was trained for have at most 1.2 of their error.", at_most=1.2, quick=10.0)
def between(rows):
    return of_ours(rows, "error_between")


@study.effect(
    "On a grid twice as fine the error is at most 1.2 of that on the grid of the training.", at_most=1.2, quick=10.0
)
def finer(rows):
    return of_ours(rows, "error_fine")


@study.effect(
    "From half of the past, without having been trained so, it has at most 1.5 of the error.", at_most=1.5, quick=10.0
)
def shorter(rows):
    return of_ours(rows, "error_short")


@study.effect(
    "At equal steps it has at most the error of an FNO in space with no fewer parameters.", at_most=1.0, quick=10.0
)
def against_space(rows):
    return rows.mean("error", network="space and time") / rows.mean("error", network="space")


@study.effect("Zeros that keep the ends of time apart help.", at_most=1.0, quick=10.0)
def zeros(rows):
    return rows.mean("error", network="space and time") / rows.mean("error", network="no zeros")


@study.picture
def picture(rows, figure):
    axes = figure.subplots()
    names = {
        "error": "frames of the training",
        "error_between": "between",
        "error_fine": "finer grid",
        "error_short": "half the past",
    }
    for network, mark in (("space and time", "o"), ("no zeros", "s"), ("space", "^")):
        found = rows.where(arm="flow", network=network)
        known = [what for what in names if what in found[0]]
        axes.plot([names[what] for what in known], [found.mean(what) for what in known], mark, label=network)
    axes.axhline(rows.mean("persistence", arm="flow"), color="grey", linestyle=":", label="latest frame kept")
    axes.set(ylabel="relative L2", yscale="log")
    axes.legend()
