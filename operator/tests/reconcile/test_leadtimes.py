"""Lead times as the pods tell them, and as they are seen to happen."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dopd.api.names import Role
from dopd.perf import EngineModel
from dopd.reconcile.leadtimes import LONGEST_NODE_WAIT_SECONDS, Lead, LeadTimes, Look, Part
from dopd.reconcile.status import lead_status, stored_leads
from dopd.rollout import Worker

from .test_conditions import ALL_WELL, look, pod

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
WALL = BEGAN.timestamp()
EXPECTED = 60.0


class Pod:
    """A pod of one role, in seconds after the beginning; None for what has not happened."""

    def __init__(
        self,
        uid: str,
        created: float = 0.0,
        scheduled: float | None = None,
        ready: float | None = None,
        registered: float | None = None,
        drained: float | None = None,
        deleted: float | None = None,
        gone: float | None = None,
        restarts: int = 0,
        gated: bool = False,
        notes_ahead: float = 0.0,
        partnered: float = 0.0,
        unlisted: float | None = None,
        idle: float | None = None,
        flips: float | None = None,
    ) -> None:
        self.partnered = partnered
        self.unlisted, self.idle, self.flips = unlisted, idle, flips
        self.uid, self.created, self.scheduled, self.ready = uid, created, scheduled, ready
        self.registered, self.drained, self.deleted, self.gone = registered, drained, deleted, gone
        self.restarts, self.gated, self.notes_ahead = restarts, gated, notes_ahead

    def noted(self, seconds: float) -> str:
        return (BEGAN + timedelta(seconds=seconds + self.notes_ahead)).isoformat()

    def as_json(self, now: float) -> dict[str, Any]:
        conditions = []
        for kind, at in (("PodScheduled", self.scheduled), ("Ready", self.ready)):
            if at is not None and at <= now:
                conditions.append({"type": kind, "status": "True", "lastTransitionTime": self.noted(at)})
        if self.gated and not conditions:
            conditions.append({"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"})
        return {
            "metadata": {"uid": self.uid, "name": self.uid, "creationTimestamp": self.noted(self.created)},
            "status": {"conditions": conditions, "containerStatuses": [{"restartCount": self.restarts}]},
        }

    def worker(self, now: float) -> Worker:
        def since(at: float | None) -> bool:
            return at is not None and at <= now

        return Worker(
            name=self.uid,
            labelled=not since(self.drained),
            ready=since(self.ready),
            scheduled=since(self.scheduled),
            created_seconds=WALL + self.created,
            registered=since(self.registered) and not since(self.unlisted),
            idle=since(self.idle),
            turning=since(self.flips),
        )


def leads_after(pods: Sequence[Pod], looks: Sequence[float], times: LeadTimes | None = None, wall: float = 0.0) -> Lead:
    """The lead time as of the last of some looks at one role."""
    times, lead = times or LeadTimes(), Lead()
    for now in looks:
        made = [pod for pod in pods if pod.created <= now]
        held = [pod for pod in made if pod.deleted is None or now < pod.deleted]
        leaving = [p for p in made if p.deleted is not None and p.deleted <= now and (p.gone is None or now < p.gone)]
        look = Look(
            pods=[pod.as_json(now) for pod in held],
            workers=[pod.worker(now) for pod in held],
            apart=frozenset(pod.uid for pod in held if now < pod.partnered),
            held=frozenset(pod.uid for pod in leaving),
            gpus_to_come=bool(leaving) or any(not pod.worker(now).labelled for pod in held),
            expected_seconds=EXPECTED,
        )
        empty = Look((), ())
        lead = times.look({Role.PREFILL: look, Role.DECODE: empty}, 1000.0 + now, WALL + wall + now)[Role.PREFILL]
    return lead


def started(uid: str, took: float, wait: float = 0.0) -> Pod:
    return Pod(uid, 0.0, wait, wait + took)


def test_a_worker_that_waits_for_a_partner_of_its_revision_tells_nothing_of_gateways():
    first = Pod("a", scheduled=1.0, ready=10.0, registered=205.0, partnered=200.0)
    for looks in (range(0, 190, 5), range(0, 300, 5)):
        assert leads_after([first], looks).parts()[Part.REGISTRATION] == 0.0


def test_few_starts_leave_the_profiles_figure():
    lead = leads_after([started("a", 10.0), started("b", 12.0), Pod("c", 0.0, 0.0)], [40.0])
    assert lead.start_seconds == EXPECTED


def test_the_slow_starts_count():
    lead = leads_after([started(str(i), 10.0 * i) for i in range(1, 11)], [2000.0])
    assert 90.0 <= lead.start_seconds <= 100.0


def test_a_pod_whose_container_restarted_tells_nothing_about_a_start():
    starts = [*(started(str(i), 10.0) for i in range(3)), Pod("x", 0.0, 0.0, 500.0, restarts=1)]
    assert leads_after(starts, [2000.0]).start_seconds == 10.0


def test_a_start_that_no_engine_takes_met_a_clock_that_was_set():
    starts = [*(started(str(i), 10.0) for i in range(3)), started("x", 3000.0), started("y", -50.0)]
    assert leads_after(starts, [5000.0]).start_seconds == 10.0


def test_waiting_for_a_node_is_a_part_of_the_lead():
    lead = leads_after([started(str(i), 60.0, wait=240.0) for i in range(3)], [400.0])
    assert (lead.node_seconds, lead.start_seconds) == (240.0, 60.0)
    assert lead.seconds == 300.0


def test_a_start_that_is_watched_is_measured_part_by_part():
    pods = [Pod(str(i), 10.0, 130.0, 190.0, 200.0) for i in range(3)]
    lead = leads_after(pods, range(0, 210, 2))
    assert lead.node_seconds == pytest.approx(120.0, abs=2)
    assert lead.start_seconds == pytest.approx(60.0, abs=2)
    assert lead.registration_seconds == pytest.approx(10.0, abs=2)
    assert lead.seconds == pytest.approx(190.0, abs=4)
    assert lead.exit_seconds is None


def test_a_pod_that_waits_longer_than_any_did_counts_as_it_waits():
    known = [started(str(i), 60.0, wait=5.0) for i in range(3)]
    lead = leads_after([*known, Pod("new", 100.0)], [90.0, 100.0, 300.0])
    assert lead.parts()[Part.NODE] == pytest.approx(200.0)
    assert lead.node_seconds == 5.0, "what stands in the status does not move with each look"
    slow = leads_after([*known, Pod("new", 100.0, 100.0)], [90.0, 100.0, 300.0])
    assert slow.parts()[Part.START] == pytest.approx(200.0)
    assert slow.seconds == pytest.approx(205.0)
    silent = leads_after([*known, Pod("new", 100.0, 101.0, 110.0)], [90.0, 105.0, 110.0, 200.0])
    assert silent.parts()[Part.REGISTRATION] == pytest.approx(90.0)


def test_what_never_comes_is_no_lead_time():
    known = [started(str(i), 60.0, wait=5.0) for i in range(3)]
    late = LONGEST_NODE_WAIT_SECONDS + 200.0
    assert leads_after([*known, Pod("new", 100.0)], [90.0, 100.0, late]).parts()[Part.NODE] == 5.0
    assert leads_after([*known, Pod("new", 100.0, 100.0)], [90.0, 100.0, late]).parts()[Part.START] == 60.0


@pytest.mark.parametrize("gated", [True, False])
def test_a_pod_that_waits_for_our_own_gpus_tells_nothing_of_nodes(gated: bool):
    drained, deleted = (None, None) if gated else (90.0, 395.0)
    leaving = Pod("old", 0.0, 0.0, 1.0, 1.0, drained=drained, deleted=deleted, gone=400.0)
    new = Pod("new", 100.0, 405.0, gated=gated)
    looks = [50.0, 99.0, 100.0, 200.0, 300.0, 401.0, 406.0, 420.0]
    assert leads_after([leaving, new], looks[:5]).parts()[Part.NODE] <= 10.0
    assert leads_after([leaving, new], looks).parts()[Part.NODE] <= 10.0


def test_a_pod_goes_on_waiting_once_our_gpus_have_come():
    leaving = Pod("old", 0.0, 0.0, 1.0, 1.0, drained=90.0, deleted=110.0, gone=120.0)
    lead = leads_after([leaving, Pod("new", 100.0)], [50.0, 99.0, 110.0, 119.0, 121.0, 321.0])
    assert lead.parts()[Part.NODE] == pytest.approx(202.0)


def test_an_exit_lasts_until_the_pod_is_gone():
    pods = [Pod(str(i), 0.0, 0.0, 1.0, 1.0, drained=100.0, deleted=104.0, gone=128.0) for i in range(3)]
    looks = [50.0, 99.0, *range(100, 140, 2)]
    assert leads_after(pods, looks).exit_seconds == pytest.approx(28.0, abs=2)
    assert leads_after(pods, looks[:-8]).exit_seconds is None, "it is still being deleted"


def draining(uid: str, **times: float) -> Pod:
    return Pod(uid, 0.0, 0.0, 1.0, 1.0, drained=100.0, **times)


@pytest.mark.parametrize(("unlisted", "idle"), [(106.0, 130.0), (130.0, 106.0)])
def test_a_drain_lasts_until_no_gateway_lists_an_idle_worker(unlisted: float, idle: float):
    pods = [draining(str(i), unlisted=unlisted, idle=idle, deleted=140.0, gone=150.0) for i in range(3)]
    looks = [50.0, 99.0, *range(100, 160, 2)]
    lead = leads_after(pods, looks)
    assert lead.drain_seconds == pytest.approx(30.0, abs=2)
    assert lead.exit_seconds == pytest.approx(50.0, abs=2)
    assert lead.seconds == pytest.approx(EXPECTED, abs=60), "it is no part of a start"
    assert leads_after(pods, looks[:14]).drain_seconds is None


def test_a_drain_that_was_under_way_before_a_restart_and_one_that_never_ends_tell_nothing():
    assert leads_after([draining("a", unlisted=106.0, idle=130.0)], range(120, 160, 2)).drain_seconds is None
    assert leads_after([draining("a", unlisted=106.0)], range(50, 400, 2)).drain_seconds is None


def test_a_worker_that_changes_its_role_tells_of_the_drain_of_the_one_that_it_leaves():
    flipping, times = draining("a", unlisted=106.0, idle=112.0, flips=104.0), LeadTimes()
    empty = Look((), ())
    leads: dict[Role, Lead] = {}
    for now in range(50, 140, 2):
        look = Look([flipping.as_json(now)], [flipping.worker(now)])
        role = Role.PREFILL if now >= 104.0 else Role.DECODE
        leads = times.look({role: look, role.other: empty}, 1000.0 + now, WALL + now)
    assert leads[Role.DECODE].drain_seconds == pytest.approx(12.0, abs=2)
    assert leads[Role.PREFILL].drain_seconds is None


def test_a_drain_that_is_called_off_and_a_pod_that_dies_are_no_exits():
    back = Pod("a", 0.0, 0.0, 1.0, 1.0, drained=100.0)
    times = LeadTimes()
    leads_after([back], [50.0, 100.0, 102.0], times)
    back.drained, back.deleted, back.gone = None, 200.0, 200.0
    assert leads_after([back], [150.0, 250.0], times).exit_seconds is None


@pytest.mark.parametrize("ahead", [-7200.0, 7200.0])
def test_a_start_that_is_watched_needs_no_clock_but_ours(ahead: float):
    pods = [Pod(str(i), 10.0, 130.0, 190.0, notes_ahead=ahead) for i in range(3)]
    lead = leads_after(pods, range(0, 210, 2))
    assert lead.node_seconds == pytest.approx(120.0, abs=3)
    assert lead.start_seconds == pytest.approx(60.0, abs=3)
    times = LeadTimes()
    leads_after(pods, range(0, 50, 2), times)
    assert leads_after(pods, range(50, 210, 2), times, wall=ahead).node_seconds == pytest.approx(120.0, abs=3)


def test_what_was_measured_before_a_restart_holds_until_enough_is_seen_again():
    before = {Role.PREFILL: Lead(240.0, 60.0, 5.0, 20.0)}
    base = [started(str(i), 50.0) for i in range(10)]
    lead = leads_after(base, [500.0], LeadTimes(before))
    assert (lead.node_seconds, lead.registration_seconds, lead.exit_seconds) == (240.0, 5.0, 20.0)
    assert lead.start_seconds == 50.0
    quick = [Pod(f"new-{i}", 510.0, 511.0, 560.0, 561.0) for i in range(15)]
    lead = leads_after([*base, *quick], [500.0, *range(510, 570)], LeadTimes(before))
    assert lead.node_seconds <= 2.0


def test_the_status_moves_with_a_tenth_of_the_lead_and_tells_it_after_a_restart():
    first = lead_status(Lead(100.0, 60.0, 2.0, waits={Part.NODE: 900.0}), None)
    assert first
    assert lead_status(Lead(110.0, 60.0, 2.0), first) is first
    moved = lead_status(Lead(100.0, 60.0, 2.0, 28.04, 17.04), first)
    assert moved
    assert (moved.exit_seconds, moved.drain_seconds) == (28.0, 17.0)
    counts = {"desired": 1, "ready": 1, "summary": "1/1"}
    resource = {"status": {"decode": {**counts, "leadTime": moved.model_dump(by_alias=True)}}}
    assert stored_leads(resource) == {Role.DECODE: Lead(100.0, 60.0, 2.0, 28.0, 17.0)}
    resource["status"]["decode"]["leadTime"] = {"nodeSeconds": 1e9, "startSeconds": -5.0, "registrationSeconds": 1.0}
    assert stored_leads(resource) == {Role.DECODE: Lead(LONGEST_NODE_WAIT_SECONDS, 0.0, 1.0)}


def test_a_pod_that_is_being_deleted_is_looked_for_until_it_is_gone():
    draining = pod("decode")
    del draining["metadata"]["labels"]["dopd.dev/role"]
    observed = look(pod("prefill"), draining, pod("router"))
    assert all(one.gpus_to_come for one in observed.lead_looks().values())
    assert not look(*ALL_WELL).lead_looks()[Role.DECODE].gpus_to_come
    assert [len(one.pods) for one in observed.lead_looks().values()] == [1, 1]


def test_a_worker_that_changes_its_role_is_no_start_and_keeps_its_life():
    times, empty = LeadTimes(), Look((), (), expected_seconds=EXPECTED)
    worker = Pod("a", scheduled=0.0, ready=50.0, registered=55.0)
    leads_of: dict[Role, Lead] = {}
    for now in range(0, 100, 5):
        mine = Look([worker.as_json(now)], [worker.worker(now)], expected_seconds=EXPECTED)
        looks = {Role.PREFILL: empty, Role.DECODE: mine} if now < 80 else {Role.PREFILL: mine, Role.DECODE: empty}
        leads_of = times.look(looks, 1000.0 + now, WALL + now)
        if now == 75:
            before = leads_of
    assert leads_of == before


def test_the_planner_is_told_of_measured_drains_alone(model: EngineModel):
    observed = replace(look(), model=model, leads={Role.PREFILL: Lead(), Role.DECODE: Lead(drain_seconds=21.0)})
    measured = observed.measured_model
    assert isinstance(measured, EngineModel)
    assert measured.drain_seconds == {"decode": 21.0}
    assert replace(measured, drain_seconds={}) == model
    assert replace(observed, model="no profile").measured_model == "no profile"
