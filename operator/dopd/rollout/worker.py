"""A worker as the mover sees it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Worker:
    """One worker of a pool, as observed: a pod, or a group of pods on several nodes.

    Attributes:
        name: pod name; of a group that of its first pod.
        labelled: the pod carries its role label, so the gateway may use it.
        ready: Kubernetes says ready.
        scheduled: it has a node.
        created_seconds: creation time, seconds since the epoch.
        draining_since_seconds: when its label was taken off; None while labelled.
        registered: a gateway lists it; None when some gateway did not answer.
        idle: its engine has nothing to do; None when it did not answer.
        load: requests that it runs or queues; 0 when unknown.
        revision: of the template that it was made from; "" of a pod that an earlier version of the operator made.
        gpus: that it holds, or will once it has a node.
        failed: it is known not to come up: its container ends again and again, or it was not ready in time.
        turning: it is on its way to this role from the other one, and has no label until it serves.
        in_role: its engine does what this role does; None when it did not tell.
        may_flip: it may be asked to change to the other role.
        proving: its engine began anew, and it has no label until it has answered with its partners.
        answers: its revision has a partner, and a gateway of the two that clients reach.
        needed: the last one of its role behind a gateway that clients reach.
        partial: some of its nodes hold GPUs for it and some are not found yet; of workers of several nodes alone.
        broken: a node of it is lost, so that it can not serve again; of workers of several nodes alone.
        gated: a queue (Kueue, say) has not let it in yet, so no node is looked for.
        stranded: of an old revision to which no gateway will send any more, for want of the gateway or of a partner.
        domain: the KV-transfer domain that it was started for; "" for none.
    """

    name: str
    labelled: bool
    ready: bool
    scheduled: bool
    created_seconds: float
    draining_since_seconds: float | None = None
    registered: bool | None = None
    idle: bool | None = None
    load: float = 0.0
    revision: str = ""
    gpus: int = 1
    failed: bool = False
    turning: bool = False
    in_role: bool | None = True
    may_flip: bool = False
    proving: bool = False
    answers: bool = True
    needed: bool = False
    stranded: bool = False
    domain: str = ""
    partial: bool = False
    broken: bool = False
    gated: bool = False

    @property
    def available(self) -> bool:
        """Whether it serves, starts, turns, is proved, or can serve again at once.

        All but those that the gateway still drains.
        """
        return self.labelled or self.turning or self.proving or self.registered is False

    @property
    def may_serve(self) -> bool:
        """Whether its label may come back: its engine has the role.

        One on its way has to tell that, and no gateway may list it as what it was: none would notice the label. The
        same of one whose engine began anew.
        """
        if self.turning or self.proving:
            has_role = self.in_role is True if self.turning else self.in_role is not False
            return has_role and self.registered is False
        return self.in_role is not False

    @property
    def serves(self) -> bool:
        """Whether a gateway is known to send requests to it. Ready in Kubernetes comes some seconds before."""
        return self.labelled and self.ready and self.registered is True and self.answers

    @property
    def preference(self) -> tuple[int, float, float, str]:
        """Order in which workers of one revision are kept.

        Serving ones by load (the least loaded goes first, since it is drained soonest), then drained ones that can
        serve at once and those that change to this role, then starting ones by age, then those without a node, last
        those that the gateway still drains: a label that comes back before the gateway has let go of the worker is not
        noticed by it for up to a minute.
        """
        if self.labelled and self.ready:
            rank = 0
        elif not self.available:
            rank = 4
        elif self.ready:
            rank = 1
        elif self.scheduled:
            rank = 2
        else:
            rank = 3
        return rank, -self.load, self.created_seconds, self.name

    def may_go(self, now_seconds: float, deadline_seconds: float) -> bool:
        """Whether a draining worker may be deleted: no gateway lists it and it is idle, or its time is over."""
        if self.labelled or self.draining_since_seconds is None:
            return False  # the label must be seen gone first
        if now_seconds - self.draining_since_seconds >= deadline_seconds:
            return True
        return self.registered is False and (self.idle is True or not self.ready)


def available(workers: Sequence[Worker]) -> int:
    """Workers of a pool that serve, start, or can serve again at once."""
    return sum(worker.available for worker in workers)
