"""Settings of all tests: hypothesis without deadlines (no timing asserts), the same examples on every run of CI.

A run that is ended by SIGTERM takes down what it has started, as one that is ended by Ctrl-C does.

`make fuzz` sets FUZZ_EXAMPLES: so many random examples of each such test, other ones at each run. One that fails is
kept in `.hypothesis` and tried first the next time.
"""

import os
import signal
from types import FrameType

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("dopd", deadline=None, max_examples=50, derandomize=bool(os.environ.get("CI")))
settings.register_profile(
    "fuzz",
    deadline=None,
    max_examples=int(os.environ.get("FUZZ_EXAMPLES") or 10_000),
    derandomize=False,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("fuzz" if os.environ.get("FUZZ_EXAMPLES") else "dopd")


def pytest_configure() -> None:
    """Without this the process would just end, and leave clusters and engines running."""
    signal.signal(signal.SIGTERM, _ended)


def _ended(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not cut the taking down short
    raise KeyboardInterrupt("ended by SIGTERM")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What shares a real server stays in one process of `pytest -n`: the control plane's tests, and each file's."""
    for item in items:
        shared = "controlplane" if item.get_closest_marker("controlplane") else str(item.path)
        item.add_marker(pytest.mark.xdist_group(shared))
