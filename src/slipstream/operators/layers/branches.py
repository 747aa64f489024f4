"""The two halves of deep operator networks: a branch that reads the input, a trunk that reads the place."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Activation = Literal["gelu", "tanh", "silu", "tanh_sin", "silu_sin", "silu_id"]


def _wave(x: Tensor) -> Tensor:
    return torch.sin(math.pi * (x + 1))


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "tanh": torch.tanh,
    "silu": F.silu,
    "tanh_sin": lambda x: torch.tanh(_wave(x)) + x,
    "silu_sin": lambda x: F.silu(_wave(x)) + x,
    "silu_id": lambda x: F.silu(x) + x,
}

POOL: dict[int, Callable[..., Tensor]] = {
    1: F.adaptive_avg_pool1d,
    2: F.adaptive_avg_pool2d,
    3: F.adaptive_avg_pool3d,
}


class Layers(nn.Module):
    """Linear maps of one width, a nonlinearity after each; gives what came out of every one.

    Parameters
    ----------
    inputs : entries that come in. width : of every layer. depth : layers. activation : after each.
    """

    def __init__(self, inputs: int, width: int, depth: int, activation: Activation) -> None:
        super().__init__()
        self.activation = activation
        self.maps = nn.ModuleList(nn.Linear(inputs if i == 0 else width, width) for i in range(depth))

    def forward(self, x: Float[Tensor, "*rest inputs"]) -> list[Float[Tensor, "*rest width"]]:
        outputs = []
        for layer in self.maps:
            x = ACTIVATIONS[self.activation](layer(x))
            outputs.append(x)
        return outputs


def read_sensors(
    x: Float[Tensor, "batch channel *space"], sensors: Sequence[int]
) -> Float[Tensor, "batch channel_and_sensor"]:
    """Means over cells that divide the box evenly, one a sensor; the values themselves where there are as many points as sensors."""
    return POOL[len(sensors)](x, list(sensors)).flatten(1)


def embed_places(points: Float[Tensor, "*rest dims"], periodic: Sequence[bool]) -> Float[Tensor, "*rest features"]:
    """Places in the unit box as a trunk sees them: [-1, 1] along axes with ends, a point on the circle along periodic ones."""
    features = []
    for value, closed in zip(points.unbind(-1), periodic, strict=True):
        angle = 2 * math.pi * value
        features += [torch.sin(angle), torch.cos(angle)] if closed else [2 * value - 1]
    return torch.stack(features, -1)


def grid_places(like: Float[Tensor, "batch channel *space"], periodic: Sequence[bool]) -> Float[Tensor, "point dims"]:
    """Where the points of a grid lie in the unit box: from the left end on along periodic axes, in the middle of cells along others."""
    axes = [
        (torch.arange(n, dtype=like.dtype, device=like.device) + (0.0 if closed else 0.5)) / n
        for n, closed in zip(like.shape[2:], periodic, strict=True)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2)
