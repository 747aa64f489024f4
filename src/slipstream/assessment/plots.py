"""Figures of an assessment: charts as SVG that follow the page's colours, and fields as images.

Matplotlib is imported where a figure is made, never with the package.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from slipstream.assessment.assessment import MODEL, Assessment, Example, Rung
from slipstream.assessment.images import images
from slipstream.assessment.table import arm_label, duration, figure, label, number, ratio

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

NAMES = ("ink", "muted", "rule", "surface", "accent", "c1", "c2", "c3", "c4", "c5", "band")
MARKS = {name: f"#0{i:x}fe0{i:x}" for i, name in enumerate(NAMES)}
"""Colours that stand for a CSS variable: `chart` replaces them, so one SVG serves the light and the dark page."""
LIGHT = {
    "ink": "#1c1b19", "muted": "#6f6c66", "rule": "#dedbd3", "surface": "#fdfcfa", "accent": "#c8420f", "c1": "#33658a",
    "c2": "#3c7a64", "c3": "#a67c00", "c4": "#7b5a94", "c5": "#8a8781", "band": "#e9e6df",
}  # fmt: skip
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 1.5, 1.5, 1.5)), (0, (3, 3)))
SIZE = (4.9, 3.35)


@dataclass(frozen=True)
class Chart:
    """An SVG, the sentence a reader gets who cannot see it, and where its axes lie (for a cursor that follows the animation)."""

    svg: str
    alt: str
    box: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    limits: tuple[float, float] = (0.0, 1.0)


def arm_style(arm: str, arms: Sequence[str], colours: Mapping[str, str]) -> dict[str, Any]:
    """One colour and dash an arm, the same in every chart."""
    if arm == MODEL:
        return {"color": colours["accent"], "lw": 2.2, "zorder": 5}
    if arm == "truth":
        return {"color": colours["ink"], "lw": 1.6, "zorder": 4}
    i = [a for a in arms if a not in (MODEL, "truth")].index(arm)
    return {"color": colours[f"c{i % 5 + 1}"], "lw": 1.4, "ls": DASHES[i % 5], "zorder": 3}


def draw_growth(ax: Axes, a: Assessment, colours: Mapping[str, str]) -> str:
    """Error over time with every baseline; below the grey band nobody can tell, because the truth is no better."""
    curves = {arm: of[a.main_metric] for arm, of in a.metrics.items() if a.main_metric in of}
    known = [v for c in curves.values() for v in c if math.isfinite(v) and v > 0]
    low = min((v for v in curves[MODEL] if math.isfinite(v) and v > 0), default=1e-3)
    high = max(known, default=1.0)
    if a.reference is not None:
        floor = np.array(a.reference.error, dtype=float)
        low = max(min(low, float(floor[floor > 0].min(initial=low))), low * 1e-3)
        ax.fill_between(a.times, low / 2, floor, where=floor > low / 2, color=colours["band"], lw=0, zorder=1)
        ax.annotate(
            "the reference's own error", (a.times[-1], low / 1.9), (-4, 3), textcoords="offset points", ha="right",
            va="bottom", color=colours["muted"], fontsize=8.5,
        )  # fmt: skip
    if a.main_metric in a.spread:
        ax.fill_between(a.times, *a.spread[a.main_metric], color=colours["accent"], alpha=0.14, lw=0, zorder=2)
    _lines(ax, a.times, curves, list(a.metrics), colours, log=True)
    ax.set(xlabel=_time(a), ylim=(low / 2, min(high * 1.6, max(low, 1.0) * 30)), xlim=(a.times[0], a.times[-1]))
    _decades(ax.yaxis)
    ax.set_title(f"{_plain(label(a.main_metric))} error")
    model = curves[MODEL]
    others = ", ".join(f"{arm_label(k)} {figure(c[-1])}" for k, c in curves.items() if k != MODEL)
    return f"{label(a.main_metric)} error over time. The model grows from {figure(model[0])} to {figure(model[-1])}" + (
        f"; at the end {others}." if others else "."
    )


def draw_correlation(ax: Axes, a: Assessment, colours: Mapping[str, str]) -> str:
    """Correlation with the truth over time, thresholds ruled."""
    _lines(ax, a.times, a.correlation, list(a.metrics), colours, log=False)
    for threshold in a.correlation_times.get(MODEL, {}):
        ax.axhline(float(threshold), color=colours["rule"], lw=0.8, zorder=1)
    bottom = min((v for c in a.correlation.values() for v in c if math.isfinite(v)), default=0.0)
    ax.set(xlabel=_time(a), ylim=(max(-0.25, min(bottom, 0.75) - 0.04), 1.03), xlim=(a.times[0], a.times[-1]))
    ax.set_title("correlation with the truth")
    return f"Correlation with the truth over time; the model ends at {figure(a.correlation[MODEL][-1])}."


def draw_drift(ax: Axes, a: Assessment, name: str, colours: Mapping[str, str]) -> str:
    """Relative departure of one invariant."""
    curves = a.drift[name]
    _lines(ax, a.times, curves, list(a.metrics), colours, log=False)
    ax.axhline(0, color=colours["muted"], lw=0.8, zorder=1)
    ax.set(xlabel=_time(a), xlim=(a.times[0], a.times[-1]))
    ax.set_title(f"{_plain(name)}: relative drift")
    return f"Relative drift of {name} over time; the model ends at {figure(curves.get(MODEL, (math.nan,))[-1])}."


def draw_spectrum(ax: Axes, a: Assessment, colours: Mapping[str, str], index: int = -1) -> str:
    """Energy over wavenumber, truth against model."""
    s = a.spectra[index]
    k = np.array(s.wavenumber)
    keep = k > 0
    curves = {arm: np.where(np.array(e) > 0, np.array(e, dtype=float), np.nan)[keep] for arm, e in s.energy.items()}
    top = float(np.nanmax(curves.get("truth", curves[MODEL])))
    bottom = float(np.nanmin(curves.get("truth", curves[MODEL])))
    _lines(ax, k[keep], curves, list(a.metrics), colours, log=True, label_at="left")
    ax.set_xscale("log")
    ax.set(xlabel="wavenumber", ylim=(max(bottom / 3, top * 1e-10), top * 4), xlim=(k[keep][0], k[keep][-1]))
    _decades(ax.xaxis)
    ax.set_title(f"energy spectrum at t = {number(s.time)}" if a.subject.interval else "energy spectrum")
    return f"Energy spectrum of truth and model at time {figure(s.time)}."


def draw_pareto(ax: Axes, a: Assessment, colours: Mapping[str, str]) -> str:
    """Error against seconds: every setting of the classical solver, the ones worth using joined, and the model."""
    speed = a.speed
    shown = [r for r in a.ladder if math.isfinite(r.error) and math.isfinite(r.seconds) and r.error > 0]
    front = sorted((r for r in shown if r.pareto), key=lambda r: r.seconds)
    rest = [r for r in shown if not r.pareto]
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.plot(
        [r.seconds for r in rest], [r.error for r in rest], "o", ms=4, mfc="none", mec=colours["c5"], mew=0.9, zorder=2
    )
    ax.plot(
        [r.seconds for r in front], [r.error for r in front], "o-", ms=5, lw=1.4, color=colours["c1"], zorder=3,
        drawstyle="steps-post", mec=colours["surface"], mew=0.7,
    )  # fmt: skip
    for i, r in enumerate(front):
        if i == 0 or _points(r) != _points(front[i - 1]):
            ax.annotate(
                _points(r), (r.seconds, r.error), (-5, -4), textcoords="offset points", ha="right", va="top", fontsize=8.5,
                color=colours["c1"],
            )  # fmt: skip
    points = [(r.seconds, r.error) for r in shown]
    alt = f"Error against seconds a run for {len(a.ladder)} settings of the classical solver, {len(front)} of them on the Pareto front"
    if speed is not None:
        m = speed.model
        for r in speed.rivals:
            ax.plot(r.seconds, r.error, "^", ms=6, color=colours["c3"], zorder=4)
            _tag(ax, _plain(r.name), r, colours["c3"])
        if speed.matched is not None and speed.ratio_at_matched_error is not None:
            ax.plot([m.seconds, speed.matched.seconds], [m.error] * 2, ls=(0, (2, 2)), lw=1, color=colours["accent"])
            ax.annotate(
                ratio(speed.ratio_at_matched_error), (math.sqrt(m.seconds * speed.matched.seconds), m.error), (0, -4),
                textcoords="offset points", ha="center", va="top", color=colours["accent"], fontsize=9,
            )  # fmt: skip
        ax.plot(m.seconds, m.error, "D", ms=8, color=colours["accent"], mec=colours["surface"], mew=1, zorder=6)
        _tag(ax, "this model", m, colours["accent"])
        points += [(r.seconds, r.error) for r in (m, *speed.rivals) if r.error > 0]
        alt += f"; the model needs {figure(m.seconds)} s for an error of {figure(m.error)}"
    if a.reference is not None:
        ax.axhspan(1e-300, a.reference.error[-1], color=colours["band"], lw=0, zorder=0)
    x, y = (sorted(v) for v in zip(*points, strict=True))
    ax.set(
        xlabel="time a run (1 thread, one run at a time)", xlim=(x[0] / 2, x[-1] * 2), ylim=(y[0] / 2.5, y[-1] * 2.5)
    )
    _decades(ax.yaxis)
    _decades(ax.xaxis, duration)
    ax.set_title(f"{_plain(label(a.main_metric))} error at the end, against cost")
    return alt + "."


def _decades(axis: Axis, write: Callable[[float], str] = "{:g}".format) -> None:
    """Plain numbers on a logarithmic axis, at 1, 2 and 5 of a decade where there is room."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = sorted(axis.get_view_interval())
    span = math.log10(high / low)
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if span < 1.2 else (1, 3) if span < 3.2 else (1,), numticks=6))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))


def _tag(ax: Axes, text: str, r: Rung, colour: str) -> None:
    ax.annotate(
        text, (r.seconds, r.error), (0, 8), textcoords="offset points", ha="center", color=colour, fontsize=9.5,
        fontweight="bold",
    )  # fmt: skip


def _points(r: Rung) -> str:
    if not r.num_points:
        return _plain(r.name)
    square = len(set(r.num_points)) == 1 and len(r.num_points) in (2, 3)
    return f"{r.num_points[0]}{'²³'[len(r.num_points) - 2]}" if square else "×".join(map(str, r.num_points))


def _time(a: Assessment) -> str:
    return f"time ({_plain(a.subject.time_unit)})" if a.subject.time_unit else "time"


def _plain(text: str) -> str:
    """Data in a label is text, never mathematics, and short; the tables have it whole."""
    text = text.replace("_", " ")
    return (text if len(text) <= 28 else text[:27] + "…").replace("$", r"\$")


def _lines(
    ax: Axes,
    x: Any,
    curves: Mapping[str, Any],
    arms: list[str],
    colours: Mapping[str, str],
    log: bool,
    label_at: str = "right",
) -> None:
    """One line an arm, named at its end instead of in a legend."""
    if log:
        ax.set_yscale("log")
    for arm, values in curves.items():
        y = np.array(values, dtype=float)
        y[~np.isfinite(y)] = np.nan
        style = arm_style(arm, [*arms, *(c for c in curves if c not in arms)], colours)
        marker = "o" if len(y) == 1 else ""
        ax.plot(x, y, solid_capstyle="round", label=_plain(arm_label(arm)), marker=marker, ms=5, **style)
    legend = ax.legend(
        loc="lower left" if label_at == "left" else "best", fontsize=8.5, frameon=False, handlelength=1.9, labelspacing=0.3,
        borderaxespad=0.3, ncols=2 if len(curves) > 4 else 1, columnspacing=1.2,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_color(colours["ink"])


def style(colours: Mapping[str, str]) -> Any:
    """The house's quiet axes: no box, thin rules, titles at the left."""
    return {
        "font.family": "sans-serif", "font.sans-serif": ["Inter", "Helvetica Neue", "Liberation Sans", "DejaVu Sans"],
        "font.size": 9.5, "axes.titlesize": 10.5, "axes.titlelocation": "left", "axes.titlepad": 9, "axes.titleweight": "bold",
        "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False, "axes.grid": True,
        "axes.grid.axis": "y", "grid.linewidth": 0.6, "axes.axisbelow": True, "xtick.major.size": 3, "ytick.major.size": 0,
        "xtick.minor.size": 0, "ytick.minor.size": 0, "svg.fonttype": "none", "text.color": colours["ink"],
        "axes.edgecolor": colours["muted"], "axes.labelcolor": colours["muted"], "axes.titlecolor": colours["ink"],
        "xtick.color": colours["muted"], "ytick.color": colours["muted"], "grid.color": colours["rule"],
        "axes.linewidth": 0.8, "figure.facecolor": "none", "axes.facecolor": "none", "xtick.labelsize": 9, "ytick.labelsize": 9,
    }  # fmt: skip


def chart(name: str, draw: Any, *args: Any) -> Chart:
    """Draw one of the ``draw_...`` functions for a page: colours become CSS variables, ids begin with `name`."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({**style(MARKS), "svg.hashsalt": name}):
        fig = Figure(figsize=SIZE, layout="constrained")
        ax = fig.subplots()
        alt = draw(ax, *args, MARKS)
        out = io.StringIO()
        fig.savefig(out, format="svg", transparent=True, metadata={"Date": None})
        corners = ax.get_window_extent()
        scale, height = 72 / fig.dpi, SIZE[1] * 72
        box = (corners.x0 * scale, height - corners.y1 * scale, corners.x1 * scale, height - corners.y0 * scale)
        limits = ax.get_xlim()
    svg = _for_page(out.getvalue(), name, r'<svg viewBox="\1" class="chart" aria-hidden="true">')
    return Chart(svg, alt, box, (float(limits[0]), float(limits[1])))


def _for_page(svg: str, name: str, opening: str) -> str:
    """An SVG file as a part of a page: no prolog, ids of its own, the page's fonts and colours."""
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg[svg.index("<svg") :], flags=re.S)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r'<svg [^>]*viewBox="([^"]*)"[^>]*>', opening, svg, count=1)
    svg = re.sub(
        r"font: (bold |[678]00 )?([\d.]+)px [^;\"]*",
        lambda m: f"{'font-weight: 650; ' if m[1] else ''}font-size: {m[2]}px",
        svg,
    )
    for key, mark in MARKS.items():
        svg = svg.replace(mark, f"var(--{key})")
    return svg


def equation_svg(latex: str) -> str | None:
    """The equation as an SVG in the page's ink; None where Matplotlib's mathematics does not know a command."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    fig = Figure(figsize=(0.1, 0.1))
    fig.text(0, 0, f"${latex}$", fontsize=15, color=MARKS["ink"], math_fontfamily="stix")
    out = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "equation"}):
        try:
            fig.savefig(
                out, format="svg", transparent=True, bbox_inches="tight", pad_inches=0.02, metadata={"Date": None}
            )
        except ValueError:
            return None
    found = re.search(r'viewBox="0 0 ([\d.]+) ', out.getvalue())
    width = 1.15 * float(found[1]) if found else 300.0
    return _for_page(
        out.getvalue(),
        "equation",
        rf'<svg viewBox="\1" class="equation" style="width:{width:.0f}px" aria-hidden="true">',
    )


def picture(a: Assessment, format: str = "png") -> bytes:
    """One summary picture on paper white: fields, then error growth and Pareto front (spectrum without a ladder)."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    candidates = ((draw_growth, len(a.times) > 1), (draw_pareto, bool(a.ladder)), (draw_spectrum, bool(a.spectra)))
    draws = [draw for draw, there in candidates if there][:2]
    heights = [3.5] * bool(a.examples) + [3.3] * bool(draws)
    with mpl.rc_context({**style(LIGHT), "svg.fonttype": "path"}):
        fig = Figure(figsize=(10.2, sum(heights)), layout="constrained", facecolor=LIGHT["surface"])
        parts: list[Any] = list(
            fig.subfigures(len(heights), 1, height_ratios=heights, hspace=0.03, squeeze=False)[:, 0]
        )
        if a.examples:
            _field_row(parts.pop(0), a.examples[0], a)
        if draws:
            axes = parts.pop(0).subplots(1, len(draws), squeeze=False)[0]
            for ax, draw in zip(axes, draws, strict=True):
                draw(ax, a, LIGHT)
        out = io.BytesIO()
        fig.savefig(out, format=format, dpi=160, facecolor=LIGHT["surface"])
    return out.getvalue()


def _field_row(part: Any, example: Example, a: Assessment) -> None:
    shown = images(example)
    moment = f" at t = {number(example.times[-1])} {_plain(a.subject.time_unit)}".rstrip() if a.subject.interval else ""
    titles = (
        f"truth{moment if example.truth.ndim > 2 else ''}",
        "this model",
        "difference" + (f" × {shown.zoom}" if shown.zoom > 1 else ""),
    )
    sheets = (shown.truth, shown.prediction, shown.difference)
    palettes = (shown.palette, shown.palette, shown.difference_palette)
    for ax, title, frames, palette in zip(part.subplots(1, 3), titles, sheets, palettes, strict=True):
        ax.imshow(palette[frames[-1]], interpolation="bicubic")
        ax.set(title=title, xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
