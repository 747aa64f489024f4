"""Pretraining on other problems, then few runs of the one that is meant.

A small scOT learns decaying turbulence and steepening waves at once, from every frame to every later one (all pairs), or from every frame
to the next one alone. What it learnt is taken over for a shear-driven flow that it has not seen: its channels are others, so patch
embedding and recovery start afresh. Fine-tuning and training from scratch get as many steps on as many runs; scratch has the better of two
learning rates. Judged by the relative L2 error over the eight frames after a start that nobody has seen, at direct jumps of 1 to 8 frames.

"same rates" gives edges and normalisations the rate of the body, and "body rate" the body that of the edges. "FNO" is one of about as many
parameters, from scratch. Scratch reaches an error where a power law through its errors at 4 to 64 runs does so; beyond 64 runs only that it
needs more than 64 is said, so a gain is never extrapolated.
"""

from __future__ import annotations

from functools import partial

from slipstream.app.studies import Study

QUESTION = (
    "Does a pretrained operator need at most a quarter of the runs that training from scratch needs for the same error?"
)
TABLE = {
    "way": "way",
    "runs": "runs",
    "error": "mean relative L2 error of jumps",
    "error_far": "error of the longest jump",
    "semigroup": "one jump of 8 frames against two of 4",
    "seconds": "seconds of the processor",
}
BUDGET = {"pretraining": 2400, "steps": 600, "known": 96, "tests": 8}
QUICK = {"pretraining": 6, "steps": 4, "known": 2, "tests": 1}
LONG = {"pretraining": 12000, "known": 256}
RUNS = (4, 16, 64)
LEADS, POINTS, BATCH = 8, 32, 8
RATES = (5e-4, 2e-3)
"""Body; edges and normalisations."""

study = Study(QUESTION, seeds=(0, 1, 2), budget=BUDGET, quick=QUICK, table=TABLE, long=LONG)


def nano():
    from slipstream.operators import ScOT

    return partial(ScOT, hidden_channels=16, patch=2, window=8, depths=(2, 2), heads=(2, 4), position_channels=64)


def pretraining_problems():
    from slipstream.problems import DecayingFlow, SteepeningWaves

    return [
        DecayingFlow(num_points=POINTS, reynolds=100.0, interval=0.1),
        SteepeningWaves(num_points=POINTS, num_dims=2, viscosity=0.05, interval=0.05),
    ]


def downstream():
    from slipstream.problems import KolmogorovFlow

    return KolmogorovFlow(num_points=POINTS, reynolds=50.0, interval=0.2)


def pairs_of(frames):
    """Every frame after the first, from the first: a lead time a sample."""
    import torch

    past = frames.frames[:, :1].repeat_interleave(LEADS, 0)
    target = frames.frames[:, 1 : LEADS + 1].flatten(0, 1)[:, None]
    lead = frames.interval * torch.arange(1, LEADS + 1).repeat(frames.runs).to(past)
    parameters = {k: v.repeat_interleave(LEADS, 0) for k, v in frames.parameters.items()}
    return past, target, {**parameters, "lead_time": lead}


def judged(stepper, frames):
    """Errors of direct jumps, and how far two jumps are from one."""
    import torch

    from slipstream.assessment.metrics import relative_l2

    stepper.eval()
    past, target, parameters = pairs_of(frames)
    with torch.no_grad():
        errors = relative_l2(stepper(past, parameters), target, frames.grid).reshape(frames.runs, LEADS)
        start, rest = frames.frames[:, :1], dict(frames.parameters)
        leads = {n: torch.full((frames.runs,), n * frames.interval) for n in (LEADS // 2, LEADS)}
        half, whole = ({**rest, "lead_time": leads[n]} for n in (LEADS // 2, LEADS))
        twice = stepper(stepper(start, half), half)
        defect = relative_l2(twice, stepper(start, whole), frames.grid).mean().item()
    return {"error": errors.mean().item(), "error_far": errors[:, -1].mean().item(), "semigroup": defect}


def learn(stepper, source, steps, update, seed, folder):
    """Train in place; the seconds of the processor."""
    import time

    from slipstream.objectives import GroupedL1, Supervised
    from slipstream.training.loop import train

    begun = time.process_time()
    train(stepper, source, Supervised(GroupedL1()), steps=steps, update=update, seed=seed, folder=folder, show=False)
    return {"seconds": time.process_time() - begun}


def pretrained(seed, transitions, pretraining, known, folder):
    """A stepper for two problems at once, in a folder."""
    import torch

    from slipstream.data import PretrainingMixture
    from slipstream.problems import Recorded
    from slipstream.steppers import CommonChannels
    from slipstream.training import Descent

    source = PretrainingMixture(
        pretraining_problems(), runs=known, steps=LEADS + 1, seed=1000, batch=BATCH, transitions=transitions
    )
    torch.manual_seed(seed)
    stepper = CommonChannels(nano(), Recorded.of(source.trajectories()), coordinates=False, longest=LEADS)
    spent = learn(stepper, source, pretraining, Descent(RATES[1]), seed, folder / "pretraining")
    test = PretrainingMixture(pretraining_problems(), runs=8, steps=LEADS + 1, seed=2**20).trajectories()
    return stepper.save_pretrained(folder / "pretrained"), {**judged(stepper, test), **spent}


def fresh(seed, operator):
    """A stepper for the problem that is meant."""
    import torch

    from slipstream.steppers import Multiresolution

    torch.manual_seed(seed)
    return Multiresolution(operator, downstream(), coordinates=False, longest=LEADS)


def runs_of(count):
    """Pairs of so many runs; the same runs for every arm, fewer of them being the first ones."""
    from slipstream.data import AllPairs

    return AllPairs(downstream().simulate(count, LEADS + 1, seed=1000), BATCH)


def tested(stepper, tests):
    return judged(stepper, downstream().simulate(tests, LEADS + 1, seed=2**20))


@study.arm(cases=[{"pairs": "all"}, {"pairs": "next"}])
def tuned(seed, pairs, pretraining, known, steps, tests, folder):
    """One pretraining, then fine-tuning on 4 and 16 runs; "next" sees pairs of neighbours alone while it is pretrained."""
    import torch

    from slipstream.training import Finetune

    torch.set_num_threads(1)
    transitions = (1,) if pairs == "next" else None
    place, before = pretrained(seed, transitions, pretraining, known, folder)
    rows = [{"way": "pretraining", **before}]
    ways = {"published": (*RATES, RATES[1])}
    if pairs == "all" and seed == 0:
        ways |= {"same rates": (RATES[0],) * 3, "body rate": (RATES[1],) * 3}
    for way, (body, edges, norms) in ways.items():
        for runs in RUNS[:2] if way == "published" else RUNS[:1]:
            stepper = fresh(seed, nano())
            update = Finetune(place, body, edges, norms)
            spent = learn(stepper, runs_of(runs), steps, update, seed, folder / f"{way}-{runs}")
            rows.append({"way": way, "runs": runs, **tested(stepper, tests), **spent})
    return rows


@study.arm(cases=[{"runs": r, "lr": lr} for r in RUNS for lr in RATES])
def scratch(seed, runs, lr, steps, tests, folder):
    """The same network, as many steps, no pretraining."""
    import torch

    from slipstream.training import Descent

    torch.set_num_threads(1)
    stepper = fresh(seed, nano())
    spent = learn(stepper, runs_of(runs), steps, Descent(lr), seed, folder)
    return {**tested(stepper, tests), **spent}


@study.arm(cases=[{"runs": r} for r in RUNS[:2]], seeds=1)
def fno(seed, runs, steps, tests, folder):
    """A Fourier operator of about as many parameters, from scratch."""
    import torch

    from slipstream.operators import FNO
    from slipstream.training import Descent

    torch.set_num_threads(1)
    stepper = fresh(seed, partial(FNO, n_modes=(10, 10), hidden_channels=20, n_layers=4))
    spent = learn(stepper, runs_of(runs), steps, Descent(RATES[1]), seed, folder)
    return {**tested(stepper, tests), **spent}


@study.arm()
def taken_over():
    """What is copied, and what is not."""
    import torch

    from slipstream.problems import Recorded, Statistics
    from slipstream.steppers import CommonChannels
    from slipstream.training.finetune import take_over

    new, names = fresh(0, nano()), ["vorticity", "velocity_x", "velocity_y"]
    posed = Recorded(new.grid, 1.0, names, Statistics((0.0,) * 3, (1.0,) * 3, (1.0,) * 3))
    torch.manual_seed(1)
    old = CommonChannels(nano(), posed, coordinates=False, longest=LEADS)
    afresh = set(take_over(new, old))
    there = dict(old.network.named_parameters())
    away = [(p - there[n]).abs().max().item() for n, p in new.network.named_parameters() if n not in afresh]
    return {"copied": len(away), "away": max(away)}


@study.law("Outside of the edges the weights that are taken over are the pretrained ones, to the bit.", at_most=0.0)
def copied(rows):
    assert min(rows.values("copied", arm="taken_over")) > 0
    return max(rows.values("away", arm="taken_over"))


def from_scratch(rows, runs):
    """Mean error of the better learning rate."""
    return min(rows.mean("error", arm="scratch", runs=runs, lr=lr) for lr in RATES)


def fine_tuned(rows, runs, pairs="all", way="published", **where):
    return rows.mean("error", arm="tuned", pairs=pairs, way=way, runs=runs, **where)


def needed(rows, error):
    """Runs from scratch for that error, between measured ones along power laws; never more than were measured."""
    import math
    from itertools import pairwise

    found = [(r, from_scratch(rows, r)) for r in RUNS]
    if found[0][1] <= error:
        return float(found[0][0])
    for (n, e), (m, f) in pairwise(found):
        if f <= error:
            return n * (m / n) ** (math.log(e / error) / math.log(e / f))
    return float(RUNS[-1])


@study.effect(
    "Fine-tuned on 4 runs it has the error that scratch has with 16 or more: gain in runs.",
    at_least=4.0,
    quick=0.0,
)
def gain_at_4(rows):
    return needed(rows, fine_tuned(rows, 4)) / 4


@study.effect(
    "Fine-tuned on 16 runs it has the error that scratch has with 64 or more: gain in runs.",
    at_least=4.0,
    quick=0.0,
)
def gain_at_16(rows):
    return needed(rows, fine_tuned(rows, 16)) / 16


@study.effect("Pretrained on all pairs it is better by a tenth than on neighbours alone.", at_most=0.9, quick=100.0)
def all_pairs(rows):
    return fine_tuned(rows, 4, "all") / fine_tuned(rows, 4, "next")


@study.effect(
    "After pretraining on all pairs the longest jump has at most 0.8 of the error of one trained on neighbours alone.",
    at_most=0.8,
    quick=100.0,
)
def far(rows):
    return rows.mean("error_far", way="pretraining", pairs="all") / rows.mean(
        "error_far", way="pretraining", pairs="next"
    )


@study.effect("Edges and normalisations that learn faster than the body help.", at_most=1.0, quick=100.0)
def rates(rows):
    others = [fine_tuned(rows, 4, way=way, seed=0) for way in ("same rates", "body rate")]
    return fine_tuned(rows, 4, seed=0) / min(others)


@study.effect("Fine-tuned on 4 runs it is better than a Fourier operator from scratch on 16.", at_most=1.0, quick=100.0)
def against_fno(rows):
    return fine_tuned(rows, 4) / rows.mean("error", arm="fno", runs=16)


@study.picture
def picture(rows, figure):
    axes = figure.subplots()
    axes.loglog(RUNS, [from_scratch(rows, r) for r in RUNS], "o-", label="from scratch")
    for pairs in ("all", "next"):
        axes.loglog(RUNS[:2], [fine_tuned(rows, r, pairs) for r in RUNS[:2]], "s-", label=f"pretrained, {pairs} pairs")
    axes.loglog(RUNS[:2], [rows.mean("error", arm="fno", runs=r) for r in RUNS[:2]], "^:", label="FNO from scratch")
    axes.set(xlabel="runs", ylabel="mean relative L2 error of jumps of 1 to 8 frames")
    axes.legend()
