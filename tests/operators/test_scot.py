"""Scalable operator transformer."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch.nn import functional as F

from slipstream.errors import InputError, ShapeError
from slipstream.operators import ScOT
from slipstream.operators.layers.norms import ConditionedLayerNorm
from slipstream.operators.layers.patches import DropPath, PatchExpansion, PatchMerging
from slipstream.operators.layers.windows import WindowAttention, fit_window, join, partition
from slipstream.operators.scot import ScOTBlock

SMALL = {"hidden_channels": 8, "depths": (2, 2), "heads": (2, 4), "window": 4, "patch": 2, "position_channels": 16}


def moved(model: torch.nn.Module, size: float = 0.1) -> torch.nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=size)
    return model.double()


def small(**more) -> ScOT:
    return moved(ScOT(**{**SMALL, **more}))


def log_spaced(offset: int, unit: int) -> float:
    scaled = 8 * offset / (unit - 1)
    return math.copysign(math.log2(abs(scaled) + 1) / math.log2(8), scaled)


def token_by_token(layer: WindowAttention, x: torch.Tensor) -> torch.Tensor:
    """Window attention written for one token at a time: who is in its window, and on which side of the walls?"""
    space, heads = x.shape[1:-1], layer.heads
    window = fit_window(space, layer.window)
    shift = [w // 2 if layer.shifted and w < n else 0 for n, w in zip(space, window, strict=True)]
    d = x.shape[-1] // heads
    wq, wk, wv = layer.weight.chunk(3)
    q, k, v = x @ wq.T + layer.query_bias, x @ wk.T, x @ wv.T + layer.value_bias
    result = torch.zeros_like(x)
    tokens = list(product(*(range(n) for n in space)))

    def place(token):
        """Window and whether the shift wrapped this token round, axis by axis."""
        at = [(t - s) % n for t, s, n in zip(token, shift, space, strict=True)]
        cells = tuple(a // w for a, w in zip(at, window, strict=True))
        wrapped = tuple(not p and t - s < 0 for t, s, p in zip(token, shift, layer.periodic, strict=True))
        return cells, wrapped, at

    for token in tokens:
        cell, side, here = place(token)
        mates = [(t, place(t)[2]) for t in tokens if place(t)[:2] == (cell, side)]
        for b, h in product(range(x.shape[0]), range(heads)):
            part = slice(h * d, (h + 1) * d)
            scores = []
            for mate, there in mates:
                a, c = q[b, *token, part], k[b, *mate, part]
                if layer.attention == "cosine":
                    sharp = min(layer.sharpness[h].exp().item(), 100.0)
                    score = sharp * (a @ c) / (a.norm() * c.norm())
                else:
                    score = (a @ c) / math.sqrt(d)
                if layer.bias is not None:
                    offset = torch.tensor(
                        [log_spaced(i - j, layer.window) for i, j in zip(here, there, strict=True)], dtype=x.dtype
                    )
                    hidden = F.relu(layer.bias.first.weight @ offset + layer.bias.first.bias)
                    score = score + 16 * torch.sigmoid(layer.bias.second.weight @ hidden)[h]
                scores.append(score)
            share = torch.stack(scores).softmax(0)
            result[b, *token, part] = sum(p * v[b, *m, part] for p, (m, _) in zip(share, mates, strict=True))
    return layer.out(result)


@pytest.mark.parametrize("space", [(8,), (12,), (4, 8), (6, 4), (4, 2, 4)])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("periodic", [True, False])
def test_attention_in_windows_is_attention_token_by_token(space, shifted, periodic):
    layer = moved(WindowAttention(4, 2, 4 if len(space) < 3 else 2, [periodic] * len(space), shifted, "cosine", 8), 0.5)
    x = torch.randn(1, *space, 4, dtype=torch.float64)
    torch.testing.assert_close(layer(x), token_by_token(layer, x), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("attention", "hidden"), [("product", 8), ("cosine", 0), ("product", 0)])
def test_its_mechanisms_can_be_taken_out(attention, hidden):
    layer = moved(WindowAttention(4, 2, 4, [True, False], True, attention, hidden), 0.5)
    x = torch.randn(2, 8, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(layer(x), token_by_token(layer, x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("conditions", [0, 1])
def test_a_block_is_that_of_another_library(shifted, conditions):
    """Swin V2 as `transformers` has it: square, with ends, weights copied; conditions at a value where the norms are plain."""
    swin = pytest.importorskip("transformers.models.swinv2.modeling_swinv2")
    config = swin.Swinv2Config(window_size=4, embed_dim=12, num_heads=[3], hidden_act="gelu", drop_path_rate=0.0)
    theirs = moved(swin.Swinv2Layer(config, 12, (8, 8), 3, shift_size=2 if shifted else 0), 0.3).eval()
    ours = ScOTBlock(12, 3, 4, [False, False], conditions, shifted).double()
    inner = theirs.attention.self
    ours.load_state_dict(
        {
            "attention.weight": torch.cat([inner.query.weight, inner.key.weight, inner.value.weight]),
            "attention.query_bias": inner.query.bias,
            "attention.value_bias": inner.value.bias,
            "attention.sharpness": inner.logit_scale,
            "attention.bias.first.weight": inner.continuous_position_bias_mlp[0].weight,
            "attention.bias.first.bias": inner.continuous_position_bias_mlp[0].bias,
            "attention.bias.second.weight": inner.continuous_position_bias_mlp[2].weight,
            "attention.out.weight": theirs.attention.output.dense.weight,
            "attention.out.bias": theirs.attention.output.dense.bias,
            "first_norm.gain": theirs.layernorm_before.weight,
            "first_norm.offset": theirs.layernorm_before.bias,
            "second_norm.gain": theirs.layernorm_after.weight,
            "second_norm.offset": theirs.layernorm_after.bias,
            "mlp.0.weight": theirs.intermediate.dense.weight,
            "mlp.0.bias": theirs.intermediate.dense.bias,
            "mlp.2.weight": theirs.output.dense.weight,
            "mlp.2.bias": theirs.output.dense.bias,
        }
        | {f"{n}.slopes": torch.zeros(1, 2, 12) for n in ("first_norm", "second_norm") if conditions}
    )
    x = torch.randn(2, 8, 8, 12, dtype=torch.float64)
    expected = theirs(x.flatten(1, 2), (8, 8))[0].unflatten(1, (8, 8))
    scalars = torch.full((2, 1), 0.7, dtype=torch.float64) if conditions else None
    torch.testing.assert_close(ours(x, scalars), expected, rtol=0, atol=1e-6)  # theirs keeps its offsets in float32


def test_a_block_normalises_what_it_computed_before_adding_it():
    block, x = moved(ScOTBlock(4, 2, 4, [True], 1, position_channels=8), 0.3), torch.randn(2, 8, 4, dtype=torch.float64)
    s = torch.randn(2, 1, dtype=torch.float64)
    y = x + block.first_norm(token_by_token(block.attention, x), s)
    first, _, second = block.mlp
    hidden = F.gelu(y @ first.weight.T + first.bias)
    expected = y + block.second_norm(hidden @ second.weight.T + second.bias, s)
    torch.testing.assert_close(block(x, s), expected, rtol=0, atol=1e-12)


def test_tokens_from_either_end_never_meet_where_there_are_ends():
    x = torch.randn(1, 8, 4, dtype=torch.float64, requires_grad=True)
    for periodic in (False, True):
        layer = moved(WindowAttention(4, 2, 4, [periodic], shifted=True, position_channels=8))
        (seen,) = torch.autograd.grad(layer(x)[0, 0].sum(), x)
        there = seen[0].abs().sum(1).nonzero().flatten().tolist()
        assert there == ([0, 1, 6, 7] if periodic else [0, 1])


@pytest.mark.parametrize(("space", "window"), [((8,), (4,)), ((6, 4), (3, 2)), ((4, 6, 2), (2, 3, 2))])
def test_windows_put_together_again_are_the_field(space, window):
    x = torch.randn(2, *space, 3)
    cut = partition(x, window)
    assert torch.equal(join(cut, window, space), x)
    first = x[(0, *(slice(0, w) for w in window))]
    assert torch.equal(cut[0, 0], first.flatten(0, len(window) - 1))


def test_windows_fit_or_say_why_not():
    assert fit_window((16, 24, 7), 8) == (8, 8, 7)
    assert fit_window((12,), 8) == (6,)
    with pytest.raises(ShapeError, match=r"axis of 13 tokens.*largest that does has 1"):
        fit_window((8, 13), 8)
    with pytest.raises(ShapeError, match=r"axis of 33 tokens.*has 3"):
        fit_window((33,), 8)


def test_a_conditioned_norm_is_a_layer_norm_whose_gain_and_offset_are_affine_in_the_scalars():
    layer, x = moved(ConditionedLayerNorm(6, 2)), torch.randn(3, 4, 5, 6, dtype=torch.float64)
    s = torch.randn(3, 2, dtype=torch.float64)
    gain = layer.gain + torch.einsum("bs,sc->bc", s, layer.slopes[:, 0])
    offset = layer.offset + torch.einsum("bs,sc->bc", s, layer.slopes[:, 1])
    plain = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(layer(x, s), gain[:, None, None] * plain + offset[:, None, None], rtol=0, atol=1e-12)
    torch.testing.assert_close(layer(x, 2 * s) - layer(x, s), layer(x, s) - layer(x, 0 * s), rtol=0, atol=1e-12)


def test_a_conditioned_norm_does_not_lose_small_variances_on_large_means():
    """The mean square minus the squared mean would be noise here."""
    layer = ConditionedLayerNorm(64, 1)
    x = 1000 + torch.randn(1, 5, 64)
    expected = F.layer_norm(x.double(), (64,))
    torch.testing.assert_close(layer(x, torch.ones(1, 1)).double(), expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_merging_and_expansion_keep_every_token_in_its_place(dims):
    merge, expand = PatchMerging(2, dims).double(), PatchExpansion(4, dims).double()
    x = torch.randn(1, *(4,) * dims, 2, dtype=torch.float64, requires_grad=True)
    coarse = merge(x)
    assert coarse.shape == (1, *(2,) * dims, 4)
    (seen,) = torch.autograd.grad(coarse[(0, 1, *(0,) * (dims - 1))].square().sum(), x)
    block = torch.zeros((4,) * dims, dtype=torch.bool)
    block[(slice(2, 4), *(slice(0, 2),) * (dims - 1))] = True
    assert torch.equal(seen[0].abs().sum(-1) > 0, block)
    y = torch.randn(1, *(2,) * dims, 4, dtype=torch.float64, requires_grad=True)
    fine = expand(y)
    assert fine.shape == (1, *(4,) * dims, 2)
    (seen,) = torch.autograd.grad(fine[0][block].square().sum(), y)
    assert seen[0].abs().sum(-1).nonzero().tolist() == [[1, *(0,) * (dims - 1)]]


def test_two_tokens_are_merged_in_a_fixed_order():
    merge = PatchMerging(1, 2).double()
    x = torch.arange(4.0, dtype=torch.float64).reshape(1, 2, 2, 1)
    expected = F.layer_norm(merge.reduction.weight @ torch.arange(4.0, dtype=torch.float64), (2,))
    torch.testing.assert_close(merge(x)[0, 0, 0], expected)


def test_a_token_is_expanded_in_a_fixed_order():
    expand, x = PatchExpansion(4, 2).double(), torch.randn(1, 1, 1, 4, dtype=torch.float64)
    children = (expand.expansion.weight @ x[0, 0, 0]).reshape(2, 2, 2)
    torch.testing.assert_close(expand(x)[0], F.layer_norm(children, (2,)) @ expand.mix.weight.T)


@pytest.mark.parametrize("mechanism", ["shifted", "stage_residual"])
def test_a_mechanism_of_the_whole_can_be_taken_out(mechanism):
    x, state = torch.randn(1, 1, 32, 32, dtype=torch.float64), small().state_dict()
    answers = []
    for there in (True, False):
        model = ScOT(**SMALL, **{mechanism: there}).double()
        model.load_state_dict(state)
        answers.append(model(x))
    assert (answers[0] - answers[1]).abs().max() > 1e-4


def test_every_second_block_is_shifted_and_the_way_up_mirrors_the_way_down():
    model = ScOT(**{**SMALL, "depths": (3, 2)}, drop_path=0.9)
    down, up = ([[b.attention.shifted for b in s.blocks] for s in way] for way in (model.down, model.up))
    assert down == [[False, True, False], [False, True]]
    assert up == [[False, True, False], [True, False]]
    rates = [b.drop.rate for s in (*model.down, *reversed(model.up)) for b in s.blocks]
    assert rates == pytest.approx([0.1 * i for i in range(10)])


def test_without_shifts_windows_of_one_level_keep_to_themselves():
    x = torch.randn(1, 1, 32, dtype=torch.float64, requires_grad=True)
    options = {"num_dims": 1, "depths": (2,), "heads": (2,), "padding": "zero"}
    for shifted, last in ((False, 7), (True, 15)):
        model = small(**options, shifted=shifted)
        torch.nn.init.dirac_(model.recovery.heal.weight)
        (seen,) = torch.autograd.grad(model(x)[0, 0, 0], x)
        assert int(seen[0, 0].nonzero().max()) == last


def test_skips_carry_the_fine_scales():
    """Cut off from the coarse tokens, the way up still hears from the way down; with faint blocks at first, directly."""
    model = ScOT(**SMALL).double()
    plain = ScOT(**SMALL, skips=(0,)).double()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("joins")})
    x = torch.randn(2, 1, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(model(x), plain(x), rtol=0, atol=1e-4)
    with torch.no_grad():
        for m in (model, plain):
            m.expand[0].mix.weight.zero_()
    assert (model(x)[0] - model(x)[1]).abs().max() > 1e-2


def test_a_residual_adds_the_input():
    model, x = small(), torch.randn(1, 1, 16, 16, dtype=torch.float64)
    same = ScOT(**SMALL, residual=True).double()
    same.load_state_dict(model.state_dict())
    torch.testing.assert_close(same(x) - x, model(x), rtol=0, atol=1e-12)
    with pytest.raises(InputError, match="1 channels in and 2 out"):
        ScOT(**SMALL, residual=True, out_channels=2)


def test_a_dropped_path_keeps_the_mean_and_rests_in_evaluation():
    layer, x = DropPath(0.25), torch.ones(20000, 3)
    y = layer(x)
    assert y.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert torch.equal(y[:, 0], y[:, 2])
    assert y.mean() == pytest.approx(1.0, abs=0.02)
    assert torch.equal(layer.eval()(x), x)


def test_other_channels_keep_the_body_and_start_the_edges_afresh():
    model = small(in_channels=2, out_channels=2, num_scalars=1)
    other = model.with_channels(3, 2)
    assert (other.in_channels, other.out_channels, other.num_scalars) == (3, 2, 1)
    old, new = model.state_dict(), other.state_dict()
    differ = {k for k in old if old[k].shape != new[k].shape or not torch.equal(old[k], new[k])}
    assert differ == {"embedding.projection.weight", "embedding.projection.bias"}
    differ = {k for k, v in model.with_channels(2, 5).state_dict().items() if not torch.equal(v, old[k])}
    assert {k.split(".")[0] for k in differ} == {"recovery"}
    assert len(differ) == 3
    same = model.with_channels(2, 2)
    assert all(torch.equal(v, old[k]) for k, v in same.state_dict().items())
    with torch.no_grad():
        next(same.parameters()).add_(1.0)
    assert all(torch.equal(v, old[k]) for k, v in model.state_dict().items())


def test_each_group_of_parameters_learns_at_its_own_rate():
    model = small(num_scalars=1).float()
    groups = model.parameter_groups(body=1e-3, edges=1e-2, norms=0.0)
    everything = [id(p) for g in groups for p in g["params"]]
    assert sorted(everything) == sorted(id(p) for p in model.parameters())
    before = {k: v.clone() for k, v in model.state_dict().items()}
    optimiser = torch.optim.Adam(groups)
    model(torch.randn(2, 1, 16, 16), torch.rand(2, 1)).square().mean().backward()
    optimiser.step()
    change = {k: float((v - before[k]).abs().max()) for k, v in model.state_dict().items()}
    assert all(v == 0 for k, v in change.items() if "norm" in k)
    assert change["embedding.projection.weight"] == pytest.approx(1e-2, rel=0.05)
    assert change["recovery.heal.weight"] == pytest.approx(1e-2, rel=0.05)
    assert change["down.0.blocks.0.attention.weight"] == pytest.approx(1e-3, rel=0.05)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_dims": 4}, "num_dims=4"),
        ({"heads": (2,)}, "one number of heads a stage"),
        ({"skips": (1, 1)}, "skips for each but the coarsest: 2 and 1"),
        ({"heads": (3, 4)}, "8 channels for 3 heads"),
        ({"depths": (2, 0)}, "depths"),
        ({"drop_path": 1.0}, "drop_path"),
    ],
)
def test_what_cannot_be_built_is_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        ScOT(**{**SMALL, **wrong})


def test_grids_that_patches_do_not_fit_are_refused_with_advice():
    with pytest.raises(ShapeError, match=r"multiples of 4 points.*got \(1, 1, 18, 16\)"):
        ScOT(**SMALL)(torch.randn(1, 1, 18, 16))
