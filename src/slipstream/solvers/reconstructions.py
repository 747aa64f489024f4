"""From cell averages to values at faces: the reconstructions of finite volumes as data, one small function each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Edge = Callable[..., Tensor]
"""Averages of 2 width - 1 neighbouring cells, from left to right, to the value at the right face of the middle one."""


@dataclass(frozen=True)
class Reconstruction:
    """How the value at a face follows from the cells on one side of it; from the other side it is the mirror image.

    Attributes
    ----------
    order : of smooth solutions. width : ghost cells it needs. edge : see `Edge`. limited : whether it makes no new extrema in 1D.
    """

    name: str
    order: int
    width: int
    edge: Edge
    limited: bool

    def sides(self, padded: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        """Values left and right of every face, from a field with `width` ghost cells at each end of an axis: one more than cells."""
        reach, faces = self.width - 1, padded.shape[dim] - 2 * self.width + 1
        cells = [padded.narrow(dim, i, faces) for i in range(2 * self.width)]
        return self.edge(*cells[: 2 * reach + 1]), self.edge(*reversed(cells[1:]))


def minmod(a: Tensor, b: Tensor) -> Tensor:
    """The smaller of two slopes where they agree in sign, else 0."""
    return 0.5 * (torch.sign(a) + torch.sign(b)) * torch.minimum(a.abs(), b.abs())


def van_leer(a: Tensor, b: Tensor) -> Tensor:
    """The harmonic mean of two slopes where they agree in sign, else 0."""
    agree = a * b > 0
    return torch.where(agree, 2 * a * b / torch.where(agree, a + b, 1.0), 0.0)


def monotonized_central(a: Tensor, b: Tensor) -> Tensor:
    """The mean of two slopes, but no more than twice either; 0 where they disagree in sign."""
    return minmod(0.5 * (a + b), 2 * minmod(a, b))


def _weno(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor) -> Tensor:
    values = ((2 * a - 7 * b + 11 * c) / 6, (5 * c - b + 2 * d) / 6, (2 * c + 5 * d - e) / 6)
    rough = (
        13 / 12 * (a - 2 * b + c) ** 2 + 0.25 * (a - 4 * b + 3 * c) ** 2,
        13 / 12 * (b - 2 * c + d) ** 2 + 0.25 * (b - d) ** 2,
        13 / 12 * (c - 2 * d + e) ** 2 + 0.25 * (3 * c - 4 * d + e) ** 2,
    )
    # Z weights: the difference of the outer two measures how much to trust the ideal ones; keeps order 5 at extrema with eps this small.
    apart = (rough[0] - rough[2]).abs()
    weights = [ideal * (1 + (apart / (r + 1e-20)) ** 2) for ideal, r in zip((0.1, 0.6, 0.3), rough, strict=True)]
    total = weights[0] + weights[1] + weights[2]
    return sum((w * v for w, v in zip(weights[1:], values[1:], strict=True)), weights[0] * values[0]) / total


def _muscl(limiter: Callable[[Tensor, Tensor], Tensor]) -> Edge:
    return lambda a, b, c: b + 0.5 * limiter(b - a, c - b)


UPWIND = Reconstruction("upwind", 1, 1, lambda a: a, True)
MUSCL_MINMOD = Reconstruction("MUSCL minmod", 2, 2, _muscl(minmod), True)
MUSCL_VAN_LEER = Reconstruction("MUSCL van Leer", 2, 2, _muscl(van_leer), True)
MUSCL_MC = Reconstruction("MUSCL MC", 2, 2, _muscl(monotonized_central), True)
"""van Leer, J. Comput. Phys. 32 (1979) 101; limiters compared in Sweby, SIAM J. Numer. Anal. 21 (1984) 995."""
WENO5 = Reconstruction("WENO5", 5, 3, _weno, False)
"""Jiang & Shu, J. Comput. Phys. 126 (1996) 202, with the weights of Borges, Carmona, Costa & Don, J. Comput. Phys. 227 (2008) 3191."""
