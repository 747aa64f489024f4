"""Compiled graphs: pointwise work fused into loops made for one shape, constants folded and packed."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from slipstream.compression.transform import OneShot, Stage, applied


class CompiledModule(nn.Module):
    """Compiles at its first call, once for each shape; for inference."""

    def __init__(self, module: nn.Module, freeze: bool, backend: str) -> None:
        super().__init__()
        self.module, self.freeze, self.backend = module, freeze, backend
        self.run: Callable[..., Tensor] | None = None

    def forward(self, x: Tensor, *conditions: Tensor) -> Tensor:
        if self.run is None:
            self.run = compiled(self.module, self.freeze, self.backend)
        with torch.no_grad():
            return self.run(x, *conditions)


def compiled(module: nn.Module, freeze: bool, backend: str) -> Callable[..., Tensor]:
    """`torch.compile` without breaks in the graph and without symbolic shapes."""

    def call(*fields: Tensor) -> Tensor:
        return module(*fields)

    # Compiled graphs are kept, and their number limited, by code object: each module has one of its own.
    own = types.FunctionType(call.__code__.replace(), call.__globals__, call.__name__, None, call.__closure__)
    options: dict[str, Any] = {"options": {"freezing": freeze}} if backend == "inductor" else {}
    return torch.compile(own, backend=backend, dynamic=False, fullgraph=True, **options)


class Compiled(OneShot):
    """The graph compiled by `torch.compile`, at the first call with each shape: seconds to minutes, once a process.

    A number of threads belongs to the compiled code, too. Gaps in the graph are refused.

    Parameters
    ----------
    freeze : fold the weights into the graph, so that they are laid out for their products once and for all.
    backend : of `torch.compile`; ``"inductor"`` needs a C++ compiler on CPUs.
    """

    stage: ClassVar[Stage] = Stage.EXECUTION
    after: ClassVar[frozenset[Stage]] = frozenset({Stage.STRUCTURE, Stage.ARITHMETIC, Stage.LAYOUT})
    tolerance = 1e-3

    def __init__(self, freeze: bool = True, backend: str = "inductor") -> None:
        self.freeze, self.backend = freeze, backend

    @property
    def label(self) -> str:
        return "compiled, frozen" if self.freeze else "compiled"

    def unsuitable(self, module: nn.Module) -> str:
        return "it is compiled already" if applied(module, CompiledModule) else ""

    def convert(self, module: nn.Module) -> nn.Module:
        return CompiledModule(module, self.freeze, self.backend)
