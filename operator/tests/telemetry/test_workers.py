"""What engines and gateways say."""

from typing import Any

import pytest

from dopd.cluster.podhttp import PodHttpError
from dopd.telemetry.engines import parse_loads, read_loads
from dopd.telemetry.gateway import read_gateways


def pod(name: str, ip: str | None) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "ns"}, "status": {"podIP": ip} if ip else {}}


class Pods:
    """Pods that answer by name; the others do not."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers

    async def get_json(self, pod: dict[str, Any], port: int, path: str, query: dict[str, str] | None = None) -> Any:
        try:
            return self.answers[pod["metadata"]["name"]]
        except KeyError:
            raise PodHttpError("no answer") from None


def rank(**changes: Any) -> dict[str, Any]:
    fields = {"num_running_reqs": 0, "num_waiting_reqs": 0, "num_waiting_uncached_tokens": 0, "token_usage": 0.0}
    return {**fields, "disaggregation": {"mode": "decode"}, "queues": {"waiting": 0, "prealloc_ready": 0}, **changes}


@pytest.mark.parametrize(
    ("ranks", "idle"),
    [
        ([rank()], True),
        ([rank(), rank(num_running_reqs=1)], False),
        ([rank(num_waiting_reqs=1)], False),
        ([rank(disaggregation={"prefill_inflight_queue_reqs": 2})], False),
        ([rank(disaggregation=None)], True),
        ([rank(), rank(num_waiting_uncached_tokens=8052, token_usage=0.0915)], False),
        ([rank(token_usage=0.1527)], False),
        ([rank(token_usage=0.0002)], True),
        ([rank(timestamp=1795976700.5)], True),
        ([rank(timestamp=1795976700.5), rank(timestamp=1795976697.4)], False),
    ],
)
def test_idle_means_nothing_in_any_queue_or_pass_of_any_rank(ranks: list[dict[str, Any]], idle: bool):
    """Numbers of SGLang 0.5.23 in a prompt of 12,000 tokens: its first pass shows by the age of the snapshot alone."""
    assert parse_loads({"timestamp": "2026-11-29T18:25:01.5+00:00", "loads": ranks}).idle is idle


def test_an_engine_that_tells_no_time_is_idle_by_its_queues():
    assert parse_loads({"loads": [rank(timestamp=1.0)]}).idle
    assert parse_loads({"timestamp": None, "loads": [rank()]}).idle


def test_requests_that_wait_for_their_prefill_are_no_backlog_of_decode():
    awaited = rank(
        num_waiting_reqs=5, disaggregation={"decode_prealloc_queue_reqs": 2, "decode_transfer_queue_reqs": 3}
    )
    assert parse_loads({"loads": [awaited]}).waiting_for_slot == 0
    starved = rank(
        num_waiting_reqs=4,
        disaggregation={"decode_prealloc_queue_reqs": 2, "decode_retracted_queue_reqs": 1},
        queues={"waiting": 1, "prealloc_ready": 2},
    )
    assert parse_loads({"loads": [starved]}).waiting_for_slot == 4


async def test_an_engine_that_does_not_answer_or_answers_nonsense_is_absent():
    no_number = {"loads": [rank(), rank(token_usage=float("nan"))]}
    no_counter = {"loads": [rank(decode_moments=[1, 1, float("nan"), 1, 1])]}
    http = Pods({"a": {"loads": [rank(num_running_reqs=3)]}, "b": {"error": "?"}, "d": no_number, "e": no_counter})
    loads = await read_loads(http, [pod(name, f"10.0.0.{i}") for i, name in enumerate("abcde")])
    assert {name: load.running for name, load in loads.items()} == {"a": 3}


def listed(ip: str, role: str, status: str = "ready") -> dict[str, Any]:
    return {"url": f"http://{ip}:30000", "worker_type": role, "status": status}


async def test_a_worker_that_drains_is_listed_and_gets_no_requests():
    http = Pods({"gw": {"workers": [listed("10.0.0.1", "prefill"), listed("10.0.0.2", "decode", "draining")]}})
    view = await read_gateways(http, [pod("gw", "10.0.0.9")])
    assert view.registered("10.0.0.2") is True
    assert view.roles == ({"10.0.0.1": "prefill"},)
    assert view.registered("10.0.0.3") is False


async def test_one_silent_gateway_makes_absence_unknown_and_presence_known():
    http = Pods({"gw-1": {"workers": [listed("10.0.0.1", "prefill")]}})
    view = await read_gateways(http, [pod("gw-1", "10.0.0.8"), pod("gw-2", "10.0.0.9")])
    assert view.registered("10.0.0.1") is True
    assert view.registered("10.0.0.3") is None
    assert view.silent == ("gw-2",)


async def test_a_gateway_without_an_address_lists_nobody():
    view = await read_gateways(Pods({}), [pod("gw", None)])
    assert view.registered("10.0.0.1") is False
