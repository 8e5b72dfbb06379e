"""A real KEDA drives decode by a ScaledObject (`make keda`): within bounds and cap, back by a drain, and away.

Not run with the other tests: the first build of KEDA takes half an hour.
"""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster.controlplane import ControlPlane, control_plane
from e2e.cluster.keda import API, keda
from e2e.cluster.paths import REPOSITORY
from e2e.cluster.ports import LOOPBACK

from .resources import eventually
from .runs import Run
from .test_external import asked, external, make

__all__ = ["external"]
Json = dict[str, Any]
pytestmark = pytest.mark.timeout(600)
DOCUMENTED = REPOSITORY / "docs" / "external-scalers.md"
SCALED_OBJECTS = "/apis/keda.sh/v1alpha1/namespaces/{}/scaledobjects"


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    """One with an aggregation layer, by which the adapter is asked."""
    with control_plane(aggregation=True) as running:
        yield running


@pytest.fixture(scope="session")
def logs(plane: ControlPlane) -> Iterator[Path]:
    """KEDA, and the folder of its logs."""
    with keda(plane) as folder:
        plane.kubectl("wait", "--for=condition=Available", f"apiservice/{API}", "--timeout=50s")
        plane.kubectl("wait", "--for=condition=Established", "customresourcedefinition/scaledobjects.keda.sh")
        yield folder


class Queue:
    """What a metrics-api trigger asks: the requests that wait.

    Attributes:
        waiting: the number told.
        url: where it is told.
    """

    def __init__(self) -> None:
        self.waiting = 0
        queue = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps({"waiting": queue.waiting}).encode())

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self.url = f"http://{LOOPBACK}:{self.server.server_port}/"


@pytest.fixture
def queue() -> Iterator[Queue]:
    told = Queue()
    thread = threading.Thread(target=told.server.serve_forever)
    thread.start()
    yield told
    told.server.shutdown()
    thread.join()
    told.server.server_close()


def scaled_object(url: str, **spec: Any) -> Json:
    """The one of the documentation, for m-decode: it may ask for more than the resource allows."""
    blocks = re.findall(r"```yaml\n(.*?)```", DOCUMENTED.read_text(), re.DOTALL)
    [found] = [one for one in map(yaml.safe_load, blocks) if one.get("kind") == "ScaledObject"]
    found["metadata"]["name"] = found["spec"]["scaleTargetRef"]["name"] = "m-decode"
    found["spec"]["triggers"][0]["metadata"]["url"] = url
    quick = {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}}
    found["spec"] |= {"pollingInterval": 1, "advanced": {"horizontalPodAutoscalerConfig": quick}, **spec}
    return dict(found)


def asks(run: Run, logs: Path, workers: int) -> None:
    """Wait until KEDA asks for so many decode workers."""

    def log() -> str:
        return (logs / "operator.log").read_text()[-2000:]

    # The controller manager reads anew which kinds there are every 30 s.
    eventually(lambda: asked(run) == workers, f"it asks for {workers}: {log()}", seconds=90.0)


async def test_a_scaled_object_drives_decode_within_its_bounds_and_leaves_it_as_it_is(
    external: Run, logs: Path, queue: Queue
):
    api, path = external.api, SCALED_OBJECTS.format(external.cluster.namespace)
    queue.waiting = 20
    make(api, path, scaled_object(queue.url))
    asks(external, logs, 2)
    await external.until("two decode workers serve", lambda: external.settled(1, 2))
    queue.waiting = 90
    asks(external, logs, 9)
    await external.until("three serve", lambda: external.settled(1, 3))
    await external.until("it is told", lambda: external.condition("BudgetLimited")["status"] == "True")
    assert "a scaler asks for 1 prefill and 9 decode workers" in external.condition("BudgetLimited")["message"]
    queue.waiting = 5
    asks(external, logs, 1)
    await external.until("the others drain and go", lambda: external.settled(1, 1))
    assert external.condition("BudgetLimited")["status"] == "False"

    queue.waiting = 20
    asks(external, logs, 2)
    await external.until("two decode workers serve", lambda: external.settled(1, 2))
    before = external.uids()
    api.delete(f"{path}/m-decode").raise_for_status()
    autoscalers = f"/apis/autoscaling/v2/namespaces/{external.cluster.namespace}/horizontalpodautoscalers"
    gone = f"{path}/m-decode", f"{autoscalers}/keda-hpa-m-decode"
    eventually(lambda: all(api.get(one).status_code == 404 for one in gone), "it is gone, with its autoscaler")
    await external.until("a pass", lambda: True)
    assert asked(external) == 2
    assert external.settled(1, 2)
    assert external.uids() == before, "nothing moved"


async def test_zero_of_keda_counts_as_the_minimum_and_ends_when_its_trigger_is_active(
    external: Run, logs: Path, queue: Queue
):
    path = SCALED_OBJECTS.format(external.cluster.namespace)
    before, external.fewest_serving = external.uids(), 1
    make(external.api, path, scaled_object(queue.url, minReplicaCount=0, cooldownPeriod=1))
    asks(external, logs, 0)
    for _ in range(5):
        await external.until("it stays", lambda: external.settled(1, 1))
    assert external.uids() == before
    queue.waiting = 20
    asks(external, logs, 2)
    await external.until("two decode workers serve", lambda: external.settled(1, 2))
