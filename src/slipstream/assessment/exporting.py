"""`slipstream.export`: one call of a stepper as a file that other programs run."""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from slipstream.assessment.acceleration import judged_on
from slipstream.assessment.evidence import dumps
from slipstream.assessment.verification import UNSEEN, versions
from slipstream.compression.accelerated import Accelerated, transformed
from slipstream.compression.graph import NoGraph, open_graph, write_graph
from slipstream.compression.spectral_form import SpectralForm
from slipstream.compression.transform import Stage, Unsuitable
from slipstream.data.dataset import Dataset
from slipstream.errors import InputError
from slipstream.pretrained import write_whole
from slipstream.problems.problem import Problem
from slipstream.stepper import Stepper
from slipstream.trajectories import Trajectories

SEED = UNSEEN + 3
TOLERANCE = 1e-5
"""Largest difference from the original that is taken for rounding, as a fraction of the largest number in the output (float32)."""
FORMAT = 1


@dataclass(frozen=True)
class Export:
    """What was written, and what a program has to know to call it.

    Attributes
    ----------
    inputs, output : name -> axes with their sizes; a batch of any size is ``"batch"``.
    difference : largest difference from the original on states that were not those of the trace, over the largest number in the output.
    """

    file: str
    stepper: str
    inputs: dict[str, list[int | str]]
    output: list[int | str]
    interval: float
    channels: list[dict[str, Any]]
    axes: list[dict[str, Any]]
    parameters: dict[str, dict[str, Any]]
    difference: float
    tolerance: float
    format: int = FORMAT
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        return (
            f"{self.file}: ({', '.join(self.inputs)}) -> the next {self.output[1]} frame{'s' * (self.output[1] != 1)}, "
            f"{self.interval:g} apart; differs from the original by {self.difference:.1e} of its largest number."
        )


class Call(nn.Module):
    """One call of a memoryless stepper, as a function of tensors: the past (unless it is steady), then its parameters by name."""

    def __init__(self, stepper: Stepper, names: Sequence[str]) -> None:
        super().__init__()
        self.stepper, self.names = stepper, tuple(names)

    def forward(self, *inputs: Tensor) -> Tensor:
        s = self.stepper
        if s.history:
            return s(inputs[0], dict(zip(self.names, inputs[1:], strict=True)))
        assert s.channels is not None
        assert s.grid is not None
        past = inputs[0].new_empty(inputs[0].shape[0], 0, len(s.channels), *s.grid.shape)
        return s(past, dict(zip(self.names, inputs, strict=True)))


def export(
    stepper: Stepper,
    path: str | os.PathLike,
    data: Problem | Trajectories | Dataset | str | os.PathLike | None = None,
    *,
    batch: int | None = None,
) -> Export:
    """Write one call of a stepper as a graph, checked against the original on other states before it is there.

    Physical units go in and come out: normalisation is inside the graph. A file of the same name ending in ``.json`` says what the inputs
    are. Spectral layers are written as products, which are the same numbers up to rounding. Of an accelerated stepper what changes the
    numbers is written (its form and format), and what only runs them here is left out.

    Parameters
    ----------
    stepper : memoryless: it has a `forward`.
    path : ends in ``.pt2`` (`torch.export`; C++ and Python) or ``.onnx`` (needs the extra ``[onnx]``).
    data : states on which trace and check are run; the problem of the stepper where None.
    batch : a fixed number of runs a call; any where None.

    Raises
    ------
    InputError : a stepper with a state of its own, no states to run it on, or a graph whose numbers differ. NoGraph : there is no graph.
    """
    path = Path(path)
    if isinstance(stepper, Accelerated):
        kept = [t for t in stepper.transforms if t.stage < Stage.LAYOUT]
        stepper = transformed(stepper.stepper, kept)
    if type(stepper).forward is Stepper.forward:
        raise InputError(
            f"{type(stepper).__name__} keeps a state of its own: one call of it is no function of frames and parameters, "
            "so there is no graph of it."
        )
    if batch is not None and batch < 1:
        raise InputError(f"export expects batch >= 1, or None for any; got {batch}.")
    plain = _products(stepper)
    size = batch or 3
    known, _ = judged_on(stepper, data, 1, 2 * size, SEED)
    if known.runs < 2 * size:
        known = known[torch.arange(2 * size) % known.runs]
    names = [n for n in known.parameters if n in _wanted(stepper, known)]
    first, other = (_inputs(stepper, known[i * size : (i + 1) * size], names) for i in (0, 1))
    labels = ([] if stepper.history == 0 else ["past"]) + names
    if not first:
        raise InputError(f"{type(stepper).__name__} takes neither frames nor parameters: there is nothing to export.")
    call, original = Call(plain, names).eval(), Call(stepper, names)
    with tempfile.TemporaryDirectory(prefix="slipstream-") as folder, torch.no_grad():
        draft = Path(folder) / path.name
        write_graph(call, first, labels, draft, any_batch=batch is None)
        run = open_graph(draft)
        tests = [other] if batch is not None else [other, tuple(x[:1] for x in other)]
        outputs = [(run(x), original(*x)) for x in tests]
        gap = max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-30)) for a, b in outputs)
        limit = TOLERANCE if first[0].dtype == torch.float32 and _precise(plain) else 1e-2
        if not gap <= limit:
            raise NoGraph(
                f"The graph of {type(stepper).__name__} gives other numbers than the original: off by {gap:.2g} of the largest, "
                f"and at most {limit:g} is rounding. Nothing was written."
            )
        output: list[int | str] = ["batch" if batch is None else batch, *outputs[0][1].shape[1:]]
        result = Export(
            path.name,
            type(stepper).__name__,
            {n: ["batch" if batch is None else batch, *x.shape[1:]] for n, x in zip(labels, first, strict=True)},
            output,
            known.interval,
            [asdict(c) for c in known.channels],
            [asdict(a) for a in known.grid.axes],
            _ranges(stepper, names),
            gap,
            limit,
            versions=versions(),
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, draft.read_bytes())
        write_whole(path.with_suffix(".json"), dumps(asdict(result)).encode())
    return result


def _products(stepper: Stepper) -> Stepper:
    """A copy that computes its spectral layers by products: complex numbers cannot be written everywhere."""
    twin = copy.deepcopy(stepper).eval()
    try:
        return transformed(twin, [SpectralForm("dft")])
    except Unsuitable:
        return twin


def _wanted(stepper: Stepper, known: Trajectories) -> set[str]:
    """The parameters that a stepper looks at: those that its problem lets differ, or all where it knows no problem."""
    problem = getattr(stepper, "problem", None)
    return {*problem.varying, *problem.fields} if isinstance(problem, Problem) else set(known.parameters)


def _inputs(stepper: Stepper, known: Trajectories, names: Sequence[str]) -> tuple[Tensor, ...]:
    values = tuple(known.parameters[n].contiguous() for n in names)
    if stepper.history == 0:
        return values
    return (stepper.start(known.frames, known.parameters).values.contiguous(), *values)


def _precise(module: nn.Module) -> bool:
    return all(p.dtype in (torch.float32, torch.float64) for p in module.parameters())


def _ranges(stepper: Stepper, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Unit and range of each parameter, as far as the problem says."""
    problem = getattr(stepper, "problem", None)
    if not isinstance(problem, Problem):
        return {n: {} for n in names}
    specs = problem.equation.parameters if problem.solvable else {}
    return {
        n: {"unit": specs[n].unit if n in specs else "", "range": list(problem.varying.get(n, ())) or None}
        for n in names
    }
