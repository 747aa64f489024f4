"""From named arrays to trajectories: channels chosen and stacked, axes made, conditions told from states, everything said."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from slipstream.channels import Channel
from slipstream.data.formats.axes import Line, axis, calendar, equidistant, line
from slipstream.data.formats.contents import CHANNEL, POINT, RUN, TIME, Array, Contents
from slipstream.data.formats.missing import Missing, settle
from slipstream.errors import InputError
from slipstream.grids import Axis, Grid
from slipstream.trajectories import Trajectories

NEGLIGIBLE = 1e-6
"""Imaginary parts below this share of the largest real one are rounding."""
LOOKED_AT = 64
"""Frames that are looked at to tell whether a field joins up over a seam."""


@dataclass(frozen=True)
class Wishes:
    """What the caller of `slipstream.data.open` has settled."""

    channels: Sequence[str] | None = None
    periodic: bool | Sequence[str] | None = None
    interval: float | None = None
    extent: Mapping[str, tuple[float, float]] | None = None
    given: Sequence[str] = ()
    resample: Mapping[str, int] | None = None
    missing: Missing = "refuse"
    dtype: torch.dtype = torch.float32


def assembled(contents: Contents, wishes: Wishes) -> Trajectories:
    """Trajectories from contents whose dimensions all have names."""
    chosen = _chosen(contents, wishes)
    space = [d for d in chosen[0][1].dims or () if d not in (RUN, TIME, CHANNEL)]
    frames, channels, notes = _stacked(contents, chosen, space)
    if wishes.channels is not None and _renames(contents.arrays, wishes):
        if len(wishes.channels) != len(channels):
            shown = ", ".join(c.name for c in channels)
            contents.refuse(
                f"channels={list(wishes.channels)} are no fields of it.",
                f"Fields are: {shown}; {len(channels)} new names would rename them.",
            )
        channels = tuple(replace(c, name=n) for c, n in zip(channels, wishes.channels, strict=True))
    notes = [*contents.notes, *notes]
    coordinates = {n: contents.arrays[n] for n in space if n in contents.arrays}
    if contents.auxiliary and len(coordinates) < len(space) and not set(space) <= set(wishes.extent or {}):
        contents.refuse(
            f"The places of the points are two-dimensional arrays ({', '.join(contents.auxiliary)}): a curvilinear grid.",
            "Only uniform boxes hold fields here. Resample the field, or take the points for a box: extent={"
            + ", ".join(f"{n!r}: (0, 1)" for n in space) + "}.",
        )  # fmt: skip
    fields, conditions, left = _conditions(contents, chosen, space, wishes, frames.shape[0])
    if np.isinf(frames).any():
        contents.refuse(f"{int(np.isinf(frames).sum())} values are infinite.", "Mend or leave out what holds them.")
    frames, fields, axes, said = _axes(contents, frames, fields, space, coordinates, wishes)
    notes += said
    frames, interval, start, unit, said = _times(contents, frames, wishes)
    notes += said
    frames, counts, said = settle(contents.source, frames, wishes.missing, [c.name for c in channels])
    notes += said
    bad = [n for n, v in {**fields, **conditions}.items() if not np.isfinite(v).all()]
    if bad:
        contents.refuse(
            f"The conditions {bad} hold values that are not finite.", "Mend them, or choose what is read: channels=."
        )
    made = torch.from_numpy(np.ascontiguousarray(frames)).to(wishes.dtype)
    if not bool(torch.isfinite(made).all()):
        contents.refuse(
            f"Values up to {np.abs(frames).max():.3g} are beyond what {wishes.dtype} holds.",
            "Ask for dtype=torch.float64, or mend them.",
        )
    grid = Grid(tuple(axes))
    weights = None if counts is None else grid.cell_weights() * torch.from_numpy(np.ascontiguousarray(counts))
    parameters = {
        n: torch.from_numpy(np.array(v, dtype=np.float64)).to(wishes.dtype) for n, v in {**fields, **conditions}.items()
    }
    notes += [f"Left out: {', '.join(left)}."] if left else []
    about = {
        "problem": contents.source.rpartition(".")[0] or contents.source,
        "source": contents.source,
        "notes": notes,
    }
    return Trajectories(
        made, grid, interval, channels, parameters, start, about=about | ({"time_unit": unit} if unit else {}), weights=weights,
    )  # fmt: skip


def _chosen(contents: Contents, wishes: Wishes) -> list[tuple[str, Array]]:
    """The arrays that become channels: those asked for, else all that vary in time, else all on the most axes."""
    arrays = {
        n: a
        for n, a in contents.arrays.items()
        if a.dims and (n,) != a.dims and not set(a.dims) <= {RUN, TIME, CHANNEL}
    }
    arrays = {n: a for n, a in arrays.items() if POINT not in (a.dims or ())}
    given = {*wishes.given, *contents.given}
    if wishes.channels is not None and not _renames(arrays, wishes):
        for name in wishes.channels:
            if name not in arrays:
                near = difflib.get_close_matches(name, arrays, 1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                contents.refuse(f"There is no field {name!r}.{hint}", f"Fields are: {', '.join(arrays) or 'none'}.")
        chosen = [(n, arrays[n]) for n in wishes.channels]
    else:
        fields = {n: a for n, a in arrays.items() if n not in given and a.values.dtype.kind in "iufcb"}
        moving = {n: a for n, a in fields.items() if TIME in (a.dims or ())} or fields
        most = max((len(_space(a)) for a in moving.values()), default=0)
        chosen = [(n, a) for n, a in moving.items() if len(_space(a)) == most]
    if not chosen:
        contents.refuse(
            "None of its arrays is a field.", "Expected an array with axes of space, and coordinates for them."
        )
    kinds = {tuple(d for d in a.dims or () if d != CHANNEL): n for n, a in reversed(chosen)}
    if len(kinds) > 1:
        contents.refuse(
            f"Its fields have different dimensions: {', '.join(kinds.values())}.",
            f"Choose those of one kind: channels={next(iter(kinds.values()))!r}.",
        )
    if any(a.dims and len(set(a.dims)) < len(a.dims) for _, a in chosen):
        contents.refuse("A dimension occurs twice.", "Expected differing dimensions.")
    return chosen


def _renames(arrays: Mapping[str, Array], wishes: Wishes) -> bool:
    """Whether the channels asked for are new names for all that is there."""
    close = any(difflib.get_close_matches(n, arrays, 1, 0.8) for n in wishes.channels or ())
    return wishes.channels is not None and not close


def _space(array: Array) -> list[str]:
    return [d for d in array.dims or () if d not in (RUN, TIME, CHANNEL)]


def _ordered(array: Array, space: Sequence[str], channel: bool) -> np.ndarray:
    """The array as (run, time, [channel,] \\*space)."""
    dims = list(array.dims or ())
    values = array.values
    for lead in (CHANNEL, TIME, RUN) if channel else (TIME, RUN):
        if lead not in dims:
            values, dims = values[None], [lead, *dims]
    return values.transpose([dims.index(d) for d in (RUN, TIME, *([CHANNEL] if channel else []), *space)])


def _stacked(
    contents: Contents, chosen: Sequence[tuple[str, Array]], space: Sequence[str]
) -> tuple[np.ndarray, tuple[Channel, ...], list[str]]:
    parts, channels, notes = [], [], []
    for name, array in chosen:
        values = _ordered(array, space, channel=True)
        names = [name] if values.shape[2] == 1 else [f"{name}_{i}" for i in range(values.shape[2])]
        if values.dtype.kind == "c":
            largest = float(np.abs(values.real).max(initial=0.0))
            if float(np.abs(values.imag).max(initial=0.0)) <= NEGLIGIBLE * largest:
                notes.append(
                    f"{name} is stored as complex numbers, whose imaginary parts are rounding and were dropped."
                )
                values = values.real
            else:
                notes.append(f"{name} is complex: its real and imaginary parts are two channels.")
                values = np.concatenate([values.real, values.imag], axis=2)
                names = [f"{n}_{part}" for part in ("re", "im") for n in names]
        parts.append(
            values.astype(
                np.float32 if values.dtype == np.float16 else np.float64 if values.dtype.kind in "iub" else values.dtype
            )
        )
        channels += [Channel(n, array.unit) for n in names]
    sizes = {p.shape[0:2] + p.shape[3:] for p in parts}
    if len(sizes) > 1:
        contents.refuse("Its fields have different lengths along one dimension.", "Choose some: channels=.")
    return np.concatenate(parts, axis=2) if len(parts) > 1 else parts[0], tuple(channels), notes


def _conditions(
    contents: Contents, chosen: Sequence[tuple[str, Array]], space: Sequence[str], wishes: Wishes, runs: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], list[str]]:
    """Field parameters (run, \\*space), other parameters (run, ...), and the names of what is neither."""
    fields, others, left = {}, {}, []
    names = {n for n, _ in chosen} | {*space, TIME, RUN, CHANNEL}
    for name, a in contents.arrays.items():
        dims = a.dims or ()
        if name in names:
            continue
        real = a.values.dtype.kind in "iufb"
        if real and dims == ():
            others[name] = np.full(runs, float(a.values))
        elif real and dims == (RUN,) and len(a.values) == runs:
            others[name] = a.values
        elif real and sorted(_space(a)) == sorted(space) and not {TIME, CHANNEL} & set(dims):
            values = _ordered(a, space, channel=False)[:, 0]
            fields[name] = np.broadcast_to(values, (runs, *values.shape[1:]))
        else:
            left.append(name)
    missing = [n for n in wishes.given if n not in fields and n not in others]
    if missing:
        contents.refuse(
            f"given={missing} are no conditions: one value or one field a run is expected.", "Choose others: given=."
        )
    return fields, others, left


def _axes(
    contents: Contents,
    frames: np.ndarray,
    fields: dict[str, np.ndarray],
    space: Sequence[str],
    coordinates: Mapping[str, Array],
    wishes: Wishes,
) -> tuple[np.ndarray, dict[str, np.ndarray], list[Axis], list[str]]:
    axes: list[Axis] = []
    notes: list[str] = []
    known, extent, source = _periodic(contents, space, wishes), wishes.extent or {}, contents.source
    strange = [n for n in extent if n not in space]
    if strange:
        contents.refuse(f"extent= names {strange}, which are no axes.", f"Axes are: {', '.join(space)}.")
    for i, name in enumerate(space):
        dim, size = 3 + i, frames.shape[3 + i]
        if size < 2:
            contents.refuse(f"The axis {name!r} has one point.", "Leave it out: an axis has at least 2.")
        if name not in coordinates or name in extent:
            start, end = extent.get(name, (0.0, 1.0))
            if not end > start:
                raise InputError(
                    f"{source}: extent[{name!r}] = ({start}, {end}); expected (start, end) with start < end."
                )
            if name not in extent:
                notes.append(
                    f"{name} has no coordinates in the file: taken as {size} cells of [0, 1]. "
                    f"Say more with extent={{{name!r}: (start, end)}}, periodic=."
                )
            axes.append(
                Axis(name, size, float(start), float(end - start), periodic=bool(known.get(name)), centred=True)
            )
            continue
        array = coordinates[name]
        x, unit = array.values, array.unit
        if len(x) > 1 and x[0] > x[-1]:
            x, frames = x[::-1], np.flip(frames, dim)
            fields = {n: np.flip(v, dim - 2) for n, v in fields.items()}
            notes.append(f"{name} ran downwards in the file and was turned round.")
        if name in (wishes.resample or {}) and POINT not in (array.dims or ()):
            number = (wishes.resample or {})[name]
            if number < 2 or not (np.diff(x) > 0).all():
                raise InputError(
                    f"{source}: resample[{name!r}]={number} needs at least 2 points and increasing coordinates."
                )
            if number != len(x) or not _is_line(source, name, x):
                frames, new = equidistant(frames, dim, x, number)
                fields = {n: equidistant(v, dim - 2, x, number)[0] for n, v in fields.items()}
                x = new
                notes.append(f"{name} was resampled linearly on {number} equidistant points, as asked.")
        found = line(source, name, x, f"Ask for equidistant points: resample={{{name!r}: {len(x)}}}.")
        few = frames[:4, :: max(1, frames.shape[1] // LOOKED_AT)]
        made, repeated = axis(name, found, unit, known.get(name), [(few, dim)])
        if repeated:
            frames = np.take(frames, range(made.num_points), dim)
            fields = {n: np.take(v, range(made.num_points), dim - 2) for n, v in fields.items()}
            notes.append(
                f"The last point along {name} repeats the first and was dropped: a periodic axis has its left end only."
            )
        axes.append(made)
    return frames, fields, axes, notes


def _is_line(source: str, name: str, x: np.ndarray) -> bool:
    try:
        line(source, name, x, "")
    except InputError:
        return False
    return True


def _periodic(contents: Contents, space: Sequence[str], wishes: Wishes) -> dict[str, bool]:
    if wishes.periodic is None:
        return {n: p for n, p in contents.periodic.items() if n in space}
    if isinstance(wishes.periodic, bool):
        return dict.fromkeys(space, wishes.periodic)
    strange = [n for n in wishes.periodic if n not in space]
    if strange:
        contents.refuse(f"periodic= names {strange}, which are no axes.", f"Axes are: {', '.join(space)}.")
    return {n: n in wishes.periodic for n in space}


def _times(contents: Contents, frames: np.ndarray, wishes: Wishes) -> tuple[np.ndarray, float, float, str, list[str]]:
    """Frames, interval, start, unit of time, and what there is to say."""
    source, steps = contents.source, frames.shape[1]
    if wishes.interval is not None and not wishes.interval > 0:
        raise InputError(f"interval={wishes.interval} was given; expected a time above 0.")
    array = contents.arrays.get(TIME)
    if steps == 1:
        start = float(array.values.ravel()[0]) if array is not None and array.values.size == 1 else 0.0
        return frames, wishes.interval or 0.0, start, "", []
    if wishes.interval is not None:
        known = array is not None and not _is_line(source, TIME, array.values)
        return (
            frames,
            wishes.interval,
            0.0,
            "",
            ["The times in the file are not equidistant; frames are taken so, as asked."] if known else [],
        )
    if array is None or array.dims != (TIME,):
        return (
            frames,
            1.0,
            0.0,
            "",
            ["The file tells no times: frames are taken one unit of time apart. Say more with interval=."],
        )
    unit = array.unit.split(" since ")[0].strip()
    x = array.values
    if not _is_line(source, TIME, x) and (word := calendar(x, array.unit)) is not None:
        return (
            frames,
            1.0,
            0.0,
            f"{word}s",
            [f"Frames are consecutive {word}s, of calendar length; the unit of time is the {word}."],
        )
    notes = []
    resample = wishes.resample or {}
    if TIME in resample and (np.diff(x) > 0).all():
        frames, x = equidistant(frames, 1, x, resample[TIME])
        notes.append(f"Frames were resampled linearly at {resample[TIME]} equidistant times, as asked.")
    found: Line = line(
        source,
        TIME,
        x,
        f"Ask for equidistant times, resample={{'{TIME}': {len(x)}}}, or say that frames are: interval=1.0.",
    )
    return frames, found.spacing, found.first, unit, notes
