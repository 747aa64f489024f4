"""`slipstream.accelerate`: judged by rollouts, never slower, said in full."""

from __future__ import annotations

import html
import io
import json
import math
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
import torch
from rich.console import Console
from torch import nn

import slipstream as ss
from slipstream.app.house import TABLE, load_stepper
from slipstream.assessment import acceleration, speed
from slipstream.assessment.acceleration import Judge, accelerate, candidates
from slipstream.assessment.tried import Acceleration, Row
from slipstream.compression import Accelerated, Batched, Bfloat16, ChannelsLast, Compiled, Int8Linear, precision
from slipstream.compression.transform import OneShot, Stage
from slipstream.errors import InputError, StoreError
from slipstream.operators import FNO, UNet
from slipstream.steppers import Autoregressive, rollout, wrap

PROBLEM = ss.problems.KolmogorovFlow(num_points=16, reynolds=10.0, interval=0.05, warm_up=0.5)
FRAMES = PROBLEM.simulate(3, 8, seed=5)
SECONDS = {"bfloat16": 0.5, "channels last": 0.8}


class Scaled(nn.Module):
    def __init__(self, module, factor):
        super().__init__()
        self.module, self.factor = module, factor

    def forward(self, *fields):
        return self.factor * self.module(*fields)


class Bias(OneShot):
    """Outputs larger by a fraction: small in a layer, and it adds up in a rollout."""

    stage, after, tolerance = Stage.STRUCTURE, frozenset(), 1.0

    def __init__(self, fraction):
        self.fraction = fraction

    @property
    def label(self):
        return f"bias {self.fraction:g}"

    def unsuitable(self, module):
        return ""

    def convert(self, module):
        return Scaled(module, 1 + self.fraction)


@pytest.fixture
def stepper():
    made = Autoregressive(partial(UNet, hidden_channels=4, levels=1), PROBLEM)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.1)
    return made


@pytest.fixture(autouse=True)
def _no_clock(monkeypatch):
    """Seconds by name: the product of those of the parts."""

    def race(jobs, rounds, budget):
        for job in jobs.values():
            job()
        return {n: math.prod(SECONDS.get(part, 0.1) for part in n.split(" + ") if part != "original") for n in jobs}

    monkeypatch.setattr(speed, "race", race)
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: True)


def test_the_fastest_within_the_error_is_returned_with_its_table(stepper):
    fast = accelerate(stepper, FRAMES, steps=6, transforms=[Bfloat16(), ChannelsLast(), Int8Linear()])
    assert isinstance(fast, Accelerated)
    assert [type(t) for t in fast.transforms] == [Bfloat16, ChannelsLast]
    table = fast.acceleration
    assert table.winner == "bfloat16 + channels last"
    assert table.speed_up == pytest.approx(1 / 0.4)
    assert 0 < table.row(table.winner).deviation < 0.01
    assert table.row(table.winner).error <= 0.01
    assert table.row("int8 linear").status == "unsuitable"
    assert table.row("bfloat16").bytes < table.row("original").bytes
    assert table.row("bfloat16").flops == table.row("original").flops > 0


def test_it_is_judged_by_the_rollout_and_not_by_one_call(stepper):
    def error_after(steps):
        fast = accelerate(stepper, FRAMES[:, :1], steps=steps, transforms=[Bias(0.05)], max_error=math.inf)
        return fast.acceleration.row("bias 0.05").error

    one, six = error_after(1), error_after(6)
    assert six > 3 * one
    between = (one + six) / 2
    kept = accelerate(stepper, FRAMES[:, :1], steps=1, transforms=[Bias(0.05)], max_error=between)
    assert kept.acceleration.winner == "bias 0.05"
    refused = accelerate(stepper, FRAMES[:, :1], steps=6, transforms=[Bias(0.05)], max_error=between)
    assert refused.transforms == ()
    assert refused.acceleration.row("bias 0.05").status == "too far"


def test_extra_error_is_what_is_added_to_the_original_s_own(stepper):
    known, truth = FRAMES[:, :1], FRAMES[:, 1:7]
    biased = Accelerated(stepper, [Bias(-0.5)])
    judged = Judge(stepper, known, truth, 6, 1)(biased)

    def norms(u):
        return u.flatten(2).norm(dim=2)

    p, q, t = rollout(biased, known, 6).frames, rollout(stepper, known, 6).frames, truth.frames
    own, new = ((norms(u - t) / norms(t)).mean(0) for u in (q, p))
    assert (own < 1).all()
    assert judged.error == pytest.approx(float((new - own).clamp(min=0).max()), rel=1e-4, abs=1e-7)
    assert judged.deviation == pytest.approx(float((norms(p - q) / norms(q)).mean(0).max()), rel=1e-4)
    # The triangle inequality, since both are relative: nothing can be worse by more than it is away.
    reach = float((norms(p - q) / norms(t)).mean(0).max())
    assert judged.error <= reach * (1 + 1e-5)


def test_the_original_itself_has_no_extra_error(stepper):
    for truth in (FRAMES[:, 1:7], None):
        assert Judge(stepper, FRAMES[:, :1], truth, 6, 1)(stepper) == (0.0, 0.0)


def test_where_the_original_is_as_wrong_as_a_guess_its_own_rollout_is_the_measure(stepper):
    nonsense = replace(FRAMES[:, 1:7], frames=-FRAMES.frames[:, 1:7])
    better_by_chance = Accelerated(stepper, [Bias(-0.9)])
    judged = Judge(stepper, FRAMES[:, :1], nonsense, 6, 1)(better_by_chance)
    assert judged.error == judged.deviation > 0


def test_a_rollout_that_leaves_finite_numbers_is_beyond_every_error(stepper):
    judge = Judge(stepper, FRAMES[:, :1], FRAMES[:, 1:7], 6, 1)
    assert judge(Accelerated(stepper, [Bias(math.nan)])).error == math.inf
    with pytest.raises(InputError, match="no rollout to compare with"):
        Judge(Accelerated(stepper, [Bias(math.inf)]), FRAMES[:, :1], None, 6, 1)


def test_candidates_are_judged_in_batches_of_the_job(stepper, monkeypatch):
    sizes = set()
    forward = UNet.forward

    def watched(self, x, scalars=None):
        sizes.add(x.shape[0])
        return forward(self, x, scalars)

    monkeypatch.setattr(UNet, "forward", watched)
    accelerate(stepper, FRAMES, steps=3, batch=2, transforms=[ChannelsLast()])
    assert sizes == {1, 2}  # one run: where operations are counted
    sizes.clear()
    accelerate(stepper, FRAMES, steps=3, batch=4, transforms=[Batched(3)])
    assert sizes == {1, 3, 4}


def test_everything_runs_on_the_threads_of_the_job(stepper, monkeypatch):
    inside = []
    race, rolling = speed.race, acceleration.rollout

    @contextmanager
    def threads(count):
        inside.append(count)
        yield
        inside.pop()

    def checked(work):
        def call(*arguments, **settings):
            assert inside == [3]
            return work(*arguments, **settings)

        return call

    monkeypatch.setattr(speed, "threads", threads)
    monkeypatch.setattr(speed, "race", checked(race))
    monkeypatch.setattr(acceleration, "rollout", checked(rolling))
    fast = accelerate(stepper, FRAMES, steps=2, threads=3, transforms=[ChannelsLast()])
    assert inside == []
    assert fast.acceleration.machine["torch threads"] == 3


def test_the_problem_of_the_stepper_is_simulated_where_no_data_are_given(stepper, monkeypatch):
    seeds = []
    simulate = type(PROBLEM).simulate
    monkeypatch.setattr(
        type(PROBLEM),
        "simulate",
        lambda self, runs, steps, seed=0: seeds.append(seed) or simulate(self, runs, steps, seed),
    )
    fast = accelerate(stepper, steps=3, runs=2, transforms=[ChannelsLast()])
    assert seeds == [acceleration.SEED]
    assert "against the truth" in fast.acceleration.judged


def test_a_steady_stepper_is_judged_on_its_field():
    class Map(ss.Stepper):
        """From a source to a field."""

        interval, history = 0.0, 0

        def __init__(self):
            super().__init__()
            self.network = FNO(n_modes=(4, 4), hidden_channels=4, n_layers=1)

        def check(self, frames):
            """Parameters alone matter."""

        def forward(self, past, parameters):
            return self.network(parameters["source"][:, None])[:, None]

    source = torch.randn(3, 16, 16)
    data = ss.Trajectories(source[:, None, None], PROBLEM.grid, 0.0, PROBLEM.channels, {"source": source})
    fast = accelerate(Map(), data, runs=2, transforms=[ChannelsLast(), Batched(1)], batch=2)
    assert fast.acceleration.job == "the field of 2 runs"
    assert fast.acceleration.row("1 at a time").status == "kept"
    assert fast.acceleration.row("original").deviation == 0.0


def test_a_transform_that_raises_is_reported(stepper):
    class Broken(Bias):
        def convert(self, module):
            raise RuntimeError("no compiler here")

    fast = accelerate(stepper, FRAMES, steps=2, transforms=[Broken(0.0), ChannelsLast()])
    assert fast.acceleration.winner == "channels last"
    row = fast.acceleration.row("bias 0")
    assert (row.status, row.why) == ("failed", "RuntimeError: no compiler here")
    assert "no compiler here" in printed(fast.acceleration)


def printed(table):
    console = Console(file=io.StringIO(), width=200)
    console.print(table)
    return console.file.getvalue()


def test_the_table_says_for_which_job_and_what_was_left_out(stepper):
    said = []
    fast = accelerate(
        stepper, FRAMES, steps=6, transforms=[Bfloat16(), Bias(3.0), Int8Linear()], batch=2, say=said.append
    )
    text = printed(fast.acceleration)
    assert fast.acceleration.sentence.startswith("Autoregressive: bfloat16 is 2.0 times faster than the original")
    assert "4 frames of 2 runs, 1 thread" in text
    assert "beyond the error" in text
    assert "it has no linear layers" in text
    assert [line.split(":")[0] for line in said] == ["original", "bias 3", "bfloat16"]


def test_where_nothing_is_faster_it_says_so(stepper, monkeypatch):
    monkeypatch.setitem(SECONDS, "channels last", 1.5)
    fast = accelerate(stepper, FRAMES, steps=2, transforms=[ChannelsLast()])
    assert fast.transforms == ()
    assert fast.acceleration.speed_up == 1.0
    assert "nothing that was tried is faster" in fast.acceleration.sentence
    assert torch.equal(rollout(fast, FRAMES[:, :1], 3).frames, rollout(stepper, FRAMES[:, :1], 3).frames)


def test_the_table_is_written_as_json(stepper, tmp_path):
    fast = accelerate(stepper, FRAMES, steps=2, transforms=[Bfloat16(), Bias(math.nan)])
    content = json.loads(fast.acceleration.save(tmp_path / "table.json").read_text())
    assert content["winner"] == "bfloat16"
    assert {r["name"]: r["error"] for r in content["rows"]}["bias nan"] == "Infinity"
    assert content["sentence"] == fast.acceleration.sentence
    with pytest.raises(InputError, match=r"\.json"):
        fast.acceleration.save(tmp_path / "table.html")


def test_the_report_says_what_made_it_fast(stepper):
    shown = ss.verify(Accelerated(stepper, [Bfloat16(), ChannelsLast()]), FRAMES, steps=2).stepper
    assert shown.name == "Autoregressive"
    assert shown.settings["accelerated by"] == "bfloat16, channels last"
    assert shown.num_parameters == sum(p.numel() for p in stepper.parameters())


def test_what_it_cannot_work_on_is_refused(stepper):
    with pytest.raises(InputError, match="no operators inside"):
        accelerate(wrap(lambda u: u, 0.05), FRAMES)
    with pytest.raises(InputError, match="max_error >= 0"):
        accelerate(stepper, FRAMES, max_error=math.nan)
    with pytest.raises(InputError, match="batch"):
        accelerate(stepper, FRAMES, batch=0)
    stepper.problem = None
    with pytest.raises(InputError, match="data="):
        accelerate(stepper)


def test_everything_is_tried_unless_said_otherwise():
    labels = [t.label for t in candidates(1)]
    assert {"dft form", "bfloat16", "int8 linear", "channels last", "compiled, frozen", "ONNX Runtime"} <= set(labels)
    assert not any(isinstance(t, Batched) for t in candidates(1))
    assert [t.size for t in candidates(16) if isinstance(t, Batched)] == [1, 4]
    assert any(isinstance(t, Compiled) for t in candidates(1))


def test_the_table_survives_the_file_to_the_last_bit(tmp_path):
    table = Acceleration(
        "Staggered", "original", "20 frames of 1 run", 1, 2, 0.01, "judged",
        (Row("original", "kept", "", 0.0, 0.0, 0.1, 0.2, 7, 28, 99), Row("odd", "too far", "why", math.inf, 1.0)),
        {"cores": 2}, {"torch": "2"},
    )  # fmt: skip
    assert Acceleration.load(table.save(tmp_path / "a.json")) == table
    (tmp_path / "b.json").write_text((tmp_path / "a.json").read_text()[:-20])
    with pytest.raises(StoreError, match="could not be read"):
        Acceleration.load(tmp_path / "b.json")
    (tmp_path / "c.json").write_text((tmp_path / "a.json").read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(StoreError, match="format 9"):
        Acceleration.load(tmp_path / "c.json")


def test_verification_of_an_accelerated_stepper_tells_what_was_tried(stepper, tmp_path):
    fast = accelerate(stepper, FRAMES, runs=1, steps=2, transforms=[Batched(1)])
    report = ss.verify(fast, FRAMES)
    assert report.acceleration == fast.acceleration
    page = report.save(tmp_path / "r.html").read_text()
    assert "How it was made faster" in page
    assert html.escape(fast.acceleration.judged).replace("&#x27;", "&#39;") in page
    assert type(report).load(report.save(tmp_path / "r.json")).acceleration == fast.acceleration


def test_the_command_line_loads_the_table_with_the_model(stepper, tmp_path):
    fast = accelerate(stepper, FRAMES, runs=1, steps=2, transforms=[Batched(1)])
    fast.save_pretrained(tmp_path / "m")
    fast.acceleration.save(tmp_path / "m" / TABLE)
    assert load_stepper(str(tmp_path / "m")).acceleration == fast.acceleration
