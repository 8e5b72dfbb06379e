"""How the workers of a plan are divided over KV-transfer domains, with the ratio of the whole in each. Pure.

Requests stay within a domain, so a domain carries what its weaker role carries. The role with fewer workers is divided
first, as units: a unit is one worker of it, and the workers of the other role that fall to it. Each domain then gets
floor or ceil of its share of the other role, so its ratio is that of the whole within one worker.

Workers stay where they are as far as that allows: a worker that was lost comes back where its role is lacking, what
grows goes to domains that are used already before another is begun, and what shrinks empties the smallest.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from dopd.api.names import Role

Counts = Mapping[Role, int]


@dataclass(frozen=True)
class Division:
    """Workers by domain.

    Attributes:
        counts: workers of each role, by domain; a domain has some of both or none of either.
        unplaced: workers for which no domain has room.
    """

    counts: Mapping[str, Counts]
    unplaced: Counts = field(default_factory=lambda: dict.fromkeys(Role, 0))


def divide(targets: Counts, gpus: Counts, room: Mapping[str, int], current: Mapping[str, Counts]) -> Division:
    """Divide workers over domains.

    Args:
        targets: workers of each role.
        gpus: of one worker of each role.
        room: GPUs that may be taken in each domain, in the order in which domains are begun.
        current: workers that are there now, by domain; one that is not named has none.
    """
    rare = min(Role, key=lambda role: (targets[role] or math.inf, role))  # a role without workers divides nothing
    other = rare.other
    total, beside = targets[rare], targets[other]
    most = {domain: _most_units(gpus, rare, total, beside, limit) for domain, limit in room.items()}
    there = {domain: {role: current.get(domain, {}).get(role, 0) for role in Role} for domain in room}
    now = {domain: counts[rare] for domain, counts in there.items()}
    by_others = {domain: counts[other] * total // max(beside, 1) for domain, counts in there.items()}
    units = _units(total, most, now, by_others)
    placed = sum(units.values())
    beside_placed = beside if placed == total else beside * placed // max(total, 1)
    others = _beside(units, beside_placed, {domain: counts[other] for domain, counts in there.items()})
    return Division(
        {domain: {rare: units[domain], other: others[domain]} for domain in room},
        {rare: total - placed, other: beside - sum(others.values())},
    )


def _most_units(gpus: Counts, rare: Role, total: int, beside: int, limit: int) -> int:
    """Units that fit into so many GPUs, the greater share of the other role included."""
    units = min(total, limit // gpus[rare])
    while units and units * gpus[rare] + math.ceil(units * beside / total) * gpus[rare.other] > limit:
        units -= 1
    return units


def _units(total: int, most: Mapping[str, int], now: Mapping[str, int], by_others: Mapping[str, int]) -> dict[str, int]:
    """Units of each domain: as now, more where the role is lacking or where there are most, fewer where are least.

    Args:
        total: units of all domains.
        most: units that fit into each.
        now: units that are there, by the rarer role.
        by_others: units that the workers of the other role would make.
    """
    order = list(most)
    units = {domain: min(now[domain], most[domain]) for domain in order}
    surplus = sum(units.values()) - total
    for domain in sorted(order, key=lambda d: (min(units[d], by_others[d]), -order.index(d))):
        taken = min(units[domain], max(surplus, 0))
        units[domain] -= taken
        surplus -= taken

    def give(domain: str, up_to: int) -> None:
        nonlocal surplus
        given = max(min(up_to - units[domain], -surplus), 0)
        units[domain] += given
        surplus += given

    for domain in order:
        give(domain, min(by_others[domain], most[domain]))
    for domain in sorted(order, key=lambda d: (-units[d], order.index(d))):
        give(domain, most[domain])
    return units


def _beside(units: Mapping[str, int], total: int, now: Mapping[str, int]) -> dict[str, int]:
    """Workers of the other role: floor or ceil of each domain's share, whichever is nearer to what is there."""
    whole = sum(units.values())
    least = {domain: count * total // whole if whole else 0 for domain, count in units.items()}
    most = {domain: -(-count * total // whole) if whole else 0 for domain, count in units.items()}
    counts = {domain: min(max(now[domain], least[domain]), most[domain]) for domain in units}
    lack = (total if whole else 0) - sum(counts.values())
    for domain in units:
        change = min(lack, most[domain] - counts[domain]) if lack > 0 else max(lack, least[domain] - counts[domain])
        counts[domain] += change
        lack -= change
    return counts
