"""What: partial differential equations, and the calculi they are written in."""

from slipstream.equations.active_fluid import ActiveSuspension, Bingham, Closure, Geometric, Truncated
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
from slipstream.equations.closures import SmagorinskyFlow, SmagorinskyVorticity
from slipstream.equations.conservation import BurgersLaw, TransportLaw
from slipstream.equations.differences import FiniteDifferences
from slipstream.equations.elasticity import LinearElasticity, StaticElasticity
from slipstream.equations.elliptic import Darcy, Helmholtz, Poisson, SteadyEquation
from slipstream.equations.equation import Equation, Parameter
from slipstream.equations.euler import Euler
from slipstream.equations.flow import DiagonalForcing, Forcing, ShearForcing, VorticityFlow
from slipstream.equations.incompressible import BuoyantFlow, IncompressibleFlow
from slipstream.equations.kdv import KortewegDeVries
from slipstream.equations.kinetics import AirPollution, MassAction, Reaction
from slipstream.equations.kuramoto_sivashinsky import KuramotoSivashinsky, KuramotoSivashinskyFront
from slipstream.equations.navier_stokes import NavierStokes
from slipstream.equations.parser import ParsedEquation, parse
from slipstream.equations.patterns import CahnHilliard, SwiftHohenberg
from slipstream.equations.points import Autograd
from slipstream.equations.porous import NonlinearDiffusion
from slipstream.equations.reaction import AllenCahn, FisherKPP, GrayScott
from slipstream.equations.schroedinger import Schroedinger
from slipstream.equations.shallow_water import ShallowWater
from slipstream.equations.sorption import SorbingDiffusion
from slipstream.equations.spectral import Spectral
from slipstream.equations.stirring import CellularStirring, StirredScalar, Stirring, VortexStirring
from slipstream.equations.systems import Lorenz, LotkaVolterra, NoSpace, Robertson, Spiral, VanDerPol
from slipstream.equations.transport import Advection, AdvectionDiffusion, Diffusion
from slipstream.equations.walled import WalledDifferences
from slipstream.equations.waves import DampedWave, KleinGordon

__all__ = [
    "ActiveSuspension",
    "Advection",
    "AdvectionDiffusion",
    "AirPollution",
    "AllenCahn",
    "Autograd",
    "Bingham",
    "BuoyantFlow",
    "Burgers",
    "BurgersLaw",
    "CahnHilliard",
    "Calculus",
    "CellularStirring",
    "Closure",
    "Conditions",
    "DampedWave",
    "Darcy",
    "DiagonalForcing",
    "Diffusion",
    "Dirichlet",
    "Equation",
    "Euler",
    "FiniteDifferences",
    "FisherKPP",
    "Forcing",
    "Geometric",
    "GrayScott",
    "Helmholtz",
    "IncompressibleFlow",
    "Inflow",
    "KleinGordon",
    "KortewegDeVries",
    "KuramotoSivashinsky",
    "KuramotoSivashinskyFront",
    "LinearElasticity",
    "Lorenz",
    "LotkaVolterra",
    "MassAction",
    "NavierStokes",
    "Neumann",
    "NoSpace",
    "NonlinearDiffusion",
    "Obstacle",
    "Outflow",
    "Parameter",
    "ParsedEquation",
    "Periodic",
    "Poisson",
    "Reaction",
    "Robertson",
    "Robin",
    "Schroedinger",
    "ShallowWater",
    "ShearForcing",
    "SmagorinskyFlow",
    "SmagorinskyVorticity",
    "SorbingDiffusion",
    "Spectral",
    "Spiral",
    "StaticElasticity",
    "SteadyEquation",
    "StirredScalar",
    "Stirring",
    "SwiftHohenberg",
    "TransportLaw",
    "Truncated",
    "VanDerPol",
    "VortexStirring",
    "VorticityFlow",
    "Wall",
    "WalledDifferences",
    "parse",
]
