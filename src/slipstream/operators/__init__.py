"""How, learnt: one architecture a file."""

from slipstream.operators.anysize import AnySize
from slipstream.operators.cyclenet import CycleNet
from slipstream.operators.deeponet import DeepONet
from slipstream.operators.directionnet import DirectionNet
from slipstream.operators.fno import FNO
from slipstream.operators.folded import Folded
from slipstream.operators.ifno import IFNO
from slipstream.operators.kernel_integral import KernelIntegral
from slipstream.operators.lsm import LSM
from slipstream.operators.message_passing import MessagePassing
from slipstream.operators.mgno import MgNO
from slipstream.operators.mlp import MLP
from slipstream.operators.multionet import MultiONet
from slipstream.operators.operator import Operator, OperatorFactory
from slipstream.operators.podnet import CoefficientNet
from slipstream.operators.pointlaw import PointLaw
from slipstream.operators.rivals import RBF, PolynomialLaw, SecantLaw, TableLaw
from slipstream.operators.scot import ScOT
from slipstream.operators.sinenet import SineNet
from slipstream.operators.space_time_fno import SpaceTimeFNO
from slipstream.operators.unet import UNet

__all__ = [
    "FNO",
    "IFNO",
    "LSM",
    "MLP",
    "RBF",
    "AnySize",
    "CoefficientNet",
    "CycleNet",
    "DeepONet",
    "DirectionNet",
    "Folded",
    "KernelIntegral",
    "MessagePassing",
    "MgNO",
    "MultiONet",
    "Operator",
    "OperatorFactory",
    "PointLaw",
    "PolynomialLaw",
    "ScOT",
    "SecantLaw",
    "SineNet",
    "SpaceTimeFNO",
    "TableLaw",
    "UNet",
]
