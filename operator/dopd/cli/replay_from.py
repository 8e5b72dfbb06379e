"""`dopd replay --from RESOURCE`: a resource's own history, before and after a change of its spec."""

import asyncio
import json
import sys
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

from dopd.cli import resource
from dopd.cli.errors import DONE, FAILED, Failed, Refused
from dopd.cli.manifests import read_manifest
from dopd.cli.output import show
from dopd.cli.prometheus_flags import connection_settings
from dopd.cli.resource import KIND, Found
from dopd.cli.resource_history import read, source_of, variant_of
from dopd.replay.change_report import ChangeReport
from dopd.replay.own_history import Variant, replayed, trace_of
from dopd.telemetry.connection import Connector
from dopd.telemetry.loads import LoadHistory, LoadReader
from dopd.telemetry.prometheus import Servers


def call(options: SimpleNamespace) -> int:
    """Read the history, replay it, print the report; 1 if the objective is missed in the end."""
    changed = read_manifest(options.spec) if options.spec else None
    found, after = resource.before_and_after(options, options.from_resource, changed)
    variants = [variant_of("before" if after else "as it is", found)]
    if after:
        variants.append(variant_of("after", after))
    report = _report(options, found, variants)
    text = report.as_markdown()
    if options.report:
        options.report.write_text(text, encoding="utf-8")
    if options.json:
        options.json.write_text(json.dumps(_content(report), indent=1), encoding="utf-8")
    show(text.rstrip().splitlines())
    return DONE if report.reaches else FAILED


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
    url = options.prometheus_url or found.readable_spec.telemetry.prometheus_url or ""
    if not url:
        raise Refused(
            "--prometheus-url: missing, and spec.telemetry.prometheusURL names none; expected the URL of a Prometheus "
            "that can be reached from here: kubectl port-forward its Service, and give http://127.0.0.1:PORT"
        )
    far_url = options.prometheus_history_url or found.readable_spec.telemetry.history_url or ""
    source = source_of(found, settings, url, far_url, since_seconds)
    return await read(LoadReader(Servers(Connector(settings))), source, found, now_seconds), url


def _content(report: ChangeReport) -> dict[str, Any]:
    return {
        "resource": report.resource,
        "requests": len(report.trace),
        "runs": {variant.name: asdict(result) for variant, result in report.runs},
    }
