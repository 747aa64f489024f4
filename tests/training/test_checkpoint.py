"""States on disk come back as they were, or not at all."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.errors import InputError, StoreError
from slipstream.training.checkpoint import Checkpoints, Damaged, checksum, differences, pack, unpack

DTYPES = [
    torch.float32,
    torch.float64,
    torch.bfloat16,
    torch.complex64,
    torch.complex128,
    torch.int64,
    torch.uint8,
    torch.bool,
]


@st.composite
def tensors(draw):
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    values = torch.randn(shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 99))), dtype=torch.float64)
    return (values * 3).to(draw(st.sampled_from(DTYPES)))


keys = st.one_of(st.text(max_size=5), st.integers(-3, 3))
numbers = st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5))
nests = st.recursive(
    st.one_of(numbers, tensors()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple), st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=12,
)


def same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(type(k) is type(j) and same(a[k], b[j]) for k, j in zip(a, b, strict=True))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b or (a != a and b != b)


@settings(max_examples=60, deadline=None)
@given(nests)
def test_unpack_undoes_pack(nest):
    assert same(nest, unpack(pack(nest)))
    assert checksum(nest) == checksum(unpack(pack(nest)))


def test_paths_that_look_alike_stay_apart():
    nest = {"a": {"b": torch.tensor(1)}, "a/b": torch.tensor(2), 1: torch.tensor(3), "1": torch.tensor(4)}
    assert same(nest, unpack(pack(nest)))


def test_tensors_that_share_memory_or_need_gradients_are_taken_by_value():
    base = torch.arange(6.0, requires_grad=True)
    nest = unpack(pack({"whole": base, "row": base.view(2, 3)[0], "turned": base.view(2, 3).T, "tied": base}))
    assert nest["turned"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert not nest["whole"].requires_grad


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_changed_bit_and_any_cut_is_noticed(data):
    content = bytearray(pack({"weights": torch.arange(20.0), "step": 12, "name": "x"}))
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = unpack(bytes(content))
    except (Damaged, StoreError):
        return
    assert same(found, {"weights": torch.arange(20.0), "step": 12, "name": "x"})  # white space, say


def test_a_newer_format_is_not_mistaken_for_damage(tmp_path):
    Checkpoints(tmp_path).write(1, {"a": 1})
    Checkpoints(tmp_path).write(2, {"a": 2})
    path = tmp_path / "state-0000000002.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"format":"1"', b'"format":"9"'))
    with pytest.raises(StoreError, match=r"state-0000000002.* format 9.*up to 1\. Upgrade"):
        Checkpoints(tmp_path).read()
    assert len(Checkpoints(tmp_path).generations()) == 2


def test_what_cannot_be_saved_is_refused_with_its_place():
    with pytest.raises(InputError, match=r"at 'source/pool/1' there is a set"):
        pack({"source": {"pool": [1, {2, 3}]}})


def test_two_generations_are_kept_and_damaged_ones_do_not_count(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (8, 9, 10):
        checkpoints.write(step, {"step": step})
    assert [p.name for p in checkpoints.generations()] == [
        "state-0000000010.safetensors",
        "state-0000000009.safetensors",
    ]
    checkpoints.generations()[0].write_bytes(b"rubbish")
    state, remark = checkpoints.read()
    assert state == {"step": 9}
    assert "state-0000000010.safetensors is damaged" in remark
    checkpoints.write(11, {"step": 11})
    assert [unpack(p.read_bytes())["step"] for p in checkpoints.generations()] == [11, 9]
    assert (tmp_path / "state-0000000010.damaged").exists()


def test_a_full_disk_leaves_both_generations(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.write(1, {"step": 1})
    checkpoints.write(2, {"step": 2})

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("slipstream.pretrained.os.fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        checkpoints.write(3, {"step": 3})
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "state-0000000001.safetensors",
        "state-0000000002.safetensors",
    ]


def test_differences_name_every_place_that_changed():
    old = {"seed": 0, "update": {"lr": 0.1, "clip": None}, "gone": [1]}
    new = {"seed": 0, "update": {"lr": 0.2, "clip": None}, "came": "x" * 200}
    assert differences(old, new) == [
        "update.lr: 0.1 -> 0.2",
        "gone: [1] -> null",
        f'came: null -> "{"x" * 59} ... (202 characters)',
    ]
    assert differences(old, json.loads(json.dumps(old))) == []
