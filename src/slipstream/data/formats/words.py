"""Trajectories said back in words: what a reader took a file for."""

from __future__ import annotations

from slipstream.grids import Axis
from slipstream.trajectories import Trajectories


def describe(data: Trajectories) -> str:
    """One line a kind of thing: ``u: 1 run, 101 times 0 to 1, 1 channel, x 256 points in [-8, 8) periodic``; then notes, one a line."""
    names = ", ".join(f"{c.name} ({c.unit})" if c.unit else c.name for c in data.channels)
    unit = str(data.about.get("time_unit", ""))
    last = data.start_time + data.interval * (data.steps - 1)
    times = (
        f"{data.steps} times {data.start_time:g} to {last:g}{f' {unit}' if unit else ''}"
        if data.steps > 1
        else "steady"
    )
    axes = ", ".join(_axis(a) for a in data.grid.axes)
    lines = [f"{names}: {_count(data.runs, 'run')}, {times}, {_count(len(data.channels), 'channel')}, {axes}"]
    if data.weights is not None:
        lines[0] += f", {int((data.weights > 0).sum())} of {data.grid.size} points count"
    for name, value in data.parameters.items():
        kind = (
            "a field"
            if tuple(value.shape[1:]) == data.grid.shape
            else "a value"
            if value.ndim == 1
            else f"{tuple(value.shape[1:])}"
        )
        span = (
            f"{float(value.min()):g}"
            if float(value.min()) == float(value.max())
            else f"{float(value.min()):g} to {float(value.max()):g}"
        )
        lines.append(f"parameter {name}: {kind} a run, {span}")
    return "\n".join([*lines, *map(str, data.about.get("notes", ()))])


def _axis(a: Axis) -> str:
    what = "cells" if a.centred and not a.periodic else "points"
    unit = f" {a.unit}" if a.unit else ""
    close = ") periodic" if a.periodic else "]"
    return f"{a.name} {a.num_points} {what} in [{a.start:.6g}, {a.start + a.extent:.6g}{close}{unit}"


def _count(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"
