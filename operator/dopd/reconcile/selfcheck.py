"""Every resource that scales, and whether its load can be read: for `dopd doctor`, and for the log of a start.

Resources of one Prometheus are checked together, so that many cost it no more queries than one.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from dopd.api.base import seconds
from dopd.api.conditions import ConditionReason, ConditionType
from dopd.api.inference import ScalingMode
from dopd.api.names import INSTANCE_LABEL, Role
from dopd.cluster import ApiError, Kubernetes, kinds
from dopd.reconcile import pods as pod_reading
from dopd.reconcile.observe import read_api_key, read_control_key, read_profiles, read_spec
from dopd.reconcile.pool_selfcheck import Named, check_pools
from dopd.reconcile.profile_match import PROFILE_FIX, profile_differences
from dopd.reconcile.queue import Key
from dopd.reconcile.spec_selfcheck import check_fields
from dopd.reconcile.stored import stored_status
from dopd.telemetry.connection import ConnectionSettings, Connector, NoAnswer
from dopd.telemetry.selfcheck import Check, Verdict, Wanted, check_prometheus
from dopd.telemetry.windows import POOLS

_LOG = logging.getLogger(__name__)

SETTLED_SECONDS = 120.0
"""A pod of that age that is ready should have been scraped."""


async def check_resources(
    kubernetes: Kubernetes, namespaces: Sequence[str], connector: Connector
) -> AsyncIterator[Check]:
    """All checks of the resources in some namespaces (or all), and of each Prometheus that they name."""
    servers: dict[str, list[Wanted]] = {}
    pooled: list[Named] = []
    count = 0
    for namespace in namespaces or (None,):
        try:
            resources = await kubernetes.list(kinds.INFERENCE, namespace)
        except ApiError as error:
            found = f"{error.status} {error.reason}: {error}"
            yield Check(namespace or "all namespaces", "resources", Verdict.FAIL, found, "a list", "Give --namespace")
            continue
        for resource in resources:
            count += 1
            async for check in _check_spec(kubernetes, resource, connector.settings, servers, pooled):
                yield check
    if not count:
        where = ", ".join(namespaces) or "any namespace"
        yield Check(where, "resources", Verdict.SKIPPED, "no DisaggregatedInference, so no load to read")
    async for check in check_pools(kubernetes, pooled):
        yield check
    if connector.settings.url:
        servers.setdefault(connector.settings.url, [])
    for url, wanted in servers.items():
        checks = _check_server(connector, url, wanted)
        # Each in a thread of its own: whoever is to stop waits for the one under way, not for all.
        while made := await asyncio.to_thread(_next, checks):
            yield made


async def _check_spec(
    kubernetes: Kubernetes,
    resource: dict[str, Any],
    settings: ConnectionSettings,
    servers: dict[str, list[Wanted]],
    pooled: list[Named],
) -> AsyncIterator[Check]:
    key = Key(resource["metadata"]["namespace"], resource["metadata"]["name"])
    spec, problem = read_spec(resource)
    if spec is None:
        yield Check(str(key), "spec", Verdict.FAIL, problem, "a spec of this version", "Correct it and apply it anew")
        return
    if spec.gpu_pool:
        pooled.append((key, spec))
    async for check in check_fields(kubernetes, key, spec):
        yield check
    _, problem = await read_api_key(kubernetes, key, spec)
    if problem:
        yield Check(str(key), "API key", Verdict.FAIL, problem)
    _, problem = await read_control_key(kubernetes, key, spec)
    if problem:
        yield Check(str(key), "key of the gateway's control plane", Verdict.FAIL, problem)
    if spec.scaling is None or spec.scaling.mode in (ScalingMode.PAUSED, ScalingMode.EXTERNAL):
        mode = spec.scaling.mode.value if spec.scaling else "static"
        yield Check(str(key), "load", Verdict.SKIPPED, f"{mode}, so no load is read")
        return
    profiles, model = await read_profiles(kubernetes, key, spec)
    if isinstance(model, str):
        yield Check(str(key), "profile", Verdict.FAIL, model)
    else:
        names = " and ".join(sorted({spec.profile_name(role) for role in Role}))
        differing = profile_differences(spec, profiles)
        if differing:
            yield Check(
                str(key), "profile", Verdict.FAIL, "; ".join(differing), "a profile of these workers", PROFILE_FIX
            )
        else:
            yield Check(str(key), "profile", Verdict.OK, names)
    url = spec.telemetry.prometheus_url or settings.url
    if not url:
        fix = "Set spec.telemetry.prometheusURL, or --prometheus-url (chart: prometheusURL)"
        yield Check(str(key), "Prometheus", Verdict.FAIL, "none is named", "a URL", fix)
        return
    forecast = spec.scaling.forecast
    labels = {**settings.for_url(url).series_labels, **spec.telemetry.labels}
    interval = seconds(spec.scaling.behavior.interval)
    ready = await _ready(kubernetes, key)
    wanted = Wanted(key, seconds(forecast.bin), forecast.history_seconds, interval, labels, ready, _asleep(resource))
    servers.setdefault(url, []).append(wanted)
    own = url.rstrip("/") == settings.url.rstrip("/")
    if far_url := spec.telemetry.history_url or (settings.history_url if own else ""):
        servers.setdefault(far_url, [])  # whether it answers, and its clock


def _asleep(resource: dict[str, Any]) -> bool:
    found = stored_status(resource).conditions
    return any(one.type == ConditionType.READY and one.reason == ConditionReason.ASLEEP for one in found)


async def _ready(kubernetes: Kubernetes, key: Key) -> dict[str, int]:
    """Pods of a resource that have been ready for as long as a scrape may take, by pool; none where nobody may look."""
    try:
        pods = await kubernetes.list(kinds.POD, key.namespace, f"{INSTANCE_LABEL}={key.name}")
    except ApiError:
        return {}
    settled = datetime.now(UTC).timestamp() - SETTLED_SECONDS
    return {
        pool: sum(
            pod_reading.ready(pod) and pod_reading.epoch_seconds(pod["metadata"]["creationTimestamp"]) < settled
            for pod in pod_reading.of_pool(pods, pool)
        )
        for pool in POOLS
    }


def _next(checks: Iterator[Check]) -> Check | None:
    return next(checks, None)


def _check_server(connector: Connector, url: str, wanted: Sequence[Wanted]) -> Iterator[Check]:
    try:
        client = connector(url)
    except NoAnswer as error:
        yield Check(url, "connection", Verdict.FAIL, str(error))
        return
    yield from check_prometheus(client, url, wanted, datetime.now(UTC).timestamp())


async def log_problems(kubernetes: Kubernetes, namespaces: Sequence[str], connector: Connector) -> None:
    """One look at start, a line for each problem. It decides nothing: conditions tell what holds from then on."""
    count = problems = 0
    try:
        async for check in check_resources(kubernetes, namespaces, connector):
            count += 1
            if check.failed:
                problems += 1
                _LOG.warning("self-check: %s", check)
    except Exception as error:  # what only looks must not stop what acts
        _LOG.warning("self-check not finished", exc_info=error)
        return
    _LOG.info("self-check: %d problems in %d checks; dopd doctor repeats it", problems, count)
