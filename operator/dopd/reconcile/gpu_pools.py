"""GpuPools: a resource says what it wants, and learns what its pods may hold. The ledger is the pool's status.

Each turn of a resource reads the ledger, sets the resource's own row, divides, and writes over exactly what it has
read: of two operators, or two turns, that write at a time one is refused and reads anew. What is granted stands in
the ledger before a pod starts for it, and is taken off it only by the turn that counted the pods. So nothing has to be
remembered: an operator that begins anew goes on from the ledger.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from http import HTTPStatus
from math import inf
from typing import Any

from dopd.api.conditions import ConditionReason
from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import INSTANCE_LABEL, ROLES, Role
from dopd.api.status import Condition
from dopd.cluster import ApiError, Kubernetes, kinds
from dopd.planning.bounds import Pair
from dopd.planning.pool import Row, Rows, divide, settle
from dopd.planning.sharing import NOTHING, lesser
from dopd.reconcile import pods as pod_reading
from dopd.reconcile import pool_metrics
from dopd.reconcile.grants import Grant, Ledger, grant_of, ledger_status, named_twice, read_ledger, types_of
from dopd.reconcile.observe import Observed, read_spec
from dopd.reconcile.queue import Key
from dopd.reconcile.stored import stored_status
from dopd.workloads.groups import SET_LABEL

_LOG = logging.getLogger(__name__)

Json = dict[str, Any]
MOST_TRIES = 8
"""Of a turn at a ledger that others write, too."""
SWEEP_SECONDS = 60.0
"""So often rows are looked at that no resource of this operator stands behind any more."""


@dataclass(frozen=True)
class Want:
    """What a resource has and wants.

    Attributes:
        key: of the resource.
        spec: of it.
        wanted: workers that it wants.
        minimum: workers without which it takes none.
        held: GPUs of its pods, by role.
        surge: GPUs that a rollout could use beyond that, by role.
        last: what was given before, as its status tells; None if nothing was.
    """

    key: Key
    spec: DisaggregatedInferenceSpec
    wanted: Pair
    minimum: Pair
    held: Pair
    surge: Pair = NOTHING
    last: Grant | None = None


@dataclass
class GpuPools:
    """All pools, for one operator.

    Attributes:
        kubernetes: where they are.
        monotonic: seconds.
        namespaces: that this operator watches; empty for all. Rows of others are others'.
        wake: makes a resource due after a delay.
    """

    kubernetes: Kubernetes
    monotonic: Callable[[], float]
    namespaces: Sequence[str] = ()
    wake: Callable[[Key, float], None] = lambda _key, _delay: None
    _pool_of: dict[Key, str] = field(default_factory=dict)
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict)
    _swept: dict[str, float] = field(default_factory=dict)

    def forget(self, key: Key) -> None:
        """A resource is gone, or names no pool any more: its row is looked at soon, until its pods are gone."""
        pool = self._pool_of.pop(key, None)
        if pool is None:
            return
        pool_metrics.forget_member(key)
        self._swept[pool] = -inf
        others = [other for other, name in self._pool_of.items() if name == pool]
        if others:
            self.wake(others[0], 0.0)
        else:
            pool_metrics.forget_pool(pool)

    async def turn(self, want: Want, now: datetime) -> Grant:
        """What a resource may do now.

        Args:
            want: what it has and wants, as just counted.
            now: the time.
        """
        ref = want.spec.gpu_pool
        assert ref is not None
        if self._pool_of.get(want.key) not in (None, ref.name):
            self.forget(want.key)
        self._pool_of[want.key] = ref.name
        async with self._locks.setdefault(ref.name, asyncio.Lock()):
            try:
                grant = await self._turn(ref.name, want, now)
            except _Unusable as fault:
                grant = _as_before(ref.name, want, fault.reason, str(fault))
            except ApiError as error:
                words = f"GpuPool {ref.name}: {error.message}"
                grant = _as_before(ref.name, want, ConditionReason.API_FAILED, words)
        pool_metrics.report_grant(want.key, grant)
        return grant

    async def _turn(self, name: str, want: Want, now: datetime) -> Grant:
        for _ in range(MOST_TRIES):
            ledger = await self._read(name)
            rows = dict(ledger.rows)
            if not ledger.begun:
                rows |= await self._found(name, ledger, now.timestamp())
            rows = await self._without_gone(name, ledger, rows, now.timestamp())
            types, problem = types_of(want.spec, ledger.spec.gpu_types)
            mine = str(want.key)
            rows[mine] = _own(rows.get(mine), want, types)
            rows = divide(ledger.pool, rows, now.timestamp())
            rows[mine] = settle(ledger.pool, rows, mine, _by_type(want.surge, types))
            status = ledger_status(ledger, rows, now)
            grant = grant_of(name, ledger.pool, rows, rows[mine], problem)
            pool_metrics.report_pool(name, ledger.pool, status)
            if status == ledger.stored.get("status"):
                return grant
            try:
                await self.kubernetes.update_status(kinds.GPU_POOL, ledger.stored, status)
            except ApiError as error:
                if error.status != HTTPStatus.CONFLICT:
                    raise
                continue
            self._tell(name, mine, ledger.rows, rows)
            return grant
        raise ApiError(HTTPStatus.CONFLICT, "Conflict", f"others wrote to it {MOST_TRIES} times meanwhile")

    async def _read(self, name: str) -> Ledger:
        stored = await self.kubernetes.get(kinds.GPU_POOL, "", name)
        if stored is None or "deletionTimestamp" in stored["metadata"]:
            pool_metrics.forget_pool(name)
            words = f"there is no GpuPool {name}, and what was granted last holds"
            raise _Unusable(ConditionReason.NO_POOL, f"{words}. Apply it, or correct spec.gpuPool.name")
        pool_metrics.report_entries(name, named_twice(stored))
        try:
            return read_ledger(stored)
        except ValueError as error:
            words = f"GpuPool {name} can not be read, and what was granted last holds: {error}"
            raise _Unusable(ConditionReason.NO_POOL, f"{words}. Apply it anew") from error

    async def _found(self, name: str, ledger: Ledger, now_seconds: float) -> dict[str, Row]:
        """Rows of the resources that name a pool of which the ledger has just begun: they hold what they hold."""
        rows = {}
        for namespace in self.namespaces or (None,):
            for resource in await self.kubernetes.list(kinds.INFERENCE, namespace):
                spec, _ = read_spec(resource)
                if spec is None or spec.gpu_pool is None or spec.gpu_pool.name != name:
                    continue
                status, meta = stored_status(resource), resource["metadata"]
                types, _ = types_of(spec, ledger.spec.gpu_types)
                pods = await self._pods(meta["namespace"], meta["name"])
                held = _by_type(_held(pods, now_seconds), types)
                pair = tuple(of.desired if of else 0 for of in (status.prefill, status.decode))
                gpus = (spec.prefill.gpus, spec.decode.gpus)
                row = Row(f"{meta['namespace']}/{meta['name']}", (pair[0], pair[1]), NOTHING, gpus, types, held=held)
                granted = {kind: max(n, held.get(kind, 0)) for kind, n in row.cost(row.wanted).items()}
                rows[row.name] = replace(row, share=row.wanted, granted=granted)
        return rows

    async def _without_gone(self, name: str, ledger: Ledger, rows: Rows, now_seconds: float) -> dict[str, Row]:
        """The rows, without those of resources that are gone, or name the pool no more, as far as their pods are."""
        kept, now = dict(rows), self.monotonic()
        if now - self._swept.setdefault(name, now) < SWEEP_SECONDS:  # not at once: after a start all turns are to come
            return kept
        self._swept[name] = now
        for row in ledger.rows.values():
            key = Key(*row.name.split("/", 1))
            if self._pool_of.get(key) == name or (self.namespaces and key.namespace not in self.namespaces):
                continue
            try:
                resource = await self.kubernetes.get(kinds.INFERENCE, key.namespace, key.name)
                gone = resource is None or "deletionTimestamp" in resource["metadata"]
                held = _by_type(_held(await self._pods(*key), now_seconds), row.types) if gone else {}
            except ApiError as error:
                _LOG.warning("GpuPool %s: whether %s is gone is not known: %s", name, row.name, error)
                continue
            if resource and not gone and _names(resource, name):
                continue  # its turn comes
            if held:
                kept[row.name] = replace(row, wanted=NOTHING, minimum=NOTHING, share=NOTHING, held=held, granted=held)
                self._swept[name] = now - SWEEP_SECONDS + 1.0
            else:
                del kept[row.name]
        return kept

    async def _pods(self, namespace: str, name: str) -> list[Json]:
        return await self.kubernetes.list(kinds.POD, namespace, f"{INSTANCE_LABEL}={name}")

    def _tell(self, name: str, mine: str, before: Rows, after: Rows) -> None:
        """Make those due whose share is another now, and those that wait for GPUs."""
        for row in after.values():
            key, old = Key(*row.name.split("/", 1)), before.get(row.name)
            other = old is None or old.share != row.share
            if row.name != mine and self._pool_of.get(key) == name and (other or row.waits):
                self.wake(key, 0.0)


class _Unusable(Exception):
    """A pool that can not be taken from.

    Attributes:
        reason: why.
    """

    def __init__(self, reason: ConditionReason, words: str) -> None:
        super().__init__(words)
        self.reason = reason


def want_of(
    key: Key, observed: Observed, spec: DisaggregatedInferenceSpec, wanted: Mapping[Role, int], now: datetime
) -> Want:
    """What a resource has and wants.

    Args:
        key: of the resource.
        observed: the look at the cluster.
        spec: of the resource.
        wanted: workers that should serve, by role.
        now: the time.
    """
    pair = (wanted[Role.PREFILL], wanted[Role.DECODE])
    least = (spec.scaling.prefill.min, spec.scaling.decode.min) if spec.scaling else (1, 1)

    def held(role: Role) -> int:
        ending = (pod for pod in observed.ending[role] if not pod_reading.overdue(pod, now.timestamp()))
        return sum(map(pod_reading.gpus, (*observed.pods[role], *ending)))

    status = stored_status(observed.resource)
    told, last = status.gpu_pool, None
    if told and spec.gpu_pool and told.name == spec.gpu_pool.name:
        types = [*told.types, "", ""]
        last = Grant(told.name, pair, (told.share.prefill, told.share.decode), dict(told.granted), (types[0], types[1]))
    surge = _surge(status.conditions, spec, wanted)
    return Want(key, spec, pair, lesser(pair, least), (held(Role.PREFILL), held(Role.DECODE)), surge, last)


def _surge(conditions: Sequence[Condition], spec: DisaggregatedInferenceSpec, wanted: Mapping[Role, int]) -> Pair:
    """GPUs that a rollout under way could use beyond the share, by role."""
    rolled = next((c for c in conditions if c.type == "RolledOut"), None)
    if rolled is None or rolled.reason not in (ConditionReason.ROLLING_OUT, ConditionReason.NO_SPARE_GPU):
        return NOTHING

    def of(role: Role) -> int:
        workers, rollout = (
            (spec.prefill, spec.rollout.prefill) if role is Role.PREFILL else (spec.decode, spec.rollout.decode)
        )
        single = wanted[role] == 1 and not spec.rollout.allow_outage
        return max(rollout.max_surge_gpus, workers.gpus if single else 0)

    return of(Role.PREFILL), of(Role.DECODE)


def _own(before: Row | None, want: Want, types: tuple[str, str]) -> Row:
    gpus = (want.spec.prefill.gpus, want.spec.decode.gpus)
    held = _by_type(want.held, types)
    if before is None:
        share = want.last.share if want.last else NOTHING
        granted = dict(want.last.granted) if want.last and any(held.values()) else {}
        before = Row(str(want.key), want.wanted, want.minimum, gpus, types, share=share, granted=granted)
    return replace(before, wanted=want.wanted, minimum=want.minimum, worker_gpus=gpus, types=types, held=held)


def _as_before(name: str, want: Want, reason: ConditionReason, message: str) -> Grant:
    """What was granted last, or what is held where nothing was."""
    if want.last is not None:
        return replace(want.last, share=lesser(want.wanted, want.last.share), reason=reason, message=message)
    gpus = (want.spec.prefill.gpus, want.spec.decode.gpus)
    there = (want.held[0] // gpus[0], want.held[1] // gpus[1])
    return Grant(name, want.wanted, lesser(want.wanted, there), {"": sum(want.held)}, ("", ""), reason, message)


def _by_type(of_roles: Pair, types: tuple[str, str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for kind, gpus in zip(types, of_roles, strict=True):
        found[kind] = found.get(kind, 0) + gpus
    return {kind: gpus for kind, gpus in found.items() if gpus}


def _held(pods: Sequence[Json], now_seconds: float) -> Pair:
    """GPUs of pods of both roles. Each pod of a group says what the group holds, so one counts.

    A pod that is being deleted counts until it is gone, as everywhere, unless its node is lost.
    """
    held: dict[Role, dict[str, int]] = {role: {} for role in Role}
    for pod in pods:
        role, meta = pod_reading.pool(pod), pod["metadata"]
        leaves = "deletionTimestamp" in meta
        counts = not (pod_reading.overdue(pod, now_seconds) if leaves else pod_reading.finished(pod))
        if role in ROLES and counts:
            worker = meta.get("labels", {}).get(SET_LABEL) or meta["name"]
            held[Role(role)][worker] = pod_reading.gpus(pod)
    return sum(held[Role.PREFILL].values()), sum(held[Role.DECODE].values())


def _names(resource: Json, pool: str) -> bool:
    spec, _ = read_spec(resource)
    return spec is not None and spec.gpu_pool is not None and spec.gpu_pool.name == pool
