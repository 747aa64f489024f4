"""The loop, its updates and schedules."""

from slipstream.training.callbacks import Callback, Validate
from slipstream.training.divergence import Guard
from slipstream.training.ema import EMA
from slipstream.training.finetune import Finetune
from slipstream.training.fit import Fit
from slipstream.training.levels import ByLevel
from slipstream.training.loop import Training, train
from slipstream.training.muon import Muon
from slipstream.training.schedules import Constant, Cosine, Linear, Schedule
from slipstream.training.update import Descent, Update

__all__ = [
    "EMA",
    "ByLevel",
    "Callback",
    "Constant",
    "Cosine",
    "Descent",
    "Finetune",
    "Fit",
    "Guard",
    "Linear",
    "Muon",
    "Schedule",
    "Training",
    "Update",
    "Validate",
    "train",
]
