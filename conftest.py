"""Settings of all tests: hypothesis without deadlines (no timing asserts), the same examples on every run of CI.

A run that is ended by SIGTERM takes down what it has started, as one that is ended by Ctrl-C does.
"""

import os
import signal
from types import FrameType

from hypothesis import settings

settings.register_profile("dopd", deadline=None, max_examples=50, derandomize=bool(os.environ.get("CI")))
settings.load_profile("dopd")


def pytest_configure() -> None:
    """Without this the process would just end, and leave clusters and engines running."""
    signal.signal(signal.SIGTERM, _ended)


def _ended(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not cut the taking down short
    raise KeyboardInterrupt("ended by SIGTERM")
