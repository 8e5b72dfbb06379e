"""The one loop: from how the load moves and what clients met to the workers that there should be. Pure.

The operator, the replay, Dynamo's simulator and the what-if of the demo drive the same `Autoscaler`.
"""

from dopd.autoscaler.calibration import EngineSample
from dopd.autoscaler.decision import Cause, Decision, Reason, Weighed
from dopd.autoscaler.knob import Knob
from dopd.autoscaler.loop import Autoscaler
from dopd.autoscaler.outlook import Outlook
from dopd.autoscaler.past import PastLoad
from dopd.autoscaler.peak import PeakForecast, Voice
from dopd.autoscaler.sample import Sample
from dopd.autoscaler.tuning import Tuning

__all__ = [
    "Autoscaler",
    "Cause",
    "Decision",
    "EngineSample",
    "Knob",
    "Outlook",
    "PastLoad",
    "PeakForecast",
    "Reason",
    "Sample",
    "Tuning",
    "Voice",
    "Weighed",
]
