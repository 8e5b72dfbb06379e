"""What a real Prometheus makes of the queries: resets, copies, silence; and of those of the dashboard."""

import asyncio
import json
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dopd.api.conditions import ConditionReason
from dopd.telemetry.loads import LoadReader, Source
from dopd.telemetry.prometheus import QueryFailed
from dopd.telemetry.queries import DECODED, INSTANCE
from e2e.load import BackgroundLoad, Schedule, Target
from e2e.stack import CHART, Stack, wait_for
from e2e.tests.conftest import Apply, until_ready
from e2e.tests.resources import MODEL, auto

Json = dict[str, Any]
DASHBOARD = json.loads((Path(CHART) / "dashboards" / "dopd.json").read_text())
REFUSED = "dopd_prefill_refused"
RATE = 20.0
EXPORTER = """
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
ZERO = time.time()
class Metrics(BaseHTTPRequestHandler):
    def do_GET(self):
        requests = RATE * ((time.time() - ZERO) % RESETS_EVERY)
        body = SILENT or f"# TYPE smg_router_requests_total counter\\nsmg_router_requests_total {requests}\\n"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body.encode())
HTTPServer(("", 29000), Metrics).serve_forever()
"""


def exporter(name: str, *, again: str = "", resets_every: float = 1e9, silent: bool = False) -> Json:
    """A pod that Prometheus takes for the gateway of a resource of that name, with a steady rate of requests."""
    extra = {"e2e/scraped-again": again} if again else {}
    quiet = '"# TYPE up_to_now gauge\\nup_to_now 1\\n"' if silent else '""'
    code = EXPORTER.replace("RATE", str(RATE)).replace("RESETS_EVERY", str(resets_every)).replace("SILENT", quiet)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {"dopd.dev/instance": name, "dopd.dev/pool": "router", **extra},
        },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "containers": [
                {
                    "name": "exporter",
                    "image": "dopd.dev/prometheus:2.42",
                    "imagePullPolicy": "Never",
                    "command": ["python3", "-c", code],
                    "ports": [{"name": "metrics", "containerPort": 29000}],
                }
            ],
        },
    }


PODS = {
    "steady": exporter("steady"),
    "resetting": exporter("resetting", resets_every=4.0),
    "silent": exporter("silent", silent=True),
    "twice": exporter("twice", again="same"),
    "doubled": exporter("doubled", again="other"),
}


@pytest.fixture(scope="module", autouse=True)
def exporters(stack: Stack) -> Iterator[None]:
    """All of them, scraped for longer than the window of the present."""
    stack.apply(*PODS.values())
    began = time.monotonic()
    wait_for(lambda: asyncio.run(rate(stack, "steady")) > 0.9 * RATE, "the exporters are scraped", timeout_seconds=60)
    time.sleep(max(0.0, 15 - (time.monotonic() - began)))
    yield
    stack.kubectl("delete", "pods", *PODS, "--wait=false")


async def rate(stack: Stack, name: str) -> float:
    """The present of a resource, as the operator reads it; -1 when it is not scraped yet."""
    source = Source(stack.prometheus_url, bin_seconds=2.0, history_seconds=60.0, interval_seconds=3.0)
    try:
        found = await LoadReader().now(source, ("default", name), time.time(), ttft_seconds=1.0, itl_seconds=0.01)
    except QueryFailed as failure:
        if failure.reason is ConditionReason.NOT_SCRAPED:
            return -1.0
        raise
    return found.requests_per_second


async def test_a_steady_rate(stack: Stack) -> None:
    assert await rate(stack, "steady") == pytest.approx(RATE, rel=0.15)


async def test_a_counter_that_starts_anew_makes_no_jump(stack: Stack) -> None:
    # What came between the last scrape and the reset is lost; nothing is added.
    assert 0.5 * RATE < await rate(stack, "resetting") < 1.15 * RATE


async def test_a_gateway_that_counted_nothing_yet_is_a_healthy_zero(stack: Stack) -> None:
    assert await rate(stack, "silent") == 0.0


async def test_nobody_there_is_no_zero(stack: Stack) -> None:
    assert await rate(stack, "nobody") == -1.0


async def test_a_pod_that_two_jobs_scrape_counts_once(stack: Stack) -> None:
    assert await rate(stack, "twice") == pytest.approx(RATE, rel=0.15)


async def test_copies_that_can_not_be_told_are_refused(stack: Stack) -> None:
    with pytest.raises(QueryFailed, match="2 series of each gateway") as failure:
        await rate(stack, "doubled")
    assert failure.value.reason is ConditionReason.DUPLICATE_SERIES


def test_the_queries_of_the_dashboard(stack: Stack, apply: Apply) -> None:
    name = apply(auto("shown"))
    until_ready(stack, name)
    load = Schedule.steady(requests_per_second=10, seconds=90, input_tokens=500, output_tokens=64)
    with BackgroundLoad(Target(stack.gateway_url, MODEL), load) as playing:
        # A steady load may leave the forecast no better than the last value, and then there is none to show.
        # No bound bites then, either, and nothing may be amiss.
        # Simulated engines export a part of what the plugin does, and refuse no prompt. No batch runs, and no replay.
        absent = (REFUSED, "dopd_prefill_batch_", "dopd_counterfactual_")
        allowed = {"Changes", "Role changes", "Forecast", "Limited by", "Not as expected"} | {
            title for title, query in queries() if any(name in query for name in absent)
        }
        wait_for(
            lambda: {title for title, query in queries() if not shown(stack, name, query)} <= allowed,
            "every other panel shows something",
            timeout_seconds=60,
            every_seconds=2,
        )
        # Prefill makes the first of the 64 tokens.
        wait_for(
            lambda: decoded(stack, name) == pytest.approx(10 * 63, rel=0.1),
            "decode's tokens are counted",
            timeout_seconds=60,
        )
        playing.stop()
        assert playing.lost == []


def decoded(stack: Stack, name: str) -> float:
    """Tokens per second that the decode workers of a resource make, by the operator's query; 0 without any."""
    found = asked(stack, DECODED.promql("9s"))
    return sum(float(item["value"][1]) for item in found if item["metric"][INSTANCE] == name)


def queries() -> list[tuple[str, str]]:
    """Title of the panel and PromQL."""
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    return [(panel["title"], target["expr"]) for panel in panels for target in panel["targets"]]


def shown(stack: Stack, name: str, query: str) -> list[float]:
    """What a panel shows for a resource."""
    values = {
        "$namespace": "default",
        "$inference": name,
        "$__rate_interval": "20s",
        "$__range_s": "60",
        "$__range": "60s",
    }
    for variable, value in values.items():
        query = query.replace(variable, value)
    if "{" not in query and query.startswith("dopd_"):
        query = f'{query}{{inference="{name}"}}'
    return [float(item["value"][1]) for item in asked(stack, query)]


def asked(stack: Stack, query: str) -> list[Json]:
    """What Prometheus answers; an error fails the test."""
    url = f"{stack.prometheus_url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        body = json.load(answer)
    assert body["status"] == "success", body
    found: list[Json] = body["data"]["result"]
    return found
