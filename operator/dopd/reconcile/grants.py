"""What a GpuPool gives a resource, and how its ledger is read and written as a status. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from dopd.api.base import seconds
from dopd.api.conditions import ConditionReason, ConditionStatus, PoolReason
from dopd.api.gpupool import GpuPoolSpec, GpuPoolStatus, GpuType, MemberGpus, MemberStatus, TypeStatus
from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.api.status import Condition, GrantStatus, WorkerPair
from dopd.cluster.decode import depth_of
from dopd.planning.bounds import Bound, Pair
from dopd.planning.pool import Pool, Row, Rows, denied, is_member, lacking
from dopd.planning.sharing import Entry
from dopd.reconcile.pods import epoch_seconds
from dopd.reconcile.profile_match import labels_asked_for
from dopd.reconcile.scaling import Planned
from dopd.reconcile.stored import MOST_LEVELS, rfc3339

Json = dict[str, Any]
SATISFIED = "Satisfied"
NAMED = 3
"""So many members are named in a message of the pool."""


@dataclass(frozen=True)
class Grant:
    """What a resource may do with the GPUs of its pool.

    Attributes:
        pool: name of the GpuPool.
        wanted: workers that it wants.
        share: workers that it is to have.
        granted: GPUs by type that its pods may hold.
        types: types of the GPUs of both roles.
        reason: why it is not all that is wanted; AsExpected if it is.
        message: the same for people.
        lacking: GPUs by type that it wants and is guaranteed, and may not hold yet.
    """

    pool: str
    wanted: Pair
    share: Pair
    granted: Mapping[str, int]
    types: tuple[str, str]
    reason: ConditionReason = ConditionReason.AS_EXPECTED
    message: str = ""
    lacking: Mapping[str, int] = field(default_factory=dict)

    @property
    def targets(self) -> dict[Role, int]:
        """Workers that should serve."""
        return dict(zip(Role, self.share, strict=True))

    def most_gpus(self, role: Role) -> int | None:
        """GPUs that the pods of one role may hold, where the other has GPUs of another type; else None."""
        if self.types[0] == self.types[1]:
            return None
        return self.granted.get(self.types[0 if role is Role.PREFILL else 1], 0)

    def budget(self, own: int | None) -> int | None:
        """GPUs of both roles together, within the budget of the resource's own."""
        if self.types[0] != self.types[1]:
            return own
        granted = self.granted.get(self.types[0], 0)
        return granted if own is None else min(own, granted)

    def status(self) -> GrantStatus:
        """As the resource's status tells it."""
        return GrantStatus(
            name=self.pool,
            wanted=pair_status(self.wanted),
            share=pair_status(self.share),
            types=list(self.types),
            granted=dict(self.granted),
        )


@dataclass(frozen=True)
class Ledger:
    """A GpuPool as it was read.

    Attributes:
        stored: the object.
        spec: of it.
        pool: the same as numbers.
        rows: its members.
    """

    stored: Json
    spec: GpuPoolSpec
    pool: Pool
    rows: Rows = field(default_factory=dict)

    @property
    def begun(self) -> bool:
        """Whether an operator has written to it."""
        return bool(self.stored.get("status"))


def named_twice(stored: Json) -> list[str]:
    """Entries of a stored GpuPool that stand in it more than once: NAMESPACE/NAME, or NAMESPACE/ for all others there.

    The schema refuses them; they were stored before it did.
    """
    spec = stored.get("spec")
    members = spec.get("members") if isinstance(spec, dict) else None
    said = [one for one in members if isinstance(one, dict)] if isinstance(members, list) else []
    names = Counter(f"{one.get('namespace', '')}/{one.get('name') or ''}" for one in said)
    return sorted(name for name, times in names.items() if times > 1)


def read_ledger(stored: Json) -> Ledger:
    """A stored GpuPool.

    Raises:
        ValueError: it was stored under another schema; nothing of it is used then.
    """
    status = stored.get("status") or {}
    if depth_of(stored.get("spec")) > MOST_LEVELS or depth_of(status) > MOST_LEVELS:
        raise ValueError(f"it is nested more than {MOST_LEVELS} levels deep")
    try:
        spec = GpuPoolSpec.model_validate(stored.get("spec"))
        told = GpuPoolStatus.model_validate(status)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    entries = {f"{m.namespace}/{m.name or ''}": Entry(m.priority, m.guaranteed, m.max) for m in spec.members}
    pool = Pool({kind.name: kind.gpus for kind in spec.gpu_types}, entries, seconds(spec.hold_time))
    return Ledger({**stored, "status": status}, spec, pool, {row.name: row for row in map(_row, told.members)})


def _row(told: MemberStatus) -> Row:
    types = [*told.types, "", ""]
    return Row(
        name=f"{told.namespace}/{told.name}",
        wanted=_pair(told.wanted),
        minimum=_pair(told.minimum),
        worker_gpus=_pair(told.worker_gpus),
        types=(types[0], types[1]),
        share=_pair(told.share),
        granted={one.type: one.granted for one in told.gpus if one.granted},
        held={one.type: one.held for one in told.gpus if one.held},
        since_seconds=epoch_seconds(told.since) if told.since else None,
    )


def ledger_status(ledger: Ledger, rows: Rows, now: datetime) -> Json:
    """The status of a GpuPool with other rows."""
    pool = ledger.pool
    members = [_member(pool, rows, rows[name]) for name in sorted(rows)]
    types = []
    for kind, cap in pool.caps.items():
        of_kind = [one for member in members for one in member.gpus if one.type == kind]
        sums = {part: sum(getattr(one, part) for one in of_kind) for part in ("wanted", "granted", "held")}
        types.append(TypeStatus(name=kind, gpus=cap, **sums))
    short = [member for member in members if member.message]
    generation = ledger.stored["metadata"].get("generation", 0)
    stored = GpuPoolStatus.model_validate(ledger.stored.get("status") or {})
    old = next((c for c in stored.conditions if c.type == SATISFIED), None)
    over = [one.name for one in types if one.granted > one.gpus]
    told = "; ".join(f"{one.namespace}/{one.name} {one.message}" for one in short[:NAMED])
    told += f"; and {len(short) - NAMED} more" if len(short) > NAMED else ""
    reason = PoolReason.OVER_CAP if over else PoolReason.DENIED if short else PoolReason.AS_EXPECTED
    if over:
        told = f"members hold more {', '.join(over)} GPUs than the cap, and drain" + (f"; {told}" if told else "")
    status = ConditionStatus.FALSE if over or short else ConditionStatus.TRUE
    condition = Condition(
        type=SATISFIED,
        status=status,
        reason=reason,
        message=told,
        last_transition_time=old.last_transition_time if old and old.status == status else rfc3339(now),
        observed_generation=generation,
    )
    sums = {part: sum(getattr(one, part) for one in types) for part in ("gpus", "wanted", "granted", "held")}
    return GpuPoolStatus(
        conditions=[condition],
        denied=len(short),
        types=types,
        members=members,
        **sums,
    ).model_dump(mode="json", by_alias=True, exclude_none=True)


def _member(pool: Pool, rows: Rows, row: Row) -> MemberStatus:
    namespace, _, name = row.name.partition("/")
    entry = pool.entry_of(row.name)
    said = pool.entries[entry] if entry else Entry()
    wanted = row.cost(row.wanted)
    kinds = sorted({*wanted, *row.granted, *row.held})
    return MemberStatus(
        namespace=namespace,
        name=name,
        member=entry is not None,
        priority=said.priority,
        types=list(row.types),
        worker_gpus=pair_status(row.worker_gpus),
        minimum=pair_status(row.minimum),
        wanted=pair_status(row.wanted),
        share=pair_status(row.share),
        since=rfc3339(datetime.fromtimestamp(row.since_seconds, UTC)) if row.since_seconds is not None else None,
        gpus=[
            MemberGpus(
                type=kind,
                guaranteed=said.guaranteed.get(kind, 0),
                wanted=wanted.get(kind, 0),
                granted=row.granted.get(kind, 0),
                held=row.held.get(kind, 0),
            )
            for kind in kinds[:2]
        ],
        message=denied(pool, rows, row),
    )


def types_of(spec: DisaggregatedInferenceSpec, types: Sequence[GpuType]) -> tuple[tuple[str, str], str]:
    """The types of GPU of both roles as the pool calls them, "" for one that it has not; and what is wrong then."""
    found: list[str] = []
    problems: list[str] = []
    for role, workers in ((Role.PREFILL, spec.prefill), (Role.DECODE, spec.decode)):
        products = set(labels_asked_for(workers.template or {}))
        fitting = [one for one in types if one.resource_name == workers.gpu_resource]
        exact = next((one.name for one in fitting if one.product and one.product in products), "")
        found.append(exact or next((one.name for one in fitting if not one.product), ""))
        if not found[-1]:
            asked = f"{workers.gpu_resource} of {', '.join(sorted(products)) or 'any product'}"
            has = ", ".join(f"{one.resource_name} of {one.product or 'any product'}" for one in types)
            problems.append(f"{role} workers ask for {asked}, and the pool has {has}")
    return (found[0], found[1]), "; ".join(problems)


def grant_of(name: str, pool: Pool, rows: Rows, row: Row, problem: str) -> Grant:
    """What the ledger gives one resource, with the reason."""
    reason, message = ConditionReason.AS_EXPECTED, ""
    if problem:
        reason, message = ConditionReason.OTHER_GPU_TYPE, f"{problem}; what is held stays, and no GPU is added"
    elif not is_member(pool, row):
        reason = ConditionReason.NOT_A_MEMBER
        message = f"GpuPool {name} has no entry for {row.name} or its namespace; what is held stays, no GPU is added"
    elif row.share != row.wanted:
        reason, message = ConditionReason.POOL_LIMITED, f"GpuPool {name}: {denied(pool, rows, row)}"
    elif row.waits:
        reason = ConditionReason.HAND_OVER
        waits_for = {kind: n - row.granted.get(kind, 0) for kind, n in row.cost(row.share).items()}
        told = ", ".join(f"{n} {kind} GPUs" for kind, n in sorted(waits_for.items()) if n > 0)
        message = f"GpuPool {name}: {told} are given and drained by others still"
    lacks = lacking(pool, rows, row)
    return Grant(name, row.wanted, row.share, row.granted, row.types, reason, message, lacks)


def pair_status(pair: Pair) -> WorkerPair:
    """Workers as a status tells them."""
    return WorkerPair(prefill=pair[0], decode=pair[1])


def _pair(told: WorkerPair) -> Pair:
    return max(told.prefill, 0), max(told.decode, 0)


def limited_plan(planned: Planned | None, grant: Grant) -> Planned | None:
    """A plan with the workers that the pool gives in place of those that it asks for."""
    decision = planned.decision if planned else None
    if planned is None or decision is None or decision.pair != grant.wanted or grant.share == grant.wanted:
        return planned
    less = replace(
        decision,
        prefill=grant.share[0],
        decode=grant.share[1],
        limited_by=(*decision.limited_by, Bound.GPU_POOL),
        message=f"{decision.message}; {grant.message}",
    )
    return replace(planned, decision=less)
