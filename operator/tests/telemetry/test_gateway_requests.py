"""Requests that a gateway has counted, among all else that SMG 1.13.0 exports."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.api.names import ROUTER_METRICS_PORT
from dopd.cluster.podhttp import PodHttpError
from dopd.telemetry.doors import BadAnswer
from dopd.telemetry.gateway_requests import parse_requests, read_requests

WITHOUT_WORKERS = """# TYPE smg_router_requests_total counter
smg_router_requests_total{router_type="http",backend_type="pd",model="unknown",endpoint="generate",streaming="true"} 1
smg_router_requests_total{router_type="http",backend_type="pd",model="m",endpoint="chat",streaming="false"} 2

# TYPE smg_http_responses_total counter
smg_http_responses_total{path="/v1/chat/completions",status_code="503",error_code="no_available_workers"} 2
smg_http_responses_total{path="/readiness",status_code="503",error_code=""} 900
# TYPE smg_router_requests_total_of_another counter
smg_router_requests_total_of_another 77
"""
"""What it exports after three requests that it refused, and many probes; recorded, and shortened."""


@pytest.mark.parametrize(
    ("text", "count"),
    [(WITHOUT_WORKERS, 3.0), ("", 0.0), ("# TYPE smg_http_responses_total counter\n", 0.0)],
)
def test_refused_requests_count_and_probes_do_not(text: str, count: float):
    assert parse_requests(text) == count


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('smg_router_requests_total{a="b} 1', "smg_router_requests_total"),
        ("smg_router_requests_total NaN", "finite"),
        ("smg_router_requests_total -1", ">= 0"),
        ("smg_router_requests_total +Inf", "finite"),
        ("smg_router_requests_total 1\n" * 2000, "more than 1000 lines"),
        (f'smg_router_requests_total{{model="{"x" * 2000}"}} 1', "longer"),
    ],
)
def test_anything_else_is_refused_whole(text: str, words: str):
    with pytest.raises(BadAnswer, match=words):
        parse_requests(text)


@given(st.text(max_size=60))
def test_whatever_a_gateway_says_is_a_count_or_refused(text: str):
    with contextlib.suppress(BadAnswer):
        assert parse_requests(f"smg_router_requests_total{{{text}") >= 0


class Pods:
    """Gateways that answer, by uid; others refuse."""

    def __init__(self, **texts: str) -> None:
        self.texts, self.asked = texts, set[tuple[int, str]]()

    async def get_json(self, pod: dict[str, Any], port: int, path: str, query: dict[str, str] | None = None) -> Any:
        raise NotImplementedError

    async def get_text(self, pod: dict[str, Any], port: int, path: str) -> str:
        self.asked.add((port, path))
        try:
            return self.texts[pod["metadata"]["uid"]]
        except KeyError:
            raise PodHttpError("refused") from None


def gateway(uid: str, ip: str = "10.0.0.1") -> dict[str, Any]:
    return {"metadata": {"name": uid, "uid": uid}, "status": {"podIP": ip} if ip else {}}


async def test_each_gateway_is_asked_and_one_that_does_not_tell_is_not_known():
    pods = Pods(a=WITHOUT_WORKERS, b="", c="smg_router_requests_total NaN")
    counts = await read_requests(pods, [gateway(uid) for uid in "abcd"] + [gateway("e", ip="")])
    assert counts == {"a": 3.0, "b": 0.0, "c": None, "d": None}
    assert pods.asked == {(ROUTER_METRICS_PORT, "/metrics")}
