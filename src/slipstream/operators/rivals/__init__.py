"""Learned, but not networks: what a network has to beat, and what is the product where it does not."""

from slipstream.operators.rivals.pod import POD, PODGalerkin, deim
from slipstream.operators.rivals.polynomial import PolynomialLaw
from slipstream.operators.rivals.rbf import RBF
from slipstream.operators.rivals.secant import SecantLaw
from slipstream.operators.rivals.table import TableLaw

__all__ = ["POD", "RBF", "PODGalerkin", "PolynomialLaw", "SecantLaw", "TableLaw", "deim"]
