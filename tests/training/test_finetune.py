"""Fine-tuning: what is taken over, what starts afresh, and how fast each part learns."""

from __future__ import annotations

import importlib
from functools import partial

import pytest
import torch

from slipstream.channels import Channel
from slipstream.data import AllPairs
from slipstream.errors import ForeignCode, InputError, StoreError
from slipstream.grids import Grid
from slipstream.objectives import GroupedL1, Supervised
from slipstream.operators import FNO, ScOT
from slipstream.problems import Recorded, Statistics
from slipstream.steppers import CommonChannels, Multiresolution
from slipstream.training import Constant, Finetune
from slipstream.training.finetune import take_over
from slipstream.training.loop import train
from slipstream.trajectories import Trajectories

GRID = Grid.box(8, num_dims=2)
NANO = partial(ScOT, hidden_channels=8, depths=(1, 1), heads=(2, 2), window=2, patch=2, position_channels=8, skips=(1,))
EDGES = ("network.embedding.projection.", "network.recovery.")


def problem(*names: str, varying=None) -> Recorded:
    one = (1.0,) * len(names)
    return Recorded(GRID, 0.5, [Channel(n) for n in names], Statistics((0.0,) * len(names), one, one), varying)


def stepper(*names: str, seed: int = 0, kind=Multiresolution, operator=NANO, varying=None, **more):
    torch.manual_seed(seed)
    made = kind(operator, problem(*names, varying=varying), **{"longest": 3, "coordinates": False, **more})
    with torch.no_grad():  # nothing at its initial value, or a copy could not be told from a fresh one
        for p in made.parameters():
            p.add_(torch.randn_like(p), alpha=0.1)
    return made


def pairs(*names: str) -> AllPairs:
    frames = torch.randn(2, 4, len(names), 8, 8, generator=torch.Generator().manual_seed(7))
    return AllPairs(Trajectories(frames, GRID, 0.5, tuple(Channel(n) for n in names)), 4)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return stepper("a", "b", "c", seed=1, kind=CommonChannels).save_pretrained(tmp_path_factory.mktemp("pretrained"))


def equal(one, other) -> dict[str, bool]:
    return {k: v.shape == other[k].shape and torch.equal(v, other[k]) for k, v in one.items()}


@pytest.mark.parametrize(
    "names", [("a",), ("a", "b", "d"), ("b", "a", "c")], ids=["fewer", "others", "in another order"]
)
def test_for_other_channels_the_edges_start_afresh_and_all_else_is_copied(saved, names):
    module, old = stepper(*names), CommonChannels.from_pretrained(saved).state_dict()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    Finetune(saved).prepare(module)
    after = module.state_dict()
    of_network = {k for k in after if k.startswith("network.")}
    taken, kept = equal({k: after[k] for k in of_network}, old), equal(after, before)
    edges = {k for k in of_network if k.startswith(EDGES)}
    assert len(edges) == 5
    assert all(taken[k] != (k in edges) for k in of_network)
    assert all(kept[k] for k in edges)
    assert all(kept[k] for k in after if k not in of_network), "the statistics are those of the new problem"
    assert any("norm" in k for k in of_network - edges)


def test_for_the_same_channels_everything_is_copied_unless_told_otherwise(saved):
    old = CommonChannels.from_pretrained(saved)
    module = stepper("a", "b", "c")
    assert take_over(module, old) == []
    assert all(equal(module.network.state_dict(), old.network.state_dict()).values())
    module = stepper("a", "b", "c")
    kept = take_over(module, old, afresh=True)
    assert {k.rpartition(".")[0] for k in kept} == {"embedding.projection", "recovery.projection", "recovery.heal"}


def test_the_copy_is_of_its_own(saved):
    old, module = CommonChannels.from_pretrained(saved), stepper("a", "b", "c")
    take_over(module, old)
    with torch.no_grad():
        for p in module.parameters():
            p.zero_()
    assert all(equal(old.state_dict(), CommonChannels.from_pretrained(saved).state_dict()).values())


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_each_part_learns_at_its_own_rate_times_that_of_the_schedule(saved, share):
    """The first step of Adam moves every weight that has a gradient by the learning rate."""
    module = stepper("a")
    update = Finetune(saved, 1e-4, 1e-3, 1e-2, partial(torch.optim.Adam, eps=1e-20), clip=None)
    update.prepare(module)
    before = {k: v.clone() for k, v in module.named_parameters()}
    source, draws = pairs("a"), torch.Generator().manual_seed(0)
    for step in range(2):
        update.step(module, Supervised(), source.next(draws), draws, share if step else 0.0)
        moved = {k: float((v - before[k]).detach().abs().max()) for k, v in module.named_parameters()}
        if not step:
            assert not any(moved.values()), "rate 0 changes nothing"
            update.optim.state.clear()
    for name, size in moved.items():
        rate = 1e-2 if "norm" in name else 1e-3 if name.startswith(EDGES) else 1e-4
        assert size == pytest.approx(rate * share, rel=0.02), name
    held = [id(p) for group in update.optim.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in module.parameters())


def test_frozen_weights_stay(saved):
    module = stepper("a")
    for p in module.network.down.parameters():
        p.requires_grad_(False)
    update, source, draws = Finetune(saved), pairs("a"), torch.Generator().manual_seed(0)
    update.prepare(module)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    update.step(module, Supervised(), source.next(draws), draws, 1.0)
    same = equal(module.state_dict(), before)
    assert all(v for k, v in same.items() if ".down." in k)
    assert not same["network.recovery.heal.weight"]


def test_a_continued_fine_tuning_ends_with_the_same_weights_to_the_bit(saved, tmp_path):
    """What was pretrained is read again on the way, and must not take the place of what was learnt since."""

    def run(folder, steps, **more):
        module = stepper("a")
        train(
            module,
            pairs("a"),
            Supervised(GroupedL1()),
            steps=steps,
            update=Finetune(saved, 1e-3, 1e-2, 1e-2),
            schedule=Constant(),
            folder=folder,
            show=False,
            **more,
        )
        return module.state_dict()

    whole = run(tmp_path / "whole", 6)
    run(tmp_path / "parts", 3)
    assert all(equal(run(tmp_path / "parts", 6, force=True), whole).values())
    assert not all(equal(run(tmp_path / "short", 3), whole).values())


def test_from_scratch_it_has_the_same_groups_and_takes_nothing_over():
    module = stepper("a")
    before = {k: v.clone() for k, v in module.state_dict().items()}
    update = Finetune(None, 1e-4, 1e-3, 1e-2)
    update.prepare(module)
    assert all(equal(module.state_dict(), before).values())
    assert {g["name"]: g["lr"] for g in update.optim.param_groups} == {"body": 1e-4, "edges": 1e-3, "norms": 1e-2}


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: stepper("a", operator=partial(FNO, n_modes=(2, 2), hidden_channels=4)), r"parameter_groups.*has 0"),
        (lambda: stepper("a", longest=4), "longest=3"),
        (lambda: stepper("a", operator=partial(NANO, hidden_channels=4)), "in more than its channels"),
        (lambda: stepper("a", operator=partial(NANO, depths=(2, 1))), "missing there and"),
        (lambda: stepper("a", varying={"k": (1.0, 2.0)}), "as many varying parameters"),
    ],
    ids=["no parts", "lead time", "width", "depth", "scalars"],
)
def test_what_does_not_fit_is_refused_and_nothing_is_changed(saved, made, message):
    module = made()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    with pytest.raises(InputError, match=message):
        Finetune(saved).prepare(module)
    assert all(equal(module.state_dict(), before).values())


def test_a_missing_model_is_said_to_be_missing(tmp_path):
    with pytest.raises(StoreError, match="no saved model"):
        Finetune(tmp_path).prepare(stepper("a"))


def test_what_is_learnt_around_the_operator_learns_at_the_rate_of_the_body():
    module = stepper("a")
    module.register_parameter("gain", torch.nn.Parameter(torch.ones(())))
    update = Finetune(None, 1e-4, 1e-3, 1e-2)
    update.prepare(module)
    groups = zip(update.highest(), update.optim.param_groups, strict=True)
    assert [rate for rate, group in groups if any(p is module.gain for p in group["params"])] == [1e-4]


def test_the_update_says_whether_the_edges_of_the_same_channels_start_afresh(saved):
    module, old = stepper("a", "b", "c"), CommonChannels.from_pretrained(saved).network.state_dict()
    Finetune(saved, afresh=True).prepare(module)
    same = equal(module.network.state_dict(), old)
    edges = tuple(name.removeprefix("network.") for name in EDGES)
    assert all(taken != name.startswith(edges) for name, taken in same.items())


def test_what_was_pretrained_may_come_from_a_package_that_is_allowed(tmp_path, monkeypatch):
    (tmp_path / "kinship.py").write_text("from slipstream.operators import ScOT\n\n\nclass Kin(ScOT):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    kin = partial(importlib.import_module("kinship").Kin, **NANO.keywords)
    folder = stepper("a", seed=1, operator=kin).save_pretrained(tmp_path / "saved")
    with pytest.raises(ForeignCode, match="kinship"):
        Finetune(folder).prepare(stepper("a", operator=kin))
    module = stepper("a", operator=kin)
    Finetune(folder, allow=("kinship",)).prepare(module)
    assert all(equal(module.state_dict(), stepper("a", seed=1, operator=kin).state_dict()).values())


def test_gradients_are_clipped_over_all_groups():
    """Plain descent at rate 1 then moves the weights, all together, by the clip."""
    module = stepper("a")
    update, source, draws = Finetune(None, 1.0, 1.0, 1.0, torch.optim.SGD, 1e-3), pairs("a"), torch.Generator()
    update.prepare(module)
    before = [p.detach().clone() for p in module.parameters()]
    update.step(module, Supervised(), source.next(draws), draws, 1.0)
    moved = [p.detach() - b for p, b in zip(module.parameters(), before, strict=True)]
    assert float(torch.nn.utils.get_total_norm(moved)) == pytest.approx(1e-3, rel=1e-2)


def test_a_module_with_nothing_to_train_is_refused():
    with pytest.raises(InputError, match="no parameters that could be trained"):
        Finetune(None).prepare(stepper("a").requires_grad_(False))
