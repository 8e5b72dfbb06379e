"""What one pass did to the workers of a resource. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from dopd.api.names import Role
from dopd.api.pairs import Pair
from dopd.planning.domains import Division
from dopd.reconcile.pods import Trouble
from dopd.rollout import PoolStep
from dopd.workloads.revisions import Revision


class Told(NamedTuple):
    """Something that a person should know, for an Event."""

    reason: str
    note: str
    warning: bool = False


@dataclass(frozen=True)
class Moved:
    """What one pass did to the workers.

    Attributes:
        revisions: what the workers of each role are made from now.
        steps: what was written, by role; empty for a role that was not moved.
        troubles: what failed.
        rejected: revisions of the spec that did not come up and are rolled back, by role.
        adopting: roles whose workers are being taken over from a Deployment.
        waiting: roles for whose first new worker there are no GPUs.
        outage: nobody serves until the new workers do, as spec.rollout.allowOutage accepts.
        told: what happened to workers that change their role.
        gateways: pods of each gateway; None where they stay as they are.
        division: how the workers are divided over domains; None where they are not.
    """

    revisions: Mapping[Role, Revision] = field(default_factory=dict)
    steps: Mapping[Role, PoolStep] = field(default_factory=dict)
    troubles: tuple[Trouble, ...] = ()
    rejected: Mapping[Role, str] = field(default_factory=dict)
    adopting: frozenset[Role] = frozenset()
    waiting: frozenset[Role] = frozenset()
    outage: bool = False
    told: tuple[Told, ...] = ()
    gateways: Mapping[Pair, int] | None = None
    division: Division | None = None

    def placed(self, targets: Mapping[Role, int]) -> dict[Role, int]:
        """Workers that should serve, but for those for which no domain has room."""
        unplaced = self.division.unplaced if self.division else {}
        return {role: count - unplaced.get(role, 0) for role, count in targets.items()}
