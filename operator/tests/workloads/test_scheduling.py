"""The settings of the order of prompts: what they say, when they change, and that no pod is replaced by it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from dopd import perf
from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.api.profile import EngineProfileSpec
from dopd.perf import EngineModel
from dopd.workloads import Owner, Targets, child_manifests
from dopd.workloads.engines import worker_template
from dopd.workloads.scheduling import scheduling_config
from dopd_scheduling import Settings

ENGINE = EngineModel(
    prefill_curve=((1.0, 0.01), (4096.0, 0.11), (8192.0, 0.21)),
    itl_curves=((1000.0, ((1.0, 0.01),)),),
    kv_tokens=100_000,
    max_running_requests=100,
    chunk_tokens=8192,
    transfer_base_seconds=0.005,
    transfer_tokens_per_second=1e5,
    startup_seconds={"prefill": 20.0, "decode": 30.0},
    flip_seconds=5.0,
)
POINTS = [{"tokens": 1, "seconds": 0.01}, {"tokens": 4096, "seconds": 0.11}, {"tokens": 8192, "seconds": 0.21}]
SCALING = {"prefill": {"min": 1, "max": 2}, "decode": {"min": 1, "max": 2}, "profileRef": {"name": "p"}}


@pytest.fixture
def scaling(raw_spec: dict[str, Any]) -> dict[str, Any]:
    del raw_spec["prefill"]["replicas"], raw_spec["decode"]["replicas"]
    return {**raw_spec, "scaling": SCALING}


def read(raw: dict[str, Any]) -> DisaggregatedInferenceSpec:
    return DisaggregatedInferenceSpec.model_validate(raw)


def said(config: dict[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads(config["data"]["scheduling.json"])
    return settings


def test_a_static_resource_is_told_what_its_spec_says(owner: Owner, spec: DisaggregatedInferenceSpec):
    config = scheduling_config(owner, spec)
    assert said(config) == {
        "version": 1,
        "policy": "on-time-first",
        "ttftSeconds": 1.5,
        "lateShare": 0.5,
        "latePrompts": "Serve",
        "mostUnfinished": 3,
    }
    assert config["metadata"]["name"] == "llama-prefill"
    assert config["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "dopd"


def test_the_default_share_of_the_late_is_that_of_the_order(spec: DisaggregatedInferenceSpec):
    assert spec.scheduling.late_share == Settings.late_share


def full(owner: Owner, scaling: Any, **others: Any) -> dict[str, Any]:
    return scheduling_config(owner, read(scaling), **{"engine": ENGINE, "predicted_tokens": 1500.0, **others})


def test_a_resource_that_scales_is_told_what_is_predicted_and_how_long_its_engines_take(owner: Owner, scaling: Any):
    settings = said(full(owner, scaling))
    assert settings["predictedTokens"] == 1500.0
    assert settings["times"].pop("passPoints") == POINTS
    assert settings["times"] == pytest.approx(
        {
            "attentionSeconds": 0.0,
            "transferSeconds": 0.005,
            "transferTokenSeconds": 1e-5,
        },
        rel=1e-3,
    )


@pytest.mark.parametrize(
    "path", sorted((Path(perf.__file__).parent / "profiles").iterdir()), ids=lambda path: path.stem
)
def test_the_times_told_are_those_that_the_replay_orders_by(owner: Owner, scaling: Any, path: Path):
    engine = EngineModel.from_profile(EngineProfileSpec.model_validate(yaml.safe_load(path.read_text())["spec"]))
    told = said(full(owner, scaling, engine=engine))["times"]
    times = perf.service_times(engine)
    for tokens, seconds in ((point["tokens"], point["seconds"]) for point in told["passPoints"]):
        assert seconds == pytest.approx(times.pass_seconds(tokens), rel=1e-3)
    assert told["attentionSeconds"] == pytest.approx(times.attention_seconds, rel=1e-3)
    assert told["transferTokenSeconds"] == pytest.approx(times.transfer_token_seconds, rel=1e-3)


@pytest.mark.parametrize(
    "later",
    [
        {"predicted_tokens": 1400.0},
        {"predicted_tokens": None},
        {"engine": ENGINE.corrected(prefill=1.08)},
        {"engine": None},
    ],
)
def test_a_ripple_is_not_written_nor_what_is_not_known(owner: Owner, scaling: Any, later: dict[str, Any]):
    stored = full(owner, scaling)
    assert full(owner, scaling, **later, stored=stored) == stored


@pytest.mark.parametrize(
    ("later", "key"),
    [
        ({"predicted_tokens": 1700.0}, "predictedTokens"),
        ({"engine": ENGINE.corrected(prefill=1.3)}, "times"),
        ({"engine": replace(ENGINE, transfer_tokens_per_second=5e4)}, "times"),
    ],
)
def test_a_move_is_written(owner: Owner, scaling: Any, later: dict[str, Any], key: str):
    stored = full(owner, scaling)
    moved = said(full(owner, scaling, **later, stored=stored))
    assert {name for name, value in moved.items() if said(stored)[name] != value} == {key}


def test_what_a_resource_no_longer_predicts_is_not_told(owner: Owner, scaling: Any, raw_spec: dict[str, Any]):
    stored = full(owner, scaling)
    static = {**raw_spec, "prefill": {"gpus": 1, "replicas": 1}, "decode": {"gpus": 1, "replicas": 1}}
    assert scheduling_config(owner, read(static), stored=stored) == scheduling_config(owner, read(static))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[]",
        '{"times": 3}',
        '{"times": {"passPoints": []}}',
        '{"times": {"leastSeconds": 0.1, "fixedSeconds": 0.1, "tokenSeconds": 0.1}}',
        '{"predictedTokens": -5, "times": {}}',
    ],
)
def test_somebodys_edit_is_written_over(owner: Owner, scaling: Any, text: str):
    edited = {"metadata": {}, "data": {"scheduling.json": text}}
    assert full(owner, scaling, stored=edited) == full(owner, scaling)


def test_somebodys_edit_that_the_plugin_would_refuse_is_not_kept(owner: Owner, scaling: Any):
    edited = {"metadata": {}, "data": {"scheduling.json": '{"predictedTokens": -5}'}}
    assert "predictedTokens" not in said(full(owner, scaling, predicted_tokens=None, stored=edited))


@pytest.mark.parametrize(
    "changes",
    [
        {"slo": {"ttftSeconds": 1.51}},
        {"scheduling": {"policy": "ShortestFirst"}},
        {"scheduling": {"lateShare": 0.3}},
        {"scheduling": {"latePrompts": "Refuse"}},
        {"scheduling": {"mostUnfinished": 4}},
    ],
)
def test_what_the_user_changes_is_told_at_once_and_replaces_no_pod(
    owner: Owner, raw_spec: dict[str, Any], changes: dict[str, Any]
):
    before, after = read(raw_spec), read({**raw_spec, **changes})
    assert scheduling_config(owner, after)["data"] != scheduling_config(owner, before)["data"]
    for role in Role:
        assert worker_template(owner, after, role) == worker_template(owner, before, role)


def test_prefill_workers_read_it_from_a_folder_and_start_without_it(owner: Owner, spec: DisaggregatedInferenceSpec):
    children = child_manifests(owner, spec, Targets(1, 1))
    pod = worker_template(owner, spec, Role.PREFILL)["spec"]
    config = next(c for c in children if c["kind"] == "ConfigMap")
    volume = {"name": "scheduling", "configMap": {"name": config["metadata"]["name"], "optional": True}}
    assert volume in pod["volumes"]
    mount = {"name": "scheduling", "mountPath": "/etc/dopd/scheduling", "readOnly": True}
    assert mount in pod["containers"][0]["volumeMounts"]
    assert "scheduling" not in json.dumps(worker_template(owner, spec, Role.DECODE))
