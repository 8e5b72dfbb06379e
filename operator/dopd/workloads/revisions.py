"""The revision of a role's workers: what they are made from, its name, and the pods that are made from it.

A revision is kept as a ControllerRevision, as Kubernetes' own controllers do it: so a worker of the revision before can
still be started while a new one is refused or does not come up.
"""

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass

from dopd.api.names import GPUS_ANNOTATION, REVISION_LABEL, ROLE_LABEL, Role
from dopd.workloads.meta import Manifest, Owner, pod_labels
from dopd.workloads.spread import spread
from dopd.workloads.topology import in_domain


@dataclass(frozen=True)
class Revision:
    """What workers of a role are made from.

    Attributes:
        name: hash of the template.
        template: of the pods (metadata, spec); of workers of several nodes that of the leader, with the others' beside
            it (group: nodes, member).
        number: order among the revisions of the role; the greatest is the newest.
    """

    name: str
    template: Manifest
    number: int = 0

    @property
    def nodes(self) -> int:
        """Nodes that a worker spans."""
        return int(self.template.get("group", {}).get("nodes", 1))


def revision_of(owner: Owner, role: Role, template: Manifest) -> Revision:
    """The revision that a template makes. Labels of our own are no part of it: they can change in a running pod."""
    own = _labels(owner, role)

    def counts(of: Manifest) -> Manifest:
        metadata = of.get("metadata", {})
        labels = {name: value for name, value in metadata.get("labels", {}).items() if name not in own}
        return {"metadata": {**metadata, "labels": labels}, "spec": of["spec"]}

    counted = counts(template)
    if "group" in template:
        counted["group"] = {**template["group"], "member": counts(template["group"]["member"])}
    digest = hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()
    return Revision(digest[:8], template)


def _labels(owner: Owner, role: Role) -> dict[str, str]:
    return pod_labels(owner, role, **{ROLE_LABEL: role})


def stored_revision(owner: Owner, role: Role, revision: Revision) -> Manifest:
    """The object that keeps a revision."""
    metadata = owner.metadata(role)
    metadata["name"] = f"{metadata['name']}-{revision.name}"
    metadata["labels"][REVISION_LABEL] = revision.name
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": metadata,
        "data": revision.template,
        "revision": revision.number,
    }


def worker_pod(owner: Owner, role: Role, revision: Revision, name: str, gpus: int, domain: str = "") -> Manifest:
    """A worker: a pod of its own, since nobody but the operator decides when it comes and goes.

    Args:
        owner: the resource.
        role: of the worker.
        revision: what it is made from.
        name: of the pod.
        gpus: that it holds.
        domain: where it is to go, of a revision whose workers are divided over domains.
    """
    metadata = revision.template.get("metadata", {})
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **metadata,
            "name": name,
            "namespace": owner.namespace,
            "labels": {**metadata.get("labels", {}), REVISION_LABEL: revision.name},
            "annotations": {**metadata.get("annotations", {}), GPUS_ANNOTATION: str(gpus)},
            "ownerReferences": owner.metadata(role)["ownerReferences"],
        },
        "spec": revision.template["spec"],
    }
    return in_domain(spread(pod, owner.selector(role)), domain)


def new_names(owner: Owner, role: Role, revision: Revision, taken: Collection[str], count: int) -> list[str]:
    """Names for new workers, the lowest free numbers: two operators that do the same by mistake create one pod."""
    names: list[str] = []
    number = 0
    while len(names) < count:
        name = f"{owner.child_name(role)}-{revision.name}-{number}"
        if name not in taken:
            names.append(name)
        number += 1
    return names
