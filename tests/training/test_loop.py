"""What a training does when nobody interrupts it."""

import itertools
import math
import random
import threading

import numpy as np
import pytest
import torch
import trainee
from torch import nn

import slipstream
from slipstream.channels import Channel
from slipstream.data import Windows
from slipstream.errors import DivergedTraining, InputError, StoreError
from slipstream.objectives import Supervised
from slipstream.objectives.objective import Loss, Objective
from slipstream.problems import Problem
from slipstream.stepper import Stepper
from slipstream.training import loop
from slipstream.training.callbacks import Callback, Validate
from slipstream.training.checkpoint import Checkpoints, unpack
from slipstream.training.divergence import Guard
from slipstream.training.ema import EMA
from slipstream.training.loop import train
from slipstream.training.schedules import Cosine, Linear
from slipstream.training.update import Descent, Update
from slipstream.trajectories import Trajectories


class Spy(Callback):
    """Calls a function with the run after every step."""

    def __init__(self, look):
        self.look = look

    def on_step(self, run):
        self.look(run)


class Fixed(Objective):
    """The same gradient at every step, and losses as prescribed."""

    def __init__(self, losses):
        self.losses = iter(losses)

    def __call__(self, module, window, generator):
        total = sum(p.abs().square().sum() for p in module.parameters())
        value = next(self.losses)
        return Loss(total - total.detach() + value, {"half": torch.tensor(value / 2, dtype=torch.float64)})


def plain(objective, **arguments):
    torch.manual_seed(1)
    module = nn.Linear(4, 4)
    return module, train(module, trainee.Pool(), objective, **{"show": False, "steps": 20, **arguments})


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves when it is told to."""
    now = [1000.0]
    monkeypatch.setattr(loop, "perf_counter", lambda: now[0])

    class Clock:
        def tick(self, seconds):
            now[0] += seconds

    return Clock()


class Slow(trainee.Pool):
    """Each window takes its time."""

    def __init__(self, clock, seconds):
        super().__init__()
        self.clock, self.seconds = clock, itertools.cycle(seconds)

    def next(self, generator):
        self.clock.tick(next(self.seconds))
        return super().next(generator)


def test_a_training_is_the_loop_that_anybody_would_write():
    """Against Adam, clipping and the cosine written out by hand."""
    module = trainee.Net()
    train(module, trainee.Pool(), trainee.Rotate(), steps=25, seed=3, update=Descent(lr=0.01), show=False)

    mine, pool, objective = trainee.Net(), trainee.Pool(), trainee.Rotate()
    streams = [int(word) for word in np.random.SeedSequence([3, 0]).generate_state(4)]
    generator = torch.Generator().manual_seed(streams[0])
    torch.manual_seed(streams[1])
    np.random.seed(streams[2])  # noqa: NPY002
    random.seed(streams[3])
    optimiser = torch.optim.Adam(mine.parameters())
    for step in range(25):
        optimiser.param_groups[0]["lr"] = 0.01 * Cosine()(step / 25)
        optimiser.zero_grad()
        window = pool.next(generator)
        loss = objective(mine, window, generator)
        loss.total.backward()
        nn.utils.clip_grad_norm_(mine.parameters(), 1.0, foreach=True)
        optimiser.step()
        pool.feedback(window, loss.outputs.detach())
    assert all(torch.equal(a, b) for a, b in zip(module.state_dict().values(), mine.state_dict().values(), strict=True))


def test_training_solves_the_task():
    _, training = trainee.everything(None, steps=300)
    assert training.history[-1]["total"] < 0.35 * training.history[0]["total"]
    assert (training.steps, training.reason, training.folder) == (300, "the budget is spent", None)


@pytest.mark.parametrize(
    "budget", [{}, {"minutes": 1.0, "steps": 5}, {"steps": 0}, {"minutes": -1.0}, {"minutes": math.nan}]
)
def test_a_budget_is_minutes_or_steps(budget):
    with pytest.raises(InputError, match="either minutes= or steps="):
        train(trainee.Net(), trainee.Pool(), trainee.Rotate(), **budget)


def test_the_rate_follows_the_schedule_over_the_steps():
    rates = []
    plain(level_loss(), steps=10, schedule=Linear(0.2, 0.1), callbacks=[Spy(lambda run: rates.append(run.rate))])
    assert rates == pytest.approx([Linear(0.2, 0.1)(i / 10) for i in range(10)])


def level_loss():
    return Fixed(itertools.repeat(1.0))


def test_minutes_are_spent_by_measured_time_and_the_rate_with_them(clock):
    seen = []
    source = Slow(clock, [1.0, 3.0])
    spy = Spy(lambda run: seen.append((run.progress, run.rate)))
    module = nn.Linear(4, 4)
    training = train(module, source, level_loss(), minutes=0.2, schedule=Linear(0.0, 0.0), callbacks=[spy], show=False)
    assert (training.steps, training.seconds) == (6, 12.0)
    spent = [0.0, 1 / 12, 4 / 12, 5 / 12, 8 / 12, 9 / 12]
    assert [progress for progress, _ in seen] == pytest.approx(spent), "what was spent before the step"
    assert [rate for _, rate in seen] == pytest.approx([1 - s for s in spent])


def test_minutes_count_saving_and_go_on_after_a_pause(clock, tmp_path, monkeypatch):
    write = Checkpoints.write
    monkeypatch.setattr(Checkpoints, "write", lambda *args: (clock.tick(2.0), write(*args))[1])

    def run(stop_at):
        stop = Spy(lambda run: run.stop("pause") if run.step == stop_at else None)
        settings = {"minutes": 0.2, "callbacks": [stop], "folder": tmp_path, "save_every": 4.0, "show": False}
        return train(nn.Linear(4, 4), Slow(clock, [1.0]), level_loss(), **settings)

    first = run(stop_at=5)  # four steps, 2 s of saving, one step
    assert (first.steps, first.seconds, first.reason) == (5, 7.0, "pause")
    clock.tick(1e6)
    second = run(stop_at=0)  # four steps, saving, one step: 14 s are more than 12
    assert (second.steps, second.seconds, second.reason) == (10, 14.0, "the budget is spent")


def test_afterwards_the_module_holds_the_average_and_the_folder_both(tmp_path):
    weights = []
    spy = Spy(lambda run: weights.append(run.module.weight.detach().clone()))
    module, _ = plain(level_loss(), steps=12, ema=EMA(0.5), callbacks=[spy], folder=tmp_path)
    torch.manual_seed(1)
    mean = nn.Linear(4, 4).weight.detach().clone()
    for n, weight in enumerate(weights, start=1):
        decay = min(0.5, (1 + n) / (10 + n))
        mean = decay * mean + (1 - decay) * weight
    assert torch.allclose(module.weight, mean, atol=1e-6)
    assert not torch.allclose(module.weight, weights[-1], atol=1e-6)
    state, _ = Checkpoints(tmp_path).read()
    assert torch.equal(state["module"]["weight"], weights[-1])
    assert torch.equal(state["ema"]["mean"]["weight"], module.weight)


def test_the_callers_generators_and_the_modules_modes_are_as_before():
    module = trainee.Net()
    module.layers[3].eval()
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    expected = torch.rand(3), np.random.rand()  # noqa: NPY002
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    train(module, trainee.Pool(), trainee.Rotate(), steps=3, show=False)
    assert torch.equal(torch.rand(3), expected[0])
    assert np.random.rand() == expected[1]  # noqa: NPY002
    assert [m.training for m in module.layers] == [True, True, True, False, True]


def test_rows_are_means_over_their_steps(tmp_path):
    losses = [float(2**k) for k in range(7)]
    _, training = plain(Fixed(losses), steps=7, log_every=3, folder=tmp_path)
    assert [row["step"] for row in training.history] == [3, 6, 7]
    assert [row["total"] for row in training.history] == pytest.approx([7 / 3, 56 / 3, 64])
    assert [row["half"] for row in training.history] == pytest.approx([7 / 6, 56 / 6, 32])
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert lines[0] == "step,seconds,rate,total,half,gradient_norm"
    assert [float(line.split(",")[3]) for line in lines[1:]] == [row["total"] for row in training.history]


def test_validation_sees_the_average_in_evaluation_mode_and_lands_in_the_log():
    seen = []

    def measure(module):
        seen.append((module.training, torch.is_grad_enabled(), module.layers[0].weight.clone()))
        return {"gain": 2.0}

    inside = []
    spy = Spy(lambda run: inside.append(run.module.layers[0].weight.detach().clone()))
    module, training = trainee.everything(None, steps=6, ema=EMA(0.5), callbacks=(Validate(measure, every=3), spy))
    assert [(mode, grad) for mode, grad, _ in seen] == [(False, False)] * 2
    assert torch.equal(seen[1][2], module.layers[0].weight), "the last validation sees what is handed over"
    assert not torch.equal(inside[2], seen[0][2]), "and training goes on with its own weights"
    assert [row.get("gain") for row in training.history] == [2.0, 2.0]


def test_a_source_gets_outputs_without_their_graph_and_no_graph_outlives_its_step():
    import weakref

    alive = []

    class Watching(trainee.Rotate):
        def __call__(self, module, window, generator):
            assert [r for r in alive if r() is not None] == []
            loss = super().__call__(module, window, generator)
            alive.append(weakref.ref(loss.outputs))
            return loss

    train(trainee.Net(), trainee.Pool(), Watching(), steps=4, show=False)
    assert len(alive) == 4


def test_training_works_in_a_thread_where_signals_cannot_be_caught():
    found = []
    thread = threading.Thread(target=lambda: found.append(trainee.everything(None, steps=3)[1].steps))
    thread.start()
    thread.join()
    assert found == [3]


@pytest.mark.parametrize("ema", [None, EMA(0.5)])
@pytest.mark.parametrize("where", ["folder", "memory"])
def test_a_loss_that_is_not_finite_ends_training_at_its_step_with_the_last_good_weights(
    tmp_path, monkeypatch, where, ema
):
    kept, raw = {}, {}

    def look(run):
        if run.step == 8:
            raw.update({k: v.clone() for k, v in run.module.state_dict().items()})
            with run.evaluation() as seen:
                kept.update({k: v.clone() for k, v in seen.state_dict().items()})

    folder = tmp_path if where == "folder" else None
    module = nn.Linear(4, 4)
    losses = [1.0] * 8 + [float("nan")] + [1.0] * 11  # found at the row of step 10
    ticks = itertools.count(0.0, 0.01)
    monkeypatch.setattr(loop, "perf_counter", lambda: next(ticks))
    settings = {"save_every": 0.04, "callbacks": [Spy(look)], "folder": folder, "ema": ema, "show": False}
    with pytest.raises(DivergedTraining, match=r"step 9: total = nan, half = nan.*weights of step 8"):
        train(module, trainee.Pool(), Fixed(losses), steps=20, **settings)
    assert all(torch.equal(v, kept[k]) for k, v in module.state_dict().items())
    if folder is not None:
        state, _ = Checkpoints(folder).read()
        assert state["step"] == 8
        assert torch.equal(state["module"]["weight"], raw["weight"])


def test_a_gradient_that_is_not_finite_never_reaches_a_saved_state(tmp_path):
    class Root(Objective):
        """Finite at 0, where its slope is not."""

        def __call__(self, module, window, generator):
            step[0] += 1
            size = module.weight.square().sum()
            return Loss((size * 0.0).sqrt() if step[0] == 6 else size)

    step = [0]
    module = nn.Linear(4, 4)
    with pytest.raises(DivergedTraining, match=r"step [67]: "):
        train(module, trainee.Pool(), Root(), steps=6, save_every=0.0, folder=tmp_path, show=False)
    assert module.weight.isfinite().all()
    for path in Checkpoints(tmp_path).generations():
        assert unpack(path.read_bytes())["module"]["weight"].isfinite().all()
    assert Checkpoints(tmp_path).read()[0]["step"] == 5


def test_a_loss_that_stays_too_high_ends_training_and_no_state_is_saved_meanwhile(tmp_path):
    losses = [1.0] * 30 + [60.0] * 20
    guard = Guard(factor=50.0, patience=10, window=20)
    module = nn.Linear(4, 4)
    with pytest.raises(
        DivergedTraining,
        match=r"step 40: total = 60 after 10 steps above 50 x the median of 1 \(half = 30, gradient_norm = .*\).*of step 30",
    ):
        train(module, trainee.Pool(), Fixed(losses), steps=50, guard=guard, folder=tmp_path, save_every=0.0, show=False)
    assert Checkpoints(tmp_path).read()[0]["step"] == 30


def test_an_update_may_be_anything_that_changes_the_module():
    class Shrink(Update):
        def prepare(self, module):
            self.calls = 0

        def step(self, module, objective, window, generator, rate):
            self.calls += 1
            loss = objective(module, window, generator)
            with torch.no_grad():
                module.weight.mul_(0.5)
            return loss

    module, _ = plain(level_loss(), update=Shrink(), steps=5)
    torch.manual_seed(1)
    assert torch.allclose(module.weight, nn.Linear(4, 4).weight / 32)


# ---- what a training is given -----------------------------------------------------------------------------------------


class Next(Stepper):
    """A linear map of one frame to the next."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.interval, self.inner = 0.1, nn.Linear(4, 4)

    def forward(self, past, parameters):
        return self.inner(past)


def known(runs=3, steps=6):
    frames = torch.randn(runs, steps, 1, 4, generator=torch.Generator().manual_seed(0))
    return Trajectories(frames, trainee.GRID, 0.1, (Channel("u"),))


def weights_after(data, **arguments):
    stepper = Next()
    train(stepper, data, Supervised(), show=False, **{"steps": 5, **arguments})
    return stepper.inner.weight.detach()


def test_the_function_of_the_package_is_this_one():
    assert slipstream.train is train


@pytest.mark.parametrize("batch", [4, 8])
def test_data_become_the_source_that_fits_with_as_many_windows_a_step(batch):
    expected = weights_after(Windows(known(), 2, batch))
    assert torch.equal(weights_after(known(), batch=batch), expected)
    assert batch == 8 or not torch.equal(weights_after(known()), expected), "eight, unless it is said"


def test_a_learning_rate_is_that_of_the_default_update():
    assert torch.equal(weights_after(known(), lr=0.05), weights_after(known(), update=Descent(0.05)))
    assert torch.equal(weights_after(known()), weights_after(known(), update=Descent(1e-3)))
    with pytest.raises(InputError, match="to the update or to train, not to both"):
        weights_after(known(), lr=0.05, update=Descent())


class Costly(Problem):
    """A problem that must not be simulated."""

    def simulate(self, runs, steps=1, seed=0, out=None):
        raise AssertionError("work was done before everything was checked")


class Picky(Supervised):
    def check(self, module):
        raise InputError("this objective cannot judge that module.")


def test_everything_is_refused_before_a_problem_is_simulated(tmp_path):
    def refused(says, objective=None, error=InputError, **arguments):
        with pytest.raises(error, match=says):
            train(Next(), Costly(), objective or Supervised(), show=False, **arguments)

    refused("either minutes= or steps=")
    refused("log_every=0", steps=3, log_every=0)
    refused("batch=0", steps=3, batch=0)
    refused("save_every=nan", steps=3, save_every=math.nan)
    refused("not to both", steps=3, lr=0.1, update=Descent())
    refused("cannot judge that module", Picky(), steps=3)
    with Checkpoints(tmp_path).locked():
        refused("in use by process", error=StoreError, steps=3, folder=tmp_path)
    with pytest.raises(AssertionError, match="work was done"):
        train(Next(), Costly(), Supervised(), steps=3, show=False)


def test_validation_needs_a_number_of_steps():
    with pytest.raises(InputError, match="every=0"):
        Validate(lambda module: {}, every=0)


def test_a_gradient_that_is_not_finite_is_named_at_its_step():
    class Steep(Objective):
        def __call__(self, module, window, generator):
            calls[0] += 1
            size = module.weight.square().sum()
            return Loss((size * 0.0).sqrt() if calls[0] == 4 else size)

    calls = [0]
    with pytest.raises(DivergedTraining, match=r"step 4: gradient_norm = nan"):
        train(nn.Linear(4, 4), trainee.Pool(), Steep(), steps=6, show=False)
