"""The simulated engine, but for what it says of its load.

The variable FAULT is `never-idle` (it always runs a request) or `lies` (it is always idle).
"""

import os
import sys
import time
from typing import Any

from dopd_simulator.__main__ import main
from dopd_simulator.report import Reporter

_honest = Reporter.loads
_CLAIMS: dict[str, dict[str, Any]] = {
    "never-idle": {"num_running_reqs": 1},
    "lies": {"num_running_reqs": 0, "num_waiting_reqs": 0, "num_waiting_uncached_tokens": 0, "token_usage": 0.0},
}


def loads(self: Reporter, include: set[str] | None) -> dict[str, Any]:
    """What /v1/loads shows."""
    claimed: dict[str, Any] = {**_honest(self, include), **_CLAIMS[os.environ["FAULT"]], "timestamp": time.time()}
    if os.environ["FAULT"] == "lies":
        claimed["disaggregation"] = {}
        claimed["queues"] = {}
    return claimed


Reporter.loads = loads  # type: ignore[method-assign]
sys.exit(main())
