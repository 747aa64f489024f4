"""Training for long rollouts: what helps a network that steps chaotic flows, at equal training time.

One network, one data set a problem, one optimiser; the arms differ in the objective alone. "one step" is the baseline. "unrolled" passes
gradients through four calls, "curriculum" through one, two and four, "pushed" makes two calls without gradients before it looks, "noise"
shakes the input, "bands" counts every band of wavenumbers by its own size, "slopes" counts first derivatives. "filtered" is the baseline
with the upper third of the wavenumbers taken out after every call.
"""

from __future__ import annotations

from slipstream.app.studies import Study

QUESTION = "Which objective makes the rollouts of a network on a chaotic flow follow the truth longest, at equal training time?"
TABLE = {
    "follows": "time correlated above 0.8, in units of the one-step solver's",
    "error_1": "relative L2 of the first frame",
    "spectrum": "spectrum at the end, mean |log10| away from the truth's",
    "stays": "share of runs that stay within twice the truth's size",
    "seconds_a_step": "seconds a training step",
}
BUDGET = {
    "minutes": {"flame": 1.0, "flow": 2.5},
    "runs": {"flame": 32, "flow": 8},
    "steps": 48,
    "tests": {"flame": 16, "flow": 4},
    "frames": {"flame": 80, "flow": 40},
    "warm_up": 1.0,
}
QUICK = {
    "minutes": {"flame": 0.02, "flow": 0.03},
    "runs": {"flame": 2, "flow": 1},
    "steps": 24,
    "tests": {"flame": 2, "flow": 1},
    "frames": {"flame": 10, "flow": 6},
    "warm_up": 0.02,
}

study = Study(QUESTION, seeds=(0, 1, 2), budget=BUDGET, quick=QUICK, table=TABLE)

OBJECTIVES = ("one step", "unrolled", "curriculum", "pushed", "noise")
ABLATIONS = ("bands", "slopes", "filtered")


def objectives():
    from slipstream.objectives import Curriculum, Noise, PushForward, RelativeH1, RelativeSpectral, Supervised

    return {
        "one step": Supervised(),
        "unrolled": Supervised(calls=4),
        "curriculum": Curriculum(Supervised(), calls=(1, 2, 4)),
        "pushed": Supervised() + PushForward(Supervised(), calls=2),
        "noise": Noise(Supervised(), scale=0.01),
        "bands": Supervised(RelativeSpectral()),
        "slopes": Supervised(RelativeH1()),
        "filtered": Supervised(),
    }


def problems(warm_up):
    """Frames lie about a twentieth of the time apart in which neighbouring states part."""
    from functools import partial

    from slipstream.operators import UNet
    from slipstream.problems import FlameSlope, KolmogorovFlow

    return {
        "flame": (
            FlameSlope(interval=0.5, warm_up=100.0 * warm_up),
            partial(UNet, hidden_channels=24, output_scale=0.1),
        ),
        "flow": (
            KolmogorovFlow(num_points=64, reynolds=100, interval=0.1, warm_up=15.0 * warm_up),
            partial(UNet, hidden_channels=16, output_scale=0.1),
        ),
    }


def follow(seed, problem, objective, minutes, runs, steps, tests, frames, warm_up, folder):
    import torch

    from slipstream.assessment.metrics import correlation, correlation_time, relative_l2
    from slipstream.assessment.spectra import energy_spectrum
    from slipstream.data.windows import Windows
    from slipstream.steppers import Autoregressive, LowPass, rollout
    from slipstream.training import Descent
    from slipstream.training.loop import train

    posed, factory = problems(warm_up)[problem]
    known = posed.simulate(runs[problem], steps, seed=1000)
    new = posed.simulate(tests[problem], frames[problem] + 1, seed=2**20)
    torch.manual_seed(seed)
    stepper = Autoregressive(
        factory, posed, coordinates=problem == "flow"
    )  # the shear force knows where it is, a flame does not
    minimised = objectives()[objective]
    windows = Windows(known, sum(minimised.frames_needed(stepper)), 16 if problem == "flame" else 8)
    done = train(
        stepper,
        windows,
        minimised,
        minutes=minutes[problem],
        update=Descent(1e-3),
        seed=seed,
        folder=folder,
        show=False,
    )
    model = LowPass(stepper, 2 / 3) if objective == "filtered" else stepper
    found, truth = rollout(model, new[:, :1], frames[problem], guard=False).frames, new.frames[:, 1:]
    matching = correlation(found, truth, new.grid).nan_to_num(0.0)
    times = posed.interval * torch.arange(1, frames[problem] + 1)
    follows = correlation_time(matching, times, 0.8).clamp(max=float(times[-1]))
    size = found.square().flatten(2).mean(-1).sqrt() / truth.square().mean().sqrt()
    sane = (size.nan_to_num(1e9, 1e9) < 2).all(1)
    last = found[:, -1].nan_to_num(0.0, 0.0, 0.0).clamp(-1e6, 1e6)
    (_, mine), (_, theirs) = (energy_spectrum(u, new.grid) for u in (last, truth[:, -1]))
    mine, theirs = mine.mean((0, 1)), theirs.mean((0, 1))
    shown = theirs > 1e-9 * theirs.sum()
    away = (mine[shown].clamp(min=1e-20) / theirs[shown]).log10().abs().mean()
    return {
        "follows": follows.mean().item(),
        "error_1": relative_l2(found[:, :1], truth[:, :1], new.grid).mean().item(),
        "spectrum": away.item(),
        "stays": sane.float().mean().item(),
        "steps_done": done.steps,
        "seconds_a_step": done.seconds / max(done.steps, 1),
    }


@study.arm(cases=[{"problem": p, "objective": o} for p in ("flame", "flow") for o in OBJECTIVES])
def trained(seed, problem, objective, minutes, runs, steps, tests, frames, warm_up, folder):
    """The same network and data, another objective."""
    return follow(seed, problem, objective, minutes, runs, steps, tests, frames, warm_up, folder)


@study.arm(cases=[{"problem": p, "objective": o} for p in ("flame", "flow") for o in ABLATIONS], seeds=1)
def others(seed, problem, objective, minutes, runs, steps, tests, frames, warm_up, folder):
    """Norms and the filter."""
    return follow(seed, problem, objective, minutes, runs, steps, tests, frames, warm_up, folder)


@study.arm()
def laws():
    """Checkpointing changes no gradient; a pushed objective has that of its last call alone."""
    import torch

    from slipstream.grids import Grid
    from slipstream.objectives import PushForward, Supervised
    from slipstream.steppers import wrap
    from slipstream.trajectories import Window

    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv1d(1, 8, 3, padding=1), torch.nn.Tanh(), torch.nn.Conv1d(8, 1, 3, padding=1)
    )
    stepper, frames = wrap(network, 0.1), torch.randn(2, 4, 1, 16)
    window = Window(frames, Grid.box(16, num_dims=1), 0.1)

    def gradient(loss):
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(network.parameters()))])

    def of(objective):
        return gradient(objective(stepper, window, torch.Generator()).total)

    twice = network(network(frames[:, 0])).detach()
    by_hand = ((network(twice) - frames[:, 3]).square().sum((1, 2)) / frames[:, 3].square().sum((1, 2))).sqrt().mean()
    return {
        "checkpointed": (of(Supervised(calls=3)) - of(Supervised(calls=3, checkpoint=True))).abs().max().item(),
        "pushed": (of(PushForward(Supervised(), calls=2)) - gradient(by_hand)).abs().max().item(),
    }


@study.law("Checkpointed calls give the gradients of plain ones, to the bit.", at_most=0.0)
def checkpointing(rows):
    return rows.where(arm="laws")[0]["checkpointed"]


@study.law(
    "A pushed objective has the gradient of its last call from the detached frames before it, to 1e-6.", at_most=1e-6
)
def pushing(rows):
    return rows.where(arm="laws")[0]["pushed"]


def against_one_step(rows, key, problem, objective):
    where = {"arm": "trained", "problem": problem}
    return rows.mean(key, objective=objective, **where) / max(rows.mean(key, objective="one step", **where), 1e-12)


@study.effect(
    "Gradients through four calls follow a flame front for at least 1.1 times as long as those of one.",
    at_least=1.1,
    quick=0.0,
)
def unrolled_flame(rows):
    return against_one_step(rows, "follows", "flame", "unrolled")


@study.effect("The same for turbulence.", at_least=1.1, quick=0.0)
def unrolled_flow(rows):
    return against_one_step(rows, "follows", "flow", "unrolled")


@study.effect("A curriculum is at least as good as four calls from the beginning, on both.", at_least=1.0, quick=0.0)
def curriculum(rows):
    def share(problem):
        one, four = (
            rows.mean("follows", arm="trained", problem=problem, objective=o) for o in ("curriculum", "unrolled")
        )
        return one / max(four, 1e-12)

    return min(share("flame"), share("flow"))


@study.effect("Pushed training follows for at least 1.05 times as long as one step, on both.", at_least=1.05, quick=0.0)
def pushed(rows):
    return min(against_one_step(rows, "follows", p, "pushed") for p in ("flame", "flow"))


@study.effect("Noise of 1 % follows for at least 1.05 times as long, on both.", at_least=1.05, quick=0.0)
def noise(rows):
    return min(against_one_step(rows, "follows", p, "noise") for p in ("flame", "flow"))


@study.effect(
    "Whatever is unrolled or pushed, all runs stay within twice the size of the truth.", at_least=1.0, quick=0.0
)
def stays(rows):
    return min(
        rows.mean("stays", arm="trained", problem=p, objective=o)
        for p in ("flame", "flow")
        for o in ("unrolled", "curriculum", "pushed")
    )


@study.effect(
    "Counting bands by their own size halves the error of the spectrum at the end, on both.", at_most=0.5, quick=1e9
)
def spectra(rows):
    def ratio(problem):
        mine = rows.mean("spectrum", arm="others", problem=problem, objective="bands")
        return mine / rows.mean("spectrum", arm="trained", problem=problem, objective="one step", seed=0)

    return max(ratio("flame"), ratio("flow"))


@study.picture
def picture(rows, figure):
    for axes, problem in zip(figure.subplots(1, 2), ("flame", "flow"), strict=True):
        found = [r for r in rows if r.get("problem") == problem]
        for i, name in enumerate((*OBJECTIVES, *ABLATIONS)):
            values = [r["follows"] for r in found if r["objective"] == name]
            axes.plot(values, [i] * len(values), "o")
        axes.set_yticks(range(len(OBJECTIVES) + len(ABLATIONS)), (*OBJECTIVES, *ABLATIONS))
        axes.set(title=problem, xlabel="time correlated above 0.8", xlim=(0, None))
