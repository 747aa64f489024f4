import fake_house
import pytest
import torch

from slipstream.app import recipes
from slipstream.app.arguments import make
from slipstream.errors import ForeignCode, InputError
from slipstream.grids import Grid
from slipstream.objectives.objective import Sum
from slipstream.trajectories import Window


@pytest.fixture
def load(recipe, house, folder):
    def call(*replacements, overrides=(), allow=()):
        return recipes.load(folder / recipe(*replacements), house, overrides, allow)

    return call


def test_a_recipe_says_what_the_python_interface_says(load):
    r = load()
    assert (r.name, r.simulate, r.verify) == ("small", {"runs": 2, "steps": 3}, {"runs": 2})
    assert list(r.models) == ["label-free", "supervised"]
    assert r.models["supervised"].train == {"steps": 5, "seed": 3}
    problem = make(r.problem)
    assert problem.arguments["reynolds"] == 100.0
    stepper = make(r.models["label-free"].stepper, problem)
    assert (stepper.space, stepper.net.arguments["hidden_channels"]) == (2, 4)


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("reynolds", "reynold", 5, "problem.reynold: Swirl has no argument 'reynold'. Did you mean 'reynolds'? It takes: num_points,"),
        ("num_points: 16", "num_points: abc", 4, "problem.num_points: Swirl expects for num_points: whole number; got 'abc' (text)"),
        ("  num_points: 16\n", "", 2, "problem: Swirl needs num_points (whole number)"),
        ("class: Swirl", "class: Swril", 3, "problem.class: there is no class 'Swril'. Did you mean 'Swirl'? Known here: Decay, Swirl"),
        ("class: Swirl", "class: Jump", 3, "problem.class: Jump is no Problem"),
        ("problem:", "problme:", 2, "problme: A recipe has no key 'problme'. Did you mean 'problem'?"),
        ("name: small\n", "", 1, "'name' is missing"),
        ("name: small", "name: ../up", 1, "name: a name has letters, digits, - and _ only"),
        ("runs: 2", "run: 2", 6, "simulate.run: Problem.simulate has no argument 'run'. Did you mean 'runs'?"),
        ("runs: 2, steps", "out: x, runs: 2, steps", 6, "simulate.out: Problem.simulate gets its 'out' from slipstream"),
        ("{runs: 2, steps: 3}", "{runs: 2}", 6, "simulate: Problem.simulate needs steps (whole number)"),
        ("objective: {class: Residual}", "objektive: {class: Residual}", 10, "A model has no key 'objektive'. Did you mean 'objective'?"),
        ("class: Residual", "class: Residuel", 10, "objective.class: there is no class 'Residuel'. Did you mean 'Residual'?"),
        ("    objective: {class: Residual}\n", "", 8, "models.label-free: 'objective' is missing"),
        ("hidden_channels", "hidden", 9, "operator.hidden: Net has no argument 'hidden'. Did you mean 'hidden_channels'?"),
        ("{steps: 5}", "{seed: 1}", 11, "models.label-free.train: train needs minutes or steps"),
        ("{steps: 5}", "{steps: 5, minutes: 1}", 11, "models.label-free.train: train needs minutes or steps, one of the two"),
        ("{steps: 5}", "{minutes: -1}", 11, "models.label-free.train: train needs minutes or steps, one of the two and above 0"),
        ("{steps: 5}", "{minuets: 1}", 11, "train.minuets: train has no argument 'minuets'. Did you mean 'minutes'?"),
        ("{steps: 5}", "{steps: 5, force: true}", 11, "train gets its 'force' from slipstream"),
        ("{steps: 5}", "{steps: 5, update: {class: Descent, lr: fast}}", 11, "update.lr: Descent expects for lr: number; got 'fast'"),
        ("label-free:", "label/free:", 8, "a name has letters, digits"),
        ("verify: {runs: 2}", "verify: {run: 2}", 16, "verify.run: verify has no argument 'run'. Did you mean 'runs'? It takes: runs"),
        ("verify: {runs: 2}", "verify: {rivals: {}}", 16, "verify.rivals: verify gets its 'rivals' from slipstream; leave it out"),
        ("verify: {runs: 2}", "verify: 3", 16, "verify: verify is a mapping of keys to values; got 3"),
        ("verify:", "data: {class: Table, path: x}\nverify:", 16, "a recipe has a problem or data, not both"),
        ("{class: Residual}", "[]", 10, "the list of objectives is empty"),
        ("{class: Residual}", "[{class: Residual, weight: much}]", 10, "objective.0.weight: the sum of objectives expects for weight: num"),
    ],
)  # fmt: skip
def test_a_wrong_recipe_is_refused_with_file_line_key_and_nearest_name(load, old, new, line, said):
    with pytest.raises(InputError) as refused:
        load((old, new))
    assert f"small.yaml:{line}: " in str(refused.value)
    assert said in str(refused.value)


@pytest.mark.parametrize("path", ["os.system", "subprocess.Popen", "builtins.eval"])
@pytest.mark.parametrize(
    "place",
    [
        ("class: Swirl", "class: {}", 3),
        ("reynolds: 100", "reynolds: 100\n  notes: {{class: {}, args: touch pwned}}", 6),
        ("reynolds: 100", "reynolds: 100\n  hook: {{class: {}, args: touch pwned}}", 6),
        ("{class: Residual}", "{{class: {}}}", 10),
        ("{class: Net,", "{{class: {},", 9),
    ],
)
def test_a_strangers_class_is_refused_and_runs_nothing(load, folder, path, place):
    old, new, line = place
    with pytest.raises(ForeignCode, match=rf"small.yaml:{line}: .*'{path}' lies outside slipstream.*--import"):
        load((old, new.format(path)))
    assert not (folder / "pwned").exists()


def test_an_allowed_package_is_used_and_still_checked(load):
    r = load(("{class: Residual}", "{class: fake_house.Residual}"), allow=("fake_house",))
    assert r.models["label-free"].terms[0][1].cls.__name__ == "Residual"
    with pytest.raises(InputError, match=r"fake_house.Residual takes|Residual has no argument 'depht'"):
        load(("{class: Residual}", "{class: fake_house.Residual, depht: 2}"), allow=("fake_house",))


def test_overrides_win_over_the_file_and_over_earlier_ones(load):
    r = load(
        overrides=[
            "problem.reynolds=200",
            "problem.reynolds=300",
            "models.label-free.train={minutes: 1}",
            "verify.steps=7",
        ]
    )
    assert make(r.problem).arguments["reynolds"] == 300.0
    assert r.models["label-free"].train == {"minutes": 1.0}
    assert r.verify == {"runs": 2, "steps": 7}
    assert r.tree["problem"]["reynolds"] == 300


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("problem.reynold=200", "problem.reynold: Swirl has no argument 'reynold'. Did you mean 'reynolds'?"),
        ("problme.reynolds=200", "problme: A recipe has no key 'problme'. Did you mean 'problem'?"),
        (
            "models.label-fre.train.steps=1",
            "models.label-fre: 'stepper' is missing from this model. Did you mean 'label-free'?",
        ),
        (
            "models.label-free.trian.steps=1",
            "models.label-free.trian: A model has no key 'trian'. Did you mean 'train'?",
        ),
        ("problem.num_points=many", "problem.num_points: Swirl expects for num_points: whole number; got 'many'"),
        ("problem.class=KolmogorovFlow", "problem.class: there is no class 'KolmogorovFlow'"),
    ],
)
def test_a_wrong_override_is_refused_like_a_wrong_line(load, assignment, said):
    with pytest.raises(InputError) as refused:
        load(overrides=[assignment])
    assert str(refused.value).startswith(f"command line: {said}")


def test_an_override_adds_what_the_file_leaves_out(load):
    r = load(("verify: {runs: 2}\n", ""), overrides=["verify.runs=9", "problem.forcing={class: Forcing, amplitude: 3}"])
    assert r.verify == {"runs": 9}
    assert make(r.problem).arguments["forcing"].amplitude == 3.0


def test_a_list_of_objectives_is_their_weighted_sum(load):
    listed = "[{class: Residual, weight: 0.5}, {class: Labels, depth: 3}, {class: Labels, weight: 2}]"
    model = load(("{class: Residual}", listed)).models["label-free"]
    total = recipes.objective(model, problem := fake_house.Decay())
    assert total.terms[0][1].problem is problem
    assert isinstance(total, Sum)
    assert [w for w, _ in total.terms] == [0.5, 1.0, 2.0]
    assert total.frames_needed(torch.nn.Identity()) == (1, 3)
    grid = Grid.box(4)
    window = Window(torch.zeros(1, 1, 1, 4), grid, 0.1)
    assert float(total(torch.nn.Identity(), window, torch.Generator()).total) == 0.5 * 2 + 3 + 2 * 1


DATA = """\
name: files
data: {class: Table, path: train.txt}
models:
  only:
    stepper: {class: Plain, operator: {class: Net}}
    objective: {class: Labels}
    train: {steps: 2}
test:
  small: {class: Table, path: small.txt}
  large: {class: Table, path: large.txt}
"""


def test_data_take_the_place_of_a_problem_with_paths_from_the_recipes_folder(
    recipe, house, folder, monkeypatch, tmp_path_factory
):
    path = folder / recipe(text=DATA)
    for name in ("train", "small", "large"):
        (folder / f"{name}.txt").write_text(name)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    r = recipes.load(path, house)
    assert r.problem is None
    assert make(r.data).text == "train"
    assert [make(t).text for t in r.test.values()] == ["small", "large"]
    again = recipes.recall(r.tree, "record", house)
    assert make(again.data).path == folder / "train.txt"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "class: Table, path: train.txt",
            "class: Jump",
            "data: Jump needs a problem; here, where the problem comes from,",
        ),
        ("data: {class: Table, path: train.txt}\n", "", "files.yaml:1: 'problem' or 'data' is missing"),
        ("test:\n  small", "verify: {runs: 2}\nsimulate:\n  small", "simulate: there is no problem to simulate"),
        (DATA[DATA.index("test:") :], "", "'test' is missing: without a problem the models are verified on data"),
        ("path: train.txt", "path: 3", "files.yaml:2: data.path: Table expects for path: text; got 3"),
        ("path: train.txt", "pth: train.txt", "data.pth: Table has no argument 'pth'. Did you mean 'path'?"),
    ],
)
def test_a_recipe_of_data_is_checked_like_one_of_a_problem(recipe, house, folder, old, new, said):
    with pytest.raises(InputError) as refused:
        recipes.load(folder / recipe((old, new), text=DATA, name="files.yaml"), house)
    assert said in str(refused.value)


def test_a_recorded_recipe_means_the_same(load, house):
    r = load(overrides=["problem.reynolds=200"])
    again = recipes.recall(r.tree, "record", house)
    assert again.tree == r.tree
    assert make(again.problem).arguments == make(r.problem).arguments
