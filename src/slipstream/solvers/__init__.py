"""How, classically: schemes as tableaux, and the steppers that use them."""

from slipstream.solvers.cell import CellLaw
from slipstream.solvers.cells import CellStepper
from slipstream.solvers.lines import HEUN, RK4, SSPRK3, Explicit, LinesStepper
from slipstream.solvers.macro import Conduction
from slipstream.solvers.ode import OdeStepper
from slipstream.solvers.pairs import BS32, DOPRI5, TSIT5, Method, Pair
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
from slipstream.solvers.spectral import SpectralStepper
from slipstream.solvers.two_scale import ConductionStepper
from slipstream.solvers.volumes import VolumeStepper

__all__ = [
    "ARS222",
    "ARS443",
    "BS32",
    "CNRK2",
    "DOPRI5",
    "ETDRK1",
    "ETDRK2",
    "ETDRK4",
    "HEUN",
    "HLLC",
    "MUSCL_MC",
    "MUSCL_MINMOD",
    "MUSCL_VAN_LEER",
    "RK4",
    "RODAS4",
    "RODAS5P",
    "SSPRK3",
    "TSIT5",
    "UPWIND",
    "WENO5",
    "CellLaw",
    "CellStepper",
    "Conduction",
    "ConductionStepper",
    "Explicit",
    "Exponential",
    "ImplicitExplicit",
    "LinesStepper",
    "Method",
    "OdeStepper",
    "Pair",
    "Reconstruction",
    "Riemann",
    "Rosenbrock",
    "Rusanov",
    "Scheme",
    "SpectralStepper",
    "VolumeStepper",
]
