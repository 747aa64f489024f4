import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.app.nodes import differences, from_plain, override, read
from slipstream.errors import ForeignCode, InputError


@pytest.fixture
def reading(tmp_path):
    def call(text):
        path = tmp_path / "r.yaml"
        path.write_text(text)
        return read(path)

    return call


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1.5E+3", 1500.0),
        ("-.5", -0.5),
        (".inf", math.inf),
        ("012", 12),
        ("on", "on"),
        ("no", "no"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("true", True),
        ("~", None),
        ("'64'", "64"),
    ],
)
def test_scalars_follow_yaml_1_2(reading, text, value):
    found = reading(f"a: {text}").plain()["a"]
    assert found == value
    assert type(found) is type(value)


def test_every_value_knows_its_line_and_dotted_key(reading):
    root = reading("a:\n  b: 1\n  c: [1,\n   {d: 2}]\n")
    node = root.value["a"].value["c"].value[1].value["d"]
    assert node.where.endswith("r.yaml:4")
    assert node.key == "a.c.1.d"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "a: given twice, first at"),
        ("a:\n  x: 1\n  x: 2\n", 3, "a.x: given twice"),
        ("a: [1, 2\nb: 3\n", 2, "not YAML"),
        ("a: &x {}\nb:\n  <<: *x\n", 3, "merging with << is not part of recipes"),
        ("a: 1\n? [1, 2]\n: 3\n", 2, "a key of a mapping is a word"),
        ("a: 1\n---\nb: 2\n", 2, "not YAML"),
        ("a: !!int x\n", 1, "a: 'x' is no int"),
        ("- 1\n", 1, "a recipe is a mapping of keys to values; got [1] (list)"),
        ("a: *nowhere\n", 1, "not YAML"),
    ],
)
def test_what_is_no_recipe_is_refused_with_its_line(reading, text, line, said):
    with pytest.raises(InputError, match=f"r.yaml:{line}:") as refused:
        reading(text)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['touch pwned']",
        "!!python/object/new:subprocess.Popen [['touch', 'pwned']]",
        "!!python/name:os.system ''",
        "!!python/module:antigravity ''",
        "!mine {a: 1}",
    ],
)
def test_a_tag_runs_nothing(reading, tag, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ForeignCode, match=r"r.yaml:2: b: the tag .* is refused"):
        reading(f"a: 1\nb: {tag}\n")
    assert not (tmp_path / "pwned").exists()


def test_endless_values_are_refused(reading):
    with pytest.raises(InputError, match="have no end"):
        reading("a: &a [*a]\n")
    bomb = "a0: &a0 [1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)
    )
    with pytest.raises(InputError, match="have no end"):
        reading(bomb)
    with pytest.raises(InputError, match="nested too deeply"):
        reading("a: " + "[" * 5000)


def test_a_missing_recipe_names_the_nearest_file(tmp_path):
    (tmp_path / "kolmogorov.yaml").write_text("")
    with pytest.raises(InputError, match=r"There is no recipe .*Did you mean '.*/kolmogorov.yaml'\?"):
        read(tmp_path / "kolmogorof.yaml")
    with pytest.raises(InputError, match="could not be read: Is a directory"):
        read(tmp_path)


def test_an_override_of_an_alias_leaves_its_other_uses_alone(reading):
    root = reading("a: &x {v: 1, w: [1, 2]}\nb: *x\n")
    override(root, "b.v=2e0")
    override(root, "b.w.1=7")
    override(root, "c.new=[1, x]")
    assert root.plain() == {"a": {"v": 1, "w": [1, 2]}, "b": {"v": 2.0, "w": [1, 7]}, "c": {"new": [1, "x"]}}
    assert root.value["b"].value["v"].where == "command line"
    assert root.value["a"].value["v"].where.endswith(":1")


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("a.v.x=1", "a.v is 1 (whole number) and has no keys"),
        ("a.w.2=1", "a.w has the entries 0 to 1"),
        ("a..v=1", "sets nothing; write key=value"),
        ("=1", "sets nothing"),
        ("a.v=[1", "command line: not YAML"),
        ("a.v=!!python/name:os.system ''", "is refused"),
    ],
)
def test_an_override_that_fits_nowhere_is_refused(reading, assignment, said):
    root = reading("a: {v: 1, w: [1, 2]}")
    with pytest.raises((InputError, ForeignCode)) as refused:
        override(root, assignment)
    assert str(refused.value).startswith("command line")
    assert said in str(refused.value)


trees = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2) | st.sampled_from(["", "x", "1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    max_leaves=8,
)


@given(trees, trees)
def test_differences_are_empty_exactly_for_equal_trees(a, b):
    assert differences(a, a) == []
    assert differences(from_plain(a, "here", Path()).plain(), a) == []
    assert bool(differences({"k": a}, {"k": b})) == (repr(_sorted(a)) != repr(_sorted(b)))


def _sorted(tree):
    if isinstance(tree, dict):
        return {k: _sorted(tree[k]) for k in sorted(tree)}
    return [_sorted(v) for v in tree] if isinstance(tree, list) else tree


def test_numbers_differ_by_value_and_from_truth_values():
    nan = float("nan")
    assert differences({"a": 8, "b": nan}, {"a": 8.0, "b": nan}) == []
    assert differences({"a": 1}, {"a": True}) == ["a: 1 -> True"]
    assert differences({"a": [0]}, {"a": [False]}) == ["a: [0] -> [False]"]


def test_differences_name_each_changed_value():
    old = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    new = {"a": {"b": 2, "c": [1, 3]}, "e": "x"}
    assert differences(old, new) == [
        "a.b: 1 -> 2",
        "a.c: [1, 2] -> [1, 3]",
        "d: 1 -> (left out)",
        "e: (left out) -> 'x'",
    ]
