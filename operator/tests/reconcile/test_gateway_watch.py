"""What a gateway lists otherwise than the pods are: named, and told once it has lasted."""

import copy
import itertools

import pytest

from dopd.api.conditions import ConditionReason, ConditionStatus, ConditionType
from dopd.api.names import Role
from dopd.reconcile import conditions
from dopd.reconcile.gateway_watch import LASTING_SECONDS, Difference, GatewayWatch, differences
from dopd.reconcile.queue import Key

from .test_conditions import ALL_WELL, IPS, ONE_EACH, look, pod

KEY = Key("ns", "m")
PREFILL, DECODE = IPS["prefill"], IPS["decode"]
FAULTS = {
    "stale": (
        {PREFILL: "prefill", DECODE: "decode", "10.0.0.9": "decode"},
        "lists decode 10.0.0.9:30000",
    ),
    "missing": ({PREFILL: "prefill"}, "does not list decode m-decode-x"),
    "wrong role": ({PREFILL: "prefill", DECODE: "prefill"}, "lists m-decode-x as prefill and not as decode"),
    "empty memory": ({}, "does not list decode m-decode-x; m-router-x does not list prefill m-prefill-x"),
}


@pytest.mark.parametrize(("listed", "words"), FAULTS.values(), ids=FAULTS)
def test_a_difference_that_lasts_is_told_with_names_and_its_repair(listed: dict[str, str], words: str):
    observed, watch = look(*ALL_WELL, listed=listed), GatewayWatch()

    def told(now_seconds: float) -> conditions.Finding:
        lasting = watch.lasting(KEY, differences(observed), now_seconds)
        found = conditions.findings(observed, (), None, ONE_EACH, None, lasting)
        return next(f for f in found if f.type is ConditionType.ROUTER_IN_SYNC)

    assert told(0.0).reason is ConditionReason.NOT_REGISTERED
    late = told(LASTING_SECONDS)
    assert (late.status, late.reason) == (ConditionStatus.FALSE, ConditionReason.ROUTER_OUT_OF_SYNC)
    assert f"m-router-x {words}" in late.message
    assert "kubectl delete pod m-router-x" in late.message


def test_a_difference_that_went_meanwhile_counts_anew():
    watch, one = GatewayWatch(), Difference("m-router-x", "m-decode-x", "", "decode")
    assert watch.lasting(KEY, [one], 0.0) == []
    assert watch.lasting(KEY, [], 5.0) == []
    assert watch.lasting(KEY, [one], 6.0) == []
    assert watch.lasting(KEY, [one], 6.0 + LASTING_SECONDS) == [one]


def test_of_two_gateways_that_disagree_the_one_that_is_wrong_is_named():
    observed = look(*ALL_WELL)
    good = observed.gateway.roles[0]
    object.__setattr__(observed.gateway, "roles", (good, {f"{PREFILL}:30000": "prefill"}))
    object.__setattr__(observed.gateway, "answered", ("m-router-a", "m-router-b"))
    assert differences(observed) == [Difference("m-router-b", "m-decode-x", "", "decode")]


def test_a_worker_that_is_being_deleted_is_named_where_it_is_still_listed():
    going = copy.deepcopy(pod("decode"))
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    observed = look(pod("prefill"), pod("router"))
    observed.ending[Role.DECODE].append(going)  # type: ignore[attr-defined]
    assert differences(observed) == [Difference("m-router-x", "m-decode-x", "decode", "")]


def test_a_gateway_that_is_wrong_again_is_replaced_ever_more_seldom():
    watch, now, times = GatewayWatch(), 0.0, []
    since = now
    while now < 4 * 3600.0:
        found = [Difference(f"m-router-{len(times)}", "m-decode-x", "", "decode")] if now - since >= 5.0 else []
        watch.lasting(KEY, found, now)
        if watch.overdue(KEY, now):
            watch.repaired(KEY, 1, now)
            times.append(now)
            since = now
        now += 1.0
    pauses = [b - a for a, b in itertools.pairwise(times)]
    assert pauses[:4] == [65.0, 125.0, 245.0, 485.0]
    assert max(pauses) < 2000.0
