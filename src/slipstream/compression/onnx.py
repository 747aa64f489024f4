"""ONNX Runtime: the graph handed to another engine."""

from __future__ import annotations

import logging
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from slipstream.compression.transform import OneShot, Stage, applied
from slipstream.errors import MissingExtra
from slipstream.operators.layers.spectral import SpectralConv

NEEDED = ("onnx", "onnxruntime", "onnxscript")


class OnnxModule(nn.Module):
    """Exports at its first call, once for each shape and number of threads; for inference on CPUs."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.sessions: dict[tuple[Any, ...], Any] = {}

    def forward(self, x: Tensor, *conditions: Tensor) -> Tensor:
        fields = (x, *conditions)
        key = (torch.get_num_threads(), *(tuple(f.shape) for f in fields))
        if key not in self.sessions:
            self.sessions[key] = session(self.module, fields, torch.get_num_threads())
        run = self.sessions[key]
        values = {i.name: f.detach().contiguous().numpy() for i, f in zip(run.get_inputs(), fields, strict=True)}
        return torch.from_numpy(run.run(None, values)[0])


def session(module: nn.Module, fields: tuple[Tensor, ...], threads: int) -> Any:
    """An ONNX Runtime session of a module for inputs of these shapes."""
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtra("onnxruntime", "onnx", "running a model in ONNX Runtime") from None
    with tempfile.TemporaryDirectory(prefix="slipstream-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger = logging.getLogger("torch.onnx")
        level = logger.level
        logger.setLevel(logging.ERROR)  # it warns of every absent package that could be exported, too
        path = Path(folder) / "operator.onnx"
        try:
            with torch.no_grad():
                torch.onnx.export(module, fields, path, dynamo=True, verbose=False)
        finally:
            logger.setLevel(level)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


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
        missing = [p for p in NEEDED if find_spec(p) is None]
        if missing:
            return f"the extra is missing: pip install 'slipstream[onnx]' ({', '.join(missing)} not found)"
        if applied(module, OnnxModule):
            return "it runs there already"
        if any(isinstance(m, SpectralConv) and m.form == "fft" for m in module.modules()):
            return "complex numbers cannot be exported; the form 'dft' has none"
        return "" if all(p.device.type == "cpu" for p in module.parameters()) else "it is not on a CPU"

    def convert(self, module: nn.Module) -> nn.Module:
        return OnnxModule(module)
