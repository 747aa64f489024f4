"""Latent spectral models: whether solving in a few tokens of each patch helps the U-Net around it."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

from slipstream.app.studies import Study

QUESTION = "Does a U-Net gain from neural spectral blocks on its scales, beyond the parameters and the attention that they bring?"
TABLE = {
    "error": "relative L2 on new samples",
    "error_mean": "relative L2 over 20 steps",
    "parameters": "parameters",
    "seconds_a_step": "seconds a training step",
    "largest": "largest error of the fit",
    "exponent": "cost grows as points to the power",
}
BUDGET = {"minutes": 5.0, "steps": 1000, "flow_minutes": 4.0, "samples": 800, "tests": 100, "runs": 16, "repeats": 20}
QUICK = {"minutes": 0.08, "steps": 4, "flow_minutes": 0.08, "samples": 48, "tests": 8, "runs": 2, "repeats": 3}

study = Study(QUESTION, seeds=(0, 1, 2), budget=BUDGET, quick=QUICK, table=TABLE)

BASES = (4, 8, 12)


@study.arm()
def series():
    """How well the functions of the spectral map can follow others on [-1, 1], by least squares.

    However many frequencies there are, all lie below pi: what turns faster than half a period is followed badly.
    """
    import torch

    from slipstream.operators.layers.latent import TrigonometricMap

    t = torch.linspace(-1, 1, 401, dtype=torch.float64)
    targets = {"smooth": torch.exp(-t) * torch.sin(3 * t) + t**2, "steep": torch.tanh(3 * t)}
    rows = []
    for target, values in targets.items():
        for basis in BASES:
            functions = TrigonometricMap(1, basis).functions(t)
            weights = torch.linalg.lstsq(functions, values[:, None], driver="gelsd").solution
            largest = (functions @ weights - values[:, None]).abs().max().item()
            rows.append({"target": target, "basis": basis, "largest": largest})
    return rows


@study.arm(cases=[{"what": "block"}, {"what": "attention"}])
def cost(what, repeats):
    """Time of a neural spectral block, and of attention among all points, on ever finer grids (processor time, the least of many)."""
    import math
    import time

    import torch
    from torch.nn.functional import scaled_dot_product_attention

    from slipstream.operators.layers import NeuralSpectralBlock

    block = NeuralSpectralBlock(32, 2)

    def attention(x):
        points = x.flatten(2).unflatten(1, (block.heads, -1)).mT
        return scaled_dot_product_attention(points, points, points)

    function, sizes = {"block": (block, (64, 128, 256)), "attention": (attention, (16, 32, 64))}[what]
    seconds = []
    with torch.no_grad():
        for points in sizes:
            x, found = torch.randn(1, 32, points, points), []
            for _ in range(repeats):
                start = time.process_time()
                function(x)
                found.append(time.process_time() - start)
            seconds.append(min(found))
    exponent = math.log(seconds[-1] / seconds[0]) / math.log((sizes[-1] / sizes[0]) ** 2)
    return {"exponent": exponent, "sizes": list(sizes), "seconds": seconds}


def operators():
    """The arms: all of it, its trunk at no fewer parameters, attention without the spectral map."""
    import torch
    from _maps import size

    from slipstream.operators import LSM

    full = partial(LSM, levels=4, patch=4, padding="zero", coordinates=True)
    with torch.device("meta"):
        wanted = size(full(hidden_channels=16, heads=4))
        # Even, so that its normalisation has groups as well.
        wide = next(w for w in range(16, 99, 2) if size(full(hidden_channels=w, heads=1, latent=False)) >= wanted)
    return {
        "lsm": partial(full, hidden_channels=16, heads=4),
        "trunk": partial(full, hidden_channels=wide, heads=1, latent=False),
        "attention only": partial(full, hidden_channels=16, heads=4, transition=False),
    }


CASES = [{"operator": "lsm"}, {"operator": "trunk"}, {"operator": "attention only"}]


def darcy_row(seed, operator, samples, tests, folder, **budget):
    import torch
    from _darcy import darcy
    from _maps import Maps, fit, relative_errors, size

    from slipstream.objectives.norms import RelativeL2

    known, new = darcy(samples, 64, 100), darcy(tests, 64, 200)
    torch.manual_seed(seed)
    model = operators()[operator](in_channels=1, out_channels=1)
    source = Maps(known.inputs, known.targets, known.grid, 8)
    spent = fit(model, source, RelativeL2(), seed=seed, folder=folder, lr=5e-4, **budget)
    error = relative_errors(model, new.inputs, new.targets, new.grid).mean().item()
    return {"error": error, "parameters": size(model), **spent}


@study.arm(cases=CASES)
def darcy_flow(seed, operator, minutes, samples, tests, folder):
    """Pressure from a permeability of two values, at equal training time."""
    return darcy_row(seed, operator, samples, tests, folder, minutes=minutes)


@study.arm(cases=CASES, seeds=1)
def equal_steps(seed, operator, steps, samples, tests, folder):
    """The same at equal steps of the optimiser, more of them."""
    return darcy_row(seed, operator, samples, tests, folder, steps=steps)


@study.arm(cases=[{"network": "lsm"}, {"network": "fno"}], seeds=1)
def flow(seed, network, flow_minutes, runs, folder):
    """Decaying turbulence, step by step, at equal training time: no claim, reported as it is."""
    from _flow import march
    from _maps import size

    from slipstream.operators import FNO, LSM

    factory = {
        "lsm": partial(LSM, hidden_channels=16, heads=4, levels=3),
        "fno": partial(FNO, n_modes=(12, 12), hidden_channels=24),
    }[network]
    stepper, row = march(factory, seed=seed, minutes=flow_minutes, runs=runs, folder=folder)
    return {"parameters": size(stepper), **row}


@study.law("Twelve frequencies follow a smooth function on [-1, 1] to 1e-3.", at_most=1e-3)
def follows(rows):
    return rows.mean("largest", arm="series", target="smooth", basis=12)


@study.law("More frequencies follow it better.", at_most=1.0)
def ever_better(rows):
    errors = [rows.mean("largest", arm="series", target="smooth", basis=b) for b in BASES]
    return max(b / a for a, b in pairwise(errors))


@study.effect("The time of a block grows no faster than with points to the power 1.15.", at_most=1.15, quick=1.5)
def linear_cost(rows):
    return rows.mean("exponent", arm="cost", what="block")


@study.effect("Blocks on every scale cut the error of the U-Net around them, at equal parameters and time, by 5 % or more.",
              at_most=0.95, quick=10.0)  # fmt: skip
def against_trunk(rows):
    timed = rows.where(arm="darcy_flow")
    trunk, full = timed.where(operator="trunk"), timed.where(operator="lsm")
    assert min(trunk.values("parameters")) >= max(full.values("parameters"))
    return full.mean("error") / trunk.mean("error")


@study.effect("The spectral map between the two attentions does no harm.", at_most=1.0, quick=10.0)
def against_attention(rows):
    timed = rows.where(arm="darcy_flow")
    return timed.mean("error", operator="lsm") / timed.mean("error", operator="attention only")


@study.effect("At equal steps blocks cut the error of the U-Net around them by 5 % or more.", at_most=0.95, quick=10.0)
def step_by_step(rows):
    found = rows.where(arm="equal_steps")
    return found.mean("error", operator="lsm") / found.mean("error", operator="trunk")


@study.picture
def picture(rows, figure):
    left, right = figure.subplots(1, 2)
    for number, name in enumerate(("lsm", "trunk", "attention only")):
        errors = rows.values("error", arm="darcy_flow", operator=name)
        left.plot([number] * len(errors), errors, "o", label=name)
    left.set(ylabel="relative L2 on new samples", xticks=[])
    left.legend(fontsize="small")
    for target in ("smooth", "steep"):
        found = rows.where(arm="series", target=target)
        right.semilogy([r["basis"] for r in found], [r["largest"] for r in found], "o-", label=target)
    right.legend(fontsize="small")
    right.set(xlabel="frequencies", ylabel="largest error of the fit")
