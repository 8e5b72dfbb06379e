"""A resource's own past as its Prometheus tells it, for what is replayed: `replay --from` and `counterfactual`."""

import asyncio

from dopd.api.base import seconds
from dopd.cli.errors import Failed
from dopd.cli.resource import KIND, Found
from dopd.perf import EngineModel
from dopd.replay.own_history import Variant
from dopd.telemetry import queries
from dopd.telemetry.connection import ConnectionSettings
from dopd.telemetry.loads import LoadHistory, LoadReader, Source
from dopd.telemetry.prometheus import QueryFailed

PATIENCE_SECONDS = 300.0
"""So long a history may take to be read."""


def variant_of(name: str, found: Found) -> Variant:
    """What a resource is replayed with: its engines as they were measured to be.

    Args:
        name: of the variant.
        found: the resource, or what it is to become.

    Raises:
        Failed: the spec can not be read, or no profile is known.
    """
    spec = found.readable_spec
    if not isinstance(found.model, EngineModel):
        told = found.model or "spec.scaling is absent, so that no EngineProfile is named; add it"
        raise Failed(f"{KIND} {found.key} {name}: {told}")
    plan = found.status.plan
    engine = found.model.corrected(plan.prefill.correction, plan.decode.correction) if plan else found.model
    return Variant(name, spec, engine, found.leads(), bool(plan and plan.on_time_first))


def source_of(found: Found, settings: ConnectionSettings, url: str, far_url: str, since_seconds: float) -> Source:
    """How the history of a resource is asked for.

    Args:
        found: the resource; it has spec.scaling.
        settings: how Prometheus is reached.
        url: of it.
        far_url: of one that keeps what is long ago; "" for that of the settings or the same.
        since_seconds: how much of it is wanted at least.
    """
    spec = found.readable_spec
    assert spec.scaling
    forecast, labels = spec.scaling.forecast, {**settings.for_url(url).series_labels, **spec.telemetry.labels}
    return Source(
        url,
        seconds(forecast.bin),
        max(since_seconds, forecast.history_seconds),
        seconds(spec.scaling.behavior.interval),
        queries.matchers(labels),
        far_url,
    )


async def read(reader: LoadReader, source: Source, found: Found, now_seconds: float) -> LoadHistory:
    """The whole history of a resource.

    Raises:
        Failed: there is no answer, or none that knows the resource.
    """
    url = source.url
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            history = await reader.history(source, found.key, now_seconds)
            while any("still being read" in gap for gap in history.gaps):
                history = await reader.history(source, found.key, now_seconds)
    except QueryFailed as failure:
        raise Failed(f"{url}: {failure}; is it the Prometheus of {found.key} (--prometheus-url)?") from failure
    except TimeoutError:
        raise Failed(f"{url} did not answer within {PATIENCE_SECONDS:g} s; ask for less: --since") from None
    if not history.past:
        raise Failed(f"{url} knows no load of {found.key}; is it its Prometheus (--prometheus-url)?")
    return history
