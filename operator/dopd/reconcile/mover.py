"""The mover of one operator: from a look at a resource to the next step of its workers, and its writes."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime

from dopd.api.base import seconds
from dopd.api.conditions import ConditionReason
from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.api.rollout import OnFailure
from dopd.cluster import ApiError, Kubernetes, PodPost
from dopd.planning.schedules import limits_at
from dopd.reconcile import pods as pod_reading
from dopd.reconcile.adopt import adopt
from dopd.reconcile.domains import divided
from dopd.reconcile.gateways import pair_gateways
from dopd.reconcile.grants import Grant
from dopd.reconcile.groups import group_of
from dopd.reconcile.moved import Moved, Told
from dopd.reconcile.observe import Observed
from dopd.reconcile.pods import Trouble
from dopd.reconcile.queue import Key
from dopd.reconcile.refusals import failed
from dopd.reconcile.timing import SteadyClock
from dopd.reconcile.turns import Turns
from dopd.reconcile.worker_pods import WorkerPods, rejected
from dopd.rollout import NO_FLIPS, Flips, Goal, PoolStep, Side, Worker, available, domain_move, paired_move
from dopd.workloads.revisions import Revision


class Mover:
    """Moves the workers of resources.

    Args:
        kubernetes: where to.
        http: the way to the engines.
        clock: of durations.
    """

    def __init__(self, kubernetes: Kubernetes, http: PodPost, clock: SteadyClock) -> None:
        self._kubernetes, self._clock = kubernetes, clock
        self.pods = WorkerPods(kubernetes, clock.now)
        self._turns = Turns(kubernetes, http, clock.now)
        self._gave_back: dict[tuple[Key, Role], float] = {}

    def forget(self, key: Key) -> None:
        """Drop what is remembered of a resource that is gone."""
        self.pods.forget(key)
        self._turns.forget(*key)
        for role in Role:
            self._gave_back.pop((key, role), None)

    def busy(self, key: Key) -> bool:
        """Whether anything is under way, or waits for its time, that no look at the cluster tells."""
        return self._turns.busy(*key) or self.pods.seconds_until_retry(key) is not None

    async def move(
        self,
        key: Key,
        observed: Observed,
        spec: DisaggregatedInferenceSpec,
        targets: Mapping[Role, int],
        now: datetime,
        flips: Flips = NO_FLIPS,
        grant: Grant | None = None,
    ) -> Moved:
        """One step of both roles.

        Args:
            key: of the resource.
            observed: the look at the cluster.
            spec: of the resource.
            targets: workers that should serve.
            now: the time.
            flips: workers that may change to a role instead of leaving the other.
            grant: what its GpuPool gives it; None without a pool.
        """
        revisions, troubles = await self.pods.choose(observed, spec)
        adopting: set[Role] = set()
        try:
            adopting = await adopt(self._kubernetes, observed)
        except ApiError as error:
            troubles.append(failed("adoption of workers", error))
            adopting = set(Role)
        budget = limits_at(spec.scaling, now.timestamp()).gpu_budget if spec.scaling else None
        most = budget.max if budget else None
        if grant is not None:
            most = grant.budget(most)
        sides = {
            role: self._side(key, observed, spec, role, targets[role], revisions, now, room_is_known=most is not None)
            for role in Role
        }
        if grant is not None:
            sides = {role: replace(side, most_gpus=grant.most_gpus(role)) for role, side in sides.items()}
        behavior = spec.scaling.behavior if spec.scaling else None
        deadline = behavior.drain_deadline if behavior else spec.engine.termination_grace_period
        doors = pair_gateways(observed, now.timestamp())
        steady, patience = self._clock.now(), seconds(deadline)
        division = divided(observed, spec, targets)
        if division and spec.topology:
            room = {domain.name: domain.gpus for domain in spec.topology.domains}
            step = domain_move(
                sides,
                division.counts,
                room,
                doors,
                spec.router.replicas,
                most,
                now_seconds=steady,
                drain_deadline_seconds=patience,
                outage=spec.rollout.allow_outage,
            )
        else:
            step = paired_move(
                sides,
                doors,
                spec.router.replicas,
                most,
                now_seconds=steady,
                drain_deadline_seconds=patience,
                flips=flips,
            )
        steps = {role: of_role for role, of_role in step.steps.items() if role not in adopting}
        for role, of_role in steps.items():
            if of_role.give_back:
                self._gave_back[key, role] = self._clock.now()
        given_back = [told for role, of_role in steps.items() for told in _given_back(observed, spec, role, of_role)]
        turned = await self._turns.step(observed, sides, steps, now, seconds(deadline))
        steps = turned.steps
        troubles += [Trouble(ConditionReason.API_FAILED, words) for words in turned.failed]
        troubles += await self.pods.carry_out(observed, spec, steps, revisions, now)
        return Moved(
            revisions=revisions,
            steps=steps,
            troubles=tuple(troubles),
            rejected=_rejected(observed, spec, steps, revisions),
            adopting=frozenset(adopting),
            waiting=step.waiting,
            outage=step.outage,
            told=(*given_back, *turned.told),
            gateways=step.gateways,
            division=division,
        )

    def _side(
        self,
        key: Key,
        observed: Observed,
        spec: DisaggregatedInferenceSpec,
        role: Role,
        target: int,
        revisions: Mapping[Role, Revision],
        now: datetime,
        *,
        room_is_known: bool,
    ) -> Side:
        role_spec = spec.prefill if role is Role.PREFILL else spec.decode
        rollout = spec.rollout.prefill if role is Role.PREFILL else spec.rollout.decode
        outage, pending_seconds = spec.rollout.allow_outage, seconds(spec.rollout.pending_deadline)
        given_back = self._gave_back.get((key, role))
        may_start = given_back is None or self._clock.now() - given_back >= pending_seconds
        # Where an outage is accepted, a single worker's successor starts beside it only as long as a GPU may be free.
        single = target == 1 and (not outage or (room_is_known and may_start))
        revision = revisions.get(role)
        deadline = seconds(spec.rollout.start_deadline)
        goal = Goal(
            target=target,
            revision=revision.name if revision else next((w.revision for w in observed.workers[role]), ""),
            max_unavailable=rollout.max_unavailable,
            surge=max(rollout.max_surge_gpus // role_spec.gpus, int(single)),
            fewest=0 if outage else 1,
            pending_deadline_seconds=pending_seconds,
            may_start=may_start or (outage and not available(observed.workers[role])),  # nobody serves meanwhile
            held=revision is None,
        )
        seen = [
            replace(
                self._steadied(worker),
                revision=_as_of(role, worker.revision, revisions),
                failed=not pod_reading.comes_up(pod, now.timestamp(), deadline),
                broken=pod_reading.broken(pod, now.timestamp()),
            )
            for pod, worker in zip(observed.pods[role], observed.workers[role], strict=True)
        ]
        ending = [
            replace(
                ended := pod_reading.worker(pod, observed.gateway, None),
                revision=_as_of(role, ended.revision, revisions),
            )
            for pod in observed.ending[role]
            if not pod_reading.overdue(pod, now.timestamp())
        ]
        return Side(seen, goal, ending, role_spec.gpus)

    def _steadied(self, worker: Worker) -> Worker:
        """A worker whose times are on the clock that deadlines are measured on."""
        since = worker.draining_since_seconds
        return replace(
            worker,
            created_seconds=self._clock.steady(worker.created_seconds),
            draining_since_seconds=None if since is None else self._clock.steady(since),
        )


def _given_back(observed: Observed, spec: DisaggregatedInferenceSpec, role: Role, step: PoolStep) -> Iterator[Told]:
    """Workers of several nodes that are given back, with the pods that have no node."""
    for pod in observed.pods[role]:
        group = group_of(pod)
        if group and pod["metadata"]["name"] in step.give_back:
            names, deadline = ", ".join(group.homeless), spec.rollout.pending_deadline
            why = f"{len(group.homeless)} of its {group.nodes} pods have no node after {deadline}: {names}"
            note = f"worker {group.name} is given back, and tried anew after the same time: {why}"
            yield Told("GroupGivenBack", note, warning=True)


def _as_of(role: Role, revision: str, revisions: Mapping[Role, Revision]) -> str:
    """The revision of a worker in terms of its role: one from the other role is new where it is new there."""
    mine, there = (revisions.get(each) for each in (role, role.other))
    return mine.name if mine and there and there.name == revision else revision


def _rejected(
    observed: Observed,
    spec: DisaggregatedInferenceSpec,
    steps: Mapping[Role, PoolStep],
    revisions: Mapping[Role, Revision],
) -> dict[Role, str]:
    """Revisions of the spec that are rolled back: those of before, and both of a spec of which one does not come up."""
    before = {role: name for role in Role if (name := rejected(observed, role)) and _current(observed, role) == name}
    if spec.rollout.on_failure is OnFailure.HOLD or before:
        return before
    numbers = {revisions[role].number for role, step in steps.items() if step.held and role in revisions}
    return {
        role: revision.name
        for role, revision in revisions.items()
        if revision.number in numbers and len(observed.revisions(role)) > 1
    }


def _current(observed: Observed, role: Role) -> str:
    """The newest revision of a role: what the spec says, as far as it was accepted."""
    return next((revision.name for revision in observed.revisions(role)), "")
