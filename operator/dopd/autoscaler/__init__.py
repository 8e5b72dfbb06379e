"""What a role must carry until a decision of now takes effect: from how the load moved, and what clients met. Pure."""

from dopd.autoscaler.knob import Knob
from dopd.autoscaler.peak import PeakForecast, Voice
from dopd.autoscaler.tuning import Tuning

__all__ = ["Knob", "PeakForecast", "Tuning", "Voice"]
