"""What the API server's refusals mean for a person, and when what it refused is sent again. Pure."""

from dopd.api.conditions import ConditionReason
from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.cluster import ApiError, kinds
from dopd.reconcile.pods import Trouble

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
"""The same manifest is sent again after the first pause, then after twice as long, and so on up to the longest."""

_PASSING = (0, 408, 429, 502, 503, 504)
"""Answers of a server in trouble, as opposed to those that say that a manifest is not acceptable."""

_PASSING_WORDS = ("leader", "timed out", "timeout", "rpc error", "context deadline", "context canceled", "too many")
"""Words of a 500 of a server in trouble; a 500 may as well say that a field is not in the schema."""


def failed(what: str, error: BaseException) -> Trouble:
    """Trouble of a part of a pass that ended in an error."""
    if isinstance(error, ApiError):
        return Trouble(ConditionReason.API_FAILED, f"{what}: {error.message}")
    if isinstance(error, TimeoutError):
        return Trouble(ConditionReason.API_FAILED, f"{what}: no answer in time")
    return Trouble(ConditionReason.PASS_FAILED, f"{what}: {type(error).__name__}: {error!s:.1000}")


def taken(name: str) -> Trouble:
    """An object of that kind and name is somebody else's."""
    fix = f"Delete or rename it, or give {kinds.INFERENCE.kind} another name"
    return Trouble(ConditionReason.NAME_TAKEN, f"{name} exists and is not of this resource. {fix}")


def no_groups(spec: DisaggregatedInferenceSpec) -> str:
    """That workers of several nodes are asked for in a cluster that has no LeaderWorkerSets."""
    asked = {Role.PREFILL: spec.prefill.nodes, Role.DECODE: spec.decode.nodes}
    fields = " and ".join(f"spec.{role}.nodes ({nodes})" for role, nodes in asked.items() if nodes > 1)
    kind = f"{kinds.LEADER_WORKER_SET.kind}s ({kinds.LEADER_WORKER_SET.api_version})"
    return f"{fields or 'a worker of several nodes'}: the cluster has no {kind}. Install them, or set nodes to 1"


def over_quota(error: ApiError) -> bool:
    """Whether a ResourceQuota has no room for what is acceptable otherwise: the API server asks quotas last."""
    return error.status == 403 and "exceeded quota" in error.message


def refusal(name: str, error: ApiError) -> Trouble:
    """A manifest of that kind and name was not accepted."""
    if "port is already allocated" in error.message:
        fix = "Choose another spec.router.service.nodePort, or leave it out"
        return Trouble(ConditionReason.PORT_TAKEN, f"{name}: {error.message}. {fix}")
    if over_quota(error):
        fix = "Raise that ResourceQuota, or lower max or gpuBudget.max; what there is serves on"
        return Trouble(ConditionReason.QUOTA_EXCEEDED, f"{name} is refused: {error.message}. {fix}")
    passing_500 = error.status == 500 and any(words in error.message for words in _PASSING_WORDS)
    if error.status in _PASSING or passing_500:
        return Trouble(ConditionReason.API_FAILED, f"{name}: {error.message}")
    return Trouble(ConditionReason.CHILD_REFUSED, f"{name} is refused: {error.message}")
