"""Velocities made free of divergence."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def without_divergence(
    u: Float[Tensor, "batch component *space_and_rest"], extent: Sequence[float]
) -> Float[Tensor, "batch component *space_and_rest"]:
    """The part of a periodic vector field that has no divergence (Leray projection), exactly in the spectral sense.

    Parameters
    ----------
    u : one component for each of the first space axes; axes after these (time, for example) are carried along.
    extent : of the box along those axes; their number is that of the components.

    On an even number of points the highest frequency counts as constant along its axis, as it does for a spectral derivative.
    """
    dims = len(extent)
    axes = list(range(2, 2 + dims))
    z = torch.fft.rfftn(u, dim=axes)
    waves = []
    for i, length in enumerate(extent):
        n = u.shape[2 + i]
        frequency = torch.fft.rfftfreq if i == dims - 1 else torch.fft.fftfreq
        k = 2 * math.pi / length * n * frequency(n, dtype=u.dtype, device=u.device)
        if n % 2 == 0:
            k = torch.where(torch.arange(len(k), device=u.device) == n // 2, 0.0, k)
        waves.append(k.reshape([-1 if j == i else 1 for j in range(u.ndim - 2)]))
    along = sum(k * z[:, i] for i, k in enumerate(waves))
    square = sum((k.square() for k in waves), torch.zeros((), dtype=u.dtype, device=u.device))
    share = along / torch.where(square == 0, 1.0, square)
    z = torch.stack([z[:, i] - k * share for i, k in enumerate(waves)], 1)
    return torch.fft.irfftn(z, s=u.shape[2 : 2 + dims], dim=axes)
