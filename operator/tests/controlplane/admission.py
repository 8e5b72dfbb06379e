"""Manifests with something changed, sent to the API server for judgement only (server-side dry run)."""

import copy
from typing import Any

import httpx

from dopd.cluster import kinds

Json = dict[str, Any]

INFERENCE: Json = {
    "apiVersion": "dopd.dev/v1alpha1",
    "kind": "DisaggregatedInference",
    "metadata": {"name": "llama"},
    "spec": {
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "engine": {"image": "lmsysorg/sglang:v0.5.23"},
        "prefill": {"gpus": 2},
        "decode": {"gpus": 2},
        "router": {"image": "smg:1.13.0"},
        "scaling": {
            "prefill": {"min": 1, "max": 4},
            "decode": {"min": 1, "max": 4},
            "gpuBudget": {"max": 8},
            "profileRef": {"name": "llama-3.1-8b-h100"},
        },
    },
}
PROFILE: Json = {
    "apiVersion": "dopd.dev/v1alpha1",
    "kind": "EngineProfile",
    "metadata": {"name": "llama-3.1-8b-h100"},
    "spec": {
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "gpu": "h100_sxm",
        "source": {"origin": "Measured", "description": "by hand", "date": "2026-01-01"},
        "prefill": {"points": [{"tokens": 512, "seconds": 0.01}, {"tokens": 2048, "seconds": 0.05}]},
        "decode": {"points": [{"batch": 1, "contextTokens": 1024, "itlSeconds": 0.006}], "kvTokens": 400000},
    },
}
GONE = object()


def changed(base: Json, changes: Json) -> Json:
    """A manifest with values at dotted paths set, or taken away."""
    manifest = copy.deepcopy(base)
    for path, value in changes.items():
        *parents, last = path.split(".")
        node = manifest
        for parent in parents:
            node = node.setdefault(parent, {})
        if value is GONE:
            del node[last]
        else:
            node[last] = value
    return manifest


def send(api: httpx.Client, kind: kinds.Kind, manifest: Json, validation: str = "Strict") -> httpx.Response:
    """What the API server says to a manifest, by default as strict as with kubectl; nothing is stored."""
    query = {"dryRun": "All", "fieldValidation": validation}
    return api.post(kind.path("default"), params=query, json=manifest)


def missing_words(answer: httpx.Response, words: list[str]) -> str:
    """What a refusal does not say though it should, with the refusal; empty when it says it all."""
    assert answer.status_code in (400, 422), f"not refused: {answer.text}"
    message = answer.json()["message"]
    missing = [word for word in words if word not in message]
    return f"{missing} missing in {message!r}" if missing else ""
