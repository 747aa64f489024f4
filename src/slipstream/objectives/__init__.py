"""What is minimised."""

from slipstream.objectives.norms import Norm, RelativeH1, RelativeL2
from slipstream.objectives.objective import Loss, Objective, Sum
from slipstream.objectives.own import Own
from slipstream.objectives.residual import PhysicsResidual
from slipstream.objectives.supervised import Supervised

__all__ = [
    "Loss",
    "Norm",
    "Objective",
    "Own",
    "PhysicsResidual",
    "RelativeH1",
    "RelativeL2",
    "Sum",
    "Supervised",
]
