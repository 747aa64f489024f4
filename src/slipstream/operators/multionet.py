"""MultiONet: a deep operator network that listens to several layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from slipstream.errors import InputError
from slipstream.operators.deeponet import DeepONet
from slipstream.operators.layers.branches import Activation


class MultiONet(DeepONet):
    r"""A deep operator network whose branch and trunk are multiplied after each of their last ``pairs`` layers, not only the last.

    :math:`y(p) = \tfrac1l \sum_k w_k \langle b^{(k)}(x), t^{(k)}(p) \rangle + b_0` over the last :math:`l` layers, with one learnt
    weight :math:`w_k` each, for hardly any more parameters. The weights start at 0, so that a new network answers a constant; use
    an optimiser that scales its steps (Adam), since at first nothing but the weights has a gradient. With all weights 0 but the last,
    which is :math:`l`, it is the `DeepONet` with the same parameters.

    Parameters
    ----------
    in_channels, out_channels, num_dims, hidden_channels, n_layers, sensors, num_scalars, periodic : as in `DeepONet`.
    pairs : how many of the last layers are multiplied, at most `n_layers`; 1 leaves only the last.
    branch_activation, trunk_activation : as in `DeepONet`.

    References
    ----------
    Zang & Koutsourelakis, DGenNO (arXiv:2502.06250).
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        num_dims: int = 2,
        hidden_channels: int = 100,
        n_layers: int = 5,
        sensors: int | Sequence[int] = 16,
        num_scalars: int = 0,
        periodic: bool | Sequence[bool] = False,
        pairs: int = 4,
        branch_activation: Activation = "silu_id",
        trunk_activation: Activation = "tanh_sin",
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            num_dims,
            hidden_channels,
            n_layers,
            sensors,
            num_scalars,
            periodic,
            branch_activation,
            trunk_activation,
        )
        if not 1 <= pairs <= n_layers:
            raise InputError(f"MultiONet got pairs={pairs} of {n_layers} layers; expected 1 to {n_layers}.")
        self.pairs = pairs
        self.weights = nn.Parameter(torch.zeros(pairs))

    def _combine(self, branch: list[Tensor], trunk: list[Tensor]) -> Float[Tensor, "batch token point"]:
        # One product of l times the width instead of l products and a sum.
        last = range(-self.pairs, 0)
        b = torch.cat([branch[k] * w for k, w in zip(last, self.weights / self.pairs, strict=True)], -1)
        return b @ torch.cat([trunk[k] for k in last], -1).transpose(-2, -1)
