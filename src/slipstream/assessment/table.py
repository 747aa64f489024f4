"""Figures as words: how numbers, times and ratios are written, in the terminal and in the report alike."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slipstream.assessment.assessment import MODEL, Assessment

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

LABELS = {
    "relative_l2": ("relative L2", "norm of the error over norm of the truth"),
    "nrmse": ("nRMSE", "RMSE over root mean square of the truth, channel by channel"),
    "vrmse": ("VRMSE", "RMSE over standard deviation of the truth; 1 = predicting the mean"),
    "h1": ("H1", "relative error of field and gradient together"),
    "rmse": ("RMSE", "root mean square error, in the unit of the field"),
    "crmse": ("cRMSE", "error of the mean over space"),
    "brmse": ("bRMSE", "RMSE at the boundary"),
    "max_error": ("largest error", "over all points, in the unit of the field"),
    "frmse_low": ("fRMSE low", "RMSE carried by 0-4 waves across the box"),
    "frmse_mid": ("fRMSE mid", "RMSE carried by 5-12 waves"),
    "frmse_high": ("fRMSE high", "RMSE carried by 13 and more waves"),
}


def label(metric: str) -> str:
    """What a metric is called on paper."""
    return LABELS.get(metric, (metric.replace("_", " "), ""))[0]


def arm_label(arm: str) -> str:
    return "this model" if arm == MODEL else arm.replace("_", " ")


def figure(value: float | int | None) -> str:
    """A number to two or three digits: 0.0213, 1.2e-05, 134, 2,400."""
    if value is None:
        return "–"
    if math.isnan(value):
        return "not finite"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e6 or size < 1e-3:
        return f"{value:.1e}"
    if size >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.{2 - math.floor(math.log10(float(f'{size:.3g}')))}f}"


def number(value: float | int | None) -> str:
    """Like `figure`, for quantities that were set and not measured: no trailing zeros."""
    text = figure(value)
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def duration(seconds: float | int | None) -> str:
    """Seconds in the unit that a person would use."""
    if seconds is None or not math.isfinite(seconds):
        return figure(seconds)
    for limit, factor, unit in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms"), (120.0, 1.0, "s"), (7200.0, 1 / 60, "min")):
        if abs(seconds) < limit:
            return f"{number(seconds * factor)} {unit}"
    return f"{number(seconds / 3600)} h"


def ratio(value: float | int | None) -> str:
    """A speed ratio as a phrase: "12 times faster", "4.1 times slower"."""
    if value is None or not math.isfinite(value) or value <= 0:
        return "not comparable"
    if 0.95 <= value <= 1.05:
        return "equally fast"
    return f"{_plain(value)} times faster" if value > 1 else f"{_plain(1 / value)} times slower"


def _plain(value: float | int) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


@dataclass(frozen=True)
class Row:
    """One line of the table of errors: a metric at a time, one cell an arm."""

    metric: str
    definition: str
    when: str
    cells: tuple[str, ...]
    best: int | None


def arms_of(a: Assessment) -> list[str]:
    """The model first, then its rivals in the order given."""
    return [MODEL, *(arm for arm in a.metrics if arm != MODEL)]


def moments(a: Assessment) -> list[tuple[str, int]]:
    """When the table looks: the first frame, the middle, the last; fewer where they coincide."""
    last = len(a.times) - 1
    indices = sorted({0, last // 2, last}) if last > 3 else sorted({0, last})
    unit = f" {a.subject.time_unit}" if a.subject.time_unit else ""
    return [(f"t = {number(a.times[i])}{unit}" if a.subject.interval else "", i) for i in indices]


def error_rows(a: Assessment) -> list[Row]:
    """Every metric at every moment; `best` is the column with the smallest figure."""
    arms, result = arms_of(a), []
    for metric in a.metrics[MODEL]:
        for when, i in moments(a):
            values = [a.metrics[arm].get(metric, (math.nan,) * len(a.times))[i] for arm in arms]
            present = [metric in a.metrics[arm] for arm in arms]
            finite = [v if p and math.isfinite(v) else math.inf for v, p in zip(values, present, strict=True)]
            best = finite.index(min(finite)) if len(arms) > 1 and min(finite) < math.inf else None
            cells = tuple(figure(v) if p else "–" for v, p in zip(values, present, strict=True))
            result.append(Row(label(metric), LABELS.get(metric, ("", ""))[1], when, cells, best))
    return result


def within(a: Assessment, arm: str, threshold: str) -> str:
    """A correlation time, or that the correlation never fell below within the run."""
    time = a.correlation_times[arm].get(threshold)
    return figure(time) if time is not None else f"> {number(a.times[-1])}"


def error_table(a: Assessment) -> Table:
    """Errors by metric and time, one column an arm, the best of each line in bold."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    table.add_column("")
    for arm in arms_of(a):
        table.add_column(Text(arm_label(arm)), justify="right")
    previous = ""
    for row in error_rows(a):
        cells = [Text(c, style="bold" if i == row.best else "") for i, c in enumerate(row.cells)]
        table.add_row(Text(row.metric if row.metric != previous else ""), Text(row.when, style="dim"), *cells)
        previous = row.metric
    for threshold in a.correlation_times.get(MODEL, {}):
        cells = [Text(within(a, arm, threshold) if arm in a.correlation_times else "–") for arm in arms_of(a)]
        table.add_row(Text("correlated"), Text(f"above {threshold} until", style="dim"), *cells)
    return table


def speed_lines(a: Assessment) -> list[str]:
    """Cost at equal error, latency and throughput apart, one sentence each."""
    if a.speed is None:
        return []
    s, lines = a.speed, []
    for threads, batch in sorted({(t.threads, t.batch) for t in s.timings}, key=lambda key: (key[1] > 1, key)):
        found = {t.arm: t.seconds for t in s.timings if (t.threads, t.batch) == (threads, batch)}
        kind = "latency" if batch == 1 else f"throughput, batch of {batch}"
        against = f", classical {duration(found['classical'])}" if "classical" in found else ""
        verdict = f": {ratio(r)}" if (r := s.ratio(threads, batch)) is not None else ""
        lines.append(
            f"{kind}, {threads} thread{'s' * (threads > 1)}: model {duration(found.get(MODEL))}{against} a run{verdict}"
        )
    if s.training_seconds is not None:
        pays = (
            "never pays off"
            if s.break_even_runs is None
            else f"pays off after {number(math.ceil(s.break_even_runs))} runs"
        )
        lines.append(f"training and data {duration(s.training_seconds)}: {pays}")
    return lines


def summary(a: Assessment) -> Group:
    """What the terminal shows: verdict, errors, speed, failures."""
    from rich.console import Group
    from rich.text import Text

    parts: list = [Text(a.verdict, style="bold"), Text(""), error_table(a)]
    if lines := speed_lines(a):
        parts += [Text(""), *(Text(line) for line in lines)]
    if a.failures:
        parts += [Text(""), *(Text(f"! {line}", style="red") for line in a.failures)]
    return Group(*parts)
