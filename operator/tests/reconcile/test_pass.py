"""A pass that meets errors: it does the rest, tells them on the resource, and does not ask again at once."""

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from dopd.cluster import ApiError, kinds
from dopd.cluster.apikey import key_headers
from dopd.cluster.podhttp import PodHttpError
from dopd.reconcile.act import Actor
from dopd.reconcile.queue import Key
from dopd.reconcile.reconciler import LONGEST_UNREADY_SECONDS, MOVING_SECONDS, Pace, Reconciler
from dopd.reconcile.refusals import LONGEST_PAUSE_SECONDS
from dopd.workloads import Owner
from dopd.workloads.connection import control_key

from .test_conditions import ALL_WELL, SPEC, findings, look

Json = dict[str, Any]
KEY = Key("ns", "m")
TYPED_PATCH = "failed to create typed patch object (ns/m-router; apps/v1, Kind=Deployment): .spec.x: field not declared"


@dataclass
class Cluster:
    """An API server that keeps what is applied, and answers with errors where it is told to."""

    fails: Callable[[str, str, str], ApiError | Exception | None] = lambda verb, kind, name: None
    kept: dict[tuple[str, str], Json] = field(default_factory=dict)
    sent: list[tuple[str, str, str]] = field(default_factory=list)
    events: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        meta = {"name": "m", "namespace": "ns", "uid": "u", "generation": 1, "resourceVersion": "1"}
        self.kept["DisaggregatedInference", "m"] = {"metadata": meta, "spec": copy.deepcopy(SPEC)}

    @property
    def resource(self) -> Json:
        return self.kept["DisaggregatedInference", "m"]

    @property
    def conditions(self) -> dict[str, Json]:
        return {c["type"]: c for c in self.resource["status"]["conditions"]}

    def _call(self, verb: str, kind: kinds.Kind, name: str) -> None:
        self.sent.append((verb, kind.kind, name))
        error = self.fails(verb, kind.kind, name)
        if error:
            raise error

    async def get(self, kind: kinds.Kind, namespace: str, name: str) -> Json | None:
        self._call("get", kind, name)
        return copy.deepcopy(self.kept.get((kind.kind, name)))

    async def list(self, kind: kinds.Kind, namespace: str, selector: str, most: int | None = None) -> list[Json]:
        self._call("list", kind, "")
        return [{"kind": of, **copy.deepcopy(item)} for (of, _), item in self.kept.items() if of == kind.kind]

    async def apply(self, kind: kinds.Kind, manifest: Json, subresource: str = "") -> Json:
        name = manifest["metadata"]["name"]
        self._call("apply" + subresource, kind, name)
        old = self.kept.get((kind.kind, name), {})
        meta = {"uid": name, **old.get("metadata", {}), **manifest["metadata"]}
        self.kept[kind.kind, name] = copy.deepcopy({**old, **manifest, "metadata": meta})
        return copy.deepcopy(self.kept[kind.kind, name])

    async def replace_status(self, kind: kinds.Kind, namespace: str, name: str, status: Json) -> None:
        self._call("replace", kind, name)
        self.resource["status"] = status

    async def create(self, kind: kinds.Kind, manifest: Json, *, dry_run: bool = False) -> Json:
        if kind == kinds.EVENT:
            self.events.append((manifest["reason"], manifest["note"]))
            return manifest
        name = manifest["metadata"]["name"]
        self._call("ask" if dry_run else "create", kind, name)
        if not dry_run:
            meta = {"uid": name, "creationTimestamp": "2026-01-01T00:00:00Z", **manifest["metadata"]}
            self.kept[kind.kind, name] = copy.deepcopy({**manifest, "metadata": meta})
        return copy.deepcopy(self.kept.get((kind.kind, name), manifest))

    async def delete(self, kind: kinds.Kind, namespace: str, name: str, *_: Any, **__: Any) -> None:
        self._call("delete", kind, name)
        self.kept.pop((kind.kind, name), None)

    async def merge_patch(self, kind: kinds.Kind, namespace: str, name: str, patch: Json) -> None:
        self._call("patch", kind, name)


class Silent:
    """Pods that do not answer."""

    async def get_json(self, *_: Any) -> Any:
        raise PodHttpError("no answer")

    get_text = get_json


@dataclass
class Clock:
    seconds: float = 1_000_000.0

    def __call__(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)


def reconciler(cluster: Cluster, clock: Clock) -> Reconciler:
    made = Reconciler(cluster, Silent(), now=clock)  # type: ignore[arg-type]
    made._actor = Actor(cluster, lambda: clock.seconds)  # type: ignore[arg-type]
    return made


def refuses(name: str, status: int, message: str) -> Callable[[str, str, str], ApiError | None]:
    def fails(verb: str, kind: str, of: str) -> ApiError | None:
        return ApiError(status, "", message) if (verb, kind, of) == ("apply", "Deployment", name) else None

    return fails


NEEDED = {("Deployment", "m-router"), ("PodDisruptionBudget", "m-prefill"), ("PodDisruptionBudget", "m-decode")}


@pytest.mark.parametrize("status", [400, 403, 404, 409, 413, 415, 422, 500])
async def test_a_refusal_of_any_code_is_a_condition_and_the_other_children_are_made(status: int):
    cluster = Cluster(refuses("m-router", status, TYPED_PATCH))
    await reconciler(cluster, Clock()).reconcile(KEY)
    assert NEEDED - cluster.kept.keys() == {("Deployment", "m-router")}
    for kind in ("Ready", "Reconciled"):
        assert cluster.conditions[kind]["reason"] == "ChildRefused"
        assert TYPED_PATCH in cluster.conditions[kind]["message"]


@pytest.mark.parametrize(
    ("status", "message"), [(0, "ConnectionError"), (503, "busy"), (500, "etcdserver: leader changed")]
)
async def test_a_server_in_trouble_says_nothing_of_whether_requests_are_served(status: int, message: str):
    cluster = Cluster(refuses("m-router", status, message))
    await reconciler(cluster, Clock()).reconcile(KEY)
    assert cluster.conditions["Reconciled"]["reason"] == "ApiServerFailed"
    assert message in cluster.conditions["Reconciled"]["message"]
    assert cluster.conditions["Ready"]["reason"] == "NoPrefillWorker"


async def test_a_refusal_longer_than_a_condition_is_cut():
    cluster = Cluster(refuses("m-router", 422, "\ud800" + "ä" * 100_000))
    await reconciler(cluster, Clock()).reconcile(KEY)
    message = cluster.conditions["Ready"]["message"]
    assert len(message) == 32_768
    assert message.endswith("(cut)")
    message.encode()


async def test_a_refused_child_is_sent_again_after_growing_pauses_or_when_it_changes():
    cluster, clock = Cluster(refuses("m-router", 422, "no")), Clock()
    looping, times = reconciler(cluster, clock), []
    end_seconds = clock.seconds + 5 * LONGEST_PAUSE_SECONDS
    while clock.seconds < end_seconds:
        cluster.sent.clear()
        delay = await looping.reconcile(KEY)
        if ("apply", "Deployment", "m-router") in cluster.sent:
            times.append(clock.seconds)
        assert delay is not None
        clock.seconds += delay
    pauses = [b - a for a, b in itertools.pairwise(times)]
    assert pauses[:4] == pytest.approx([1, 2, 4, 8], abs=1)
    assert max(pauses) <= LONGEST_PAUSE_SECONDS + LONGEST_UNREADY_SECONDS
    cluster.resource["spec"]["router"]["args"] = ["--changed"]
    cluster.sent.clear()
    await looping.reconcile(KEY)
    assert ("apply", "Deployment", "m-router") in cluster.sent


async def test_a_plan_that_fails_keeps_no_child_from_being_made(monkeypatch: pytest.MonkeyPatch):
    cluster, clock = Cluster(), Clock()
    looping = reconciler(cluster, clock)
    await looping.reconcile(KEY)
    cluster.kept.pop(("Deployment", "m-router"))
    before = cluster.conditions

    async def fails(*_: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(looping, "_plan", fails)
    with pytest.raises(ZeroDivisionError):
        await looping.reconcile(KEY)
    assert cluster.kept.keys() >= NEEDED
    told = cluster.conditions["Reconciled"]
    assert (told["status"], told["reason"]) == ("False", "PassFailed")
    assert told["message"] == "the plan: ZeroDivisionError: a bug"
    assert cluster.conditions.keys() == before.keys(), "what is not known stays as it was"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ApiError(403, "Forbidden", "no right to list"), "ApiServerFailed"),
        (RecursionError("deep"), "PassFailed"),
        (TimeoutError(), "ApiServerFailed"),
    ],
)
async def test_a_pass_that_sees_nothing_tells_why_and_leaves_the_rest_of_the_status(error: Exception, reason: str):
    cluster, clock = Cluster(), Clock()
    looping = reconciler(cluster, clock)
    await looping.reconcile(KEY)
    before = cluster.resource["status"]
    cluster.fails = lambda verb, kind, name: error if verb == "list" else None
    for _ in range(2):
        cluster.sent.clear()
        with pytest.raises(type(error)):
            await looping.reconcile(KEY)
    assert not [verb for verb, _, _ in cluster.sent if verb not in ("get", "list")], "told once"
    assert cluster.conditions["Reconciled"]["reason"] == reason
    ready = next(c for c in before["conditions"] if c["type"] == "Ready")
    assert cluster.conditions["Ready"] == ready
    cluster.fails = lambda verb, kind, name: None
    await looping.reconcile(KEY)
    assert cluster.conditions["Reconciled"]["status"] == "True"


async def test_an_error_in_one_child_is_told_and_the_others_are_made():
    cluster = Cluster(lambda verb, kind, name: KeyError("odd") if (verb, kind) == ("apply", "ConfigMap") else None)
    await reconciler(cluster, Clock()).reconcile(KEY)
    assert cluster.kept.keys() >= NEEDED
    assert cluster.conditions["Reconciled"]["message"] == "ConfigMap m-prefill: KeyError: 'odd'"


async def test_a_status_that_can_not_be_merged_is_replaced():
    cluster = Cluster(lambda verb, kind, name: ApiError(500, "", "typed") if verb == "applystatus" else None)
    await reconciler(cluster, Clock()).reconcile(KEY)
    assert cluster.conditions["Reconciled"]["status"] == "True"


async def test_a_status_that_can_not_be_written_at_all_is_an_event_once():
    words = "request is too large"
    cluster = Cluster(lambda verb, kind, name: ApiError(500, "", words) if verb in ("applystatus", "replace") else None)
    looping = reconciler(cluster, Clock())
    for _ in range(3):
        with pytest.raises(ApiError):
            await looping.reconcile(KEY)
    assert cluster.events == [("StatusRefused", f"The status can not be written: {words}")]
    assert cluster.kept.keys() >= NEEDED


@pytest.mark.parametrize(
    "status", [None, "old", [1], {"conditions": "x"}, {"decisions": [{"time": "t"}], "learnt": {}}]
)
async def test_a_status_of_any_form_is_written_anew(status: Any):
    cluster = Cluster()
    cluster.resource["status"] = status
    await reconciler(cluster, Clock()).reconcile(KEY)
    assert cluster.conditions["Reconciled"]["status"] == "True"
    assert cluster.resource["status"]["decisions"] == []


def test_what_stays_as_it_is_is_looked_at_less_and_less():
    pace, starting = Pace(), findings(look(), (), None)
    assert pace.pause(starting, 0.0) == pace.pause(starting, 5.0) == MOVING_SECONDS
    assert pace.pause(starting, 60.0) == 6.0
    assert pace.pause(starting, 600.0) == LONGEST_UNREADY_SECONDS
    assert pace.pause(findings(look(*ALL_WELL), (), None), 601.0) == MOVING_SECONDS


def lists_of_groups(cluster: Cluster) -> int:
    return cluster.sent.count(("list", "LeaderWorkerSet", ""))


async def test_nobody_asks_for_leader_worker_sets_where_no_worker_is_of_several_nodes():
    cluster = Cluster()
    await reconciler(cluster, Clock()).reconcile(KEY)
    assert lists_of_groups(cluster) == 0
    assert cluster.conditions["SpecHonored"]["status"] == "True"


async def test_a_cluster_without_leader_worker_sets_is_told_by_name():
    missing = ApiError(404, "NotFound", "the server could not find the requested resource")
    cluster = Cluster(lambda verb, kind, name: missing if kind == "LeaderWorkerSet" else None)
    cluster.resource["spec"]["decode"] = {"gpus": 16, "nodes": 2, "replicas": 1}
    await reconciler(cluster, Clock()).reconcile(KEY)
    assert cluster.conditions["Ready"]["reason"] == "LeaderWorkerSetsMissing"
    assert cluster.conditions["SpecHonored"]["reason"] == "NotActedOn"
    for kind in ("Ready", "SpecHonored", "Reconciled"):
        assert "spec.decode.nodes (2): the cluster has no LeaderWorkerSets" in cluster.conditions[kind]["message"]
    assert NEEDED - cluster.kept.keys() == {("Deployment", "m-router")}, "its gateway waits for a pair of revisions"
    created = [(kind, name.split("-")[1]) for verb, kind, name in cluster.sent if verb == "create"]
    assert created == [("Pod", "prefill")]


async def test_a_group_is_asked_about_before_it_is_made_and_counts_until_it_is_gone():
    cluster = Cluster()
    cluster.resource["spec"]["decode"] = {"gpus": 16, "nodes": 2, "replicas": 1}
    looping = reconciler(cluster, Clock())
    await looping.reconcile(KEY)
    asked = [kind for verb, kind, name in cluster.sent if verb == "ask" and "decode" in name]
    assert asked == ["Pod", "Pod", "LeaderWorkerSet"]
    (made,) = (item for (kind, _), item in cluster.kept.items() if kind == "LeaderWorkerSet")
    await looping.reconcile(KEY)
    assert lists_of_groups(cluster) == 2
    assert cluster.resource["status"]["decode"]["starting"] == 1
    assert cluster.conditions["WorkersAvailable"]["reason"] == "PartialGroup"
    assert f"there are no pods {made['metadata']['name']}-0" in cluster.conditions["WorkersAvailable"]["message"]


class Noting(Silent):
    """Pods that do not answer, and the keys that they were asked with."""

    def __init__(self) -> None:
        self.keys: dict[str, str] = {}

    async def get_json(self, pod: Json, *_: Any) -> Any:
        self.keys[pod["metadata"]["name"]] = key_headers().get("Authorization", "")
        raise PodHttpError("no answer")


@pytest.mark.parametrize("closed", [True, False])
async def test_gateways_are_asked_with_the_key_of_their_control_plane(closed: bool):
    cluster, http = Cluster(), Noting()
    looping = Reconciler(cluster, http, now=Clock(), closed=closed)  # type: ignore[arg-type]
    await looping.reconcile(KEY)
    labels = cluster.kept["Deployment", "m-router"]["spec"]["template"]["metadata"]["labels"]
    old = {label: value for label, value in labels.items() if not label.endswith("-revision")}
    for name, of in (("m-router-x-1", labels), ("m-router-y-1", old)):
        made_by = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name[:-2], "controller": True, "uid": "r"}
        meta = {"name": name, "namespace": "ns", "uid": name, "labels": of, "ownerReferences": [made_by]}
        cluster.kept["Pod", name] = {"metadata": meta, "status": {"podIP": "10.0.0.1"}}
    await looping.reconcile(KEY)
    key = f"Bearer {control_key(Owner('m', 'ns', 'u'))}" if closed else ""
    assert http.keys == {"m-router-x-1": key, "m-router-y-1": ""}, "those of earlier versions ask for none"
