"""The cluster of the end-to-end tests with the SGLang image on it, and one resource whose workers run real SGLang.

E2E_NAME and E2E_KEEP as in e2e/tests.
"""

from collections.abc import Iterator

import pytest

from e2e.sglang.tests.cluster.resource import MODEL_MAP, NAME, put, resource
from e2e.stack import Stack, wait_for
from e2e.tests import conftest as e2e
from e2e.tests.conftest import delete, until_ready

TEST_SECONDS = 900
START_SECONDS = 600
"""Each engine takes seconds of all cores to import torch; several start at once."""

pytest_runtest_makereport = e2e.pytest_runtest_makereport
stack = e2e.stack


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """As in e2e/tests, with the longer times of real engines."""
    e2e.limit(items, TEST_SECONDS)


@pytest.fixture(scope="session")
def served(stack: Stack) -> Iterator[Stack]:
    """The cluster, with the resource Ready."""
    stack.apply(resource(put(stack)))
    until_ready(stack, NAME, timeout_seconds=START_SECONDS)
    yield stack
    delete(stack, NAME)
    stack.kubectl("delete", "configmap", MODEL_MAP, "--ignore-not-found")
    wait_for(lambda: not stack.pods(NAME), "its pods are gone", timeout_seconds=90)
