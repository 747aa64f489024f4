"""How, learnt: one architecture a file."""

from slipstream.operators.fno import FNO
from slipstream.operators.operator import Operator, OperatorFactory
from slipstream.operators.unet import UNet

__all__ = ["FNO", "Operator", "OperatorFactory", "UNet"]
