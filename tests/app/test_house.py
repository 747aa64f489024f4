"""The real house: what recipes may say is what the Python interface takes."""

from __future__ import annotations

import inspect

import pytest

import slipstream
from slipstream.app.house import slipstream_house
from slipstream.app.nodes import from_plain
from slipstream.app.recipes import check
from slipstream.errors import InputError
from slipstream.training import EMA, Cosine, Descent, Guard, Validate


@pytest.fixture(scope="module")
def house():
    return slipstream_house()


def recipe(tmp_path, house, **train):
    tree = {
        "name": "small",
        "problem": {"class": "KolmogorovFlow", "num_points": 16},
        "models": {
            "net": {
                "stepper": {"class": "Autoregressive", "operator": {"class": "UNet", "hidden_channels": 8}},
                "objective": {"class": "PhysicsResidual"},
                "train": train,
            }
        },
    }
    return check(from_plain(tree, "small.yaml", tmp_path), house).models["net"].train


def test_a_recipe_may_give_every_argument_of_train_that_the_command_line_does_not_give_itself(tmp_path, house):
    values = {
        "steps": 3,
        "batch": 4,
        "lr": 1e-2,
        "update": {"class": "Descent", "clip": 0.5},
        "schedule": {"class": "Cosine", "warmup": 0.1},
        "ema": {"class": "EMA", "decay": 0.9},
        "guard": {"class": "Guard", "factor": 20.0, "patience": 5},
        "seed": 2,
        "save_every": 5.0,
        "log_every": 2,
        "show": False,
    }
    found = recipe(tmp_path, house, **values)
    assert found.keys() == values.keys()
    kinds = {name: found[name].cls for name in ("update", "schedule", "ema", "guard")}
    assert kinds == {"update": Descent, "schedule": Cosine, "ema": EMA, "guard": Guard}
    everything = list(inspect.signature(slipstream.train).parameters)
    assert house.given_to_train == (*everything[:3], "folder", "resume", "force")
    assert set(everything) == {*values, *house.given_to_train, "minutes", "callbacks"}


def test_what_the_command_line_gives_is_refused(tmp_path, house):
    for name, value in (
        ("module", 1),
        ("data", "x"),
        ("objective", 1),
        ("folder", "x"),
        ("resume", False),
        ("force", True),
    ):
        with pytest.raises(InputError, match=rf"train gets its '{name}' from slipstream; leave it out"):
            recipe(tmp_path, house, steps=3, **{name: value})


def test_a_near_miss_is_named(tmp_path, house):
    with pytest.raises(InputError, match=r"train has no argument 'log_evry'\. Did you mean 'log_every'\?"):
        recipe(tmp_path, house, steps=3, log_evry=2)


def test_callbacks_are_a_list(tmp_path, house):
    assert Validate in house.rooms["training"].values()
    with pytest.raises(InputError, match="callbacks"):
        recipe(tmp_path, house, steps=3, callbacks=3)


@pytest.mark.parametrize("budget", [{}, {"steps": 3, "minutes": 1.0}, {"minutes": -1.0}, {"minutes": float("nan")}])
def test_a_budget_that_is_none_is_refused_before_any_work(tmp_path, house, budget):
    with pytest.raises(InputError, match="train needs minutes or steps, one of the two and above 0"):
        recipe(tmp_path, house, **budget)
