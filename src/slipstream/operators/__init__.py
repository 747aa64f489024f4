"""How, learnt: one architecture a file."""

from slipstream.operators.operator import Operator

__all__ = ["Operator"]
