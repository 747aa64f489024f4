"""ONNX Runtime: the graph handed to another engine."""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from slipstream.compression.graph import ONNX_PACKAGES, Run, onnx_session, write_onnx
from slipstream.compression.transform import OneShot, Stage, applied
from slipstream.operators.layers.spectral import SpectralConv


class OnnxModule(nn.Module):
    """Exports at its first call, once for each shape and number of threads; for inference on CPUs."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.sessions: dict[tuple[Any, ...], Run] = {}

    def forward(self, x: Tensor, *conditions: Tensor) -> Tensor:
        fields = (x, *conditions)
        key = (torch.get_num_threads(), *(tuple(f.shape) for f in fields))
        if key not in self.sessions:
            self.sessions[key] = session(self.module, fields, torch.get_num_threads())
        return self.sessions[key](fields)


def session(module: nn.Module, fields: tuple[Tensor, ...], threads: int) -> Run:
    """A module in ONNX Runtime, for inputs of these shapes."""
    with tempfile.TemporaryDirectory(prefix="slipstream-") as folder:
        path = Path(folder) / "operator.onnx"
        write_onnx(module, fields, path)
        return onnx_session(path, threads)


class Onnx(OneShot):
    """The graph run by ONNX Runtime, exported at the first call with each shape. Needs the extra ``[onnx]``.

    Spectral layers must have the form of products (`SpectralForm`): complex numbers cannot be exported.
    """

    stage: ClassVar[Stage] = Stage.EXECUTION
    after: ClassVar[frozenset[Stage]] = frozenset({Stage.STRUCTURE})
    tolerance = 1e-3

    @property
    def label(self) -> str:
        return "ONNX Runtime"

    def unsuitable(self, module: nn.Module) -> str:
        missing = [p for p in ONNX_PACKAGES if find_spec(p) is None]
        if missing:
            return f"the extra is missing: pip install 'slipstream[onnx]' ({', '.join(missing)} not found)"
        if applied(module, OnnxModule):
            return "it runs there already"
        if any(isinstance(m, SpectralConv) and m.form == "fft" for m in module.modules()):
            return "complex numbers cannot be exported; the form 'dft' has none"
        return "" if all(p.device.type == "cpu" for p in module.parameters()) else "it is not on a CPU"

    def convert(self, module: nn.Module) -> nn.Module:
        return OnnxModule(module)
