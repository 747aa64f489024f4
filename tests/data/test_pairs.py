"""Field pairs: what is in the file comes out, and nothing else does anything."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from slipstream.data import Dataset, FieldPairs
from slipstream.errors import InputError, StoreError

X = torch.randint(0, 2, (5, 6, 4), generator=torch.Generator().manual_seed(0)).bool()
Y = torch.randn(5, 6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def saved(path, **content):
    torch.save(content, path)
    return path


def test_what_is_given_is_a_parameter_and_what_is_sought_a_steady_frame(tmp_path):
    pairs = FieldPairs(saved(tmp_path / "darcy.pt", x=X, y=Y), channel="pressure", extent=2.0)
    data = pairs.trajectories()
    assert isinstance(pairs, Dataset)
    assert data.frames.shape == (5, 1, 1, 6, 4)
    assert data.frames.dtype == data.parameters["x"].dtype == torch.float32
    assert torch.equal(data.frames[:, 0, 0], Y.float())
    assert torch.equal(data.parameters["x"], X.float())
    assert data.interval == 0
    assert [c.name for c in data.channels] == ["pressure"]
    assert data.about["problem"] == "darcy"
    assert [(a.periodic, a.extent, a.num_points) for a in data.grid.axes] == [(False, 2.0, 6), (False, 2.0, 4)]
    assert float(data.grid.axes[1].coordinates()[0]) == 0.25, "cell centres"
    assert pairs.trajectories(slice(1, 3)).frames.shape[0] == 2
    assert torch.equal(pairs.trajectories(slice(1, 3)).parameters["x"], X[1:3].float())


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_there_are_one_to_three_axes(tmp_path, dims):
    u = torch.randn(3, *[4] * dims)
    assert FieldPairs(saved(tmp_path / "u.pt", x=u, y=u)).trajectories().grid.num_dims == dims


def test_other_keys_are_found_by_name(tmp_path):
    path = saved(tmp_path / "u.pt", a=X, u=Y, note=torch.tensor(3))
    data = FieldPairs(path, given="a", sought="u").trajectories()
    assert set(data.parameters) == {"a"}
    with pytest.raises(InputError, match=r"has no tensor 'x'; it holds a, u, note\."):
        FieldPairs(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"x": X}, r"has no tensor 'y'; it holds x\."),
        ({"x": X, "y": [1.0, 2.0]}, r"has no tensor 'y'; it holds x, y\."),
        ({"x": X, 3: Y}, r"has no tensor 'y'; it holds x, 3\."),
        ({}, r"has no tensor 'x'; it holds nothing\."),
        ({"x": X, "y": Y[:4]}, r"of one shape .* got \(5, 6, 4\) and \(4, 6, 4\)"),
        ({"x": X[:, 0, 0], "y": Y[:, 0, 0]}, r"1 to 3 space axes; got \(5,\)"),
        (
            {"x": torch.zeros(1, 2, 2, 2, 2), "y": torch.zeros(1, 2, 2, 2, 2)},
            r"1 to 3 space axes; got \(1, 2, 2, 2, 2\)",
        ),
        ({"x": X[:0], "y": Y[:0]}, r"got \(0, 6, 4\)"),
        ({"x": X, "y": Y.where(Y < 1, torch.nan)}, r"'y' holds values that are not finite"),
        ({"x": Y.where(Y < 1, -torch.inf), "y": Y}, r"'x' holds values that are not finite"),
        ({"x": X, "y": Y * 1e200}, r"'y' holds values that are not finite"),  # in single precision
        ({"x": X, "y": Y + 1j}, r"'y' holds complex numbers"),
    ],
)
def test_content_that_does_not_fit_is_refused(tmp_path, content, says):
    torch.save(content, tmp_path / "u.pt")
    with pytest.raises(InputError, match=says):
        FieldPairs(tmp_path / "u.pt")


def test_a_file_of_something_else_is_refused(tmp_path):
    torch.save(Y, tmp_path / "u.pt")
    with pytest.raises(InputError, match=r"holds a Tensor; expected a dictionary of tensors"):
        FieldPairs(tmp_path / "u.pt")


def test_a_missing_file_and_a_folder_are_said(tmp_path):
    with pytest.raises(StoreError, match=r"There is no file .*u\.pt"):
        FieldPairs(tmp_path / "u.pt")
    with pytest.raises(StoreError, match=r"could not be read as a file of tensors"):
        FieldPairs(tmp_path)


@pytest.mark.parametrize("damage", ["empty", "cut", "text"])
def test_a_damaged_file_is_said(tmp_path, damage):
    path = saved(tmp_path / "u.pt", x=X, y=Y)
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "text": b"x, y\n"}[damage])
    with pytest.raises(StoreError, match=r"u\.pt could not be read as a file of tensors: \S"):
        FieldPairs(path)


class Trap:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_file_with_code_is_refused_and_the_code_not_run(tmp_path, how):
    content = {"x": X, "y": Y, "z": Trap(tmp_path / "ran")}
    if how == "torch":
        torch.save(content, tmp_path / "u.pt")
    else:
        (tmp_path / "u.pt").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(StoreError, match=r"could not be read as a file of tensors"):
        FieldPairs(tmp_path / "u.pt")
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(content["z"]))
    assert (tmp_path / "ran").exists(), "the trap works"


def test_the_file_is_read_once(tmp_path, monkeypatch):
    path, count, load = saved(tmp_path / "u.pt", x=X, y=Y), [], torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: (count.append(1), load(*a, **k))[1])
    FieldPairs(path).trajectories()
    assert len(count) == 1
