"""A profile of other workers is told, before it scales a fleet by a wrong factor."""

from typing import Any

import pytest

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.api.profile import EngineProfileSpec
from dopd.reconcile.profile_match import gpu_types, profile_differences

PROFILE = {
    "model": "meta-llama/Meta-Llama-3.1-8B",
    "gpu": "h100_sxm",
    "source": {"origin": "Synthetic", "description": "x", "date": "2026-01-01"},
    "prefill": {"points": [{"tokens": 1, "seconds": 0.01}, {"tokens": 2, "seconds": 0.02}]},
    "decode": {"points": [{"batch": 1, "contextTokens": 1, "itlSeconds": 0.01}], "kvTokens": 1000},
}


def differences(prefill: dict[str, Any] | None = None, profile: dict[str, Any] | None = None, **spec: Any) -> list[str]:
    bounds = {"min": 1, "max": 2}
    raw = {
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "engine": {"image": "sglang"},
        "prefill": {"gpus": 1, **(prefill or {})},
        "decode": {"gpus": 1},
        "router": {"image": "smg"},
        "scaling": {"prefill": bounds, "decode": bounds, "profileRef": {"name": "p"}},
        **spec,
    }
    made = EngineProfileSpec.model_validate({**PROFILE, **(profile or {})})
    return profile_differences(DisaggregatedInferenceSpec.model_validate(raw), dict.fromkeys(Role, made))


def selecting(**labels: str) -> dict[str, Any]:
    return {
        "template": {"spec": {"nodeSelector": {label.replace("__", "/"): value for label, value in labels.items()}}}
    }


def test_the_profile_of_these_workers_has_no_differences():
    assert differences() == []


def test_workers_of_eight_gpus_are_not_planned_silently_with_a_profile_of_one():
    assert differences(prefill={"gpus": 8}) == [
        "a prefill worker has 8 GPUs, and EngineProfile p is of an engine with 1"
    ]


def test_another_model_is_told_of_both_roles():
    found = differences(model="openai/gpt-oss-120b")
    assert found == [
        f"{role} workers serve openai/gpt-oss-120b, and EngineProfile p is of meta-llama/Meta-Llama-3.1-8B"
        for role in ("prefill", "decode")
    ]


@pytest.mark.parametrize("path", ["/models/llama-3.1-8b", "/models/Llama-3.1-8B-Instruct/", "unsloth/Llama_3.1_8B"])
def test_an_alias_for_clients_is_no_other_model(path: str):
    assert differences(model="chat", engine={"image": "sglang", "modelPath": path}) == []


@pytest.mark.parametrize(
    "prefill",
    [
        selecting(**{"nvidia.com__gpu.product": "NVIDIA-L40S"}),
        selecting(**{"cloud.google.com__gke-accelerator": "nvidia-tesla-a100"}),
        {
            "template": {
                "spec": {
                    "affinity": {
                        "nodeAffinity": {
                            "requiredDuringSchedulingIgnoredDuringExecution": {
                                "nodeSelectorTerms": [
                                    {
                                        "matchExpressions": [
                                            {
                                                "key": "nvidia.com/gpu.product",
                                                "operator": "In",
                                                "values": ["NVIDIA-H200"],
                                            }
                                        ]
                                    }
                                ]
                            }
                        }
                    }
                }
            }
        },
    ],
)
def test_nodes_with_other_gpus_are_told(prefill: dict[str, Any]):
    (found,) = differences(prefill=prefill)
    assert "nodes, and EngineProfile p is of h100_sxm" in found


@pytest.mark.parametrize(
    "prefill",
    [
        selecting(**{"nvidia.com__gpu.product": "NVIDIA-H100-80GB-HBM3"}),
        selecting(**{"nvidia.com__gpu.product": "something-new"}),
        selecting(zone="l40s"),
        {"template": {"spec": {"nodeSelector": None, "affinity": [1]}}},
    ],
)
def test_the_same_gpus_and_what_is_not_known_are_no_difference(prefill: dict[str, Any]):
    assert differences(prefill=prefill) == []


@pytest.mark.parametrize(
    ("name", "types"),
    [
        ("NVIDIA-H100-80GB-HBM3", {"h100"}),
        ("h100_sxm", {"h100"}),
        ("NVIDIA-A100-SXM4-40GB", {"a100"}),
        ("nvidia-h100-mega-80gb", {"h100"}),
        ("NVIDIA-GB200", {"gb200"}),
        ("AMD_Instinct_MI300X_OAM", {"mi300x"}),
        ("l40s", {"l40s"}),
        ("NVIDIA-RTX-6000-Ada-Generation", set()),
        ("simulated", set()),
    ],
)
def test_types_of_gpus(name: str, types: set[str]):
    assert gpu_types(name) == types
