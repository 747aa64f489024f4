"""The report: one HTML file that needs nothing else, neither network nor fonts nor this package."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipstream.assessment import plots, table
from slipstream.assessment.assessment import MODEL, Assessment, Example
from slipstream.assessment.images import gradient, images, sheet, thin
from slipstream.assessment.tried import COLUMNS

TEMPLATES = Path(__file__).parent / "templates"
SPACE = "\u00a0"
PIXELS = 900_000
"""Points of all embedded frames of one kind together: keeps the file below 3 MB."""


@dataclass(frozen=True)
class KeyFigure:
    """A number that a reader takes away: the number, what it is, what to hold it against."""

    value: str
    name: str
    note: str = ""


def render(a: Assessment) -> str:
    """The report as HTML. Every text that comes from data is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "figure": table.figure,
        "number": table.number,
        "duration": table.duration,
        "ratio": table.ratio,
        "svg": _safe,
    }
    environment.globals |= {"label": table.label, "arm_label": table.arm_label, "within": table.within, "MODEL": MODEL}
    return environment.get_template("report.html").render(
        a=a,
        equation=plots.equation_svg(a.subject.equation) if a.subject.equation else None,
        key_figures=key_figures(a),
        players=[_player(e, a, PIXELS // max(1, 3 * len(a.examples))) for e in a.examples],
        charts=charts(a),
        pareto=plots.chart("pareto", plots.draw_pareto, a) if a.ladder else None,
        arms=table.arms_of(a),
        rows=table.error_rows(a),
        timings=timing_rows(a),
        columns=COLUMNS,
    )


def save_picture(a: Assessment, path: str | os.PathLike) -> Path:
    """One picture (``.png`` or ``.svg``) for a README: fields, error growth, Pareto front."""
    return a.save(path)


def key_figures(a: Assessment) -> list[KeyFigure]:
    """The row under the verdict: accuracy first, then cost."""
    unit = f"{SPACE}{a.subject.time_unit}" if a.subject.time_unit else ""
    error, rivals = table.label(a.main_metric), [arm for arm in a.metrics if arm != MODEL]
    result = []
    if MODEL in a.one_call:
        result.append(
            KeyFigure(table.figure(a.one_call[MODEL]), "error of one call", _against(a.one_call, "persistence"))
        )
    last = {arm: of[a.main_metric][-1] for arm, of in a.metrics.items() if a.main_metric in of}
    when = (
        f"{error} error at t{SPACE}={SPACE}{table.number(a.times[-1])}{unit}"
        if a.subject.interval
        else f"{error} error"
    )
    rival = "persistence" if "persistence" in rivals else rivals[0] if rivals else ""
    result.append(KeyFigure(table.figure(last[MODEL]), when, _against(last, rival)))
    if "0.9" in a.correlation_times.get(MODEL, {}):
        never = a.correlation_times[MODEL]["0.9"] is None
        result.append(
            KeyFigure(
                table.within(a, MODEL, "0.9") + unit, "correlated above 0.9 with the truth",
                "never fell below within the run" if never else f"of {table.number(a.times[-1])}{unit}",
            )
        )  # fmt: skip
    if a.speed is not None:
        r = a.speed.ratio_at_matched_error
        if r is None:
            result.append(
                KeyFigure("no match", "speed at equal error", "no classical setting tried reaches this error")
            )
        else:
            value = table.ratio(r).replace(" times", "×")
            result.append(KeyFigure(value, "at equal error", "than the best setting of the classical solver"))
        if a.speed.training_seconds is not None:
            runs = a.speed.break_even_runs
            value = "never" if runs is None else f"{table.number(math.ceil(runs))} runs"
            result.append(
                KeyFigure(value, "until training has paid off", f"training {table.duration(a.speed.training_seconds)}")
            )
    return result


def _against(values: Any, rival: str) -> str:
    if rival not in values or not values[rival]:
        return ""
    return f"{table.figure(values[MODEL] / values[rival])} × {table.arm_label(rival)} ({table.figure(values[rival])})"


def charts(a: Assessment) -> list[plots.Chart]:
    """The small charts in reading order, those only that there are figures for."""
    result = []
    if len(a.times) > 1:
        result.append(plots.chart("growth", plots.draw_growth, a))
    if a.spectra:
        result.append(plots.chart("spectrum", plots.draw_spectrum, a))
    if a.correlation and len(a.times) > 1:
        result.append(plots.chart("correlation", plots.draw_correlation, a))
    if len(a.times) > 1:
        result += [plots.chart(f"drift{i}", plots.draw_drift, a, name) for i, name in enumerate(a.drift)]
    return result


def timing_rows(a: Assessment) -> list[dict[str, Any]]:
    """Latency first, then throughput, each by threads; the two are never mixed."""
    if a.speed is None:
        return []
    rows = []
    for threads, batch in sorted({(t.threads, t.batch) for t in a.speed.timings}, key=lambda k: (k[1] > 1, k)):
        seconds = {t.arm: t.seconds for t in a.speed.timings if (t.threads, t.batch) == (threads, batch)}
        rows.append({"threads": threads, "batch": batch, "seconds": seconds, "ratio": a.speed.ratio(threads, batch)})
    return rows


def _player(example: Example, a: Assessment, pixels: int) -> dict[str, Any]:
    """What the page needs to show an example: three sheets of frames and their scales."""
    thinned = thin(example, pixels)
    shown = images(thinned)
    n, height, width = shown.truth.shape
    space_time = example.truth.ndim == 2
    extent = a.subject.grid.extent
    aspect = 1.6 if space_time else extent[0] / extent[1]
    unit = f" {example.unit}" if example.unit else ""
    half = (shown.high - shown.low) / 2 / shown.zoom
    scale, away = (
        tuple(f"{table.figure(v)}{unit}".replace("-", "−") for v in ends)
        for ends in ((shown.low, shown.high), (-half, half))
    )
    times = ["" if space_time else f"{table.number(t)} {a.subject.time_unit}".strip() for t in thinned.times[:n]]
    magnified = f", {shown.zoom} times magnified" if shown.zoom > 1 else ""
    return {
        "title": example.title,
        "frames": n,
        "width": width,
        "height": height,
        "aspect": f"{aspect:.4g}",
        "space_time": space_time,
        "times": times,
        "data": {"times": times, "values": [float(t) for t in thinned.times[:n]]},
        "screens": [
            {"name": "truth", "src": sheet(shown.truth, shown.palette), "scale": scale, "bar": gradient(shown.palette)},
            {
                "name": "this model",
                "src": sheet(shown.prediction, shown.palette),
                "scale": scale,
                "bar": gradient(shown.palette),
            },
            {
                "name": f"difference{magnified}",
                "src": sheet(shown.difference, shown.difference_palette),
                "scale": away,
                "bar": gradient(shown.difference_palette),
            },
        ],
    }


def _safe(svg: str) -> Any:
    """SVG that Matplotlib has written, and escaped itself."""
    from markupsafe import Markup

    return Markup(svg)
