"""Assessment: what verification found out. Plain figures that go to JSON and back, and small tensors for the pictures."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import os
import types
import typing
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.assessment.tried import Acceleration
from slipstream.channels import Channel
from slipstream.errors import InputError, StoreError
from slipstream.grids import Grid
from slipstream.pretrained import write_whole

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

FORMAT = 1
MODEL = "model"
"""The arm under test in every mapping from arm to figures; the others are its rivals."""


@dataclass(frozen=True)
class Subject:
    """What was predicted.

    Parameters
    ----------
    name : of the problem or data set.
    grid, channels : of the frames.
    interval : time between frames; 0 for steady fields.
    equation : LaTeX without dollar signs; empty when unknown.
    parameters : name -> value or text such as ``"0.01 to 0.1"``.
    time_unit : ``"s"``, or empty for dimensionless time.
    """

    name: str
    grid: Grid
    channels: tuple[Channel, ...]
    interval: float
    equation: str = ""
    parameters: Mapping[str, float | int | str] = field(default_factory=dict)
    time_unit: str = ""


@dataclass(frozen=True)
class Contestant:
    """The stepper under test: its class, how many parameters it has, and its settings as text."""

    name: str
    num_parameters: int = 0
    settings: Mapping[str, float | int | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reference:
    """How wrong the truth itself is: its error at each time, in the main metric, and the sentence that says how that was measured."""

    error: tuple[float, ...]
    how: str


@dataclass(frozen=True)
class Rung:
    """One way to do the whole job: its error in the main metric at the end of the run, and its seconds a run.

    `pareto` marks the ways that no other beats in both (see `mark_pareto`).
    """

    name: str
    error: float
    seconds: float
    num_points: tuple[int, ...] = ()
    scheme: str = ""
    dt: float | None = None
    pareto: bool = False


@dataclass(frozen=True)
class Timing:
    """Seconds a run, measured. ``batch == 1`` is latency; larger batches are throughput, seconds divided by the batch."""

    arm: str
    threads: int
    batch: int
    seconds: float


@dataclass(frozen=True)
class Speed:
    """Cost at equal error.

    Parameters
    ----------
    job : what one run is, as a phrase: ``"40 frames (1 time unit) of one run"``.
    model : the model as a rung of the ladder.
    matched : the cheapest classical setting with an error of at most `level`; None if no rung reaches it.
    timings : of ``"model"`` and ``"classical"`` (the matched setting), by threads and batch.
    ratio_at_matched_error : seconds of `matched` over seconds of the model; above 1 the model is faster. None without `matched`.
    error_at_matched_time : the smallest error that the ladder reaches within the model's time; None if every rung is slower.
    training_seconds : what had to be spent before the first run, data included; None when unknown.
    break_even_runs : runs after which that has paid off; None if never.
    rivals : learned rivals that are not networks, timed alike.
    how : how the seconds were taken.
    level : the error that a rival had to reach: the model's own, or ten times the reference's where that is larger, because nobody
        can be told apart below it. None stands for the model's own.
    """

    job: str
    model: Rung
    matched: Rung | None = None
    timings: tuple[Timing, ...] = ()
    ratio_at_matched_error: float | None = None
    error_at_matched_time: float | None = None
    training_seconds: float | None = None
    break_even_runs: float | None = None
    rivals: tuple[Rung, ...] = ()
    how: str = ""
    level: float | None = None

    def ratio(self, threads: int, batch: int) -> float | None:
        """Classical seconds over model seconds at one setting; None where either was not measured."""
        found = {t.arm: t.seconds for t in self.timings if (t.threads, t.batch) == (threads, batch)}
        return found["classical"] / found[MODEL] if {MODEL, "classical"} <= found.keys() else None


@dataclass(frozen=True)
class Spectra:
    """Energy spectra at one time: wavenumbers and, for ``"truth"`` and the arms, mean square a shell."""

    time: float
    wavenumber: tuple[float, ...]
    energy: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Example:
    """One channel of one unseen run for the eye: truth and prediction at the same times."""

    title: str
    times: tuple[float, ...]
    truth: Float[Tensor, "time *space"]
    prediction: Float[Tensor, "time *space"]
    unit: str = ""


@dataclass(frozen=True)
class Assessment:
    """What `slipstream.verify` returns: every figure, everything for the pictures, and how it was measured.

    Figures by arm are mappings whose key ``"model"`` is the stepper under test and whose other keys are its rivals
    (persistence, mean, linear extrapolation, coarse classical, learned ones). Lists run over `times`. A section that was not measured is
    absent: None or empty.

    Parameters
    ----------
    verdict : the one honest sentence.
    subject, stepper : what was predicted, and by what.
    times : of the predicted frames.
    runs : how many unseen runs the figures are means over.
    metrics : arm -> metric -> mean over runs at each time.
    main_metric : the one that curves and ladder show.
    spread : metric -> (lowest, highest over runs) at each time, of the model.
    reference : the truth's own error.
    one_call : arm -> error in the main metric after one call of the model.
    correlation : arm -> correlation at each time.
    correlation_times : arm -> threshold as text -> time; None: never fell below within the run.
    failure_times : arm -> time of failure averaged over the runs that failed; None: no run failed.
    drift : invariant -> arm -> relative drift at each time.
    spectra : at a few times.
    ladder : classical settings, Pareto flags set; empty without a problem.
    speed : cost at equal error; None without a problem.
    failures : what went wrong, one sentence each.
    baselines : arm -> what it is, one phrase each.
    machine, versions : name -> text.
    examples : a few frames for the eye.
    notes : how it was measured, one sentence each.
    acceleration : what was tried to make the model faster, where `slipstream.accelerate` made it.
    """

    verdict: str
    subject: Subject
    stepper: Contestant
    times: tuple[float, ...]
    runs: int
    metrics: Mapping[str, Mapping[str, tuple[float, ...]]]
    main_metric: str = "relative_l2"
    spread: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = field(default_factory=dict)
    reference: Reference | None = None
    one_call: Mapping[str, float] = field(default_factory=dict)
    correlation: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    correlation_times: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    failure_times: Mapping[str, float | None] = field(default_factory=dict)
    drift: Mapping[str, Mapping[str, tuple[float, ...]]] = field(default_factory=dict)
    spectra: tuple[Spectra, ...] = ()
    ladder: tuple[Rung, ...] = ()
    speed: Speed | None = None
    failures: tuple[str, ...] = ()
    baselines: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, float | int | str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    examples: tuple[Example, ...] = ()
    notes: tuple[str, ...] = ()
    acceleration: Acceleration | None = None

    def __post_init__(self) -> None:
        if MODEL not in self.metrics or self.main_metric not in self.metrics[MODEL]:
            raise InputError(
                f"An Assessment needs metrics[{MODEL!r}][{self.main_metric!r}]; got arms {list(self.metrics)}. "
                "Name the stepper under test 'model' and give its main metric."
            )
        for arm, of_arm in self.metrics.items():
            for name, values in of_arm.items():
                if len(values) != len(self.times):
                    raise InputError(
                        f"metrics[{arm!r}][{name!r}] has {len(values)} values for {len(self.times)} times; expected one each."
                    )

    def table(self) -> Table:
        """The error figures as a Rich table, one column an arm."""
        from slipstream.assessment.table import error_table

        return error_table(self)

    def __rich__(self) -> Group:
        from slipstream.assessment.table import summary

        return summary(self)

    def to_json(self) -> str:
        """Everything, as JSON that any reader takes (numbers that are not finite are the strings NaN, Infinity, -Infinity)."""
        return json.dumps({"format": FORMAT, **_encode(self)}, indent=1, allow_nan=False)

    def save(self, path: str | os.PathLike) -> Path:
        """Write ``.json`` (read back by `load`), ``.html`` (the report) or ``.png``/``.svg`` (one picture): whole or not at all."""
        path = Path(path)
        if path.suffix == ".json":
            content = self.to_json().encode()
        elif path.suffix == ".html":
            from slipstream.assessment.report import render

            content = render(self).encode()
        elif path.suffix in (".png", ".svg"):
            from slipstream.assessment.plots import picture

            content = picture(self, path.suffix[1:])
        else:
            raise InputError(
                f"{path.name} ends in {path.suffix!r}; an assessment is saved as .html, .json, .png or .svg."
            )
        write_whole(path, content)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike) -> Assessment:
        """Read what `save` wrote as JSON."""
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StoreError(f"{path} could not be read as an assessment: {error}.") from None
        found = data.pop("format", None) if isinstance(data, dict) else None
        if not isinstance(found, int) or found > FORMAT:
            raise StoreError(f"{path} has assessment format {found!r}; this slipstream knows formats up to {FORMAT}.")
        try:
            return _decode(cls, data)
        except (TypeError, KeyError, AttributeError) as error:
            raise StoreError(f"{path} is not a whole assessment: {error}.") from None


def mark_pareto(rungs: Iterable[Rung]) -> tuple[Rung, ...]:
    """The same rungs, those flagged that no other beats: none is as accurate and as fast, and better in one of the two."""
    rungs = tuple(rungs)

    def beaten(r: Rung) -> bool:
        if not (math.isfinite(r.error) and math.isfinite(r.seconds)):
            return True
        return any(
            o.error <= r.error and o.seconds <= r.seconds and (o.error < r.error or o.seconds < r.seconds)
            for o in rungs
        )

    return tuple(replace(r, pareto=not beaten(r)) for r in rungs)


NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def _encode(value: Any) -> Any:
    if isinstance(value, Tensor):
        array = value.detach().cpu().contiguous().numpy()
        packed = base64.b64encode(zlib.compress(array.tobytes(), 6)).decode()
        return {"dtype": str(array.dtype), "shape": list(array.shape), "zlib": packed}
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {k: _encode(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_encode(v) for v in value]
    return value


def _decode(hint: Any, value: Any) -> Any:
    """Undo `_encode` for a value that the annotation `hint` describes. Unknown fields of newer minor releases are ignored."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        first = next((h for h in inner if h is not type(None)), None)
        return _decode(float if float in inner else first, value)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        known = [f.name for f in dataclasses.fields(hint) if f.name in value]
        return hint(**{name: _decode(hints[name], value[name]) for name in known})
    if origin is tuple:
        each = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        return tuple(_decode(h, v) for h, v in zip(each, value, strict=True))
    if isinstance(value, dict) and "zlib" in value:
        buffer = bytearray(zlib.decompress(base64.b64decode(value["zlib"])))
        return torch.frombuffer(buffer, dtype=getattr(torch, value["dtype"])).reshape(value["shape"])
    if isinstance(value, dict):
        return {k: _decode(inner[1], v) for k, v in value.items()}
    return NOT_FINITE.get(value, value) if hint is float and isinstance(value, str) else value
