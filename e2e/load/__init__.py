"""Load as clients make it: requests at the times of a trace, streamed, and measured where the client stands.

The load is open: a request is sent when it is due, whether or not earlier ones were answered, so a slow server meets
its queue instead of slowing its clients down. `python -m e2e.load` plays a trace from the command line; the demo and
the end-to-end tests use `Schedule` and `BackgroundLoad`.
"""

from e2e.load.background import BackgroundLoad
from e2e.load.client import Outcome, Result, Target
from e2e.load.schedule import Arrival, Schedule, TraceError, read_trace
from e2e.load.summary import Objectives, Summary, summarize

__all__ = [
    "Arrival",
    "BackgroundLoad",
    "Objectives",
    "Outcome",
    "Result",
    "Schedule",
    "Summary",
    "Target",
    "TraceError",
    "read_trace",
    "summarize",
]
