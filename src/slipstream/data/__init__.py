"""Sources of training windows, and data on disk."""

from slipstream.data.allpairs import AllPairs
from slipstream.data.choose import as_source
from slipstream.data.cycles import Cycles, Level
from slipstream.data.dataset import Dataset
from slipstream.data.formats.the_well import write as write_well
from slipstream.data.formats.words import describe
from slipstream.data.laws import LawSamples
from slipstream.data.live.batched import InProcess
from slipstream.data.live.buffers import FIFO, FIRO, Reservoir
from slipstream.data.live.draws import Adaptive, Sobol, Uniform
from slipstream.data.live.ensemble import Ensemble
from slipstream.data.live.pilot import pilot
from slipstream.data.live.programs import Programs
from slipstream.data.live.ray import RayEngine
from slipstream.data.mixture import Mixture
from slipstream.data.multigrid import Multigrid
from slipstream.data.opening import open
from slipstream.data.pairs import FieldPairs
from slipstream.data.pool import StatePool
from slipstream.data.pretraining import PretrainingMixture
from slipstream.data.ritz import RitzVectors
from slipstream.data.simulate import simulate
from slipstream.data.simulated import SimulatedWindows
from slipstream.data.source import Source
from slipstream.data.store import Store
from slipstream.data.windows import Windows

__all__ = [
    "FIFO",
    "FIRO",
    "Adaptive",
    "AllPairs",
    "Cycles",
    "Dataset",
    "Ensemble",
    "FieldPairs",
    "InProcess",
    "LawSamples",
    "Level",
    "Mixture",
    "Multigrid",
    "PretrainingMixture",
    "Programs",
    "RayEngine",
    "Reservoir",
    "RitzVectors",
    "SimulatedWindows",
    "Sobol",
    "Source",
    "StatePool",
    "Store",
    "Uniform",
    "Windows",
    "as_source",
    "describe",
    "open",
    "pilot",
    "simulate",
    "write_well",
]
