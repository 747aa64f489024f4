"""Deep conjugate directions: does a learnt direction make the iterations of a Poisson solver independent of the grid, and who is fastest?

A small network is trained without solutions, on mixtures of Ritz vectors of boxes with obstacles, and then solves on larger grids and
obstacles that it has not seen. The network of `trained` knows the couplings of the system (`CycleNet`). The arms of `ablated` take as many
steps and change one thing each: no training at all, rectifiers, the residual's loss, couplings that only scale features (`DirectionNet`).
Two arms change more, because one thing cannot be changed alone: "white" draws white noise, whose energy is not known, and so also takes the
residual's loss (its pair is "residual"); "paper" is wiring, rectifiers, biases and loss of the paper. The clock stands beside every
classical solver that fits, each at the same relative residual; all times are those of the processor, one thread.
"""

from __future__ import annotations

from slipstream.app.studies import Study

QUESTION = (
    "Does a network that guesses the search direction make the iterations of a Poisson solver independent of the grid, "
    "whatever the obstacles, and is it faster than factorisation, multigrid or conjugate gradients?"
)
TABLE = {
    "iterations": "iterations to 1e-6",
    "fallback": "of them without the network",
    "classical": "iterations of CG",
    "milliseconds": "ms a system (processor time)",
    "prepared": "ms of preparation before",
    "residual": "worst relative residual",
    "training": "seconds of training (processor time)",
    "gap": "worst deviation",
}
BUDGET = {"steps": 4000, "steps_3d": 2000, "sizes": (16, 32, 64), "sizes_3d": (8, 16, 24), "marched": 100}
QUICK = {"steps": 150, "steps_3d": 20, "sizes": (16, 32), "sizes_3d": (8,), "marched": 30}

study = Study(QUESTION, seeds=(0, 1, 2), budget=BUDGET, quick=QUICK, table=TABLE)

TOLERANCE = 1e-6
POINTS = (64, 128, 256)
POINTS_3D = (16, 32, 48)
SYSTEMS = 8
WAYS = ("untrained", "rectified", "residual", "gated", "white", "paper")


def network(dims, way="ours"):
    from slipstream.operators import CycleNet, DirectionNet

    channels = {"in_channels": 2 + 2 * dims, "num_dims": dims, "hidden_channels": 16}
    if way == "paper":
        wiring = {"levels": 1, "shared": False, "linear": False, "bias": True, "blocks": (1, 3, 2)}
        return DirectionNet(**channels, conditions=1 + 2 * dims, **wiring)
    if way == "gated":
        return DirectionNet(**channels, conditions=1 + 2 * dims, blocks=(0, 2, 1))
    return CycleNet(**channels, linear=way != "rectified")


def boxes(points, dims, seed, count=SYSTEMS, kind="mixed"):
    """Systems with one fixed wall at least: "empty", all walls fixed; "mixed", random balls, and walls of both kinds along the axes."""
    import torch

    from slipstream.solvers.linear import Boundary, CellPoisson
    from slipstream.solvers.linear.systems import unit_box

    grid = unit_box(points, dims)
    generator = torch.Generator().manual_seed(seed)
    fluid = torch.ones(count, *grid.shape, dtype=torch.bool)
    walls = [Boundary.DIRICHLET] * dims
    if kind != "empty":
        x = grid.coordinates(torch.float64)
        for i in range(count):
            for _ in range(int(torch.randint(1, 4, (), generator=generator))):
                centre = torch.rand(dims, generator=generator, dtype=torch.float64)
                radius = 0.08 + 0.12 * float(torch.rand((), generator=generator))
                away = (x - centre.reshape(-1, *[1] * dims)).square().sum(0)
                fluid[i] &= away > radius**2
        walls[1:] = [Boundary.NEUMANN] * (dims - 1)
    return CellPoisson(fluid, grid, walls)


def sides(A, seed, kind):
    """One right-hand side a system: white noise, or a smooth bump."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    if kind == "white":
        b = torch.randn(A.batch, *A.space, generator=generator, dtype=torch.float64)
    else:
        x = A.grid.coordinates(torch.float64)
        centre = torch.rand(A.batch, A.grid.num_dims, generator=generator, dtype=torch.float64)
        away = (x[None] - centre.reshape(A.batch, -1, *[1] * A.grid.num_dims)).square().sum(1)
        b = torch.exp(-30 * away)
    return A.consistent(b)


def learn(dims, way, steps, sizes, seed, folder):
    """Train; systems of both kinds on every size."""
    from dataclasses import replace

    import torch

    import slipstream as ss
    from slipstream.data import RitzVectors
    from slipstream.objectives import ConjugateDirection

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    net = network(dims, way)
    if way == "untrained":
        return net
    systems = [boxes(n, dims, 1000 + seed + 7 * i, 4, kind) for n in sizes for i, kind in enumerate(("empty", "mixed"))]

    class White(RitzVectors):
        """White noise on the fluid instead, in the same windows."""

        def next(self, generator):
            window = super().next(generator)
            fluid = self.members[int(window.parameters["member"][0])].fluid[window.parameters["system"]]
            b = torch.randn(window.frames.shape, generator=generator) * fluid[:, None, None]
            size = b.flatten(1).norm(dim=1).reshape(-1, *[1] * (b.ndim - 1))
            return replace(window, frames=b / size)

    kind = White if way == "white" else RitzVectors
    source = kind(systems, vectors=300, stress=3.0, seed=seed)
    objective = ConjugateDirection(systems, "residual" if way in ("residual", "paper", "white") else "energy")
    ss.train(net, source, objective, steps=steps, lr=5e-3, seed=seed, folder=folder, show=False)
    return net


def iterations(net, A, seed):
    from slipstream.solvers.linear import CG, DCDM, solve

    found = {"iterations": 0, "fallback": 0, "classical": 0, "residual": 0.0}
    for kind in ("white", "smooth"):
        b = sides(A, seed, kind)
        ours = solve(A, b, method=DCDM(net), tol=TOLERANCE, max_iterations=3000)
        plain = solve(A, b, method=CG(), tol=TOLERANCE, max_iterations=3000)
        found["iterations"] = max(found["iterations"], ours.iterations)
        found["fallback"] = max(found["fallback"], ours.fallback)
        found["classical"] = max(found["classical"], plain.iterations)
        found["residual"] = max(found["residual"], float(ours.residuals[-1].max()))
    return found


@study.arm(cases=[{"way": "ours"}])
def trained(seed, steps, sizes, folder, way):
    """Trained on grids of up to 64 points an axis; worst of unseen obstacles and right-hand sides."""
    net = learn(2, way, steps, sizes, seed, folder)
    return [
        {"points": n, "kind": kind} | iterations(net, boxes(n, 2, 50 + seed, 3, kind), seed)
        for n in POINTS
        for kind in ("empty", "mixed")
    ]


@study.arm(cases=[{"way": way} for way in WAYS], seeds=1)
def ablated(seed, steps, sizes, folder, way):
    """The same with one thing changed, but for "white" and "paper", where it is more."""
    net = learn(2, way, steps, sizes, seed, folder)
    return [{"points": n, "kind": "mixed"} | iterations(net, boxes(n, 2, 50 + seed, 3), seed) for n in POINTS]


@study.arm(cases=[{"dims": 2}, {"dims": 3}], seeds=1)
def clock(seed, steps, steps_3d, sizes, sizes_3d, folder, dims):
    """Every solver on the same systems; preparation apart. Least of three rounds in turns, one thread."""
    import time

    import torch

    from slipstream.errors import InputError
    from slipstream.solvers.linear import AMG, CG, DCDM, IC, LU, Diffusion, FastPoisson, Multigrid, Solver
    from slipstream.solvers.linear.maps import as_map

    torch.set_num_threads(1)
    begun = time.process_time()
    net = learn(dims, "ours", steps if dims == 2 else steps_3d, sizes if dims == 2 else sizes_3d, seed, folder)
    training = time.process_time() - begun
    rows = []
    for n in POINTS if dims == 2 else POINTS_3D:
        for kind in ("empty", "mixed"):
            A = boxes(n, dims, 50 + seed, 1, kind)
            b = sides(A, seed, "white")[0]
            ways = {
                "DCDM": (A, DCDM(net), None),
                "CG": (A, CG(), None),
                "CG + IC": (A, CG(), IC()),
                "CG + AMG": (A, CG(), AMG()),
            }
            if dims == 2 or n <= 32:
                ways["LU"] = (A, LU(), None)
            plain = Diffusion(torch.ones(1, *A.space, dtype=torch.float64), A.grid, list(A.boundaries))
            transform, fluid = FastPoisson().build(as_map(plain, b[None])), A.fluid.flatten(1).double()

            def around(r, transform=transform, fluid=fluid):
                """The transform of the box, which knows everything but the obstacles."""
                return transform(r * fluid) * fluid + r * (1 - fluid)

            ways["CG + FastPoisson"] = (A, CG(), around)
            if kind == "empty":
                ways["FastPoisson"] = (plain, FastPoisson(), None)
                ways["CG + Multigrid"] = (plain, CG(), Multigrid())
            best = {}
            for _ in range(3):
                for solver, (system, method, preconditioner) in ways.items():
                    try:
                        start = time.process_time()
                        made = Solver(
                            system, method=method, preconditioner=preconditioner, tol=TOLERANCE, max_iterations=3000
                        )
                        made.solve(torch.zeros_like(b))  # factors and hierarchies are made at the first call
                        middle = time.process_time()
                        result = made.solve(b)
                        end = time.process_time()
                    except InputError as error:
                        best[solver] = {"note": str(error)}
                        continue
                    row = {"milliseconds": 1e3 * (end - middle), "prepared": 1e3 * (middle - start)}
                    old = best.get(solver, {})
                    best[solver] = {k: min(v, old.get(k, v)) for k, v in row.items()} | {
                        "iterations": result.iterations,
                        "residual": float(result.residuals[-1].max()),
                        "reached": result.converged,
                    }
            best["DCDM"]["training"] = training
            rows += [{"points": n, "kind": kind, "solver": solver, **row} for solver, row in best.items()]
    return rows


@study.arm(seeds=1)
def identity(seed):
    """With the identity for a network, against SciPy's conjugate gradients; relative to the largest value."""
    import numpy as np
    import torch
    from scipy.sparse.linalg import cg

    from slipstream.solvers.linear import DCDM
    from slipstream.solvers.linear.maps import as_map

    generator = torch.Generator().manual_seed(seed)
    q = torch.linalg.qr(torch.randn(200, 200, generator=generator, dtype=torch.float64))[0]
    A = (q * torch.logspace(0, 3, 200, dtype=torch.float64)) @ q.T
    b = torch.randn(200, generator=generator, dtype=torch.float64)
    theirs: list[np.ndarray] = []
    cg(A.numpy(), b.numpy(), rtol=1e-14, maxiter=20, callback=lambda x: theirs.append(x.copy()))
    rows = []
    for directions in (1, 2):
        method = DCDM(torch.nn.Identity(), directions, patience=None)
        worst = 0.0
        for k, y in enumerate(theirs, start=1):
            with torch.no_grad():
                x = method.iterate(
                    as_map(A, b[None]), torch.zeros_like(b[None]), b[None], None, torch.zeros(1, dtype=b.dtype), k
                ).x[0]
            worst = max(worst, float(np.abs(x.numpy() - y).max() / np.abs(y).max()))
        rows.append({"directions": directions, "gap": worst})
    return rows


@study.arm(seeds=1)
def energy(seed, marched):
    """An untrained network of rectifiers: by how much the squared energy norm of the error ever rises, relative to the first."""
    import torch

    from slipstream.solvers.linear import DCDM, LU, solve
    from slipstream.solvers.linear.maps import as_map

    rows = []
    for dims, points in ((2, 32), (3, 12)):
        A = boxes(points, dims, seed, 1)
        b = sides(A, seed, "white")
        exact = solve(A, b, method=LU(), tol=1e-13).x
        torch.manual_seed(seed)
        method, worst = DCDM(network(dims, "rectified"), patience=None), -1.0
        first = before = float((exact * b).sum())
        zero, flat = torch.zeros_like(b).flatten(1), b.flatten(1)
        for k in range(1, marched + 1):
            with torch.no_grad():
                x = method.iterate(as_map(A, b), zero, flat, None, torch.zeros(1, dtype=b.dtype), k).x.reshape(b.shape)
            error = x - exact
            after = float((error * A(error)).sum())
            worst, before = max(worst, (after - before) / first), after
        rescued = solve(A, b, method=DCDM(network(dims, "rectified")), tol=TOLERANCE, max_iterations=3000)
        rows.append({"dims": dims, "gap": worst, "residual": float(rescued.residuals[-1].max())})
    return rows


@study.law("With the identity it is the conjugate gradient method, iterate by iterate.", at_most=1e-8)
def same(rows):
    return max(rows.values("gap", arm="identity"))


@study.law("The energy norm of the error never rises, whatever the network says.", at_most=1e-12)
def monotone(rows):
    return max(rows.values("gap", arm="energy"))


@study.law("With the fallback an untrained network still reaches the tolerance.", at_most=1.01e-6)
def rescued(rows):
    return max(rows.values("residual", arm="energy"))


@study.effect("From 64^2 to 256^2 the iterations grow by less than two times.", at_most=2.0, quick=20.0)
def growth(rows):
    found = rows.where(arm="trained")
    return max(
        found.mean("iterations", points=256, kind=kind) / found.mean("iterations", points=64, kind=kind)
        for kind in ("empty", "mixed")
    )


@study.effect("At 128^2 it needs at most a fifth of the iterations of CG.", at_most=0.2, quick=1.1)
def fewer(rows):
    found = rows.where(arm="trained", points=128)
    return found.mean("iterations") / found.mean("classical")


def against(rows, way, points):
    """Iterations of `trained` as a share of those of an ablation, with obstacles."""
    ours = rows.mean("iterations", arm="trained", points=points, kind="mixed", seed=0)
    return ours / rows.mean("iterations", arm="ablated", way=way, points=points)


@study.effect("Training at least halves the iterations at 256^2.", at_most=0.5, quick=1.2)
def taught(rows):
    return against(rows, "untrained", 256)


@study.effect(
    "The loss in the energy norm needs fewer iterations than that of the residual at 256^2.", at_most=0.9, quick=1.2
)
def energetic(rows):
    return against(rows, "residual", 256)


@study.effect("Without rectifiers it needs fewer iterations at 256^2.", at_most=0.9, quick=1.2)
def straight(rows):
    return against(rows, "rectified", 256)


@study.effect(
    "Features that are told of the couplings and do not use them need twice the iterations at 256^2.",
    at_most=0.5,
    quick=1.2,
)
def knowing(rows):
    return against(rows, "gated", 256)


@study.effect(
    "The wiring of the paper needs five times the iterations at 256^2, where training saw 64^2.", at_most=0.2, quick=1.2
)
def wiring(rows):
    return against(rows, "paper", 256)


def fastest(rows, dims, points, kind):
    """Ratio of the time of DCDM to that of the best classical solver, preparation included in both: above 1, the classical one wins."""
    found = [r for r in rows.where(arm="clock", dims=dims, points=points, kind=kind) if r.get("reached")]
    times = {r["solver"]: r["milliseconds"] + r["prepared"] for r in found}
    ours = times.pop("DCDM")
    return ours / min(times.values()), min(times, key=times.get)


@study.effect(
    "At 256^2 with obstacles it is faster than the best classical solver: ratio of times.", at_most=1.0, quick=20.0
)
def wins_2d(rows):
    return fastest(rows, 2, 256, "mixed")[0]


@study.effect(
    "At 48^3 with obstacles it is faster than the best classical solver: ratio of times.", at_most=1.0, quick=50.0
)
def wins_3d(rows):
    return fastest(rows, 3, 48, "mixed")[0]


@study.effect("On an empty box the transform stays the fastest: ratio of times at 256^2.", at_least=1.0)
def transform(rows):
    return fastest(rows, 2, 256, "empty")[0]


@study.picture
def picture(rows, figure):
    left, right = figure.subplots(1, 2)
    for kind in ("empty", "mixed"):
        found = rows.where(arm="trained", kind=kind)
        left.loglog(POINTS, [found.mean("iterations", points=n) for n in POINTS], "o-", label=f"learnt, {kind}")
        left.loglog(POINTS, [found.mean("classical", points=n) for n in POINTS], "s--", label=f"CG, {kind}")
    for way in WAYS:
        found = rows.where(arm="ablated", way=way)
        left.loglog(POINTS, [found.mean("iterations", points=n) for n in POINTS], ":", label=way)
    left.set(xlabel="points an axis", ylabel="iterations to 1e-6")
    left.legend(fontsize="xx-small")
    places = [(d, n, k) for d, points in ((2, POINTS), (3, POINTS_3D)) for n in points for k in ("empty", "mixed")]
    solvers = sorted({r["solver"] for r in rows.where(arm="clock")})
    for solver in solvers:
        times = {}
        for i, (d, n, k) in enumerate(places):
            for r in rows.where(arm="clock", dims=d, points=n, kind=k):
                if r["solver"] == solver and r.get("reached"):
                    times[i] = r["milliseconds"] + r["prepared"]
        right.semilogy(list(times), list(times.values()), "o", label=solver)
    winners = [fastest(rows, *p)[0] for p in places]
    right.set(ylabel="ms a system, preparation included", xticks=range(len(places)))
    right.set_xticklabels(
        [f"{n}^{d} {k} ({w:.1f} times)" for (d, n, k), w in zip(places, winners, strict=True)],
        rotation=60,
        ha="right",
        fontsize="xx-small",
    )
    right.legend(fontsize="xx-small")
