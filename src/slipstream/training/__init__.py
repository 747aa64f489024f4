"""The loop, its updates and schedules."""

from slipstream.training.callbacks import Callback, Validate
from slipstream.training.ema import EMA
from slipstream.training.front import train
from slipstream.training.loop import Training
from slipstream.training.schedules import Constant, Cosine, Linear, Schedule
from slipstream.training.update import Descent, Update

__all__ = [
    "EMA",
    "Callback",
    "Constant",
    "Cosine",
    "Descent",
    "Linear",
    "Schedule",
    "Training",
    "Update",
    "Validate",
    "train",
]
