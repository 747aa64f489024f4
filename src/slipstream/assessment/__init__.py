"""Verification: metrics, rollouts, ladders, honest speed, report."""

from slipstream.assessment.acceleration import Acceleration, accelerate
from slipstream.assessment.assessment import Assessment
from slipstream.assessment.fitting import Fit, fit
from slipstream.assessment.verification import verify

__all__ = ["Acceleration", "Assessment", "Fit", "accelerate", "fit", "verify"]
