"""Change each constant of `Tuning` to half and to twice, run the tests of the autoscaler, and say which of them fails.

make mutants

A mutant that no test fails on is a constant of which nobody can say what it does. It is told, and the exit code is 1.
"""

import contextlib
import io
import multiprocessing
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from dopd.autoscaler import Tuning

FACTORS = (0.5, 2.0)
TESTS = Path(__file__).parent / "test_tuning.py"


class _Failed:
    """Notes the tests that fail."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """As pytest calls it."""
        if report.failed:
            self.names.append(report.nodeid.rpartition("::")[2])


def failures(change: tuple[str, float] | None) -> list[str]:
    """The tests that fail where the default of a constant is multiplied by a factor."""
    names = [field.name for field in fields(Tuning)]
    if change is not None:
        values = [getattr(Tuning(), name) * (change[1] if name == change[0] else 1) for name in names]
        Tuning.__init__.__defaults__ = tuple(values)
    failed = _Failed()
    with contextlib.redirect_stdout(io.StringIO()):
        options = ["-q", "--tb=no", "-p", "no:cacheprovider", "-k", "does_what_is_said", str(TESTS)]
        code = pytest.main(options, plugins=[failed])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise RuntimeError(f"pytest ended with {code}: run `pytest {TESTS}`")
    return failed.names


def main() -> int:
    """Print a line for each mutant."""
    changes: list[tuple[str, float] | None] = [None]
    changes += [(field.name, factor) for field in fields(Tuning) for factor in FACTORS]
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:  # each in a process of its own
        found = pool.map(failures, changes, chunksize=1)
    unchanged, *mutants = found
    for change, failed in zip(changes[1:], mutants, strict=True):
        assert change is not None
        print(f"{change[0]} x {change[1]:g}: {', '.join(failed) or 'SURVIVES'}")
    killed = sum(map(bool, mutants))
    print(f"{len(fields(Tuning))} constants; {killed} of {len(mutants)} mutants killed; unchanged: {unchanged or 'ok'}")
    return 0 if killed == len(mutants) and not unchanged else 1


if __name__ == "__main__":
    sys.exit(main())
