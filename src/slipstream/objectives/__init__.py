"""What is minimised."""

from slipstream.objectives.bands import RelativeSpectral
from slipstream.objectives.directions import ConjugateDirection
from slipstream.objectives.grouped import GroupedL1
from slipstream.objectives.norms import Norm, RelativeH1, RelativeL2
from slipstream.objectives.objective import Loss, Objective, Sum
from slipstream.objectives.own import Own
from slipstream.objectives.residual import PhysicsResidual
from slipstream.objectives.rollouts import Curriculum, Noise, PushForward
from slipstream.objectives.supervised import Supervised
from slipstream.objectives.system import SystemResidual
from slipstream.objectives.within import WithinWindow

__all__ = [
    "ConjugateDirection",
    "Curriculum",
    "GroupedL1",
    "Loss",
    "Noise",
    "Norm",
    "Objective",
    "Own",
    "PhysicsResidual",
    "PushForward",
    "RelativeH1",
    "RelativeL2",
    "RelativeSpectral",
    "Sum",
    "Supervised",
    "SystemResidual",
    "WithinWindow",
]
