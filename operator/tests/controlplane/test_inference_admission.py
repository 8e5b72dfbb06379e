"""Bad resources are refused by the API server, with a message that names the field and the fix."""

from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from pydantic import ValidationError

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.router import DecodeRouting, PrefillRouting
from dopd.cluster import kinds

from .admission import GONE, INFERENCE, changed, missing_words, send

ROOT = Path(__file__).parents[3]
STATIC = {"spec.scaling": GONE, "spec.prefill.replicas": 2, "spec.decode.replicas": 0}
SWITCHING = {"spec.roleSwitching": {"enabled": True}}
NIGHT = {"name": "night", "timeZone": "Europe/Berlin", "start": "0 22 * * *", "end": "0 6 * * *"}
A_SECRET = {"secretKeyRef": {"name": "hf", "key": "token"}}

GOOD: list[dict[str, Any]] = [
    {},
    STATIC,
    {"spec.scaling.ratio": {"min": "1:4", "max": "4:1"}},
    {"spec.scaling.ratio": {"min": "1:1", "max": "1:1"}, "spec.scaling.mode": "Advise"},
    {"spec.scaling.gpuBudget": {"max": 4}},
    {"spec.scaling.gpuBudget": {"min": 8, "max": 8}},
    {"spec.scaling.schedules": [{**NIGHT, "prefill": {"min": 1, "max": 2}}]},
    {
        "spec.scaling.schedules": [
            {**NIGHT, "start": "*/30 22,23 1-7 JAN-mar Mon", "end": "0 6 L * 0", "gpuBudget": {"min": 4, "max": 12}},
            {"name": "week", "timeZone": "UTC", "start": "0 0 * * 1", "duration": "5d", "decode": {"min": 2, "max": 6}},
        ]
    },
    SWITCHING,
    {**SWITCHING, "spec.engine.transferBackend": "mori"},
    {"spec.roleSwitching": {"enabled": False}, "spec.engine.transferBackend": "nixl", "spec.decode.gpus": 1},
    {"spec.prefill.template": {"spec": {"nodeSelector": {"a": "b"}, "anything": [1]}}},
    {"spec.prefill.parallelism": {"tensor": 2}, "spec.prefill.gpuResource": "amd.com/gpu"},
    {"spec.engine.env": [{"name": "HF_TOKEN", "valueFrom": A_SECRET}, {"name": "LEVEL", "value": ""}]},
    {"spec.engine.args": ["--mem-fraction-static", "0.85", "--trust-remote-code"]},
    {"spec.engine.sharedMemory": "1.5Gi", "spec.engine.imagePullSecrets": ["registry"]},
    {"spec.scaling.behavior": {"interval": "1m30s", "drainDeadline": "2h", "scaleDownStabilization": "0m500ms"}},
    {"spec.router.service": {"type": "NodePort", "nodePort": 30080, "annotations": {"a": "b"}}},
    {"spec.slo": {"ttftSeconds": 2, "itlSeconds": 0.03, "attainment": 0.5}},
    {"spec.scheduling": {}},
    {"spec.scheduling": {"policy": "ShortestFirst", "lateShare": 0, "latePrompts": "Refuse", "mostUnfinished": 8}},
    {"spec.scheduling": {"policy": "EngineDefault", "lateShare": 1}},
    *({"spec.router.prefillPolicy": policy} for policy in PrefillRouting),
    *({"spec.router.decodePolicy": policy} for policy in DecodeRouting),
    {"metadata.name": "a" * 46},
]

BAD_FIELDS: list[tuple[dict[str, Any], list[str]]] = [
    ({"spec.model": GONE}, ["spec.model: Required"]),
    ({"spec.model": "bad name"}, ["spec.model:", '"bad name"', "such as meta-llama/"]),
    ({"spec.engine.image": GONE}, ["spec.engine.image: Required"]),
    ({"spec.engine.image": "two words"}, ["spec.engine.image:", "an image without blanks"]),
    ({"spec.engine.transferBackend": "carrier-pigeon"}, ["spec.engine.transferBackend:", '"mooncake"']),
    ({"spec.engine.imagePullPolicy": "Sometimes"}, ["spec.engine.imagePullPolicy:", '"IfNotPresent"']),
    ({"spec.engine.imagePullSecrets": ["My_Secret"]}, ["spec.engine.imagePullSecrets[0]:", "lower-case letters"]),
    ({"spec.engine.sharedMemory": "16 GB"}, ["spec.engine.sharedMemory:", "such as 16Gi"]),
    ({"spec.engine.sharedMemory": 16}, ["spec.engine.sharedMemory:", "must be of type string"]),
    ({"spec.engine.terminationGracePeriod": "ten minutes"}, ["terminationGracePeriod:", "such as 90s, 1h30m"]),
    ({"spec.engine.terminationGracePeriod": "0s"}, ["terminationGracePeriod:", "above zero"]),
    ({"spec.engine.env": [{"name": "9-LIVES", "value": "1"}]}, ["spec.engine.env[0].name:", "not beginning with"]),
    ({"spec.prefill.gpus": GONE}, ["spec.prefill.gpus: Required"]),
    ({"spec.prefill.gpus": 0}, ["spec.prefill.gpus:", "greater than or equal to 1"]),
    ({"spec.prefill.gpus": "two"}, ["spec.prefill.gpus:", "must be of type integer"]),
    ({"spec.prefill.gpuResource": "gpu"}, ["spec.prefill.gpuResource:", "such as nvidia.com/gpu"]),
    ({"spec.decode.nodes": 0}, ["spec.decode.nodes:", "greater than or equal to 1"]),
    ({"spec.router.replicas": 0}, ["spec.router.replicas:", "greater than or equal to 1"]),
    ({"spec.router.prefillPolicy": "best"}, ["spec.router.prefillPolicy:", '"power_of_two"']),
    ({"spec.router.decodePolicy": "bucket"}, ["spec.router.decodePolicy:", '"bucket"', '"least_load"']),
    ({"spec.scheduling": {"policy": "Fastest"}}, ["spec.scheduling.policy:", '"OnTimeFirst", "ShortestFirst"']),
    ({"spec.scheduling": {"lateShare": 1.5}}, ["spec.scheduling.lateShare:", "less than or equal to 1"]),
    ({"spec.scheduling": {"lateShare": -0.1}}, ["spec.scheduling.lateShare:", "greater than or equal to 0"]),
    ({"spec.scheduling": {"latePrompts": "drop"}}, ["spec.scheduling.latePrompts:", '"Serve", "Refuse"']),
    ({"spec.scheduling": {"mostUnfinished": 0}}, ["mostUnfinished:", "greater than or equal to 1"]),
    ({"spec.scheduling": {"mostUnfinished": 9}}, ["mostUnfinished:", "less than or equal to 8"]),
    ({"spec.scheduling": {"mostUnfinished": 1.5}}, ["mostUnfinished:", "must be of type integer"]),
    ({"spec.scheduling": {"lateshare": 0.2}}, ['unknown field "spec.scheduling.lateshare"']),
    ({"spec.router.service": {"port": 70000}}, ["spec.router.service.port:", "less than or equal to 65535"]),
    ({"spec.slo": {"ttftSeconds": 0}}, ["spec.slo.ttftSeconds:", "greater than 0"]),
    ({"spec.slo": {"attainment": 99}}, ["spec.slo.attainment:", "at most 0.9999"]),
    ({"spec.scaling.mode": "auto"}, ["spec.scaling.mode:", '"Auto", "Advise", "Paused"']),
    ({"spec.scaling.decode.min": 0}, ["spec.scaling.decode.min:", "greater than or equal to 1"]),
    ({"spec.scaling.decode.max": GONE}, ["spec.scaling.decode.max: Required"]),
    ({"spec.scaling.profileRef": GONE}, ["spec.scaling.profileRef: Required"]),
    ({"spec.scaling.ratio": {"min": "0.25", "max": "1:2"}}, ["spec.scaling.ratio.min:", "such as 1:4 or 3:2"]),
    ({"spec.scaling.forecast": {"quantile": 1.0}}, ["spec.scaling.forecast.quantile:", "at most 0.999"]),
    ({"spec.scaling.behavior": {"interval": "30"}}, ["spec.scaling.behavior.interval:", "such as 90s"]),
    ({"spec.scaling.behavior": {"maxStep": 0}}, ["spec.scaling.behavior.maxStep:", "greater than or equal to 1"]),
    (
        {"spec.scaling.schedules": [{**NIGHT, "timeZone": "Mars Time", "decode": {"min": 1, "max": 2}}]},
        ["spec.scaling.schedules[0].timeZone:", '"Mars Time"', "such as Europe/Berlin"],
    ),
    (
        {"spec.scaling.schedules": [{**NIGHT, "start": "0 25 * * *", "decode": {"min": 1, "max": 2}}]},
        ["spec.scaling.schedules[0].start:", '"0 25 * * *"', "five cron fields", "such as 0 7 * * 1-5"],
    ),
    (
        {"spec.scaling.schedules": [{**NIGHT, "end": "@daily", "decode": {"min": 1, "max": 2}}]},
        ["spec.scaling.schedules[0].end:", '"@daily"', "five cron fields"],
    ),
    ({"spec.telemetry": {"prometheusURL": "prometheus:9090"}}, ["prometheusURL:", "begins with http://"]),
    ({"spec.prefil": {"gpus": 1}}, ['unknown field "spec.prefil"']),
    ({"spec.scaling.behaviour": {}}, ['unknown field "spec.scaling.behaviour"']),
]

BAD_TOGETHER: list[tuple[dict[str, Any], list[str]]] = [
    ({"spec.prefill.replicas": 1}, ["replicas and scaling exclude each other", "remove spec.scaling"]),
    ({"spec.scaling": GONE}, ["both spec.prefill.replicas and spec.decode.replicas are needed", "add spec.scaling"]),
    ({"spec.scaling": GONE, "spec.prefill.replicas": 1}, ["both spec.prefill.replicas and spec.decode.replicas"]),
    ({"spec.scaling.prefill": {"min": 3, "max": 2}}, ["spec.scaling.prefill.min:", "lower min or raise max"]),
    ({"spec.scaling.gpuBudget.max": 3}, ["spec.scaling.gpuBudget.max:", "raise it, or lower a min"]),
    ({"spec.scaling.gpuBudget.min": 9}, ["spec.scaling.gpuBudget.min:", "lower min or raise max"]),
    ({"spec.scaling.gpuBudget": {"min": 17, "max": 20}}, ["spec.scaling.gpuBudget.min:", "lower it, or raise a max"]),
    ({"spec.scaling.schedules": [NIGHT]}, ["spec.scaling.schedules[0]:", "limits nothing; set prefill, decode or"]),
    (
        {"spec.scaling.schedules": [{**NIGHT, "duration": "8h", "decode": {"min": 1, "max": 2}}]},
        ["spec.scaling.schedules[0]:", "either end or duration"],
    ),
    (
        {"spec.scaling.schedules": [{**NIGHT, "end": NIGHT["start"], "decode": {"min": 1, "max": 2}}]},
        ["spec.scaling.schedules[0].end:", "must differ from start"],
    ),
    (
        {"spec.scaling.schedules": [{**NIGHT, "decode": {"min": 4, "max": 4}}]},
        ["spec.scaling.schedules:", "raise gpuBudget.max, or lower a min"],
    ),
    (
        {"spec.scaling.schedules": [{**NIGHT, "decode": {"min": 1, "max": 2}}] * 2},
        ["spec.scaling.schedules[1]: Duplicate value"],
    ),
    ({"spec.scaling.ratio": {"min": "2:1", "max": "1:2"}}, ["spec.scaling.ratio.min:", "lower min or raise max"]),
    ({"spec.prefill.parallelism": {"tensor": 4}}, ["spec.prefill.parallelism.tensor:", "must equal gpus"]),
    ({**SWITCHING, "spec.decode.gpus": 1}, ["spec.roleSwitching:", "equal gpus and nodes", "enabled to false"]),
    ({**SWITCHING, "spec.decode.nodes": 2}, ["spec.roleSwitching:", "equal gpus and nodes"]),
    ({**SWITCHING, "spec.engine.transferBackend": "nixl"}, ["spec.engine.transferBackend:", "choose one"]),
    ({"spec.router.service": {"nodePort": 30080}}, ["spec.router.service.nodePort:", "set type, or remove nodePort"]),
    ({"spec.engine.args": ["--port", "1"]}, ["spec.engine.args:", "operator sets itself", "remove it"]),
    ({"spec.engine.args": ["--tp-size=4"]}, ["spec.engine.args:", "operator sets itself", "remove it"]),
    ({"spec.decode.args": ["--disaggregation-mode", "null"]}, ["spec.decode.args:", "remove it"]),
    ({"spec.engine.env": [{"name": "A", "value": "1", "valueFrom": {}}]}, ["spec.engine.env[0]:", "remove one"]),
    ({"metadata.name": "a" * 47}, ["metadata.name:", "at most 46", "choose another name"]),
    ({"metadata.name": "8b"}, ["metadata.name:", "beginning with a letter"]),
    ({"metadata.name": "a.b"}, ["metadata.name:", "lower-case letters, digits and '-'"]),
]


@pytest.mark.parametrize("changes", GOOD)
def test_good_resources_are_accepted_as_they_are(api: httpx.Client, crds: None, changes: dict[str, Any]):
    manifest = changed(INFERENCE, changes)
    answer = send(api, kinds.INFERENCE, manifest)
    assert answer.status_code == 201, answer.text
    assert answer.json()["spec"] == manifest["spec"], "nothing is filled in"
    DisaggregatedInferenceSpec.model_validate(manifest["spec"])


@pytest.mark.parametrize(("changes", "words"), BAD_FIELDS)
def test_a_bad_field_is_refused_by_the_api_server_and_by_the_model(
    api: httpx.Client, crds: None, changes: dict[str, Any], words: list[str]
):
    manifest = changed(INFERENCE, changes)
    assert not missing_words(send(api, kinds.INFERENCE, manifest), words)
    with pytest.raises(ValidationError):
        DisaggregatedInferenceSpec.model_validate(manifest["spec"])


@pytest.mark.parametrize(("changes", "words"), BAD_TOGETHER)
def test_fields_that_do_not_go_together_are_refused(
    api: httpx.Client, crds: None, changes: dict[str, Any], words: list[str]
):
    assert not missing_words(send(api, kinds.INFERENCE, changed(INFERENCE, changes)), words)


def documented() -> list[Any]:
    """Manifests in the repository and in fenced blocks of its pages."""
    texts = [path.read_text() for path in (ROOT / "e2e" / "manifests").rglob("*.yaml")]
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        texts += [block.partition("```")[0] for block in page.read_text().split("```yaml\n")[1:]]
    found = [document for text in texts for document in yaml.safe_load_all(text) if isinstance(document, dict)]
    return [document for document in found if document.get("kind") == kinds.INFERENCE.kind]


def test_what_the_documentation_shows_is_accepted(api: httpx.Client, crds: None):
    manifests = documented()
    assert manifests
    for manifest in manifests:
        answer = send(api, kinds.INFERENCE, manifest)
        assert answer.status_code == 201, answer.text
