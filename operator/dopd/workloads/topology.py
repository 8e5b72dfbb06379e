"""Where workers may go: near to the others of their resource, or into a domain that the operator chose.

Without a list of domains the scheduler chooses: each worker asks to be beside the others, and the first one finds
nobody and goes anywhere (Kubernetes lets a pod pass that matches its own term while no other does). With a list each
new worker is bound to one domain by a label of its node, and carries the domain's name, by which gateways select.
"""

import copy

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import DOMAIN_KEY_ANNOTATION, DOMAIN_LABEL, INSTANCE_LABEL, POOL_LABEL, Role
from dopd.api.topology import Topology, TopologyPolicy
from dopd.workloads.meta import Manifest, Owner
from dopd.workloads.refusal import Refusal

WEIGHT = 100
"""Of a preference; the most that there is."""
_PREFERRED = " (Preferred)"


def with_topology(template: Manifest, spec: DisaggregatedInferenceSpec, owner: Owner, where: str) -> Manifest:
    """A pod template that keeps to spec.topology; what the user's own affinity asks for stays beside it.

    Args:
        template: with what the user laid over it.
        spec: of the resource.
        owner: the resource.
        where: the field of what was laid over it, such as spec.prefill.template.

    Raises:
        Refusal: its affinity is of another type than in a pod.
    """
    topology = spec.topology
    if topology is None:
        return template
    placed = copy.deepcopy(template)
    if topology.domains:
        mark = topology.domain_key + (_PREFERRED if topology.policy is TopologyPolicy.PREFERRED else "")
        placed["metadata"]["annotations"] = {
            **(placed["metadata"].get("annotations") or {}),
            DOMAIN_KEY_ANNOTATION: mark,
        }
        return placed
    _add_term(placed["spec"], topology, _beside(topology, owner), f"{where}.spec")
    return placed


def _beside(topology: Topology, owner: Owner) -> Manifest:
    """To be where a worker of this resource is, of whichever role."""
    roles = {"key": POOL_LABEL, "operator": "In", "values": [role.value for role in Role]}
    selector = {"matchLabels": {INSTANCE_LABEL: owner.name}, "matchExpressions": [roles]}
    return {"labelSelector": selector, "topologyKey": topology.domain_key}


def _add_term(pod: Manifest, topology: Topology, term: Manifest, where: str) -> None:
    near = _part(_part(pod, "affinity", where), "podAffinity", f"{where}.affinity")
    if topology.policy is TopologyPolicy.REQUIRED:
        field, entry = "requiredDuringSchedulingIgnoredDuringExecution", term
    else:
        field = "preferredDuringSchedulingIgnoredDuringExecution"
        entry = {"weight": WEIGHT, "podAffinityTerm": term}
    there = near.get(field) or []
    if not isinstance(there, list):
        raise Refusal(f"{where}.affinity.podAffinity.{field}", "is no list of terms; correct it")
    near[field] = [*there, entry]


def _part(parent: Manifest, name: str, where: str) -> Manifest:
    """A map within another; made where it is missing."""
    part = parent[name] = parent.get(name) or {}
    if not isinstance(part, dict):
        raise Refusal(f"{where}.{name}", "is no map as in a pod; correct it")
    return part


def in_domain(pod: Manifest, domain: str) -> Manifest:
    """A worker bound to a domain, as its template asks for it; as it is without one.

    Args:
        pod: its manifest, of a revision that `with_topology` marked.
        domain: value of the label of nodes; "" for none.
    """
    mark = (pod["metadata"].get("annotations") or {}).get(DOMAIN_KEY_ANNOTATION)
    if not domain or not mark:
        return pod
    key = mark.removesuffix(_PREFERRED)
    placed = copy.deepcopy(pod)
    placed["metadata"]["labels"][DOMAIN_LABEL] = domain
    spec = placed["spec"]
    if mark == key:
        _part(spec, "nodeSelector", "spec")[key] = domain
    else:
        wish = {"matchExpressions": [{"key": key, "operator": "In", "values": [domain]}]}
        nodes = _part(_part(spec, "affinity", "spec"), "nodeAffinity", "spec.affinity")
        field = "preferredDuringSchedulingIgnoredDuringExecution"
        nodes[field] = [*(nodes.get(field) or []), {"weight": WEIGHT, "preference": wish}]
    return placed
