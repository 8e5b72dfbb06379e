"""The model of a cluster, with engines that change their role when they are told to."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from dopd.api.names import Role
from dopd.rollout import Act, PoolStep, Turn, Worker, move, next_act

from .cluster import DEADLINE, Cluster, Pod, Want

SWITCH_TICKS = 1
"""From the request to the change of an engine."""

ROLES = {"P": Role.PREFILL, "D": Role.DECODE}
OTHER = {"P": "D", "D": "P"}


@dataclass
class Engine:
    """What an engine is, apart from what its pod says; `told_at`: when it was told to change."""

    pool: str
    told_at: int | None = None


@dataclass
class FlippingCluster(Cluster):
    """Two pools whose workers may change.

    Attributes:
        flips: workers that the plan lets change to a role.
        refusal: what engines answer in place of a change.
        restorable: a refused engine serves on.
        mute: pods of which no pair answers.
    """

    flips: int = 9
    refusal: str = ""
    restorable: bool = True
    mute: frozenset[str] = frozenset()
    engines: dict[str, Engine] = field(default_factory=dict)
    turning: set[str] = field(default_factory=set)
    settled_as: dict[str, str] = field(default_factory=dict)
    keeps: set[str] = field(default_factory=set)
    memory: dict[str, Turn] = field(default_factory=dict)

    def pool_of(self, pod: Pod) -> str:
        return next(pool for pool, pods in self.pools.items() if pod in pods)

    def engine(self, pod: Pod) -> Engine:
        """Of a pod; it starts as what its pool was then."""
        pool = self.pool_of(pod)
        self.settled_as.setdefault(pod.name, pool)
        return self.engines.setdefault(pod.name, Engine(pool))

    def worker(self, pod: Pod) -> Worker:
        in_role = self.engine(pod).pool == self.pool_of(pod) if self.ready(pod) else None
        able = pod.name not in self.keeps
        return replace(super().worker(pod), turning=pod.name in self.turning, in_role=in_role, may_flip=able)

    def decided(self, want: Want) -> dict[Role, PoolStep]:
        flips = dict.fromkeys(Role, self.flips)
        now = float(self.now)
        steps = move(self.sides(want), self.budget, now_seconds=now, drain_deadline_seconds=DEADLINE, flips=flips)
        for role, step in steps.items():  # a label only after a canary
            failed = [name for name in step.serve if name in self.mute]
            for name in failed:
                self.memory[name] = replace(self.memory[name], failures=self.memory[name].failures + 1)
            steps[role] = replace(step, serve=tuple(name for name in step.serve if name not in failed))
        return steps

    def turned(self, pool: str, step: PoolStep, alive: Callable[[], bool]) -> list[str]:
        said = []
        for pod in list(self.pools[pool]):
            self.turning -= {pod.name} if pod.labelled else set()
            if pod.name in step.flip:
                said.append(f"flip {pod.name} to {OTHER[pool]}")
                if alive():
                    self.memory.pop(pod.name, None)
                    self.drained(pod)
                    self.turning.add(pod.name)
                    self.moved(pod, OTHER[pool])
            elif pod.name in self.turning and pod.name not in step.leave and pod.deleted_at is None:
                said += self.go_on(pod, pool, alive)
        return said

    def go_on(self, pod: Pod, pool: str, alive: Callable[[], bool]) -> list[str]:
        worker = self.worker(pod)
        turn = replace(
            self.memory.get(pod.name, Turn(worker)), worker=worker, settled=self.settled_as[pod.name] == pool
        )
        idle = worker.idle and worker.registered is False
        turn = replace(
            turn, idle_seconds=(self.now if turn.idle_seconds is None else turn.idle_seconds) if idle else None
        )
        self.memory[pod.name] = turn
        act = next_act(turn, float(self.now), DEADLINE)
        if act is Act.WAIT or not alive():
            return []
        if act is Act.SWITCH and self.refusal:
            self.memory[pod.name] = replace(turn, refused=self.refusal, restorable=self.restorable)
        elif act is Act.SWITCH:
            self.engine(pod).told_at = self.now
        elif act is Act.SETTLE:
            self.settled_as[pod.name] = pool
        elif act is Act.BACK:
            self.turning.discard(pod.name)
            self.keeps.add(pod.name)
            self.moved(pod, OTHER[pool])
        elif act is Act.RESTART:
            self.delete(pod)
        return [f"{act} {pod.name}"]

    def drained(self, pod: Pod) -> None:
        pod.drained_at = self.now if pod.labelled or pod.drained_at is None else pod.drained_at
        pod.labelled = False

    def moved(self, pod: Pod, to: str) -> None:
        self.pools[OTHER[to]].remove(pod)
        self.pools[to].append(pod)

    def killed(self) -> None:
        self.memory.clear()

    def pass_time(self) -> None:
        super().pass_time()
        for pod in self.pods:
            engine = self.engine(pod)
            if engine.told_at is not None and self.now - engine.told_at >= SWITCH_TICKS:
                engine.pool, engine.told_at = OTHER[engine.pool], None
            if pod.labelled and self.ready(pod):
                assert engine.pool == self.pool_of(pod), f"{pod.name} is asked for what its engine does not do"

    def show(self, pod: Pod) -> str:
        shown = super().show(pod)
        return shown.replace("drain", "turning, drain") if pod.name in self.turning else shown
