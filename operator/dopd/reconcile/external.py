"""The WorkerScales of a resource: what is asked for is read there, what there is is written there.

A scaler owns spec.workers. The operator sets it once, when it makes the object, to what is held then, so that nothing
moves when the mode is changed to External.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from dopd.api.base import API_VERSION
from dopd.api.names import INSTANCE_LABEL, ROLE_LABEL, Role
from dopd.api.scale import WorkerScaleSpec
from dopd.cluster import ApiError, Kubernetes, kinds
from dopd.reconcile.observe import Observed, belongs
from dopd.reconcile.pods import Trouble
from dopd.reconcile.refusals import failed, refusal, taken

Json = dict[str, Any]
KIND = kinds.WORKER_SCALE.kind


def scale_names(observed: Observed) -> set[tuple[str, str]]:
    """The objects by kind and name."""
    return {(KIND, observed.owner.child_name(role)) for role in Role}


def asked_workers(observed: Observed, held: Mapping[Role, int]) -> tuple[int, int]:
    """Prefill and decode workers that are asked for; those that are held where nobody has asked yet."""

    def of(role: Role) -> int:
        scale = observed.children.get((KIND, observed.owner.child_name(role)))
        try:
            return WorkerScaleSpec.model_validate((scale or {}).get("spec"), strict=True).workers
        except ValidationError:  # none there, or stored under another schema
            return held[role]

    return of(Role.PREFILL), of(Role.DECODE)


async def write_scales(kubernetes: Kubernetes, observed: Observed, held: Mapping[Role, int]) -> list[Trouble]:
    """Make the WorkerScales that are missing, and say in each what there is; returns what failed.

    Args:
        kubernetes: where to.
        observed: the look at the cluster.
        held: workers by role that a new one asks for.
    """
    troubles = []
    for role in Role:
        name = observed.owner.child_name(role)
        try:
            trouble = await _write(kubernetes, observed, role, held[role])
        except ApiError as error:
            told = refusal if error.status in (400, 403, 422) else failed
            trouble = told(f"{KIND} {name}", error)
        if trouble:
            troubles.append(trouble)
    return troubles


async def _write(kubernetes: Kubernetes, observed: Observed, role: Role, held: int) -> Trouble | None:
    owner = observed.owner
    live = observed.children.get((KIND, owner.child_name(role)))
    if live is None:
        stranger = await kubernetes.get(kinds.WORKER_SCALE, owner.namespace, owner.child_name(role))
        if stranger and not belongs(stranger, owner):
            return taken(f"{KIND} {owner.child_name(role)}")
        manifest = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": owner.metadata(role),
            "spec": {"workers": held},
        }
        live = stranger or await kubernetes.create(kinds.WORKER_SCALE, manifest)
    selector = f"{INSTANCE_LABEL}={owner.name},{ROLE_LABEL}={role}"
    status = {"workers": sum(worker.labelled for worker in observed.workers[role]), "selector": selector}
    if live.get("status") != status:
        meta = {"name": owner.child_name(role), "namespace": owner.namespace}
        named = {"apiVersion": API_VERSION, "kind": KIND, "metadata": meta, "status": status}
        await kubernetes.apply(kinds.WORKER_SCALE, named, "status")
    return None
