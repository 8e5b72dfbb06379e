"""A cluster in memory, and endpoints on loopback that behave as badly as a tenant's may. Also for the benchmark."""

import asyncio
import copy
import gzip
import json
import socket
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import INSTANCE_LABEL, POOL_LABEL, REVISION_LABEL, ROLE_LABEL, Role
from dopd.cluster import kinds
from dopd.workloads import Owner
from dopd.workloads.engines import worker_template
from dopd.workloads.revisions import revision_of

Json = dict[str, Any]
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter, str], Awaitable[None]]

RANK = {"num_running_reqs": 0, "num_waiting_reqs": 0, "num_waiting_uncached_tokens": 0, "token_usage": 0.0}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


class MemoryCluster:
    """As much of `Kubernetes` as the operator uses."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Json] = {}
        self._version = 0

    def put(self, kind: kinds.Kind, namespace: str, name: str, /, **body: Any) -> Json:
        self._version += 1
        body = {field: value for field, value in body.items() if field not in ("apiVersion", "kind")}
        metadata = {"uid": f"{namespace}-{name}", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
        metadata |= {**body.pop("metadata", {}), "name": name, "namespace": namespace}
        metadata["resourceVersion"] = str(self._version)
        stored = {"apiVersion": kind.api_version, "kind": kind.kind, **body, "metadata": metadata}
        self.objects[kind.kind, namespace, name] = stored
        return stored

    async def get(self, kind: kinds.Kind, namespace: str, name: str) -> Json | None:
        await asyncio.sleep(0)
        return copy.deepcopy(self.objects.get((kind.kind, namespace, name)))

    async def list(self, kind: kinds.Kind, namespace: str | None = None, selector: str = "", *_: Any) -> list[Json]:
        await asyncio.sleep(0)
        wanted = dict([selector.split("=")]) if selector else {}
        return [
            copy.deepcopy(item)
            for (of_kind, where, _), item in self.objects.items()
            if of_kind == kind.kind
            and namespace in (None, where)
            and wanted.items() <= item["metadata"].get("labels", {}).items()
        ]

    async def apply(self, kind: kinds.Kind, manifest: Json, subresource: str = "") -> Json:
        meta = manifest["metadata"]
        before = self.objects.get((kind.kind, meta["namespace"], meta["name"]), {})
        body = {**before, "status": manifest["status"]} if subresource else {**before, **manifest}
        if kind == kinds.DEPLOYMENT:
            count = manifest["spec"]["replicas"]
            body["status"] = {"replicas": count, "updatedReplicas": count, "readyReplicas": count}
        return copy.deepcopy(self.put(kind, meta["namespace"], meta["name"], **body))

    async def merge_patch(self, *_: Any) -> Json | None:
        return None

    async def create(self, kind: kinds.Kind, manifest: Json, *, dry_run: bool = False) -> Json:
        meta = manifest["metadata"]
        if kind == kinds.EVENT or dry_run:
            return manifest
        return self.put(kind, meta["namespace"], meta["name"], **manifest)

    async def delete(self, kind: kinds.Kind, namespace: str, name: str, uid: str | None = None, **_: Any) -> None:
        self.objects.pop((kind.kind, namespace, name), None)

    async def request(self, method: str, path: str, *, body: Json, **_: Any) -> Json:
        assert method == "PUT", "only the Lease is replaced"
        return self.put(kinds.LEASE, body["metadata"]["namespace"], body["metadata"]["name"], **body)

    def add_resource(self, namespace: str, name: str, engines: int, prometheus_url: str = "", **scaling: Any) -> None:
        """A resource whose workers and gateway are ready; pods are reached by their names."""
        spec: Json = {
            "model": "m",
            "engine": {"image": "sglang"},
            "prefill": {"gpus": 1},
            "decode": {"gpus": 1},
            "router": {"image": "smg", "replicas": 1},
        }
        if prometheus_url:
            spec["telemetry"] = {"prometheusURL": prometheus_url}
            bounds = {"min": engines, "max": engines + 1}
            spec["scaling"] = {"prefill": bounds, "decode": bounds, "profileRef": {"name": "p"}, **scaling}
        else:
            spec["prefill"]["replicas"] = spec["decode"]["replicas"] = engines
        owner = Owner.of(self.put(kinds.INFERENCE, namespace, name, spec=spec))
        read = DisaggregatedInferenceSpec.model_validate(spec)
        revisions = {role: revision_of(owner, role, worker_template(owner, read, role)) for role in Role}
        for pool, count in (("prefill", engines), ("decode", engines), ("router", 1)):
            for number in range(count):
                labels = {INSTANCE_LABEL: name, POOL_LABEL: pool}
                made_by = {
                    "apiVersion": "apps/v1",
                    "kind": "ReplicaSet",
                    "name": f"{name}-{pool}-x",
                    "controller": True,
                }
                if pool != "router":
                    labels |= {ROLE_LABEL: pool, REVISION_LABEL: revisions[Role(pool)].name}
                    made_by = owner.metadata(pool)["ownerReferences"][0]
                address = f"{name}-{pool}-{number}.{namespace}"
                status = {"podIP": address, "conditions": [{"type": "Ready", "status": "True"}]}
                status["startTime"] = "2026-01-01T00:00:00Z"
                pod = f"{name}-{pool}-{number}"
                metadata = {"labels": labels, "ownerReferences": [made_by]}
                self.put(kinds.POD, namespace, pod, metadata=metadata, spec={"nodeName": "n"}, status=status)


class ByNamespace(AbstractResolver):
    """Leads requests to a pod to the endpoint of its namespace."""

    def __init__(self, ports: dict[str, int]) -> None:
        self._ports = ports

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        port = self._ports[host.partition(".")[2]]
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        pass


@asynccontextmanager
async def endpoints(**talks: Talk) -> AsyncIterator[dict[str, int]]:
    """Ports of endpoints by name, on loopback."""
    async with AsyncExitStack() as stack:
        ports = {}
        for name, talk in talks.items():
            ports[name] = await stack.enter_async_context(_endpoint(talk))
        yield ports


@asynccontextmanager
async def _endpoint(talk: Talk) -> AsyncIterator[int]:
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        try:
            while request := await reader.readuntil(b"\r\n\r\n"):
                await talk(reader, writer, request.split()[1].decode())
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=512)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        # Whoever is let in as a server closes has a transport that nobody closes: let nobody in before that.
        for listening in server.sockets:
            asyncio.get_running_loop().remove_reader(listening.fileno())
        await asyncio.sleep(0.01)
        server.close()
        for _ in range(3):  # also who was let in a moment ago; transports close in the turns of the loop after
            for task in list(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0.01)


def _reply(writer: asyncio.StreamWriter, body: bytes, head: bytes = HEAD) -> None:
    writer.write(head + b"Content-Length: %d\r\n\r\n" % len(body))
    writer.write(body)


async def honest(_: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
    """An engine, a gateway and a Prometheus with one gateway that has a request a second."""
    if path.startswith("/v1/loads"):
        body: Any = {"loads": [RANK]}
    elif path.startswith("/workers"):
        body = {"workers": []}
    elif path.startswith("/metrics"):
        body = ""
    else:
        body = _prometheus(path)
    _reply(writer, json.dumps(body).encode() if not isinstance(body, str) else b"")


def _prometheus(path: str) -> Json:
    now = time.time()
    labels = {"namespace": "victim", "dopd_dev_instance": "victim"}
    if "query_range" in path:
        points = [[now - 60 * n, "1"] for n in range(30, 0, -1)]
        return {"status": "success", "data": {"resultType": "matrix", "result": [{"metric": labels, "values": points}]}}
    value = str(now) if "vector%28time" in path else "1"
    bounds = [{"le": "1000"}, {"le": "+Inf"}] if "bucket" in path else [{}]
    result = [{"metric": labels | bound, "value": [now, value]} for bound in bounds]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


async def hangs(reader: asyncio.StreamReader, _: asyncio.StreamWriter, __: str) -> None:
    """Never answers."""
    await reader.read()


async def drips_header(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: str) -> None:
    """A byte of a header line now and then."""
    writer.write(b"HTTP/1.1 200 OK\r\nX: ")
    await _drip(writer)


async def drips(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: str) -> None:
    """A byte of a body now and then."""
    writer.write(HEAD + b"\r\n")
    await _drip(writer)


async def _drip(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.25)


def blanks(mebibytes: int) -> Talk:
    """Zipped blanks."""
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    packed = b"".join(packer.compress(b" " * 2**20) for _ in range(mebibytes)) + packer.flush()

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: str) -> None:
        _reply(writer, packed, HEAD + b"Content-Encoding: gzip\r\n")

    return talk


def brackets(mebibytes: int, *, zipped: bool = False) -> Talk:
    """JSON that is a hundred thousand times nothing."""
    start = b'{"status":"success","data":{"resultType":"vector","result":['
    body = start + b"[]," * (mebibytes * 2**20 // 3) + b"[]]}}"
    head, body = (HEAD + b"Content-Encoding: gzip\r\n", gzip.compress(body)) if zipped else (HEAD, body)

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: str) -> None:
        _reply(writer, body, head)

    return talk


def says(body: bytes, status: bytes = b"200 OK", headers: bytes = b"") -> Talk:
    """One answer to everything."""

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: str) -> None:
        _reply(writer, body, b"HTTP/1.1 " + status + b"\r\nContent-Type: application/json\r\n" + headers)

    return talk
