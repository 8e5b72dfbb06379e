"""A real API server for the tests of this folder: etcd and the control plane on loopback, started once a session."""

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from dopd.cluster import kinds
from e2e.cluster import programs
from e2e.cluster.controlplane import ControlPlane, control_plane
from e2e.sglang.install import gateway_command

from .cluster import Cluster
from .resources import connect, eventually
from .runs import GPUS, Run, running

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.controlplane)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(60))


def pytest_collection_finish(session: pytest.Session) -> None:
    # Not in a fixture: the first build takes minutes, and a test's timeout counts its fixtures.
    wanted = any(item.path.is_relative_to(_HERE) for item in session.items)
    if wanted and not session.config.option.collectonly:
        programs.kube()
        programs.helm()
        gateway_command()


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    """etcd, API server and controller manager, with the audit log on; shared, so use a namespace of your own."""
    with control_plane(audit=True) as running:
        yield running


@pytest.fixture(scope="session")
def api(plane: ControlPlane) -> Iterator[httpx.Client]:
    """The API server over plain HTTP, as administrator: a kubectl takes half a second."""
    with connect(plane.kubeconfig) as client:
        yield client


@pytest.fixture(scope="session")
def crds(plane: ControlPlane, api: httpx.Client) -> None:
    """The custom resources, defined and served: established comes first, and their storage a moment later."""
    plane.kubectl("apply", f"--filename={_HERE.parents[2] / 'crds'}")
    plane.kubectl("wait", "--for=condition=Established", "customresourcedefinitions", "--all", "--timeout=20s")
    for kind in (kinds.INFERENCE, kinds.PROFILE, kinds.WORKER_SCALE, kinds.GPU_POOL):
        path = kind.path(None)
        eventually(lambda path=path: api.get(path).status_code == 200, f"{path} is served")  # type: ignore[misc]


@pytest.fixture
def namespace(plane: ControlPlane) -> Iterator[str]:
    """A namespace of the test's own, in which pods can be created."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    plane.kubectl("create", "namespace", name)
    plane.kubectl("wait", "--for=create", "serviceaccount/default", f"--namespace={name}", "--timeout=20s")
    yield name
    plane.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
async def run(plane: ControlPlane, api: httpx.Client, crds: None, namespace: str) -> AsyncIterator[Run]:
    """One resource m on machines with GPUs for twice the cap."""
    async with running(plane, api, Cluster(api, namespace, 2 * GPUS), Run) as one:
        yield one
