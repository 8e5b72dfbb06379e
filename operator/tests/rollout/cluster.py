"""A small model of a cluster: scheduler, kubelet, gateway, engines, and two pools that `move` brings on their way."""

from collections.abc import Callable
from dataclasses import dataclass, field

from dopd.api.names import Role
from dopd.rollout import Goal, PoolStep, Side, Worker, move

START_TICKS, GATEWAY_TICKS, EXIT_TICKS, DEADLINE = 3, 2, 1, 20.0
"""From a node to ready; from a label (on or off) to the gateway's list; from a deletion to the end of an idle pod."""


@dataclass
class Pod:
    name: str
    born: int
    revision: str = "a"
    gpus: int = 1
    node: bool = False
    labelled: bool = True
    ready_at: int | None = None
    drained_at: int | None = None
    deleted_at: int | None = None
    requests: int = 0
    domain: str = ""


@dataclass
class Want:
    """What is asked for; `revision`, `surge` and the others hold for both roles."""

    prefill: int
    decode: int
    revision: str = "a"
    surge: int = 0
    max_unavailable: int = 1
    fewest: int = 1
    pending_deadline: float = float("inf")


@dataclass
class Cluster:
    """Two pools on a number of GPUs."""

    gpus: int
    budget: int | None = None
    broken: frozenset[str] = frozenset()
    now: int = 0
    pools: dict[str, list[Pod]] = field(default_factory=lambda: {"P": [], "D": []})
    lines: list[str] = field(default_factory=list)
    most_held: int = 0
    lost: list[str] = field(default_factory=list)

    def serve(self, prefill: int, decode: int, requests: int = 0) -> None:
        for pool, count in (("P", prefill), ("D", decode)):
            self.pools[pool] = [
                Pod(f"{pool}{i}", -10, node=True, ready_at=-9, requests=requests + i) for i in range(count)
            ]

    @property
    def pods(self) -> list[Pod]:
        return [pod for pods in self.pools.values() for pod in pods]

    def held(self) -> int:
        return sum(pod.gpus for pod in self.pods)

    def ready(self, pod: Pod) -> bool:
        return pod.ready_at is not None and pod.ready_at <= self.now and pod.revision not in self.broken

    def listed(self, pod: Pod) -> bool:
        """Whether the gateway still, or already, knows it. It drops a pod that is being deleted at once."""
        if not self.ready(pod) or pod.deleted_at is not None:
            return False
        if pod.labelled:
            return self.now - (pod.ready_at or 0) >= GATEWAY_TICKS
        return self.now - (pod.drained_at or 0) < GATEWAY_TICKS

    def worker(self, pod: Pod) -> Worker:
        ready = self.ready(pod)
        return Worker(
            pod.name,
            labelled=pod.labelled,
            ready=ready,
            scheduled=pod.node,
            created_seconds=float(pod.born),
            draining_since_seconds=None if pod.drained_at is None else float(pod.drained_at),
            registered=self.listed(pod),
            idle=pod.requests == 0 if ready else None,
            load=pod.requests,
            revision=pod.revision,
            gpus=pod.gpus,
            domain=pod.domain,
            failed=pod.revision in self.broken and pod.node and self.now - pod.born > 2 * START_TICKS,
        )

    def sides(self, want: Want) -> dict[Role, Side]:
        sides = {}
        for role, pool, target in ((Role.PREFILL, "P", want.prefill), (Role.DECODE, "D", want.decode)):
            alive = [self.worker(pod) for pod in self.pools[pool] if pod.deleted_at is None]
            leaving = [self.worker(pod) for pod in self.pools[pool] if pod.deleted_at is not None]
            goal = Goal(target, want.revision, want.max_unavailable, want.surge, want.fewest, want.pending_deadline)
            sides[role] = Side(alive, goal, leaving)
        return sides

    def tick(self, want: Want, writes: int | None = None) -> int:
        """One pass of the operator, then a moment of the cluster; the number of writes of the pass.

        Args:
            want: what is asked for.
            writes: after so many the operator is killed; None lets it finish.
        """
        steps = self.decided(want)
        said: list[str] = []
        sent = 0

        def alive() -> bool:
            nonlocal sent
            sent += 1
            return writes is None or sent <= writes

        for role, pool in ((Role.PREFILL, "P"), (Role.DECODE, "D")):
            step = steps[role]
            said += self.turned(pool, step, alive)
            said += [f"label {name} on" for name in step.serve]
            said += [f"label {name} off" for name in step.drain]
            said += [f"delete {name}" for name in step.release]
            said += [f"start {step.create} {pool}"] if step.create else []
            self.write(
                pool,
                tuple(name for name in step.serve if alive()),
                tuple(name for name in step.drain if alive()),
                tuple(name for name in step.release if alive()),
            )
            for _ in range(step.create):
                if alive():
                    self.start(pool, want.revision)
        if writes is not None and sent > writes:
            self.killed()
        state = "  ".join(f"{pool}[{' '.join(map(self.show, pods))}]" for pool, pods in self.pools.items())
        asked = f"want {want.prefill}+{want.decode}{want.revision if want.revision != 'a' else ''}"
        self.lines.append(f"{self.now:3d}  {asked}  {', '.join(said) or '-'}\n     {state}")
        self.pass_time()
        return sent

    def decided(self, want: Want) -> dict[Role, PoolStep]:
        """What the operator decides."""
        return move(self.sides(want), self.budget, now_seconds=float(self.now), drain_deadline_seconds=DEADLINE)

    def turned(self, pool: str, step: PoolStep, alive: Callable[[], bool]) -> list[str]:
        """Writes for workers that change their role: none here."""
        return []

    def killed(self) -> None:
        """The operator forgets what it keeps in memory: nothing here."""

    def write(self, pool: str, serve: tuple[str, ...], drain: tuple[str, ...], release: tuple[str, ...]) -> None:
        for pod in self.pools[pool]:
            if pod.name in serve:
                pod.labelled, pod.drained_at = True, None
                pod.ready_at = self.now
            if pod.name in drain:
                pod.labelled, pod.drained_at = False, self.now
            if pod.name in release:
                self.delete(pod)

    def start(self, pool: str, revision: str) -> None:
        taken = {pod.name for pod in self.pods}  # a worker that changed its role keeps its name
        name = next(f"{pool}{revision if revision != 'a' else ''}{n}" for n in range(100)
                    if f"{pool}{revision if revision != 'a' else ''}{n}" not in taken)  # fmt: skip
        self.pools[pool].append(Pod(name, self.now, revision))

    def delete(self, pod: Pod) -> None:
        """As the operator, an eviction or a person does it."""
        if pod.deleted_at is None:
            pod.deleted_at = self.now

    def pass_time(self) -> None:
        self.most_held = max(self.most_held, self.held())
        self.now += 1
        for pod in self.pods:
            if not pod.labelled or pod.deleted_at is not None:
                pod.requests = max(0, pod.requests - 1)
        for pods in self.pools.values():
            for pod in list(pods):
                gone = pod.deleted_at is not None and self.now - pod.deleted_at > EXIT_TICKS and not pod.requests
                if gone or (pod.deleted_at is not None and not pod.node):
                    pods.remove(pod)
        free = self.gpus - sum(pod.gpus for pod in self.pods if pod.node)
        for pod in self.pods:
            if not pod.node and pod.deleted_at is None and free >= pod.gpus:
                pod.node, pod.ready_at, free = True, self.now + START_TICKS, free - pod.gpus

    def serving(self, pool: str) -> int:
        return sum(self.worker(pod).serves for pod in self.pools[pool] if pod.deleted_at is None)

    def settled(self, want: Want) -> bool:
        """Whether all is as it is wanted, and nothing else is there."""
        return all(
            len(pods) == target and all(self.worker(p).serves and p.revision == want.revision for p in pods)
            for pods, target in ((self.pools["P"], want.prefill), (self.pools["D"], want.decode))
        )

    def show(self, pod: Pod) -> str:
        look = self.worker(pod)
        state = "serving" if look.serves else "starting" if pod.node and pod.labelled else "pending"
        if not pod.labelled:
            state = "draining" if look.registered else "drained"
        if pod.deleted_at is not None:
            state = "ending"
        return f"{pod.name}:{state}" + (f"({pod.requests})" if pod.requests else "")
