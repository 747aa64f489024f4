"""Two-scale nonlinear conduction: a law learnt at points in place of the cells under every Gauss point."""

from __future__ import annotations

from slipstream.app.studies import Study

QUESTION = (
    "Does a small network in place of the cells make a whole two-scale solve faster at equal error, against a tuned micro-solver with "
    "consistent tangents and against polynomials and tables that know the same symmetries?"
)
SEEDS = (0, 1, 2)
TABLE = {
    "law": "law of the small scale",
    "mesh": "mesh",
    "error": "relative error of u",
    "milliseconds": "ms a solve, one thread",
    "law_error": "relative error of the flux on unseen points of the box",
    "set_up_seconds": "s of set-up (labels and fit)",
}

study = Study(
    QUESTION,
    SEEDS,
    budget={"macro": 32, "micro": 32, "samples": 12000, "runs": 2, "rounds": 5, "steps": 60},
    quick={"macro": 12, "micro": 12, "samples": 1500, "runs": 1, "rounds": 3, "steps": 10},
    table=TABLE,
)
NETWORK = "network 24x2"


@study.arm()
def race(seed, macro, micro, samples, runs, rounds, steps):
    """Every law does the same solves, by turns in one process; the reference has twice the pixels of the labels."""
    import time

    import torch

    from slipstream.assessment.speed import race as take_turns
    from slipstream.assessment.speed import threads
    from slipstream.operators import PointLaw, PolynomialLaw, SecantLaw, TableLaw
    from slipstream.problems import Setting, TwoScaleConduction
    from slipstream.problems.two_scale import Cells
    from slipstream.steppers import Upscaled, rollout

    problem = TwoScaleConduction(macro=(macro, macro), micro=(micro, micro))
    _, parameters = problem.sample(runs, seed=1000 + seed)
    empty = torch.empty(runs, 0, 1, *problem.grid.shape)
    one = {k: v[:1] for k, v in parameters.items()}

    def solve(stepper, p=None):
        known = empty if p is None else empty[:1]
        return rollout(stepper, known, 1, parameters=parameters if p is None else p)

    def error(u, truth):
        return float(((u - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)).mean())

    with threads(1), torch.no_grad():
        double = {k: v.double() for k, v in parameters.items()}
        trusted = Cells(2 * micro, 3e-3, 3e-2)
        truth = rollout(problem.solver(Setting(macro, 0, trusted)), empty.double(), 1, parameters=double)
        # How far the reference is to be trusted, on a mesh half as fine, where it costs a quarter and shows the same.
        half = {k: v[:1] for k, v in double.items()}
        pair = [
            rollout(problem.solver(Setting(macro // 2, 0, c)), empty[:1].double(), 1, parameters=half)
            for c in (trusted, Cells(3 * micro, 3e-3, 3e-2))
        ]
        own = error(*pair)

        start = time.perf_counter()
        x, y = problem.law_data(samples, seed)
        labels = time.perf_counter() - start
        points, fluxes = problem.law_data(512, 500 + seed, micro=3 * micro // 2)
        points, fluxes = points[32:], fluxes[32:]  # the corners of the box come first, and would dominate

        laws, set_up = {}, {}
        for name, law, arguments in (
            (NETWORK, PointLaw(), {"steps": steps, "seed": seed}),
            ("polynomial, degree 4", SecantLaw(PolynomialLaw(5, 1, 4)), {}),
            ("polynomial, degree 6", SecantLaw(PolynomialLaw(5, 1, 6)), {}),
            ("table 6^5", SecantLaw(TableLaw(5, 1, 6)), {}),
        ):
            start = time.perf_counter()
            with torch.enable_grad():
                law.fit(x, y, **arguments)
            laws[name], set_up[name] = law, labels + time.perf_counter() - start

        meshes = sorted({macro // 2, 3 * macro // 4, macro})
        arms = {(name, macro): Upscaled(law, problem) for name, law in laws.items()}
        for cells in (8, 12, 16, 24):
            for mesh in meshes:
                arms[f"cells {cells}^2", mesh] = problem.solver(Setting(mesh, 0, Cells(cells)))
        # Tight enough (the macroscopic residual too) that one of them reaches whatever the network may reach.
        for cells in (12, 16, 24, micro, 3 * micro // 2):
            arms[f"cells {cells}^2, tight", macro] = problem.solver(Setting(macro, 0, Cells(cells, 0.02)))
        errors = {arm: error(solve(stepper), truth.float()) for arm, stepper in arms.items()}
        seconds = take_turns({arm: (lambda s=s: solve(s, one)) for arm, s in arms.items()}, rounds=rounds, budget=60.0)

        # Laws: symmetries and tangents of the network, in float64.
        network = laws[NETWORK].double()
        z = points.double()
        mirrored, exchanged = z.clone(), z[:, [1, 0, 3, 2, 4]]
        mirrored[:, 0] *= -1
        flux = network(z)
        asymmetry = max(
            float((network(mirrored) * torch.tensor([-1.0, 1.0]) - flux).abs().max()),
            float((network(exchanged).flip(1) - flux).abs().max()),
        ) / float(flux.abs().max())
        _, tangent = network.linearised(z)
        step = 1e-6
        moved = [z + step * torch.eye(5, dtype=z.dtype)[i] for i in (0, 1)]
        back = [z - step * torch.eye(5, dtype=z.dtype)[i] for i in (0, 1)]
        differences = torch.stack(
            [(network(a) - network(b)) / (2 * step) for a, b in zip(moved, back, strict=True)], -1
        )
        bent = float((tangent - differences).abs().max() / tangent.abs().max())
        network.float()

    rows = []
    for (name, mesh), stepper in arms.items():
        row = {
            "law": name,
            "mesh": mesh,
            "error": errors[name, mesh],
            "milliseconds": 1e3 * seconds[name, mesh],
            "reference_error": own,
            "asymmetry": asymmetry,
            "tangent_error": bent,
        }
        if name in laws:
            row["set_up_seconds"] = set_up[name]
            row["law_error"] = float((laws[name](points) - fluxes).norm() / fluxes.norm())
            row["parameters"] = sum(v.numel() for v in stepper.law.parameters())
        rows.append(row)
    return rows


def _by_seed(rows):
    return [rows.where(seed=s) for s in sorted({r["seed"] for r in rows})]


def _ratio(rows):
    """Milliseconds of the cheapest cells that reach the network's error (or ten times the reference's) over the network's."""
    (network,) = rows.where(law=NETWORK)
    level = max(network["error"], 10 * network["reference_error"])
    able = [r["milliseconds"] for r in rows if r["law"].startswith("cells") and r["error"] <= level]
    return min(able) / network["milliseconds"]


@study.effect(
    "At equal error a whole macroscopic solve is at least 12 times faster, with every seed.", at_least=12.0, quick=1.0
)
def promised(rows):
    return min(map(_ratio, _by_seed(rows)))


@study.effect(
    "At equal error a whole macroscopic solve is 30 times faster, in the mean over seeds.", at_least=30.0, quick=1.0
)
def sought(rows):
    ratios = [_ratio(r) for r in _by_seed(rows)]
    return sum(ratios) / len(ratios)


@study.effect(
    "No polynomial and no table is as accurate as the network: the best has at least 1.5 times its error, with every seed.",
    at_least=1.5,
    quick=0.1,
)
def rivals(rows):
    found = []
    for r in _by_seed(rows):
        (network,) = r.where(law=NETWORK)
        others = [q["error"] for q in r if not q["law"].startswith("cells") and q["law"] != NETWORK]
        found.append(min(others) / network["error"])
    return min(found)


@study.effect("Training has paid off after at most 200 solves, with every seed.", at_most=200.0, quick=1e6)
def paid_off(rows):
    found = []
    for r in _by_seed(rows):
        (network,) = r.where(law=NETWORK)
        gain = (_ratio(r) - 1) * network["milliseconds"] / 1e3
        found.append(network["set_up_seconds"] / gain if gain > 0 else float("inf"))
    return max(found)


@study.law("The network's mirrors and exchange of axes are exact.", at_most=1e-12)
def symmetries(rows):
    return max(rows.values("asymmetry"))


@study.law("The network's tangents are the derivatives of its fluxes.", at_most=1e-6)
def tangents(rows):
    return max(rows.values("tangent_error"))


@study.picture
def picture(rows, figure):
    axes = figure.subplots()
    kinds = {"cells": ("o", "C0"), "network": ("*", "C3"), "polynomial": ("s", "C2"), "table": ("^", "C4")}
    for kind, (marker, colour) in kinds.items():
        found = [r for r in rows if r["law"].startswith(kind)]
        axes.loglog(
            [r["milliseconds"] for r in found],
            [r["error"] for r in found],
            marker,
            color=colour,
            label=kind,
            ms=9,
            alpha=0.7,
        )
    axes.set_xlabel("milliseconds a solve, one thread")
    axes.set_ylabel("relative error of u")
    axes.legend()
