"""What engines and gateways say."""

import asyncio
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.cluster.podhttp import PodHttpError
from dopd.perf.online import Counters
from dopd.telemetry import engines
from dopd.telemetry.doors import BadAnswer
from dopd.telemetry.engines import parse_loads, read_loads
from dopd.telemetry.gateway import parse_workers, read_gateways
from dopd.telemetry.stand_in import StandIn

from .test_answers import ANY_JSON


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
    assert view.registered("10.0.0.2:30000") is True
    assert view.roles == ({"10.0.0.1:30000": "prefill"},)
    assert view.registered("10.0.0.3:30000") is False


async def test_one_silent_gateway_makes_absence_unknown_and_presence_known():
    http = Pods({"gw-1": {"workers": [listed("10.0.0.1", "prefill")]}})
    view = await read_gateways(http, [pod("gw-1", "10.0.0.8"), pod("gw-2", "10.0.0.9")])
    assert view.registered("10.0.0.1:30000") is True
    assert view.registered("10.0.0.3:30000") is None
    assert view.silent == ("gw-2",)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "http://[::1]:8000"])
async def test_the_stand_in_of_a_gateway_is_no_worker(url: str):
    row = {**listed("10.0.0.1", "prefill", "draining"), "url": url, "id": "u-1", "model_id": "dopd-asleep"}
    http = Pods({"gw": {"workers": [row, listed("10.0.0.2", "decode"), listed("10.0.0.3", "decode", "draining")]}})
    view = await read_gateways(http, [pod("gw", "10.0.0.9")])
    assert view.roles == ({"10.0.0.2:30000": "decode"},)
    assert view.lists == {"gw": {"10.0.0.2:30000", "10.0.0.3:30000"}} == {"gw": view.listed}
    assert view.stand_ins == {"gw": StandIn("u-1", "dopd-asleep", going=True)}


async def test_a_gateway_without_an_address_lists_nobody():
    view = await read_gateways(Pods({}), [pod("gw", None)])
    assert view.registered("10.0.0.1:30000") is False


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "dictionary|object|valid"),
        ([None], "dictionary|object|valid"),
        ({}, "loads: Field required"),
        ({"loads": None}, "loads"),
        ({"loads": []}, "loads: List should have at least 1 item"),
        ({"loads": [None]}, r"loads\.0"),
        ({"loads": [rank(num_running_reqs=None)]}, r"loads\.0\.num_running_reqs"),
        ({"loads": [rank(num_running_reqs=math.inf)]}, r"loads\.0\.num_running_reqs"),
        ({"loads": [rank(num_waiting_reqs=10**400)]}, r"loads\.0\.num_waiting_reqs"),
        ({"loads": [rank(num_waiting_reqs=-1)]}, r"loads\.0\.num_waiting_reqs"),
        ({"loads": [rank(num_waiting_uncached_tokens="many")]}, r"loads\.0\.num_waiting_uncached_tokens"),
        ({"loads": [rank(token_usage=math.inf)]}, r"loads\.0\.token_usage"),
        ({"loads": [rank(queues=[])]}, r"loads\.0\.queues"),
        ({"loads": [rank(decode_moments=[1.0])]}, r"loads\.0\.decode_moments"),
        ({"loads": [rank(decode_moments=[1.0, 1.0, 1.0, 1.0, 1e300])]}, r"loads\.0\.decode_moments\.4"),
        ({"loads": [rank()] * 5000}, "loads: List should have at most"),
    ],
)
async def test_an_engine_that_answers_nonsense_is_named_with_the_field(answer: Any, words: str):
    with pytest.raises(BadAnswer, match=words):
        parse_loads(answer)
    loads = await read_loads(
        Pods({"a": {"loads": [rank()]}, "b": answer}), [pod("a", "10.0.0.1"), pod("b", "10.0.0.2")]
    )
    assert list(loads) == ["a"]
    assert list(loads.problems) == ["b"]


def test_what_an_older_engine_does_not_report_is_none():
    load = parse_loads({"loads": [{"num_running_reqs": 1, "num_waiting_reqs": 2, "token_usage": None, "queues": None}]})
    assert (load.running, load.waiting, load.waiting_tokens, load.kv_usage) == (1, 2, 0, 0.0)


@given(ANY_JSON, st.integers(0, 2))
def test_any_loads_are_read_or_refused_and_stay_finite(value: Any, depth: int):
    for wrap in (lambda inner: rank(num_running_reqs=inner, disaggregation=inner), lambda inner: {"loads": [inner]})[
        2 - depth :
    ]:
        value = wrap(value)
    try:
        load = parse_loads(value)
    except BadAnswer:
        return
    counters = load.counters
    numbers = (load.running, load.waiting, load.waiting_tokens, load.kv_usage, *counters.decode_moments)
    assert all(math.isfinite(number) and number >= 0 for number in numbers)


@pytest.mark.parametrize(
    "row",
    [
        None,
        [],
        "http://10.0.0.2:30000",
        {},
        {"worker_type": "decode"},
        {"url": None, "worker_type": "decode"},
        {"url": 1, "worker_type": "decode"},
        {"url": "", "worker_type": "decode"},
        {"url": "10.0.0.2", "worker_type": "decode"},
        {"url": "http://[::1", "worker_type": "decode"},
        {"url": "http://10.0.0.2:30000"},
        {"url": "http://10.0.0.2:30000", "worker_type": None},
        {"url": "http://10.0.0.2:30000", "worker_type": "decode", "status": 7},
    ],
)
async def test_a_row_that_can_not_be_read_makes_absence_unknown_and_the_others_stay(row: Any):
    http = Pods({"gw": {"workers": [listed("10.0.0.1", "prefill"), row]}})
    view = await read_gateways(http, [pod("gw", "10.0.0.9")])
    assert view.registered("10.0.0.1:30000") is True
    assert view.registered("10.0.0.3:30000") is None
    assert "workers.1" in view.problems["gw"]


@pytest.mark.parametrize("answer", [None, [], {"workers": None}, {"workers": {}}, {"workers": "x"}, {"error": "?"}])
async def test_what_is_no_list_of_workers_is_a_silent_gateway(answer: Any):
    view = await read_gateways(Pods({"gw": answer}), [pod("gw", "10.0.0.9")])
    assert view.silent == ("gw",)
    assert view.registered("10.0.0.1:30000") is None


@given(ANY_JSON, st.booleans())
def test_any_list_of_workers_is_read_or_refused(value: Any, wrapped: bool):
    try:
        workers = parse_workers({"workers": [value]} if wrapped else value)
    except BadAnswer:
        return
    assert all(isinstance(address, str) and address for address in workers.listed)


async def test_engines_that_hang_are_absent_and_the_others_are_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engines, "LOOK_SECONDS", 0.05)

    class Hanging(Pods):
        async def get_json(self, pod: dict[str, Any], *arguments: Any) -> Any:
            if pod["metadata"]["name"] == "b":
                await asyncio.Event().wait()
            return await super().get_json(pod, *arguments)

    http = Hanging({"a": {"loads": [rank()]}, "c": {"loads": [rank()]}})
    loads = await read_loads(http, [pod(name, "10.0.0.1") for name in "abc"])
    assert sorted(loads) == ["a", "c"]
    assert "no answer within" in loads.problems["b"]


def test_counters_are_summed_over_ranks():
    rank = {
        "num_running_reqs": 0,
        "num_waiting_reqs": 0,
        "total_prefill_uncached_tokens": 500,
        "total_prefill_busy_us": 2_000_000,
        "decode_moments": [10, 20, 3_000_000, 40, 6_000_000, 99],
    }
    older = {"num_running_reqs": 0, "num_waiting_reqs": 0}
    counters = parse_loads({"loads": [rank, rank, older]}).counters
    assert counters == Counters(1000.0, 4.0, (20.0, 40.0, 6.0, 80.0, 12.0))
