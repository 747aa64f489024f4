"""Dataset: data at rest that can be had as trajectories."""

from __future__ import annotations

from slipstream.trajectories import Trajectories


class Dataset:
    """Anything that holds frames and says what they are; training, verification and `Recorded.of` take its trajectories."""

    def trajectories(self, runs: slice = slice(None), times: slice = slice(None)) -> Trajectories:
        """Some runs and times, in memory."""
        raise TypeError(f"{type(self).__name__} gives no trajectories: a data set defines trajectories(runs, times).")
