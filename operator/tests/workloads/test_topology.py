"""Workers near to each other: terms of a pod template, and the domain that a pod is bound to."""

from typing import Any

import pytest

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.workloads import Owner
from dopd.workloads.engines import worker_template
from dopd.workloads.groups import worker_group
from dopd.workloads.refusal import Refusal
from dopd.workloads.revisions import revision_of, worker_pod

KEY = "topology.kubernetes.io/rack"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
DOMAINS = [{"name": "rack-1", "gpus": 8}, {"name": "rack-2", "gpus": 8}]
NEAR = {
    "labelSelector": {
        "matchLabels": {"dopd.dev/instance": "llama"},
        "matchExpressions": [{"key": "dopd.dev/pool", "operator": "In", "values": ["prefill", "decode"]}],
    },
    "topologyKey": KEY,
}


def template(owner: Owner, raw: dict[str, Any], role: Role = Role.DECODE, **topology: Any) -> dict[str, Any]:
    spec = DisaggregatedInferenceSpec.model_validate({**raw, "topology": {"domainKey": KEY, **topology}})
    return worker_template(owner, spec, role)


def placed(owner: Owner, raw: dict[str, Any], domain: str, **topology: Any) -> dict[str, Any]:
    made = template(owner, raw, domains=DOMAINS, **topology)
    return worker_pod(owner, Role.DECODE, revision_of(owner, Role.DECODE, made), "w", 1, domain)


@pytest.mark.parametrize("role", Role)
def test_a_worker_must_be_where_a_worker_of_its_resource_is(owner: Owner, raw_spec: dict[str, Any], role: Role):
    made = template(owner, raw_spec, role)
    assert made["spec"]["affinity"] == {"podAffinity": {REQUIRED: [NEAR]}}
    labels = made["metadata"]["labels"]
    assert labels["dopd.dev/instance"] == "llama"
    assert labels["dopd.dev/pool"] in ("prefill", "decode"), "the first one matches its own term"


def test_or_would_like_to_be(owner: Owner, raw_spec: dict[str, Any]):
    made = template(owner, raw_spec, policy="Preferred")
    assert made["spec"]["affinity"] == {"podAffinity": {PREFERRED: [{"weight": 100, "podAffinityTerm": NEAR}]}}


def test_what_the_user_asks_for_stays_beside_it(owner: Owner, raw_spec: dict[str, Any]):
    own = {"labelSelector": {"matchLabels": {"app": "cache"}}, "topologyKey": "kubernetes.io/hostname"}
    affinity = {"nodeAffinity": {PREFERRED: []}, "podAffinity": {REQUIRED: [own]}}
    raw_spec["decode"]["template"] = {"spec": {"affinity": affinity}}
    made = template(owner, raw_spec)
    assert made["spec"]["affinity"] == {"nodeAffinity": {PREFERRED: []}, "podAffinity": {REQUIRED: [own, NEAR]}}


@pytest.mark.parametrize("affinity", ["near", {"podAffinity": 1}, {"podAffinity": {REQUIRED: {"a": 1}}}])
def test_what_is_no_affinity_is_refused_by_its_field(owner: Owner, raw_spec: dict[str, Any], affinity: Any):
    raw_spec["decode"]["template"] = {"spec": {"affinity": affinity}}
    with pytest.raises(Refusal, match=r"spec\.decode\.template\.spec\.affinity"):
        template(owner, raw_spec)


def test_of_a_list_of_domains_each_worker_is_bound_to_one(owner: Owner, raw_spec: dict[str, Any]):
    raw_spec["decode"]["template"] = {"spec": {"nodeSelector": {"gpu": "h100"}}}
    made = placed(owner, raw_spec, "rack-2")
    assert made["spec"]["nodeSelector"] == {"gpu": "h100", KEY: "rack-2"}
    assert made["metadata"]["labels"]["dopd.dev/domain"] == "rack-2"
    assert "affinity" not in made["spec"]


def test_or_would_like_to_go_to_one(owner: Owner, raw_spec: dict[str, Any]):
    made = placed(owner, raw_spec, "rack-2", policy="Preferred")
    wish = {"matchExpressions": [{"key": KEY, "operator": "In", "values": ["rack-2"]}]}
    assert made["spec"]["affinity"] == {"nodeAffinity": {PREFERRED: [{"weight": 100, "preference": wish}]}}
    assert "nodeSelector" not in made["spec"]


@pytest.mark.parametrize("policy", ["Required", "Preferred"])
def test_all_pods_of_a_group_are_bound_to_its_domain(owner: Owner, raw_spec: dict[str, Any], policy: str):
    raw_spec["decode"] |= {"gpus": 16, "nodes": 2}
    made = template(owner, raw_spec, domains=DOMAINS, policy=policy)
    revision = revision_of(owner, Role.DECODE, made)
    group = worker_group(owner, Role.DECODE, revision, "w", 16, "rack-2")
    pods = group["spec"]["leaderWorkerTemplate"]
    for pod in (pods["leaderTemplate"], pods["workerTemplate"]):
        assert pod["metadata"]["labels"]["dopd.dev/domain"] == "rack-2"
        assert pod["spec"].get("nodeSelector") == ({KEY: "rack-2"} if policy == "Required" else None)
        assert ("affinity" in pod["spec"]) == (policy == "Preferred")
    assert group["metadata"]["labels"]["dopd.dev/domain"] == "rack-2"
    leader = pods["leaderTemplate"]["metadata"]["annotations"]
    assert group["metadata"]["annotations"].items() <= leader.items(), "they outlive the pods, and say the same"
    unplaced = worker_group(owner, Role.DECODE, revision, "w", 16)
    assert "dopd.dev/domain" not in unplaced["metadata"]["labels"]


def test_a_revision_is_not_of_a_domain_but_of_what_domains_are(owner: Owner, raw_spec: dict[str, Any]):
    """Another domain in the list replaces no worker, another label does."""

    def name(**topology: Any) -> str:
        return revision_of(owner, Role.DECODE, template(owner, raw_spec, **topology)).name

    assert name(domains=DOMAINS) == name(domains=DOMAINS[:1])
    others = (name(), name(policy="Preferred"), name(domains=DOMAINS), name(domains=DOMAINS, policy="Preferred"))
    assert len({*others, name(domains=DOMAINS, domainKey="cloud.google.com/gce-topology-block")}) == 5


def test_a_resource_without_it_is_made_as_before(owner: Owner, spec: DisaggregatedInferenceSpec):
    made = worker_template(owner, spec, Role.DECODE)
    pod = worker_pod(owner, Role.DECODE, revision_of(owner, Role.DECODE, made), "w", 1)
    assert "affinity" not in pod["spec"]
    assert "dopd.dev/domain" not in pod["metadata"]["labels"]
