"""Batches in parts that stay in the cache."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from slipstream.compression.transform import OneShot, Stage, applied
from slipstream.errors import InputError


class Parted(nn.Module):
    """Sends a batch through in parts."""

    def __init__(self, module: nn.Module, size: int) -> None:
        super().__init__()
        self.module, self.size = module, size

    def forward(self, x: Tensor, *conditions: Tensor) -> Tensor:
        if x.shape[0] <= self.size:
            return self.module(x, *conditions)
        parts = zip(*(f.split(self.size) for f in (x, *conditions)), strict=True)
        return torch.cat([self.module(*part) for part in parts])


class Batched(OneShot):
    """No more than so many samples at a time: activations of a whole batch may leave the cache, those of a few need not.

    Parameters
    ----------
    size : samples a part.
    """

    stage: ClassVar[Stage] = Stage.BATCHING
    after: ClassVar[frozenset[Stage]] = frozenset({Stage.STRUCTURE, Stage.ARITHMETIC, Stage.LAYOUT, Stage.EXECUTION})
    tolerance = 1e-4

    def __init__(self, size: int = 1) -> None:
        if size < 1:
            raise InputError(f"Batched expects parts of at least 1 sample; got size={size}.")
        self.size = size

    @property
    def label(self) -> str:
        return f"{self.size} at a time"

    def unsuitable(self, module: nn.Module) -> str:
        return "it takes its batches in parts already" if applied(module, Parted) else ""

    def convert(self, module: nn.Module) -> nn.Module:
        return Parted(module, self.size)
