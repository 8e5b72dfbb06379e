"""What engines and gateway are told so that requests without a deadline stand behind all others.

The priority of a request is SGLang's own field, and its class at the gateway SMG's own header, so nothing is changed
on the way. Prefill engines read the priority in dopd's plugin; SGLang's own priorities would switch that off there.
"""

import json
import math
from typing import Any

from dopd.api.base import seconds
from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.api.scheduling import Batch
from dopd.workloads.meta import Manifest

CLASSES_ANNOTATION = "dopd.dev/priority-classes"
FOLDER, FILE = "/etc/dopd/gateway", "classes.yaml"
LEAST_QUEUE_SECONDS = 86_400
"""What has a deadline waits at the gateway as long as its client does: this class is not refused by its age."""
MOST_QUEUED = 1_000_000
NEVER_SECONDS = 10**9


def batch_engine_flags(spec: DisaggregatedInferenceSpec, role: Role) -> list[str]:
    """SGLang's flags by which decode engines tell a batch apart: who gets KV cache and a slot next, and who loses it.

    Not with role switching: such an engine would start prefill with priorities of its own, and without dopd's order.
    Preemption is switched off: it is a matter of the pass that a decode engine does not compute. Requests without a
    priority have 0, which is a label of the metrics, too: so the two are counted apart.
    """
    if spec.scheduling.batch is None or role is not Role.DECODE:
        return []
    if spec.role_switching is not None and spec.role_switching.enabled:
        return []
    return [
        "--enable-priority-scheduling",
        "--disable-priority-preemption",
        "--default-priority-value", "0",
        "--retraction-policy", "priority",
    ]  # fmt: skip


def batch_router_flags(spec: DisaggregatedInferenceSpec) -> list[str]:
    """SMG's flags for its classes; clients may ask for no class above the default one."""
    if spec.scheduling.batch is None:
        return []
    return ["--priority-scheduler-enabled", "--priority-scheduler-config", f"{FOLDER}/{FILE}"]


def priority_classes(batch: Batch, gateways: int) -> dict[str, Any]:
    """SMG's classes: `bulk` for the batch, `default` for all else.

    Each gateway knows its own requests alone, and takes the slots of all workers for its own; so each lets in its part
    of the share. Slots that are reserved for `default` are those that the batch may not have.

    Args:
        batch: of the spec.
        gateways: pods.
    """
    reserved = math.floor((1 - batch.slot_share / gateways) * 1e6) / 1e6

    def of(reserved_per_slot: float, queue_size: int, queue_seconds: int, preempts: bool) -> dict[str, Any]:
        return {
            "reserved_floor": 0,
            "reserved_per_slot": reserved_per_slot,
            "queue_size": queue_size,
            "queue_timeout_secs": queue_seconds,
            "starvation_threshold_secs": NEVER_SECONDS,  # it would pass the reservation over
            "can_preempt": preempts,
        }

    none = of(0.0, 1, LEAST_QUEUE_SECONDS, preempts=False)
    return {
        "classes": {
            "system": none,
            "interactive": none,
            "default": of(reserved, MOST_QUEUED, LEAST_QUEUE_SECONDS, preempts=True),
            "bulk": of(0.0, batch.queue_size, max(1, round(seconds(batch.queue_timeout))), preempts=False),
        }
    }


def add_priority_classes(
    spec: DisaggregatedInferenceSpec, metadata: Manifest, container: Manifest, pod: Manifest
) -> None:
    """Give a gateway's pod its classes as a file: an annotation that the kubelet writes out, so no further object."""
    batch = spec.scheduling.batch
    if batch is None:
        return
    classes = priority_classes(batch, spec.router.replicas)
    metadata.setdefault("annotations", {})[CLASSES_ANNOTATION] = json.dumps(classes, sort_keys=True)
    container.setdefault("volumeMounts", []).append({"name": "classes", "mountPath": FOLDER, "readOnly": True})
    field = {"fieldPath": f"metadata.annotations['{CLASSES_ANNOTATION}']"}
    items = [{"path": FILE, "fieldRef": field}]
    pod.setdefault("volumes", []).append({"name": "classes", "downwardAPI": {"items": items}})
