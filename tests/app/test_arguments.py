from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import fake_house
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.app import hints
from slipstream.app.arguments import Checker, describe, make
from slipstream.app.names import Names
from slipstream.app.nodes import from_plain
from slipstream.channels import Channel
from slipstream.errors import InputError
from slipstream.operators.operator import Operator

if TYPE_CHECKING:
    from nowhere import Unknown


@pytest.fixture
def checker(house):
    return Checker(Names(house.rooms), has_problem=True, filled={Operator: house.filled})


def node(value):
    return from_plain(value, "r.yaml:1", Path("/base"), "key")


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (3, int, 3),
        (3, float, 3.0),
        ("x", str, "x"),
        ("3", int | str, "3"),
        (None, int | None, None),
        ([1, 2], tuple[int, ...], (1, 2)),
        ([1, 2], tuple[int, float], (1, 2.0)),
        ([1, 2], Sequence[int], [1, 2]),
        ([[1, 2], [3, 4]], tuple[tuple[int, int], ...], ((1, 2), (3, 4))),
        ({"a": 1}, Mapping[str, float], {"a": 1.0}),
        ("a", Literal["a", "b"], "a"),
        ([1, 2], float | Sequence[float], [1.0, 2.0]),
        (2, float | Tensor, 2.0),
        (2.5, Float[Tensor, "batch"] | float, 2.5),
        (["a", {"b": [1]}], Any, ("a", {"b": (1,)})),
        ("float64", torch.dtype | None, torch.float64),
        ("cpu", torch.device, torch.device("cpu")),
        ("rel/x", Path, Path("/base/rel/x")),
        ("/abs/x", str | Path, "/abs/x"),
    ],
)
def test_plain_values_become_what_the_annotation_asks_for(checker, value, hint, expected):
    found = checker.value(node(value), hint, "X expects")
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "hint", "said"),
    [
        ("64", int, "whole number; got '64' (text)"),
        ("1e-3", float, "number; got '1e-3' (text)"),
        (True, int, "whole number; got True (true or false)"),
        (1, bool, "true or false; got 1 (whole number)"),
        (64.5, int, "whole number; got 64.5 (number)"),
        (None, int, "whole number; got nothing (null)"),
        (3, str, "text; got 3 (whole number)"),
        ("c", Literal["a", "b"], "one of 'a', 'b'; got 'c' (text)"),
        ([1], tuple[int, int], "[whole number, whole number]; got [1] (list)"),
        ([1, "x"], tuple[int, ...], "list of (whole number); got [1, 'x'] (list)"),
        ("os.system", Callable[..., int], "{class: Name, ...}; got 'os.system' (text)"),
        ("subprocess.Popen", Operator, "{class: Operator, ...}; got 'subprocess.Popen' (text)"),
        ("Net", Operator, "{class: Operator, ...}. Write {class: Net}"),
        ({"class_path": "subprocess.Popen"}, Operator | None, "{class: Operator, ...} or null; got"),
        ({"class_path": "subprocess.Popen", "init_args": {"args": "ls"}}, float, "number; got"),
        ("float65", torch.dtype, "name of a dtype such as float32; got 'float65'"),
        ("backends", torch.dtype, "name of a dtype"),
        ("vacuum", torch.device, "name of a device"),
        ([1.0], Tensor | float, "Tensor or number; got [1.0]"),
    ],
)
def test_a_wrong_value_is_refused_with_place_and_expectation(checker, value, hint, said):
    with pytest.raises(InputError) as refused:
        checker.value(node(value), hint, "X expects")
    assert str(refused.value).startswith("r.yaml:1: key")
    assert said in str(refused.value)


def test_an_instance_is_made_with_nested_instances(checker):
    value = {"class": "Swirl", "num_points": 8, "forcing": {"class": "Forcing", "amplitude": 2, "kind": "stir"}}
    made = checker.made(node(value), fake_house.Problem)
    problem = make(made)
    assert isinstance(problem, fake_house.Swirl)
    assert problem.arguments["forcing"] == fake_house.Forcing(2.0, "stir")
    assert problem.arguments["reynolds"] == 100.0


def test_a_factory_stays_a_partial_until_the_stepper_calls_it(checker):
    value = {"class": "Jump", "operator": {"class": "Net", "hidden_channels": 5}, "space": 2}
    made = checker.made(node(value))
    factory = make(made.arguments["operator"])
    assert isinstance(factory, partial)
    assert (factory.func, factory.keywords) == (fake_house.Net, {"hidden_channels": 5})
    stepper = make(made, problem := fake_house.Decay())
    assert stepper.problem is problem
    assert stepper.net.arguments["hidden_channels"] == 5
    assert stepper.net.arguments["in_channels"] == 1


@pytest.mark.parametrize(
    ("operator", "said"),
    [
        (
            {"class": "Net", "hidden": 4},
            "key.operator.hidden: Net has no argument 'hidden'. Did you mean 'hidden_channels'?",
        ),
        (
            {"class": "Net", "in_channels": 4},
            "key.operator.in_channels: Net gets its 'in_channels' from slipstream; leave it out",
        ),
        ({"class": "Spectrum"}, "key.operator: Spectrum needs n_modes (list of (whole number))"),
        ({"class": "Swirl", "num_points": 4}, "key.operator.class: Swirl is no Operator"),
        ({"hidden_channels": 4}, "key.operator: Jump expects for operator: {class: Operator, ...}; got"),
    ],
)
def test_a_factory_is_checked_like_a_call(checker, operator, said):
    with pytest.raises(InputError) as refused:
        checker.made(node({"class": "Jump", "operator": operator}))
    assert said in str(refused.value)


def test_a_factory_of_somebody_elses_class_may_lack_what_only_its_caller_knows(house):
    checker = Checker(Names(house.rooms, allow=("torch",)))
    value = {"class": "Descent", "lr": 0.01, "optimiser": {"class": "torch.optim.SGD", "momentum": 0.9}}
    update = make(checker.made(node(value)))
    update.prepare(torch.nn.Linear(1, 1))
    assert update.optim.param_groups[0]["momentum"] == 0.9
    with pytest.raises(InputError, match=r"SGD has no argument 'momentun'. Did you mean 'momentum'\?"):
        checker.made(node({"class": "Descent", "optimiser": {"class": "torch.optim.SGD", "momentun": 0.9}}))


def test_lists_and_mappings_of_classes_are_made(checker):
    spec = {"class": "Forcing", "amplitude": 2}
    found = checker.value(node([spec, "text"]), Iterable[fake_house.Forcing | str], "X expects")
    assert make(found) == (fake_house.Forcing(2.0), "text")
    found = checker.value(node({"a": {"class": "Forcing"}}), Mapping[str, fake_house.Forcing | None], "X expects")
    assert make(found) == {"a": fake_house.Forcing()}
    pair = tuple[fake_house.Forcing, fake_house.Forcing]
    assert len(checker.value(node([spec, spec]), pair, "X expects")) == 2
    for count in (1, 3):
        with pytest.raises(InputError, match=r"\[{class: Forcing, ...}, {class: Forcing, ...}\]; got"):
            checker.value(node([spec] * count), pair, "X expects")
    with pytest.raises(InputError, match=r"key.0.class: .*Did you mean 'Forcing'"):
        checker.value(node([{"class": "Forcin"}]), tuple[fake_house.Forcing, ...], "X expects")


def test_a_function_of_fields_is_an_object_and_a_maker_of_objects_a_factory(house):
    checker = Checker(Names(house.rooms, allow=("torch",)))
    spec = {"class": "torch.nn.LeakyReLU", "negative_slope": 0.5}
    assert isinstance(make(checker.value(node(spec), Callable[[Tensor], Tensor], "X expects")), torch.nn.LeakyReLU)
    assert isinstance(make(checker.value(node(spec), Callable[[], torch.nn.Module], "X expects")), partial)
    assert isinstance(make(checker.value(node(spec), type[torch.nn.Module], "X expects")), partial)


def test_the_problem_is_filled_in_and_not_written(checker, house):
    value = {"class": "Jump", "operator": {"class": "Net"}, "problem": {"class": "Decay"}}
    with pytest.raises(InputError, match=r"key.problem: Jump gets the problem of this recipe; leave it out"):
        checker.made(node(value))
    del value["problem"]
    with pytest.raises(
        InputError, match=r"key: Jump needs a problem; here, where the problem comes from, there is none"
    ):
        Checker(Names(house.rooms)).made(node(value))


def test_a_refusal_by_a_constructor_says_where_in_the_recipe(checker):
    made = checker.made(node({"class": "Swirl", "num_points": 7}))
    with pytest.raises(InputError, match=r"^r.yaml:1: key: Swirl expects an even num_points; got 7"):
        make(made)
    made = checker.made(node({"class": "Table", "path": "nowhere.txt"}))
    with pytest.raises(InputError, match=r"^r.yaml:1: key: FileNotFoundError: .*'/base/nowhere.txt'"):
        make(made)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"num_points": 8}, "key: 'class' is missing. Choose from: Decay, Swirl"),
        ({"clas": "Swirl"}, "'class' is missing. Did you mean 'class' by 'clas'? Choose"),
        ({"class": "Swirl"}, "key: Swirl needs num_points (whole number)"),
        ({"class": "Swirl", "num_points": 8, "dtype": "half3"}, "key.dtype: expected the name of a dtype"),
        (
            {"class": "Swirl", "num_points": 8, "forcing": 3},
            "key.forcing: Swirl expects for forcing: {class: Forcing, ...} or null; got 3",
        ),
        (
            {"class": "Swirl", "num_points": 8, "hook": "os.system"},
            "key.hook: Swirl expects for hook: {class: Name, ...} or null; got 'os.system'",
        ),
        ("Swirl", "key: a Problem is a mapping of keys to values; got 'Swirl' (text)"),
    ],
)
def test_a_wrong_class_mapping_says_what_is_wrong(checker, value, said):
    with pytest.raises(InputError) as refused:
        checker.made(node(value), fake_house.Problem)
    assert said in str(refused.value)


def test_an_annotation_that_cannot_be_read_is_named_not_skipped(checker):
    def function(x: "Unknown") -> None: ...

    with pytest.raises(InputError, match=r"states its argument 'x' as 'Unknown', which a recipe cannot read"):
        checker.call(node({}), {}, function)


def test_open_ended_keyword_arguments_accept_nothing(checker):
    def function(a: int = 1, *rest: int, **options: int) -> None: ...

    assert checker.call(node({}), {"a": node(2)}, function) == {"a": 2}
    with pytest.raises(InputError, match="has no argument 'options'"):
        checker.call(node({}), {"options": node(2)}, function)


def test_arguments_are_described_for_listings():
    told = [describe(a) for a in hints.arguments_of(fake_house.Swirl).values()]
    assert told[:4] == [
        "num_points: whole number",
        "reynolds: number or list of (number) = 100.0",
        "extent: [number, number] = (1.0, 1.0)",
        "forcing: {class: Forcing, ...} or null = None",
    ]
    assert describe(hints.arguments_of(Channel)["unit"]) == "unit: text = ''"
