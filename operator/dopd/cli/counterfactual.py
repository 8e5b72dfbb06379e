"""`dopd counterfactual`: what fixed counts, an HPA and hindsight would have used, once an hour, as metrics.

A process of its own, that reads and never writes: the operator's loop knows nothing of it. What computes is a child of
it with a bound on memory and time, below everything else in priority.
"""

import asyncio
import logging
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from types import SimpleNamespace
from typing import Any

import click
from prometheus_client import start_http_server

from dopd.cli import counterfactual_metrics as metrics
from dopd.cli import resource
from dopd.cli.arguments import NAMESPACES, namespaces, number, object_name, option, port
from dopd.cli.clusters import cluster_options, connect, run
from dopd.cli.errors import DONE, FAILED, Failed, Refused
from dopd.cli.log_lines import log_to_stderr
from dopd.cli.output import columns, show
from dopd.cli.prometheus_flags import connection_settings, prometheus_options
from dopd.cli.replay_options import length_of_time
from dopd.cli.resource_history import read, source_of, variant_of
from dopd.cluster import ApiError, Kubernetes
from dopd.reconcile.queue import Key
from dopd.replay.counterfactual import POLICIES, WouldHave, newest, would_have
from dopd.telemetry.connection import ConnectionSettings, Connector
from dopd.telemetry.loads import LoadReader, Source
from dopd.telemetry.prometheus import QueryFailed, Servers
from dopd_forecasting import ProcessExecutor

_LOG = logging.getLogger(__name__)
USED = "used"


@click.command("counterfactual", help=__doc__)
@option(
    "-n",
    "--namespace",
    of=object_name,
    metavar="NAMESPACE",
    multiple=True,
    help=f"look at resources of this namespace (may be repeated); of all if absent [{NAMESPACES}, comma-separated]",
)
@option("--since", of=length_of_time, metavar="DURATION", default="6h", help="how much of the past (default 6h)")
@option("--every", of=length_of_time, metavar="DURATION", default="1h", help="how often (default 1h)")
@option(
    "--most-requests",
    of=number(100, 5_000_000),
    metavar="NUMBER",
    default="100000",
    help="requests of a resource that are replayed, the newest (default 100000); time and memory grow with it",
)
@option(
    "--most-seconds",
    of=number(1, 86400),
    metavar="SECONDS",
    default="900",
    help="a policy that takes longer is given up (default 900)",
)
@option(
    "--most-mib",
    of=number(256, 65536),
    metavar="MIB",
    default="512",
    help="memory of the child that computes (default 512)",
)
@option("--http-port", of=port, metavar="PORT", default="8080", help="of the metrics (default 8080)")
@click.option("--once", is_flag=True, help="print a table in place of metrics, and end")
@cluster_options
@prometheus_options
def command(**given: Any) -> int:
    """The flags."""
    return call(SimpleNamespace(**given))


def call(options: SimpleNamespace) -> int:
    """Once for all resources, or for ever; 1 if it came to nothing for one of them."""
    try:
        settings, watched = connection_settings(options), namespaces(options.namespace)
    except ValueError as error:
        raise Refused(str(error)) from error
    log_to_stderr()
    if not options.once and options.http_port:
        start_http_server(options.http_port)
    child = ProcessExecutor(
        longest_seconds=options.most_seconds, most_mib=options.most_mib, idle_seconds=5.0, name="replays"
    )
    try:
        return run(_rounds(options, settings, watched, child))
    finally:
        child.shutdown()


async def _rounds(
    options: SimpleNamespace, settings: ConnectionSettings, watched: tuple[str, ...], child: Executor
) -> int:
    kubernetes = await connect(options)
    known: set[Key] = set()
    try:
        while True:
            began = time.monotonic()
            asked = Asked(kubernetes, settings, child, options.since, options.most_requests)
            try:
                keys, failed = await asked.of_all(watched)
            except (ApiError, Failed) as error:
                if options.once:
                    raise
                _LOG.warning("resources can not be listed: %s", error)
                keys, failed = known, 1
            finally:
                asked.close()
            for gone in known - keys:
                metrics.forget(gone)
            known = keys
            if options.once:
                show(columns([_HEADS, *asked.rows]))
                return FAILED if failed else DONE
            await asyncio.sleep(max(1.0, options.every - (time.monotonic() - began)))
    finally:
        await kubernetes.close()


_HEADS = ["NAMESPACE", "NAME", "HOURS", "REQUESTS", "POLICY", "GPU-HOURS", "ON TIME", "SETTING"]


class Asked:
    """One round over the resources.

    Args:
        kubernetes: where they are.
        settings: how Prometheus is reached.
        child: that computes.
        since_seconds: how much of the past.
        most_requests: that are replayed.
    """

    def __init__(
        self,
        kubernetes: Kubernetes,
        settings: ConnectionSettings,
        child: Executor,
        since_seconds: float,
        most_requests: float,
    ) -> None:
        self._kubernetes, self._settings, self._child = kubernetes, settings, child
        self._since, self._most = since_seconds, most_requests
        self._servers = Servers(Connector(settings))
        self._reader = LoadReader(self._servers, {settings.url: settings.history_url})
        self.rows: list[list[str]] = []

    def close(self) -> None:
        """No query is under way any more."""
        self._servers.close()

    async def of_all(self, watched: tuple[str, ...]) -> tuple[set[Key], int]:
        """All resources of these namespaces, or of all, one after the other.

        Returns:
            The resources, and of how many it came to nothing.
        """
        listed = [one for name in watched or (None,) for one in await resource.listed(self._kubernetes, name)]
        found = {Key(one["metadata"]["namespace"], one["metadata"]["name"]): one for one in listed}
        failed = 0
        for key, one in found.items():
            try:
                await self._of(key, one)
            except Exception as error:  # one resource in trouble must not stop the others
                expected = isinstance(error, Failed | ApiError | QueryFailed | ValueError | MemoryError)
                _LOG.warning("%s: %s", key, error or type(error).__name__, exc_info=None if expected else error)
                metrics.FAILURES.labels(*key).inc()
                metrics.forget(key)
                failed += 1
        return set(found), failed

    async def _of(self, key: Key, stored: dict[str, Any]) -> None:
        began = time.monotonic()
        found = await resource.completed(self._kubernetes, stored)
        variant = variant_of("as it is", found)
        told = found.readable_spec.telemetry
        url = told.prometheus_url or self._settings.url
        if not url:
            raise Failed("no Prometheus: give --prometheus-url, or name one in spec.telemetry.prometheusURL")
        source = source_of(found, self._settings, url, told.history_url or "", self._since)
        history = await read(self._reader, source, found, resource.now().timestamp())
        begin = newest(history.past, self._since, self._most)
        seconds = history.end_seconds - begin
        used = await self._used(source, key, history.end_seconds, seconds)
        answers, problems = {}, []
        for policy in POLICIES:
            try:
                call = self._child.submit(would_have, policy, variant, history.past, begin)
                answers[policy] = await asyncio.wrap_future(call)
            except Exception as error:  # what one policy can not do another may
                problems.append(f"{policy}: {error or type(error).__name__}")
        if not answers:
            raise Failed("; ".join(problems))
        metrics.forget(key)  # of the round before, which stood until now
        metrics.WINDOW.labels(*key).set(seconds)
        metrics.END.labels(*key).set(history.end_seconds)
        metrics.SECONDS.labels(*key).set(time.monotonic() - began)
        row = [*key, f"{seconds / 3600:.1f}"]
        if used is not None:
            metrics.GPU_HOURS.labels(*key, USED).set(used)
            self.rows.append([*row, "", USED, f"{used:.2f}", "", ""])
        for policy, answer in answers.items():
            metrics.told(key, policy, answer)
            self.rows.append([*row, *_cells(policy, answer)])
        if problems:
            metrics.FAILURES.labels(*key).inc()
            _LOG.warning("%s: %s", key, "; ".join(problems))

    async def _used(self, source: Source, key: Key, end_seconds: float, seconds: float) -> float | None:
        """GPU-hours that the workers held, as the operator told it; None where that is not known."""
        gpus = f'dopd_gpus{{namespace="{key.namespace}", inference="{key.name}"{source.matching}}}'
        within = f"{seconds - 1:.0f}s"  # a Prometheus before 3 counts both ends
        query = f"sum_over_time(sum(max by (role) ({gpus}))[{within}:1m]) / 60"
        try:
            answer = await self._servers.instant(source.url, query, end_seconds)
        except QueryFailed as error:
            _LOG.warning("%s: what was used is not known: %s", key, error)
            return None
        return float(answer[0]["value"][1]) if answer else None


def _cells(policy: str, found: WouldHave) -> Iterator[str]:
    yield f"{found.requests:,}"
    yield policy
    yield f"{found.gpu_hours:.2f}"
    yield f"{found.attainment:.2%}" + ("" if found.reaches else " (misses)")
    yield found.setting
