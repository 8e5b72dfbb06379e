"""Groups of pods as one worker: whatever their pods are, it is as far as the least of them."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.api.conditions import ConditionReason
from dopd.api.names import Role
from dopd.reconcile import pods as pod_reading
from dopd.reconcile.groups import Group, as_workers, group_of
from dopd.reconcile.pods import FAILED_STARTS, OVERDUE_SECONDS
from dopd.rollout import Worker
from dopd.telemetry.gateway import GatewayView
from dopd.workloads import Owner

Json = dict[str, Any]
OWNER = Owner("m", "ns", "u")
NAME = "m-prefill-1234abcd-0"
BORN = "2026-01-01T00:00:00Z"
NODES = 3
NOBODY = GatewayView(frozenset(), (), ())
LABELS = {"dopd.dev/instance": "m", "dopd.dev/pool": "prefill", "dopd.dev/revision": "1234abcd"}


def made_by(**annotations: str) -> Json:
    meta = {"name": NAME, "namespace": "ns", "uid": "lws", "creationTimestamp": BORN, "labels": LABELS}
    meta |= {"annotations": {"dopd.dev/gpus": "24", **annotations}}
    return {"metadata": meta, "spec": {"leaderWorkerTemplate": {"size": NODES}}}


def pod(number: int, *, node: bool = True, ready: bool = True, ending: bool = False, role: bool = True) -> Json:
    name = f"{NAME}-0" if number == 0 else f"{NAME}-0-{number}"
    labels = {**LABELS, "leaderworkerset.sigs.k8s.io/name": NAME}
    if number == 0 and role:
        labels["dopd.dev/role"] = "prefill"
    by = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": NAME if number == 0 else f"{NAME}-0"}
    annotations = {"dopd.dev/owner-uid": "u", "dopd.dev/gpus": "24", "leaderworkerset.sigs.k8s.io/size": str(NODES)}
    meta: Json = {"name": name, "uid": f"uid-{number}", "creationTimestamp": "2026-01-01T00:01:00Z", "labels": labels}
    meta |= {"annotations": annotations, "ownerReferences": [{**by, "controller": True, "uid": "sts"}]}
    if ending:
        meta["deletionTimestamp"] = "2026-01-01T00:10:00Z"
    status: Json = {"podIP": f"10.0.0.{number + 1}", "conditions": [{"type": "PodScheduled", "status": str(node)}]}
    status["conditions"].append({"type": "Ready", "status": str(ready and node)})
    spec: Json = {"containers": [{"name": "engine"}], **({"nodeName": f"n{number}"} if node else {})}
    return {"metadata": meta, "spec": spec, "status": status}


def seen(pods: list[Json], item: Json | None) -> Json:
    (one,) = as_workers(pods, [item] if item else [], OWNER)
    return one


def worker(pods: list[Json], item: Json | None = None) -> Worker:
    return pod_reading.worker(seen(pods, item or made_by()), NOBODY, None)


STATES = st.fixed_dictionaries({"node": st.booleans(), "ready": st.booleans(), "ending": st.booleans()})


@given(st.dictionaries(st.integers(0, NODES - 1), STATES, max_size=NODES), st.booleans())
def test_a_group_is_as_far_as_the_least_of_its_pods(states: dict[int, dict[str, bool]], drains: bool):
    pods = [pod(number, **state) for number, state in states.items()]
    one = worker(pods, made_by(**({"dopd.dev/draining-since": BORN} if drains else {})))
    whole = len(pods) == NODES and not any(state["ending"] for state in states.values())
    assert one.name == f"{NAME}-0"
    assert one.gpus == 24, "all, while one of its pods holds GPUs or will"
    assert one.ready == (whole and all(state["ready"] and state["node"] for state in states.values()))
    assert one.labelled is not drains
    assert not (one.ready and not one.scheduled)
    if whole or not any(state["ending"] for state in states.values()):
        assert one.scheduled == (whole and all(state["node"] for state in states.values()))
    assert one.partial == (0 < sum(state["node"] for state in states.values()) < NODES)


@given(st.sets(st.integers(0, NODES - 1), min_size=1))
def test_a_group_without_a_set_ends_when_its_last_pod_has_gone(left: set[int]):
    one = seen([pod(number, ending=True) for number in left], None)
    assert not pod_reading.alive(one)
    assert pod_reading.ending([one], Role.PREFILL) == [one]
    assert pod_reading.gpus(one) == 24


def test_one_that_is_not_told_to_go_yet_is_not_lost():
    half = [pod(0, ending=True), pod(1)]
    late = pod_reading.epoch_seconds("2026-01-02T00:00:00Z")
    assert not pod_reading.overdue(seen(half, None), late)
    assert pod_reading.overdue(seen([pod(0, ending=True)], None), late)


def test_a_node_that_is_lost_makes_the_group_one_that_never_serves_again():
    one = seen([pod(0, ending=True), pod(1, ending=True), pod(2)], made_by())
    end = pod_reading.epoch_seconds("2026-01-01T00:10:00Z")
    assert not pod_reading.broken(one, end + OVERDUE_SECONDS)
    assert pod_reading.broken(one, end + OVERDUE_SECONDS + 1)


def strangers() -> dict[str, Json]:
    found = {what: pod(1) for what in ("another resource", "another maker", "no maker", "another name", "no role")}
    found["another resource"]["metadata"]["annotations"]["dopd.dev/owner-uid"] = "x"
    found["another maker"]["metadata"]["ownerReferences"][0]["kind"] = "Job"
    found["no maker"]["metadata"]["ownerReferences"] = []
    found["another name"]["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/name"] = "x-prefill-1234abcd-0"
    found["no role"]["metadata"]["labels"]["dopd.dev/pool"] = "router"
    return found


@pytest.mark.parametrize("what", strangers())
def test_pods_that_others_made_are_none_of_it(what: str):
    stranger = strangers()[what]
    assert as_workers([stranger], [], OWNER) == []
    group = group_of(seen([pod(0), stranger], made_by()))
    assert group is not None
    assert group.missing == [f"{NAME}-0-1", f"{NAME}-0-2"]


def test_a_leader_that_was_made_anew_while_its_group_drains_is_astray():
    def group(*pods: Json, **annotations: str) -> Group:
        found = group_of(seen(list(pods), made_by(**annotations)))
        assert found is not None
        return found

    drains = {"dopd.dev/draining-since": BORN}
    assert group(pod(0), **drains).astray
    assert not group(pod(0, role=False), **drains).astray
    assert not group(pod(0)).astray
    assert group(pod(0, role=False)).astray
    assert not group(pod(1), **drains).astray


def test_a_group_without_pods_says_which_it_lacks():
    trouble = pod_reading.trouble(seen([], made_by()))
    assert trouble is not None
    assert trouble.reason is ConditionReason.PARTIAL_GROUP
    assert f"there are no pods {NAME}-0, {NAME}-0-1, {NAME}-0-2" in trouble.message


def test_a_pod_without_a_node_is_named_with_the_schedulers_words():
    homeless = pod(2, node=False, ready=False)
    homeless["status"]["conditions"][0] |= {"reason": "Unschedulable", "message": "0/8 nodes are available"}
    trouble = pod_reading.trouble(seen([pod(0, ready=False), pod(1, ready=False), homeless], made_by()))
    assert trouble is not None
    assert trouble.reason is ConditionReason.UNSCHEDULABLE
    assert f"pod {NAME}-0-2 fits no node: 0/8 nodes are available" in trouble.message


def test_a_group_that_is_made_anew_again_and_again_does_not_come_up():
    starting = [pod(number, ready=False) for number in range(NODES)]
    born = pod_reading.epoch_seconds(BORN)

    def comes_up(remade: int, pods: list[Json]) -> bool:
        item = made_by(**{"dopd.dev/remade": str(remade), "dopd.dev/leader-uid": "uid-0"})
        return pod_reading.comes_up(seen(copy.deepcopy(pods), item), born + 120, 600.0)

    once = seen(starting, made_by(**{"dopd.dev/remade": "1"}))
    assert pod_reading.trouble(once) is None, "an eviction does that, too"
    often = pod_reading.trouble(seen(starting, made_by(**{"dopd.dev/remade": str(FAILED_STARTS)})))
    assert often is not None
    assert often.reason is ConditionReason.CRASHING
    assert comes_up(FAILED_STARTS - 1, starting)
    assert not comes_up(FAILED_STARTS, starting)
    assert comes_up(FAILED_STARTS, [pod(number) for number in range(NODES)])
