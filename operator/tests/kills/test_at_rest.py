"""A pass at rest leaves out what would have no effect: an operator that rests writes what one that never does writes.

Both act on a cluster of their own, in step, while the same happens around them.
"""

import pickle
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dopd.api.conditions import ConditionReason
from dopd.api.names import POOL_LABEL, ROUTER_POOL, Role
from dopd.cluster import ApiError, kinds
from dopd.reconcile import scaling
from dopd.reconcile.kept_lists import KEPT_SECONDS, KeptLists
from dopd.reconcile.queue import Key
from dopd.reconcile.reconciler import Reconciler
from dopd.telemetry.prometheus import QueryFailed

from ..reconcile.test_scaling import AtOnce, Loads
from .api import NAMESPACE, Json, MemoryApi, Write, copied
from .scenarios import CAP, spec
from .test_every_write import PROFILE
from .world import NAME, World

KEY = Key(NAMESPACE, NAME)
KINDS = {kind.kind: kind for kind in (*kinds.CHILD_KINDS, kinds.POD, kinds.INFERENCE, kinds.PROFILE)}
SETTLING_TICKS = 30
INTERVAL_SECONDS = 5
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes wait for their readings, so that both operators plan from the same."""
    monkeypatch.setattr(scaling, "PATIENCE_SECONDS", 30.0)


class Asked(MemoryApi):
    """Counts what is asked for, and writes as `Kubernetes` does."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.counted = Counter[str](), Counter[tuple[str, str]]()

    def _write(self, verb: str, kind: kinds.Kind, name: str) -> Write:
        self.counted[NAMESPACE, kind.plural] += 2
        return super()._write(verb, kind, name)

    async def get(self, kind: kinds.Kind, namespace: str, name: str) -> Json | None:
        self.asked[kind.kind] += 1
        return await super().get(kind, namespace, name)

    async def list(self, kind: kinds.Kind, *arguments: Any, **named: Any) -> list[Json]:
        self.asked[kind.kind] += 1
        return await super().list(kind, *arguments, **named)


@dataclass
class Watched(World):
    """A cluster in which watches tell of changes: of what others do at once, of the operator's own a pass late.

    Attributes:
        loads: what Prometheus tells.
        kept: is told; None in a cluster that nobody watches.
        silent: the watches hang.
    """

    api: Asked
    loads: Loads = field(default_factory=lambda: Loads([1.0]))
    kept: KeptLists | None = None
    silent: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._before, self._late = self._versions(), set[tuple[str, str]]()
        self.asked_gateways = 0

    def watched(self) -> "Watched":
        """With watches."""
        counting = SimpleNamespace(writes=self.api.counted)
        self.kept = KeptLists(counting, lambda: self.api.seconds)  # type: ignore[arg-type]
        return self

    def operator(self) -> Reconciler:
        return Reconciler(
            self.api,  # type: ignore[arg-type]
            self,  # type: ignore[arg-type]
            "http://prometheus",
            now=lambda: datetime.fromtimestamp(self.api.seconds, UTC),
            monotonic=lambda: self.api.seconds,
            loads=self.loads,  # type: ignore[arg-type]
            executor_of=lambda _: AtOnce(),
            lists=self.kept,
        )

    async def get_json(self, pod: Json, *arguments: Any, **named: Any) -> Any:
        self.asked_gateways += pod["metadata"]["labels"][POOL_LABEL] == ROUTER_POOL
        return await super().get_json(pod, *arguments, **named)

    async def pass_over(self, operator: Reconciler) -> None:
        """One pass, and a moment of everything else."""
        self._tell(self._changed())
        await operator.reconcile(KEY)
        self._tell(self._late)
        self._late = self._changed()  # of the operator: told after its next pass
        self.pass_time()

    def _changed(self) -> set[tuple[str, str]]:
        after = self._versions()
        before, self._before = self._before, after
        return {at for at in before.keys() | after.keys() if before.get(at) != after.get(at)}

    def _tell(self, changed: set[tuple[str, str]]) -> None:
        if self.kept is None or self.silent:
            return
        for kind, name in changed:
            version = self.api.objects.get((kind, name), {}).get("metadata", {}).get("resourceVersion", "")
            if kind != kinds.INFERENCE.kind or not self.kept.is_own(KEY, version):
                self.kept.changed(KEY, KINDS[kind])

    def _versions(self) -> dict[tuple[str, str], bytes]:
        return {at: pickle.dumps(thing) for at, thing in self.api.objects.items()}


def scaled(low: int, high: int) -> Json:
    """spec.scaling with a choice."""
    bounds = {"min": low, "max": high}
    behavior = {"interval": f"{INTERVAL_SECONDS}s", "scaleDownStabilization": "10s", "drainDeadline": "10m"}
    budget = {"gpuBudget": {"max": CAP}, "profileRef": {"name": "p"}, "behavior": behavior}
    return {"prefill": bounds, "decode": bounds, **budget}


def world() -> Watched:
    made = Watched(Asked(), CAP)
    made.api.put(kinds.PROFILE, {"metadata": {"name": "p"}, "spec": PROFILE})
    made.create(**spec(1, 1, scaling=scaled(1, 3)))
    return made


def _rate(rate: float) -> Callable[[Watched], None]:
    return lambda world: world.loads.rates.append(rate)


def _fails(world: Watched) -> None:
    failure = QueryFailed(ConditionReason.QUERY_FAILED, "no answer")
    world.loads.error = None if world.loads.error else failure


def _edited(world: Watched) -> None:
    """Somebody edits a child."""
    config = next(thing for (kind, _), thing in world.api.objects.items() if kind == kinds.CONFIG_MAP.kind)
    config["data"] = {"scheduling.json": "{}"}


def _deleted(world: Watched) -> None:
    """Somebody deletes a child."""
    name = next((name for kind, name in world.api.objects if kind == kinds.DISRUPTION_BUDGET.kind), "")
    world.api.take(kinds.DISRUPTION_BUDGET, name)


def _other_profile(world: Watched) -> None:
    profile = copied(world.api.objects[kinds.PROFILE.kind, "p"])
    profile["spec"]["decode"]["maxRunningRequests"] //= 2
    world.api.put(kinds.PROFILE, profile)


def _unlisted(world: Watched) -> None:
    """A gateway loses a worker, and nobody tells."""
    for mine in world.lists.values():
        if mine:
            mine.discard(min(mine))


EVENTS: dict[str, Callable[[Watched], None]] = {
    "little load": _rate(0.5),
    "some load": _rate(4.0),
    "much load": _rate(12.0),
    "no answer of Prometheus, or one again": _fails,
    "other bounds": lambda world: world.change(scaling=scaled(2, 3)),
    "the bounds of before": lambda world: world.change(scaling=scaled(1, 3)),
    "Paused": lambda world: world.change(scaling={"mode": "Paused"}),
    "Auto": lambda world: world.change(scaling={"mode": "Auto"}),
    "another image": lambda world: world.change(engine={"image": f"engine:{world.tick}"}),
    "an objective": lambda world: world.change(slo={"ttftSeconds": 1.0 + world.tick / 100}),
    "eviction": lambda world: world.evict(Role.DECODE) if world.pods(Role.DECODE) else None,
    "a node ends a worker": lambda world: world.fail(Role.DECODE) if world.settled() else None,
    "an engine begins anew": lambda world: (
        world.end_engine(Role.PREFILL, noticed=False) if world.settled() and world.pods(Role.PREFILL) else None
    ),
    "a child is edited": _edited,
    "a child is deleted": _deleted,
    "another profile": _other_profile,
    "a gateway loses a worker": _unlisted,
    "nothing": lambda _: None,
}
STEPS = st.lists(st.tuples(st.sampled_from(sorted(EVENTS)), st.integers(1, 20)), min_size=1, max_size=6)


@settings(
    max_examples=max(8, settings.default.max_examples // 10),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(STEPS)
async def test_who_rests_writes_what_one_who_never_does_writes(steps: list[tuple[str, int]]):
    resting, restless = world().watched(), world()
    pairs = [(one, one.operator()) for one in (resting, restless)]
    for event, ticks in [("nothing", SETTLING_TICKS), *steps, ("nothing", SETTLING_TICKS)]:
        for one, _ in pairs:
            EVENTS[event](one)
        for _ in range(ticks):
            for one, operator in pairs:
                await one.pass_over(operator)
            assert resting.api.writes == restless.api.writes, f"after {event}"
    assert resting.api.objects == restless.api.objects
    asked, without = resting.api.asked[kinds.POD.kind], restless.api.asked[kinds.POD.kind]
    assert asked < without, "it never rested"


async def settled() -> tuple[Watched, Reconciler]:
    one = world().watched()
    operator = one.operator()
    for _ in range(2 * SETTLING_TICKS):
        await one.pass_over(operator)
    one.api.asked.clear()
    return one, operator


async def test_a_pass_at_rest_asks_the_api_server_nothing_and_a_whole_one_follows_within_a_minute():
    one, operator = await settled()
    whole = []
    for _ in range(int(3 * KEPT_SECONDS)):
        before, one.asked_gateways = one.api.asked.total(), 0
        await one.pass_over(operator)
        assert one.asked_gateways, "gateways are asked in each pass"
        if one.api.asked.total() > before:
            whole.append(one.api.seconds)
    assert len(whole) == 3
    assert {later - earlier for earlier, later in pairwise(whole)} == {KEPT_SECONDS}


async def test_what_watches_do_not_tell_is_seen_within_a_minute():
    one, operator = await settled()
    one.silent = True
    _deleted(one)
    for _ in range(int(KEPT_SECONDS) + 1):
        await one.pass_over(operator)
    assert sum(kind == kinds.DISRUPTION_BUDGET.kind for kind, _ in one.api.objects) == 3


@pytest.mark.parametrize("event", ["a child is deleted", "another profile", "eviction", "a gateway loses a worker"])
async def test_what_happens_is_seen_in_the_next_pass(event: str):
    one, operator = await settled()
    EVENTS[event](one)
    await one.pass_over(operator)
    assert one.api.asked[kinds.POD.kind] == 1


async def test_a_worker_that_waits_for_something_keeps_its_resource_from_rest():
    one, operator = await settled()
    one.broken = "engine"  # nothing comes up any more
    one.change(engine={"image": "engine:2", "args": ["engine"]})
    for _ in range(SETTLING_TICKS):
        await one.pass_over(operator)
    one.api.asked.clear()
    for _ in range(SETTLING_TICKS):
        await one.pass_over(operator)
    assert one.api.asked[kinds.POD.kind] == SETTLING_TICKS


async def test_while_a_reading_is_late_passes_do_with_the_look_that_it_began_with(monkeypatch: pytest.MonkeyPatch):
    one, operator = await settled()
    monkeypatch.setattr(scaling, "PATIENCE_SECONDS", 0.0)
    one.loads.released.clear()
    while not operator._loops[KEY].reads:
        await one.pass_over(operator)
    one.asked_gateways = 0
    await operator.reconcile(KEY)
    assert not one.asked_gateways
    operator.look_anew(KEY)
    await operator.reconcile(KEY)
    assert one.asked_gateways == 1


async def test_a_status_that_can_not_be_written_at_rest_makes_the_next_look_a_whole_one(
    monkeypatch: pytest.MonkeyPatch,
):
    one, operator = await settled()
    apply, refused = one.api.apply, []

    async def refuses(kind: kinds.Kind, manifest: Json, subresource: str = "") -> Json:
        if kind is kinds.INFERENCE and not refused:
            refused.append(manifest)
            raise ApiError(503, "", "busy")
        return await apply(kind, manifest, subresource)

    monkeypatch.setattr(one.api, "apply", refuses)
    one.loads.rates.append(1.2)
    while not refused:
        assert not one.api.asked.total()
        await one.pass_over(operator)
    assert one.api.asked[kinds.POD.kind] == 1, "the same pass looks at everything"
    load = one.api.objects[kinds.INFERENCE.kind, NAME]["status"]["load"]
    assert load["demand"]["requestsPerSecond"] == pytest.approx(1.2)
