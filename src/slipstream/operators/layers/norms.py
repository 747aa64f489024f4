"""Layer normalisation whose gain and offset follow scalars, such as the lead time."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class ConditionedLayerNorm(nn.Module):
    r"""Normalises the channels of every point: :math:`\alpha(s) (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta(s)`.

    Gain and offset are affine in the scalars. At initialisation they are 1 and 0 whatever the scalars, so that the layer starts
    as a plain layer norm; without scalars it is one for good. Channels come last.

    Parameters
    ----------
    channels : of the field.
    num_scalars : scalars a sample; 0 for none.
    eps : added to the variance.

    References
    ----------
    Herde et al., Poseidon, NeurIPS 2024 (arXiv:2405.19101).
    """

    def __init__(self, channels: int, num_scalars: int = 0, eps: float = 1e-5) -> None:
        super().__init__()
        self.channels, self.num_scalars, self.eps = channels, num_scalars, eps
        self.gain = nn.Parameter(torch.ones(channels))
        self.offset = nn.Parameter(torch.zeros(channels))
        self.slopes = nn.Parameter(torch.zeros(num_scalars, 2, channels)) if num_scalars else None

    def forward(
        self, x: Float[Tensor, "batch *space channels"], scalars: Float[Tensor, "batch num_scalars"] | None = None
    ) -> Float[Tensor, "batch *space channels"]:
        if self.slopes is None or scalars is None:
            return F.layer_norm(x, (self.channels,), self.gain, self.offset, self.eps)
        change = (scalars @ self.slopes.flatten(1)).unflatten(1, (2, *(1,) * (x.ndim - 2), -1))
        gain, offset = self.gain + change[:, 0], self.offset + change[:, 1]
        return torch.addcmul(offset, F.layer_norm(x, (self.channels,), eps=self.eps), gain)
