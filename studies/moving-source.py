"""Steady queries around a moving source and a moving hole: a network for POD coefficients against tuned elements and other laws."""

from __future__ import annotations

from slipstream.app.studies import Study

QUESTION = (
    "Where a source and a hole move, does a network answer steady queries faster than tuned finite elements at equal error, one at a time "
    "and many at once, and is it needed: what do linear bases, polynomials and radial functions reach from the same solutions?"
)
SEEDS = (0, 1, 2)
TABLE = {
    "law": "who answers",
    "error": "relative error",
    "milliseconds": "ms a query, one at a time, one thread",
    "batched": "ms a query, 64 at a time, one thread",
    "set_up_seconds": "s of set-up (labels and fit)",
}

study = Study(
    QUESTION,
    SEEDS,
    budget={"runs": 4000, "steps": 2000, "snapshots": 1000, "modes": 200, "judged": 64, "rounds": 9},
    quick={"runs": 400, "steps": 60, "snapshots": 150, "modes": 60, "judged": 8, "rounds": 3},
    table=TABLE,
)
NETWORK, POLISHED = "network", "network + 1 Newton step"


@study.arm()
def race(seed, runs, steps, snapshots, modes, judged, rounds):
    """Everybody answers the same queries, by turns in one process."""
    import time

    import torch

    from slipstream.assessment.speed import race as take_turns
    from slipstream.assessment.speed import threads
    from slipstream.objectives import Own
    from slipstream.operators import RBF, CoefficientNet, PolynomialLaw
    from slipstream.problems import MovingSource
    from slipstream.steppers import Reduced, rollout
    from slipstream.training import Descent, Fit, Muon, train

    problem = MovingSource()
    with threads(1):
        start = time.perf_counter()
        data = problem.simulate(runs, 1, seed=seed)
        labels = time.perf_counter() - start
        truth = problem.simulate(judged, 1, seed=2**20 + seed)
        few = {k: v[:2] for k, v in truth.parameters.items()}
        own = float(problem.reference_error(truth.frames[:2, :0], few, 1))

        degrees = [d for d in (3, 4, 5) if len(PolynomialLaw(7, 1, d).index) <= runs]
        laws = {f"polynomial, degree {d}": PolynomialLaw(7, modes, d) for d in degrees}
        laws["radial functions, cubic"] = RBF(7, modes, runs)
        torch.manual_seed(seed)
        arms, set_up = {}, {}
        for name, law in {NETWORK: CoefficientNet(7, modes), **laws}.items():
            stepper = Reduced(law, problem, snapshots)
            start = time.perf_counter()
            if name == NETWORK:
                update = Descent(0.01, Muon)
                train(stepper, data, Own(), steps=steps, batch=min(512, runs), update=update, seed=seed, show=False)
            else:
                train(stepper, data, Own(), steps=1, batch=runs, update=Fit(), seed=seed, show=False)
            arms[name], set_up[name] = stepper, labels + time.perf_counter() - start
        polished = Reduced(arms[NETWORK].law, problem, snapshots, polish=1)
        polished.load_state_dict(arms[NETWORK].state_dict())
        arms[POLISHED], set_up[POLISHED] = polished, set_up[NETWORK]
        for setting in problem.ladder():
            arms[str(setting)] = problem.solver(setting)

        many = truth[torch.arange(64) % judged]
        jobs = {name: (lambda s=s: rollout(s, truth[:1], 1, guard=False)) for name, s in arms.items()}
        crowds = {name: (lambda s=s: rollout(s, many, 1, chunk=64, guard=False)) for name, s in arms.items()}
        errors = {}
        for name, stepper in arms.items():
            new = rollout(stepper, truth, 1).frames
            away = (new - truth.frames).flatten(1).norm(dim=1) / truth.frames.flatten(1).norm(dim=1)
            errors[name] = float(away.mean())
        seconds = take_turns(jobs, rounds=rounds, budget=120.0)
        crowded = take_turns(crowds, rounds=max(3, rounds // 2), budget=120.0)

        # The symmetry, and what the Newton step leaves.
        p = truth.parameters
        mirrored = p | {n: -p[n] for n in ("source_x", "hole_x")}
        u, v = (rollout(arms[NETWORK], truth.frames[:, :0], 1, parameters=q)[:, 0, 0] for q in (p, mirrored))
        asymmetry = float((u - v.flip(1)).abs().max() / u.abs().max())
        state, _ = polished.advance(polished.start(truth.frames[:, :0], p), p)

    decay = {f"pod_{k}": float(e) for k, e in zip((10, 20, 50, 100, 200), arms[NETWORK].decay, strict=False)}
    rows = []
    for name in arms:
        row = {
            "law": name,
            "classical": name not in set_up,
            "error": errors[name],
            "milliseconds": 1e3 * seconds[name],
            "batched": 1e3 * crowded[name] / 64,
            "reference_error": own,
            "asymmetry": asymmetry,
            "residual_before": float(state.stats["residual_before"].mean()),
            "residual": float(state.stats["residual"].mean()),
            **{k: v for k, v in decay.items() if v == v},
        }
        if name in set_up:
            row["set_up_seconds"] = set_up[name]
        rows.append(row)
    return rows


def _by_seed(rows):
    return [rows.where(seed=s) for s in sorted({r["seed"] for r in rows})]


def _ratio(rows, key, law=NETWORK):
    """Time of the cheapest classical setting that reaches the law's error (or ten times the reference's) over the law's."""
    (found,) = rows.where(law=law)
    level = max(found["error"], 10 * found["reference_error"])
    return min(r[key] for r in rows if r["classical"] and r["error"] <= level) / found[key]


def _mean(values):
    values = list(values)
    return sum(values) / len(values)


@study.effect("The network's error is at most 2 %, with every seed.", at_most=0.02, quick=0.5)
def accurate(rows):
    return max(rows.values("error", law=NETWORK))


@study.effect(
    "A linear basis of 50 modes is not enough: its best possible error exceeds 0.5 %.", at_least=0.005, quick=0.001
)
def slow_decay(rows):
    return min(rows.values("pod_50", law=NETWORK))


@study.effect(
    "No polynomial and no radial function is as accurate as the network: the best has at least twice its error.",
    at_least=2.0,
    quick=0.1,
)
def rivals(rows):
    found = []
    for r in _by_seed(rows):
        (network,) = r.where(law=NETWORK)
        found.append(min(q["error"] for q in r if q["law"].startswith(("polynomial", "radial"))) / network["error"])
    return min(found)


@study.effect(
    "Many queries at once are answered 20 times faster at equal error, in the mean.", at_least=20.0, quick=0.5
)
def crowded(rows):
    return _mean(_ratio(r, "batched") for r in _by_seed(rows))


@study.effect("Many queries at once are answered at least 5 times faster, with every seed.", at_least=5.0, quick=0.2)
def promised(rows):
    return min(_ratio(r, "batched") for r in _by_seed(rows))


@study.effect("One query alone is answered 2 times faster at equal error, in the mean.", at_least=2.0, quick=0.5)
def alone(rows):
    return _mean(_ratio(r, "milliseconds") for r in _by_seed(rows))


@study.effect("One Newton step makes the network at least twice as accurate.", at_least=2.0, quick=1.0)
def polish(rows):
    found = [r.where(law=NETWORK)[0]["error"] / r.where(law=POLISHED)[0]["error"] for r in _by_seed(rows)]
    return min(found)


@study.effect("The polished network is faster than the classical solver of equal error.", at_least=1.0, quick=0.2)
def polished(rows):
    return _mean(_ratio(r, "milliseconds", POLISHED) for r in _by_seed(rows))


@study.law("The network's answers have the square's symmetries.", at_most=1e-5)
def symmetries(rows):
    return max(rows.values("asymmetry"))


@study.law("The Newton step makes the residual smaller.", at_most=0.5)
def balances(rows):
    return max(r["residual"] / r["residual_before"] for r in rows)


@study.picture
def picture(rows, figure):
    axes = figure.subplots()
    kinds = {
        "elements": (lambda r: r["classical"], "o", "C0"),
        "network": (lambda r: r["law"].startswith("network"), "*", "C3"),
        "polynomials": (lambda r: r["law"].startswith("polynomial"), "s", "C2"),
        "radial functions": (lambda r: r["law"].startswith("radial"), "^", "C4"),
    }
    for label, (belongs, marker, colour) in kinds.items():
        found = [r for r in rows if belongs(r)]
        axes.loglog(
            [r["milliseconds"] for r in found],
            [r["error"] for r in found],
            marker,
            color=colour,
            label=label,
            alpha=0.7,
        )
    axes.set_xlabel("milliseconds a query, one thread")
    axes.set_ylabel("relative error")
    axes.legend()
