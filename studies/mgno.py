"""MgNO: whether a learnt linear layer shaped like a multigrid cycle is one, and what it is worth in a network."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

from slipstream.app.studies import Study

QUESTION = "Does a network of learnt multigrid cycles beat an FNO of its size where the domain has walls and the coefficients jump?"
TABLE = {
    "error": "relative L2 on new samples",
    "wall": "relative error in the two rows of points at the wall / inside",
    "error_fine": "the same on twice the points",
    "parameters": "parameters",
    "seconds_a_step": "seconds a step",
    "rate": "contraction a cycle",
    "iterations": "CG iterations to 1e-8",
}
BUDGET = {"minutes": 7.0, "linear_minutes": 4.0, "steps": 400, "samples": 800, "tests": 100}
QUICK = {"minutes": 0.08, "linear_minutes": 0.08, "steps": 15, "samples": 48, "tests": 8}

study = Study(QUESTION, seeds=(0, 1, 2), budget=BUDGET, quick=QUICK, table=TABLE)

SIX_GRIDS = ((1, 0),) * 5 + ((2, 0),)
KNOWN = {(1, 0): 0.59, (1, 1): 0.37, (2, 2): 0.19}
"""Contraction of V(before, after) for the five-point Laplacian, damped Jacobi (0.8), full weighting and bilinear interpolation."""


def negative_laplacian(x_weight=1.0, y_weight=1.0):
    import torch

    stencil = torch.zeros(3, 3, dtype=torch.float64)
    stencil[:, 1] += x_weight * torch.tensor([-1.0, 2.0, -1.0])
    stencil[1, :] += y_weight * torch.tensor([-1.0, 2.0, -1.0])
    return stencil


def apply(stencil, u, padding):
    import torch

    from slipstream.operators.layers import Pad

    return torch.nn.functional.conv2d(Pad(padding, 2)(u, 1), stencil[None, None].to(u))


def contraction(layer, stencil, padding, points, cycles=40):
    """Of the slowest error, by power iteration."""
    import torch

    e = torch.randn(1, 1, points, points, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    factor = 1.0
    with torch.no_grad():
        for _ in range(cycles):
            e = e / e.norm()
            e = e - layer(apply(stencil, e, padding))
            e = e - e.mean() if padding == "periodic" else e
            factor = e.norm().item()
    return factor


@study.arm()
def solver():
    """The layer filled in from the Laplacian, on grids of all sizes."""
    from slipstream.operators.layers import MultigridConv

    stencil = negative_laplacian()
    sizes = {"periodic": {32: 5, 64: 6, 128: 7, 256: 8}, "zero": {31: 5, 63: 6, 127: 7, 255: 8}}
    rows = []
    for padding, levels in sizes.items():
        for steps, known in KNOWN.items():
            for points, number in levels.items():
                layer = MultigridConv.from_operator(stencil, number, steps, padding, coarse="rescaled")
                rate = contraction(layer, stencil, padding, points)
                rows.append({"padding": padding, "steps": list(steps), "points": points, "rate": rate, "known": known})
    return rows


@study.arm()
def preconditioner():
    """V(1, 1) inside conjugate gradients, on a plate with walls at zero."""
    import torch

    from slipstream.operators.layers import MultigridConv
    from slipstream.solvers.linear import CG, solve

    stencil = negative_laplacian()
    rows = []
    for points, levels in {31: 5, 63: 6, 127: 7, 255: 8}.items():
        layer = MultigridConv.from_operator(stencil, levels, (1, 1), "zero").requires_grad_(False)
        right = torch.randn(1, points**2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

        def system(v, points=points):
            return apply(stencil, v.reshape(-1, 1, points, points), "zero").reshape(v.shape)

        for name, inverse in (("multigrid", layer.preconditioner((points, points))), ("none", None)):
            found = solve(system, right, method=CG(), preconditioner=inverse, tol=1e-8, max_iterations=5000)
            rows.append({"points": points, "inside": name, "iterations": found.iterations})
    return rows


@study.arm(seeds=1)
def trained(seed, steps, folder):
    """A cycle that is wrong for its operator (couplings 16 : 1, both axes coarsened), trained for five cycles to solve it."""
    import torch
    from _maps import Maps, fit

    from slipstream.grids import Grid
    from slipstream.objectives.norms import RelativeL2
    from slipstream.operators.layers import MultigridConv

    points, stencil = 31, negative_laplacian(16.0, 1.0)

    class Cycles(torch.nn.Module):
        """Five of them, from zero."""

        def __init__(self):
            super().__init__()
            self.layer = MultigridConv.from_operator(stencil.float(), 5, (1, 1), "zero")

        def forward(self, f):
            u = torch.zeros_like(f)
            for _ in range(5):
                u = u + self.layer(f - apply(stencil, u, "zero"))
            return u

    model = Cycles()
    before = contraction(MultigridConv.from_operator(stencil, 5, (1, 1), "zero"), stencil, "zero", points)
    grid = Grid.box(points, 1.0, num_dims=2, periodic=False)
    errors = torch.randn(256, 1, points, points, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for _ in range(4):  # what a cycle leaves: errors as they are met
            errors[64:] = errors[64:] - model.layer(apply(stencil, errors[64:], "zero"))
    errors = errors / errors.flatten(1).norm(dim=1)[:, None, None, None]
    spent = fit(
        model,
        Maps(apply(stencil, errors, "zero"), errors, grid, 16),
        RelativeL2(),
        seed=seed,
        folder=folder,
        steps=steps,
        lr=3e-3,
    )
    return {"before": before, "rate": contraction(model.layer.double(), stencil, "zero", points), **spent}


def linear_multigrid():
    import torch

    from slipstream.operators.layers import MultigridConv, Pointwise

    return torch.nn.Sequential(MultigridConv(1, 16, 2, SIX_GRIDS, "zero"), Pointwise(16, 1, bias=False))


def linear_stencils(depth=23):
    """As many 3 x 3 stencils in a row as the cycle has on its longest way, of the width that makes as many parameters."""
    import torch
    from _maps import size

    def chain(width):
        channels = [1, *(width,) * (depth - 1), 1]
        layers = [torch.nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in pairwise(channels)]
        for layer in layers:
            torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
        return torch.nn.Sequential(*layers)

    wanted = size(linear_multigrid())
    return chain(next(w for w in range(1, 100) if size(chain(w)) >= wanted))


LINEAR = {"multigrid": linear_multigrid, "stencils": linear_stencils}


@study.arm(cases=[{"layers": name} for name in LINEAR], seeds=1)
def poisson(seed, layers, linear_minutes, samples, tests, folder):
    """A linear map learnt by linear layers: from source to temperature, constant coefficients, walls at zero."""
    import torch
    from _maps import Maps, fit, relative_errors, size

    from slipstream.objectives.norms import RelativeL2
    from slipstream.solvers.linear import LU, Diffusion, Solver
    from slipstream.solvers.linear.systems import gaussian_fields, unit_box

    grid = unit_box(64, 2)
    f = gaussian_fields(samples + tests, grid, torch.Generator().manual_seed(100 + seed))
    plate = Solver(Diffusion(torch.ones(1, *grid.shape, dtype=f.dtype), grid), method=LU(), tol=1e-10)
    u = torch.stack([plate.solve(one).x for one in f])
    u = u / u.std()
    f, u = f[:, None].float(), u[:, None].float()
    torch.manual_seed(seed)
    model = LINEAR[layers]()
    source = Maps(f[:samples], u[:samples], grid, 8)
    spent = fit(model, source, RelativeL2(), seed=seed, folder=folder, minutes=linear_minutes)
    error = relative_errors(model, f[samples:], u[samples:], grid).mean().item()
    return {"error": error, "parameters": size(model), **spent}


def operators():
    """The arms of the comparison; each ablation differs from the first in one argument."""
    from slipstream.operators import FNO, MgNO

    mgno = partial(MgNO, hidden_channels=18, n_layers=4, cycle=SIX_GRIDS, padding="zero")
    return {
        "mgno": mgno,
        "fno": partial(FNO, n_modes=(12, 12), hidden_channels=24, padding="zero", coordinates=True),
        "mgno, periodic": partial(mgno, padding="periodic"),
        "mgno, residual restricted": partial(mgno, restriction="residual"),
        "mgno, one grid": partial(mgno, cycle=((2, 0),)),
    }


def darcy_row(seed, operator, minutes, samples, tests, folder):
    import torch
    from _darcy import darcy
    from _maps import Maps, answers, fit, relative_errors, size

    from slipstream.objectives.norms import RelativeH1

    known, new, fine = darcy(samples, 64, 100), darcy(tests, 64, 200), darcy(max(tests // 4, 2), 128, 300)
    torch.manual_seed(seed)
    model = operators()[operator](in_channels=1, out_channels=1)
    source = Maps(known.inputs, known.targets, known.grid, 8)
    spent = fit(model, source, RelativeH1(), seed=seed, folder=folder, minutes=minutes)
    wrong = (answers(model, new.inputs) - new.targets).square().mean((0, 1))
    there = new.targets.square().mean((0, 1))
    ring = torch.ones_like(there, dtype=torch.bool)
    ring[2:-2, 2:-2] = False
    at_wall, inside = (wrong[part].mean() / there[part].mean() for part in (ring, ~ring))
    return {
        "error": relative_errors(model, new.inputs, new.targets, new.grid).mean().item(),
        "error_fine": relative_errors(model, fine.inputs, fine.targets, fine.grid).mean().item(),
        "wall": (at_wall / inside).sqrt().item(),
        "parameters": size(model),
        **spent,
    }


@study.arm(cases=[{"operator": "mgno"}, {"operator": "fno"}])
def darcy_flow(seed, operator, minutes, samples, tests, folder):
    """Pressure from a permeability of two values, at equal training time."""
    return darcy_row(seed, operator, minutes, samples, tests, folder)


@study.arm(cases=[{"operator": f"mgno, {what}"} for what in ("periodic", "residual restricted", "one grid")], seeds=1)
def darcy_ablations(seed, operator, minutes, samples, tests, folder):
    """The same with one thing changed."""
    return darcy_row(seed, operator, minutes, samples, tests, folder)


@study.law(
    "Filled in from the Laplacian, a cycle contracts at the rate of multigrid, to 0.03, on every grid.", at_most=0.03
)
def known_rates(rows):
    return max(abs(r["rate"] - r["known"]) for r in rows.where(arm="solver"))


@study.law(
    "The number of CG iterations with a cycle inside grows by at most 2 from 31 to 255 points an axis.", at_most=2
)
def grid_independent(rows):
    counts = rows.values("iterations", arm="preconditioner", inside="multigrid")
    return max(counts) - min(counts)


@study.effect(
    "Training repairs a cycle that is wrong for its operator: contraction 0.7 or less.", at_most=0.7, quick=0.95
)
def repaired(rows):
    return rows.mean("rate", arm="trained")


@study.effect("One linear layer learns the Poisson solver to 1 %.", at_most=0.01, quick=1.0)
def linear_error(rows):
    return rows.mean("error", arm="poisson", layers="multigrid")


@study.effect("As many stencils in a row, with as many parameters, on one grid, stay above 20 %.", at_least=0.2)
def stencils_error(rows):
    return rows.mean("error", arm="poisson", layers="stencils")


@study.effect(
    "On jumping coefficients its error is at most 0.6 of that of an FNO with at least as many parameters after equal time.",
    at_most=0.6,
    quick=10.0,
)
def against_fno(rows):
    assert min(rows.values("parameters", operator="fno")) >= max(rows.values("parameters", operator="mgno"))
    return rows.mean("error", operator="mgno") / rows.mean("error", operator="fno")


@study.effect(
    "With walls in its stencils the relative error at the wall is less than twice that inside.", at_most=2.0, quick=10.0
)
def wall(rows):
    return rows.mean("wall", operator="mgno")


@study.effect("Without walls in its stencils that ratio at least doubles.", at_least=2.0, quick=0.0)
def wall_without(rows):
    return rows.mean("wall", operator="mgno, periodic") / rows.mean("wall", operator="mgno")


@study.picture
def picture(rows, figure):
    left, right = figure.subplots(1, 2)
    for padding, mark in (("periodic", "o"), ("zero", "x")):
        for steps in KNOWN:
            found = rows.where(arm="solver", padding=padding, steps=list(steps))
            left.plot([r["points"] for r in found], [r["rate"] for r in found], mark + "-", label=f"{padding} V{steps}")
    left.set_xscale("log", base=2)
    left.set(xlabel="points an axis", ylabel="contraction a cycle", ylim=(0, 1))
    left.legend(fontsize="x-small")
    names = [*dict.fromkeys(r["operator"] for r in rows if "operator" in r)]
    right.barh(names, [rows.mean("error", operator=n) for n in names])
    right.set(xlabel="relative L2 on new samples")
