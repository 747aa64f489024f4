"""Which: ready-made problems."""

from slipstream.problems.active_fluid import ActiveTurbulence
from slipstream.problems.block import ElasticBlock
from slipstream.problems.burgers import SteepeningWaves
from slipstream.problems.custom import Custom
from slipstream.problems.darcy import DarcyColumn, DarcyFlow
from slipstream.problems.dispersive import Solitons, WavePackets
from slipstream.problems.elastic import ElasticWaves
from slipstream.problems.elliptic import SteadyLinear
from slipstream.problems.flames import FlameSlope, FlameSurface
from slipstream.problems.flow import DecayingFlow, KolmogorovFlow
from slipstream.problems.heat import HeatedPlate
from slipstream.problems.helmholtz import WaveScattering
from slipstream.problems.kinetics import PollutedAir
from slipstream.problems.large_eddies import IsotropicTurbulence, LargeEddy, MixingLayer
from slipstream.problems.media import LognormalMedium, MultiScaleMedium, SmoothMedium, TwoPhaseMedium
from slipstream.problems.mixing import FlowMixing
from slipstream.problems.moving_source import MovingSource
from slipstream.problems.patterns import ConvectionRolls, PhaseSeparation
from slipstream.problems.periodic import PeriodicProblem
from slipstream.problems.plume import RisingPlume
from slipstream.problems.poisson import PoissonPotential
from slipstream.problems.problem import Problem, Setting, Statistics
from slipstream.problems.reaction import GrayScottPatterns, PhaseOrdering, PopulationFronts
from slipstream.problems.recorded import Recorded
from slipstream.problems.sorption import DiffusionSorption
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
from slipstream.problems.walls import LidDrivenCavity
from slipstream.problems.waves import BasinWaves, MassiveField, UnevenMedium

__all__ = [
    "ActiveTurbulence",
    "BasinWaves",
    "ConvectionRolls",
    "CubicSpiral",
    "Custom",
    "DarcyColumn",
    "DarcyFlow",
    "DecayingFlow",
    "DiffusionSorption",
    "ElasticBlock",
    "ElasticWaves",
    "FlameSlope",
    "FlameSurface",
    "FlowMixing",
    "GrayScottPatterns",
    "HeatedMaterial",
    "HeatedPlate",
    "IsotropicTurbulence",
    "KolmogorovFlow",
    "LargeEddy",
    "LidDrivenCavity",
    "LognormalMedium",
    "LorenzAttractor",
    "MassiveField",
    "MixingLayer",
    "MovingSource",
    "MultiScaleMedium",
    "PeriodicProblem",
    "PhaseOrdering",
    "PhaseSeparation",
    "PoissonPotential",
    "PollutedAir",
    "PopulationFronts",
    "PredatorPrey",
    "Problem",
    "Recorded",
    "RelaxationOscillator",
    "RisingPlume",
    "RobertsonKinetics",
    "Setting",
    "SmoothMedium",
    "Solitons",
    "Statistics",
    "SteadyLinear",
    "SteepeningWaves",
    "TaylorGreen",
    "TracerTransport",
    "TwoPhaseMedium",
    "TwoScaleConduction",
    "UnevenMedium",
    "WavePackets",
    "WaveScattering",
]
