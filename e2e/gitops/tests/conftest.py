"""The cluster of the end-to-end tests. E2E_NAME and E2E_KEEP as in e2e/tests."""

import pytest

from e2e.tests import conftest as e2e

TEST_SECONDS = 420

pytest_runtest_makereport = e2e.pytest_runtest_makereport
stack = e2e.stack


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """As in e2e/tests, with a longer time: Argo CD looks every few seconds."""
    e2e.limit(items, TEST_SECONDS)
