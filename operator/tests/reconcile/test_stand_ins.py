"""Which gateways of a resource that sleeps, wakes or serves have a stand-in, of which model, and how it is written."""

from dataclasses import replace
from typing import Any

import pytest

from dopd.api.names import Role
from dopd.cluster import PodHttpError
from dopd.reconcile import pods as pod_reading
from dopd.reconcile.observe import Observed
from dopd.reconcile.stand_ins import wanted_stand_ins, write_stand_ins
from dopd.telemetry.stand_in import ASIDE, StandIn

from .test_conditions import IDLE_SPEC, IPS, SPEC, look, pod

GATEWAY = "m-router-x"
MODEL = IDLE_SPEC["model"]
P, D = (IPS[role] for role in ("prefill", "decode"))
BOTH = ("prefill", "decode")


def seen(
    labelled: tuple[str, ...] = (),
    routed: tuple[str, ...] = (),
    draining: tuple[str, ...] = (),
    there: StandIn | None = None,
    spec: dict[str, Any] = IDLE_SPEC,
) -> Observed:
    """Workers with their label, those that the gateway sends to, those that it still lists, and its stand-in."""
    pods = [pod(role) for role in BOTH]
    for one in pods:
        if one["metadata"]["labels"]["dopd.dev/pool"] not in labelled:
            del one["metadata"]["labels"]["dopd.dev/role"]
    observed = look(*pods, pod("router", ready=False), listed={IPS[role]: role for role in routed}, spec=spec)
    lists = {GATEWAY: frozenset(f"{IPS[role]}:30000" for role in (*routed, *draining))}
    gateway = replace(observed.gateway, lists=lists, stand_ins={GATEWAY: there} if there else {})
    workers = {role: [pod_reading.worker(p, gateway, None) for p in observed.pods[role]] for role in Role}
    return replace(observed, gateway=gateway, workers=workers, control_key="k")


INERT, OF_MODEL = StandIn("1", ASIDE), StandIn("1", MODEL)


@pytest.mark.parametrize(
    ("observed", "model"),
    [
        pytest.param(seen(BOTH, BOTH), "", id="serves"),
        pytest.param(seen(BOTH, BOTH, there=INERT), "", id="serves again"),
        pytest.param(seen(routed=BOTH), MODEL, id="labels are off, and the gateway has not noticed"),
        pytest.param(seen(draining=BOTH), MODEL, id="drains"),
        pytest.param(seen(draining=("decode",), there=OF_MODEL), MODEL, id="one drains for longer"),
        pytest.param(seen(there=OF_MODEL), ASIDE, id="asleep"),
        pytest.param(seen(), ASIDE, id="asleep, and the gateway began anew"),
        pytest.param(seen(BOTH, there=INERT), ASIDE, id="ready, and not listed yet"),
        pytest.param(seen(BOTH, ("decode",), there=INERT), ASIDE, id="the first role is there"),
        pytest.param(seen(BOTH, ("decode",)), "", id="a worker is missing, and nobody slept"),
        pytest.param(seen(("decode",), ("decode",), ("prefill",), OF_MODEL), ASIDE, id="one role came back early"),
        pytest.param(seen(BOTH, draining=BOTH, there=OF_MODEL), MODEL, id="woken while all drain"),
        pytest.param(seen(spec=SPEC), "", id="without the field"),
        pytest.param(seen(spec=SPEC, there=INERT), "", id="the field was removed"),
    ],
)
def test_the_model_of_a_gateways_stand_in(observed: Observed, model: str):
    assert wanted_stand_ins(observed) == {GATEWAY: model}


def test_a_second_gateway_that_lists_nobody_needs_none_while_the_first_serves():
    observed = seen(BOTH, BOTH)
    gateway = replace(observed.gateway, roles=(*observed.gateway.roles, {}), answered=(GATEWAY, "m-router-y"))
    assert wanted_stand_ins(replace(observed, gateway=gateway)) == {GATEWAY: "", "m-router-y": ""}


class Gateway:
    """Answers with a status, or not at all; keeps what it was asked."""

    def __init__(self, status: int = 202) -> None:
        self.status, self.asked = status, []

    async def write_json(self, pod: Any, port: int, method: str, path: str, body: Any, _: float) -> tuple[int, Any]:
        self.asked.append((pod["metadata"]["name"], port, method, path, body and body["models"]))
        if not self.status:
            raise PodHttpError("pod m-router-x /workers: refused")
        return self.status, {"error": "?"}


@pytest.mark.parametrize(
    ("observed", "asked"),
    [
        (seen(), ("POST", "/workers", [{"id": ASIDE, "aliases": [MODEL]}])),
        (seen(draining=BOTH), ("POST", "/workers", [{"id": MODEL}])),
        (seen(there=OF_MODEL), ("PUT", "/workers/1", [{"id": ASIDE, "aliases": [MODEL]}])),
        (seen(BOTH, BOTH, there=INERT), ("DELETE", "/workers/1", None)),
    ],
    ids=["added", "added while workers drain", "changed", "removed"],
)
async def test_it_is_written_where_it_differs(observed: Observed, asked: tuple[Any, ...]):
    gateway = Gateway()
    assert await write_stand_ins(gateway, observed) == []
    assert gateway.asked == [(GATEWAY, 8000, *asked)]


@pytest.mark.parametrize(
    "observed",
    [seen(there=INERT), seen(BOTH, BOTH), seen(draining=BOTH, there=OF_MODEL), seen(there=replace(INERT, going=True))],
    ids=["asleep", "serves", "drains", "the one before is going"],
)
async def test_nothing_is_written_where_it_is_as_it_should_be(observed: Observed):
    gateway = Gateway()
    assert await write_stand_ins(gateway, observed) == []
    assert gateway.asked == []


@pytest.mark.parametrize(("status", "told"), [(409, False), (404, False), (401, True), (500, True), (0, True)])
async def test_a_gateway_that_refuses_it_is_told(status: int, told: bool):
    troubles = await write_stand_ins(Gateway(status), seen())
    assert [GATEWAY in trouble.message for trouble in troubles] == [True] * told
