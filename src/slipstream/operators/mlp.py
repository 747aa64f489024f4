"""The same perceptron at every point: for systems without space, and for what happens at a point alone."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from slipstream.errors import InputError
from slipstream.operators.layers import check_built, check_input
from slipstream.operators.operator import Operator

Activation = Literal["gelu", "silu", "tanh"]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "silu": F.silu, "tanh": torch.tanh}


class MLP(Operator):
    """Channels in, channels out, point by point; points see nothing of each other. Without axes it maps states (batch, channel).

    Parameters
    ----------
    in_channels, out_channels : channels of the fields.
    num_dims : space axes, any number; 0 for systems without space.
    hidden_channels : width. n_layers : hidden layers.
    num_scalars : scalars a sample, inputs like the channels but without effect at initialisation.
    activation : ``"gelu"``, ``"silu"`` or ``"tanh"``.
    output_scale : the last weights are begun smaller by this factor.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        num_dims: int = 0,
        hidden_channels: int = 64,
        n_layers: int = 3,
        num_scalars: int = 0,
        activation: Activation = "silu",
        output_scale: float = 1.0,
    ) -> None:
        super().__init__()
        check_built(
            self, in_channels=in_channels, out_channels=out_channels, hidden_channels=hidden_channels, n_layers=n_layers
        )
        if num_dims < 0 or activation not in ACTIVATIONS:
            raise InputError(
                f"MLP expects num_dims of at least 0 and an activation of {sorted(ACTIVATIONS)}; got {num_dims} and {activation!r}."
            )
        self.in_channels, self.out_channels, self.num_dims = in_channels, out_channels, num_dims
        self.hidden_channels, self.n_layers, self.num_scalars = hidden_channels, n_layers, num_scalars
        self.activation, self.output_scale = activation, output_scale
        sizes = [in_channels, *[hidden_channels] * n_layers]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.last = nn.Linear(hidden_channels, out_channels)
        self.condition = nn.Linear(num_scalars, hidden_channels, bias=False) if num_scalars else None
        if self.condition is not None:
            nn.init.zeros_(self.condition.weight)
        with torch.no_grad():
            self.last.weight.mul_(output_scale)
            self.last.bias.mul_(output_scale)

    def forward(
        self, x: Float[Tensor, "batch in_channels *space"], scalars: Float[Tensor, "batch num_scalars"] | None = None
    ) -> Float[Tensor, "batch out_channels *space"]:
        """The answer at every point.

        Raises
        ------
        ShapeError : channels, axes or scalars are not those that the operator was built for.
        """
        if not torch.compiler.is_compiling():
            check_input(self, x, scalars, self.in_channels, self.num_dims, self.num_scalars)
        activate = ACTIVATIONS[self.activation]
        x = self.layers[0](x.movedim(1, -1))  # channels last: one matrix product a layer
        if self.condition is not None and scalars is not None:
            x = x + self.condition(scalars).unflatten(0, (-1, *[1] * self.num_dims))
        for layer in self.layers[1:]:
            x = layer(activate(x))
        return self.last(activate(x)).movedim(-1, 1)
