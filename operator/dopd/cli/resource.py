"""A resource as commands look at it: what is stored of it, with the profiles that it names."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Protocol

import click
from click.shell_completion import CompletionItem

from dopd.api.conditions import ConditionReason
from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.api.profile import EngineProfileSpec
from dopd.api.status import Condition, DisaggregatedInferenceStatus, Load, PlanStatus
from dopd.cli.arguments import Checked, object_name
from dopd.cli.clusters import connect, namespace_of, run
from dopd.cli.errors import Failed, did_you_mean
from dopd.cluster import ApiError, Kubernetes, kinds
from dopd.perf import EngineModel
from dopd.planning import Demand, PerRole, Policy
from dopd.reconcile.observe import read_profiles, read_spec
from dopd.reconcile.queue import Key
from dopd.reconcile.stored import stored_status

KIND = kinds.INFERENCE.kind


@dataclass(frozen=True)
class Found:
    """A resource of a cluster.

    Attributes:
        key: of it.
        resource: as stored.
        spec: of it; None where this version can not read it.
        problem: why it can not be read; "" where it can.
        status: what can be read of it.
        profiles: by role; empty where they are not known.
        model: performance of an engine, or why that is not known.
    """

    key: Key
    resource: dict[str, Any]
    spec: DisaggregatedInferenceSpec | None
    problem: str
    status: DisaggregatedInferenceStatus
    profiles: dict[Role, EngineProfileSpec]
    model: EngineModel | str

    def condition(self, kind: str) -> Condition | None:
        """A condition; None where it is absent."""
        return next((one for one in self.status.conditions if one.type == kind), None)

    @property
    def asleep(self) -> str:
        """What its condition says while both roles are at zero for want of requests; "" while they are not."""
        ready = self.condition("Ready")
        return ready.message or ready.reason if ready and ready.reason == ConditionReason.ASLEEP else ""

    @property
    def readable_spec(self) -> DisaggregatedInferenceSpec:
        """The spec.

        Raises:
            Failed: this version can not read it.
        """
        if self.spec is None:
            raise Failed(f"{KIND} {self.key}: {self.problem}")
        return self.spec

    def leads(self) -> PerRole[float]:
        """Seconds from a start to a worker that serves: as measured, else as the profile says."""
        assert isinstance(self.model, EngineModel)
        started = self.model.startup_seconds

        def of(role: Role) -> float:
            told = self.status.prefill if role is Role.PREFILL else self.status.decode
            lead = told.lead_time if told else None
            return lead.node_seconds + lead.start_seconds + lead.registration_seconds if lead else started[role]

        return PerRole.of(of)


async def find(kubernetes: Kubernetes, key: Key) -> Found:
    """One resource, with its profiles.

    Raises:
        Failed: there is none of that name; the nearest names and the fix.
        ApiError: the API server refuses.
    """
    resource = await kubernetes.get(kinds.INFERENCE, key.namespace, key.name)
    if resource is None:
        raise Failed(await _absent(kubernetes, key))
    return await completed(kubernetes, resource)


async def completed(kubernetes: Kubernetes, resource: dict[str, Any]) -> Found:
    """A stored resource with what it names.

    Raises:
        ApiError: the API server refuses.
    """
    meta = resource["metadata"]
    key = Key(meta["namespace"], meta["name"])
    spec, problem = read_spec(resource)
    profiles, model = await read_profiles(kubernetes, key, spec)
    return Found(key, resource, spec, problem, stored_status(resource), dict(profiles), model)


async def listed(kubernetes: Kubernetes, namespace: str | None) -> list[dict[str, Any]]:
    """All resources of a namespace, or of all.

    Raises:
        Failed: the cluster does not know the kind.
        ApiError: the API server refuses.
    """
    try:
        return await kubernetes.list(kinds.INFERENCE, namespace)
    except ApiError as error:
        if error.status == 404:
            raise Failed(_UNKNOWN_KIND) from error
        raise


_UNKNOWN_KIND = f"the cluster knows no {KIND}; expected its definition: install dopd (helm install), or use --context"


async def _absent(kubernetes: Kubernetes, key: Key) -> str:
    names = [one["metadata"]["name"] for one in await listed(kubernetes, key.namespace)]
    told = f"RESOURCE {key.name}: namespace {key.namespace} has no {KIND} of that name"
    if names:
        shown = ", ".join(sorted(names)[:10])
        return f"{told}{did_you_mean(key.name, names)}; expected one of {shown}, or another namespace (-n)"
    elsewhere: list[str] = []
    with suppress(ApiError):  # who may look into one namespace alone is told of that one
        elsewhere = [
            f"{one['metadata']['namespace']}/{one['metadata']['name']}" for one in await listed(kubernetes, None)
        ]
    there = f"; there is {', '.join(sorted(elsewhere)[:5])}" if elsewhere else ""
    return f"{told}, nor any other{there}; name another namespace (-n), or apply one"


class Look(Protocol):
    """What a command asks of a cluster."""

    def __call__(self, kubernetes: Kubernetes) -> Coroutine[Any, Any, Any]:
        """Ask."""


def ask(options: SimpleNamespace, look: Look) -> Any:
    """Connect as the flags say, ask, and close.

    Raises:
        Failed: there is no cluster, or it refuses.
    """

    async def asked() -> Any:
        kubernetes = await connect(options)
        try:
            return await look(kubernetes)
        finally:
            await kubernetes.close()

    return run(asked())


def found(options: SimpleNamespace, name: str) -> Found:
    """The resource that a command names.

    Raises:
        Failed: there is no cluster, or no such resource.
    """
    key = Key(namespace_of(options), name)
    resource: Found = ask(options, lambda kubernetes: find(kubernetes, key))
    return resource


def before_and_after(
    options: SimpleNamespace, name: str, changed: DisaggregatedInferenceSpec | None
) -> tuple[Found, Found | None]:
    """The resource that a command names, and what it is to become, with the profiles that each names.

    Args:
        options: of the cluster.
        name: of the resource.
        changed: the spec that it is to get; None for none.

    Raises:
        Failed: there is no cluster, or no such resource.
    """
    key = Key(namespace_of(options), name)

    async def look(kubernetes: Kubernetes) -> tuple[Found, Found | None]:
        before = await find(kubernetes, key)
        if changed is None:
            return before, None
        profiles, model = await read_profiles(kubernetes, key, changed)
        if changed.scaling is None:  # static: of the profile that the resource has now
            model = before.model
        return before, replace(before, spec=changed, profiles=dict(profiles), model=model)

    found, after = ask(options, look)
    return found, after


def demands(found: Found) -> PerRole[Demand]:
    """The load that each role was planned for, from the status.

    Raises:
        Failed: none is known; why, and what to do.
    """
    load, plan = found.status.load, found.status.plan
    if load is None or plan is None:
        raise Failed(why_no_plan(found))
    return PerRole(of_load(load.prefill, plan), of_load(load.decode, plan))


def of_load(load: Load, plan: PlanStatus) -> Demand:
    """A load of the status, with the spread of lengths that the plan tells."""
    lengths = plan.lengths
    return Demand(
        load.requests_per_second,
        load.input_tokens,
        load.input_tokens**2 * (1 + lengths.input_cv**2),
        load.output_tokens,
        min(1.0, lengths.uncached_share),
        load.output_tokens**2 * (1 + lengths.output_cv**2),
    )


def engine_and_policy(found: Found, now: datetime) -> tuple[EngineModel, Policy]:
    """The engine as it was measured to be, and what the user wants and allows now.

    Raises:
        Failed: there is nothing to plan with; why, and what to do.
    """
    spec = found.readable_spec
    if spec.scaling is None:
        raise Failed(
            f"{KIND} {found.key}: spec.scaling is absent, so spec.prefill.replicas and spec.decode.replicas decide; "
            "add spec.scaling"
        )
    if isinstance(found.model, str):
        raise Failed(f"{KIND} {found.key}: {found.model}")
    plan = found.status.plan
    policy = Policy.from_spec(spec, now.timestamp(), found.leads(), bool(plan and plan.on_time_first))
    if plan is None:
        return found.model, policy
    return found.model.corrected(plan.prefill.correction, plan.decode.correction), policy


def why_no_plan(found: Found) -> str:
    """Why a resource has no plan, as its conditions tell."""
    spec, told = found.readable_spec, f"{KIND} {found.key} has no plan yet"
    if spec.scaling is None:
        return f"{told}: spec.scaling is absent, so its replicas are static; add spec.scaling"
    if found.asleep:
        return f"{told}: it is asleep (spec.scaling.idle): {found.asleep}"
    for kind in ("ProfileFound", "MetricsAvailable"):
        condition = found.condition(kind)
        if condition and condition.status != "True":
            return f"{told}: {kind} is {condition.status}, {condition.message}"
    if not found.status.conditions:
        return f"{told}: no operator has looked at it; run dopd doctor"
    if spec.scaling.mode == "External":
        return f"{told}: spec.scaling.mode is External, so a scaler decides; set it to Advise or Auto"
    if spec.scaling.mode == "Paused":
        return f"{told}: spec.scaling.mode is Paused; set it to Advise or Auto"
    return f"{told}: the first reading of the load is not there; wait a quarter of a minute, or run dopd doctor"


class Name(Checked):
    """The name of a resource; completion offers those of the namespace, where the cluster answers."""

    def __init__(self) -> None:
        super().__init__(object_name, "name")

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Names that begin so."""
        options = SimpleNamespace(**{name: ctx.params.get(name) for name in ("namespace", "kubeconfig", "context")})

        async def look(kubernetes: Kubernetes) -> list[dict[str, Any]]:
            async with asyncio.timeout(COMPLETION_SECONDS):
                return await listed(kubernetes, namespace_of(options))

        try:
            names = [one["metadata"]["name"] for one in ask(options, look)]
        except (Failed, TimeoutError):  # a shell that asks wants names and no complaint
            return []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


COMPLETION_SECONDS = 2.0
"""So long a shell waits for names."""


def now() -> datetime:
    """The time of the clock."""
    return datetime.now(UTC)


def age(then: str, at: datetime) -> str:
    """How long ago a time is, as kubectl writes it: 40s, 5m, 3h, 2d; "" where it is no time."""
    try:
        seconds = max(0.0, (at - datetime.fromisoformat(then)).total_seconds())
    except (ValueError, TypeError):
        return ""
    for width, name in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * width:
            return f"{int(seconds // width)}{name}"
    return f"{int(seconds)}s"
