"""Whether a profile is one of the workers that it plans for. Pure.

A profile of another model or of fewer GPUs scales a fleet by a factor that is wrong, and nothing else would tell. The
GPU type is compared where it is known: from the nodes that the pod template asks for. The operator has no right to read
nodes.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.api.profile import EngineProfileSpec

PROFILE_FIX = "Measure or estimate one of these workers (dopd profile), or name another EngineProfile"

GPU_LABELS = (
    "nvidia.com/gpu.product",
    "cloud.google.com/gke-accelerator",
    "karpenter.k8s.aws/instance-gpu-name",
    "gpu.nvidia.com/model",
    "amd.com/gpu.product-name",
    "feature.node.kubernetes.io/gpu.model",
)
"""Labels of nodes that name the type of their GPUs."""

_GPU_TYPE = re.compile(r"(?:gb|rtx|mi|[abhlpqtv])\d{1,4}[a-z]{0,2}")
_MEMORY = re.compile(r"hbm\w*|\d+gb?|\d+g")


def profile_differences(spec: DisaggregatedInferenceSpec, profiles: Mapping[Role, EngineProfileSpec]) -> list[str]:
    """What the profiles and the workers that they plan for do not have in common, a sentence each.

    Args:
        spec: of the resource.
        profiles: by role; empty where they are not known.
    """
    found: list[str] = []
    for role, profile in profiles.items():
        workers = spec.prefill if role is Role.PREFILL else spec.decode
        name = f"EngineProfile {spec.profile_name(role)}"
        if profile.gpus != workers.gpus:
            found.append(f"a {role} worker has {workers.gpus} GPUs, and {name} is of an engine with {profile.gpus}")
        if not _same_model(profile.model, spec):
            served = spec.engine.model_path or spec.model
            found.append(f"{role} workers serve {served}, and {name} is of {profile.model}")
        asked = {kind for label in labels_asked_for(workers.template or {}) for kind in gpu_types(label)}
        measured = gpu_types(profile.gpu)
        if asked and measured and not asked & measured:
            found.append(f"{role} pods ask for {', '.join(sorted(asked))} nodes, and {name} is of {profile.gpu}")
    return list(dict.fromkeys(found))


def gpu_types(name: str) -> set[str]:
    """Types of GPU that a product name holds: `NVIDIA-H100-80GB-HBM3` and `h100_sxm` are {"h100"}."""
    words = re.split(r"[^a-z0-9]+", name.lower())
    return {word for word in words if _GPU_TYPE.fullmatch(word) and not _MEMORY.fullmatch(word)}


def _same_model(measured: str, spec: DisaggregatedInferenceSpec) -> bool:
    """Whether a name is that of the served model, but for its owner and for how it is written."""
    return _bare(measured) in {_bare(name) for name in (spec.model, spec.engine.model_path) if name}


def _bare(model: str) -> str:
    """`meta-llama/Meta-Llama-3.1-8B-Instruct` and `/models/llama-3.1-8b` are the same weights to a profile."""
    name = re.sub(r"[^a-z0-9]+", "-", model.rstrip("/").rpartition("/")[2].lower()).strip("-")
    return re.sub(r"-(instruct|chat|it|base|hf)$", "", name.removeprefix("meta-"))


def labels_asked_for(template: Mapping[str, Any]) -> Iterator[str]:
    """Values of labels that name GPUs in nodeSelector and in required node affinity."""
    pod = _mapping(template.get("spec"))
    for label, value in _mapping(pod.get("nodeSelector")).items():
        if label in GPU_LABELS and isinstance(value, str):
            yield value
    affinity = _mapping(_mapping(pod.get("affinity")).get("nodeAffinity"))
    required = _mapping(affinity.get("requiredDuringSchedulingIgnoredDuringExecution"))
    for term in _sequence(required.get("nodeSelectorTerms")):
        for expression in _sequence(_mapping(term).get("matchExpressions")):
            asked = _mapping(expression)
            if asked.get("key") in GPU_LABELS and asked.get("operator") == "In":
                yield from (value for value in _sequence(asked.get("values")) if isinstance(value, str))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _sequence(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
