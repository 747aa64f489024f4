"""Operators side by side: six architectures, three problems, one budget.

Each operator is as wide as a number of parameters allows, and is trained for as many seconds of the processor (one thread, windows
included; on an idle machine the time on the clock, and on a busy one the same) with the same optimiser, batch and schedule. Porous rock:
the Darcy data that come with neuraloperator, permeability in, pressure out. Plane flow: decaying turbulence, one step of 0.1 s.
Flame front: the Kuramoto-Sivashinsky equation on a line, one step of 1 s. Flow and front are then rolled out for 20 frames.

Latency is the processor's time for one sample, the least of many calls; memory what one sample leaves for the way back in training, each
storage counted once. No architecture was tuned to a problem: this is what they give as they come, and no more should be read from it.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from slipstream.app.studies import Study

QUESTION = "Which operator learns which problem best, with as many parameters and as many seconds of training?"
TABLE = {
    "error": "relative L2 error",
    "rollout": "mean error over 20 frames",
    "latency_ms": "ms a sample",
    "memory_mb": "MB a sample in training",
    "parameters": "parameters",
    "steps_done": "steps",
}
BUDGET = {"seconds": 60.0, "runs": 24, "frames": 24, "tests": 8}
QUICK = {"seconds": 1.5, "runs": 2, "frames": 12, "tests": 2}
LONG = {"seconds": 300.0, "runs": 48}
OPERATORS = ("FNO", "UNet", "ScOT", "MgNO", "LSM", "SineNet")
PROBLEMS = ("porous rock", "plane flow", "flame front")
PARAMETERS, BAND = 400_000, (0.5, 1.0)
ROLLED, BATCH, RATE = 20, 8, 2e-3

study = Study(QUESTION, seeds=(0, 1, 2), budget=BUDGET, quick=QUICK, table=TABLE, long=LONG)


def candidate(name, width, num_dims, points, padding):
    """An operator of some width; what else it needs follows from its grid alone."""
    from slipstream.operators import FNO, LSM, MgNO, ScOT, SineNet, UNet

    modes = (min(12, points // 2 - 1),) * num_dims
    return {
        "FNO": lambda: partial(FNO, n_modes=modes, hidden_channels=width, n_layers=4, padding=padding),
        "UNet": lambda: partial(UNet, hidden_channels=width, levels=2, padding=padding),
        "ScOT": lambda: partial(
            ScOT,
            hidden_channels=width,
            depths=(2, 2),
            heads=(2, 4),
            window=4,
            patch=2,
            position_channels=64,
            padding=padding,
        ),
        "MgNO": lambda: partial(
            MgNO, hidden_channels=width, n_layers=4, cycle=((1, 0), (1, 0), (1, 1)), padding=padding
        ),
        "LSM": lambda: partial(LSM, hidden_channels=width, levels=2, patch=2, padding=padding),
        "SineNet": lambda: partial(SineNet, hidden_channels=width, waves=4, levels=2, multiplier=1.5, padding=padding),
    }[name]()


def size(module):
    """Real numbers in its parameters."""
    return sum(p.numel() * (2 if p.is_complex() else 1) for p in module.parameters())


def posed(name, runs, frames, tests):
    """Training windows, test data, and what makes a stepper of an operator."""
    from slipstream.data import FieldPairs, Windows
    from slipstream.problems import DecayingFlow, FlameSlope, Recorded
    from slipstream.steppers import Autoregressive, Steady

    if name == "porous rock":
        folder = Path(__file__).resolve().parents[1] / "examples" / "data"
        known, new = (FieldPairs(folder / f"darcy_{part}_16.pt").trajectories() for part in ("train", "test"))
        return Windows(known, 1, BATCH), new, Recorded.of(known), Steady
    problem = {
        "plane flow": partial(DecayingFlow, num_points=32, reynolds=100.0, interval=0.1),
        "flame front": partial(FlameSlope, num_points=64, extent=32.0, interval=1.0),
    }[name]()
    known, new = problem.simulate(runs, frames, seed=1000), problem.simulate(tests, ROLLED + 1, seed=2**20)
    return Windows(known, 2, BATCH), new, problem, partial(Autoregressive, coordinates=False)


def widest(name, problem, make):
    """The stepper whose operator is as wide as the number of parameters allows."""
    grid = problem.grid
    padding = "periodic" if grid.periodic else "reflect"
    fits = None
    for width in range(8, 513, 8):
        factory = candidate(name, width, grid.num_dims, min(grid.shape), padding)
        one = factory(in_channels=3, out_channels=1, num_dims=grid.num_dims)
        if size(one) > PARAMETERS:
            break
        fits = factory
    return make(fits, problem)


def latency(stepper, past, parameters):
    """Seconds of the processor for a call on one sample: the least of 30."""
    import time

    import torch

    with torch.no_grad():
        stepper(past, parameters)
        times = []
        for _ in range(30):
            begun = time.process_time()
            stepper(past, parameters)
            times.append(time.process_time() - begun)
    return min(times)


def kept_for_backward(stepper, past, parameters):
    """Bytes that a call on one sample keeps for its gradients, without the parameters."""
    import torch

    own = {p.untyped_storage().data_ptr() for p in stepper.parameters()}
    kept = {}

    def note(t):
        storage = t.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), t)  # held, or another could take its place
        return t

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        result = stepper(past, parameters)
    del result
    return sum(nbytes for nbytes, _ in kept.values())


@study.arm(cases=[{"problem": p, "operator": o} for p in PROBLEMS for o in OPERATORS])
def operator(seed, problem, operator, seconds, runs, frames, tests, folder):
    """One operator on one problem."""
    import torch
    from _clock import budget

    from slipstream.assessment.metrics import relative_l2
    from slipstream.objectives import Supervised
    from slipstream.steppers import rollout
    from slipstream.training import Descent
    from slipstream.training.loop import train
    from slipstream.trajectories import take

    torch.set_num_threads(1)
    source, new, posed_problem, make = posed(problem, runs, frames, tests)
    torch.manual_seed(seed)
    stepper = widest(operator, posed_problem, make)
    clock, spend = budget(seconds / 60, None)
    update = Descent(RATE)
    done = train(stepper, source, Supervised(), update=update, seed=seed, folder=folder, show=False, **spend)
    stepper.eval()
    steady = stepper.history == 0
    past, truth = new.frames[:, :0] if steady else new.frames[:, :1], new.frames if steady else new.frames[:, 1:]
    with torch.no_grad():
        found = stepper(past, new.parameters)
        alone = torch.cat([stepper(past[i : i + 1], take(new.parameters, slice(i, i + 1))) for i in range(len(past))])
    one = past[:1], take(new.parameters, slice(0, 1))
    row = {
        "error": relative_l2(found, truth[:, :1], new.grid).mean().item(),
        "finite": float(found.isfinite().all()),
        "mixed": ((found - alone).abs().max() / found.abs().max()).item(),
        "parameters": size(stepper),
        "latency_ms": 1e3 * latency(stepper, *one),
        "memory_mb": kept_for_backward(stepper, *one) / 2**20,
        "seconds_spent": clock.spent,
        "steps_done": done.steps,
    }
    if not steady:
        rolled = rollout(stepper, past, ROLLED, parameters=new.parameters, guard=False)
        errors = relative_l2(rolled, truth[:, :ROLLED], new.grid).nan_to_num(1e3, 1e3).clamp(max=1e3)
        still = relative_l2(past.expand_as(truth[:, :1]), truth[:, :1], new.grid).mean().item()
        row |= {"rollout": errors.mean().item(), "persistence": still}
    return row


@study.law("Every operator has between half of the allowed parameters and all of them: least share.", at_least=BAND[0])
def not_too_few(rows):
    return min(rows.values("parameters", arm="operator")) / PARAMETERS


@study.law("Every operator has between half of the allowed parameters and all of them: largest share.", at_most=BAND[1])
def not_too_many(rows):
    return max(rows.values("parameters", arm="operator")) / PARAMETERS


@study.law("Every trained operator's answer is finite.", at_least=1.0)
def finite(rows):
    return min(rows.values("finite", arm="operator"))


@study.law("A sample's answer does not depend on its batch, to 1e-4.", at_most=1e-4)
def batch_independent(rows):
    return max(rows.values("mixed", arm="operator"))


def errors(rows, problem, key="error"):
    return {o: rows.mean(key, arm="operator", problem=problem, operator=o) for o in OPERATORS}


@study.effect("No operator is the best on all three problems: number of different winners.", at_least=2, quick=1)
def no_winner(rows):
    best = [min(found, key=found.get) for found in (errors(rows, p) for p in PROBLEMS)]
    return len(set(best))


@study.effect("On every problem the worst operator's error is at least twice the best one's.", at_least=2.0, quick=1.0)
def it_matters(rows):
    return min(max(found.values()) / min(found.values()) for found in (errors(rows, p) for p in PROBLEMS))


@study.effect(
    "Every operator's first frame has at most half of the error of doing nothing, on flow and front.",
    at_most=0.5,
    quick=100.0,
)
def better_than_nothing(rows):
    moving = PROBLEMS[1:]
    return max(e / rows.mean("persistence", problem=p) for p in moving for e in errors(rows, p).values())


@study.effect(
    "The order by the first frame is that by 20 frames: least rank correlation of flow and front.",
    at_least=0.8,
    quick=-1.0,
)
def order_stays(rows):
    def ranks(found):
        order = sorted(found, key=found.get)
        return {o: order.index(o) for o in found}

    def correlation(problem):
        a, b = ranks(errors(rows, problem)), ranks(errors(rows, problem, "rollout"))
        n = len(a)
        return 1 - 6 * sum((a[o] - b[o]) ** 2 for o in a) / (n * (n * n - 1))

    return min(correlation(p) for p in PROBLEMS[1:])


@study.picture
def picture(rows, figure):
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    for axes, problem in zip(figure.subplots(1, len(PROBLEMS)), PROBLEMS, strict=True):
        times = errors(rows, problem, "latency_ms")
        for name, error in errors(rows, problem).items():
            axes.loglog(times[name], error, "o")
            axes.annotate(name, (times[name], error), fontsize="x-small", xytext=(3, 3), textcoords="offset points")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
            axis.set_major_formatter(ScalarFormatter())
            axis.set_minor_formatter(NullFormatter())
        axes.margins(x=0.3)
        axes.set(title=problem, xlabel="ms a sample")
    figure.axes[0].set_ylabel("relative L2 error")
