"""How, classically: schemes as tableaux, and the steppers that use them."""

from slipstream.solvers.lines import HEUN, RK4, SSPRK3, Explicit, LinesStepper
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

__all__ = [
    "ARS222",
    "ARS443",
    "CNRK2",
    "ETDRK1",
    "ETDRK2",
    "ETDRK4",
    "HEUN",
    "RK4",
    "SSPRK3",
    "Explicit",
    "Exponential",
    "ImplicitExplicit",
    "LinesStepper",
    "Scheme",
    "SpectralStepper",
]
