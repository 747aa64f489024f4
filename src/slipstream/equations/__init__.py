"""What: partial differential equations, and the calculi they are written in."""

from slipstream.equations.boundary import (
    Conditions,
    Dirichlet,
    Inflow,
    Neumann,
    Obstacle,
    Outflow,
    Periodic,
    Robin,
    Wall,
)
from slipstream.equations.burgers import Burgers
from slipstream.equations.calculus import Calculus
from slipstream.equations.conservation import BurgersLaw, TransportLaw
from slipstream.equations.differences import FiniteDifferences
from slipstream.equations.equation import Equation, Parameter
from slipstream.equations.euler import Euler
from slipstream.equations.flow import DiagonalForcing, Forcing, ShearForcing, VorticityFlow
from slipstream.equations.kdv import KortewegDeVries
from slipstream.equations.kuramoto_sivashinsky import KuramotoSivashinsky, KuramotoSivashinskyFront
from slipstream.equations.navier_stokes import NavierStokes
from slipstream.equations.parser import ParsedEquation, parse
from slipstream.equations.patterns import CahnHilliard, SwiftHohenberg
from slipstream.equations.points import Autograd
from slipstream.equations.porous import NonlinearDiffusion
from slipstream.equations.reaction import AllenCahn, FisherKPP, GrayScott
from slipstream.equations.schroedinger import Schroedinger
from slipstream.equations.shallow_water import ShallowWater
from slipstream.equations.spectral import Spectral
from slipstream.equations.transport import Advection, AdvectionDiffusion, Diffusion
from slipstream.equations.walled import WalledDifferences
from slipstream.equations.waves import DampedWave, KleinGordon

__all__ = [
    "Advection",
    "AdvectionDiffusion",
    "AllenCahn",
    "Autograd",
    "Burgers",
    "BurgersLaw",
    "CahnHilliard",
    "Calculus",
    "Conditions",
    "DampedWave",
    "DiagonalForcing",
    "Diffusion",
    "Dirichlet",
    "Equation",
    "Euler",
    "FiniteDifferences",
    "FisherKPP",
    "Forcing",
    "GrayScott",
    "Inflow",
    "KleinGordon",
    "KortewegDeVries",
    "KuramotoSivashinsky",
    "KuramotoSivashinskyFront",
    "NavierStokes",
    "Neumann",
    "NonlinearDiffusion",
    "Obstacle",
    "Outflow",
    "Parameter",
    "ParsedEquation",
    "Periodic",
    "Robin",
    "Schroedinger",
    "ShallowWater",
    "ShearForcing",
    "Spectral",
    "SwiftHohenberg",
    "TransportLaw",
    "VorticityFlow",
    "Wall",
    "WalledDifferences",
    "parse",
]
