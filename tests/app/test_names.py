import subprocess
import sys

import pytest

from slipstream.app.names import Names, nearest
from slipstream.errors import ForeignCode, InputError
from slipstream.objectives.objective import Objective
from slipstream.stepper import Stepper


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("reynold", "reynolds"),
        ("NUM_POINTS", "num_points"),
        ("numpoints", "num_points"),
        ("int", "interval"),
        ("zzz", None),
    ],
)
def test_the_nearest_name_is_offered_only_if_near(word, near):
    said = nearest(word, ["reynolds", "num_points", "interval"])
    assert said == (f" Did you mean {near!r}?" if near else "")


def test_a_short_name_is_looked_up_by_what_is_expected(house):
    names = Names(house.rooms)
    assert names.find("Jump", Stepper) is house.rooms["steppers"]["Jump"]
    with pytest.raises(
        InputError, match=r"there is no class 'Jumb'. Did you mean 'Jump'\? Known here: Careless, Jump, Plain"
    ):
        names.find("Jumb", Stepper)
    with pytest.raises(InputError, match=r"Jump is no Objective. There are: Labels, Residual"):
        names.find("Jump", Objective)
    with pytest.raises(InputError, match="the name of a class is text; got 3"):
        names.find(3)


def test_a_name_in_two_rooms_is_decided_by_kind_or_refused(house):
    rooms = {"a": {"X": type("X", (Stepper,), {})}, "b": {"X": type("X", (Objective,), {})}}
    assert Names(rooms).find("X", Objective) is rooms["b"]["X"]
    with pytest.raises(InputError, match=r"'X' is in several rooms; write a\.X or b\.X\."):
        Names(rooms).find("X")


def nested():
    """Two classes of one name, the second in a room within a room, where there is one more."""
    return {
        "a": {"X": type("X", (Stepper,), {})},
        "b": {},
        "b.inner": {"X": type("X", (Objective,), {}), "Y": type("Y", (Objective,), {})},
    }


def test_a_room_within_a_room_comes_after_the_others_and_kind_comes_first():
    rooms = nested()
    names = Names(rooms)
    assert names.find("Y") is rooms["b.inner"]["Y"]
    assert names.find("X") is rooms["a"]["X"]
    assert names.find("X", Stepper) is rooms["a"]["X"]
    assert names.find("X", Objective) is rooms["b.inner"]["X"]
    assert names.called("X") == {"a": rooms["a"]["X"], "b.inner": rooms["b.inner"]["X"]}


def test_a_class_can_be_called_by_its_room():
    rooms = nested()
    names = Names(rooms)
    for path in ("inner.X", "b.inner.X"):
        assert names.find(path) is rooms["b.inner"]["X"]
        assert names.find(path, Objective) is rooms["b.inner"]["X"]
        with pytest.raises(InputError, match=rf"{path} is no Stepper"):
            names.find(path, Stepper)
    assert names.find("a.X") is rooms["a"]["X"]
    with pytest.raises(InputError, match=r"there is no class 'inner.Yy'\. Did you mean 'Y'\?"):
        names.find("inner.Yy")
    for elsewhere in ("ner.X", "b.X.Y", "inner.a.X"):
        with pytest.raises(ForeignCode, match=f"--import {elsewhere.partition('.')[0]}"):
            names.find(elsewhere)


def test_a_package_that_was_allowed_comes_before_a_room_of_its_name():
    rooms = {"subprocess": {"Popen": type("Popen", (), {})}}
    assert Names(rooms).find("subprocess.Popen") is rooms["subprocess"]["Popen"]
    assert Names(rooms, allow=("subprocess",)).find("subprocess.Popen") is subprocess.Popen
    # What was allowed may also be a class of ours, one that starts programs.
    assert Names(rooms, allow=("Popen",)).find("Popen") is rooms["subprocess"]["Popen"]


@pytest.mark.parametrize(
    "path",
    ["os.system", "subprocess.Popen", "builtins.eval", "slipstream_evil.Class", "torch.nn.Linear", "antigravity.x"],
)
def test_a_class_elsewhere_is_refused_before_it_is_imported(house, path):
    with pytest.raises(ForeignCode, match=f"--import {path.split('.')[0]}"):
        Names(house.rooms).find(path)
    assert "antigravity" not in sys.modules


def test_a_foreign_class_is_not_reached_through_a_module_of_ours(house):
    import slipstream.pretrained

    assert slipstream.pretrained.Path.__module__ == "pathlib"
    with pytest.raises(ForeignCode, match=r"is really pathlib.Path, outside slipstream.*--import pathlib"):
        Names(house.rooms).find("slipstream.pretrained.Path")


@pytest.mark.parametrize(
    "path", ["slipstream.stepper.subprocess.Popen", "slipstream.pretrained.os", "slipstream.stepper.find"]
)
def test_what_is_no_class_of_ours_is_bad_input(house, path):
    with pytest.raises(InputError):
        Names(house.rooms).find(path)


def test_an_allowed_package_is_open_and_no_other(house):
    names = Names(house.rooms, allow=("subprocess",))
    assert names.find("subprocess.Popen") is subprocess.Popen
    with pytest.raises(ForeignCode):
        names.find("subprocess_evil.Popen")
    with pytest.raises(ForeignCode):
        names.find("os.system")


def test_a_dotted_path_of_ours_works_and_must_be_of_the_kind(house):
    names = Names(house.rooms)
    assert names.find("slipstream.stepper.Stepper", Stepper) is Stepper
    with pytest.raises(InputError, match=r"slipstream.stepper.Stepper is no Objective"):
        names.find("slipstream.stepper.Stepper", Objective)
