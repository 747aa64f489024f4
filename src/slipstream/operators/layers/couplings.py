"""What couples the cells of a grid, and how that looks on the grid of half the points."""

from __future__ import annotations

from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


class Couplings:
    r"""An elliptic system on a grid, in units of an inner cell: what joins each cell with its neighbours and what holds it at zero.

    On a whole box without walls the couplings of a cell add up to one. A wall, an obstacle or a change of the coefficient makes some
    smaller, and a wall or an opening with a fixed value adds to `excess`.

    Parameters
    ----------
    channels : (batch, 2 dims + 1, \*space): with the lower neighbour along each axis, with the upper one along each, and the excess.
    """

    def __init__(self, channels: Float[Tensor, "batch channels *space"]) -> None:
        self.channels, self.dims = channels, channels.ndim - 2
        self.below, self.above = channels[:, : self.dims], channels[:, self.dims : 2 * self.dims]
        self.excess = channels[:, 2 * self.dims :]
        self.total = channels.sum(1, keepdim=True)
        self.cells = (self.total > 0).to(channels)
        """(batch, 1, \\*space), 1 where a cell takes part."""
        self.inverse = self.cells / torch.where(self.total > 0, self.total, 1)
        """The reciprocal diagonal there, 0 elsewhere."""

    def __call__(self, y: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """The product of the system with each channel."""
        image = self.total * y
        for i in range(self.dims):
            image = image - self.below[:, i : i + 1] * torch.roll(y, 1, i + 2)
            image = image - self.above[:, i : i + 1] * torch.roll(y, -1, i + 2)
        return image

    def coarser(self) -> Couplings:
        """The same system on half the points: Galerkin's, for fields that are constant over the new cells, with couplings as the spacing
        has them there. A new face couples as the mean of its parts; excess belongs to faces (walls, openings), so it doubles."""
        sides = [
            _face(c[:, i : i + 1], i + 2, side)
            for side, c in enumerate((self.below, self.above))
            for i in range(self.dims)
        ]
        return Couplings(torch.cat([*sides, 2 * POOL[self.dims](self.excess, 2)], 1))

    def finer(self, y: Float[Tensor, "batch channel *half"]) -> Float[Tensor, "batch channel *space"]:
        """Fields on twice the points, axis by axis: linear between cells that couple, constant towards walls and solids without flux,
        falling to zero at what holds the value."""
        weights = self._weights()
        for i in range(self.dims):
            axis = i + 2
            low, high, held_low, held_high = weights[i]
            first = (1 - (low + held_low) / 4) * y + low / 4 * torch.roll(y, 1, axis)
            second = (1 - (high + held_high) / 4) * y + high / 4 * torch.roll(y, -1, axis)
            y = torch.stack([first, second], axis + 1).flatten(axis, axis + 1)
            weights = [tuple(w.repeat_interleave(2, axis) for w in four) for four in weights]
        return y

    def _weights(self) -> list[tuple[Tensor, ...]]:
        """For each axis: how far the lower and the upper neighbour count, and how much of the excess is beyond either face, all in units of
        the stronger coupling along that axis. A cell's excess is shared out over its faces as these miss couplings."""
        tiny = torch.finfo(self.channels.dtype).tiny
        pairs = [(self.below[:, i : i + 1], self.above[:, i : i + 1]) for i in range(self.dims)]
        near = [tuple((2 * c / (low + high).clamp_min(tiny)).clamp_max(1) for c in (low, high)) for low, high in pairs]
        missing = torch.cat([1 - w for w in chain.from_iterable(near)], 1).sum(1, keepdim=True)
        share = self.excess / torch.where(missing > 1e-4, missing, torch.inf)
        result = []
        for (low, high), both in zip(pairs, near, strict=True):
            size = torch.maximum(low, high).clamp_min(tiny)
            result.append((*both, *(((1 - w) * share / size).clamp_max(2) for w in both)))
        return result


def _face(x: Tensor, axis: int, side: int) -> Tensor:
    """Pairs of cells along an axis, of which the first or second touches the face of the new cell; the mean along other axes."""
    x = x.unflatten(axis, (-1, 2)).select(axis + 1, side)
    for other in (a for a in range(2, x.ndim) if a != axis):
        x = x.unflatten(other, (-1, 2)).mean(other + 1)
    return x
