"""Reading pods: which worker they are, and what keeps them from serving. Pure."""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from dopd.api.conditions import ConditionReason
from dopd.api.names import (
    BOOTSTRAP_PORT,
    BOOTSTRAP_PORT_ANNOTATION,
    BOOTSTRAP_PORT_NAME,
    BOOTSTRAP_TURNS,
    DOMAIN_KEY_ANNOTATION,
    DOMAIN_LABEL,
    DRAINING_SINCE,
    ENGINE_CONTAINER,
    FLIP_TO,
    GPUS_ANNOTATION,
    KEEPS_ROLE,
    LAUNCH_LABEL,
    POOL_LABEL,
    PROVED,
    PROVING,
    REVISION_LABEL,
    ROLE_LABEL,
    ROLES,
    ROUTER_POOL,
    SERVING_LABEL,
    Role,
)
from dopd.api.pairs import Pair
from dopd.cluster.kinds import controller
from dopd.reconcile.groups import Group, group_of
from dopd.rollout import Worker
from dopd.telemetry.addresses import engine_address
from dopd.telemetry.engines import EngineLoad
from dopd.telemetry.gateway import GatewayView
from dopd.workloads import Owner
from dopd.workloads.router import gateway_names

Pod = dict[str, Any]

OVERDUE_SECONDS = 60.0
"""A pod that is there so long after the end of its grace period is on a node that does not answer."""

FAILED_STARTS = 2
"""So often a new worker's container may end before the worker counts as one that does not come up."""

NEW_SECONDS = 30.0
"""So long after its start an engine that serves may be one whose partners do not know that it is another one."""

FAILED_SECONDS = 120.0
"""So long an image, a Secret or a volume may be missing before it does."""

NAMED_PODS = 3
"""So many pods are named in a message."""

_IMAGE_REASONS = {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError"}
_CONFIG_REASONS = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}


class Trouble(NamedTuple):
    """What keeps a pod from serving, and what a person can do about it."""

    reason: ConditionReason
    message: str


def pool(pod: Pod) -> str:
    """What a pod counts for: its pool, or the role that it is on its way to."""
    to = (pod["metadata"].get("annotations") or {}).get(FLIP_TO)
    return to if to in ROLES and convertible(pod) else str(pod["metadata"].get("labels", {}).get(POOL_LABEL))


def convertible(pod: Pod) -> bool:
    """Whether a worker was started as one that may change its role."""
    labels = pod["metadata"].get("labels", {})
    return labels.get(LAUNCH_LABEL) in ROLES and labels.get(POOL_LABEL) in ROLES


def turning(pod: Pod) -> bool:
    """Whether a worker is on its way to another role, and does not serve in it yet."""
    return convertible(pod) and FLIP_TO in (pod["metadata"].get("annotations") or {})


def starts_anew(pod: Pod) -> int:
    """How often the engine of a pod began anew."""
    statuses = pod.get("status", {}).get("containerStatuses", [])
    return next((int(each.get("restartCount", 0)) for each in statuses if each.get("name") == ENGINE_CONTAINER), 0)


def began_anew(pod: Pod, now_seconds: float) -> bool:
    """Whether a prefill worker that serves has another engine than decode engines may think, and nobody tried it yet.

    A decode engine notices by two failed heartbeats, some ten seconds, that a prefill engine is gone. One that is back
    sooner keeps its address, and decode waits for the dead one. One that serves for a while is well.
    """
    labels = pod["metadata"].get("labels", {})
    if ROLE_LABEL not in labels or SERVING_LABEL not in labels or pool(pod) != Role.PREFILL:
        return False
    proved = (pod["metadata"].get("annotations") or {}).get(PROVED, "")
    if starts_anew(pod) <= (int(proved[:9]) if proved.isascii() and proved.isdigit() else 0):
        return False
    if not ready(pod):
        return True
    statuses = pod.get("status", {}).get("containerStatuses", [])
    engine: Pod = next((each for each in statuses if each.get("name") == ENGINE_CONTAINER), {})
    began = (engine.get("state") or {}).get("running", {}).get("startedAt")
    return bool(began) and now_seconds - epoch_seconds(began) < NEW_SECONDS


def proving(pod: Pod) -> bool:
    """Whether a worker lost its label since its engine began anew."""
    meta = pod["metadata"]
    return PROVING in (meta.get("annotations") or {}) and ROLE_LABEL not in meta.get("labels", {})


def of_pool(pods: Sequence[Pod], of: str) -> list[Pod]:
    """Pods of one pool that hold their place: neither being deleted nor finished."""
    return [pod for pod in pods if pool(pod) == of and alive(pod)]


def of_resource(pods: Sequence[Pod], owner: Owner) -> list[Pod]:
    """Pods that the resource owns, or a ReplicaSet of one of its Deployments; groups are read by `groups`.

    Whoever may write pods can give them any label.
    """

    def ours(pod: Pod) -> bool:
        if owned(pod, owner):
            return True
        made_by = controller(pod)
        labels = pod["metadata"].get("labels", {})
        pool = str(labels.get(POOL_LABEL))
        names = gateway_names(owner, Pair.of_labels(labels)) if pool == ROUTER_POOL else (owner.child_name(pool),)
        replica_set = (made_by.get("apiVersion"), made_by.get("kind")) == ("apps/v1", "ReplicaSet")
        return replica_set and str(made_by.get("name")).rpartition("-")[0] in names

    return [pod for pod in pods if ours(pod)]


def owned(pod: Pod, owner: Owner) -> bool:
    """Whether the resource itself is an owner of a pod."""
    return any(reference.get("uid") == owner.uid for reference in pod["metadata"].get("ownerReferences") or [])


def ending(pods: Sequence[Pod], of: str) -> list[Pod]:
    """Pods of a pool that are being deleted: they finish what they run, and count until they are gone."""
    return [pod for pod in pods if pool(pod) == of and "deletionTimestamp" in pod["metadata"]]


def finished_of(pods: Sequence[Pod], of: str) -> list[Pod]:
    """Pods of a pool whose containers all ended for good, and that nobody deletes yet."""
    return [pod for pod in pods if pool(pod) == of and finished(pod) and "deletionTimestamp" not in pod["metadata"]]


def overdue(pod: Pod, now_seconds: float) -> bool:
    """Whether a pod that is being deleted should be gone: its node is lost, and so are the GPUs that it held.

    deletionTimestamp is the end of its grace period. Of a group that is so once it is of all pods that are left.
    """
    return now_seconds - epoch_seconds(pod["metadata"]["deletionTimestamp"]) > OVERDUE_SECONDS


def broken(pod: Pod, now_seconds: float) -> bool:
    """Whether a group that is to be made anew can not be: a pod of it is on a node that is lost, and keeps its name."""
    group = group_of(pod)
    ending = [p for p in group.pods if "deletionTimestamp" in p["metadata"]] if group and group.kept else []
    return any(overdue(each, now_seconds) for each in ending)


def finished(pod: Pod) -> bool:
    """Whether all its containers ended for good: evicted by its node, say. It holds no GPU."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def alive(pod: Pod) -> bool:
    """Neither being deleted nor finished (evicted, completed)."""
    return "deletionTimestamp" not in pod["metadata"] and not finished(pod)


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


def life(pod: Pod) -> str:
    """Names a worker from its start to its end; that of a group goes on when its pods are made anew."""
    group = group_of(pod)
    return f"group {group.name}" if group else str(pod["metadata"].get("uid") or pod["metadata"].get("name"))


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
        draining_since_seconds=_since(since) if since and not labelled else None,
        registered=gateway.registered(engine_address(pod)) if has_address(pod) else False,
        idle=load.idle if load else None,
        load=load.running + load.waiting if load else 0.0,
        revision=revision(pod),
        gpus=gpus(pod),
        turning=turning(pod),
        gated=gated(pod),
        in_role=_in_role(pod, load),
        may_flip=_may_flip(pod),
        proving=proving(pod),
        domain=domain(pod),
        partial=bool((group := group_of(pod)) and group.partial),
    )


def gated(pod: Pod) -> bool:
    """Whether somebody has yet to let it in before a node is looked for."""
    return bool(pod.get("spec", {}).get("schedulingGates"))


def _in_role(pod: Pod, load: EngineLoad | None) -> bool | None:
    """Whether an engine does what its pod counts for; one that can not change its role does."""
    if not convertible(pod):
        return True
    return load.role == pool(pod) if load and load.role else None


def engine_role(role: Role, load: EngineLoad) -> Role:
    """What an engine does now: as it says, or what its pod counts for."""
    return Role(load.role) if load.role in ROLES else role


def _may_flip(pod: Pod) -> bool:
    """Whether a worker can be asked to change its role: it was started for that, and has a turn left."""
    if not convertible(pod) or proving(pod) or KEEPS_ROLE in pod["metadata"].get("annotations", {}):
        return False
    return pool(pod) == Role.PREFILL or fresh_bootstrap_port(pod) is not None


def bootstrap_port(pod: Pod) -> int:
    """Where decode engines find the bootstrap server of a prefill worker in its present turn."""
    told = pod["metadata"].get("annotations", {}).get(BOOTSTRAP_PORT_ANNOTATION, "")
    return int(told[:5]) if told.isascii() and told.isdigit() else _first_bootstrap_port(pod)


def _first_bootstrap_port(pod: Pod) -> int:
    containers = pod.get("spec", {}).get("containers") or []
    ports = next((c.get("ports") or [] for c in containers if c["name"] == ENGINE_CONTAINER), [])
    return next(
        (int(port["containerPort"]) for port in ports if port.get("name") == BOOTSTRAP_PORT_NAME), BOOTSTRAP_PORT
    )


def fresh_bootstrap_port(pod: Pod) -> int | None:
    """The bootstrap port for the next turn as prefill, one that no decode engine knows; None when all were used."""
    first = _first_bootstrap_port(pod)
    if BOOTSTRAP_PORT_ANNOTATION not in pod["metadata"].get("annotations", {}):
        return first
    after = bootstrap_port(pod) + 1
    return after if after <= first + BOOTSTRAP_TURNS else None


def revision(pod: Pod) -> str:
    """Names what a worker was made from; "" for one that a Deployment made."""
    return str(pod["metadata"].get("labels", {}).get(REVISION_LABEL, ""))


def domain(pod: Pod) -> str:
    """The KV-transfer domain that a worker was started for; "" for none."""
    placed = DOMAIN_KEY_ANNOTATION in (pod["metadata"].get("annotations") or {})
    return str(pod["metadata"].get("labels", {}).get(DOMAIN_LABEL, "")) if placed else ""


def gpus(pod: Pod) -> int:
    """GPUs that a worker holds: as its annotation says, and at least those that its engine asks for.

    Whoever may write pods can change the annotation, and nobody the engine's request.
    """
    told = pod["metadata"].get("annotations", {}).get(GPUS_ANNOTATION, "")
    said = int(told[:6]) if told.isascii() and told.isdigit() else 0
    containers = pod.get("spec", {}).get("containers") or []
    limits = next((c.get("resources", {}).get("limits") or {} for c in containers if c["name"] == ENGINE_CONTAINER), {})
    asked = max((int(n) for kind, n in limits.items() if "gpu" in kind and str(n).isdigit()), default=0)
    return max(said, asked) or 1


def comes_up(pod: Pod, now_seconds: float, deadline_seconds: float) -> bool:
    """Whether a worker serves or may yet: its container does not end again and again, and it has time left."""
    group = group_of(pod)
    if group and group.remade >= FAILED_STARTS and not ready(pod):
        return False
    found = trouble(pod)
    age_seconds = now_seconds - epoch_seconds(pod["metadata"]["creationTimestamp"])
    if found is None:
        return ready(pod) or age_seconds < deadline_seconds
    if found.reason is ConditionReason.CRASHING:
        statuses = pod.get("status", {}).get("containerStatuses", [])
        return bool(sum(c.get("restartCount", 0) for c in statuses) < FAILED_STARTS)
    if found.reason in (ConditionReason.UNSCHEDULABLE, ConditionReason.PARTIAL_GROUP, ConditionReason.QUEUED):
        return True
    return age_seconds < FAILED_SECONDS


def _since(annotation: str) -> float:
    """When a worker began to drain; the end of time if that can not be read, so that it goes when it is idle alone."""
    try:
        return epoch_seconds(annotation)
    except ValueError:
        return math.inf


def trouble(pod: Pod) -> Trouble | None:
    """What is wrong with a pod that does not serve; None when it is merely starting (or serves)."""
    if ready(pod):
        return None
    if (group := group_of(pod)) is not None:
        return _group_trouble(group)
    name, status = pod["metadata"]["name"], pod.get("status", {})
    if gated(pod):
        gates = ", ".join(str(gate.get("name")) for gate in pod["spec"]["schedulingGates"])
        return Trouble(
            ConditionReason.QUEUED,
            f"pod {name} is not let in yet (scheduling gates: {gates}). Look at the queue that it is in",
        )
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


def _group_trouble(group: Group) -> Trouble | None:
    """What is wrong with a worker of several nodes: the first pod in trouble, or those that are not there."""
    whole = f"worker {group.name} of {group.nodes} nodes does not serve"
    found = first_trouble(group.pods)
    if found:
        return Trouble(found.reason, f"{whole}: {found.message}")
    if group.remade >= FAILED_STARTS:
        words = (
            f"its pods were made anew {group.remade} times since it served last, as one of them ended or was deleted"
        )
        fix = f"Read their logs: kubectl logs -l leaderworkerset.sigs.k8s.io/name={group.name} --prefix"
        return Trouble(ConditionReason.CRASHING, f"{whole}: {words}. {fix}")
    if group.missing and not group.remaking:
        names = ", ".join(group.missing[:NAMED_PODS]) + (" and more" if len(group.missing) > NAMED_PODS else "")
        fix = "If that lasts, look at the controller of LeaderWorkerSets, which makes them"
        return Trouble(ConditionReason.PARTIAL_GROUP, f"{whole}: there are no pods {names}. {fix}")
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
