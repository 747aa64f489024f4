import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # `fake_house`, also for the processes that tests start

import fake_house

RECIPE = """\
name: small
problem:
  class: Swirl
  num_points: 16
  reynolds: 100
simulate: {runs: 2, steps: 3}
models:
  label-free:
    stepper: {class: Jump, space: 2, operator: {class: Net, hidden_channels: 4}}
    objective: {class: Residual}
    train: {steps: 5}
  supervised:
    stepper: {class: Jump, operator: {class: Net, hidden_channels: 4}}
    objective: {class: Labels}
    train: {steps: 5, seed: 3}
verify: {runs: 2}
"""


@pytest.fixture
def house():
    return fake_house.house()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def recipe(folder):
    """Writes a recipe, the usual one with some text replaced, and gives its path."""

    def write(*replacements, text=RECIPE, name="small.yaml"):
        for old, new in replacements:
            assert text.count(old) >= 1, old
            text = text.replace(old, new, 1)
        (folder / name).write_text(text)
        return name

    return write


@pytest.fixture
def run(capsys):
    """Runs a command line in the fake house: (exit code, standard output, standard error)."""
    from slipstream.app.main import main

    def call(*words):
        capsys.readouterr()
        code = main(list(words), fake_house.house)
        out, err = capsys.readouterr()
        return code, out, err

    return call
