"""Online training: a network that learns while an ensemble of solvers runs, against one that learns from a fixed set of runs on disk.

Offline, 50 runs are computed by the trusted solver, written to a store, and seen again and again. Online, the same solver runs in the same
process beside the training, each batch is drawn from a reservoir of the latest samples, and nothing is stored. Network, optimiser, batch
and validation runs are the same. Arms are compared after equal numbers of steps, and after equal seconds of the processor (one thread; on
an idle machine the time on the clock): what the solver cost is counted in both, and in equal time it is paid from the arm's own time.

Three networks: fully connected, from five temperatures and a time to the field of a heated plate; a Fourier neural operator that steps
Burgers' equation; message passing between scattered points of the plate. A further arm compares the buffers themselves on one stream.
"""

from __future__ import annotations

from slipstream.app.studies import Study

QUESTION = (
    "Does a network that is trained while solvers run, on samples that hardly ever repeat, end with a lower error than one trained on 50 "
    "stored runs, at equal steps and at equal time?"
)
TABLE = {
    "error": "relative L2 on unseen runs",
    "gap": "training error over validation error",
    "solver_seconds": "processor seconds of the solver",
    "runs": "runs seen",
    "repetitions": "draws a sample",
    "waiting": "share of time without samples",
}
STORED = 50
NETWORKS = ("plate", "waves", "points")
POLICIES = ("FIFO", "FIRO", "Reservoir")
BUDGET = {
    "steps": {"plate": 16000, "waves": 2500, "points": 1200},
    "minutes": {"plate": 1.5, "waves": 2.0, "points": 2.0},
    "bias_steps": 6000,
    "tests": 16,
    "samples": 2000,
}
QUICK = {
    "steps": {"plate": 150, "waves": 12, "points": 6},
    "minutes": {"plate": 0.02, "waves": 0.05, "points": 0.05},
    "bias_steps": 150,
    "tests": 2,
    "samples": 300,
}

study = Study(QUESTION, seeds=(0, 1, 2), budget=BUDGET, quick=QUICK, table=TABLE)

FRAMES = {"plate": 50, "waves": 33, "points": 50}
BATCH = {"plate": 32, "waves": 16, "points": 8}
CLIENTS = {"plate": 8, "waves": 16, "points": 8}


def problem_of(name):
    from slipstream.problems import HeatedPlate, SteepeningWaves

    if name == "waves":
        return SteepeningWaves(num_points=128, viscosity=(0.01, 0.03), interval=0.02)
    return HeatedPlate()


def scattered(problem, points=256, nearest=8):
    """A stepper for values at scattered points, which talk to their neighbours and know where they are and how hot the walls are."""
    import torch

    from slipstream.operators import MessagePassing
    from slipstream.operators.layers.neighbours import find_neighbours
    from slipstream.steppers.learned import LearnedStepper

    class Scattered(LearnedStepper):
        loss_frames = (1, 1)

        def __init__(self):
            super().__init__(problem)
            here = problem.grid.coordinates(torch.float32).flatten(1)
            chosen = torch.randperm(here.shape[1], generator=torch.Generator().manual_seed(7))[:points]
            self.register_buffer("chosen", chosen)
            self.register_buffer("here", here[:, chosen])
            self.near = find_neighbours(self.here.T.contiguous(), nearest=nearest)
            self.network = MessagePassing(3, 1, 2, hidden_channels=32, n_layers=3, num_scalars=self.num_scalars)

        def at_points(self, frames):
            return frames.flatten(3)[..., self.chosen]

        def next(self, u, parameters):
            """(batch, 1, point) one interval later."""
            x = torch.cat([(u - self.mean[..., 0]) / self.std[..., 0], 2 * self.here.expand(len(u), 2, -1) - 1], dim=1)
            change = self.network.on_points(x, self.near, self.scalars(parameters, u))
            return u + self.increment[..., 0] * change

        def loss(self, window, generator):
            u = self.at_points(window.frames)
            found = self.next(u[:, 0], window.parameters)
            error = ((found - u[:, 1]) / self.increment[..., 0]).square().mean((1, 2))
            return error.mean(), {"data": error.mean().detach()}, None, error.detach().sqrt()

    return Scattered()


def stepper_of(name, problem):
    from functools import partial

    from slipstream.objectives import Own, Supervised
    from slipstream.operators import FNO, MLP
    from slipstream.steppers import Autoregressive, Direct

    if name == "plate":
        network = partial(MLP, hidden_channels=256, n_layers=2)
        return Direct(network, problem, steps=FRAMES[name] - 1), Own()
    if name == "waves":
        network = partial(FNO, n_modes=(24,), hidden_channels=32, n_layers=3)
        return Autoregressive(network, problem, coordinates=False), Supervised()
    return scattered(problem), Own()


def error_of(name, stepper, data):
    """Relative L2 over all frames that follow from the first: of a rollout, for the scattered points over ten frames."""
    import torch

    from slipstream.assessment.metrics import relative_l2
    from slipstream.steppers import rollout

    if name == "points":
        truth = stepper.at_points(data.frames[:, :11])
        u, pieces = truth[:, 0], []
        with torch.no_grad():
            for _ in range(10):
                u = stepper.next(u, data.parameters)
                pieces.append(u)
        found, truth = torch.stack(pieces, 1), truth[:, 1:]
        return float(((found - truth).flatten(2).norm(dim=2) / truth.flatten(2).norm(dim=2)).nan_to_num(1e3).mean())
    found = rollout(stepper, data[:, :1], data.steps - 1, guard=False)
    return float(relative_l2(found.frames, data.frames[:, 1:], data.grid).nan_to_num(1e3, 1e3).mean())


def stored_source(name, data):
    """Windows of stored runs; single frames with their times for the network that goes straight to them."""
    import torch

    from slipstream.data import Source, Windows
    from slipstream.trajectories import Window, take

    class Frames(Source):
        """Any later frame of any run."""

        def next(self, generator):
            run = torch.randint(data.runs, (BATCH[name],), generator=generator)
            time = 1 + torch.randint(data.steps - 1, (BATCH[name],), generator=generator)
            parameters = {**take(data.parameters, run), "lead_time": data.times[time].float()}
            return Window(data.frames[run, time][:, None], data.grid, data.interval, parameters)

    return Frames() if name == "plate" else Windows(data, 2, BATCH[name])


def runs_seen(problem, seed, numbers, steps):
    """Runs of an ensemble, computed once more."""
    from dataclasses import replace

    import torch

    from slipstream.data.live.members import seed_of

    runs = [problem.simulate(1, steps, seed_of(seed, n)) for n in numbers]
    parameters = {k: torch.cat([r.parameters[k] for r in runs]) for k in runs[0].parameters}
    return replace(runs[0], frames=torch.cat([r.frames for r in runs]), parameters=parameters)


def ensemble_of(name, problem, seed, engine=None, buffer=None, batch=None, **arguments):
    from slipstream.data import Ensemble, InProcess, Reservoir

    samples = FRAMES[name] - 1
    return Ensemble(
        problem,
        steps=FRAMES[name],
        batch=batch or BATCH[name],
        engine=engine or InProcess(problem, CLIENTS[name]),
        buffer=buffer or Reservoir(10 * CLIENTS[name] * samples),
        direct=name == "plate",
        seed=1000 + seed,
        **arguments,
    )


def compare(seed, network, data, equal, steps, minutes, tests, folder):
    """One arm: steps or the processor's time (one thread, data included) are equal."""
    from time import process_time

    import torch
    from _clock import budget

    from slipstream.training import Descent
    from slipstream.training.loop import train

    problem = problem_of(network)
    new = problem.simulate(tests, FRAMES[network], seed=2**20)
    _ = problem.statistics
    torch.manual_seed(seed)
    stepper, objective = stepper_of(network, problem)
    clock, spend = budget(*((minutes[network], None) if equal == "time" else (None, steps[network])))
    if data == "offline":
        known = problem.simulate(STORED, FRAMES[network], seed=1000 + seed, out=folder / "frames.zarr")
        source, solver = stored_source(network, known), process_time() - clock.now
    else:
        source = ensemble_of(network, problem, seed)
    done = train(
        stepper,
        source,
        objective,
        update=Descent(1e-3),
        seed=seed,
        show=False,
        folder=folder / "t",
        **spend,
    )
    stepper.eval()
    if data == "online":
        solver, seen = source.counters.solver, source.counters.runs
        waiting, repetitions = source.counters.waiting / done.seconds, source.buffer.consumed / source.buffer.produced
        known = runs_seen(problem, 1000 + seed, range(max(0, seen - 8), max(seen, 1)), FRAMES[network])
    else:
        seen, waiting = STORED, 0.0
        repetitions = done.steps * BATCH[network] / (STORED * (FRAMES[network] - 1))
    error = error_of(network, stepper, new)
    return {
        "error": error,
        "gap": error_of(network, stepper, known[:8]) / error,
        "solver_seconds": solver,
        "runs": seen,
        "repetitions": repetitions,
        "waiting": waiting,
        "steps_done": done.steps,
        "seconds": clock.spent,
    }


CASES = [{"data": d, "equal": e} for e in ("steps", "time") for d in ("offline", "online")]


@study.arm(cases=[{"network": "plate", **c} for c in CASES])
def trained(seed, network, data, equal, steps, minutes, tests, folder):
    """Fully connected."""
    return compare(seed, network, data, equal, steps, minutes, tests, folder)


@study.arm(cases=[{"network": n, **c} for n in ("waves", "points") for c in CASES], seeds=2)
def others(seed, network, data, equal, steps, minutes, tests, folder):
    """Fourier neural operator and message passing."""
    return compare(seed, network, data, equal, steps, minutes, tests, folder)


@study.arm(cases=[{"policy": p} for p in POLICIES])
def bias(seed, policy, bias_steps, tests, folder):
    """One stream, one network, as many batches: the buffer alone differs. As many samples are made as are drawn."""
    import torch

    from slipstream.data import FIFO, FIRO, InProcess, Reservoir
    from slipstream.training import Descent
    from slipstream.training.loop import train

    problem, clients = problem_of("plate"), CLIENTS["plate"]
    capacity = 10 * clients * (FRAMES["plate"] - 1)
    buffer = {"FIFO": FIFO, "FIRO": FIRO, "Reservoir": Reservoir}[policy](capacity)
    source = ensemble_of("plate", problem, seed, InProcess(problem, clients), buffer, batch=clients)
    times = []
    inner = source.next

    def listened(generator):
        window = inner(generator)
        times.append(float(window.parameters["lead_time"].mean()))
        return window

    source.next = listened
    torch.manual_seed(seed)
    stepper, objective = stepper_of("plate", problem)
    train(stepper, source, objective, steps=bias_steps, update=Descent(1e-3), seed=seed, show=False)
    t = torch.tensor(times)
    correlation = torch.corrcoef(torch.stack([t[:-1], t[1:]]))[0, 1]
    new = problem.simulate(tests, FRAMES["plate"], seed=2**20)
    return {
        "error": error_of("plate", stepper, new),
        "correlation": float(correlation),
        "repetitions": source.buffer.consumed / source.buffer.produced,
        "runs": source.counters.runs,
    }


@study.arm(seeds=1)
def faults(seed, bias_steps, tests, folder):
    """Runs are lost in the middle, again and again; what they send anew is counted once."""
    import torch

    from slipstream.data import InProcess
    from slipstream.data.live.engine import Delivered, Lost
    from slipstream.training import Descent
    from slipstream.training.loop import train

    class Faulty(InProcess):
        """Every 40th poll the first of its runs is lost."""

        polls, lost = 0, 0

        def poll(self, wait=False):
            events = super().poll(wait)
            self.polls += 1
            frames = [e for e in events if isinstance(e, Delivered) and e.step > 3]
            if self.polls % 40 == 0 and frames:
                number = frames[0].member
                self.cancel([number])
                self.lost += 1
                events = [e for e in events if e.member != number] + [Lost(number, "was killed")]
            return events

    rows = []
    problem = problem_of("plate")
    new = problem.simulate(tests, FRAMES["plate"], seed=2**20)
    for kind in (InProcess, Faulty):
        source = ensemble_of("plate", problem, seed, kind(problem, CLIENTS["plate"]), restarts=100)
        twice, reception = 0, source._reception
        seen, take = set(), reception.take

        def looked(run, event, seen=seen, take=take):
            nonlocal twice
            sample = take(run, event)
            if sample is not None:
                twice += (sample.member, sample.step) in seen
                seen.add((sample.member, sample.step))
            return sample

        reception.take = looked
        torch.manual_seed(seed)
        stepper, objective = stepper_of("plate", problem)
        train(stepper, source, objective, steps=bias_steps, update=Descent(1e-3), seed=seed, show=False)
        rows.append(
            {
                "engine": kind.__name__,
                "error": error_of("plate", stepper, new),
                "counted_twice": twice,
                "losses": source.counters.losses,
                "dropped": source.counters.duplicates,
            }
        )
    return rows


@study.arm(seeds=1)
def memory(samples, folder):
    """Samples through the reservoir, and through a store: seconds, bytes in memory, bytes on disk."""
    from pathlib import Path
    from time import perf_counter

    import torch

    from slipstream.data import Reservoir, Store, Windows
    from slipstream.data.live.buffers import Sample

    problem = problem_of("plate")
    steps = FRAMES["plate"]
    runs = max(2, samples // steps)
    known = problem.simulate(runs, steps, seed=3)
    generator = torch.Generator().manual_seed(0)

    def through_memory():
        buffer = Reservoir(runs * steps, threshold=8)
        start = perf_counter()
        for r in range(runs):
            for t in range(1, steps):
                pair = known.frames[r, t - 1 : t + 1]
                buffer.put(Sample(pair, r, t, {k: v[r] for k, v in known.parameters.items()}), generator)
        buffer.close()
        while len(buffer):
            buffer.get(8, generator)
        return perf_counter() - start, buffer.nbytes / (buffer.capacity * 2 * known.frames[0, 0].nbytes)

    def through_disk(path):
        start = perf_counter()
        made = Store.create(
            path,
            grid=known.grid,
            channels=known.channels,
            interval=known.interval,
            runs=runs,
            steps=steps,
            parameters=dict(known.parameters),
            about={},
            block=8,
        )
        with made as store:
            for block in store.missing():
                for t in range(steps):  # as frames come from a solver
                    store.write(block, t, known.frames[block, t : t + 1])
        windows = Windows(Store.open(path), 2, 8, memory=max(2**22, 9 * steps * known.frames[0, 0].nbytes))
        for _ in range(runs * (steps - 1) // 8):
            windows.next(generator)
        return perf_counter() - start

    found = [through_memory() for _ in range(3)]
    disk = min(through_disk(Path(folder) / f"{i}.zarr") for i in range(2))
    source = ensemble_of("plate", problem, 0)

    def written():
        counts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
        return int(counts["wchar"])

    before = written()
    for _ in range(200):
        source.next(generator)
    sample = 2 * known.frames[0, 0].nbytes
    return {
        "memory_seconds": min(s for s, _ in found),
        "disk_seconds": disk,
        "bytes": max(b for _, b in found),
        "samples_on_disk": (written() - before) // sample,
    }


@study.law("No sample of a lost run is counted twice.", at_most=0)
def once(rows):
    return max(rows.values("counted_twice", arm="faults"))


@study.law("A buffer takes at most 1.2 times the bytes of the samples that it holds.", at_most=1.2)
def bounded(rows):
    return max(rows.values("bytes", arm="memory"))


@study.law("While 200 batches are made nothing of the size of one sample is written anywhere.", at_most=0)
def nothing_on_disk(rows):
    return max(rows.values("samples_on_disk", arm="memory"))


@study.effect("Through memory samples go at least 5 times as fast as through a store.", at_least=5.0)
def faster(rows):
    return rows.mean("disk_seconds", arm="memory") / rows.mean("memory_seconds", arm="memory")


@study.effect("With a reservoir the error is at most 0.7 of that with first in, first out.", at_most=0.7, quick=10.0)
def unbiased(rows):
    return rows.mean("error", arm="bias", policy="Reservoir") / rows.mean("error", arm="bias", policy="FIFO")


@study.effect(
    "The mean times of consecutive batches of a reservoir are correlated by at most 0.2.", at_most=0.2, quick=0.9
)
def mixed(rows):
    return rows.mean("correlation", arm="bias", policy="Reservoir")


@study.effect("Those of first in, first out by at least 0.8.", at_least=0.8)
def unmixed(rows):
    return rows.mean("correlation", arm="bias", policy="FIFO")


def online_over_offline(rows, network, equal):
    where = {"network": network, "equal": equal}
    return rows.mean("error", data="online", **where) / rows.mean("error", data="offline", **where)


@study.effect("Fully connected, after equal steps: at most 0.6 of the error offline.", at_most=0.6, quick=10.0)
def plate_steps(rows):
    return online_over_offline(rows, "plate", "steps")


@study.effect("The same after equal time, with the solver's in it.", at_most=0.6, quick=10.0)
def plate_time(rows):
    return online_over_offline(rows, "plate", "time")


@study.effect("Fourier neural operator, after equal steps: at most 0.9.", at_most=0.9, quick=10.0)
def waves_steps(rows):
    return online_over_offline(rows, "waves", "steps")


@study.effect("The same after equal time.", at_most=0.9, quick=10.0)
def waves_time(rows):
    return online_over_offline(rows, "waves", "time")


@study.effect("Message passing between scattered points, after equal steps: at most 0.95.", at_most=0.95, quick=10.0)
def points_steps(rows):
    return online_over_offline(rows, "points", "steps")


@study.effect("The same after equal time.", at_most=0.95, quick=10.0)
def points_time(rows):
    return online_over_offline(rows, "points", "time")


@study.effect(
    "Online, the last runs that were seen are predicted as well as unseen ones, within 20 %.",
    at_most=0.2,
    quick=5.0,
)
def no_gap(rows):
    return max(abs(1 - rows.mean("gap", network=n, equal="steps", data="online")) for n in NETWORKS)


@study.effect("The training has to wait for samples at most a tenth of its time.", at_most=0.1, quick=1.0)
def busy(rows):
    return max(rows.mean("waiting", network=n, data="online", equal="steps") for n in NETWORKS)


@study.effect("With runs lost every 40th poll the error is within 25 % of that without.", at_most=0.25, quick=5.0)
def unharmed(rows):
    lost, whole = (rows.mean("error", arm="faults", engine=e) for e in ("Faulty", "InProcess"))
    return abs(lost / whole - 1)


@study.picture
def picture(rows, figure):
    left, right = figure.subplots(1, 2)
    for i, network in enumerate(NETWORKS):
        for j, equal in enumerate(("steps", "time")):
            for data, mark in (("offline", "o"), ("online", "x")):
                values = [
                    r["error"]
                    for r in rows
                    if r.get("network") == network and r.get("equal") == equal and r.get("data") == data
                ]
                left.plot([2 * i + j] * len(values), values, mark, color="C0" if data == "offline" else "C1")
    left.set_xticks(range(6), [f"{n}\n{e}" for n in NETWORKS for e in ("steps", "time")])
    left.set(title="o offline, x online", ylabel="relative L2", yscale="log")
    for i, policy in enumerate(POLICIES):
        found = [r["error"] for r in rows if r.get("policy") == policy]
        right.plot([i] * len(found), found, "o")
    right.set_xticks(range(3), POLICIES)
    right.set(title="buffers", ylabel="relative L2", yscale="log")
