"""Krylov subspace recycling: what deflation, carrying and sorting save on a set of similar systems, and what wins on the clock."""

from __future__ import annotations

from slipstream.app.studies import Study

QUESTION = (
    "What do deflated restarts, a carried subspace and a good order each save when many similar systems are solved, "
    "and does the clock agree?"
)
TABLE = {
    "iterations": "iterations a system, warm starts included",
    "milliseconds": "ms a system (processor time)",
    "reached": "systems that reached the tolerance",
    "residual": "worst relative residual",
    "angle": "mean largest angle to the wanted subspace",
}
BUDGET = {"systems": 8, "points_2d": 64, "points_3d": 32, "orders": 64, "rate_points": (64, 128), "rate_systems": 64}
QUICK = {"systems": 3, "points_2d": 32, "points_3d": 12, "orders": 12, "rate_points": (32, 64), "rate_systems": 16}

study = Study(QUESTION, seeds=(0, 1, 2), budget=BUDGET, quick=QUICK, table=TABLE)

FAMILIES = ("helmholtz", "convection-diffusion", "darcy")
WAYS = ("restarted", "deflated", "carried", "sorted")
"""GMRES(40); GCRO-DR(40, 20) from nothing; with the subspace of the system before; the same in greedy order. Each adds one thing."""
TOLERANCE = {"helmholtz": 1e-7, "convection-diffusion": 1e-8, "darcy": 1e-8}


def family(name, systems, points, seed, dims=2, correlation=0.0):
    """Systems of the card, and the preconditioner that all ways get."""
    import torch

    from slipstream.solvers.linear import Jacobi
    from slipstream.solvers.linear import systems as families

    generator = torch.Generator().manual_seed(seed)
    make = {
        "helmholtz": families.helmholtz,
        "convection-diffusion": families.convection_diffusion,
        "darcy": families.darcy,
    }[name]
    made = make(systems, points, generator, dims=dims, correlation=correlation)
    return made, Jacobi() if name == "darcy" else None


def told(results, seconds):
    return {
        "iterations": sum(r.iterations for r in results) / len(results),
        "milliseconds": 1e3 * seconds / len(results),
        "reached": sum(r.converged for r in results),
        "residual": max(float(r.residuals[-1].max()) for r in results),
    }


@study.arm(cases=[{"kind": kind} for kind in FAMILIES])
def saving(seed, systems, points_2d, kind):
    """Iterations of each way on the same systems at the same tolerance; every solve starts from zero."""
    import time

    from slipstream.solvers.linear import GCRODR, GMRES, greedy_order, solve, solve_sequence

    made, preconditioner = family(kind, systems, points_2d, seed)
    how = {"preconditioner": preconditioner, "tol": TOLERANCE[kind], "max_iterations": 40_000}
    ways = {
        "restarted": lambda: [solve(*made[i], method=GMRES(40), **how) for i in range(systems)],
        "deflated": lambda: [solve(*made[i], method=GCRODR(40, 20), **how) for i in range(systems)],
        "carried": lambda: solve_sequence(made, method=GCRODR(40, 20), **how),
        "sorted": lambda: solve_sequence(made, method=GCRODR(40, 20), order=greedy_order(made.parameters), **how),
    }
    rows = []
    for way in WAYS:
        start = time.process_time()
        results = ways[way]()
        rows.append({"way": way, **told(results, time.process_time() - start)})
    return rows


@study.arm(cases=[{"order": order} for order in ("sorted", "random", "adversarial")])
def order(seed, orders, order):
    """A family of one parameter: log a = t times a fixed field. The angle is that of the carried space to the five lowest modes."""
    import torch

    from slipstream.solvers.linear import GCRODR, Diffusion, greedy_order, largest_angle, solve
    from slipstream.solvers.linear.systems import gaussian_fields, unit_box

    generator = torch.Generator().manual_seed(seed)
    grid = unit_box(24, 2)
    t = 2 * torch.rand(orders, generator=generator, dtype=torch.float64)
    A = Diffusion((t[:, None, None] * gaussian_fields(1, grid, generator)).exp(), grid)
    b = torch.ones(grid.shape, dtype=torch.float64)
    way = torch.randperm(orders, generator=generator).tolist()
    if order == "sorted":
        way = greedy_order(t, first=int(t.argmin()))
    elif order == "adversarial":
        way, left = [int(t.argmin())], set(range(orders)) - {int(t.argmin())}
        while left:
            way.append(max(left, key=lambda i: float((t[i] - t[way[-1]]).abs())))
            left.remove(way[-1])
    space, iterations, angles = None, [], []
    for i in way:
        if space is not None:
            modes = torch.linalg.eigh(A[i].dense()[0]).eigenvectors[:, :5].T
            angles.append(largest_angle(A[i](space.vectors.reshape(-1, *grid.shape)).flatten(1), modes))
        result = solve(A[i], b, method=GCRODR(30, 10, space), tol=1e-8, max_iterations=20_000)
        assert result.converged, result.reason
        space = result.recycled
        iterations.append(result.iterations)
    return {"iterations": sum(iterations[1:]) / (orders - 1), "angle": sum(angles) / len(angles)}


PLACES = (
    {"place": "darcy 2D", "kind": "darcy", "dims": 2, "correlation": 0.0},
    {"place": "helmholtz 2D", "kind": "helmholtz", "dims": 2, "correlation": 0.0},
    {"place": "darcy 3D", "kind": "darcy", "dims": 3, "correlation": 0.0},
    {"place": "convection-diffusion 3D", "kind": "convection-diffusion", "dims": 3, "correlation": 0.0},
    {"place": "convection-diffusion 3D, slow sweep", "kind": "convection-diffusion", "dims": 3, "correlation": 0.9999},
    {"place": "helmholtz 3D, slow sweep", "kind": "helmholtz", "dims": 3, "correlation": 0.9999},
)
SOLVERS = ("LU", "CG + Jacobi", "CG + AMG", "GMRES(40) + AMG", "GMRES(40) + Jacobi", "GMRES(300)", "GCRO-DR(40, 20)")


@study.arm(cases=PLACES, seeds=1)
def clock(seed, points_2d, points_3d, place, kind, dims, correlation):
    """Three systems, each prepared afresh, by solvers of every kind; one that does not reach the tolerance has no time."""
    import time

    from slipstream.errors import InputError
    from slipstream.solvers.linear import AMG, CG, GCRODR, GMRES, LU, Jacobi, solve, solve_sequence

    made, _ = family(kind, 3, points_2d if dims == 2 else points_3d, seed, dims, correlation)
    candidates = {
        "LU": (LU(), None),
        "CG + Jacobi": (CG(), Jacobi()),
        "CG + AMG": (CG(), AMG()),
        "GMRES(40) + AMG": (GMRES(40), AMG()),
        "GMRES(40) + Jacobi": (GMRES(40), Jacobi()),
        "GMRES(300)": (GMRES(300), Jacobi()),
        "GCRO-DR(40, 20)": (GCRODR(40, 20), Jacobi()),
    }
    rows = []
    for solver, (method, preconditioner) in candidates.items():
        how = {"preconditioner": preconditioner, "tol": TOLERANCE[kind], "max_iterations": 4000}
        results = []
        start = time.process_time()
        try:
            if isinstance(method, GCRODR):
                results = solve_sequence(made, method=method, **how)
            else:
                while len(results) < 3 and all(r.converged for r in results):
                    results.append(solve(*made[len(results)], method=method, **how))
        except InputError as error:
            rows.append({"solver": solver, "reached": 0, "note": str(error)})
            continue
        row = told(results, time.process_time() - start)
        if row["reached"] < 3:
            row = {"reached": row["reached"], "residual": row["residual"], "note": results[-1].reason}
        rows.append({"solver": solver, **row})
    return rows


@study.arm(seeds=1)
def rate(seed, rate_points, rate_systems):
    """Darcy data: batched CG with a transform in single precision, against sparse LU system by system; least of five rounds in turns.

    The assembly of the matrices is not counted for LU; that of the operator is counted for CG. Both end at a relative residual of 1e-8.
    """
    import time

    import numpy as np
    import torch
    from scipy.sparse.linalg import splu, spsolve

    from slipstream.solvers.linear import CG, Diffusion, FastPoisson, solve
    from slipstream.solvers.linear.direct import SYMMETRIC

    torch.set_num_threads(1)
    rows = []
    for points in rate_points:
        made, _ = family("darcy", rate_systems, points, seed)
        a, some = made.parameters, 4
        chunk = max(1, (1 << 19) // (8 * points**2))  # half a megabyte a field: what a core's cache keeps
        matrices = [made.A.matrix(i).tocsc() for i in range(some)]
        sides = [made.b[i].reshape(-1).numpy() for i in range(some)]
        worst = dict.fromkeys(("spsolve", "LU", "CG"), 0.0)

        def plain(matrices=matrices, sides=sides, worst=worst):
            for A, b in zip(matrices, sides, strict=True):
                x = spsolve(A, b)
                worst["spsolve"] = max(worst["spsolve"], float(np.linalg.norm(b - A @ x) / np.linalg.norm(b)))

        def tuned(matrices=matrices, sides=sides, worst=worst):
            for A, b in zip(matrices, sides, strict=True):
                x = splu(A, **SYMMETRIC).solve(b)
                worst["LU"] = max(worst["LU"], float(np.linalg.norm(b - A @ x) / np.linalg.norm(b)))

        def batched(a=a, made=made, worst=worst, chunk=chunk):
            for i in range(0, rate_systems, chunk):
                A, b = Diffusion(a[i : i + chunk], made.A.grid), made.b[i : i + chunk]
                result = solve(A, b, method=CG(flexible=True), preconditioner=FastPoisson(single=True), tol=1e-8)
                worst["CG"] = max(worst["CG"], float(result.residuals[-1].max()))

        jobs = {"spsolve": (plain, some), "LU": (tuned, some), "CG": (batched, rate_systems)}
        best = dict.fromkeys(jobs, float("inf"))
        for _ in range(5):
            for name, (job, count) in jobs.items():
                start = time.process_time()
                job()
                best[name] = min(best[name], (time.process_time() - start) / count)
        rows += [
            {"solver": name, "large": points == max(rate_points), "points": points}
            | {"milliseconds": 1e3 * best[name], "residual": worst[name]}
            for name in jobs
        ]
    return rows


@study.arm(cases=[{"kind": kind} for kind in FAMILIES])
def invariants(seed, kind):
    """The worst of every invariant over all cycles of two systems, and the distance of the answer from that of LU."""
    import torch

    from slipstream.solvers.linear import GCRODR, GMRES, LU, solve
    from slipstream.solvers.linear.maps import as_map
    from slipstream.solvers.linear.method import ready

    made, preconditioner = family(kind, 2, 24, seed)
    worst = dict.fromkeys(("image", "orthonormal", "recursion", "residual", "without"), 0.0)
    space = None
    for i in range(2):
        source, b = made[i]
        A, b = as_map(source, b[None]), b.reshape(-1)
        size = float(torch.linalg.vector_norm(b))
        inverse = ready(preconditioner, A)
        for cycle in GCRODR(40, 20, space).cycles(A, torch.zeros_like(b), b, inverse, 1e-9 * size, 40_000):
            space, C = cycle.recycled, cycle.new_images
            found = {
                "image": torch.linalg.matrix_norm(A(space.vectors) - C),
                "orthonormal": torch.linalg.matrix_norm(C.conj() @ C.T - torch.eye(len(C), dtype=C.dtype)),
                "recursion": torch.linalg.vector_norm(b - A(cycle.x[None])[0] - cycle.residual) / size,
            }
            worst |= {key: max(worst[key], float(value)) for key, value in found.items()}
        exact = solve(source, made.b[i], method=LU(), tol=1e-12).x.reshape(-1)
        gap = A((cycle.x - exact)[None])[0]
        worst["residual"] = max(worst["residual"], float(torch.linalg.vector_norm(gap)) / size)
    how = {"preconditioner": preconditioner, "tol": 1e-9, "max_iterations": 120}
    ours, theirs = (solve(*made[0], method=method, **how) for method in (GCRODR(40, 0), GMRES(40)))
    worst["without"] = float((ours.residuals - theirs.residuals).abs().max())
    return worst


@study.law("A U = C, for the kept subspace, after every cycle.", at_most=1e-10)
def image(rows):
    return max(rows.values("image", arm="invariants"))


@study.law("C^H C = I, for the kept subspace, after every cycle.", at_most=1e-12)
def orthonormal(rows):
    return max(rows.values("orthonormal", arm="invariants"))


@study.law("The residual of the recurrence is the true one, after every cycle.", at_most=1e-9)
def recursion(rows):
    return max(rows.values("recursion", arm="invariants"))


@study.law("The solution is that of a sparse LU, up to the tolerance.", at_most=1.1e-9)
def right(rows):
    return max(rows.values("residual", arm="invariants"))


@study.law("Without a kept subspace it is restarted GMRES, residual by residual.", at_most=1e-9)
def without(rows):
    return max(rows.values("without", arm="invariants"))


def ratio(rows, kind, more, less):
    return rows.mean("iterations", kind=kind, way=more) / rows.mean("iterations", kind=kind, way=less)


@study.effect(
    "On Helmholtz systems, all together save ten times the iterations of GMRES(40).", at_least=10.0, quick=2.0
)
def helmholtz(rows):
    return ratio(rows, "helmholtz", "restarted", "sorted")


@study.effect("On convection and diffusion, all together save 2.5 times.", at_least=2.5, quick=1.0)
def convection(rows):
    return ratio(rows, "convection-diffusion", "restarted", "sorted")


@study.effect("On Darcy flow, all together save 2.5 times.", at_least=2.5, quick=1.0)
def darcy(rows):
    return ratio(rows, "darcy", "restarted", "sorted")


@study.effect("The deflated restart alone brings at least half of it (in ratios) on Helmholtz systems.", at_least=0.5)
def deflation(rows):
    return ratio(rows, "helmholtz", "restarted", "deflated") / ratio(rows, "helmholtz", "restarted", "sorted")


@study.effect("Carrying the subspace saves on Darcy flow, its own products counted.", at_least=1.05, quick=0.8)
def carrying(rows):
    return ratio(rows, "darcy", "deflated", "carried")


@study.effect("For rough random fields, sorting alone saves less than a tenth.", at_most=1.1, quick=1.3)
def sorting(rows):
    return max(ratio(rows, kind, "carried", "sorted") for kind in FAMILIES)


@study.effect(
    "On a family of one parameter, the order matters: adversarial over sorted iterations.", at_least=1.05, quick=1.0
)
def one_parameter(rows):
    return rows.mean("iterations", order="adversarial") / rows.mean("iterations", order="sorted")


@study.effect("A better order keeps the carried space nearer: sorted over random angle.", at_most=0.8, quick=1.0)
def nearer(rows):
    return rows.mean("angle", order="sorted") / rows.mean("angle", order="random")


@study.effect("In two dimensions LU wins on the clock: recycling over LU, ms a system.", at_least=3.0, quick=1.0)
def two_dimensions(rows):
    found = [rows.where(arm="clock", place=p["place"]) for p in PLACES if p["dims"] == 2]
    return min(
        f.where(solver="GCRO-DR(40, 20)")[0].get("milliseconds", float("inf")) / f.mean("milliseconds", solver="LU")
        for f in found
    )


@study.effect(
    "In three dimensions, on a slow sweep of transport, recycling beats LU: LU over recycling, ms a system.",
    at_least=2.0,
    quick=0.1,
)
def three_dimensions(rows):
    found = rows.where(arm="clock", place="convection-diffusion 3D, slow sweep")
    return found.mean("milliseconds", solver="LU") / found.mean("milliseconds", solver="GCRO-DR(40, 20)")


@study.effect("Darcy data on the smaller grid, batched, against a loop of spsolve.", at_least=3.0, quick=1.0)
def rate_small(rows):
    found = rows.where(arm="rate", large=False)
    return found.mean("milliseconds", solver="spsolve") / found.mean("milliseconds", solver="CG")


@study.effect("Darcy data on the larger grid, batched, against a loop of spsolve.", at_least=3.0, quick=1.0)
def rate_large(rows):
    found = rows.where(arm="rate", large=True)
    return found.mean("milliseconds", solver="spsolve") / found.mean("milliseconds", solver="CG")


@study.effect(
    "The same on the larger grid against the best LU setting that we know (symmetric ordering).",
    at_least=1.5,
    quick=0.5,
)
def rate_tuned(rows):
    found = rows.where(arm="rate", large=True)
    return found.mean("milliseconds", solver="LU") / found.mean("milliseconds", solver="CG")


@study.law("Both ways of making Darcy data end at a relative residual of 1e-8 or below.", at_most=1e-8)
def rate_residual(rows):
    return max(rows.values("residual", arm="rate"))


@study.picture
def picture(rows, figure):
    left, right = figure.subplots(1, 2)
    for number, kind in enumerate(FAMILIES):
        heights = [rows.mean("iterations", kind=kind, way=way) for way in WAYS]
        left.bar([number + 0.2 * (i - 1.5) for i in range(4)], heights, width=0.18, color=["C0", "C1", "C2", "C3"])
    left.set(yscale="log", ylabel="iterations a system", xticks=range(3), title=", ".join(WAYS))
    left.set_xticklabels(FAMILIES, rotation=20, fontsize="small")
    for solver in SOLVERS:
        found = [rows.where(arm="clock", place=p["place"], solver=solver)[0].get("milliseconds") for p in PLACES]
        places = [i for i, value in enumerate(found) if value is not None]
        right.semilogy(places, [found[i] for i in places], "o", label=solver)
    right.set(ylabel="ms a system", xticks=range(len(PLACES)))
    right.set_xticklabels([p["place"] for p in PLACES], rotation=30, fontsize="xx-small", ha="right")
    right.legend(fontsize="xx-small")
