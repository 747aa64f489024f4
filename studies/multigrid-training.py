"""Multigrid training: small and many first, large and few at the end, every step at the same cost.

A Fourier operator learns to step a turbulent flow from windows of one frame and the four after it, with gradients through all four calls.
The baseline sees whole windows throughout; where another batch or learning rate serves it better, that one is the bar. Multigrid training
sees shorter windows on fewer points, in batches that cost as much, and ends with whole ones; rates follow the batches' square root. Both
are judged alike, on the full grid, by the relative L2 error over the first eight frames of rollouts from states they have not seen.

Each budget is a training of its own, with a learning rate that falls to its end: no training is read in its middle. Seconds are those
that the processor spent on training steps, windows included, in one thread: on an idle machine the time on the clock, and on a
busy one the same.

"space" changes the points alone, "time" the frames alone, "batch" the batches alone (whole windows in the batches of the full method, and
so fewer steps for the same cost), "same rate" leaves the learning rate alone, "never whole" ends as coarse as it began, "in order" has no
short cycle, "strides" also takes frames further apart and tells the operator their lead time.
"""

from __future__ import annotations

from slipstream.app.studies import Study

QUESTION = "Does training on short and coarse windows first reach the rollout error of training on whole ones in half the time?"
TABLE = {
    "error": "mean relative L2 error over 8 frames",
    "error_1": "error of the first frame",
    "seconds": "seconds of training",
    "steps_done": "steps",
    "spread": "spread of a step's seconds over shapes",
}
BUDGET = {"steps": 2400, "runs": 24, "frames": 40, "tests": 6, "warm_up": 8.0, "points": 64}
QUICK = {"steps": 32, "runs": 2, "frames": 12, "tests": 1, "warm_up": 0.2, "points": 32}
SHARES = (0.125, 0.25, 0.5, 1.0)
ABLATIONS = ("space", "time", "batch", "same rate", "never whole", "in order", "strides")
SETTINGS = ({"batch": 4, "lr": 2e-3}, {"batch": 1, "lr": 1e-3}, {"batch": 1, "lr": 4e-3})
JUDGED, CALLS, RATE = 8, 4, 2e-3

study = Study(QUESTION, seeds=(0, 1, 2), budget=BUDGET, quick=QUICK, table=TABLE)


def cycles_of(way):
    """The published cycles, or what an ablation leaves of them."""
    from slipstream.data import Cycles, Level

    coarse = Level(0.25, 0.5**0.5)
    return {
        "space": Cycles(long=(Level(1.0, 0.5**0.5), Level(1.0, 0.5**0.5), Level(), Level())),
        "time": Cycles(long=(Level(0.25), Level(0.5), Level(0.5), Level()), short=()),
        "never whole": Cycles(long=(coarse,), final=0.0),
        "in order": Cycles(short=()),
    }.get(way, Cycles())


def learn(seed, way, share, batch, lr, steps, runs, frames, tests, warm_up, points, folder):
    """One training of a share of the steps, and how well it does on new states."""
    import math
    import time
    from functools import partial

    import torch

    from slipstream.assessment.metrics import relative_l2
    from slipstream.data import Multigrid, Source, Windows
    from slipstream.objectives import Supervised, WithinWindow
    from slipstream.operators import FNO
    from slipstream.problems import KolmogorovFlow
    from slipstream.steppers import Multiresolution, rollout
    from slipstream.training import ByLevel, Callback, Cosine, Descent
    from slipstream.training.loop import train
    from slipstream.trajectories import Window

    class Spent(Callback):
        """Seconds of the processor, in all and by the level of the step."""

        def __init__(self):
            self.now, self.all, self.of = time.process_time(), 0.0, {}

        def on_step(self, run):
            past, self.now = self.now, time.process_time()
            self.all += self.now - past
            level = cycles.seen(run.progress, run.step - 1)
            key = f"{level.time:.3f} {level.space:.3f}"
            self.of.setdefault(key, []).append(self.now - past)

        def state_dict(self):
            return {"all": self.all, "of": self.of}

        def load_state_dict(self, state):
            self.now, self.all, self.of = (
                time.process_time(),
                state["all"],
                {k: list(v) for k, v in state["of"].items()},
            )

    class Grown(Source):
        """Whole windows, as many as the level would have."""

        def __init__(self, source):
            self.source, self.progress = source, 0.0

        def on_progress(self, progress):
            self.progress = progress

        def next(self, generator):
            several = [self.source.next(generator) for _ in range(round(cycles.level(self.progress).growth(2)))]
            return Window(torch.cat([w.frames for w in several]), several[0].grid, several[0].interval)

        def state_dict(self):
            return self.source.state_dict()

        def load_state_dict(self, state):
            self.source.load_state_dict(state)

    torch.set_num_threads(1)
    problem = KolmogorovFlow(num_points=points, reynolds=100, interval=0.2, warm_up=warm_up)
    known = problem.simulate(runs, frames, seed=1000)
    new = problem.simulate(tests, JUDGED + 1, seed=2**20)
    torch.manual_seed(seed)
    modes = (points // 5, points // 5)  # no more than the coarsest grid resolves
    operator = partial(FNO, n_modes=modes, hidden_channels=24, n_layers=4)
    stepper = Multiresolution(operator, problem, longest=CALLS if way == "strides" else 1)
    cycles, budget = cycles_of(way), share * steps / batch
    source = Windows(known, 1 + CALLS, batch)
    schedule = Cosine()
    if way == "batch":
        grown = sum(level.growth(2) for level in cycles.long) / len(cycles.long)
        budget /= (1 - cycles.final) * grown + cycles.final
        source = Grown(source)
    elif way != "plain":
        source = Multigrid(source, cycles=cycles, strides=way == "strides")
    if way not in ("plain", "same rate"):
        schedule = ByLevel(cycles, schedule)
    spent = Spent()
    done = train(
        stepper,
        source,
        WithinWindow(Supervised(calls=CALLS)),
        steps=max(1, round(budget)),
        update=Descent(lr),
        schedule=schedule,
        callbacks=[spent],
        seed=seed,
        folder=folder,
        show=False,
    )
    found, truth = rollout(stepper, new[:, :1], JUDGED, guard=False).frames, new.frames[:, 1:]
    errors = relative_l2(found, truth, new.grid).nan_to_num(1e3, 1e3).clamp(max=1e3)
    medians = [torch.tensor(v).median().item() for v in spent.of.values() if len(v) >= 3]
    mean = math.fsum(medians) / max(len(medians), 1)
    row = {
        "error": errors.mean().item(),
        "error_1": errors[:, 0].mean().item(),
        "seconds": spent.all,
        "steps_done": done.steps,
    }
    if way not in ("plain", "batch") and len(medians) > 1:
        row["spread"] = math.sqrt(math.fsum((m - mean) ** 2 for m in medians) / len(medians)) / mean
    return row


@study.arm(cases=[{"share": s} for s in SHARES])
def plain(seed, share, steps, runs, frames, tests, warm_up, points, folder):
    """Whole windows throughout."""
    return learn(seed, "plain", share, 1, RATE, steps, runs, frames, tests, warm_up, points, folder)


@study.arm(cases=[{"share": s} for s in SHARES])
def multigrid(seed, share, steps, runs, frames, tests, warm_up, points, folder):
    """The published cycles."""
    return learn(seed, "multigrid", share, 1, RATE, steps, runs, frames, tests, warm_up, points, folder)


@study.arm(cases=[{"way": w} for w in ABLATIONS], seeds=1)
def parts(seed, way, steps, runs, frames, tests, warm_up, points, folder):
    """One thing less, at a quarter of the budget."""
    return learn(seed, way, 0.25, 1, RATE, steps, runs, frames, tests, warm_up, points, folder)


@study.arm(cases=SETTINGS, seeds=1)
def tuning(seed, batch, lr, steps, runs, frames, tests, warm_up, points, folder):
    """Whole windows with other batches (and as many windows in all) and other rates."""
    return learn(seed, "plain", 1.0, batch, lr, steps, runs, frames, tests, warm_up, points, folder)


@study.arm()
def laws():
    """What a coarse view of a band-limited field is off by, and whole windows from the plain source's."""
    import torch

    from slipstream.channels import Channel
    from slipstream.data import Cycles, Level, Multigrid, Windows
    from slipstream.grids import Grid, resample
    from slipstream.trajectories import Trajectories

    fine, few, coarse = (Grid.box(n, num_dims=2) for n in (64, 21, 32))
    made = torch.randn(3, 6, 1, 21, 21, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    known = Trajectories(resample(made, few, fine), fine, 0.1, (Channel("u"),))
    half = Cycles(long=(Level(1.0, 0.5),), short=(), final=0.0)
    one = Multigrid(Windows(known, 6, 1), cycles=half).next(torch.Generator().manual_seed(1)).frames
    exact = resample(made, few, coarse)
    away = torch.stack([(one - e).flatten(1).abs().amax(1) for e in exact]).amin(0).max()
    a, b = Windows(known, 2, 2), Multigrid(Windows(known, 2, 2), cycles=Cycles(long=(Level(),), short=()))
    g, h = (torch.Generator().manual_seed(2) for _ in range(2))
    whole = max((a.next(g).frames - b.next(h).frames).abs().max().item() for _ in range(20))
    return {"coarse_view": away.item(), "whole_view": whole}


@study.law("A coarse view of a field that the coarse grid resolves is exact, to 1e-10.", at_most=1e-10)
def exact(rows):
    return rows.where(arm="laws")[0]["coarse_view"]


@study.law("Whole windows throughout are the plain source's, to the bit.", at_most=0.0)
def identity(rows):
    return rows.where(arm="laws")[0]["whole_view"]


def target(rows):
    """The lowest final error of whole windows, over all settings that were tried, and the seconds that it took."""
    tried = [(r["error"], r["seconds"]) for r in rows.where(arm="tuning")]
    return min([tuple(rows.mean(key, arm="plain", share=1.0) for key in ("error", "seconds")), *tried])


def seconds_to(rows, arm, error):
    """Seconds after which the mean error of an arm is that low, between its budgets along a power law; infinite where it never is."""
    import math
    from itertools import pairwise

    found = [(rows.mean("seconds", arm=arm, share=s), rows.mean("error", arm=arm, share=s)) for s in SHARES]
    if found[0][1] <= error:
        return found[0][0]
    for (t, e), (u, f) in pairwise(found):
        if f <= error:
            return t * (u / t) ** (math.log(e / error) / math.log(e / f))
    return math.inf


@study.effect(
    "It reaches the final rollout error of the best training on whole windows in at most half of its seconds.",
    at_least=2.0,
    quick=0.0,
)
def sooner(rows):
    error, seconds = target(rows)
    return seconds / seconds_to(rows, "multigrid", error)


@study.effect(
    "Training on whole windows does not come within 2 % of that error in half the seconds itself.",
    at_most=2.0,
    quick=1e9,
)
def not_done_before(rows):
    error, seconds = target(rows)
    return seconds / seconds_to(rows, "plain", 1.02 * error)


@study.effect("After as many steps its error is at most 0.9 of that of whole windows.", at_most=0.9, quick=1e9)
def better(rows):
    return rows.mean("error", arm="multigrid", share=1.0) / target(rows)[0]


@study.effect("Steps cost the same whatever their shape: a spread of at most a quarter.", at_most=0.25, quick=1e9)
def flat(rows):
    return rows.mean("spread", arm="multigrid", share=1.0)


def without(rows, way):
    """Error at a quarter of the budget, against that of the full method with the same seed."""
    return rows.mean("error", arm="parts", way=way) / rows.mean("error", arm="multigrid", share=0.25, seed=0)


@study.effect("Neither space, nor time, nor batches alone do as well as all together.", at_least=1.0, quick=0.0)
def together(rows):
    return min(without(rows, way) for way in ("space", "time", "batch"))


@study.effect("Rates that follow the batches do better than the same rate throughout.", at_least=1.0, quick=0.0)
def rates(rows):
    return without(rows, "same rate")


@study.effect("Training that never sees whole windows is worse by a tenth on the full grid.", at_least=1.1, quick=0.0)
def never_whole(rows):
    return without(rows, "never whole")


@study.picture
def picture(rows, figure):
    left, right = figure.subplots(1, 2)
    for arm in ("plain", "multigrid"):
        times = [rows.mean("seconds", arm=arm, share=s) for s in SHARES]
        left.loglog(times, [rows.mean("error", arm=arm, share=s) for s in SHARES], "o-", label=arm)
    left.set(xlabel="seconds of training", ylabel="mean relative L2 error over 8 frames")
    left.legend()
    names = ("all", *ABLATIONS)
    values = [rows.mean("error", arm="multigrid", share=0.25, seed=0)]
    values += [rows.mean("error", arm="parts", way=w) for w in ABLATIONS]
    right.barh(names, values)
    right.set(xlabel="error at a quarter of the budget")
