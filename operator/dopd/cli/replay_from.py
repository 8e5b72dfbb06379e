"""`dopd replay --from RESOURCE`: a resource's own history, before and after a change of its spec."""

import asyncio
import json
import sys
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

from dopd.api.base import seconds
from dopd.cli import resource
from dopd.cli.clusters import namespace_of
from dopd.cli.errors import DONE, FAILED, Failed, Refused
from dopd.cli.output import show
from dopd.cli.plan import read_manifest
from dopd.cli.prometheus_flags import connection_settings
from dopd.cli.resource import KIND, Found
from dopd.cluster import Kubernetes
from dopd.perf import EngineModel
from dopd.reconcile.observe import read_profiles
from dopd.reconcile.queue import Key
from dopd.replay.change_report import ChangeReport
from dopd.replay.own_history import Variant, replayed, trace_of
from dopd.telemetry import queries
from dopd.telemetry.connection import Connector
from dopd.telemetry.loads import LoadHistory, LoadReader, Source
from dopd.telemetry.prometheus import QueryFailed, Servers

TRACE_ALONE = ("html", "policies", "history", "equal_hours")
"""Options of `dopd replay` that go with a trace alone."""
PATIENCE_SECONDS = 300.0
"""So long a history may take to be read."""


def call(options: SimpleNamespace) -> int:
    """Read the history, replay it, print the report; 1 if the objective is missed in the end."""
    for name in TRACE_ALONE:
        if getattr(options, name) is not None:
            told = getattr(options, name)
            raise Refused(f"--{name.replace('_', '-')} {told}: expected a TRACE, and not --from; leave it out")
    found, after = _resources(options)
    variants = [_variant("before" if after else "as it is", found)]
    if after:
        variants.append(_variant("after", after))
    report = _report(options, found, variants)
    text = report.as_markdown()
    if options.report:
        options.report.write_text(text, encoding="utf-8")
    if options.json:
        options.json.write_text(json.dumps(_content(report), indent=1), encoding="utf-8")
    show(text.rstrip().splitlines())
    return DONE if report.reaches else FAILED


def _resources(options: SimpleNamespace) -> tuple[Found, Found | None]:
    """The resource, and what it is to become."""
    changed = read_manifest(options.spec) if options.spec else None
    key = Key(namespace_of(options), options.from_resource)

    async def look(kubernetes: Kubernetes) -> tuple[Found, Found | None]:
        found = await resource.find(kubernetes, key)
        if changed is None:
            return found, None
        profiles, model = await read_profiles(kubernetes, key, changed)
        if changed.scaling is None:  # static: of the profile that the resource has now
            model = found.model
        return found, replace(found, spec=changed, profiles=dict(profiles), model=model)

    found, after = resource.ask(options, look)
    return found, after


def _variant(name: str, found: Found) -> Variant:
    spec = found.readable_spec
    if not isinstance(found.model, EngineModel):
        told = found.model or "spec.scaling is absent, so that no EngineProfile is named; add it"
        raise Failed(f"{KIND} {found.key} {name}: {told}")
    plan = found.status.plan
    engine = found.model.corrected(plan.prefill.correction, plan.decode.correction) if plan else found.model
    return Variant(name, spec, engine, found.leads(), bool(plan and plan.on_time_first))


def _report(options: SimpleNamespace, found: Found, variants: list[Variant]) -> ChangeReport:
    now, since = resource.now().timestamp(), options.since
    history, url = asyncio.run(_history(options, found, now, since))
    begin = max(history.end_seconds - since, history.past[0].end_seconds - history.past[0].seconds)
    try:
        trace = trace_of(str(found.key), history.past, begin, options.seed)
        runs = []
        for variant in variants:
            print(f"{variant.name}: {len(trace):,} requests ...", file=sys.stderr, flush=True)
            before = tuple(one for one in history.past if one.end_seconds <= begin)
            runs.append((variant, replayed(variant, trace, before, begin)))
    except ValueError as error:
        raise Failed(f"{KIND} {found.key}: {error}") from error
    share = history.lengths.uncached_share if history.lengths else 1.0
    return ChangeReport(str(found.key), begin, trace, tuple(runs), url, history.gaps, share)


async def _history(
    options: SimpleNamespace, found: Found, now_seconds: float, since_seconds: float
) -> tuple[LoadHistory, str]:
    try:
        settings = connection_settings(options)
    except ValueError as error:
        raise Refused(str(error)) from error
    spec = found.readable_spec
    url = options.prometheus_url or spec.telemetry.prometheus_url or ""
    if not url:
        raise Refused(
            "--prometheus-url: missing, and spec.telemetry.prometheusURL names none; expected the URL of a Prometheus "
            "that can be reached from here: kubectl port-forward its Service, and give http://127.0.0.1:PORT"
        )
    assert spec.scaling
    forecast, labels = spec.scaling.forecast, {**settings.for_url(url).series_labels, **spec.telemetry.labels}
    source = Source(
        url,
        seconds(forecast.bin),
        max(since_seconds, forecast.history_seconds),
        seconds(spec.scaling.behavior.interval),
        queries.matchers(labels),
        options.prometheus_history_url or spec.telemetry.history_url or "",
    )
    reader = LoadReader(Servers(Connector(settings)))
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
    return history, url


def _content(report: ChangeReport) -> dict[str, Any]:
    return {
        "resource": report.resource,
        "requests": len(report.trace),
        "runs": {variant.name: asdict(result) for variant, result in report.runs},
    }
