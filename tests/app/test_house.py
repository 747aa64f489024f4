"""The real house: what recipes may say is what the Python interface takes."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import slipstream
from slipstream.app.house import slipstream_house
from slipstream.app.nodes import from_plain
from slipstream.app.recipes import check, load
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


def test_linear_solvers_are_called_by_short_names_and_one_of_two_multigrids_by_what_is_expected(house):
    from slipstream import data
    from slipstream.app.names import Names
    from slipstream.solvers import linear

    names = Names(house.rooms)
    for name in ("DCDM", "CG", "AMG", "Multigrid", "FastPoisson"):
        assert names.find(name, linear.Method) is names.find(f"linear.{name}") is getattr(linear, name)
    assert names.find("Multigrid") is names.find("data.Multigrid") is data.Multigrid
    assert names.find("Jacobi", linear.Preconditioner) is linear.Jacobi


def test_the_pressure_solver_of_a_flow_is_written_in_a_recipe_and_its_network_is_a_folder_beside_it(tmp_path, house):
    """`DCDM` reads what was saved, wherever the command is called."""
    from slipstream.app.arguments import make
    from slipstream.operators import CycleNet
    from slipstream.solvers.linear import DCDM

    CycleNet(hidden_channels=2).save_pretrained(tmp_path / "net")
    tree = {
        "name": "flow",
        "problem": {
            "class": "LidDrivenCavity",
            "num_points": 8,
            "pressure_solver": {"class": "DCDM", "network": "net", "directions": 3},
        },
    }
    checked = check(from_plain(tree, "flow.yaml", tmp_path), house)
    solver = make(checked.problem).pressure_solver
    assert isinstance(solver, DCDM)
    assert isinstance(solver.module, CycleNet)
    assert (solver.network, solver.directions) == (str(tmp_path / "net"), 3)
    assert checked.tree["problem"]["pressure_solver"]["network"] == str(tmp_path / "net")
    example = Path(__file__).parents[2] / "examples" / "projection.yaml"
    solver = load(example, house).problem.arguments["pressure_solver"]
    assert solver.cls is DCDM
    assert Path(solver.arguments["network"]).resolve() == example.parents[1] / "runs" / "pressure-net"
    wrong = {"class": "LidDrivenCavity", "pressure_solver": {"class": "data.Multigrid"}}
    with pytest.raises(InputError, match=r"data\.Multigrid is no Method"):
        check(from_plain({"name": "flow", "problem": wrong}, "flow.yaml", tmp_path), house)
