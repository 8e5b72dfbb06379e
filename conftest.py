"""Settings of all tests: hypothesis without deadlines (no timing asserts), the same examples on every run of CI.

`make fuzz` sets FUZZ_EXAMPLES: so many random examples of each such test, other ones at each run. One that fails is
kept in `.hypothesis` and tried first the next time.
"""

import os

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
