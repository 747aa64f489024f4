"""GroupedL1: a distance that weighs groups of channels alike, whatever their units."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.objectives.norms import Norm


class GroupedL1(Norm):
    r"""Mean over groups of channels of :math:`\lVert p - y \rVert_1 / \lVert y \rVert_1`, by frame.

    A group is what is measured by one yardstick: the components of a velocity, say. One that is zero in the target *and* in the prediction,
    as channels that a run does not have are (`slipstream.steppers.CommonChannels`), is left out of the mean, so that a problem with few
    channels weighs as much as one with many.

    Parameters
    ----------
    groups : numbers of channels, each in one group at most; every channel a group of its own where None. Channels in no group do not count.
    weights : of the groups in the mean, 0 or more; equal where None.

    References
    ----------
    Herde et al., Poseidon, NeurIPS 2024 (arXiv:2405.19101).
    """

    def __init__(self, groups: Sequence[Sequence[int]] | None = None, weights: Sequence[float] | None = None) -> None:
        self.groups = None if groups is None else tuple(tuple(g) for g in groups)
        self.weights = None if weights is None else tuple(float(w) for w in weights)
        members = [c for g in self.groups or () for c in g]
        if self.groups is not None and (
            not members or not all(self.groups) or len(set(members)) != len(members) or min(members) < 0
        ):
            raise InputError(
                f"GroupedL1 has groups of channels, each channel in one of them at most; got {self.groups}."
            )
        if self.weights is not None:
            count = len(self.weights) if self.groups is None else len(self.groups)
            if (
                len(self.weights) != count
                or not all(w >= 0 and math.isfinite(w) for w in self.weights)
                or not any(self.weights)
            ):
                raise InputError(
                    f"GroupedL1 expects a weight of 0 or more for each of its {count} groups; got {self.weights}."
                )

    def __call__(
        self,
        prediction: Float[Tensor, "batch time channel *space"],
        target: Float[Tensor, "batch time channel *space"],
        grid: Grid,
        weights: Tensor | None = None,
    ) -> Float[Tensor, "batch time"]:
        channels = target.shape[2]
        groups = tuple((c,) for c in range(channels)) if self.groups is None else self.groups
        shares = (1.0,) * len(groups) if self.weights is None else self.weights
        if max(c for g in groups for c in g) >= channels or len(shares) != len(groups):
            raise InputError(
                f"GroupedL1 has the groups {groups} with weights {shares}, and the frames have {channels} channels."
            )
        w = grid.cell_weights(target.dtype).to(target.device) if weights is None else weights.to(target)
        w = w if w.ndim == grid.num_dims else w[:, None, None]
        share = target.new_tensor(shares)
        members = target.new_zeros(channels, len(groups))
        for number, group in enumerate(groups):
            members[list(group), number] = 1.0
        wrong = (w * (prediction - target).abs()).flatten(3).sum(-1) @ members
        there = (w * target.abs()).flatten(3).sum(-1) @ members
        counts = share * ((wrong > 0) | (there > 0))
        ratio = wrong / there.clamp(min=torch.finfo(target.dtype).tiny ** 0.5)
        return (counts * ratio).sum(-1) / counts.sum(-1).clamp(min=torch.finfo(target.dtype).tiny)
