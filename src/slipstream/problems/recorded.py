"""A problem of which only data are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slipstream.channels import Channel, as_channels
from slipstream.errors import InputError
from slipstream.grids import Grid
from slipstream.problems.problem import Problem, Setting, Statistics, statistics_of
from slipstream.stepper import Stepper
from slipstream.trajectories import Trajectories


class Recorded(Problem):
    """What trajectories say about themselves: grid, interval, channels, typical sizes, parameters; no equation and no solver.

    Usually made by `Recorded.of(trajectories)`.

    Parameters
    ----------
    grid, interval, channels : of the frames; interval 0 for steady fields.
    statistics : typical sizes of the frames.
    varying : scalar parameters with their ranges. fields : names of field parameters.
    """

    solvable = False

    def __init__(
        self,
        grid: Grid,
        interval: float,
        channels: Sequence[Channel | str],
        statistics: Statistics,
        varying: Mapping[str, tuple[float, float]] | None = None,
        fields: Sequence[str] = (),
    ) -> None:
        self.grid, self.interval, self.statistics = grid, float(interval), statistics
        self._channels = as_channels(channels)
        self.varying = {k: (float(v[0]), float(v[1])) for k, v in (varying or {}).items()}
        self.fields = tuple(fields)

    @property
    def channels(self) -> tuple[Channel, ...]:
        return self._channels

    @classmethod
    def of(cls, data: Trajectories) -> Recorded:
        """The problem that some trajectories pose; sizes and ranges are measured on them."""
        scalars = {n: (float(v.min()), float(v.max())) for n, v in data.parameters.items() if v.ndim == 1}
        fields = {n: v.float() for n, v in data.parameters.items() if tuple(v.shape[1:]) == data.grid.shape}
        statistics = statistics_of(data.frames, fields)
        varying = {n: r for n, r in scalars.items() if r[0] < r[1]}
        return cls(data.grid, data.interval, data.channels, statistics, varying, tuple(fields))

    def solver(self, setting: Setting | None = None, *, guard: bool = True) -> Stepper:
        raise InputError(
            "A recorded problem has no equation, hence no classical solver; give frames enough to start from."
        )
