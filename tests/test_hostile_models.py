"""Damaged and hostile model folders: one clear error each, no program run, no memory for what is only declared."""

from __future__ import annotations

import json
import os
import re
import struct
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from slipstream.errors import ForeignCode, InputError, SlipstreamError, StoreError
from slipstream.operators import FNO, UNet
from slipstream.pretrained import CONFIG, MEMORY, WEIGHTS, Pretrained, _Bounded
from slipstream.problems import KolmogorovFlow
from slipstream.steppers import Autoregressive

MOST = 200 * 2**20


def _fno(folder: Path) -> Path:
    return FNO(n_modes=(4,), hidden_channels=4, n_layers=1).save_pretrained(folder)


def arguments(**changed):
    """A model whose class is given other arguments than it was saved with."""

    def make(folder: Path) -> None:
        config = json.loads((_fno(folder) / CONFIG).read_text())
        config["arguments"].update(changed)
        (folder / CONFIG).write_text(json.dumps(config))

    return make


def within(old: str, new: str):
    """A stepper with a word of its description replaced."""

    def make(folder: Path) -> None:
        stepper = Autoregressive(partial(UNet, hidden_channels=4, levels=1), KolmogorovFlow(num_points=16))
        text = (stepper.save_pretrained(folder) / CONFIG).read_text()
        assert old in text, f"the case is out of date: {old} is not in {text}"
        (folder / CONFIG).write_text(text.replace(old, new))

    return make


def fno(arguments: str) -> str:
    return '{"format": 1, "class": "slipstream.operators.fno.FNO", "arguments": ' + arguments + "}"


def described(text: str):
    def make(folder: Path) -> None:
        _fno(folder)
        (folder / CONFIG).write_text(text)

    return make


def weights(content: bytes):
    def make(folder: Path) -> None:
        (_fno(folder) / WEIGHTS).write_bytes(content)

    return make


def header(text: str, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text.encode()


def tensor(name: str, size: int) -> str:
    return f'"{name}": {{"dtype": "F32", "shape": [{size}], "data_offsets": [0, {4 * size}]}}'


def value(number: float):
    def make(folder: Path) -> None:
        state = load_file(_fno(folder) / WEIGHTS)
        name = sorted(state)[0]
        state[name].view(-1)[0] = number
        save_file(state, folder / WEIGHTS)

    return make


def sparse(folder: Path) -> None:
    with open(_fno(folder) / WEIGHTS, "r+b") as file:
        file.truncate(2**40)


def a_folder_for(name: str):
    def make(folder: Path) -> None:
        (_fno(folder) / name).unlink()
        (folder / name).mkdir()

    return make


def an_array(kind: str) -> dict:
    return {"tensor": [1, 2], "of": kind}


PROGRAM = {"class": "slipstream.data.live.programs.Programs", "arguments": {"command": ["touch", "sprung"]}}
RENAMED = {"class": "slipstream.assessment.verification.Store", "arguments": {}}
NESTED = '{"padding": ' + "[" * 900 + "]" * 900 + "}"
OUTSIDE = {"class": "subprocess.Popen", "arguments": {"args": ["touch", "sprung"]}}
LARGE = "far more memory than its weights take"
CASES = {
    "width of a million": (arguments(hidden_channels=10**6), InputError, LARGE),
    "width beyond any address": (arguments(hidden_channels=2**62), InputError, "no model that can be made"),
    "width that is no machine number": (arguments(hidden_channels=10**40), InputError, "no model that can be made"),
    "ten million layers": (arguments(n_layers=10**7, hidden_channels=1), InputError, LARGE),
    "a billion wavenumbers": (arguments(n_modes=[10**9]), InputError, LARGE),
    "negative width": (arguments(hidden_channels=-4), InputError, "no model that can be made"),
    "a word for a width": (arguments(hidden_channels="wide"), InputError, "no model that can be made"),
    "an unknown argument": (arguments(depth=3), InputError, "depth"),
    "arguments that are a list": (described(fno("[1]")), InputError, "no model that can be made"),
    "no class": (described('{"format": 1, "class": "", "arguments": {}}'), ForeignCode, "outside slipstream"),
    "a class that is a number": (described('{"format": 1, "class": 3, "arguments": {}}'), InputError, "no model that can be made"),
    "a grid of 10^12 points": (within('"num_points": 16', '"num_points": 1000000'), InputError, LARGE),
    "a Reynolds number of NaN": (within('"reynolds": 100.0', '"reynolds": NaN'), InputError, "no model that can be made"),
    "a function for a kind of number": (arguments(padding={"dtype": "load"}), InputError, "'load' is no kind of number"),
    "a module for a kind of number": (arguments(padding=an_array("hub")), InputError, "'hub' is no kind of number"),
    "a program": (arguments(padding=PROGRAM), ForeignCode, "no part of a model"),
    "a program, deep": (arguments(padding=[{"a": [PROGRAM]}]), ForeignCode, "no part of a model"),
    "a training": (arguments(padding={"factory": "slipstream.training.Training", "arguments": {}}), ForeignCode, "no part of a model"),
    "a class outside": (arguments(padding=OUTSIDE), ForeignCode, "outside slipstream"),
    "a description without an end": (described("[" * 10**5), StoreError, "could not be read"),
    "a description of arrays within arrays": (described(fno(NESTED)), InputError, "no model that can be made"),
    "a weight that is not a number": (value(float("nan")), StoreError, "not finite"),
    "an infinite weight": (value(float("inf")), StoreError, "not finite"),
    "no weights": (weights(header("{}")), StoreError, "does not fit FNO"),
    "a header of 2^63 bytes": (weights(header("{}", 2**63)), StoreError, "is damaged"),
    "a tensor of 10^15 numbers": (weights(header("{" + tensor("a", 10**15) + "}")), StoreError, "is damaged"),
    "tensors that overlap": (weights(header("{" + tensor("a", 1) + ", " + tensor("b", 1) + "}") + b"abcd"), StoreError, "is damaged"),
    "a terabyte of nothing": (sparse, StoreError, "is damaged"),
    "a program by another name": (arguments(padding=RENAMED), ForeignCode, "no part of a model"),
    "a folder for the description": (a_folder_for(CONFIG), StoreError, "model.json could not be read"),
    "a folder for the weights": (a_folder_for(WEIGHTS), StoreError, "model.safetensors could not be read"),
}  # fmt: skip


def memory(line: str) -> int:
    """Bytes of this process that the system reports under a name."""
    (found,) = (row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith(line))
    return 1024 * int(found.split()[1])


@pytest.mark.parametrize("case", CASES)
def test_one_clear_error_and_neither_program_nor_memory(case, tmp_path, monkeypatch):
    make, kind, words = CASES[case]
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "Ünïcode model"
    make(folder)
    counted = os.path.exists("/proc/self/clear_refs")
    if counted:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
        before = memory("VmRSS")
    with pytest.raises(SlipstreamError, match=words) as caught:
        Pretrained.from_pretrained(folder)
    if counted:
        assert memory("VmHWM") - before < MOST
    assert isinstance(caught.value, kind)
    assert len(str(caught.value)) < 1000
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.eye(10**6),
        lambda: torch.zeros(size=(10**6, 10**6)),
        lambda: torch.full((10**6, 10**6), 3),
        lambda: torch.zeros(3).new_empty(10**6, 10**6),
        lambda: torch.zeros(3).new_full((10**6, 10**6), 0.0),
        lambda: torch.zeros(10**4).repeat(10**4),
        lambda: torch.arange(end=10**12),
        lambda: torch.arange(10**6)[:, None] * torch.arange(10**6),
        lambda: [torch.empty(10**7) for _ in range(10)],
        lambda: [torch.zeros(1) for _ in range(10**4)],
    ],
)
def test_what_takes_memory_is_refused_before_it_does(make):
    with _Bounded({}, MEMORY), pytest.raises(InputError, match=LARGE):
        make()


def test_small_tensors_are_made_as_ever():
    with _Bounded({}, MEMORY):
        found = (
            torch.eye(3),
            torch.full((2,), 10**9),
            torch.zeros(2).new_full((2, 2), 10**9),
            torch.ones(2).repeat(2, 3),
        )
    assert [tuple(t.shape) for t in found] == [(3, 3), (2,), (2, 2), (2, 6)]


def test_more_memory_is_allowed_when_asked(tmp_path):
    """As the error says."""
    model = FNO(n_modes=(4,), hidden_channels=4, n_layers=1)
    folder = model.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=LARGE) as caught:
        Pretrained.from_pretrained(folder, memory=-(10**6))
    (enough,) = re.findall(r"memory=(\d+)", str(caught.value))
    again = Pretrained.from_pretrained(folder, memory=int(enough))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_a_wide_model_with_its_weights_comes_back(tmp_path):
    """The bound grows with the weights: it refuses what is only declared, not what is there."""
    torch.manual_seed(0)
    model = FNO(n_modes=(16,), hidden_channels=512, n_layers=2)
    again = Pretrained.from_pretrained(model.save_pretrained(tmp_path))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
