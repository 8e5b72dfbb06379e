"""Which gateways there should be, so that a prefill and a decode worker of two revisions never share a request. Pure.

A gateway pairs whatever it lists (SMG 1.13.0 compares what engine and KV cache are, not what dopd made them from), so
each pair of revisions has a gateway of its own, behind the one Service. A gateway is ready only while it lists a worker
of either role, so a new pair takes requests by itself once it is whole. An old pair lets go in this order: its gateway
leaves, which the Service notices at once, and then its last two workers may.

During a rollout the gateways' numbers are as the pairs' shares of the workers, since a Service spreads connections
evenly over the pods behind it.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dopd.api.names import Role
from dopd.api.pairs import ANY, Pair
from dopd.rollout.move import Side
from dopd.rollout.worker import Worker

MOST_GATEWAYS = 16
"""Gateway pods of a resource during a rollout, unless it has more anyway."""


@dataclass(frozen=True)
class Gateway:
    """The gateway of one pair, as observed.

    Attributes:
        pair: whose workers it lists.
        replicas: pods that it should have; 0 once it was deleted.
        ready: pods that the Service sends to.
        open: pods that may still take a request: all but those that have been leaving for some seconds.
    """

    pair: Pair
    replicas: int
    ready: int
    open: int


@dataclass(frozen=True)
class GatewayPlan:
    """What should be.

    Attributes:
        replicas: pods by pair; a gateway of another pair is to leave.
        answering: pairs that serve: whole, behind a ready gateway that is to stay.
        present: pairs whose gateway may still take a request.
        hopeful: pairs with a gateway, and with workers of either role that serve or start.
    """

    replicas: Mapping[Pair, int]
    answering: frozenset[Pair] = frozenset()
    present: frozenset[Pair] = frozenset()
    hopeful: frozenset[Pair] = frozenset()

    def seen(self, role: Role, workers: Sequence[Worker], goal: Pair) -> list[Worker]:
        """The workers of a role, and what the gateways make of each; see Worker."""
        last = {pair: _first(workers, role, pair) for pair in self.present}
        needed = {name for name in last.values() if name}

        def stranded(worker: Worker) -> bool:
            return not any(pair.has(role, worker.revision, worker.domain) for pair in (goal, *self.hopeful))

        return [
            _with(
                worker,
                answers=any(pair.has(role, worker.revision, worker.domain) for pair in self.answering),
                needed=worker.name in needed,
                stranded=stranded(worker),
            )
            for worker in workers
        ]


def plan_gateways(
    sides: Mapping[Role, Side],
    goal: Pair,
    gateways: Sequence[Gateway],
    replicas: int,
    *,
    held: bool = False,
    gives_way: bool = False,
) -> GatewayPlan:
    """The gateways that there should be now.

    Args:
        sides: the two roles.
        goal: the pair that the spec asks for.
        gateways: those that there are.
        replicas: gateway pods where there is one pair alone.
        held: no gateway leaves whose pair is whole: the workers of the goal do not come up.
        gives_way: one old pair leaves though too few serve without it, if another answers: nothing else can go on.
    """
    there = {gateway.pair: gateway for gateway in gateways}
    counts = {pair: _counts(sides, pair) for pair in (goal, *there)}
    whole = {pair for pair, of_role in counts.items() if all(of_role.values())}
    ready = {pair for pair, gateway in there.items() if gateway.ready and gateway.replicas} & whole
    present = frozenset(pair for pair, gateway in there.items() if gateway.open)
    staying = {pair for pair, gateway in there.items() if gateway.replicas}
    for pair in sorted(staying - {goal}):
        if _may_leave(pair, counts, ready, whole, sides, held=held, gives_way=gives_way):
            staying.discard(pair)
            ready.discard(pair)
            gives_way = False
    if goal in staying or goal in whole or not staying & whole:
        staying.add(goal)
    if not staying - {ANY} & whole and (lost := _without_gateway(sides, goal, earlier=ANY in there)):
        staying.add(lost)
        whole.add(lost)
        counts[lost] = _counts(sides, lost)
    hopeful = frozenset(pair for pair in present | staying if all(_labelled(sides, pair).values()))
    return GatewayPlan(_spread(staying, whole, counts, there, replicas), frozenset(ready), present, hopeful)


def _without_gateway(sides: Mapping[Role, Side], goal: Pair, *, earlier: bool) -> Pair | None:
    """The pair of old workers that has no gateway of its own, where they can be told apart.

    Somebody deleted theirs while a rollout ran; or that of an earlier version lists them, so none was replaced yet, and
    a role without old ones is one that did not change.
    """
    pair = []
    for role in (Role.PREFILL, Role.DECODE):
        ready = Counter(worker.revision for worker in sides[role].workers if worker.labelled and worker.ready)
        of_goal = ready.pop(goal.of(role), 0)
        if "" in ready or not (ready or (earlier and of_goal)):
            return None
        pair.append(ready.most_common(1)[0][0] if ready else goal.of(role))
    prefill, decode = pair
    return Pair(prefill, decode, goal.domain)


def _labelled(sides: Mapping[Role, Side], pair: Pair) -> dict[Role, int]:
    """Workers of a pair that serve or start."""
    return {
        role: sum(w.labelled and pair.has(role, w.revision, w.domain) for w in sides[role].workers) for role in Role
    }


def _may_leave(
    pair: Pair,
    counts: Mapping[Pair, Mapping[Role, int]],
    ready: set[Pair],
    whole: set[Pair],
    sides: Mapping[Role, Side],
    *,
    held: bool,
    gives_way: bool,
) -> bool:
    """Whether the others carry the load without this pair. One that is broken leaves once any other answers."""
    others = ready - {pair}
    if pair not in whole or not others:
        return bool(others)
    serving = {role: _serving(sides[role].workers, role, others) for role in Role}
    enough = all(serving[role] >= sides[role].goal.floor for role in Role)
    return not held and (enough or (gives_way and all(serving.values())))


def _serving(workers: Sequence[Worker], role: Role, pairs: set[Pair]) -> int:
    return sum(
        w.labelled and w.ready and w.registered is True and any(pair.has(role, w.revision, w.domain) for pair in pairs)
        for w in workers
    )


def _counts(sides: Mapping[Role, Side], pair: Pair) -> dict[Role, int]:
    """Workers of a pair that could serve now."""
    return {
        role: sum(w.labelled and w.ready and pair.has(role, w.revision, w.domain) for w in sides[role].workers)
        for role in Role
    }


def _spread(
    staying: set[Pair],
    whole: set[Pair],
    counts: Mapping[Pair, Mapping[Role, int]],
    there: Mapping[Pair, Gateway],
    replicas: int,
) -> dict[Pair, int]:
    """Pods of each gateway: as the pairs' shares of the workers, and none fewer while others are not ready yet."""
    serving = sorted(staying & whole) or sorted(staying)
    share = {pair: _share(counts[pair], [counts[other] for other in serving]) for pair in serving}
    smallest, total = min(share.values()), sum(share.values())
    pods = max(replicas, min(math.ceil(total / smallest), MOST_GATEWAYS)) if len(serving) > 1 else replicas
    wanted = {pair: max(1, round(pods * share.get(pair, 0.0) / total)) for pair in staying}
    late = any(there[pair].ready < count if pair in there else True for pair, count in wanted.items())
    if late and len(staying) > 1:
        wanted = {p: max(count, there[p].replicas) if p in there else count for p, count in wanted.items()}
    return wanted


def _share(mine: Mapping[Role, int], all_of_them: Sequence[Mapping[Role, int]]) -> float:
    """The part of the load that a pair can carry: that of the role in which it is weaker."""
    return min(max(mine[role], 1) / max(sum(one[role] for one in all_of_them), 1) for role in Role)


def _first(workers: Sequence[Worker], role: Role, pair: Pair) -> str:
    """The worker of a pair that is kept longest; "" without one."""
    mine = [w for w in workers if w.labelled and w.ready and pair.has(role, w.revision, w.domain)]
    return min(mine, key=lambda worker: worker.preference).name if mine else ""


def _with(worker: Worker, *, answers: bool, needed: bool, stranded: bool) -> Worker:
    return replace(worker, answers=answers, needed=needed, stranded=stranded)
