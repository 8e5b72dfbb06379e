"""The look at start: every resource that scales, and a line in the log for each problem."""

import copy
import logging
from typing import Any

import pytest

from dopd.cluster import ApiError, kinds
from dopd.reconcile import selfcheck
from dopd.reconcile.selfcheck import check_resources, log_problems
from dopd.telemetry.connection import Connector
from dopd.telemetry.selfcheck import Verdict, Wanted

NOWHERE = "http://127.0.0.1:1"
BOUNDS = {"min": 1, "max": 2}
SCALING = {"prefill": BOUNDS, "decode": BOUNDS, "profileRef": {"name": "p"}}


def resource(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "ns", "name": name},
        "spec": {
            "model": "m",
            "engine": {"image": "e"},
            "prefill": {"gpus": 1},
            "decode": {"gpus": 1},
            "router": {"image": "r"},
            "scaling": copy.deepcopy(SCALING),
            **spec,
        },
    }


class Cluster:
    """An API server with some resources and no profile."""

    def __init__(self, *resources: dict[str, Any]) -> None:
        self.resources = resources

    async def list(self, kind: Any, namespace: str | None, _selector: str = "") -> list[dict[str, Any]]:
        if namespace == "forbidden":
            raise ApiError(403, "Forbidden", "may not list")
        return list(self.resources) if kind is kinds.INFERENCE else []

    async def get(self, *_: Any) -> None:
        return None


async def checks(*resources: dict[str, Any], namespaces: tuple[str, ...] = ()) -> dict[str, tuple[Verdict, str]]:
    found = [check async for check in check_resources(Cluster(*resources), namespaces, Connector())]  # type: ignore[arg-type]
    return {f"{check.subject} {check.name}": (check.verdict, str(check)) for check in found}


async def test_what_does_not_scale_needs_no_telemetry():
    static = resource("static", scaling=None)
    static["spec"]["prefill"]["replicas"] = static["spec"]["decode"]["replicas"] = 1
    paused = resource("paused")
    paused["spec"]["scaling"]["mode"] = "Paused"
    found = await checks(static, paused)
    assert {name: verdict for name, (verdict, _) in found.items()} == {
        "ns/static load": Verdict.SKIPPED,
        "ns/paused load": Verdict.SKIPPED,
    }


@pytest.mark.parametrize(
    ("spec", "name", "words"),
    [
        ({"engine": {}}, "ns/m spec", "spec.engine.image"),
        ({}, "ns/m profile", "has none of that name"),
        ({"apiKey": {"name": "s"}}, "ns/m API key", "key key of Secret s does not exist in namespace ns; create it"),
        ({}, "ns/m Prometheus", "none is named, expected a URL. Set spec.telemetry.prometheusURL"),
        ({"telemetry": {"prometheusURL": NOWHERE}}, f"{NOWHERE} connection", "refused"),
        ({"telemetry": {"prometheusURL": "http://c:99999"}}, "http://c:99999 connection", "not a URL such as"),
    ],
)
async def test_what_keeps_the_load_from_being_read(spec: dict[str, Any], name: str, words: str):
    verdict, text = (await checks(resource("m", **spec)))[name]
    assert verdict is Verdict.FAIL
    assert words in text


@pytest.mark.parametrize(("reason", "asleep"), [("Asleep", True), ("AsExpected", False)])
async def test_of_one_that_sleeps_no_series_of_workers_are_expected(
    monkeypatch: pytest.MonkeyPatch, reason: str, asleep: bool
):
    seen: list[Wanted] = []
    monkeypatch.setattr(
        selfcheck, "check_prometheus", lambda _client, _url, wanted, _now: seen.extend(wanted) or iter(())
    )
    one = resource("m", telemetry={"prometheusURL": NOWHERE}, scaling={**SCALING, "idle": {"after": "30m"}})
    ready = {"type": "Ready", "status": "True", "reason": reason, "lastTransitionTime": "2026-01-01T00:00:00Z"}
    one["status"] = {"conditions": [ready]}
    await checks(one)
    assert [wanted.asleep for wanted in seen] == [asleep]


async def test_resources_that_may_not_be_listed_hide_no_others():
    found = await checks(resource("m"), namespaces=("forbidden", "ns"))
    assert "403 Forbidden: may not list" in found["forbidden resources"][1]
    assert "ns/m profile" in found


async def test_no_resources():
    assert (await checks())["any namespace resources"][0] is Verdict.SKIPPED


async def test_the_log_has_a_line_for_each_problem(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    await log_problems(Cluster(resource("m")), (), Connector())  # type: ignore[arg-type]
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "INFO"]
    assert "self-check: 2 problems in 2 checks" in caplog.messages[-1]


async def test_a_look_that_fails_stops_nothing(caplog: pytest.LogCaptureFixture):
    await log_problems(None, (), Connector())  # type: ignore[arg-type]
    assert caplog.messages == ["self-check not finished"]
