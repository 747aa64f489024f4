"""Which: ready-made problems."""

from slipstream.problems.flow import DecayingFlow, KolmogorovFlow
from slipstream.problems.problem import Problem, Setting, Statistics
from slipstream.problems.recorded import Recorded

__all__ = ["DecayingFlow", "KolmogorovFlow", "Problem", "Recorded", "Setting", "Statistics"]
