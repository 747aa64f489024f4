"""Linear layers in 8-bit integers."""

from __future__ import annotations

import warnings
from typing import ClassVar

import torch
from torch import nn

from slipstream.compression.transform import OneShot, Stage


class Int8Linear(OneShot):
    """Weights of `nn.Linear` in int8 with one scale a layer, activations quantised as they come.

    For networks whose work is in linear layers: attention, DeepONets, conditioning. Convolutions and spectral layers stay as they are.
    """

    stage: ClassVar[Stage] = Stage.ARITHMETIC
    after: ClassVar[frozenset[Stage]] = frozenset({Stage.STRUCTURE})
    tolerance = 0.1

    @property
    def label(self) -> str:
        return "int8 linear"

    def unsuitable(self, module: nn.Module) -> str:
        if not any(type(m) is nn.Linear for m in module.modules()):
            return "it has no linear layers"
        if {p.dtype for p in module.parameters()} != {torch.float32}:
            return "it is not in float32"
        return "" if all(p.device.type == "cpu" for p in module.parameters()) else "int8 linear layers run on CPUs only"

    def convert(self, module: nn.Module) -> nn.Module:
        with warnings.catch_warnings():
            # It is to move to a package of its own, whose int8 layers are slower on CPUs.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.filterwarnings("ignore", message="torch.quantize_per", category=UserWarning)
            return torch.ao.quantization.quantize_dynamic(module, {nn.Linear}, dtype=torch.qint8, inplace=True)
