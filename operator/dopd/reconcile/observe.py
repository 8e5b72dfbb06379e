"""One consistent look at a resource and everything around it. Reads only.

Everything is read afresh on each pass, from the API server and not from a cache, so a pass never acts on what it wrote
itself a moment ago and did not see yet.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import INSTANCE_LABEL, ROUTER_POOL, Role
from dopd.api.profile import EngineProfileSpec
from dopd.api.scheduling import SchedulingPolicy
from dopd.cluster import Kubernetes, PodHttp, kinds
from dopd.perf import EngineModel
from dopd.planning import Workers
from dopd.planning.pool import Worker
from dopd.reconcile import pods as pod_reading
from dopd.reconcile.calibration import EngineSample
from dopd.reconcile.leadtimes import lead_seconds
from dopd.reconcile.places import outside
from dopd.reconcile.queue import Key
from dopd.telemetry.engines import EngineLoad, read_loads
from dopd.telemetry.gateway import GatewayView, read_gateways
from dopd.telemetry.prompt_order import PromptOrder, PromptOrderReader
from dopd.workloads import Owner

Json = dict[str, Any]


@dataclass(frozen=True)
class Observed:
    """A resource, its children and its pods.

    Attributes:
        resource: the DisaggregatedInference as stored.
        spec: its spec; None when it can not be read.
        spec_problem: why it can not be read.
        children: live children by (kind, name).
        pods: pods that hold their place, by pool.
        terminating: pods that are being deleted and still hold their GPUs, by role.
        gateway: what the gateway lists.
        loads: loads of engines that answered, by pod name.
        workers: pods of the two roles as their state machine sees them.
        model: performance of one engine, or why it is not known; "" without spec.scaling.
        orders: how prefill workers that answered order their prompts, by pod name; may be some seconds old.
        unread: why the load of a ready engine is not known, by pod name.
    """

    resource: Json
    spec: DisaggregatedInferenceSpec | None
    spec_problem: str
    children: Mapping[tuple[str, str], Json]
    pods: Mapping[str, list[Json]]
    terminating: Mapping[Role, int]
    gateway: GatewayView
    loads: Mapping[str, EngineLoad]
    workers: Mapping[Role, list[Worker]]
    model: EngineModel | str
    orders: Mapping[str, PromptOrder] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)

    @property
    def owner(self) -> Owner:
        """The resource as owner of its children."""
        meta = self.resource["metadata"]
        return Owner(meta["name"], meta["namespace"], meta["uid"])

    def child(self, manifest: Json) -> Json | None:
        """The live object of a child's manifest."""
        return self.children.get((manifest["kind"], manifest["metadata"]["name"]))

    def deployment(self, pool: str) -> Json | None:
        """The live Deployment of a pool."""
        return self.children.get((kinds.DEPLOYMENT.kind, self.owner.child_name(pool)))

    def serving(self, role: Role) -> list[Worker]:
        """Workers of a role that are ready and that a gateway knows."""
        return [w for w in self.workers[role] if w.labelled and w.ready and w.registered is not False]

    def role_counts(self, role: Role) -> Workers:
        """Workers of a role as the planner counts them."""
        mine = self.workers[role]
        loads = [self.loads[w.name] for w in mine if w.labelled and w.name in self.loads]
        labelled = [w for w in mine if w.labelled]
        return Workers(
            serving=sum(w.ready for w in labelled),
            starting=sum(not w.ready for w in labelled),
            draining=len(mine) - len(labelled),
            unschedulable=sum(not w.ready and not w.scheduled for w in labelled),
            waiting_tokens=sum(load.waiting_tokens for load in loads) if loads else None,
            waiting_requests=sum(load.waiting_for_slot for load in loads) if loads else None,
            kv_use=sum(load.kv_usage for load in loads) / len(loads) if loads else None,
        )

    def engine_samples(self, now_seconds: float) -> list[EngineSample]:
        """Counters of the engines that answered."""
        return [
            EngineSample(
                engine=pod_reading.engine_start(pod),
                role=role,
                age_seconds=now_seconds - pod_reading.epoch_seconds(pod["status"]["startTime"]),
                counters=self.loads[pod["metadata"]["name"]].counters,
            )
            for role in Role
            for pod in self.pods[role]
            if pod["metadata"]["name"] in self.loads and pod.get("status", {}).get("startTime")
        ]

    def lead_seconds(self, role: Role) -> float:
        """Time from scheduling to serving of a worker: measured here, or as the profile expects."""
        expected = 0.0 if isinstance(self.model, str) else self.model.startup_seconds[role]
        return lead_seconds(self.pods[role], expected)


async def observe(
    kubernetes: Kubernetes, http: PodHttp, orders: PromptOrderReader, key: Key, resource: Json
) -> Observed:
    """Read everything about a resource."""
    selector = f"{INSTANCE_LABEL}={key.name}"
    kind_lists, pod_list = await asyncio.gather(
        asyncio.gather(*(kubernetes.list(kind, key.namespace, selector) for kind in kinds.CHILD_KINDS)),
        kubernetes.list(kinds.POD, key.namespace, selector),
    )
    children = {(item["kind"], item["metadata"]["name"]): item for items in kind_lists for item in items}
    pools = {pool: pod_reading.of_pool(pod_list, pool) for pool in (*Role, ROUTER_POOL)}
    spec, problem = read_spec(resource)
    ready = {role: [pod for pod in pools[role] if pod_reading.ready(pod)] for role in Role}
    ordering = spec is not None and spec.scheduling.policy is not SchedulingPolicy.ENGINE_DEFAULT
    async with outside():
        gateway, loads, orders_now = await asyncio.gather(
            read_gateways(http, pools[ROUTER_POOL]),
            read_loads(http, [pod for role in Role for pod in ready[role]]),
            orders.read(ready[Role.PREFILL] if ordering else ()),
        )
    return Observed(
        resource=resource,
        spec=spec,
        spec_problem=problem,
        children=children,
        pods=pools,
        terminating={role: pod_reading.terminating(pod_list, role) for role in Role},
        gateway=gateway,
        loads=loads,
        unread=loads.problems,
        workers={
            role: [pod_reading.worker(p, gateway, loads.get(p["metadata"]["name"])) for p in pools[role]]
            for role in Role
        },
        model=await read_model(kubernetes, key, spec),
        orders=orders_now,
    )


def read_spec(resource: Json) -> tuple[DisaggregatedInferenceSpec | None, str]:
    """The spec of a stored resource, or what is wrong with it (stored under another version's schema, say)."""
    try:
        return DisaggregatedInferenceSpec.model_validate(resource.get("spec", {})), ""
    except ValidationError as error:
        return None, _problems("spec", error)


async def read_model(kubernetes: Kubernetes, key: Key, spec: DisaggregatedInferenceSpec | None) -> EngineModel | str:
    """The profile that a resource names as a model; or why there is none, "" without spec.scaling."""
    if spec is None or spec.scaling is None:
        return ""
    name = spec.scaling.profile_ref.name
    profile = await kubernetes.get(kinds.PROFILE, key.namespace, name)
    if profile is None:
        return (
            f"spec.scaling.profileRef names EngineProfile {name}, and namespace {key.namespace} has none of that name;"
            " apply it, or correct the name"
        )
    try:
        return EngineModel.from_profile(EngineProfileSpec.model_validate(profile["spec"]))
    except ValidationError as error:
        return f"EngineProfile {name}: {_problems('spec', error)}"
    except ValueError as error:
        return f"EngineProfile {name}: {error}"


def _problems(root: str, error: ValidationError) -> str:
    return "; ".join(".".join([root, *map(str, e["loc"])]) + f": {e['msg']}" for e in error.errors())
