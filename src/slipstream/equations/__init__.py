"""What: partial differential equations, and the calculi they are written in."""

from slipstream.equations.burgers import Burgers
from slipstream.equations.calculus import Calculus
from slipstream.equations.differences import FiniteDifferences
from slipstream.equations.equation import Equation, Parameter
from slipstream.equations.flow import DiagonalForcing, Forcing, ShearForcing, VorticityFlow
from slipstream.equations.points import Autograd
from slipstream.equations.spectral import Spectral

__all__ = [
    "Autograd",
    "Burgers",
    "Calculus",
    "DiagonalForcing",
    "Equation",
    "FiniteDifferences",
    "Forcing",
    "Parameter",
    "ShearForcing",
    "Spectral",
    "VorticityFlow",
]
