"""Engines in recipes: named like any class, but programs are started only for those who allow it."""

from functools import cache
from pathlib import Path

import pytest

from slipstream.app import recipes
from slipstream.app.arguments import make
from slipstream.app.house import slipstream_house
from slipstream.data import Ensemble, InProcess, Programs, RayEngine
from slipstream.errors import ForeignCode, InputError

EXAMPLES = Path(__file__).parents[3] / "examples"
HEAT = EXAMPLES / "live" / "heat.yaml"
ENGINE = "models.heat.data.engine"


@cache
def house():
    return slipstream_house()


def test_the_example_names_its_program_beside_it():
    recipe = recipes.load(HEAT, house(), [f"{ENGINE}.command=[sh, heat]"], ("Programs",))
    problem = make(recipe.problem)
    source = make(recipe.models["heat"].data, problem)
    assert isinstance(source, Ensemble)
    assert isinstance(source.engine, Programs)
    assert source.engine.cwd == HEAT.parent
    assert source.engine.shape == (1, *problem.grid.shape)
    assert list(problem.varying) == ["diffusivity"]


@pytest.mark.parametrize("name", ["Programs", "slipstream.data.live.programs.Programs"])
def test_a_recipe_starts_no_program_unless_that_is_allowed(name):
    with pytest.raises(ForeignCode, match=r"heat\.yaml|command line.*(?s:.*)--import Programs"):
        recipes.load(HEAT, house(), [f"{ENGINE}.class={name}"])
    with pytest.raises(ForeignCode, match="--import Programs"):
        recipes.load(HEAT, house(), [f"{ENGINE}.class={name}"], ("numpy",))


def test_another_engine_is_an_override():
    recipe = recipes.load(HEAT, house(), [ENGINE + "={class: InProcess, clients: 3}"])
    source = make(recipe.models["heat"].data, make(recipe.problem))
    assert isinstance(source.engine, InProcess)
    assert source.engine.clients == 3
    chosen = recipes.load(
        EXAMPLES / "online.yaml", house(), ["models.online.data.engine={class: RayEngine, clients: 4}"]
    )
    engine = chosen.models["online"].data.arguments["engine"]
    assert engine.cls is RayEngine
    assert engine.wants_problem, "its clients run the recipe's own problem"


def test_an_argument_of_another_engine_is_refused():
    with pytest.raises(InputError, match="RayEngine has no argument 'calls'"):
        recipes.load(EXAMPLES / "online.yaml", house(), ["models.online.data.engine.class=RayEngine"])
