from typing import Any

import pytest

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.workloads import Owner


@pytest.fixture
def owner() -> Owner:
    return Owner("llama", "serving", "uid-1")


@pytest.fixture
def raw_spec() -> dict[str, Any]:
    return {
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "engine": {"image": "sglang:v0.5.23", "args": ["--mem-fraction-static", "0.85"]},
        "prefill": {"gpus": 2, "replicas": 1},
        "decode": {"gpus": 1, "replicas": 3, "args": ["--max-running-requests", "128"]},
        "router": {"image": "smg:1.13.0"},
    }


@pytest.fixture
def spec(raw_spec: dict[str, Any]) -> DisaggregatedInferenceSpec:
    return DisaggregatedInferenceSpec.model_validate(raw_spec)
