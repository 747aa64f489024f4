"""Steady data: a field in, a field out, from a file of tensors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slipstream.channels import Channel
from slipstream.data.dataset import Dataset
from slipstream.errors import InputError, StoreError
from slipstream.grids import AXIS_NAMES, Axis, Grid
from slipstream.trajectories import Trajectories


class FieldPairs(Dataset):
    """Pairs of fields in a ``.pt`` file that holds a dictionary of tensors (read without running code).

    Parameters
    ----------
    path : of the file.
    given, sought : keys of the tensors (case, *space): what a steady stepper is given, and what it has to say.
    extent : of the box along every axis; points are taken as cell centres.
    channel : name of what is sought.

    Raises
    ------
    StoreError : the file is missing, damaged, or holds more than tensors.
    InputError : keys or shapes do not fit, or values are not finite.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        given: str = "x",
        sought: str = "y",
        extent: float = 1.0,
        channel: str = "solution",
    ) -> None:
        self.path, self.given, self.sought, self.extent, self.channel = Path(path), given, sought, extent, channel
        content = self._content()
        x, y = (self._field(content, key) for key in (given, sought))
        if x.shape != y.shape or x.ndim < 2 or x.ndim > 4 or len(x) < 1:
            raise InputError(
                f"{path}: expected {given!r} and {sought!r} of one shape (case, *space) with 1 to 3 space axes; "
                f"got {tuple(x.shape)} and {tuple(y.shape)}."
            )
        axes = (Axis(a, n, 0.0, extent, periodic=False) for a, n in zip(AXIS_NAMES, x.shape[1:], strict=False))
        self._data = Trajectories(
            y[:, None, None],
            Grid(tuple(axes)),
            0.0,
            (Channel(channel),),
            {given: x},
            about={"problem": self.path.stem},
        )

    def trajectories(self, runs: slice = slice(None), times: slice = slice(None)) -> Trajectories:
        return self._data[runs, times]

    def _field(self, content: dict[Any, Any], key: str) -> Tensor:
        found = content.get(key)
        if not isinstance(found, Tensor):
            raise InputError(
                f"{self.path} has no tensor {key!r}; it holds {', '.join(map(str, content)) or 'nothing'}."
            )
        if found.is_complex():
            raise InputError(f"{self.path}: {key!r} holds complex numbers; expected real fields.")
        values = found.to(torch.float32)
        if not bool(torch.isfinite(values).all()):
            raise InputError(f"{self.path}: {key!r} holds values that are not finite; mend or remove these cases.")
        return values

    def _content(self) -> dict[Any, Any]:
        try:
            content = torch.load(self.path, weights_only=True, map_location="cpu")
        except FileNotFoundError:
            raise StoreError(f"There is no file {self.path}.") from None
        except Exception as error:  # whatever a damaged or hostile file makes the reader say
            reason = next(iter(str(error).splitlines()), type(error).__name__)[:200]  # an empty file says nothing
            raise StoreError(f"{self.path} could not be read as a file of tensors: {reason}") from None
        if not isinstance(content, dict):
            raise InputError(f"{self.path} holds a {type(content).__name__}; expected a dictionary of tensors.")
        return content
