"""Half the bytes a number: bfloat16 inside, the caller's precision outside."""

from __future__ import annotations

import platform
from typing import ClassVar

import torch
from torch import Tensor, nn

from slipstream.compression.transform import OneShot, Stage, applied
from slipstream.operators.layers.spectral import SpectralConv


class Cast(nn.Module):
    """Computes in another number format; takes and gives fields in the caller's."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.module, self.dtype = module.to(dtype), dtype

    def forward(self, x: Tensor, *conditions: Tensor) -> Tensor:
        y: Tensor = self.module(x.to(self.dtype), *(c.to(self.dtype) for c in conditions))
        return y.to(x.dtype)


class Bfloat16(OneShot):
    """Weights and activations in bfloat16: 8 significant bits, the range of float32.

    Meant for what an operator adds to a state that stays as it is: an error of 0.4 % of a change that is small itself. Fast
    transforms do not know the format; spectral layers need the form of products (`SpectralForm`).
    """

    stage: ClassVar[Stage] = Stage.ARITHMETIC
    after: ClassVar[frozenset[Stage]] = frozenset({Stage.STRUCTURE})
    tolerance = 0.05

    @property
    def label(self) -> str:
        return "bfloat16"

    def unsuitable(self, module: nn.Module) -> str:
        if applied(module, Cast):
            return "its number format has been changed already"
        kinds = {p.dtype for p in module.parameters()}
        if torch.float64 in kinds:
            return "it is in float64, which asks for accuracy"
        if any(isinstance(m, SpectralConv) and m.form == "fft" for m in module.modules()):
            return "fast Fourier transforms do not know bfloat16; the form 'dft' does"
        devices = {p.device.type for p in module.parameters()}
        if "cpu" in devices and not cpu_has_bfloat16():
            return "this processor has no bfloat16 arithmetic"
        if "cuda" in devices and not torch.cuda.is_bf16_supported():
            return "this GPU has no bfloat16 arithmetic"
        return ""

    def convert(self, module: nn.Module) -> nn.Module:
        return Cast(module, torch.bfloat16)


def cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself: AVX-512 BF16 or AMX, or the bf16 extension on Arm."""
    wanted = {"avx512_bf16", "amx_bf16", "bf16"}
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                name, _, values = line.partition(":")
                if name.strip() in ("flags", "Features"):
                    return bool(wanted & set(values.split()))
    except OSError:
        pass
    return platform.machine() == "arm64" and platform.system() == "Darwin"
