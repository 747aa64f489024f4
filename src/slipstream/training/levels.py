"""ByLevel: learning rates that follow the batches of multigrid training."""

from __future__ import annotations

from dataclasses import dataclass, field

from slipstream.data.cycles import Cycles
from slipstream.errors import InputError
from slipstream.training.schedules import Cosine, Schedule


@dataclass(frozen=True)
class ByLevel(Schedule):
    """Another schedule, times a power of how many times as many windows the long cycle's level has in a step.

    Larger batches have quieter gradients and bear larger rates: in proportion (power 1) for plain gradient descent, as published, and with
    the square root for Adam and its like, whose steps do not grow with the gradient. The short cycle does not change the rate.

    Parameters
    ----------
    cycles : those of the `slipstream.data.Multigrid` that gives the windows; the default is its default.
    schedule : of the whole windows. power : from 0 (no scaling) to 1. num_dims : space axes of the data.

    References
    ----------
    Wu et al., CVPR 2020 (arXiv:1912.00998); the square root: Malladi et al., NeurIPS 2022 (arXiv:2205.10287).
    """

    cycles: Cycles = field(default_factory=Cycles)
    schedule: Schedule = field(default_factory=Cosine)
    power: float = 0.5
    num_dims: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.power <= 1 or self.num_dims < 1:
            raise InputError(
                f"ByLevel expects a power from 0 to 1 and at least one axis; got power={self.power}, num_dims={self.num_dims}."
            )

    def __call__(self, progress: float) -> float:
        return self.schedule(progress) * self.cycles.level(progress).growth(self.num_dims) ** self.power
