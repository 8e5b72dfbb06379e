"""Settings of all tests: hypothesis without deadlines (no timing asserts), the same examples on every run of CI."""

import os

from hypothesis import settings

settings.register_profile("dopd", deadline=None, max_examples=50, derandomize=bool(os.environ.get("CI")))
settings.load_profile("dopd")
