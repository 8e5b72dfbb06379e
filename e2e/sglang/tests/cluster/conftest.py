"""The cluster of the end-to-end tests with the SGLang image on it, and one resource whose workers run real SGLang.

E2E_NAME and E2E_KEEP as in e2e/tests.
"""

from collections.abc import Iterator

import pytest

from e2e.cluster.daemon import docker_session
from e2e.cluster.images import build_sglang
from e2e.cluster.load import load
from e2e.sglang.model import model_folder
from e2e.sglang.tests.cluster.resource import MODEL_MAP, NAME, profile, resource
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
    for item in items:
        item.add_marker(pytest.mark.timeout(TEST_SECONDS, func_only=True))
        item.add_marker(pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"))


@pytest.fixture(scope="session")
def sglang_image(stack: Stack) -> str:
    """The image with SGLang for machines without a GPU, on every node."""
    with docker_session(stack.cluster.docker_host) as docker:
        images = build_sglang(docker)
        load(docker, stack.cluster, images)
    (reference,) = images
    return reference


@pytest.fixture(scope="session")
def served(stack: Stack, sglang_image: str) -> Iterator[Stack]:
    """The cluster, with the resource Ready."""
    files = [f"--from-file={path}" for path in sorted(model_folder().iterdir())]
    stack.kubectl("delete", "configmap", MODEL_MAP, "--ignore-not-found")
    stack.kubectl("create", "configmap", MODEL_MAP, *files)  # `apply` would keep a second copy, too large for it
    stack.apply(profile(), resource(sglang_image))
    until_ready(stack, NAME, timeout_seconds=START_SECONDS)
    yield stack
    delete(stack, NAME)
    stack.kubectl("delete", "configmap", MODEL_MAP, "--ignore-not-found")
    wait_for(lambda: not stack.pods(NAME), "its pods are gone", timeout_seconds=90)
