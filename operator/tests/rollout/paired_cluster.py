"""The model of a cluster with a gateway for each pair of revisions, behind one Service."""

from dataclasses import dataclass, field

from dopd.api.names import Role
from dopd.api.pairs import Pair
from dopd.rollout import Gateway, paired_move

from .cluster import DEADLINE, GATEWAY_TICKS, Cluster, Pod, Want

BOOT_TICKS, LEAVE_TICKS = 2, 2
"""From a gateway's start to its first list; from its deletion to the last request that the Service sends to it."""

ROLES = {"P": Role.PREFILL, "D": Role.DECODE}


@dataclass
class PairWant(Want):
    """`revision` is that of prefill, `decode_revision` that of decode; "" for the same."""

    decode_revision: str = ""
    gateways: int = 2

    def of(self, pool: str) -> str:
        return (self.decode_revision or self.revision) if pool == "D" else self.revision


@dataclass
class Door:
    """A pod of a gateway."""

    born: int
    deleted_at: int | None = None
    served: bool = False
    """The Service sent to it when it was last looked at, before its deletion."""


@dataclass
class PairedCluster(Cluster):
    doors: dict[Pair, list[Door]] = field(default_factory=dict)
    replicas: dict[Pair, int] = field(default_factory=dict)
    outage: bool = False
    """What the last pass said: that nobody serves, as is accepted."""

    def serve(self, prefill: int, decode: int, requests: int = 0) -> None:
        super().serve(prefill, decode, requests)
        self.replicas[Pair("a", "a")] = 2
        self.doors[Pair("a", "a")] = [Door(-10), Door(-10)]

    def listed(self, pod: Pod) -> bool:
        pool = next(pool for pool, pods in self.pools.items() if pod in pods)
        return super().listed(pod) and any(
            pair.has(ROLES[pool], pod.revision, pod.domain) and self.now - door.born >= BOOT_TICKS
            for pair, doors in self.doors.items()
            for door in doors
            if door.deleted_at is None
        )

    def partners(self, pair: Pair) -> list[list[Pod]]:
        """Workers that a gateway of a pair can send a new request to, by role."""
        return [
            [p for p in self.pools[pool] if p.labelled and pair.has(role, p.revision, p.domain) and self.ready(p)
             and p.deleted_at is None and self.now - (p.ready_at or 0) >= GATEWAY_TICKS]
            for pool, role in ROLES.items()
        ]  # fmt: skip

    def in_service(self) -> list[Pair]:
        """Pairs to whose gateway a request may come now."""
        return [
            pair
            for pair, doors in self.doors.items()
            for door in doors
            if self.now - door.born > BOOT_TICKS
            and (door.deleted_at is None or self.now - door.deleted_at < LEAVE_TICKS)
            and (door.deleted_at is not None or all(self.partners(pair)))
        ]

    def seen_gateways(self) -> list[Gateway]:
        return [
            Gateway(
                pair,
                self.replicas.get(pair, 0),
                ready=sum(d.deleted_at is None and self.now - d.born > BOOT_TICKS and all(self.partners(pair))
                          for d in doors),
                open=sum(d.deleted_at is None or self.now - d.deleted_at < LEAVE_TICKS for d in doors),
            )
            for pair, doors in self.doors.items() if doors
        ]  # fmt: skip

    def tick(self, want: Want, writes: int | None = None) -> int:
        assert isinstance(want, PairWant)
        sides = self.sides(want)
        for pool, role in ROLES.items():
            object.__setattr__(sides[role].goal, "revision", want.of(pool))
        step = paired_move(
            sides, self.seen_gateways(), want.gateways, self.budget,
            now_seconds=float(self.now), drain_deadline_seconds=DEADLINE,
        )  # fmt: skip
        left = [10**6 if writes is None else writes]
        sent = 0
        said: list[str] = []

        def alive() -> bool:
            nonlocal sent
            sent += 1
            return sent <= left[0]

        for pool, role in ROLES.items():
            of_role = step.steps[role]
            said += [f"label {name} on" for name in of_role.serve]
            said += [f"label {name} off" for name in of_role.drain]
            said += [f"delete {name}" for name in of_role.release]
            said += [f"start {of_role.create} {pool}"] if of_role.create else []
            self.write(
                pool,
                tuple(name for name in of_role.serve if alive()),
                tuple(name for name in of_role.drain if alive()),
                tuple(name for name in of_role.release if alive()),
            )
            for _ in range(of_role.create):
                if alive():
                    self.start(pool, want.of(pool))
        wanted = step.gateways or {}
        for pair in sorted(wanted.keys() | self.replicas.keys()):
            if wanted.get(pair, 0) != self.replicas.get(pair, 0) and alive():
                said.append(f"gateways {'-'.join(pair)}: {wanted.get(pair, 0)}")
                self.scale(pair, wanted.get(pair, 0))
        said += [f"waits for a GPU: {' '.join(sorted(step.waiting))}"] if step.waiting else []
        said += ["nobody serves, as is accepted"] if step.outage else []
        self.outage = step.outage
        pools = "  ".join(f"{pool}[{' '.join(map(self.show, pods))}]" for pool, pods in self.pools.items())
        doors = " ".join(f"{'-'.join(g.pair)}:{g.ready}/{g.replicas}" for g in self.seen_gateways())
        asked = f"want {want.prefill}+{want.decode}{want.of('P')}{want.of('D')}"
        self.lines.append(f"{self.now:3d}  {asked}  {', '.join(said) or '-'}\n     {pools}  gateways[{doors}]")
        self.pass_time()
        return sent

    def scale(self, pair: Pair, count: int) -> None:
        """The Deployment of a gateway, and what its controller does at once."""
        self.replicas[pair] = count
        doors = self.doors.setdefault(pair, [])
        there = [door for door in doors if door.deleted_at is None]
        for door in there[count:]:
            door.deleted_at = self.now
        doors += [Door(self.now) for _ in range(count - len(there))]

    def pass_time(self) -> None:
        super().pass_time()
        for pair in list(self.doors):
            self.doors[pair] = [d for d in self.doors[pair] if d.deleted_at is None or self.now - d.deleted_at < 5]

    def settled(self, want: Want) -> bool:
        assert isinstance(want, PairWant)
        goal = Pair(want.of("P"), want.of("D"))
        return all(
            len(self.pools[pool]) == target
            and all(self.worker(p).serves and p.revision == want.of(pool) for p in self.pools[pool])
            for pool, target in (("P", want.prefill), ("D", want.decode))
        ) and {pair: count for pair, count in self.replicas.items() if count} == {goal: want.gateways}
