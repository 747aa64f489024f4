"""Trajectories: frames in time of one or many runs, with everything needed to read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from slipstream.channels import Channel
from slipstream.errors import InputError, ShapeError
from slipstream.grids import Grid

Parameters = Mapping[str, Tensor]
"""Name -> tensor with the runs along the first axis: scalars (batch,), fields (batch, *space), controls (batch, horizon, k)."""


def take(parameters: Parameters, index: Any) -> dict[str, Tensor]:
    """The parameters of some runs: a slice, a list or a tensor of indices."""
    return {name: value[index] for name, value in parameters.items()}


@dataclass(frozen=True)
class Trajectories:
    """Frames (run, time, channel, *space) with grid, interval, channels and parameters.

    Indexing takes runs and times and keeps both axes: ``frames[:, :1]`` are the first frames of every run,
    ``frames[3]`` is the fourth run (as a set of one).

    Parameters
    ----------
    frames : physical units, layout (run, time, channel, *space).
    grid : where the points lie.
    interval : time between consecutive frames; 0 for steady fields.
    channels : one a channel axis.
    parameters : name -> tensor with one entry a run.
    start_time : time of the first frame.
    starter_steps : work the classical solver did to supply missing starting frames, in solver steps.
    about : provenance (seed, problem, versions); JSON-able.
    weights : quadrature weights (*space), zero at masked points (land, say); None means the grid's own.
    """

    frames: Float[Tensor, "run time channel *space"]
    grid: Grid
    interval: float
    channels: tuple[Channel, ...]
    parameters: Parameters = field(default_factory=dict)
    start_time: float = 0.0
    starter_steps: int = 0
    about: Mapping[str, Any] = field(default_factory=dict)
    weights: Float[Tensor, " *space"] | None = None

    def __post_init__(self) -> None:
        expected = 3 + self.grid.num_dims
        if self.frames.ndim != expected:
            raise ShapeError(
                f"Trajectories expect (run, time, channel, *space) = {expected} axes on a {self.grid.num_dims}D grid; "
                f"got shape {tuple(self.frames.shape)}. A single run needs u[None], a single channel u[:, :, None]."
            )
        self.grid.check(self.frames, "Trajectories")
        if self.frames.shape[2] != len(self.channels):
            raise ShapeError(
                f"Trajectories got {self.frames.shape[2]} channels in shape {tuple(self.frames.shape)}, "
                f"but {len(self.channels)} names: {[c.name for c in self.channels]}."
            )
        if self.weights is not None and tuple(self.weights.shape) != self.grid.shape:
            raise ShapeError(f"Weights have shape {tuple(self.weights.shape)}; expected the grid's {self.grid.shape}.")
        for name, value in self.parameters.items():
            if value.ndim == 0 or value.shape[0] != self.runs:
                raise ShapeError(
                    f"Parameter {name!r} has shape {tuple(value.shape)}; expected {self.runs} entries along its first axis, one a run."
                )

    @property
    def runs(self) -> int:
        return self.frames.shape[0]

    @property
    def steps(self) -> int:
        """Number of frames a run."""
        return self.frames.shape[1]

    def __len__(self) -> int:
        return self.runs

    @property
    def times(self) -> Float[Tensor, " time"]:
        return self.start_time + self.interval * torch.arange(self.steps, dtype=torch.float64)

    def __getitem__(self, index: Any) -> Trajectories:
        runs, times = index if isinstance(index, tuple) else (index, slice(None))
        if isinstance(runs, int):
            runs = [runs]
        if isinstance(times, int):
            times = slice(times, times + 1 or None)
        if not isinstance(times, slice):
            raise InputError(f"Times are taken by a number or a slice (frames stay equidistant); got {times!r}.")
        first, _, stride = times.indices(self.steps)
        if stride < 1:
            raise InputError("Times are taken forwards; got a slice that runs backwards.")
        return replace(
            self,
            frames=self.frames[runs][:, times],
            parameters=take(self.parameters, runs),
            interval=self.interval * stride,
            start_time=self.start_time + first * self.interval,
        )

    def to(self, *args: Any, **kwargs: Any) -> Trajectories:
        """Frames and floating parameters on another device or in another dtype (arguments of `Tensor.to`)."""
        parameters = {k: v.to(*args, **kwargs) if v.is_floating_point() else v for k, v in self.parameters.items()}
        weights = None if self.weights is None else self.weights.to(*args, **kwargs)
        return replace(self, frames=self.frames.to(*args, **kwargs), parameters=parameters, weights=weights)

    def to_xarray(self):
        """An `xarray.DataArray` with named axes, coordinates, units and parameters."""
        import xarray

        coords: dict[str, Any] = {"time": self.times.numpy(), "channel": [c.name for c in self.channels]}
        for axis in self.grid.axes:
            coords[axis.name] = (axis.name, axis.coordinates().numpy(), {"units": axis.unit})
        for name, value in self.parameters.items():
            if value.ndim == 1:
                coords[name] = ("run", value.detach().cpu().numpy())
        return xarray.DataArray(
            self.frames.detach().cpu().numpy(),
            dims=("run", "time", "channel", *(a.name for a in self.grid.axes)),
            coords=coords,
            attrs={"units": [c.unit for c in self.channels], **{k: str(v) for k, v in self.about.items()}},
        )


@dataclass(frozen=True)
class Window:
    """What one training step sees.

    Parameters
    ----------
    frames : consecutive frames (batch, time, channel, *space).
    grid, interval : of the frames.
    parameters : name -> tensor with one entry a batch element.
    weights : quadrature weights or mask (*space) or (batch, *space); None means the grid's own.
    token : what the source needs to recognise this window when outputs are fed back; opaque.
    """

    frames: Float[Tensor, "batch time channel *space"]
    grid: Grid
    interval: float
    parameters: Parameters = field(default_factory=dict)
    weights: Tensor | None = None
    token: Any = None
