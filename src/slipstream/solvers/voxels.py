"""Pixels of two phases: what one pixel of a composite conducts, and which pixels an ellipse covers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

SWEEPS = 5
"""Newton sweeps for the conductivity in a cut pixel: they converge monotonically, to rounding for contrasts up to a thousand."""


def ellipse(
    a: Float[Tensor, " cell"], b: Float[Tensor, " cell"], num_points: int, samples: int = 4
) -> Float[Tensor, "cell 3 x y"]:
    """A centred ellipse with semi-axes a, b in the unit cell: the fraction of each pixel that it covers, and its normal there.

    Each pixel is cut into ``samples ** 2`` pieces, in which the edge is taken as straight: continuous in a and b, with slopes.
    """
    a, b = a[:, None, None], b[:, None, None]
    x, y = _centres(num_points * samples, a)
    level = (x / a).square() + (y / b).square() - 1
    # Distance to the edge over the width of a piece along the normal, both to first order.
    steepness = 2 * (x.abs() / a.square() + y.abs() / b.square())
    inside = (0.5 - level * (num_points * samples) / steepness).clamp(0, 1)
    fraction = torch.nn.functional.avg_pool2d(inside, samples)
    x, y = _centres(num_points, a)
    normal_x, normal_y = x / a.square() + 0 * y, y / b.square() + 0 * x
    length = torch.hypot(normal_x, normal_y).clamp(min=1e-6)  # the centre of an odd grid has no normal
    return torch.stack([fraction, normal_x / length, normal_y / length], dim=1)


def _centres(num_points: int, like: Tensor) -> tuple[Tensor, Tensor]:
    x = ((torch.arange(num_points, dtype=like.dtype, device=like.device) + 0.5) / num_points - 0.5)[:, None]
    return x, x.T


@dataclass(frozen=True)
class Voxels:
    r"""Local laws of many cells: matrix of conductivity 1, inclusion of :math:`\kappa \sqrt{1 + h |g|^2}`.

    A pixel that the edge cuts responds as a laminate of both phases across the normal: the smallest energy over all jumps of the gradient
    there. So it has a convex potential like the phases themselves, and a laminate is represented exactly, wherever its interfaces lie.

    Parameters
    ----------
    picture : fraction of the inclusion and the unit normal, (cell, 3, x, y). kappa : (cell,). hardening : h.

    References
    ----------
    Kabel, Merkert & Schneider, Comput. Methods Appl. Mech. Eng. 294 (2015) 168 (composite voxels).
    """

    picture: Tensor
    kappa: Tensor
    hardening: float

    def _inclusion(self, g: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """In the inclusion of each pixel: conductivity, sqrt(1 + h |g|^2), normal gradient; and the normal gradient of the whole pixel."""
        fraction, nx, ny = self.picture.unbind(1)
        kappa, matrix = self.kappa[:, None, None], 1 - fraction
        normal = torch.addcmul(nx * g[:, 0], ny, g[:, 1])
        along = 1 + self.hardening * (g.square().sum(1) - normal.square()).clamp(min=0)
        steep = self.hardening * normal.square()
        k = kappa * along.sqrt()  # below the root of a concave function: Newton comes up to it and never overshoots
        for _ in range(SWEEPS):
            share = 1 / torch.addcmul(fraction, matrix, k)
            squeezed = steep * share * share
            root = (along + squeezed).sqrt()
            k = k - (k - kappa * root) / (1 + kappa * squeezed * matrix * share / root)
        share = 1 / torch.addcmul(fraction, matrix, k)
        return k, (along + steep * share * share).sqrt(), share * normal, normal

    def flux(self, g: Float[Tensor, "cell 2 x y"]) -> Float[Tensor, "cell 2 x y"]:
        """Mean flux of each pixel at its mean gradient."""
        fraction = self.picture[:, 0]
        k, _, inner, normal = self._inclusion(g)
        along = 1 + fraction * (k - 1)
        across = k * inner - along * normal
        return torch.addcmul(along[:, None] * g, across[:, None], self.picture[:, 1:])

    def moduli(self, g: Float[Tensor, "cell 2 x y"]) -> tuple[Tensor, Tensor, Tensor]:
        """xx, xy and yy of the derivative of `flux`: symmetric and positive."""
        fraction, nx, ny = self.picture.unbind(1)
        k, root, inner, normal = self._inclusion(g)
        c = self.hardening * self.kappa[:, None, None] / root
        jump = inner - normal
        x, y = torch.addcmul(g[:, 0], jump, nx), torch.addcmul(g[:, 1], jump, ny)
        along, curved = 1 + fraction * (k - 1), fraction * c
        bend = c * inner
        rx, ry = torch.addcmul(bend * x, k - 1, nx), torch.addcmul(bend * y, k - 1, ny)
        relaxed = fraction * (1 - fraction) / (fraction + (1 - fraction) * (k + bend * inner))
        return (
            along + curved * x * x - relaxed * rx * rx,
            curved * x * y - relaxed * rx * ry,
            along + curved * y * y - relaxed * ry * ry,
        )
