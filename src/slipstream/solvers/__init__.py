"""How, classically: schemes as tableaux, and the steppers that use them."""

from slipstream.solvers.assembled import Assembled
from slipstream.solvers.cell import CellLaw
from slipstream.solvers.cells import CellStepper
from slipstream.solvers.elements import Elements
from slipstream.solvers.filtered import CutOff, FilteredStepper, Gaussian
from slipstream.solvers.lines import HEUN, RK4, SSPRK3, Explicit, LinesStepper
from slipstream.solvers.macro import Conduction
from slipstream.solvers.moving_source import MovingSourceStepper
from slipstream.solvers.nodal import NodalStepper
from slipstream.solvers.ode import OdeStepper
from slipstream.solvers.pairs import BS32, DOPRI5, TSIT5, Method, Pair
from slipstream.solvers.pressure import BoxInverse
from slipstream.solvers.projection import CENTRAL, CrankNicolson, Fractional, ProjectionStepper
from slipstream.solvers.reactive import ReactiveDiffusion
from slipstream.solvers.reconstructions import (
    MUSCL_MC,
    MUSCL_MINMOD,
    MUSCL_VAN_LEER,
    UPWIND,
    WENO5,
    Reconstruction,
)
from slipstream.solvers.riemann import HLLC, Riemann, Rusanov
from slipstream.solvers.rosenbrock import RODAS4, RODAS5P, Rosenbrock
from slipstream.solvers.schemes import (
    ARS222,
    ARS443,
    CNRK2,
    ETDRK1,
    ETDRK2,
    ETDRK4,
    Exponential,
    ImplicitExplicit,
    Scheme,
)
from slipstream.solvers.sorption import IMPLICIT_EULER, SDIRK2, DiagonallyImplicit, SorptionStepper
from slipstream.solvers.spectral import SpectralStepper
from slipstream.solvers.steady import LinearStepper, Solved
from slipstream.solvers.two_scale import ConductionStepper
from slipstream.solvers.volumes import VolumeStepper

__all__ = [
    "ARS222",
    "ARS443",
    "BS32",
    "CENTRAL",
    "CNRK2",
    "DOPRI5",
    "ETDRK1",
    "ETDRK2",
    "ETDRK4",
    "HEUN",
    "HLLC",
    "IMPLICIT_EULER",
    "MUSCL_MC",
    "MUSCL_MINMOD",
    "MUSCL_VAN_LEER",
    "RK4",
    "RODAS4",
    "RODAS5P",
    "SDIRK2",
    "SSPRK3",
    "TSIT5",
    "UPWIND",
    "WENO5",
    "Assembled",
    "BoxInverse",
    "CellLaw",
    "CellStepper",
    "Conduction",
    "ConductionStepper",
    "CrankNicolson",
    "CutOff",
    "DiagonallyImplicit",
    "Elements",
    "Explicit",
    "Exponential",
    "FilteredStepper",
    "Fractional",
    "Gaussian",
    "ImplicitExplicit",
    "LinearStepper",
    "LinesStepper",
    "Method",
    "MovingSourceStepper",
    "NodalStepper",
    "OdeStepper",
    "Pair",
    "ProjectionStepper",
    "ReactiveDiffusion",
    "Reconstruction",
    "Riemann",
    "Rosenbrock",
    "Rusanov",
    "Scheme",
    "Solved",
    "SorptionStepper",
    "SpectralStepper",
    "VolumeStepper",
]
