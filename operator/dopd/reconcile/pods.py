"""Reading pods: which worker they are, and what keeps them from serving. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from dopd.api.names import DRAINING_SINCE, POOL_LABEL, ROLE_LABEL
from dopd.api.status import ConditionReason
from dopd.planning.pool import Worker
from dopd.telemetry.addresses import engine_address
from dopd.telemetry.engines import EngineLoad
from dopd.telemetry.gateway import GatewayView

Pod = dict[str, Any]

_IMAGE_REASONS = {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError"}
_CONFIG_REASONS = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}


class Trouble(NamedTuple):
    """What keeps a pod from serving, and what a person can do about it."""

    reason: ConditionReason
    message: str


def of_pool(pods: Sequence[Pod], pool: str) -> list[Pod]:
    """Pods of one pool that hold their place: neither being deleted nor finished."""
    return [pod for pod in pods if pod["metadata"].get("labels", {}).get(POOL_LABEL) == pool and alive(pod)]


def terminating(pods: Sequence[Pod], pool: str) -> int:
    """Pods of a pool that are being deleted and hold their GPUs until their last request is done."""
    return sum(
        pod["metadata"].get("labels", {}).get(POOL_LABEL) == pool and "deletionTimestamp" in pod["metadata"]
        for pod in pods
    )


def alive(pod: Pod) -> bool:
    """Neither being deleted nor finished (evicted, completed)."""
    finished = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
    return "deletionTimestamp" not in pod["metadata"] and not finished


def ready(pod: Pod) -> bool:
    """Kubernetes says ready."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions", []))


def has_address(pod: Pod) -> bool:
    """Whether it can be reached."""
    return bool(pod.get("status", {}).get("podIP"))


def engine_start(pod: Pod) -> str:
    """Names one start of the engine in a pod: its counters begin anew with the next."""
    restarts = sum(c.get("restartCount", 0) for c in pod.get("status", {}).get("containerStatuses", []))
    return f"{pod['metadata']['uid']}/{restarts}"


def epoch_seconds(timestamp: str) -> float:
    """Seconds since the epoch of an RFC 3339 time."""
    return datetime.fromisoformat(timestamp).timestamp()


def worker(pod: Pod, gateway: GatewayView, load: EngineLoad | None) -> Worker:
    """A pod as the pool's state machine sees it."""
    meta = pod["metadata"]
    since = meta.get("annotations", {}).get(DRAINING_SINCE)
    labelled = ROLE_LABEL in meta.get("labels", {})
    return Worker(
        name=meta["name"],
        labelled=labelled,
        ready=ready(pod),
        scheduled=bool(pod.get("spec", {}).get("nodeName")),
        created_seconds=epoch_seconds(meta["creationTimestamp"]),
        draining_since_seconds=epoch_seconds(since) if since and not labelled else None,
        registered=gateway.registered(engine_address(pod)) if has_address(pod) else False,
        idle=load.idle if load else None,
        load=load.running + load.waiting if load else 0.0,
    )


def trouble(pod: Pod) -> Trouble | None:
    """What is wrong with a pod that does not serve; None when it is merely starting (or serves)."""
    if ready(pod):
        return None
    name, status = pod["metadata"]["name"], pod.get("status", {})
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable":
            return Trouble(
                ConditionReason.UNSCHEDULABLE,
                f"pod {name} fits no node: {condition.get('message', '')}. Free or add nodes with the GPUs that the"
                " worker requests, or lower the number of workers",
            )
    for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        found = _container_trouble(name, container)
        if found:
            return found
    return None


def _container_trouble(pod_name: str, container: dict[str, Any]) -> Trouble | None:
    waiting = container.get("state", {}).get("waiting", {})
    reason, detail = waiting.get("reason", ""), waiting.get("message", "")
    if reason in _IMAGE_REASONS:
        return Trouble(
            ConditionReason.IMAGE_PULL,
            f"pod {pod_name}: image {container['image']} can not be pulled ({reason}): {detail}. Check the image name"
            " and spec.engine.imagePullSecrets",
        )
    if reason in _CONFIG_REASONS:
        return Trouble(
            ConditionReason.CONFIG,
            f"pod {pod_name}: container {container['name']} can not be created ({reason}): {detail}. Create what is"
            " missing, or correct env and template in the spec",
        )
    ended = container.get("lastState", {}).get("terminated") or container.get("state", {}).get("terminated")
    if ended and (reason == "CrashLoopBackOff" or container.get("restartCount", 0) >= 1):
        # SGLang exits with code 0 when a child dies while it loads: look at restarts, not at the code.
        return Trouble(
            ConditionReason.CRASHING,
            f"pod {pod_name}: container {container['name']} ended {container.get('restartCount', 0)} times, last"
            f" with exit code {ended.get('exitCode')} ({ended.get('reason', '')}). Read its log:"
            f" kubectl logs {pod_name} -c {container['name']} --previous",
        )
    return None


def first_trouble(pods: Sequence[Pod]) -> Trouble | None:
    """The first trouble among pods, in order of names, so that the message does not jump between them."""
    return next(filter(None, map(trouble, sorted(pods, key=lambda p: str(p["metadata"]["name"])))), None)
