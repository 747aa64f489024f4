"""Verification: metrics, rollouts, ladders, honest speed, report."""

from slipstream.assessment.acceleration import Acceleration, accelerate
from slipstream.assessment.assessment import Assessment
from slipstream.assessment.exporting import Export, export
from slipstream.assessment.fitting import Fit, fit
from slipstream.assessment.verification import verify

__all__ = ["Acceleration", "Assessment", "Export", "Fit", "accelerate", "export", "fit", "verify"]
