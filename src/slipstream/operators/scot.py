"""Scalable operator transformer: shifted windows on a pyramid of patches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from slipstream.errors import InputError, ShapeError
from slipstream.operators.layers import CONVOLUTIONS, Pad, Padding, check_built, check_input
from slipstream.operators.layers.norms import ConditionedLayerNorm
from slipstream.operators.layers.patches import DropPath, PatchEmbedding, PatchExpansion, PatchMerging, PatchRecovery
from slipstream.operators.layers.windows import Attention, WindowAttention
from slipstream.operators.operator import Operator
from slipstream.pretrained import arguments_of

STENCIL = 7
"""Points across the stencil of a block on a skip."""
FAINT = 1e-6
"""Initial weight of what such a block adds."""


class ScOTBlock(nn.Module):
    """Attention in windows, then a network at every token, both normalised *after* they are computed and added to their input.

    Parameters
    ----------
    channels : of a token. heads, window, periodic, shifted, attention, position_channels : as in `WindowAttention`.
    num_scalars : conditions of the normalisations. mlp_ratio : hidden channels of the network, in units of `channels`.
    drop : share of samples for which a branch is left out while training.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        window: int,
        periodic: Sequence[bool],
        num_scalars: int = 0,
        shifted: bool = False,
        attention: Attention = "cosine",
        position_channels: int = 512,
        mlp_ratio: float = 4.0,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention = WindowAttention(channels, heads, window, periodic, shifted, attention, position_channels)
        self.first_norm = ConditionedLayerNorm(channels, num_scalars)
        hidden = round(mlp_ratio * channels)
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels))
        self.second_norm = ConditionedLayerNorm(channels, num_scalars)
        self.drop = DropPath(drop)

    def forward(
        self, x: Float[Tensor, "batch *token channels"], scalars: Float[Tensor, "batch num_scalars"] | None = None
    ) -> Float[Tensor, "batch *token channels"]:
        x = x + self.drop(self.first_norm(self.attention(x), scalars))
        return x + self.drop(self.second_norm(self.mlp(x), scalars))


class ConvNeXtBlock(nn.Module):
    """A wide stencil a channel, then a network at every token, added to the input with a weight that starts near 0.

    Parameters
    ----------
    channels : of a token. pad : what lies beyond the ends. num_scalars : conditions of the normalisation.

    References
    ----------
    Liu et al., A ConvNet for the 2020s, CVPR 2022 (arXiv:2201.03545).
    """

    def __init__(self, channels: int, pad: Pad, num_scalars: int = 0) -> None:
        super().__init__()
        self.pad = pad
        conv, zeros = CONVOLUTIONS[pad.num_dims], pad.zeros(STENCIL // 2)
        self.stencil = conv(channels, channels, STENCIL, padding=zeros, groups=channels)  # type: ignore[arg-type]
        self.norm = ConditionedLayerNorm(channels, num_scalars)
        self.first, self.second = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.weight = nn.Parameter(torch.full((channels,), FAINT))

    def forward(
        self, x: Float[Tensor, "batch *token channels"], scalars: Float[Tensor, "batch num_scalars"] | None = None
    ) -> Float[Tensor, "batch *token channels"]:
        y = self.stencil(self.pad.around(x.movedim(-1, 1), STENCIL // 2)).movedim(1, -1)
        return torch.addcmul(x, self.weight, self.second(F.gelu(self.first(self.norm(y, scalars)))))


class Chain(nn.Module):
    """Blocks one after the other, all steered by the same scalars; none at all is the identity."""

    def __init__(self, blocks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(
        self, x: Float[Tensor, "batch *token channels"], scalars: Float[Tensor, "batch num_scalars"] | None = None
    ) -> Float[Tensor, "batch *token channels"]:
        for block in self.blocks:
            x = block(x, scalars)
        return x


class ScOT(Operator):
    """Scalable operator transformer: attention in shifted windows on ever coarser tokens and back, joined level by level.

    Every normalisation follows the scalars (affinely), which makes a stepper continuous in the lead time: give it as a scalar scaled to
    [0, 1] and train on all pairs of frames. Where the axes are periodic there is no mask in the shifted windows; the published network
    treats every axis as one with ends (``padding="zero"``).

    It knows tokens, not frequencies: it belongs to the spacing that it was trained on. Any grid whose tokens can be tiled is accepted.
    With periodic padding it commutes with shifts by whole windows of the coarsest tokens.

    Good values: ``patch=4, window=16, depths=(4, 4, 4, 4), heads=(3, 6, 12, 24)`` with 48 hidden channels on 128 x 128 points is the
    smallest published size; ``(8, 8, 8, 8)`` with 48, 96 or 192 the larger ones. For small grids and a laptop: ``hidden_channels=16,
    patch=2, window=8, depths=(2, 2), heads=(2, 4), position_channels=64``.

    Parameters
    ----------
    in_channels, out_channels : channels of the fields.
    num_dims : space axes, 1 to 3.
    hidden_channels : width of the finest tokens; it doubles with every stage.
    depths : blocks a stage, on the way down and again on the way up. Every second one is shifted.
    heads : of the attention, one number a stage.
    window : tokens along the edge of a window, at most.
    patch : points along the edge of a token.
    skips : blocks on the joins between the two ways, finest first, one number less than stages; 0 joins directly. Two each where None.
    num_scalars : scalars a sample, which steer every normalisation; without effect at initialisation.
    padding : ``"periodic"``, ``"zero"`` or ``"reflect"``, for all axes or one for each. Windows have walls at ends of either kind.
    mlp_ratio : hidden channels of the networks in the blocks, in units of the width.
    drop_path : share of samples for which the last branch is left out while training; less for earlier ones.
    attention : ``"cosine"``, or ``"product"`` as before Swin V2.
    position_channels : hidden channels of the position biases; 0 leaves them out.
    shifted : whether every second block shifts its windows.
    stage_residual : whether a stage is given its own input once more before tokens are merged.
    residual : whether the input is added to the output (equal numbers of channels).

    References
    ----------
    Herde et al., Poseidon: Efficient Foundation Models for PDEs, NeurIPS 2024 (arXiv:2405.19101); Liu et al., Swin Transformer V2, CVPR
    2022 (arXiv:2111.09883).
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        num_dims: int = 2,
        hidden_channels: int = 48,
        depths: Sequence[int] = (4, 4, 4, 4),
        heads: Sequence[int] = (3, 6, 12, 24),
        window: int = 16,
        patch: int = 4,
        skips: Sequence[int] | None = None,
        num_scalars: int = 0,
        padding: Padding | Sequence[Padding] = "periodic",
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        attention: Attention = "cosine",
        position_channels: int = 512,
        shifted: bool = True,
        stage_residual: bool = True,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.depths, self.heads = tuple(depths), tuple(heads)
        self.skips = (2,) * (len(self.depths) - 1) if skips is None else tuple(skips)
        stages = len(self.depths)
        check_built(
            self,
            in_channels=in_channels,
            out_channels=out_channels,
            hidden_channels=hidden_channels,
            depths=min(self.depths, default=0),
            window=window,
            patch=patch,
        )
        if num_dims not in CONVOLUTIONS or not 0 <= drop_path < 1:
            raise InputError(
                f"ScOT got num_dims={num_dims}, drop_path={drop_path}; expected 1, 2 or 3 axes and 0 <= drop_path < 1."
            )
        if len(self.heads) != stages or len(self.skips) != stages - 1:
            raise InputError(
                f"ScOT got depths={self.depths}, heads={self.heads}, skips={self.skips}; expected one number of heads a stage and one of "
                f"skips for each but the coarsest: {stages} and {stages - 1}."
            )
        if residual and in_channels != out_channels:
            raise InputError(
                f"ScOT(residual=True) adds its input to its output, but has {in_channels} channels in and {out_channels} out; "
                "make them equal, or leave the residual out."
            )
        self.in_channels, self.out_channels, self.num_dims = in_channels, out_channels, num_dims
        self.hidden_channels, self.window, self.patch, self.num_scalars = hidden_channels, window, patch, num_scalars
        self.mlp_ratio, self.drop_path, self.attention = mlp_ratio, drop_path, attention
        self.position_channels, self.shifted = position_channels, shifted
        self.stage_residual, self.residual = stage_residual, residual
        self.pad = Pad(padding, num_dims)
        width = [hidden_channels * 2**i for i in range(stages)]
        rates = torch.linspace(0, drop_path, 2 * sum(self.depths)).tolist()
        down, up = rates[: sum(self.depths)], rates[sum(self.depths) :]

        def stage(i: int, drops: list[float], order: Sequence[int]) -> Chain:
            return Chain(
                ScOTBlock(
                    width[i],
                    self.heads[i],
                    window,
                    [kind == "periodic" for kind in self.padding],
                    num_scalars,
                    shifted and number % 2 == 1,
                    attention,
                    position_channels,
                    mlp_ratio,
                    drop,
                )
                for number, drop in zip(order, drops, strict=True)
            )

        self.embedding = PatchEmbedding(in_channels, width[0], patch, num_dims, num_scalars)
        self.down = nn.ModuleList(
            stage(i, [down.pop(0) for _ in range(depth)], range(depth)) for i, depth in enumerate(self.depths)
        )
        self.merge = nn.ModuleList(PatchMerging(w, num_dims, num_scalars) for w in width[:-1])
        self.joins = nn.ModuleList(
            Chain(ConvNeXtBlock(w, self.pad, num_scalars) for _ in range(count))
            for w, count in zip(width[:-1], self.skips, strict=True)
        )
        self.expand = nn.ModuleList(PatchExpansion(w, num_dims, num_scalars) for w in width[1:])
        self.up = nn.ModuleList(
            stage(i, [up.pop() for _ in range(depth)][::-1], range(depth)[::-1]) for i, depth in enumerate(self.depths)
        )
        self.recovery = PatchRecovery(width[0], out_channels, patch, self.pad)

    @property
    def padding(self) -> tuple[Padding, ...]:
        return self.pad.padding

    def forward(
        self, x: Float[Tensor, "batch in_channels *space"], scalars: Float[Tensor, "batch num_scalars"] | None = None
    ) -> Float[Tensor, "batch out_channels *space"]:
        """Fields whose numbers of points are divisible by ``patch * 2 ** (stages - 1)``.

        Raises
        ------
        ShapeError : channels, axes, scalars or numbers of points are not what the operator was built for, or no windows tile the tokens.
        """
        if not torch.compiler.is_compiling():
            check_input(self, x, scalars, self.in_channels, self.num_dims, self.num_scalars)
            self._check_points(x)
        y = self.embedding(x, scalars)
        passed = []
        for level, stage in enumerate(self.down):
            start, y = y, stage(y, scalars)
            if level < len(self.merge):
                passed.append(y)
                y = self.merge[level](y + start if self.stage_residual else y, scalars)
        y = self.up[-1](y, scalars)
        for level in reversed(range(len(self.expand))):
            y = self.expand[level](y, scalars) + self.joins[level](passed[level], scalars)
            y = self.up[level](y, scalars)
        y = self.recovery(y)
        return x + y if self.residual else y

    def with_channels(self, in_channels: int, out_channels: int) -> ScOT:
        """The same network for other channels: a patch embedding or recovery of another size starts afresh, all else is a copy.

        How a network that was pretrained on some fields is taken over for others; train it with `parameter_groups`.
        """
        arguments = {**arguments_of(self), "in_channels": in_channels, "out_channels": out_channels}
        other = type(self)(**arguments).to(self.embedding.projection.weight)
        edges = {
            "embedding.projection.": in_channels != self.in_channels,
            "recovery.": out_channels != self.out_channels,
        }
        afresh = tuple(edge for edge, changed in edges.items() if changed)
        state = {name: value for name, value in self.state_dict().items() if not name.startswith(afresh or "\0")}
        other.load_state_dict({**other.state_dict(), **state})
        return other.train(self.training)

    def parameter_groups(self, body: float, edges: float, norms: float) -> list[dict[str, Any]]:
        """Every parameter once, in three groups for a `torch.optim` optimiser, with a learning rate each.

        Parameters
        ----------
        body : for attention and networks. edges : for patch embedding and recovery. norms : for all normalisations, where the scalars act.
            Published for fine-tuning: 5e-5, 5e-4, 5e-4.
        """
        norm = {id(p) for m in self.modules() if isinstance(m, ConditionedLayerNorm) for p in m.parameters()}
        edge = {id(p) for m in (self.embedding, self.recovery) for p in m.parameters()} - norm
        rates = {"body": body, "edges": edges, "norms": norms}
        groups: dict[str, list[nn.Parameter]] = {name: [] for name in rates}
        for p in self.parameters():
            groups["norms" if id(p) in norm else "edges" if id(p) in edge else "body"].append(p)
        return [{"name": name, "params": groups[name], "lr": rate} for name, rate in rates.items()]

    def _check_points(self, x: Tensor) -> None:
        factor = self.patch * 2 ** (len(self.depths) - 1)
        if any(n % factor for n in x.shape[2:]):
            raise ShapeError(
                f"ScOT with patch={self.patch} and {len(self.depths)} stages expects multiples of {factor} points along an axis; "
                f"got {tuple(x.shape)}. Resample the field, or build it with a smaller patch or fewer stages."
            )
