"""Workers of several nodes: what they are made from, and what is refused by name."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.workloads import Owner, Targets, child_manifests
from dopd.workloads.engines import worker_template
from dopd.workloads.groups import worker_group
from dopd.workloads.refusal import Refusal
from dopd.workloads.revisions import Revision, revision_of

Json = dict[str, Any]
DEFINITION = Path(__file__).parents[1] / "controlplane" / "leaderworkersets.yaml"
"""With the fields of the published definition."""
SAMPLE = Path(__file__).parents[3] / "config" / "samples" / "several-nodes" / "inference.yaml"


def group(owner: Owner, raw: Json, **prefill: Any) -> Json:
    spec = DisaggregatedInferenceSpec.model_validate({**raw, "prefill": {"replicas": 1, **prefill}})
    revision = revision_of(owner, Role.PREFILL, worker_template(owner, spec, Role.PREFILL))
    return worker_group(owner, Role.PREFILL, revision, f"llama-prefill-{revision.name}-0", spec.prefill.gpus)


def unknown(value: Any, schema: Json, path: str = "") -> list[str]:
    """Fields, values and types of a manifest that its definition has not."""
    if "enum" in schema and value not in schema["enum"]:
        return [f"{path}: {value}"]
    if schema.get("type") == "integer" and not isinstance(value, int):
        return [f"{path}: {value!r}"]
    if not isinstance(value, dict) or schema.get("x-kubernetes-preserve-unknown-fields"):
        return []
    if "additionalProperties" in schema:
        return [f"{path}.{name}" for name, one in value.items() if not isinstance(one, str)]
    known = schema.get("properties", {})
    missing = [f"{path}.{name} is missing" for name in schema.get("required", ()) if name not in value]
    found = [f"{path}.{name}" for name in value if name not in known]
    return missing + found + [e for n, v in value.items() if n in known for e in unknown(v, known[n], f"{path}.{n}")]


@given(
    nodes=st.integers(2, 8), of_each=st.integers(1, 8), pipeline=st.sampled_from([1, 2]), data=st.sampled_from([1, 2])
)
def test_a_group_has_the_fields_of_the_published_definition(nodes: int, of_each: int, pipeline: int, data: int):
    owner = Owner("llama", "serving", "uid-1")
    raw: Json = {"model": "m", "engine": {"image": "i"}, "decode": {"gpus": 1, "replicas": 1}, "router": {"image": "r"}}
    sizes = {"pipeline": pipeline, "data": data, "dataAttention": True}
    made = group(owner, raw, gpus=nodes * of_each, nodes=nodes, parallelism=sizes)
    schema = yaml.safe_load(DEFINITION.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["metadata"] = {"x-kubernetes-preserve-unknown-fields": True}
    assert unknown(made, schema) == []
    of_group = made["spec"]["leaderWorkerTemplate"]
    pods = [of_group["leaderTemplate"], of_group["workerTemplate"]]
    asked = [int(pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]) for pod in pods]
    assert asked[0] + (of_group["size"] - 1) * asked[1] == nodes * of_each
    assert made["spec"]["replicas"] == 1


@pytest.mark.parametrize("role", Role)
def test_the_sample_of_two_nodes_is_a_group(role: Role):
    resource = yaml.safe_load(SAMPLE.read_text())
    spec = DisaggregatedInferenceSpec.model_validate(resource["spec"])
    owner = Owner(resource["metadata"]["name"], "serving", "uid-1")
    revision = revision_of(owner, role, worker_template(owner, spec, role))
    made = worker_group(owner, role, revision, f"deepseek-r1-{role}-{revision.name}-0", 16)
    schema = yaml.safe_load(DEFINITION.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["metadata"] = {"x-kubernetes-preserve-unknown-fields": True}
    assert unknown(made, schema) == []
    of_group = made["spec"]["leaderWorkerTemplate"]
    assert of_group["size"] == 2
    for pod in (of_group["leaderTemplate"]["spec"], of_group["workerTemplate"]["spec"]):
        (engine,) = pod["containers"]
        command = " ".join(engine["command"])
        for words in ("--tp-size 16", "--dp-size 16", "--enable-dp-attention", f"--disaggregation-mode {role}"):
            assert words in command
        assert engine["resources"]["limits"]["nvidia.com/gpu"] == "8"
        assert (pod["hostNetwork"], pod["dnsPolicy"]) == (True, "ClusterFirstWithHostNet")
        assert engine["securityContext"]["privileged"] is True


def test_the_check_itself_finds_what_is_not_there():
    schema = yaml.safe_load(DEFINITION.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    bad = {"spec": {"replica": 1, "startupPolicy": "Never", "leaderWorkerTemplate": {"size": "2"}}}
    assert len(unknown(bad, schema)) == 4


def test_gateways_see_the_leader_alone_and_members_answer_health(owner: Owner, raw_spec: Json):
    of_group = group(owner, raw_spec, gpus=16, nodes=2)["spec"]["leaderWorkerTemplate"]
    leader, member = of_group["leaderTemplate"], of_group["workerTemplate"]
    assert leader["metadata"]["labels"]["dopd.dev/role"] == "prefill"
    assert "dopd.dev/role" not in member["metadata"]["labels"]
    engines = [template["spec"]["containers"][0] for template in (leader, member)]
    assert engines[0]["command"] == engines[1]["command"], "each reads its number from a variable"
    paths = [[e[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe")] for e in engines]
    assert paths == [["/ready", "/ready"], ["/health", "/health"]]


def test_one_node_has_no_such_flags_and_no_group(owner: Owner, spec: DisaggregatedInferenceSpec):
    template = worker_template(owner, spec, Role.PREFILL)
    assert "group" not in template
    assert "--nnodes" not in template["spec"]["containers"][0]["command"]
    assert Revision("a", template).nodes == 1


def test_the_number_of_nodes_makes_a_revision_and_labels_of_dopds_own_do_not(owner: Owner, raw_spec: Json):
    def name(nodes: int, owner: Owner) -> str:
        spec = DisaggregatedInferenceSpec.model_validate(
            {**raw_spec, "prefill": {"gpus": 8, "nodes": nodes, "replicas": 1}}
        )
        return revision_of(owner, Role.PREFILL, worker_template(owner, spec, Role.PREFILL)).name

    assert len({name(nodes, owner) for nodes in (1, 2, 4)}) == 3


def test_evictions_take_one_group_at_a_time_and_never_the_last(owner: Owner, raw_spec: Json):
    spec = DisaggregatedInferenceSpec.model_validate({**raw_spec, "prefill": {"gpus": 8, "nodes": 4, "replicas": 1}})

    def least(prefill: int) -> int:
        budgets = {m["metadata"]["name"]: m for m in child_manifests(owner, spec, Targets(prefill, 2))}
        return int(budgets["llama-prefill"]["spec"].get("minAvailable", 0))

    def budget(prefill: int) -> Json:
        made = child_manifests(owner, spec, Targets(prefill, 2))
        kind = "PodDisruptionBudget"
        return next(m for m in made if m["kind"] == kind and m["metadata"]["name"] == "llama-prefill")["spec"]

    assert least(1) == budget(1)["minAvailable"] == 4
    assert budget(3)["minAvailable"] == 11
    assert "dopd.dev/role" not in budget(3)["selector"]["matchLabels"], "members have none"


@pytest.mark.parametrize(
    ("prefill", "field", "words"),
    [
        ({"args": ["--ep-size", "3"]}, "spec.prefill.args", "--ep-size 3 must divide the tensor size, 16"),
        ({"args": ["--ep=5"]}, "spec.prefill.args", "must divide the tensor size, 16"),
        (
            {"args": ["--expert-parallel-size", "4"], "parallelism": {"expert": 4}},
            "spec.prefill.parallelism.expert",
            "is said by --expert-parallel-size in the arguments, too",
        ),
    ],
)
def test_experts_that_do_not_fit_are_refused_by_name(
    owner: Owner, raw_spec: Json, prefill: Json, field: str, words: str
):
    with pytest.raises(Refusal, match=words) as refused:
        group(owner, raw_spec, gpus=16, nodes=2, **prefill)
    assert refused.value.field == field


def test_experts_by_the_field_are_a_flag(owner: Owner, raw_spec: Json):
    made = group(owner, raw_spec, gpus=16, nodes=2, parallelism={"expert": 8})
    command = made["spec"]["leaderWorkerTemplate"]["leaderTemplate"]["spec"]["containers"][0]["command"]
    assert command[command.index("--ep-size") + 1] == "8"


@pytest.mark.parametrize("name", ["a" * 29, "llama.v2", "3llama"])
def test_names_that_fit_no_group_are_refused(raw_spec: Json, name: str):
    with pytest.raises(Refusal, match=r"^metadata.name: is ") as refused:
        group(Owner(name, "serving", "uid-1"), raw_spec, gpus=16, nodes=2)
    assert "spec.prefill.nodes" in str(refused.value)


def test_a_change_of_role_needs_one_node(owner: Owner, raw_spec: Json):
    raw = {**raw_spec, "roleSwitching": {"enabled": True}, "decode": {"gpus": 16, "nodes": 2, "replicas": 1}}
    with pytest.raises(Refusal, match="needs workers of one node"):
        group(owner, raw, gpus=16, nodes=2)
