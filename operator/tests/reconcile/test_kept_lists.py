"""A kept list is never older than what was told or written; and at rest a pass lists pods alone."""

import copy
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.api.names import INSTANCE_LABEL
from dopd.cluster import ApiError, kinds
from dopd.reconcile.handlers import registry
from dopd.reconcile.kept_lists import KEPT_SECONDS, KeptLists
from dopd.reconcile.queue import Key, KeyQueue

from .test_pass import KEY, Clock, Cluster, reconciler

Json = dict[str, Any]
KIND = kinds.CONFIG_MAP


class Store:
    """Objects with a version each, that counts writes as `Kubernetes` does."""

    def __init__(self) -> None:
        self.version, self.asked, self.writes = 0, 0, Counter[tuple[str, str]]()

    async def ask(self, kind: kinds.Kind) -> list[Json]:
        self.asked += 1
        return [{"version": self.version}]

    def write(self) -> None:
        written = (KEY.namespace, KIND.plural)
        self.writes[written] += 1
        self.version += 1
        self.writes[written] += 1


class Counting(Cluster):
    """Counts writes as `Kubernetes` does."""

    writes: Counter[tuple[str, str]]

    def __post_init__(self) -> None:
        super().__post_init__()
        self.writes = Counter()

    def _call(self, verb: str, kind: kinds.Kind, name: str) -> None:
        super()._call(verb, kind, name)
        if verb not in ("get", "list"):
            self.writes[KEY.namespace, kind.plural] += 2


def kept(store: Store | Counting, clock: Clock) -> KeptLists:
    return KeptLists(store, lambda: clock.seconds)  # type: ignore[arg-type]


async def seen(lists: KeptLists, store: Store, key: Key = KEY) -> int:
    return int((await lists.read(key, KIND, store.ask))[0]["version"])


STEPS = st.lists(st.sampled_from(["write", "told", "silent", "forget", "other", "later"]), max_size=30)


@given(STEPS)
async def test_what_was_told_or_written_is_always_seen_and_the_rest_within_a_minute(steps: list[str]):
    store, clock = Store(), Clock()
    lists, silent_since = kept(store, clock), None
    for step in steps:
        if step == "write":
            store.write()
        elif step in ("told", "silent"):
            store.version += 1
            if step == "told":
                lists.changed(KEY, KIND)
                silent_since = None
            elif silent_since is None:
                silent_since = clock.seconds
        elif step == "forget":
            lists.forget(KEY)
        elif step == "other":
            lists.changed(Key("ns", "another"), KIND)
            lists.changed(KEY, kinds.SERVICE)
        else:
            clock.seconds += KEPT_SECONDS / 2
        found = await seen(lists, store)
        if silent_since is None or clock.seconds - silent_since >= KEPT_SECONDS:
            assert found == store.version
        if found == store.version:
            silent_since = None


async def test_a_change_that_comes_while_a_list_is_on_its_way_is_asked_for_anew():
    store = Store()
    lists = kept(store, Clock())

    async def slow(kind: kinds.Kind) -> list[Json]:
        found = await store.ask(kind)
        store.version += 1
        lists.changed(KEY, kind)
        return found

    assert (await lists.read(KEY, KIND, slow))[0]["version"] == 0
    assert await seen(lists, store) == 1


async def test_a_write_that_has_begun_and_not_ended_makes_each_look_a_new_one():
    store = Store()
    lists = kept(store, Clock())
    store.writes[KEY.namespace, KIND.plural] += 1
    assert await seen(lists, store) == 0
    store.version += 1
    store.writes[KEY.namespace, KIND.plural] += 1
    assert await seen(lists, store) == 1


async def test_a_list_that_fails_is_not_kept_and_neither_is_the_one_before():
    store = Store()
    lists = kept(store, Clock())
    await seen(lists, store)
    lists.changed(KEY, KIND)

    async def fail(_: kinds.Kind) -> list[Json]:
        raise ApiError(500, "", "no")

    with pytest.raises(ApiError):
        await lists.read(KEY, KIND, fail)
    await seen(lists, store)
    assert store.asked == 2


async def test_a_resource_that_is_forgotten_leaves_nothing():
    store = Store()
    lists = kept(store, Clock())
    await seen(lists, store)
    lists.changed(KEY, KIND)
    lists.changed(KEY, kinds.POD)
    lists.forget(KEY)
    lists.changed(KEY, KIND)
    assert not vars(lists)["_kept"]
    assert not vars(lists)["_changes"]


async def test_an_event_tells_of_its_kind_before_the_resources_that_it_concerns_are_due():
    told: list[tuple[Key, kinds.Kind, int]] = []
    queue = KeyQueue()
    queue.add(KEY, 1000.0)
    handlers = registry(queue, lambda key, kind: told.append((key, kind, len(queue))))
    for handler in handlers._watching.get_all_handlers():
        told_of = {"namespace": "ns", "name": "x", "labels": {INSTANCE_LABEL: "m"}, "meta": {"resourceVersion": "7"}}
        await handler.fn(event={"type": "ADDED"}, **told_of)
    of_children = {(KEY, kind) for kind in (*kinds.CHILD_KINDS, kinds.POD)}
    others = {(Key("ns", "x"), kinds.INFERENCE), (KEY, kinds.PROFILE)}
    assert {(key, kind) for key, kind, _ in told} >= of_children | others
    assert await queue.take() in (KEY, Key("ns", "x"))


async def test_the_event_of_a_write_of_our_own_makes_nobody_due():
    store, queue = Store(), KeyQueue()
    lists = kept(store, Clock())
    [handler] = [
        one
        for one in registry(queue, lists.changed, lists.is_own)._watching.get_all_handlers()
        if one.selector.any_name == kinds.INFERENCE.plural
    ]
    before = lists.told(KEY)
    lists.wrote(KEY, {"metadata": {"resourceVersion": "7"}})
    for version, kind, changes in (("7", "MODIFIED", 0), ("8", "MODIFIED", 1), ("7", "DELETED", 2)):
        await handler.fn(namespace="ns", name="m", meta={"resourceVersion": version}, event={"type": kind})
        assert (len(queue), lists.told(KEY) - before) == (min(changes, 1), changes)


async def test_at_rest_a_pass_lists_pods_alone_and_reads_what_it_was_handed():
    cluster, clock = Counting(), Clock()
    passes = reconciler(cluster, clock)
    passes.lists = kept(cluster, clock)
    for _ in range(4):  # made, and then seen as made
        await passes.reconcile(KEY)
    handed = copy.deepcopy({kind: one.items for kind, one in vars(passes.lists)["_kept"][KEY].items()})
    cluster.sent.clear()
    await passes.reconcile(KEY)
    assert {kind for verb, kind, _ in cluster.sent if verb == "list"} == {kinds.POD.kind}
    after = {kind: one.items for kind, one in vars(passes.lists)["_kept"][KEY].items()}
    assert after == handed, "who is handed a kept list leaves it as it is"
    clock.seconds += KEPT_SECONDS
    cluster.sent.clear()
    await passes.reconcile(KEY)
    assert len({kind for verb, kind, _ in cluster.sent if verb == "list"}) == len(kinds.APPLIED_KINDS) + 1
