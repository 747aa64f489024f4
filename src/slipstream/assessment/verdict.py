"""The one honest sentence that an assessment begins with."""

from __future__ import annotations

import math

from slipstream.assessment.assessment import MODEL, Assessment


def verdict(a: Assessment) -> str:
    """Who wins, by how much, at what error. Where the classical solver wins, it says so first."""
    name = a.stepper.name
    errors = a.metrics[MODEL][a.main_metric]
    error = errors[-1]
    if not math.isfinite(error):
        return f"{name} failed: none of the {a.runs} runs stayed finite to the end."
    if a.failures:
        return (
            f"{name} failed in {len(a.failures)} of {a.runs} runs; the error of the others, {_percent(error)} at the end, "
            "says nothing about these, and no speed is quoted."
        )
    after = f"after {len(a.times)} frames" if a.subject.interval else "on unseen cases"
    trust = ""
    if a.reference is not None and error < 10 * a.reference.error[-1]:
        trust = (
            f" (the reference itself is only good to {_percent(a.reference.error[-1])}, so read it as an upper bound)"
        )
    lazy = a.metrics.get("persistence", {}).get(a.main_metric, (math.inf,))[-1]
    if error >= lazy:
        return f"{name} has learnt nothing useful: its error {after} is {_percent(error)}, that of doing nothing {_percent(lazy)}."
    s = a.speed
    if s is None:
        rival = f", {lazy / error:.1f} times less than doing nothing" if math.isfinite(lazy) else ""
        return f"{name} has a relative error of {_percent(error)} {after}{rival}{trust}."
    if s.matched is None:
        return (
            f"{name} is more accurate than every classical setting tried: {_percent(error)} {after}{trust}, "
            f"in {_time(s.model.seconds)} a run; no speed-up can be quoted without a rung of equal error."
        )
    ratio = s.ratio_at_matched_error or 0.0
    where = f" on {' x '.join(map(str, s.matched.num_points))} points" if s.matched.num_points else ""
    matched = f"{s.matched.scheme}{where}"
    if ratio < 1:
        better = ""
        if s.error_at_matched_time is not None and s.error_at_matched_time < error:
            better = f"; in the network's time it reaches {_percent(s.error_at_matched_time)}"
        return (
            f"The classical solver wins: at the error of {name} ({_percent(error)} {after}{trust}), {matched} needs "
            f"{_time(s.matched.seconds)} a run, {1 / ratio:.3g} times less than the network's {_time(s.model.seconds)}{better}."
        )
    paid = f"; its training has paid off after {s.break_even_runs:,.0f} runs" if s.break_even_runs is not None else ""
    equal = f"of equal error ({_percent(error)} {after}{trust})"
    if s.level is not None and s.level > error:
        equal = (
            f"with an error below {_percent(s.level)}, ten times the reference's own, under which nobody can be told apart "
            f"(that of {name} is {_percent(error)} {after})"
        )
    if a.subject.grid.num_dims == 0:
        paid += "; both are eager code on a few numbers, of which compiled code would make the classical solver's time vanish"
    return (
        f"{name} wins: {ratio:.3g} times faster than {matched}, the cheapest classical setting {equal}, "
        f"{_time(s.model.seconds)} against {_time(s.matched.seconds)} a run{paid}."
    )


def _percent(x: float) -> str:
    return f"{100 * x:.2g} %" if x < 0.0995 else f"{100 * x:.3g} %"


def _time(seconds: float) -> str:
    """Two figures, in the unit that needs no exponent."""
    value, unit = next(
        ((seconds * f, u) for f, u in ((1, "s"), (1e3, "ms")) if seconds * f >= 1), (1e6 * seconds, "us")
    )
    return f"{value:.0f} {unit}" if value >= 99.5 else f"{value:.2g} {unit}"
