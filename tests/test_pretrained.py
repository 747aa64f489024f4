"""Models on disk: what was saved comes back, whole, and nothing else happens."""

from __future__ import annotations

import json
import os
import pickle
import sys
from functools import partial

import pytest
import torch
from torch import nn

from slipstream.channels import Channel
from slipstream.errors import ForeignCode, InputError, StoreError
from slipstream.grids import Grid
from slipstream.operators import FNO, UNet
from slipstream.operators.operator import Operator
from slipstream.pretrained import CONFIG, FORMAT, WEIGHTS, Pretrained, describe, find_class, rebuild

HERE = __name__


class Twice(Operator):
    """Two operators in a row, made by a factory: arguments of every kind, modules within modules."""

    def __init__(
        self,
        factory,
        inner: nn.Module | None = None,
        grid=None,
        channels=(),
        scale=None,
        dtype=torch.float32,
        names=None,
    ):
        super().__init__()
        self.factory, self.grid, self.channels, self.scale, self.dtype, self.names = (
            factory,
            grid,
            channels,
            scale,
            dtype,
            names,
        )
        self.first = factory(in_channels=1, out_channels=2, num_dims=1, num_scalars=0)
        self.inner = inner if inner is not None else UNet(2, 1, 1, hidden_channels=4, levels=1)
        self.register_buffer("mean", torch.randn(1))

    def forward(self, x):
        return self.inner(self.first(x)) + self.mean


class Forgetful(Operator):
    """Does not keep its argument."""

    def __init__(self, width: int) -> None:
        super().__init__()


class Greedy(Operator):
    """Cannot say what it was built with."""

    def __init__(self, **settings) -> None:
        super().__init__()


@pytest.fixture
def here(monkeypatch):
    """This file as an importable package, however pytest imported it."""
    monkeypatch.setitem(sys.modules, "stranger", type(sys)("stranger"))
    monkeypatch.setitem(sys.modules, "stranger.models", sys.modules[HERE])
    for cls in (Twice, Forgetful, Greedy):
        monkeypatch.setattr(cls, "__module__", "stranger.models")


@pytest.fixture
def saved(tmp_path):
    model = FNO(n_modes=(4,), hidden_channels=4, n_layers=1)
    return model.save_pretrained(tmp_path / "model")


def edit(folder, **changes) -> None:
    path = folder / CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_modules_within_modules_and_partial_factories_come_back_bit_for_bit(here, tmp_path):
    model = Twice(
        partial(FNO, n_modes=(4,), hidden_channels=4, n_layers=1),
        inner=FNO(n_modes=(6,), in_channels=2, hidden_channels=3, n_layers=2, padding="zero"),
        grid=Grid.box(8),
        channels=(Channel("u", "m/s"), Channel("p", "Pa", "face_x")),
        scale=torch.tensor([1 / 3, 2.0], dtype=torch.float64),
        dtype=torch.float64,
        names={"u": [1, 2.5, None, True]},
    )
    loaded = Twice.from_pretrained(model.save_pretrained(tmp_path), allow=("stranger",))
    x = torch.randn(2, 1, 8)
    assert torch.equal(loaded(x), model(x))
    assert torch.equal(loaded.mean, model.mean)
    assert torch.equal(loaded.scale, model.scale)
    assert loaded.scale.dtype == loaded.dtype == torch.float64
    assert (loaded.grid, loaded.channels, loaded.names) == (model.grid, model.channels, {"u": (1, 2.5, None, True)})
    assert loaded.factory.func is FNO
    assert loaded.factory.keywords == model.factory.keywords
    assert describe(loaded) == describe(model)


def test_what_it_is_about_is_kept_as_plain_text(tmp_path):
    folder = UNet(hidden_channels=4).save_pretrained(tmp_path, about={"unit": "m/s", "error": 0.01})
    config = json.loads((folder / CONFIG).read_text())
    assert config["about"] == {"unit": "m/s", "error": 0.01}
    assert config["class"] == "slipstream.operators.unet.UNet"
    assert sorted(os.listdir(folder)) == [CONFIG, WEIGHTS]


def test_saving_again_replaces_both_files(saved):
    other = UNet(hidden_channels=4, levels=1)
    other.save_pretrained(saved)
    x = torch.randn(1, 1, 8, 8)
    assert torch.equal(Pretrained.from_pretrained(saved)(x), other(x))


def test_weights_that_share_memory_are_saved_each(tmp_path):
    model = FNO(n_modes=(4,), hidden_channels=4, n_layers=2)
    model.blocks[1].linear.weight = model.blocks[0].linear.weight
    x = torch.randn(2, 1, 8)
    assert torch.equal(FNO.from_pretrained(model.save_pretrained(tmp_path))(x), model(x))


def test_a_model_in_double_precision_comes_back_in_double_precision(tmp_path):
    model, x = FNO(n_modes=(4,), hidden_channels=4, n_layers=1).double(), torch.randn(2, 1, 8, dtype=torch.float64)
    nn.init.normal_(model.lifting.first.weight)
    loaded = FNO.from_pretrained(model.save_pretrained(tmp_path))
    assert loaded.lifting.first.weight.dtype == torch.float64
    assert torch.equal(loaded(x), model(x))


def test_a_class_of_another_package_is_refused_until_allowed(here, tmp_path):
    model = Twice(partial(FNO, n_modes=(4,), hidden_channels=4))
    folder = model.save_pretrained(tmp_path)
    with pytest.raises(ForeignCode, match=r"stranger\.models\.Twice.*--import stranger"):
        Pretrained.from_pretrained(folder)
    assert isinstance(Pretrained.from_pretrained(folder, allow=("stranger",)), Twice)


@pytest.mark.parametrize("place", ["class", "factory", "nested"])
def test_no_stranger_s_code_runs(saved, tmp_path, monkeypatch, place):
    (tmp_path / "trap.py").write_text(
        "import pathlib\npathlib.Path(__file__).with_name('sprung').touch()\nclass Model: pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    arguments = json.loads((saved / CONFIG).read_text())["arguments"]
    trap = {"factory" if place == "factory" else "class": "trap.Model", "arguments": {}}
    if place == "class":
        edit(saved, **trap)
    else:
        edit(saved, arguments={**arguments, "padding": trap if place == "factory" else [{"deep": [trap]}]})
    with pytest.raises(ForeignCode, match=r"trap\.Model"):
        FNO.from_pretrained(saved)
    assert "trap" not in sys.modules
    assert not (tmp_path / "sprung").exists()


def test_a_pickle_in_place_of_the_weights_is_not_opened(saved, tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    (saved / WEIGHTS).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(StoreError, match="is damaged"):
        FNO.from_pretrained(saved)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("path", ["os.system", "slipstreamish.Model", "slipstream", "builtins.eval", "..slipstream.x"])
def test_only_paths_inside_allowed_packages_are_looked_up(path):
    with pytest.raises(ForeignCode):
        find_class(path)


def test_a_class_that_a_module_of_ours_merely_imports_is_not_ours():
    with pytest.raises(ForeignCode):
        find_class("slipstream.pretrained.Path")


@pytest.mark.parametrize(
    "path", ["slipstream.operators.fno.FMO", "slipstream.nowhere.FNO", "slipstream.pretrained.describe"]
)
def test_a_class_that_is_not_there_is_named(path):
    with pytest.raises(InputError, match=path):
        find_class(path)


def test_a_file_of_another_class_is_refused(saved):
    with pytest.raises(InputError, match="holds a FNO, not a UNet"):
        UNet.from_pretrained(saved)


@pytest.mark.parametrize("found", [FORMAT + 1, None, "1"])
def test_a_newer_or_unknown_format_is_refused(saved, found):
    edit(saved, format=found)
    with pytest.raises(StoreError, match=f"format {found!r}.*knows formats up to {FORMAT}.*Upgrade"):
        FNO.from_pretrained(saved)


@pytest.mark.parametrize("kept", [0, 4, 0.5, -1])
def test_truncated_weights_are_refused(saved, kept):
    content = (saved / WEIGHTS).read_bytes()
    (saved / WEIGHTS).write_bytes(content[: int(len(content) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(StoreError, match=f"{WEIGHTS} is damaged"):
        FNO.from_pretrained(saved)


@pytest.mark.parametrize("content", [b"", b'{"format": 1, "class": "slip', b"\xff\xfe\x00"])
def test_a_truncated_description_is_refused(saved, content):
    (saved / CONFIG).write_bytes(content)
    with pytest.raises(StoreError, match=f"{CONFIG} could not be read"):
        FNO.from_pretrained(saved)


@pytest.mark.parametrize("content", ["[]", "3", "{}"])
def test_json_that_describes_no_model_is_refused(saved, content):
    (saved / CONFIG).write_text(content)
    with pytest.raises(StoreError, match="format None"):
        FNO.from_pretrained(saved)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_half_written_folder_is_refused_and_the_missing_file_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(StoreError, match=f"no saved model: {name} is missing"):
        FNO.from_pretrained(saved)


def test_no_folder_at_all_is_refused(tmp_path):
    with pytest.raises(StoreError, match="nowhere is no saved model"):
        FNO.from_pretrained(tmp_path / "nowhere")


def test_weights_of_another_architecture_are_refused(saved, tmp_path):
    other = FNO(n_modes=(4,), hidden_channels=4, n_layers=2).save_pretrained(tmp_path / "other")
    (saved / WEIGHTS).write_bytes((other / WEIGHTS).read_bytes())
    with pytest.raises(StoreError, match=r"does not fit FNO.*blocks\.1"):
        FNO.from_pretrained(saved)


def test_weights_of_another_width_are_refused(saved, tmp_path):
    other = FNO(n_modes=(4,), hidden_channels=5, n_layers=1).save_pretrained(tmp_path / "other")
    (saved / WEIGHTS).write_bytes((other / WEIGHTS).read_bytes())
    with pytest.raises(StoreError, match="does not fit FNO"):
        FNO.from_pretrained(saved)


def test_weights_from_one_saving_and_description_from_another_are_refused(saved, tmp_path):
    other = FNO(n_modes=(4,), hidden_channels=4, n_layers=1).save_pretrained(tmp_path / "other")
    (saved / WEIGHTS).write_bytes((other / WEIGHTS).read_bytes())  # as when killed between the two files
    with pytest.raises(StoreError):
        FNO.from_pretrained(saved)


@pytest.mark.parametrize("below", ["file/model", "file"])
def test_where_nothing_can_be_written_is_said_and_left_alone(tmp_path, below):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreError, match="Could not make the folder"):
        UNet(hidden_channels=4).save_pretrained(tmp_path / below)
    with pytest.raises(StoreError, match=r"could not be read|no saved model"):
        UNet.from_pretrained(tmp_path / below)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_write_that_fails_midway_leaves_the_old_model_and_no_rubbish(saved, monkeypatch):
    before = {name: (saved / name).read_bytes() for name in os.listdir(saved)}

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        FNO(n_modes=(4,), hidden_channels=4, n_layers=1).save_pretrained(saved)
    assert {name: (saved / name).read_bytes() for name in os.listdir(saved)} == before


def test_models_that_forget_their_arguments_cannot_be_saved(tmp_path):
    with pytest.raises(InputError, match="does not keep its argument 'width'"):
        Forgetful(3).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"takes \*settings"):
        Greedy(a=1).save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("argument", [lambda u: u, open, 3j])
def test_arguments_that_are_code_or_unknown_cannot_be_saved(here, argument):
    with pytest.raises(InputError, match="cannot be written to a model file"):
        describe(argument)


def test_a_description_is_undone_exactly():
    given = {
        "grid": Grid.box((4, 6), (1.0, 2.0)),
        "dtype": torch.bfloat16,
        "factory": partial(UNet, levels=2),
        "n": [1, (2.0, "x")],
    }
    back = rebuild(json.loads(json.dumps(describe(given))))
    assert back["grid"] == given["grid"]
    assert back["dtype"] == torch.bfloat16
    assert (back["factory"].func, back["factory"].keywords) == (UNet, {"levels": 2})
    assert back["n"] == (1, (2.0, "x"))
