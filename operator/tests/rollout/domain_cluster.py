"""The model of a cluster of several KV-transfer domains, each with GPUs and gateways of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dopd.api.names import Role
from dopd.api.pairs import Pair
from dopd.planning.domains import divide
from dopd.rollout import PairedStep
from dopd.rollout.domains import domain_move

from .cluster import DEADLINE, Pod, Want
from .paired_cluster import BOOT_TICKS, ROLES, Door, PairedCluster, PairWant


@dataclass
class DomainCluster(PairedCluster):
    """`room`: GPUs that may be taken in each domain; `most`: that the workers of each role may hold, None for any."""

    room: Mapping[str, int] = field(default_factory=dict)
    most: int | None = None

    def serve_in(self, placed: Mapping[str, tuple[int, int]]) -> None:
        """Workers and gateways that serve already, by domain; "" for none."""
        for domain, counts in placed.items():
            for pool, count in zip(("P", "D"), counts, strict=True):
                self.pools[pool] += [
                    Pod(f"{pool}{domain}{i}", -10, node=True, ready_at=-9, domain=domain) for i in range(count)
                ]
            pair = Pair("a", "a", domain)
            self.replicas[pair], self.doors[pair] = 2, [Door(-10, served=True), Door(-10, served=True)]

    def of_domain(self, pool: str, domain: str) -> list[Pod]:
        return [pod for pod in self.pools[pool] if pod.domain == domain]

    def division(self, want: PairWant) -> Mapping[str, Mapping[Role, int]]:
        there = {
            name: {role: sum(p.labelled and p.deleted_at is None for p in self.of_domain(pool, name))
                   for pool, role in ROLES.items()}
            for name in self.room
        }  # fmt: skip
        targets = {Role.PREFILL: want.prefill, Role.DECODE: want.decode}
        return divide(targets, dict.fromkeys(Role, 1), self.room, there).counts

    def wanted(self, want: PairWant) -> str:
        return " ".join(f"{name}:{c[Role.PREFILL]}+{c[Role.DECODE]}" for name, c in self.division(want).items())

    def decide(self, want: PairWant) -> PairedStep:
        sides = self.sides(want)
        for pool, role in ROLES.items():
            object.__setattr__(sides[role].goal, "revision", want.of(pool))
            sides[role] = replace(sides[role], most_gpus=self.most)
        return domain_move(
            sides, self.division(want), self.room, self.seen_gateways(), want.gateways, self.budget,
            now_seconds=float(self.now), drain_deadline_seconds=DEADLINE, outage=not want.fewest,
        )  # fmt: skip

    def tick(self, want: Want, writes: int | None = None) -> int:
        assert isinstance(want, PairWant)
        assert writes is None
        step, said = self.decide(want), []
        self.outage = step.outage
        for pool, role in ROLES.items():
            of_role = step.steps[role]
            said += [f"{name} on" for name in of_role.serve] + [f"{name} off" for name in of_role.drain]
            said += [f"delete {name}" for name in of_role.release]
            self.write(pool, of_role.serve, of_role.drain, of_role.release)
            for domain in of_role.domains:
                said.append(f"start {pool} in {domain}")
                self.start(pool, want.of(pool))
                self.pools[pool][-1].domain = domain
        wanted = step.gateways or {}
        for pair in sorted(wanted.keys() | self.replicas.keys()):
            if wanted.get(pair, 0) != self.replicas.get(pair, 0):
                said.append(f"gateways {'-'.join(pair)}: {wanted.get(pair, 0)}")
                self.scale(pair, wanted.get(pair, 0))
        pools = "  ".join(f"{pool}[{' '.join(map(self.show, pods))}]" for pool, pods in self.pools.items())
        doors = " ".join(f"{'-'.join(g.pair)}:{g.ready}/{g.replicas}" for g in self.seen_gateways())
        waits = f" waits: {' '.join(sorted(step.waiting))}" if step.waiting else ""
        self.lines.append(
            f"{self.now:3d}  want {want.prefill}+{want.decode}{want.of('P')}{want.of('D')} {self.wanted(want)}"
            f"  {', '.join(said) or '-'}{waits}\n     {pools}  gateways[{doors}]"
        )
        self.pass_time()
        return 0

    def in_service(self) -> list[Pair]:
        """As before, but for gateways that were deleted before they served: a new domain may be given up at once."""
        return [pair for pair in super().in_service() if any(door.served for door in self.doors[pair])]

    def pass_time(self) -> None:
        super().pass_time()
        for pair, doors in self.doors.items():
            whole = all(self.partners(pair))
            for door in doors:
                if door.deleted_at is None:
                    door.served = whole and self.now - door.born > BOOT_TICKS

    def show(self, pod: Pod) -> str:
        return f"{super().show(pod)}@{pod.domain}"

    def settled(self, want: Want) -> bool:
        assert isinstance(want, PairWant)
        division = self.division(want)
        used = {name for name, counts in division.items() if any(counts.values())}
        goals = {Pair(want.of("P"), want.of("D"), name) for name in used}
        right = all(
            len(self.of_domain(pool, name)) == counts[role]
            and all(self.worker(p).serves and p.revision == want.of(pool) for p in self.of_domain(pool, name))
            for name, counts in division.items()
            for pool, role in ROLES.items()
        )
        inside = all(pod.domain in used for pod in self.pods)
        return right and inside and {pair for pair, count in self.replicas.items() if count} == goals
