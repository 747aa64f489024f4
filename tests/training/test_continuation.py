"""A training that was stopped ends as if it had not been."""

import json
import os
import random
import signal
import subprocess
import sys
from functools import partial

import pytest
import torch
import trainee

from slipstream.data.source import check_layout
from slipstream.errors import InputError, StoreError
from slipstream.training.checkpoint import Checkpoints, checksum
from slipstream.training.ema import EMA
from slipstream.training.logs import Log
from slipstream.training.schedules import Constant
from slipstream.training.update import Descent


def run_program(*runs):
    """Each (folder, how it ends, at which step) in a process of its own, one after the other; their exit codes."""
    arguments = [f"{folder},{how},{step}" for folder, how, step in runs]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, trainee.__file__, *arguments], env=environment, stdout=-1, timeout=100)
    return json.loads(done.stdout)


def same_bits(a, b):
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def without_time(rows):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The uninterrupted training, in this process."""
    return trainee.everything(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """What is left of a training killed six times, of one left alone, and of one ended by SIGTERM."""
    folder = tmp_path_factory.mktemp("programs")
    chance = random.Random(os.urandom(8))
    moments = sorted(chance.sample(range(1, 56), 6))
    kills = [(folder / "killed", how, step) for how, step in zip(["die", "cut"] * 3, moments, strict=True)]
    codes = run_program(
        *kills, *((folder / name, "go", 0) for name in ("killed", "whole")), (folder / "ended", "end", 7)
    )
    assert codes == [-signal.SIGKILL] * 6 + [0, 0, -signal.SIGTERM]
    return folder, moments


def test_a_killed_training_ends_with_the_same_bits_as_one_that_was_left_alone(programs):
    folder, moments = programs
    killed, whole = (Checkpoints(folder / name).read()[0] for name in ("killed", "whole"))
    assert (killed["step"], whole["step"]) == (60, 60)
    for part in ("module", "update", "ema", "guard", "meter", "processes"):
        assert checksum(killed[part]) == checksum(whole[part]), (part, moments)


def test_the_log_of_a_killed_training_has_every_row_once(programs):
    folder, _ = programs
    killed, whole = (Log(folder / name / "log.csv", after=60).rows for name in ("killed", "whole"))
    assert without_time(killed) == without_time(whole)
    assert [row["step"] for row in killed] == list(range(4, 61, 4))


def test_half_written_files_are_cleared_away(programs):
    names = [path.name for path in (programs[0] / "killed").iterdir()]
    assert sorted(names) == ["lock", "log.csv", "state-0000000055.safetensors", "state-0000000060.safetensors"]


def test_a_program_ends_by_sigterm_after_saving(programs):
    assert Checkpoints(programs[0] / "ended").read()[0]["step"] == 7


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_saves_and_the_same_call_goes_on(tmp_path, whole, number):
    caught = []
    before = signal.signal(signal.SIGTERM, lambda *_: caught.append("SIGTERM"))
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    try:

        def act():
            os.kill(os.getpid(), number)

        if number == signal.SIGINT:
            with pytest.raises(KeyboardInterrupt, match=r"after 23 steps.*SIGINT.*goes on"):
                trainee.everything(tmp_path, act=act, act_at=23, save_every=1e9)
        else:
            _, training = trainee.everything(tmp_path, act=act, act_at=23, save_every=1e9)
            assert (training.steps, training.reason, caught) == (23, "stopped by SIGTERM", ["SIGTERM"])
        assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
        module, training = trainee.everything(tmp_path)
    finally:
        signal.signal(signal.SIGTERM, before)
    same_bits(module.state_dict(), whole[0].state_dict())
    assert without_time(training.history) == without_time(whole[1].history)


def test_a_second_interrupt_does_not_wait_for_the_end_of_the_step(tmp_path):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the step went on")

    with pytest.raises(KeyboardInterrupt, match="second"):
        trainee.everything(tmp_path, act=twice, act_at=13)
    assert Checkpoints(tmp_path).read()[0]["step"] == 10


@pytest.mark.parametrize("damage", ["truncated", "bit", "empty"])
def test_a_damaged_newest_generation_is_said_and_the_one_before_it_used(tmp_path, whole, capsys, damage):
    with pytest.raises(KeyboardInterrupt):
        trainee.everything(tmp_path, act=lambda: signal.raise_signal(signal.SIGINT), act_at=33)
    newest, older = Checkpoints(tmp_path).generations()
    content = bytearray(newest.read_bytes())
    content[-3] ^= 4
    newest.write_bytes({"truncated": content[:-100], "bit": content, "empty": b""}[damage])
    module, _ = trainee.everything(tmp_path, show=True)
    said = capsys.readouterr().out
    assert f"{newest.name} is damaged" in said
    assert f"going on from {older.name}" in said
    assert "Going on from step 30" in said
    same_bits(module.state_dict(), whole[0].state_dict())
    assert len(Checkpoints(tmp_path).generations()) == 2


def test_a_folder_of_damaged_generations_is_refused(tmp_path):
    trainee.everything(tmp_path, steps=7)
    for path in Checkpoints(tmp_path).generations():
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StoreError, match=r"No state in .* is whole: state-0000000007.*state-0000000005"):
        trainee.everything(tmp_path, steps=7)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"steps": 8}, r"budget.steps: 6 -> 8"),
        ({"steps": None, "minutes": 1.0}, r"budget.minutes: null -> 1.0"),
        ({"seed": 1}, r"seed: 0 -> 1"),
        ({"update": Descent(lr=0.5)}, r"update.arguments.lr: 0.02 -> 0.5"),
        ({"schedule": Constant()}, r'schedule.class: "slipstream.training.schedules.Cosine" -> .*Constant'),
        ({"ema": None}, r"ema: .* -> null"),
    ],
)
def test_other_settings_are_shown_and_refused_and_taken_by_force(tmp_path, change, line):
    trainee.everything(tmp_path, steps=6)
    before = Checkpoints(tmp_path).read()[0]
    with pytest.raises(InputError, match=line):
        trainee.everything(tmp_path, **{"steps": 6, **change})
    same_bits(Checkpoints(tmp_path).read()[0]["module"], before["module"])
    if "minutes" not in change:
        _, training = trainee.everything(tmp_path, force=True, **{"steps": 7, **change})
        assert training.steps == change.get("steps", 7)


def test_by_force_a_new_update_and_a_new_seed_start_afresh(tmp_path):
    found = []
    for seed in (1, 2):
        trainee.everything(tmp_path / str(seed), steps=6)
        update = Descent(lr=0.1, optimiser=partial(torch.optim.SGD, momentum=0.5))
        module, _ = trainee.everything(tmp_path / str(seed), steps=8, update=update, seed=seed, force=True)
        assert update.optim.param_groups[0]["momentum"] == 0.5
        found.append(module.state_dict()["turn"])
    assert not torch.equal(*found)


def test_another_objective_is_refused(tmp_path):
    trainee.loop.train(trainee.Net(), trainee.Pool(), trainee.Rotate(), steps=2, folder=tmp_path, show=False)
    with pytest.raises(InputError, match=r"objective"):
        trainee.loop.train(trainee.Net(), trainee.Pool(), 2.0 * trainee.Rotate(), steps=2, folder=tmp_path, show=False)


def test_a_finished_training_is_not_repeated(tmp_path, whole):
    module, training = trainee.everything(whole[1].folder)
    same_bits(module.state_dict(), whole[0].state_dict())
    assert training.steps == 60
    assert training.history == whole[1].history


def test_starting_again_needs_force_and_then_forgets_everything(tmp_path):
    first, _ = trainee.everything(tmp_path, steps=6)
    with pytest.raises(InputError, match="force=True removes it"):
        trainee.everything(tmp_path, steps=6, resume=False)
    again, training = trainee.everything(tmp_path, steps=6, resume=False, force=True)
    same_bits(again.state_dict(), first.state_dict())
    assert [row["step"] for row in training.history] == [4, 6]


def test_a_folder_belongs_to_one_process(tmp_path):
    with Checkpoints(tmp_path).locked(), pytest.raises(StoreError, match="training in"):
        trainee.everything(tmp_path)
    trainee.everything(tmp_path, steps=1)


def test_a_folder_that_cannot_be_made_is_refused_before_any_step(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="Could not make"):
        trainee.everything(tmp_path / "file" / "run", act=lambda: pytest.fail("it trained"), act_at=1)


def test_by_force_an_average_that_is_new_begins_with_the_weights_that_are_there(tmp_path):
    trained, _ = trainee.everything(tmp_path, steps=20, ema=None)
    module, _ = trainee.everything(tmp_path, steps=20, ema=EMA(0.9), force=True)
    same_bits(module.state_dict(), trained.state_dict())
    assert not torch.equal(trained.state_dict()["turn"], trainee.Net().state_dict()["turn"])


class Batches(trainee.Pool):
    """Refuses the state of another batch size, as sources do."""

    def __init__(self, batch):
        super().__init__()
        self.batch = batch

    def state_dict(self):
        return {**super().state_dict(), "layout": {"batch": self.batch}}

    def load_state_dict(self, state):
        check_layout("Batches", state, {"batch": self.batch})
        super().load_state_dict(state)


def test_a_source_that_refuses_its_state_ends_the_call_and_by_force_starts_afresh(tmp_path, capsys):
    def go_on(batch, steps, **arguments):
        source = Batches(batch)
        module = trainee.Net()
        training = trainee.loop.train(
            module, source, trainee.Rotate(), steps=steps, folder=tmp_path, **{"show": False, **arguments}
        )
        return source.given, training.steps

    assert go_on(4, 5) == (5, 5)
    with pytest.raises(InputError, match=r"batch was 4 and is 3\. Continue with the same data"):
        go_on(3, 5)
    assert go_on(4, 7, force=True) == (7, 7), "by force a source that can goes on"
    capsys.readouterr()
    assert go_on(3, 9, force=True, show=True) == (2, 9)
    assert "The source starts afresh: Batches cannot go on" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_a_step_that_fails_is_not_lost(tmp_path, number):
    """SIGTERM during a step that ends with an error: the caller who catches the error must still be stopped."""

    def fail():
        os.kill(os.getpid(), number)
        raise ZeroDivisionError

    caught = []
    before = signal.signal(signal.SIGTERM, lambda *_: caught.append("SIGTERM"))
    try:
        expected = KeyboardInterrupt if number == signal.SIGINT else ZeroDivisionError
        with pytest.raises(expected):
            trainee.everything(tmp_path, act=fail, act_at=3)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught == ([] if number == signal.SIGINT else ["SIGTERM"])


def test_what_a_killed_process_left_of_the_log_is_cleared_away(tmp_path):
    trainee.everything(tmp_path, steps=4)
    (tmp_path / ".log.csv.123").write_text("half")
    (tmp_path / ".state-0000000009.safetensors.123").write_text("half")
    trainee.everything(tmp_path, steps=4)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
