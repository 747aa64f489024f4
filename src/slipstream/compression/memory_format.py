"""Channels last: the layout that convolutions are fastest in."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from slipstream.compression.transform import OneShot, Stage, applied

FORMATS = {
    nn.Conv2d: torch.channels_last,
    nn.ConvTranspose2d: torch.channels_last,
    nn.Conv3d: torch.channels_last_3d,
    nn.ConvTranspose3d: torch.channels_last_3d,
}


class Laid(nn.Module):
    """Takes fields as they lie, works in a layout of its own, gives them back contiguous."""

    def __init__(self, module: nn.Module, layout: torch.memory_format) -> None:
        super().__init__()
        self.module, self.layout = module, layout

    def forward(self, x: Tensor, *conditions: Tensor) -> Tensor:
        y: Tensor = self.module(x.contiguous(memory_format=self.layout), *conditions)
        return y.contiguous()


class ChannelsLast(OneShot):
    """Channels next to each other in memory, in two- and three-dimensional convolutional networks. Exact up to rounding."""

    stage: ClassVar[Stage] = Stage.LAYOUT
    after: ClassVar[frozenset[Stage]] = frozenset({Stage.STRUCTURE, Stage.ARITHMETIC})
    tolerance = 1e-4

    @property
    def label(self) -> str:
        return "channels last"

    def unsuitable(self, module: nn.Module) -> str:
        if applied(module, Laid):
            return "its layout has been changed already"
        found = {FORMATS[type(m)] for m in module.modules() if type(m) in FORMATS}
        if not found:
            return "it has no convolutions on two or three axes"
        return "it has convolutions on two and on three axes" if len(found) > 1 else ""

    def convert(self, module: nn.Module) -> nn.Module:
        layout = torch.channels_last
        for layer in module.modules():
            if type(layer) in FORMATS:
                layout = FORMATS[type(layer)]
                layer.weight.data = layer.weight.data.contiguous(memory_format=layout)  # type: ignore[operator]
        return Laid(module, layout)
