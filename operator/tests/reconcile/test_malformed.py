"""A resource of which every answer is malformed: its passes go on, and say what is wrong where."""

from typing import Any

import pytest

from dopd.cluster import kinds
from dopd.cluster.podhttp import DirectPodHttp
from dopd.reconcile.queue import Key
from dopd.reconcile.reconciler import Reconciler
from dopd.replay.profiles import load_profile
from dopd.telemetry.loads import LoadReader
from dopd.telemetry.prometheus import Servers

from .hostile import ByNamespace, MemoryCluster, endpoints, says

KEY = Key("ns", "m")
VALUES = b'{"status": "success", "data": {"resultType": "%s", "result": %s}}'


@pytest.mark.parametrize(
    "prometheus",
    [
        VALUES % (b"matrix", b"[]"),
        VALUES % (b"scalar", b'[1, "1"]'),
        VALUES % (b"vector", b"[null]"),
        VALUES % (b"vector", b'[{"metric": {}, "value": [1, ""]}]'),
        VALUES % (b"vector", b'[{"metric": null, "value": [1, "1"]}]'),
        VALUES % (b"vector", b"null"),
        b"[" * 100_000,
        b"null",
        b"",
    ],
)
@pytest.mark.parametrize(
    ("loads", "workers"),
    [
        (b'{"loads": [{"num_running_reqs": 1e999, "num_waiting_reqs": 0}]}', b'{"workers": [null]}'),
        (b'{"loads": [null]}', b'{"workers": [{"worker_type": "decode"}]}'),
        (b"[null]", b"[null]"),
    ],
)
async def test_the_pass_goes_on_and_names_each(prometheus: bytes, loads: bytes, workers: bytes):
    async def pods(reader: Any, writer: Any, path: str) -> None:
        await says(workers if path.startswith("/workers") else loads)(reader, writer, path)

    async with endpoints(ns=pods, prometheus=says(prometheus)) as ports:
        cluster, http, servers = MemoryCluster(), DirectPodHttp(ByNamespace(ports)), Servers()
        spec = load_profile("llama-3.1-8b-h100").model_dump(mode="json", by_alias=True, exclude_none=True)
        cluster.put(kinds.PROFILE, KEY.namespace, "p", spec=spec)
        cluster.add_resource(*KEY, 1, f"http://127.0.0.1:{ports['prometheus']}")
        reconciler = Reconciler(cluster, http, loads=LoadReader(servers))  # type: ignore[arg-type]
        try:
            for _ in range(2):
                assert await reconciler.reconcile(KEY) is not None
        finally:
            servers.close()
            await http.close()
    told = {c["type"]: c for c in cluster.objects[kinds.INFERENCE.kind, *KEY]["status"]["conditions"]}
    assert told["MetricsAvailable"]["status"] == "False"
    assert told["RouterInSync"]["status"] == "Unknown"
    assert "m-router-0 (" in told["RouterInSync"]["message"]
    assert "m-prefill-0 (" in told["WorkersAvailable"]["message"]
    assert (kinds.DEPLOYMENT.kind, KEY.namespace, "m-router") in cluster.objects
