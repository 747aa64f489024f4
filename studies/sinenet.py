"""SineNet: whether it is the distance that features move which makes several thin U-Nets better than one thick or deep one."""

from __future__ import annotations

from functools import partial

from slipstream.app.studies import Study

QUESTION = "Do waves of thin U-Nets beat one U-Net of equal size more, the farther features move in a step, and more than depth explains?"
TABLE = {
    "error": "relative L2 of the next frame",
    "error_mean": "relative L2 over 20 steps",
    "parameters": "parameters",
    "seconds_a_step": "seconds a training step",
}
BUDGET = {"steps": 400, "minutes": 3.0, "runs": 16, "tests": 256}
QUICK = {"steps": 6, "minutes": 0.08, "runs": 2, "tests": 16}
LONG = {"steps": 1000}

study = Study(QUESTION, seeds=(0, 1, 2), budget=BUDGET, quick=QUICK, table=TABLE, long=LONG)

PARAMETERS = 400_000
NEAR, FAR = 1.0, 12.0
"""Cells that everything moves in a step."""
POINTS = 64


def networks():
    """All of one size and width on the finest grid; they differ in waves, in blocks a grid, and in whether averages run along."""
    from slipstream.operators import SineNet

    common = partial(SineNet, hidden_channels=12, num_parameters=PARAMETERS)
    return {
        "1 wave": partial(common, waves=1),
        "4 waves": partial(common, waves=4),
        "8 waves": partial(common, waves=8),
        "1 deep wave": partial(common, waves=1, blocks=8),
        "8 tangled waves": partial(common, waves=8, disentangled=False),
    }


def moved(u, shift):
    """A periodic field (sample, x, y) moved by `shift` (sample, 2) cells, exactly: in Fourier space."""
    import torch

    n = u.shape[-1]
    k = 2 * torch.pi * torch.fft.fftfreq(n, dtype=torch.float64)
    half = 2 * torch.pi * torch.fft.rfftfreq(n, dtype=torch.float64)
    phase = shift[:, 0, None, None] * k[:, None] + shift[:, 1, None, None] * half
    return torch.fft.irfft2(torch.fft.rfft2(u) * torch.exp(-1j * phase), s=(n, n))


def pictures(count, distance, generator):
    """Three frames of blobs that move by `distance` cells in one direction, another in every sample: two to look at, one to find."""
    import torch

    from slipstream.grids import Grid
    from slipstream.solvers.linear.systems import gaussian_fields

    grid = Grid.box(POINTS, 1.0, num_dims=2)
    u = gaussian_fields(count, grid, generator, length=0.06, smoothness=4.0)
    angle = 2 * torch.pi * torch.rand(count, generator=generator, dtype=torch.float64)
    step = distance * torch.stack([angle.cos(), angle.sin()], 1)
    frames = torch.stack([u, moved(u, step), moved(u, 2 * step)], 1).float()
    return frames[:, :2], frames[:, 2:], grid


def translation_row(seed, network, distance, steps, tests, folder):
    import torch
    from _maps import fit, relative_errors, size

    from slipstream.data import Source
    from slipstream.objectives.norms import RelativeL2
    from slipstream.trajectories import Window

    class Fresh(Source):
        """New blobs in every batch."""

        def next(self, generator):
            inputs, targets, grid = pictures(8, distance, generator)
            return Window(targets[:, None], grid, 0.0, {"input": inputs})

    torch.manual_seed(seed)
    model = networks()[network](in_channels=2, out_channels=1)
    spent = fit(model, Fresh(), RelativeL2(), seed=seed, folder=folder, steps=steps)
    inputs, targets, grid = pictures(tests, distance, torch.Generator().manual_seed(10_000))
    return {"error": relative_errors(model, inputs, targets, grid).mean().item(), "parameters": size(model), **spent}


@study.arm(cases=[{"network": n, "distance": d} for n in ("1 wave", "8 waves") for d in (NEAR, FAR)])
def translation(seed, network, distance, steps, tests, folder):
    """The next frame of moving blobs, at equal parameters and equal steps of the optimiser."""
    return translation_row(seed, network, distance, steps, tests, folder)


CONTROLS = ("4 waves", "1 deep wave", "8 tangled waves")


@study.arm(cases=[{"network": n, "distance": FAR} for n in CONTROLS], seeds=1)
def controls(seed, network, distance, steps, tests, folder):
    """Half the waves; equal depth in one wave; no averages along the way down."""
    return translation_row(seed, network, distance, steps, tests, folder)


@study.arm(cases=[{"network": "1 wave"}, {"network": "4 waves"}])
def flow(seed, network, minutes, runs, folder):
    """Decaying turbulence whose features move by 4 to 14 cells a step, at equal parameters and equal training time."""
    from _flow import march
    from _maps import size

    stepper, row = march(networks()[network], seed=seed, minutes=minutes, runs=runs, folder=folder)
    return {"parameters": size(stepper), **row}


@study.arm()
def laws():
    """Sizes, and shifts by multiples of 2^levels points."""
    import torch
    from _maps import size

    rows = []
    for name, factory in networks().items():
        torch.manual_seed(0)
        model = factory(in_channels=2, out_channels=1).double()
        x = torch.randn(1, 2, POINTS, POINTS, dtype=torch.float64)
        with torch.no_grad():
            gap = (model(x.roll(16, 2)).roll(-16, 2) - model(x)).abs().max() / model(x).abs().max()
        rows.append({"network": name, "parameters": size(model), "gap": gap.item()})
    return rows


@study.law("All networks have the same number of parameters to 2 %.", at_most=0.02)
def equal_sizes(rows):
    return max(abs(r["parameters"] / PARAMETERS - 1) for r in rows.where(arm="laws"))


@study.law("Shifts by 16 points pass through unchanged.", at_most=1e-10)
def equivariant(rows):
    return max(rows.values("gap", arm="laws"))


def gain(rows, distance):
    found = rows.where(arm="translation", distance=distance)
    return found.mean("error", network="8 waves") / found.mean("error", network="1 wave")


@study.effect(
    "Where blobs move by 12 cells, eight waves have at most 0.7 of the error of one.", at_most=0.7, quick=10.0
)
def far(rows):
    return gain(rows, FAR)


@study.effect("Where they move by one cell, the errors differ by at most 10 %.", at_most=0.1, quick=10.0)
def near(rows):
    return abs(gain(rows, NEAR) - 1)


@study.effect(
    "The farther, the better: from one cell to 12 the ratio of the errors of eight waves and one falls by a fifth.",
    at_most=0.8,
    quick=10.0,
)
def interaction(rows):
    return gain(rows, FAR) / gain(rows, NEAR)


@study.effect(
    "Depth does not explain it: eight waves have at most 0.9 of the error of one wave as deep.", at_most=0.9, quick=10.0
)
def against_depth(rows):
    return rows.mean("error", arm="translation", network="8 waves", distance=FAR, seed=0) / rows.mean(
        "error", arm="controls", network="1 deep wave"
    )


@study.effect("In turbulence four waves beat one over 20 steps by two standard errors.", at_least=2.0, quick=-1e9)
def turbulence(rows):
    one, four = (rows.values("error_mean", arm="flow", network=n) for n in ("1 wave", "4 waves"))

    def spread(values):
        mean = sum(values) / len(values)
        return sum((v - mean) ** 2 for v in values) / max(len(values) - 1, 1) / len(values)

    difference = sum(one) / len(one) - sum(four) / len(four)
    return difference / max(spread(one) + spread(four), 1e-30) ** 0.5


@study.picture
def picture(rows, figure):
    axes = figure.subplots()
    for network in ("1 wave", "8 waves"):
        for distance in (NEAR, FAR):
            errors = rows.values("error", arm="translation", network=network, distance=distance)
            axes.plot([f"{network}, {distance:g}"] * len(errors), errors, "o")
    for network in CONTROLS:
        axes.plot([f"{network}, {FAR:g}"], rows.values("error", arm="controls", network=network), "x")
    axes.set(yscale="log", ylabel="relative L2 of the next frame")
    axes.tick_params(axis="x", labelrotation=20)
