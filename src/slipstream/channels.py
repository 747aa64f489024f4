"""Channels: what the numbers of a field mean, and where in a cell they live."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from slipstream.errors import InputError

LOCATIONS = ("point", "cell", "face_x", "face_y", "face_z")


@dataclass(frozen=True)
class Channel:
    """One component of a field.

    Parameters
    ----------
    name : what it is called, for example ``"vorticity"``.
    unit : its physical unit as text, ``""`` when dimensionless.
    location : ``"point"`` (a sample at the grid point), ``"cell"`` (an average over the cell) or
        ``"face_x"``, ``"face_y"``, ``"face_z"`` (a sample at the lower face of the cell along that axis).
    """

    name: str
    unit: str = ""
    location: str = "point"

    def __post_init__(self) -> None:
        if not self.name:
            raise InputError("A channel has an empty name; give it one, for example Channel('vorticity', '1/s').")
        if self.location not in LOCATIONS:
            raise InputError(f"Channel {self.name!r} is at {self.location!r}; expected one of {', '.join(LOCATIONS)}.")


def as_channels(channels: Iterable[Channel | str]) -> tuple[Channel, ...]:
    """Channels from names or channels; refuses two of the same name."""
    result = tuple(c if isinstance(c, Channel) else Channel(c) for c in channels)
    names = [c.name for c in result]
    if len(set(names)) != len(names):
        raise InputError(f"Channel names must differ; got {names}.")
    return result
