"""Workers of several nodes: groups of pods, each made by a LeaderWorkerSet of one group (leaderworkerset.x-k8s.io/v1).

One set for each worker, so that the operator's one mover decides which worker goes when: a set of several groups
chooses itself which of them leaves, always the last. The first node's pod, the leader, is what gateway and operator
talk to; the others compute for it.
"""

import copy
import re
from collections.abc import Sequence

from dopd.api.flags import Reserved, first_reserved
from dopd.api.names import (
    DOMAIN_KEY_ANNOTATION,
    DOMAIN_LABEL,
    GPUS_ANNOTATION,
    OWNER_ANNOTATION,
    REVISION_LABEL,
    ROLE_LABEL,
    Role,
)
from dopd.api.workers import Parallelism, RoleSpec
from dopd.workloads.meta import Manifest, Owner
from dopd.workloads.refusal import Refusal
from dopd.workloads.revisions import Revision
from dopd.workloads.topology import in_domain

SET_LABEL = "leaderworkerset.sigs.k8s.io/name"
"""On each pod of a group: name of its LeaderWorkerSet."""

LEADER_ADDRESS, WORKER_INDEX = "LWS_LEADER_ADDRESS", "LWS_WORKER_INDEX"
"""Variables that LeaderWorkerSets give to each container: DNS name of the leader; number of the pod, the leader's 0."""

LONGEST_OWNER = 28
"""Letters of a resource's name: StatefulSets write the name of a group's second one, with a hash, into a label."""

_EXPERT_FLAGS = (Reserved(("--ep-size", "--ep", "--expert-parallel-size"), ""),)
_LEADER_READY, _MEMBER_READY = "/ready", "/health"
"""SGLang answers /ready on the first node alone; on the others /health, once their part of the model is loaded."""


def node_flags(role_spec: RoleSpec) -> list[str]:
    """SGLang's flags by which the nodes of a worker find each other; none with one node."""
    if role_spec.nodes == 1:
        return []
    address = f"$({LEADER_ADDRESS}):{role_spec.ports.rendezvous}"
    return ["--nnodes", str(role_spec.nodes), "--node-rank", f"$({WORKER_INDEX})", "--dist-init-addr", address]


def refuse_sizes(owner: Owner, role: Role, role_spec: RoleSpec, args: Sequence[str]) -> None:
    """Refuse what the schema can not see: sizes in arguments, and a name that is too long for groups.

    Raises:
        Refusal: experts do not fit the tensor group, or the resource's name does not fit a group's.
    """
    where = f"spec.{role}.parallelism.expert"
    sizes = role_spec.parallelism or Parallelism()
    found = first_reserved(args, _EXPERT_FLAGS)
    if found and sizes.expert:
        raise Refusal(where, f"is said by {found[0]} in the arguments, too; remove that")
    told = _number_after(args, found[0]) if found else None
    if told and role_spec.tensor_size % told:
        size = f"tensor size, {role_spec.tensor_size}"
        raise Refusal(f"spec.{role}.args", f"{found[0] if found else ''} {told} must divide the {size}; correct one")
    if role_spec.nodes > 1 and not re.fullmatch(rf"[a-z]([-a-z0-9]{{0,{LONGEST_OWNER - 1}}})", owner.name):
        rule = f"at most {LONGEST_OWNER} letters, digits and '-', beginning with a letter"
        fix = f"with spec.{role}.nodes above 1 it must have {rule}; make the resource anew under such a name"
        raise Refusal("metadata.name", f"is {owner.name}; {fix}")


def _number_after(args: Sequence[str], flag: str) -> int | None:
    """The value of a flag, behind it or after an equals sign; None of what is no number above zero."""
    name, _, value = flag.partition("=")
    rest = args[list(args).index(flag) + 1 :]
    text = value or (rest[0] if rest else "")
    return int(text) or None if text.isascii() and text.isdigit() and name else None


def member_template(template: Manifest) -> Manifest:
    """The pods of a group but its leader, from the leader's: no gateway sends to them, and they answer less."""
    member = copy.deepcopy(template)
    member["metadata"]["labels"].pop(ROLE_LABEL, None)
    for container in member["spec"]["containers"]:
        for probe in ("startupProbe", "readinessProbe"):
            get = (container.get(probe) or {}).get("httpGet") or {}
            if get.get("path") == _LEADER_READY:
                get["path"] = _MEMBER_READY
    return member


def leader_name(set_name: str) -> str:
    """Name of a group's first pod, in a set of one group."""
    return f"{set_name}-0"


def pod_names(set_name: str, nodes: int) -> list[str]:
    """Names of all pods of a group, the leader's first."""
    leader = leader_name(set_name)
    return [leader, *(f"{leader}-{number}" for number in range(1, nodes))]


def worker_group(owner: Owner, role: Role, revision: Revision, name: str, gpus: int, domain: str = "") -> Manifest:
    """A worker of several nodes.

    The leader is not ready before all others have joined it, so they are made beside it (LeaderCreated). SGLang's nodes
    can not go on without one of them, so all are made anew when one ends (RecreateGroupOnPodRestart).

    Args:
        owner: the resource.
        role: of the worker.
        revision: what its pods are made from.
        name: of the set.
        gpus: of all its pods together.
        domain: where all of them are to go, of a revision whose workers are divided over domains.
    """
    meta = owner.metadata(role)
    leader = in_domain(_pod(owner, revision, revision.template, gpus), domain)
    member = in_domain(_pod(owner, revision, revision.template["group"]["member"], gpus), domain)
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {
            "name": name,
            "namespace": owner.namespace,
            # The set outlives its pods, so it has what tells the domain, too.
            "labels": {**meta["labels"], REVISION_LABEL: revision.name, **_one(leader, "labels", DOMAIN_LABEL)},
            "annotations": {GPUS_ANNOTATION: str(gpus), **_one(leader, "annotations", DOMAIN_KEY_ANNOTATION)},
            "ownerReferences": meta["ownerReferences"],
        },
        "spec": {
            "replicas": 1,
            "startupPolicy": "LeaderCreated",
            "leaderWorkerTemplate": {
                "size": revision.nodes,
                "restartPolicy": "RecreateGroupOnPodRestart",
                "leaderTemplate": leader,
                "workerTemplate": member,
            },
        },
    }


def group_pods(owner: Owner, revision: Revision, name: str) -> list[Manifest]:
    """A leader and another pod of a group as pods of their own, to ask the API server whether it would take them."""
    templates = (revision.template, revision.template["group"]["member"])
    made = []
    for template, pod_name in zip(templates, pod_names(name, 2), strict=True):
        pod = _pod(owner, revision, template, 1)
        pod["metadata"] |= {"name": pod_name, "namespace": owner.namespace}
        made.append({"apiVersion": "v1", "kind": "Pod", **pod})
    return made


def _one(pod: Manifest, part: str, name: str) -> dict[str, str]:
    """A label or an annotation of a pod, where it has it."""
    found = pod["metadata"][part]
    return {name: found[name]} if name in found else {}


def _pod(owner: Owner, revision: Revision, template: Manifest, gpus: int) -> Manifest:
    metadata = template["metadata"]
    told = {OWNER_ANNOTATION: owner.uid, GPUS_ANNOTATION: str(gpus)}
    return {
        "metadata": {
            **metadata,
            "labels": {**metadata["labels"], REVISION_LABEL: revision.name},
            "annotations": {**metadata.get("annotations", {}), **told},
        },
        "spec": template["spec"],
    }
