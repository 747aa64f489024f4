"""Operators and solvers, marching in time."""

from slipstream.steppers.affine import Affine
from slipstream.steppers.autoregressive import Autoregressive, Steady
from slipstream.steppers.common_channels import CommonChannels
from slipstream.steppers.direct import Direct
from slipstream.steppers.dmd import DMD
from slipstream.steppers.held import Held
from slipstream.steppers.learned import LearnedStepper
from slipstream.steppers.lowpass import LowPass
from slipstream.steppers.multiresolution import Multiresolution
from slipstream.steppers.persistence import Persistence
from slipstream.steppers.reduced import Reduced
from slipstream.steppers.rolling import rollout
from slipstream.steppers.staggered import Staggered
from slipstream.steppers.upscaled import Upscaled
from slipstream.steppers.wrapped import wrap

__all__ = [
    "DMD",
    "Affine",
    "Autoregressive",
    "CommonChannels",
    "Direct",
    "Held",
    "LearnedStepper",
    "LowPass",
    "Multiresolution",
    "Persistence",
    "Reduced",
    "Staggered",
    "Steady",
    "Upscaled",
    "rollout",
    "wrap",
]
