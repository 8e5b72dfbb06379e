"""Condition RolledOut: how far a rollout is, and what stands in its way."""

import copy
from typing import Any

import pytest

from dopd.api.conditions import ConditionReason, ConditionStatus
from dopd.api.names import Role
from dopd.reconcile.conditions import Finding, rolled_out
from dopd.reconcile.moved import Moved
from dopd.reconcile.observe import Observed
from dopd.reconcile.pods import Trouble
from dopd.rollout import PoolStep
from dopd.workloads.revisions import Revision

from .test_conditions import SPEC, look, pod, waiting

NEW = {role: Revision("new", {}, 2) for role in Role}


def of_revision(role: str, name: str, **status: Any) -> dict[str, Any]:
    made = copy.deepcopy(pod(role, **status))
    made["metadata"]["labels"]["dopd.dev/revision"] = name
    made["metadata"]["name"] = f"m-{role}-{name}-0"
    return made


def told(observed: Observed, **moved: Any) -> Finding:
    return rolled_out(observed, Moved(revisions=NEW, **moved))


def test_it_is_done_when_the_last_old_pod_is_gone():
    observed = look(of_revision("prefill", "new"), of_revision("decode", "new"), pod("router"))
    assert told(observed).status is ConditionStatus.TRUE
    going = of_revision("decode", "old")
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    observed.ending[Role.DECODE].append(going)  # type: ignore[attr-defined]
    still = told(observed)
    assert (still.reason, still.message) == (ConditionReason.ROLLING_OUT, "1 decode workers are yet to be replaced")


def test_a_worker_whose_engine_has_changed_its_role_is_of_the_revision_of_the_new_one():
    revisions = {role: Revision(f"new-{role}", {}, 2) for role in Role}
    changed = of_revision("decode", "new-decode")
    changed["metadata"]["labels"]["dopd.dev/launched-as"] = "prefill"
    observed = look(of_revision("prefill", "new-prefill"), changed, pod("router"))
    assert rolled_out(observed, Moved(revisions=revisions)).status is ConditionStatus.TRUE


OLD = (of_revision("prefill", "old"), of_revision("decode", "old"), pod("router"))


@pytest.mark.parametrize(
    ("moved", "reason", "words"),
    [
        ({"rejected": {Role.DECODE: "new"}}, ConditionReason.ROLLED_BACK, "decode new did not come up"),
        ({"waiting": frozenset({Role.DECODE})}, ConditionReason.NO_SPARE_GPU, "no GPUs for a decode worker"),
        ({"outage": True}, ConditionReason.ROLLOUT_OUTAGE, "1 prefill workers and 1 decode workers of before leave"),
        ({"adopting": frozenset({Role.PREFILL})}, ConditionReason.ADOPTING, "prefill"),
        ({}, ConditionReason.ROLLING_OUT, "1 prefill workers and 1 decode workers"),
        (
            {"troubles": (Trouble(ConditionReason.CHILD_REFUSED, "Pods m-decode are refused"),)},
            ConditionReason.CHILD_REFUSED,
            "refused",
        ),
    ],
    ids=["rolled back", "no GPU", "outage", "adopting", "rolling", "refused"],
)
def test_what_stands_in_its_way(moved: dict[str, Any], reason: ConditionReason, words: str):
    found = told(look(*OLD), **moved)
    assert (found.status, found.reason) == (ConditionStatus.FALSE, reason)
    assert words in found.message


def test_a_held_rollout_names_the_worker_and_what_is_wrong_with_it():
    crash = waiting("CrashLoopBackOff", restarts=3, terminated={"exitCode": 1, "reason": "Error"})
    bad = of_revision("decode", "new", ready=False, **crash)
    found = told(look(*OLD, bad), steps={Role.DECODE: PoolStep(held=("m-decode-new-0",))})
    assert found.reason is ConditionReason.ROLLOUT_HELD
    assert "m-decode-new-0 did not come up: " in found.message
    assert "kubectl logs m-decode-new-0" in found.message


SCALED = {
    **SPEC,
    "prefill": {"gpus": 1},
    "decode": {"gpus": 1},
    "scaling": {"gpuBudget": {"max": 2}, "prefill": {"min": 1, "max": 4}, "decode": {"min": 1, "max": 4}},
    "slo": {"ttftSeconds": 2, "itlSeconds": 0.05},
}
BUDGET, OUTAGE = "raise spec.scaling.gpuBudget.max", "set spec.rollout.allowOutage to true"


def a_role(name: str, count: int) -> list[dict[str, Any]]:
    pods = [of_revision(name, "old") for _ in range(count)]
    for number, one in enumerate(pods):
        one["metadata"]["name"] += f"-{number}"
    return pods


@pytest.mark.parametrize(
    ("spec", "decode", "helps", "is_of_no_use"),
    [
        (SCALED, 1, [BUDGET, OUTAGE], ["maxUnavailable"]),
        (SCALED, 3, [BUDGET, OUTAGE, "raise spec.rollout.decode.maxUnavailable, which is 1"], ["rollout.prefill"]),
        (SPEC, 1, [OUTAGE], ["gpuBudget"]),
        (
            {**SCALED, "rollout": {"allowOutage": True, "decode": {"maxUnavailable": 0}}},
            2,
            [BUDGET, "set spec.rollout.decode.maxUnavailable to 1"],
            ["allowOutage"],
        ),
    ],
    ids=["one of each role", "the other role has more", "no budget", "an outage is accepted already"],
)
def test_without_a_spare_gpu_it_says_which_fields_help(
    spec: dict[str, Any], decode: int, helps: list[str], is_of_no_use: list[str]
):
    observed = look(*a_role("prefill", 1), *a_role("decode", decode), pod("router"), spec=spec)
    assert observed.spec, observed.spec_problem
    message = told(observed, waiting=frozenset(Role)).message
    assert "a prefill worker and a decode worker of the new revision (2 GPUs)" in message
    assert all(words in message for words in helps), message
    assert not any(words in message for words in is_of_no_use), message


def test_nobody_serves_is_told_until_the_new_ones_do_though_no_old_one_is_left():
    found = told(look(of_revision("prefill", "new"), of_revision("decode", "new"), pod("router")), outage=True)
    assert (found.status, found.reason) == (ConditionStatus.FALSE, ConditionReason.ROLLOUT_OUTAGE)
    assert "spec.rollout.allowOutage accepts it" in found.message
    assert "those of before have left" in found.message
