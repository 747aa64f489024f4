"""The graph of a module, written for other programs: ``.pt2`` for torch.export, ``.onnx`` for everyone else."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from slipstream.errors import InputError, MissingExtra, SlipstreamError

SUFFIXES = (".pt2", ".onnx")
ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
Run = Callable[[Sequence[Tensor]], Tensor]


class NoGraph(SlipstreamError, RuntimeError):
    """A module cannot be written as a graph; the message says what stopped the trace."""


def write_graph(
    module: nn.Module, inputs: Sequence[Tensor], names: Sequence[str], path: Path, any_batch: bool = True
) -> None:
    """Write a module as a graph of its inputs.

    Parameters
    ----------
    module : takes tensors, each with the batch along its first axis, gives one.
    inputs : examples. Every size but that of the batch is fixed by them.
    names : of the inputs, in the file.
    path : its suffix says the format.
    any_batch : leave the size of the batch open; the examples then hold at least two samples.

    Raises
    ------
    InputError : another suffix. NoGraph : the module does something that no graph holds. MissingExtra : ONNX without its packages.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path.name} ends in {path.suffix!r}; a graph is written as {' or '.join(SUFFIXES)}.")
    size = torch.export.Dim("batch", min=1) if any_batch else None
    shapes = tuple({} if size is None else {0: size} for _ in inputs)
    try:
        with _quiet(), torch.no_grad():
            if path.suffix == ".pt2":
                program = torch.export.export(module, tuple(inputs), dynamic_shapes=(shapes,), strict=False)
                torch.export.save(program, path)
            else:
                _write_onnx(module, tuple(inputs), path, input_names=list(names), dynamic_shapes=(shapes,))
    except (RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError) as error:
        first = str(error).strip().partition("\n")[0] or type(error).__name__
        fixed = " With the size of the batch fixed (any_batch=False, --batch N) it may still have one." * any_batch
        raise NoGraph(f"{type(module).__name__} has no graph as {path.suffix}: {first[:300]}.{fixed}") from error


def open_graph(path: Path) -> Run:
    """A function that runs the graph in a file that this process has just written: loading a stranger's ``.pt2`` may run his code."""
    if path.suffix == ".onnx":
        return onnx_session(path, torch.get_num_threads())
    program = torch.export.load(path).module()
    return lambda inputs: program(*inputs)


def onnx_session(path: Path, threads: int) -> Run:
    """A function that runs a graph in ONNX Runtime, on the CPU."""
    _need_onnx()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return partial(_run, session)


def _run(session: Any, inputs: Sequence[Tensor]) -> Tensor:
    values = {i.name: x.detach().contiguous().numpy() for i, x in zip(session.get_inputs(), inputs, strict=True)}
    return torch.from_numpy(session.run(None, values)[0])


def write_onnx(module: nn.Module, inputs: tuple[Tensor, ...], path: Path) -> None:
    """Write a module for exactly these shapes, which is what runs fastest."""
    with _quiet(), torch.no_grad():
        _write_onnx(module, inputs, path)


def _write_onnx(module: nn.Module, inputs: tuple[Tensor, ...], path: Path, **arguments: Any) -> None:
    _need_onnx()
    torch.onnx.export(module, inputs, path, dynamo=True, verbose=False, external_data=False, **arguments)


def _need_onnx() -> None:
    for package in ONNX_PACKAGES:
        if find_spec(package) is None:
            raise MissingExtra(package, "onnx", "running a model in ONNX Runtime")


@contextmanager
def _quiet() -> Iterator[None]:
    """Exporters warn of every absent package that could be exported, too."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
