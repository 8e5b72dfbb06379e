"""Workers and gateways of several KV-transfer domains, so that no request crosses from one to another. Pure.

A gateway pairs any prefill worker with any decode worker that it lists. So each domain has gateways of its own behind
the one Service, and moves as a resource of its own would: see `paired_move`. What couples the domains is here: they
share the budget; one after the other is rolled out; and their gateways' numbers are as what the domains can carry,
since a Service spreads connections evenly over the pods behind it.

A domain that is to have no workers any more is left in this order: its gateways go, which the Service notices at once,
then its workers drain. Workers of a domain that is not wanted at all (the list changed) leave at the pace of a rollout,
as those of the wanted ones come to serve.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from dopd.api.names import Role
from dopd.api.pairs import Pair
from dopd.rollout.gateways import MOST_GATEWAYS, Gateway
from dopd.rollout.move import Side, move
from dopd.rollout.paired import PairedStep, paired_move
from dopd.rollout.pool import PoolStep

Counts = Mapping[Role, int]


def domain_move(
    sides: Mapping[Role, Side],
    division: Mapping[str, Counts],
    room: Mapping[str, int],
    gateways: Sequence[Gateway],
    replicas: int,
    budget_gpus: int | None,
    *,
    now_seconds: float,
    drain_deadline_seconds: float,
    outage: bool = False,
) -> PairedStep:
    """The next step of all domains.

    Args:
        sides: the two roles, of all domains together.
        division: workers of each role that each domain should have.
        room: GPUs that may be taken in each domain.
        gateways: those that there are.
        replicas: gateway pods where there is one domain and one pair alone.
        budget_gpus: GPUs of all domains together; None for no limit.
        now_seconds: seconds since the epoch.
        drain_deadline_seconds: a draining worker is released after this long even when it is busy.
        outage: the only worker of a role may leave before its successor serves, where there is no GPU beside it.
    """
    goal = [sides[role].goal.revision for role in Role]
    there = _domains(sides, gateways)
    if not all(goal):
        return PairedStep(dict.fromkeys(Role, PoolStep()), None)
    of = {name: _of_domain(sides, name, division.get(name), outage=outage) for name in (*division, *sorted(there))}
    doors = {name: [gateway for gateway in gateways if gateway.pair.domain == name] for name in of}
    answering = {name for name in of if any(d.ready and d.replicas for d in doors[name])}
    for name, keep in _kept(sides, of, division, answering).items():
        of[name] = _leaving(of[name], keep)
    limit = _limit(sides, division, of, budget_gpus)
    used = [name for name, one in of.items() if any(side.goal.target for side in one.values())]
    pods = _gateway_pods({name: of[name] for name in used}, sides, replicas)
    away = {
        name
        for name in used
        if outage and any(d.replicas and d.pair != Pair(goal[0], goal[1], name) for d in doors[name])
    }
    rolling = next((name for name in used if name in division and (name in away or _rolling(of[name]))), None)
    free = None if limit is None else limit - sum(side.gpus_held for side in sides.values())
    made: dict[str, PairedStep] = {}
    started = dict.fromkeys(Role, 0)
    for name in sorted(of, key=lambda n: _shortness(of[n])):
        one, held = of[name], sum(side.gpus_held for side in of[name].values())
        if name not in used:
            made[name] = _emptied(
                one,
                doors[name],
                replicas,
                now_seconds,
                drain_deadline_seconds,
                elsewhere=bool(answering - {name}),
                nothing=not used,
            )
            continue
        if rolling not in (None, name) and _rolling(one):
            one = {role: replace(side, goal=replace(side.goal, held=True)) for role, side in one.items()}
        most = room.get(name, 0) if name in division else held
        one = {role: _within(side, sides[role], started[role]) for role, side in one.items()}
        made[name] = paired_move(
            one,
            doors[name],
            pods[name],
            most if free is None else min(max(free, 0) + held, most),
            now_seconds=now_seconds,
            drain_deadline_seconds=drain_deadline_seconds,
            domain=name,
        )
        taken = {role: step.create * one[role].gpus for role, step in made[name].steps.items()}
        started = {role: gpus + taken[role] for role, gpus in started.items()}
        if free is not None:
            free -= sum(taken.values())
    if not used and not any(step.gateways for step in made.values()):
        made[""] = PairedStep(dict.fromkeys(Role, PoolStep()), {Pair(goal[0], goal[1], next(iter(division))): replicas})
    nobody = not answering - {name for name, step in made.items() if step.outage}
    return replace(whole := _together(made), outage=whole.outage and nobody)


def _domains(sides: Mapping[Role, Side], gateways: Iterable[Gateway]) -> set[str]:
    workers = {worker.domain for side in sides.values() for worker in (*side.workers, *side.leaving)}
    return workers | {gateway.pair.domain for gateway in gateways}


def _of_domain(sides: Mapping[Role, Side], name: str, counts: Counts | None, *, outage: bool) -> dict[Role, Side]:
    """The part of both roles that one domain has. A single worker needs a spare one to be replaced there."""
    found = {}
    for role, side in sides.items():
        target = counts[role] if counts else 0
        beside = target == 1 and (side.goal.may_start or not outage)  # else one beside it found no node a moment ago
        goal = replace(side.goal, target=target, surge=max(side.goal.surge, int(beside)))
        found[role] = replace(
            side,
            goal=goal,
            workers=[worker for worker in side.workers if worker.domain == name],
            leaving=[worker for worker in side.leaving if worker.domain == name],
        )
    return found


def _within(mine: Side, whole: Side, started: int) -> Side:
    """A role in one domain, within what it may hold in all of them; `started` are the GPUs of starts so far."""
    if mine.most_gpus is None:
        return mine
    return replace(mine, most_gpus=mine.most_gpus - (whole.gpus_held - mine.gpus_held) - started)


def _kept(
    sides: Mapping[Role, Side],
    of: Mapping[str, Mapping[Role, Side]],
    division: Mapping[str, Counts],
    answering: set[str],
) -> dict[str, Counts]:
    """Workers that stay in domains that are not wanted: as many as the others lack, but for what may be missing."""
    left = {}
    for role in Role:
        serving, goal = sum(_serves(of[name][role]) for name in division), sides[role].goal
        fewest = 0 if answering & division.keys() else goal.fewest
        wanted = sum(counts[role] for counts in division.values())
        left[role] = max(wanted - goal.max_unavailable - serving, fewest)
    kept: dict[str, Counts] = {}
    unwanted = [name for name in of if name not in division]
    for name in sorted(unwanted, key=lambda n: (-min(map(_serves, of[n].values())), n)):
        keep = {role: min(_labelled(of[name][role]), left[role]) for role in Role}
        if any(keep.values()):  # one without a partner would serve nobody
            keep = {role: max(count, 1) for role, count in keep.items()}
        left = {role: max(left[role] - keep[role], 0) for role in Role}
        kept[name] = keep
    return kept


def _leaving(mine: Mapping[Role, Side], keep: Counts) -> dict[Role, Side]:
    """A domain that is not wanted. What stays there stays as it is, whatever the spec has become."""
    return {
        role: replace(
            side, goal=replace(side.goal, target=keep[role], revision=_common_revision(side), may_start=False)
        )
        for role, side in mine.items()
    }


def _labelled(side: Side) -> int:
    return sum(worker.labelled for worker in side.workers)


def _common_revision(side: Side) -> str:
    found = Counter(worker.revision for worker in side.workers if worker.labelled)
    return found.most_common(1)[0][0] if found else side.goal.revision


def _serves(side: Side) -> int:
    return sum(worker.labelled and worker.ready and worker.registered is True for worker in side.workers)


def _limit(
    sides: Mapping[Role, Side],
    division: Mapping[str, Counts],
    of: Mapping[str, Mapping[Role, Side]],
    budget_gpus: int | None,
) -> int | None:
    """GPUs of all domains: while workers of an unwanted one leave, no more than a rollout would take."""
    if not any(side.workers for name, one in of.items() if name not in division for side in one.values()):
        return budget_gpus
    wanted = sum(counts[role] * sides[role].gpus for counts in division.values() for role in Role)
    spare = sum(sides[role].goal.surge * sides[role].gpus for role in Role)
    return wanted + spare if budget_gpus is None else min(budget_gpus, wanted + spare)


def _rolling(one: Mapping[Role, Side]) -> bool:
    return any(worker.revision != side.goal.revision for side in one.values() for worker in side.workers)


def _shortness(one: Mapping[Role, Side]) -> tuple[float, int]:
    """Whose starts come first: those of the domain that is furthest from its target."""
    shares = [
        sum(worker.available for worker in side.workers) / side.goal.target for side in one.values() if side.goal.target
    ]
    return min(shares, default=1.0), sum(side.goal.target for side in one.values())


def _gateway_pods(of: Mapping[str, Mapping[Role, Side]], sides: Mapping[Role, Side], replicas: int) -> dict[str, int]:
    """Gateway pods of each domain: as what it can carry, which is what its weaker role can."""
    most = {role: max(sum(_ready(one[role]) for one in of.values()), 1) for role in sides}
    carries = {name: min(_ready(one[role]) / most[role] for role in sides) for name, one in of.items()}
    whole = [share for share in carries.values() if share > 0]
    if len(whole) < 2:
        return dict.fromkeys(of, replicas)
    total = sum(whole)
    pods = max(replicas, min(math.ceil(total / min(whole)), MOST_GATEWAYS))
    return {name: max(1, round(pods * share / total)) for name, share in carries.items()}


def _ready(side: Side) -> int:
    return sum(worker.labelled and worker.ready for worker in side.workers)


def _emptied(
    one: Mapping[Role, Side],
    doors: Sequence[Gateway],
    replicas: int,
    now_seconds: float,
    drain_deadline_seconds: float,
    *,
    elsewhere: bool,
    nothing: bool,
) -> PairedStep:
    """A domain without a target: gateways first, once another one answers, then the workers.

    Where nothing is wanted anywhere, the workers leave and the gateways stay, as those of a resource without domains.
    """
    closed = nothing or not any(door.open for door in doors)
    goals = {
        role: replace(
            side.goal,
            target=0 if closed else _labelled(side),
            may_start=False,
            held=not closed,
        )
        for role, side in one.items()
    }
    steps = move(
        {role: replace(side, goal=goals[role]) for role, side in one.items()},
        None,
        now_seconds=now_seconds,
        drain_deadline_seconds=drain_deadline_seconds,
    )
    stay = {door.pair: max(door.replicas, replicas) for door in doors if door.replicas} if not elsewhere else {}
    return PairedStep(steps, stay)


def _together(made: Mapping[str, PairedStep]) -> PairedStep:
    """The steps of all domains as one, with where each start goes."""
    steps: dict[Role, PoolStep] = {}
    for role in Role:
        each = {name: step.steps[role] for name, step in made.items()}
        steps[role] = PoolStep(
            serve=tuple(n for step in each.values() for n in step.serve),
            drain=tuple(n for step in each.values() for n in step.drain),
            release=tuple(n for step in each.values() for n in step.release),
            create=sum(step.create for step in each.values()),
            domains=tuple(name for name, step in each.items() for _ in range(step.create)),
            give_back=tuple(n for step in each.values() for n in step.give_back),
            held=tuple(n for step in each.values() for n in step.held),
            lacks=sum(step.lacks for step in each.values()),
            leave=tuple(n for step in each.values() for n in step.leave),
            rolling=any(step.rolling for step in each.values()),
        )
    gateways: dict[Pair, int] = {}
    for step in made.values():
        gateways |= step.gateways or {}
    waiting = frozenset(role for step in made.values() for role in step.waiting)
    return PairedStep(steps, gateways, waiting, outage=any(step.outage for step in made.values()))
