"""Condition TopologyHonored and the status by domain."""

import copy
from typing import Any

from dopd.api.conditions import ConditionReason, ConditionStatus
from dopd.api.names import Role
from dopd.planning.domains import Division
from dopd.reconcile.conditions import Finding, topology_honored
from dopd.reconcile.domains import divided, domain_status
from dopd.reconcile.moved import Moved
from dopd.reconcile.observe import Observed

from .test_conditions import SPEC, UNSCHEDULABLE, look, pod

DOMAINS = [{"name": "x", "gpus": 4}, {"name": "y", "gpus": 2}]
P, D = Role.PREFILL, Role.DECODE


def spec(**topology: Any) -> dict[str, Any]:
    return {**SPEC, "topology": {"domainKey": "rack", **topology}}


def placed(role: str, domain: str, number: int = 0, **status: Any) -> dict[str, Any]:
    made = copy.deepcopy(pod(role, **status))
    made["metadata"]["name"] = f"m-{role}-{domain}-{number}"
    if domain:
        made["metadata"]["labels"]["dopd.dev/domain"] = domain
        made["metadata"]["annotations"] = {"dopd.dev/domain-key": "rack"}
    return made


def told(observed: Observed, division: Division | None = None) -> Finding:
    assert observed.spec is not None
    (found,) = topology_honored(observed, observed.spec, Moved(division=division))
    return found


def test_it_is_absent_without_the_field():
    observed = look(pod("prefill"), pod("decode"), pod("router"))
    assert observed.spec is not None
    assert topology_honored(observed, observed.spec, Moved()) == []


def test_all_in_one_domain():
    assert told(look(pod("prefill"), pod("decode"), spec=spec())).status is ConditionStatus.TRUE


def test_a_worker_that_finds_no_node_of_the_domain_is_named():
    waits = placed("decode", "", ready=False, **copy.deepcopy(UNSCHEDULABLE))
    observed = look(pod("prefill"), waits, spec=spec())
    found = told(observed)
    assert (found.status, found.reason) == (ConditionStatus.FALSE, ConditionReason.DOMAIN_FULL)
    assert "m-decode--0" in found.message
    preferred = look(pod("prefill"), waits, spec=spec(policy="Preferred"))
    assert told(preferred).status is ConditionStatus.TRUE, "it is Unschedulable for another cause then"


def test_what_no_domain_has_room_for_is_counted():
    found = told(look(spec=spec(domains=DOMAINS)), Division({"x": {P: 1, D: 3}}, {P: 1, D: 3}))
    assert found.reason is ConditionReason.DOMAIN_FULL
    assert "3 decode and 1 prefill" in found.message


def test_workers_of_another_domain_are_yet_to_leave():
    observed = look(placed("prefill", "old"), placed("decode", ""), spec=spec(domains=DOMAINS))
    found = told(observed, Division({"x": {P: 1, D: 1}}))
    assert (found.reason, found.message[:9]) == (ConditionReason.ROLLING_OUT, "2 workers")


def test_workers_are_divided_by_where_they_are_and_counted_there():
    observed = look(placed("prefill", "y"), placed("decode", "y"), placed("decode", "gone"), spec=spec(domains=DOMAINS))
    assert observed.spec is not None
    division = divided(observed, observed.spec, {P: 1, D: 1})
    assert division is not None
    assert division.counts == {"x": {P: 0, D: 0}, "y": {P: 1, D: 1}}
    status = [s.model_dump() for s in domain_status(observed, Moved(division=division))]
    assert status[1] == {"name": "y", "prefill": {"desired": 1, "ready": 1}, "decode": {"desired": 1, "ready": 1}}
    assert status[2] == {"name": "gone", "prefill": {"desired": 0, "ready": 0}, "decode": {"desired": 0, "ready": 1}}


def test_without_a_list_nothing_is_divided():
    observed = look(pod("prefill"), pod("decode"), spec=spec())
    assert observed.spec is not None
    assert divided(observed, observed.spec, {P: 1, D: 1}) is None
    assert domain_status(observed, Moved()) == []


def test_a_label_without_the_annotation_is_not_the_operators():
    made = placed("decode", "x")
    del made["metadata"]["annotations"]
    observed = look(made, spec=spec(domains=DOMAINS))
    assert [worker.domain for worker in observed.workers[D]] == [""]
