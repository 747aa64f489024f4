"""Missing values: land that is always missing becomes a mask, gaps are refused unless they are to be filled."""

from __future__ import annotations

from typing import Literal

import numpy as np

from slipstream.errors import InputError

Missing = Literal["refuse", "interpolate"]


def settle(
    source: str, frames: np.ndarray, missing: Missing, names: list[str]
) -> tuple[np.ndarray, np.ndarray | None, list[str]]:
    """Finite frames (run, time, channel, \\*space), the points that count (\\*space; None: all), and what was done.

    A point that is NaN in every run and frame of any channel counts in none; it holds the mean of its channel, so that no step at its rim
    is larger than the field's own. Other NaN are gaps in time.

    Raises
    ------
    InputError : nothing but NaN, or gaps that are not to be filled (or cannot be).
    """
    absent = np.isnan(frames)
    if not absent.any():
        return frames, None, []
    if absent.all():
        raise InputError(f"{source}: every value is missing (NaN).")
    never = absent.all((0, 1)).any(0)
    notes = []
    if never.any():
        if never.all():
            raise InputError(
                f"{source}: at every point some channel is missing in all frames. Choose channels that are there: channels=."
            )
        share = 100 * float(never.mean())
        notes.append(
            f"{int(never.sum())} of {never.size} points ({share:.3g} %) are missing in every frame: they are masked and count nowhere."
        )
    gaps = absent & ~never
    if gaps.any():
        where = [int(i) for i in np.argwhere(gaps)[0]]
        told = (
            f"{source}: {int(gaps.sum())} values ({100 * float(gaps.mean()):.2g} %) are missing now and then, the first in run {where[0]}, "
            f"frame {where[1]}, channel {names[where[2]]!r}, at point {tuple(where[3:])}."
        )
        if missing == "refuse":
            raise InputError(f"{told} Mend them, or have them filled along time: missing='interpolate'.")
        frames = _filled(frames, gaps, told)
        notes.append(
            f"{int(gaps.sum())} gaps ({100 * float(gaps.mean()):.2g} %) were filled by linear interpolation in time, as asked."
        )
    if never.any():
        mean = frames[..., ~never].mean((0, 1, 3), keepdims=False)
        frames = frames.copy()
        frames[..., never] = mean[None, None, :, None]
    return frames, (~never if never.any() else None), notes


def _filled(frames: np.ndarray, gaps: np.ndarray, told: str) -> np.ndarray:
    frames = frames.copy()
    times = np.arange(frames.shape[1])
    columns = np.moveaxis(frames, 1, -1)
    missing = np.moveaxis(gaps, 1, -1)
    for place in np.argwhere(missing.any(-1)):
        where = tuple(place)
        known = ~missing[where]
        if not known.any():
            raise InputError(
                f"{told} One of these points has no value in a whole run, so nothing can be interpolated. Leave that run out."
            )
        columns[where] = np.interp(times, times[known], columns[where][known])
    return frames
