"""The process: watches, the Lease, the workers that take keys from the queue, health and metrics over HTTP.

The watches run on every instance and fill the queue; only the holder of the Lease takes keys from it, or with shards
the holder of the Lease of the key's shard (`sharded`). At SIGTERM what
runs under the Lease is cancelled, the Lease is given away, and then the watches end. kopf's own way is the other way
round: it would wait five seconds for whatever runs in the process before that is cancelled.
"""

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import kopf
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from dopd.cluster import Kubernetes
from dopd.cluster.client import in_cluster, own_namespace
from dopd.cluster.election import Election
from dopd.cluster.podhttp import DirectPodHttp, ProxyPodHttp
from dopd.cluster.room import Room
from dopd.cluster.shares import Candidate
from dopd.reconcile import handlers, metrics
from dopd.reconcile.kept_lists import KeptLists
from dopd.reconcile.passes import work
from dopd.reconcile.queue import KeyQueue
from dopd.reconcile.reconciler import Reconciler
from dopd.reconcile.selfcheck import log_problems
from dopd.reconcile.sharded import Sharded
from dopd.telemetry.connection import ConnectionSettings, Connector
from dopd.telemetry.loads import LoadReader
from dopd.telemetry.prometheus import Servers
from dopd_forecasting import ProcessExecutor

_LOG = logging.getLogger(__name__)

Check = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Options:
    """What the command line says.

    Attributes:
        namespaces: to watch; empty for all.
        prometheus: where the load is read unless a resource says otherwise, and how that is reached.
        lease_name: name of the Lease.
        lease_namespace: its namespace.
        lease_seconds: how long a silent leader keeps it.
        shards: into which resources are divided between the instances that act; 1 for one that acts for all.
        http_port: of health and metrics; 0 for none.
        record_folder: where what autoscalers are told and decide is written down; None for nowhere.
    """

    namespaces: tuple[str, ...] = ()
    prometheus: ConnectionSettings = field(default_factory=ConnectionSettings)
    lease_name: str = "dopd"
    lease_namespace: str = ""
    lease_seconds: float = 15.0
    shards: int = 1
    http_port: int = 8080
    record_folder: Path | None = None


async def run(options: Options) -> None:
    """Run until stopped by a signal.

    Raises:
        LeaseLost: another instance may act now; end the process.
        RuntimeError: there is no cluster to connect to.
    """
    kubernetes = await Kubernetes.connect()
    room = Room()
    http = DirectPodHttp(room=room) if in_cluster() else ProxyPodHttp(kubernetes, room)
    queue = KeyQueue()
    connector = Connector(options.prometheus, room)
    servers = Servers(connector)
    labels = options.prometheus.series_labels
    forecasts, lists = ProcessExecutor(), KeptLists(kubernetes, time.monotonic)
    far_urls = {options.prometheus.url: options.prometheus.history_url}
    reconciler = Reconciler(
        kubernetes,
        http,
        options.prometheus.url,
        loads=LoadReader(servers, far_urls),
        prometheus_labels=labels,
        executor_of=forecasts.of,
        record_folder=options.record_folder,
        closed=in_cluster(),
        namespaces=options.namespaces,
        lists=lists,
    )
    reconciler.pools.wake = queue.add
    identity = f"{socket.gethostname()}_{os.getpid()}"
    # kopf names itself for a peering that is off here, and asks for a user name, which a container's uid does not have.
    os.environ.setdefault("POD_ID", identity)
    check = partial(log_problems, kubernetes, options.namespaces, connector)
    acting = _acting(options, identity, reconciler, queue, check)
    watching, stopping = asyncio.Event(), asyncio.Event()
    _set_at_signals(stopping)
    server = await _serve(options.http_port, watching)
    leading = asyncio.create_task(acting.run())
    watches = asyncio.create_task(
        _watch(handlers.registry(queue, lists.changed, lists.is_own), options.namespaces, watching, stopping)
    )
    stopped = asyncio.create_task(stopping.wait())
    try:
        done, _ = await asyncio.wait((leading, watches, stopped), return_when=asyncio.FIRST_COMPLETED)
        if stopping.is_set():
            _LOG.info("asked to stop: what is under way is given up, and the Lease given away")
        for task in done:
            task.result()
    finally:
        # In this order: as kopf ends it cancels whatever runs beside it, the giving away of the Lease too.
        for task in (leading, watches, stopped):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if not stopping.is_set():  # kopf may have ended by itself, and the end of the election been cut short
            await acting.release()
        await server.cleanup()
        servers.close()
        forecasts.shutdown()
        await http.close()
        await kubernetes.close()


class _Acting(Protocol):
    """Acts while it holds what says that it may."""

    async def run(self) -> None: ...

    async def release(self) -> None: ...


class _Alone:
    """The one that acts for all resources, under one Lease."""

    def __init__(self, election: Election, reconciler: Reconciler, queue: KeyQueue, check: Check) -> None:
        self._election, self._reconciler, self._queue, self._check = election, reconciler, queue, check

    async def run(self) -> None:
        await self._election.run(self._lead)

    async def release(self) -> None:
        await self._election.release()

    async def _lead(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._check())
            group.create_task(work(self._reconciler, self._queue))


def _acting(options: Options, identity: str, reconciler: Reconciler, queue: KeyQueue, check: Check) -> _Acting:
    name, namespace = options.lease_name, options.lease_namespace or own_namespace()
    metrics.SHARDS.set(options.shards)
    if options.shards > 1:
        candidate = Candidate(identity, options.shards, options.lease_seconds)
        return Sharded(reconciler, queue, candidate, name, namespace, check)
    election = Election(
        reconciler.kubernetes,
        name=name,
        namespace=namespace,
        identity=identity,
        duration_seconds=options.lease_seconds,
    )
    return _Alone(election, reconciler, queue, check)


async def _watch(
    registry: kopf.OperatorRegistry,
    namespaces: tuple[str, ...],
    watching: asyncio.Event,
    stopping: asyncio.Event,
) -> None:
    """What kopf does, but for signals: they set `stopping`, and whoever waits for that cancels this."""
    before = asyncio.all_tasks()
    tasks = await kopf.spawn_tasks(
        registry=registry,
        settings=handlers.settings(),
        clusterwide=not namespaces,
        namespaces=namespaces,
        ready_flag=watching,
    )
    _set_at_signals(stopping)  # in place of kopf's, which it has just set
    await kopf.run_tasks(tasks, ignored=before)


def _set_at_signals(stopping: asyncio.Event) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)


async def _serve(port: int, watching: asyncio.Event) -> web.AppRunner:
    """Health (`/healthz`: the event loop runs; `/readyz`: the watches are open) and `/metrics`."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text="ok") if watching.is_set() else web.Response(status=503, text="watches not open yet")

    async def show_metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", show_metrics)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    if port:
        await web.TCPSite(runner, port=port).start()
    return runner
