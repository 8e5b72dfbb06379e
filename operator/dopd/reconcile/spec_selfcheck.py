"""Whether fields of a spec can have an effect in this cluster and beside each other: for `dopd doctor`.

What the API server refuses is not looked at again. A resource that uses none of these fields costs no request.
"""

from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.api.topology import Domain
from dopd.cluster import ApiError, Kubernetes, kinds
from dopd.reconcile.queue import Key
from dopd.telemetry.selfcheck import Check, Verdict


async def check_fields(kubernetes: Kubernetes, key: Key, spec: DisaggregatedInferenceSpec) -> AsyncIterator[Check]:
    """Workers of several nodes, domains, and what a batch may add.

    Args:
        kubernetes: where LeaderWorkerSets are looked for.
        key: of the resource.
        spec: of it.
    """
    nodes = {role: spec.prefill.nodes if role is Role.PREFILL else spec.decode.nodes for role in Role}
    if any(count > 1 for count in nodes.values()):
        told = ", ".join(f"{role} workers on {count} nodes" for role, count in nodes.items() if count > 1)
        yield await _groups(kubernetes, key, told)
    if spec.topology and spec.topology.domains:
        yield _domains(key, spec, spec.topology.domains)
    for check in _batch(key, spec):
        yield check


async def _groups(kubernetes: Kubernetes, key: Key, told: str) -> Check:
    kind = f"{kinds.LEADER_WORKER_SET.kind}s ({kinds.LEADER_WORKER_SET.api_version})"
    try:
        await kubernetes.list(kinds.LEADER_WORKER_SET, key.namespace)
    except ApiError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            found = f"{told}, and the cluster has no {kind}"
            return Check(str(key), "nodes", Verdict.FAIL, found, "them", "Install them, or set nodes to 1")
        return Check(str(key), "nodes", Verdict.SKIPPED, f"{told}; {kind} are not to be read ({error.reason})")
    return Check(str(key), "nodes", Verdict.OK, f"{told}, by {kind}")


def _domains(key: Key, spec: DisaggregatedInferenceSpec, domains: list[Domain]) -> Check:
    """The planner counts workers of the whole and knows no domain: its bounds have to fit into them."""
    rooms = [domain.gpus for domain in domains]
    one_each, room = spec.prefill.gpus + spec.decode.gpus, sum(rooms)
    told = ", ".join(f"{domain.name} {domain.gpus}" for domain in domains)
    if one_each > max(rooms):
        found = f"a prefill and a decode worker take {one_each} GPUs, and no domain has so many ({told})"
        fix = "Raise gpus of a domain of spec.topology, or use smaller workers"
        return Check(str(key), "domains", Verdict.FAIL, f"{found}, so nothing starts", "one domain for both", fix)
    field, most = _most_gpus(spec)
    if most > room:
        fix = f"Set spec.scaling.gpuBudget.max to {room}" if spec.scaling else "Lower replicas"
        fix += ", raise gpus of a domain, or list another"
        found = f"{field} allow {most} GPUs, and the domains have {room} ({told})"
        so = "what they have no room for is planned and never starts"
        return Check(str(key), "domains", Verdict.FAIL, f"{found}, so {so}", f"at most {room}", fix)
    return Check(str(key), "domains", Verdict.OK, f"{told} GPUs, of which at most {most} are asked for")


def _most_gpus(spec: DisaggregatedInferenceSpec) -> tuple[str, int]:
    """The field that bounds the GPUs of a resource, and that bound."""
    scaling = spec.scaling
    if scaling is None:
        pair = (spec.prefill.replicas or 0, spec.decode.replicas or 0)
        return "replicas", pair[0] * spec.prefill.gpus + pair[1] * spec.decode.gpus
    most = scaling.prefill.max * spec.prefill.gpus + scaling.decode.max * spec.decode.gpus
    if scaling.gpu_budget and scaling.gpu_budget.max <= most:
        return "spec.scaling.gpuBudget.max", scaling.gpu_budget.max
    return "spec.scaling.prefill.max and spec.scaling.decode.max", most


def _batch(key: Key, spec: DisaggregatedInferenceSpec) -> Iterator[Check]:
    if spec.scaling and spec.scaling.batch_share and spec.scheduling.batch is None:
        found = f"spec.scaling.batchShare is {spec.scaling.batch_share:g}, and without spec.scheduling.batch no request"
        fix = "Add spec.scheduling.batch, or remove batchShare"
        yield Check(str(key), "batch", Verdict.FAIL, f"{found} is told to be of a batch", "both or none", fix)
