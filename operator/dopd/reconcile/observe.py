"""One consistent look at a resource and everything around it. Reads only.

Pods, the resource and what it names are read afresh on each whole pass; its other children where one of them may have
changed (`kept_lists`). So a pass never acts on what it wrote itself a moment ago and did not see yet. A pass at rest,
which writes nothing, asks gateways and engines alone (`rest`).
"""

import asyncio
import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from dopd.api.inference import DisaggregatedInferenceSpec, ScalingMode
from dopd.api.names import INSTANCE_LABEL, POOL_LABEL, REVISION_LABEL, ROUTER_POOL, Role
from dopd.api.pairs import Pair
from dopd.api.profile import EngineProfileSpec
from dopd.api.scheduling import SchedulingPolicy
from dopd.api.secrets import SecretKey
from dopd.autoscaler import EngineSample
from dopd.autoscaler.idle import Counts
from dopd.cluster import ApiError, Kubernetes, PodHttp, WithKey, kinds
from dopd.cluster.decode import depth_of
from dopd.perf import EngineModel
from dopd.planning import Workers
from dopd.reconcile import groups
from dopd.reconcile import pods as pod_reading
from dopd.reconcile.kept_lists import KeptLists
from dopd.reconcile.leadtimes import Lead, Look
from dopd.reconcile.places import outside
from dopd.reconcile.queue import Key
from dopd.reconcile.remembered import Remembered
from dopd.rollout import Worker
from dopd.telemetry.engines import EngineLoad, EngineLoads, read_loads
from dopd.telemetry.gateway import GatewayView, read_gateways
from dopd.telemetry.gateway_requests import read_requests
from dopd.telemetry.prompt_order import PromptOrder, PromptOrderReader
from dopd.workloads import Owner
from dopd.workloads.connection import control_key
from dopd.workloads.revisions import Revision

Json = dict[str, Any]
MOST_LEVELS = 48
"""Levels of nesting of a spec, the template of a pod included."""

KEPT_SPECS = 2048
"""Specs that are kept as they were read: of so many resources, a pass at rest does not check them anew."""

MOST_CHILDREN = 24
"""Objects of a kind that are read by label: of a role as many revisions as it keeps and has workers of, else three.
Whoever writes to a namespace can label as many."""


@dataclass(frozen=True)
class Observed:
    """A resource, its children and its pods.

    Attributes:
        resource: the DisaggregatedInference as stored.
        spec: its spec; None when it can not be read.
        spec_problem: why it can not be read.
        children: live children by (kind, name), those of this resource alone.
        pods: pods that hold their place, by pool; of workers of several nodes one for each, see `groups`.
        ending: pods that are being deleted and still hold their GPUs, by role.
        closing: gateway pods that are being deleted.
        requests: that each gateway has counted, by pod name; None without spec.scaling.idle.
        groups_known: the cluster has LeaderWorkerSets, or nobody asks for them here.
        finished: pods whose containers all ended for good, by role.
        leaving: lives of the pods that are being deleted, see `pods.life`.
        leads: how long a decision takes to have an effect, by role; empty before that was looked at.
        gateway: what the gateway lists.
        loads: loads of engines that answered, by pod name.
        workers: pods of the two roles as their state machine sees them.
        model: performance of one engine, or why it is not known; "" without spec.scaling.
        orders: how prefill workers that answered order their prompts, by pod name; may be some seconds old.
        unread: why the load of a ready engine is not known, by pod name.
        profiles: what the model was made of, by role; empty where it is not known.
        api_key: what gateways and engines ask for; "" where they ask for none.
        api_key_problem: why it is not known though they do; "" otherwise.
        control_key: what the control plane of the gateways asks for; "" where it asks for none.
    """

    resource: Json
    spec: DisaggregatedInferenceSpec | None
    spec_problem: str
    children: Mapping[tuple[str, str], Json]
    pods: Mapping[str, list[Json]]
    ending: Mapping[Role, list[Json]]
    finished: Mapping[Role, list[Json]]
    gateway: GatewayView
    loads: Mapping[str, EngineLoad]
    workers: Mapping[Role, list[Worker]]
    model: EngineModel | str
    orders: Mapping[str, PromptOrder] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)
    profiles: Mapping[Role, EngineProfileSpec] = field(default_factory=dict)
    api_key: str = field(default="", repr=False)
    api_key_problem: str = ""
    control_key: str = field(default="", repr=False)
    leaving: frozenset[str] = frozenset()
    leads: Mapping[Role, Lead] = field(default_factory=dict)
    closing: tuple[Json, ...] = ()
    requests: Counts | None = None
    groups_known: bool = True

    def gateway_key(self, pod: Json) -> str:
        """What a gateway asks the operator for."""
        return gateway_key(pod, self.control_key, self.api_key)

    @property
    def owner(self) -> Owner:
        """The resource as owner of its children."""
        return Owner.of(self.resource)

    def child(self, manifest: Json) -> Json | None:
        """The live object of a child's manifest."""
        return self.children.get((manifest["kind"], manifest["metadata"]["name"]))

    def deployment(self, pool: str) -> Json | None:
        """The live Deployment of a pool of workers, as earlier versions made them."""
        return self.children.get((kinds.DEPLOYMENT.kind, self.owner.child_name(pool)))

    def gateway_deployments(self) -> dict[Pair, Json]:
        """The live Deployments of the gateways, by the pair that they send to."""
        return {
            Pair.of_labels(item["metadata"].get("labels") or {}): item
            for (kind, _), item in self.children.items()
            if kind == kinds.DEPLOYMENT.kind and item["metadata"].get("labels", {}).get(POOL_LABEL) == ROUTER_POOL
        }

    def revisions(self, role: Role) -> list[Revision]:
        """The revisions of a role that are kept, newest first."""
        found = [
            Revision(item["metadata"]["labels"][REVISION_LABEL], item.get("data") or {}, item.get("revision", 0))
            for (kind, _), item in self.children.items()
            if kind == kinds.CONTROLLER_REVISION.kind
            and item["metadata"].get("labels", {}).get(POOL_LABEL) == role
            and item["metadata"]["labels"].get(REVISION_LABEL)
        ]
        return sorted(found, key=lambda revision: revision.number, reverse=True)

    def serving(self, role: Role) -> list[Worker]:
        """Workers of a role that are ready and that a gateway knows."""
        return [w for w in self.workers[role] if w.labelled and w.ready and w.registered is not False]

    def role_counts(self, role: Role) -> Workers:
        """Workers of a role as the planner counts them."""
        mine = self.workers[role]
        loads = [self.loads[w.name] for w in mine if w.labelled and w.name in self.loads]
        labelled = [w for w in mine if w.labelled]
        coming = sum(w.turning or w.proving for w in mine if not w.labelled)
        return Workers(
            serving=sum(w.ready for w in labelled),
            starting=sum(not w.ready for w in labelled) + coming,
            draining=len(mine) - len(labelled) - coming,
            returning=sum(
                w.ready and w.registered is False and not (w.labelled or w.turning or w.proving) for w in mine
            ),
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
                role=pod_reading.engine_role(role, self.loads[pod["metadata"]["name"]]),
                age_seconds=now_seconds - pod_reading.epoch_seconds(pod["status"]["startTime"]),
                counters=self.loads[pod["metadata"]["name"]].counters,
            )
            for role in Role
            for pod in self.pods[role]
            if pod["metadata"]["name"] in self.loads and pod.get("status", {}).get("startTime")
        ]

    @property
    def measured_model(self) -> EngineModel | str:
        """The model, with the drains that were measured."""
        if isinstance(self.model, str):
            return self.model
        drains = {role: lead.drain_seconds for role, lead in self.leads.items()}
        return replace(self.model, drain_seconds={str(r): took for r, took in drains.items() if took is not None})

    def lead_looks(self) -> dict[Role, Look]:
        """What lead times are measured by."""
        pairs = [Pair.of_labels(pod["metadata"].get("labels") or {}) for pod in self.pods[ROUTER_POOL]]
        draining = any(not worker.labelled for role in Role for worker in self.workers[role])
        gpus_to_come = draining or any(self.ending.values())
        return {
            role: Look(
                pods=self.pods[role],
                workers=self.workers[role],
                apart=frozenset(
                    w.name
                    for w in self.workers[role]
                    if pairs and not any(p.has(role, w.revision, w.domain) for p in pairs)
                ),
                held=self.leaving,
                gpus_to_come=gpus_to_come,
                expected_seconds=0.0 if isinstance(self.model, str) else self.model.startup_seconds[role],
            )
            for role in Role
        }


async def observe(
    kubernetes: Kubernetes,
    http: PodHttp,
    orders: PromptOrderReader,
    key: Key,
    resource: Json,
    *,
    closed: bool = True,
    scales: bool = True,
    lists: KeptLists | None = None,
) -> Observed:
    """Read everything about a resource.

    Args:
        kubernetes: where from.
        http: the way to gateways and engines.
        orders: reads the state of the order of prompts.
        key: of the resource.
        resource: as it is stored.
        closed: the gateways' control plane asks for its key.
        scales: there may be WorkerScales; they are looked for anyway where the spec wants them.
        lists: of children, as far as they are kept; None to ask for all.
    """
    spec, problem = read_spec(resource)
    child_kinds = kinds.CHILD_KINDS if scales or wants_scales(spec) else kinds.APPLIED_KINDS
    selector = f"{INSTANCE_LABEL}={key.name}"

    async def ask(kind: kinds.Kind) -> list[Json]:
        return await _children(kubernetes, kind, key.namespace, selector)

    kind_lists, pod_list = await asyncio.gather(
        asyncio.gather(*((lists.read(key, kind, ask) if lists else ask(kind)) for kind in child_kinds)),
        _pods(kubernetes, key.namespace, selector),
    )
    owner = Owner.of(resource)
    children = {
        (item["kind"], item["metadata"]["name"]): item for items in kind_lists for item in items if belongs(item, owner)
    }
    sets, groups_known = await _sets(kubernetes, key, selector, owner, spec, [*children.values(), *pod_list])
    pod_list = [*pod_reading.of_resource(pod_list, owner), *groups.as_workers(pod_list, sets, owner)]
    pools = {pool: pod_reading.of_pool(pod_list, pool) for pool in (*Role, ROUTER_POOL)}
    (profiles, model), (api_key, api_key_problem), (admin_key, admin_key_problem) = await asyncio.gather(
        read_profiles(kubernetes, key, spec),
        read_api_key(kubernetes, key, spec),
        read_control_key(kubernetes, key, spec),
    )
    if not admin_key_problem:
        admin_key = admin_key or control_key(owner)
    if not closed:
        admin_key = api_key
    gateway, loads, orders_now, requests = await _ask(http, orders, spec, pools, api_key, admin_key)
    return Observed(
        resource=resource,
        spec=spec,
        spec_problem=problem,
        children=children,
        pods=pools,
        ending={role: pod_reading.ending(pod_list, role) for role in Role},
        finished={role: pod_reading.finished_of(pod_list, role) for role in Role},
        closing=tuple(pod_reading.ending(pod_list, ROUTER_POOL)),
        groups_known=groups_known,
        leaving=frozenset(pod_reading.life(p) for p in pod_list if "deletionTimestamp" in p["metadata"]),
        gateway=gateway,
        loads=loads,
        unread=loads.problems,
        workers={
            role: [pod_reading.worker(p, gateway, loads.get(p["metadata"]["name"])) for p in pools[role]]
            for role in Role
        },
        model=model,
        profiles=profiles,
        api_key=api_key,
        api_key_problem=api_key_problem or admin_key_problem,
        control_key=admin_key,
        orders=orders_now,
        requests=requests,
    )


async def look_again(http: PodHttp, orders: PromptOrderReader, before: Observed) -> Observed:
    """A look with what gateways and engines say now. Nothing else is new, the workers' own loads included.

    Args:
        http: the way to gateways and engines.
        orders: reads the state of the order of prompts.
        before: the look so far.
    """
    gateway, loads, orders_now, requests = await _ask(
        http, orders, before.spec, before.pods, before.api_key, before.control_key
    )
    return replace(before, gateway=gateway, loads=loads, unread=loads.problems, orders=orders_now, requests=requests)


async def _ask(
    http: PodHttp,
    orders: PromptOrderReader,
    spec: DisaggregatedInferenceSpec | None,
    pods: Mapping[str, list[Json]],
    api_key: str,
    admin_key: str,
) -> tuple[GatewayView, EngineLoads, Mapping[str, PromptOrder], Counts | None]:
    """What gateways and engines say of themselves."""
    ready = {role: [pod for pod in pods[role] if pod_reading.ready(pod)] for role in Role}
    ordering = spec is not None and spec.scheduling.policy is not SchedulingPolicy.ENGINE_DEFAULT
    async with outside():
        return await asyncio.gather(
            read_gateways(WithKey(http, lambda pod: gateway_key(pod, admin_key, api_key)), pods[ROUTER_POOL]),
            read_loads(WithKey(http, api_key), [pod for role in Role for pod in ready[role]]),
            orders.read(ready[Role.PREFILL] if ordering else ()),
            requests_if_wanted(http, spec, pods[ROUTER_POOL]),
        )


def wants_scales(spec: DisaggregatedInferenceSpec | None) -> bool:
    """Whether a scaler of the user's own decides, so that there are WorkerScales; also of a spec that is not known."""
    return spec is None or (spec.scaling is not None and spec.scaling.mode is ScalingMode.EXTERNAL)


def gateway_key(pod: Json, control: str, api_key: str) -> str:
    """The key for a gateway: one that an earlier version made has no control plane of its own."""
    return control if any(Pair.of_labels(pod["metadata"].get("labels", {}))) else api_key


async def requests_if_wanted(
    http: PodHttp, spec: DisaggregatedInferenceSpec | None, gateways: Sequence[Json]
) -> Counts | None:
    """Requests that each gateway has counted; None where nothing follows from it."""
    if spec is None or spec.scaling is None or spec.scaling.idle is None:
        return None
    return await read_requests(http, gateways)


async def _pods(kubernetes: Kubernetes, namespace: str, selector: str) -> list[Json]:
    return [bare(pod) for pod in await kubernetes.list(kinds.POD, namespace, selector)]


def bare(thing: Json) -> Json:
    """An object that is kept, without what tells who wrote which field: a third of it and more."""
    thing["metadata"].pop("managedFields", None)
    return thing


async def _children(kubernetes: Kubernetes, kind: kinds.Kind, namespace: str, selector: str) -> list[Json]:
    try:
        found = await kubernetes.list(kind, namespace, selector, MOST_CHILDREN)
    except ApiError as error:
        if error.status == 404 and kind is kinds.WORKER_SCALE:  # its definition came with a later version of the chart
            return []
        raise
    return [bare(thing) for thing in found]


async def _sets(
    kubernetes: Kubernetes,
    key: Key,
    selector: str,
    owner: Owner,
    spec: DisaggregatedInferenceSpec | None,
    there: Sequence[Json],
) -> tuple[list[Json], bool]:
    """LeaderWorkerSets of a resource, and whether the cluster has such; not asked for where nothing tells of any."""
    wanted = spec is not None and max(spec.prefill.nodes, spec.decode.nodes) > 1
    made = any(groups.set_name(item) or "group" in (item.get("data") or {}) for item in there)
    if not (wanted or made):
        return [], True
    try:
        found = await kubernetes.list(kinds.LEADER_WORKER_SET, key.namespace, selector)
    except ApiError as error:
        if error.status != 404:
            raise
        return [], not wanted
    return [item for item in found if belongs(item, owner)], True


def belongs(child: Json, owner: Owner) -> bool:
    """Whether the resource controls an object: by group, kind, name and uid."""
    reference = kinds.controller(child)
    return kinds.is_ours(reference, owner.name) and reference.get("uid") == owner.uid


def read_spec(resource: Json) -> tuple[DisaggregatedInferenceSpec | None, str]:
    """The spec of a stored resource, or what is wrong with it (stored under another version's schema, say)."""
    return _read(resource.get("spec", {}))


def _spec_of(spec: Json) -> tuple[DisaggregatedInferenceSpec | None, str]:
    if depth_of(spec) > MOST_LEVELS:
        return None, f"{_deepest(spec)}: is nested more than {MOST_LEVELS} levels deep; a pod has at most 14"
    try:
        return DisaggregatedInferenceSpec.model_validate(spec), ""
    except ValidationError as error:
        return None, _problems("spec", error)


_read = Remembered(_spec_of, KEPT_SPECS)


async def read_api_key(kubernetes: Kubernetes, key: Key, spec: DisaggregatedInferenceSpec | None) -> tuple[str, str]:
    """The key that gateways and engines of a resource ask for, or why it is not known; both "" without spec.apiKey."""
    return await _read_key(kubernetes, key, spec.api_key if spec else None, "spec.apiKey")


async def read_control_key(
    kubernetes: Kubernetes, key: Key, spec: DisaggregatedInferenceSpec | None
) -> tuple[str, str]:
    """The key of the gateways' control plane, or why it is not known; both "" without spec.router.controlKey."""
    return await _read_key(kubernetes, key, spec.router.control_key if spec else None, "spec.router.controlKey")


async def _read_key(kubernetes: Kubernetes, key: Key, ref: SecretKey | None, field_name: str) -> tuple[str, str]:
    if ref is None:
        return "", ""
    where = f"{field_name}: key {ref.key} of Secret {ref.name}"
    try:
        secret = await kubernetes.get(kinds.SECRET, key.namespace, ref.name)
    except ApiError as error:
        if error.status != 403:
            raise
        return "", f"{where}: the operator may not read it; name that Secret in the chart's apiKeySecrets"
    try:
        found = base64.b64decode(((secret or {}).get("data") or {})[ref.key], validate=True).decode("ascii").strip()
    except KeyError:
        return "", f"{where} does not exist in namespace {key.namespace}; create it, or correct the name"
    except ValueError:
        found = ""
    if not found or not found.isprintable():
        return (
            "",
            f"{where} is empty or holds more than printable ASCII, all that fits a header; correct it",
        )
    return found, ""


Profiles = Mapping[Role, EngineProfileSpec]

_read_profile = Remembered(EngineProfileSpec.model_validate, KEPT_SPECS)


async def read_profiles(
    kubernetes: Kubernetes, key: Key, spec: DisaggregatedInferenceSpec | None
) -> tuple[Profiles, EngineModel | str]:
    """The profiles that a resource names, and the model that they make.

    Returns:
        Profiles by role, and in place of the model why there is none; "" without spec.scaling.
    """
    if spec is None or spec.scaling is None:
        return {}, ""
    if spec.scaling.mode is ScalingMode.EXTERNAL and not any(spec.profile_name(role) for role in Role):
        return {}, "a scaler of the user's own decides, and names no EngineProfile"
    names = {role: spec.profile_name(role) for role in Role}
    found: dict[str, EngineProfileSpec] = {}
    for role, name in names.items():
        if name in found:
            continue
        where = f"spec.{role}.profileRef" if spec.own_profile(role) else "spec.scaling.profileRef"
        if not name:
            return {}, f"{where} names no EngineProfile, and neither does spec.scaling.profileRef; set one of them"
        profile = await kubernetes.get(kinds.PROFILE, key.namespace, name)
        if profile is None:
            missing = f"{where} names EngineProfile {name}, and namespace {key.namespace} has none of that name"
            return {}, f"{missing}; apply it, or correct the name"
        try:
            found[name] = _read_profile(profile["spec"])
        except ValidationError as error:
            return {}, f"EngineProfile {name}: {_problems('spec', error)}"
    profiles = {role: found[name] for role, name in names.items()}
    try:
        return profiles, EngineModel.from_profiles(profiles[Role.PREFILL], profiles[Role.DECODE])
    except ValueError as error:
        return {}, f"EngineProfile {names[Role.DECODE]}: {error}"


def _deepest(spec: Json) -> str:
    """The field of a spec under which it is nested deepest, such as spec.prefill.template."""
    path, node = ["spec"], spec
    while len(path) < 3 and isinstance(node, dict):
        name = max(node, key=lambda name: depth_of(node[name]))
        path, node = [*path, name], node[name]
    return ".".join(path)


def _problems(root: str, error: ValidationError) -> str:
    return "; ".join(".".join([root, *map(str, e["loc"])]) + f": {e['msg']}" for e in error.errors())
