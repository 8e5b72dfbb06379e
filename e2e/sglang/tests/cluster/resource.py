"""The resource: as a user writes it, with the flags that a machine without a GPU needs."""

from typing import Any

from e2e.cluster.daemon import docker_session
from e2e.cluster.images import build_sglang
from e2e.cluster.load import load
from e2e.sglang.engines import CPU_FLAGS, CPU_PAIR_FLAGS
from e2e.sglang.install import CPU_ENVIRONMENT
from e2e.sglang.model import model_folder
from e2e.stack import Stack

Json = dict[str, Any]
NAME = "sglang"
MODEL = "tiny"
MODEL_MAP = "tiny-model"
"""Name of the ConfigMap that holds the model's files."""
GATEWAY_NODE_PORT = 30080


def put(stack: Stack) -> str:
    """Load the image with SGLang for machines without a GPU onto every node, and apply model and profile.

    Returns:
        The reference of the image.
    """
    with docker_session(stack.cluster.docker_host) as docker:
        images = build_sglang(docker)
        load(docker, stack.cluster, images)
    (reference,) = images
    files = [f"--from-file={path}" for path in sorted(model_folder().iterdir())]
    stack.kubectl("delete", "configmap", MODEL_MAP, "--ignore-not-found")
    stack.kubectl("create", "configmap", MODEL_MAP, *files)  # `apply` would keep a second copy, too large for it
    stack.apply(profile())
    return reference


def profile() -> Json:
    """An EngineProfile for which one decode worker holds two requests: little load asks for a second one."""
    return {
        "apiVersion": "dopd.dev/v1alpha1",
        "kind": "EngineProfile",
        "metadata": {"name": NAME},
        "spec": {
            "model": MODEL,
            "gpu": "cpu",
            "gpus": 1,
            "source": {
                "origin": "Synthetic",
                "description": "Made up, so that a load that two cores can bear needs two decode workers.",
                "date": "2026-11-29",
            },
            "prefill": {
                "points": [{"tokens": 1, "seconds": 0.02}, {"tokens": 1024, "seconds": 0.2}],
                "chunkTokens": 2048,
            },
            "decode": {
                "points": [
                    {"batch": 1, "contextTokens": 1024, "itlSeconds": 0.05},
                    {"batch": 2, "contextTokens": 1024, "itlSeconds": 0.06},
                ],
                "kvTokens": 65536,
                "maxRunningRequests": 2,
            },
            "transfer": {"baseSeconds": 0.01, "tokensPerSecond": 100000},
            "startup": {"prefillSeconds": 60, "decodeSeconds": 60},
        },
    }


def resource(image: str) -> Json:
    """One prefill worker, one or two decode workers, scaled by the operator."""
    pod = {
        "spec": {
            "securityContext": {"runAsNonRoot": True, "runAsUser": 10001},
            "containers": [
                {
                    "name": "engine",
                    "securityContext": {"capabilities": {"drop": ["ALL"]}},
                    "volumeMounts": [{"name": "model", "mountPath": f"/models/{MODEL}"}],
                    # An import of torch takes all of two cores for a while: no probe has a chance meanwhile.
                    "livenessProbe": {"timeoutSeconds": 25, "periodSeconds": 30, "failureThreshold": 10},
                }
            ],
            "volumes": [{"name": "model", "configMap": {"name": MODEL_MAP}}],
        }
    }
    return {
        "apiVersion": "dopd.dev/v1alpha1",
        "kind": "DisaggregatedInference",
        "metadata": {"name": NAME},
        "spec": {
            "model": MODEL,
            "engine": {
                "image": image,
                "imagePullPolicy": "Never",
                "transferBackend": "mooncake_tcp",
                "modelPath": f"/models/{MODEL}",
                "args": [*CPU_FLAGS, *CPU_PAIR_FLAGS],
                "env": [{"name": name, "value": value} for name, value in CPU_ENVIRONMENT.items()],
                "sharedMemory": "512Mi",
                "terminationGracePeriod": "120s",
            },
            "prefill": {"gpus": 1, "template": pod},
            "decode": {"gpus": 1, "template": pod},
            "router": {
                "image": "dopd.dev/gateway:1.13.0",
                "imagePullPolicy": "Never",
                "replicas": 1,
                "service": {"type": "NodePort", "nodePort": GATEWAY_NODE_PORT},
            },
            "slo": {"ttftSeconds": 2.0, "itlSeconds": 0.2},
            "scaling": {
                "mode": "Auto",
                "prefill": {"min": 1, "max": 1},
                "decode": {"min": 1, "max": 2},
                "profileRef": {"name": NAME},
                "forecast": {"bin": "2s", "history": "10m"},
                "behavior": {"interval": "3s", "scaleDownStabilization": "20s", "drainDeadline": "120s"},
            },
            "telemetry": {"prometheusURL": "http://prometheus.monitoring.svc:9090"},
        },
    }
