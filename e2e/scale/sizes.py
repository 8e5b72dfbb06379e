"""How many of what, and their names. Pure."""

from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]
PROFILE = "played"


def names(resources: int, namespaces: int) -> list[tuple[str, str]]:
    """Namespace and name of each resource."""
    return [(namespace_name(index % namespaces), f"m-{index:04d}") for index in range(resources)]


def namespace_name(index: int) -> str:
    """Of a team."""
    return f"team-{index:03d}"


def manifest(name: str, workers: int, prometheus_url: str, interval_seconds: int, queue_seconds: int) -> Json:
    """A resource that scales, and that has so many workers of each role whatever the load is."""
    image = {"image": "never.pulled/played", "imagePullPolicy": "Never"}
    bounds = {"min": workers, "max": workers}
    return {
        "apiVersion": "dopd.dev/v1alpha1",
        "kind": "DisaggregatedInference",
        "metadata": {"name": name},
        "spec": {
            "model": "played/model",
            "engine": image,
            "prefill": {"gpus": 1},
            "decode": {"gpus": 1},
            "router": {**image, "replicas": 1},
            "slo": {"ttftSeconds": 2.0, "itlSeconds": 0.05},
            "scaling": {
                "mode": "Auto",
                "prefill": bounds,
                "decode": bounds,
                "profileRef": {"name": PROFILE},
                "forecast": {"bin": "60s", "history": "2h"},
                "behavior": {"interval": f"{interval_seconds}s", "queueInterval": f"{queue_seconds}s"},
            },
            "telemetry": {"prometheusURL": prometheus_url},
        },
    }


def profile() -> Json:
    """Of an engine that is played."""
    return {
        "apiVersion": "dopd.dev/v1alpha1",
        "kind": "EngineProfile",
        "metadata": {"name": PROFILE},
        "spec": {
            "model": "played/model",
            "gpu": "played",
            "gpus": 1,
            "source": {"origin": "Synthetic", "description": "Played.", "date": "2026-11-24"},
            "prefill": {
                "points": [{"tokens": 1, "seconds": 0.02}, {"tokens": 4096, "seconds": 0.5}],
                "chunkTokens": 4096,
            },
            "decode": {
                "points": [
                    {"batch": batch, "contextTokens": context, "itlSeconds": 0.01 + batch * context * 1e-8}
                    for batch in (1, 32)
                    for context in (1024, 8192)
                ],
                "kvTokens": 200000,
                "maxRunningRequests": 64,
            },
            "transfer": {"baseSeconds": 0.002, "tokensPerSecond": 1000000},
            "startup": {"prefillSeconds": 3, "decodeSeconds": 4},
        },
    }


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float | None:
    """The power with which a cost grows, fitted over all sizes; None where it is nothing somewhere."""
    import numpy as np

    if len(sizes) < 2 or min(costs) <= 0:
        return None
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])
