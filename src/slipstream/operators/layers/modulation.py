"""Modulation: how scalars (a Reynolds number, a time step) steer a network."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class Modulation(nn.Module):
    """Scales and shifts every channel by amounts learnt from scalars: ``x * (1 + scale) + shift``.

    At initialisation it is the identity, whatever the scalars.

    Parameters
    ----------
    num_scalars : how many scalars a sample.
    channels : of the field.

    References
    ----------
    Perez et al., FiLM, AAAI 2018 (arXiv:1709.07871); the zero start as in Peebles & Xie, DiT, ICCV 2023 (arXiv:2212.09748).
    """

    def __init__(self, num_scalars: int, channels: int) -> None:
        super().__init__()
        self.num_scalars, self.channels = num_scalars, channels
        self.hidden = nn.Linear(num_scalars, channels)
        self.out = nn.Linear(channels, 2 * channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, x: Float[Tensor, "batch channels *space"], scalars: Float[Tensor, "batch num_scalars"]
    ) -> Float[Tensor, "batch channels *space"]:
        scale, shift = self.out(F.gelu(self.hidden(scalars))).unflatten(1, (2, -1, *(1,) * (x.ndim - 2))).unbind(1)
        return torch.addcmul(x + shift, x, scale)
