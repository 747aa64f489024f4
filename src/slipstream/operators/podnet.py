"""CoefficientNet: a few numbers in, the coefficients of a field in some basis out."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from slipstream.errors import InputError
from slipstream.operators.law import PointwiseLaw


class CoefficientNet(PointwiseLaw):
    """A multilayer perceptron from parameters in [-1, 1] to coefficients, each in units of its own spread.

    With a basis of POD modes it is a POD-DeepONet whose branch reads numbers: the basis is computed and not learnt
    (`slipstream.steppers.Reduced` brings it). It is trained by descent, so it has no ``fit``.

    Parameters
    ----------
    inputs, outputs : numbers of each. width, depth : of the hidden layers, SiLU.
    waves : each input is also shown as sines and cosines of so many half periods over its range, in which fields that follow
        a moving thing are simpler; 0 shows it plainly.

    References
    ----------
    Hesthaven & Ubbiali, J. Comput. Phys. 363 (2018) 55; Lu et al., Comput. Methods Appl. Mech. Engrg. 393 (2022) 114778.
    """

    def __init__(self, inputs: int = 7, outputs: int = 200, width: int = 256, depth: int = 4, waves: int = 2) -> None:
        super().__init__(inputs, outputs)
        if width < 1 or depth < 1 or waves < 0:
            raise InputError(
                f"CoefficientNet expects width and depth >= 1 and waves >= 0; got {width}, {depth}, {waves}."
            )
        self.width, self.depth, self.waves = width, depth, waves
        sizes = [inputs * (1 + 2 * waves)] + [width] * depth + [outputs]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.register_buffer(
            "frequencies", math.pi / 2 * torch.arange(1, waves + 1, dtype=torch.float32), persistent=False
        )

    frequencies: Tensor

    def forward(self, x: Float[Tensor, "point inputs"]) -> Float[Tensor, "point outputs"]:
        self._check(x)
        h = x
        if self.waves:
            angles = (x[:, :, None] * self.frequencies).flatten(1)
            h = torch.cat([x, angles.sin(), angles.cos()], dim=1)
        *hidden, last = self.layers
        for layer in hidden:
            h = nn.functional.silu(layer(h))
        return last(h)
