"""Which: ready-made problems."""

from slipstream.problems.active_fluid import ActiveTurbulence
from slipstream.problems.burgers import SteepeningWaves
from slipstream.problems.custom import Custom
from slipstream.problems.dispersive import Solitons, WavePackets
from slipstream.problems.flames import FlameSlope, FlameSurface
from slipstream.problems.flow import DecayingFlow, KolmogorovFlow
from slipstream.problems.heat import HeatedPlate
from slipstream.problems.kinetics import PollutedAir
from slipstream.problems.patterns import ConvectionRolls, PhaseSeparation
from slipstream.problems.periodic import PeriodicProblem
from slipstream.problems.problem import Problem, Setting, Statistics
from slipstream.problems.reaction import GrayScottPatterns, PhaseOrdering, PopulationFronts
from slipstream.problems.recorded import Recorded
from slipstream.problems.systems import (
    CubicSpiral,
    LorenzAttractor,
    PredatorPrey,
    RelaxationOscillator,
    RobertsonKinetics,
)
from slipstream.problems.transport import HeatedMaterial, TracerTransport
from slipstream.problems.two_scale import TwoScaleConduction
from slipstream.problems.vortices import TaylorGreen
from slipstream.problems.waves import BasinWaves, MassiveField, UnevenMedium

__all__ = [
    "ActiveTurbulence",
    "BasinWaves",
    "ConvectionRolls",
    "CubicSpiral",
    "Custom",
    "DecayingFlow",
    "FlameSlope",
    "FlameSurface",
    "GrayScottPatterns",
    "HeatedMaterial",
    "HeatedPlate",
    "KolmogorovFlow",
    "LorenzAttractor",
    "MassiveField",
    "PeriodicProblem",
    "PhaseOrdering",
    "PhaseSeparation",
    "PollutedAir",
    "PopulationFronts",
    "PredatorPrey",
    "Problem",
    "Recorded",
    "RelaxationOscillator",
    "RobertsonKinetics",
    "Setting",
    "Solitons",
    "Statistics",
    "SteepeningWaves",
    "TaylorGreen",
    "TracerTransport",
    "TwoScaleConduction",
    "UnevenMedium",
    "WavePackets",
]
