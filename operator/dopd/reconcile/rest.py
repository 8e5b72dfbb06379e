"""Passes at rest: nothing was told of a resource since a pass that had nothing to do.

Such a pass asks gateways and engines, and plans. Where they say the same, and the plan comes to the same workers, no
step of these and no child would be another: the pass ends there, with the status where a word of that is another, and
asks the API server nothing.

| what changes | how a pass at rest learns of it |
|---|---|
| the resource, its children, its pods, its profiles | a watch tells; else within a minute, by a whole pass |
| what gateways list, an engine that is silent, the order of prompts | it asks |
| the load, a schedule, the forecast | it plans |
| a Secret | who is asked with the old key is silent; else within a minute |

What hangs on time alone is no rest: workers that start, drain or change their role, rollouts, repairs, what was
refused. `quiet.is_quiet` says so, and in doubt that there is something to do: a whole pass costs more, and is never
wrong.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.api.status import LONGEST_MESSAGE
from dopd.reconcile.conditions import Finding, plan_findings
from dopd.reconcile.kept_lists import KEPT_SECONDS, KeptLists
from dopd.reconcile.moved import Moved
from dopd.reconcile.observe import Observed, bare
from dopd.reconcile.prompt_order import order_settings
from dopd.reconcile.queue import Key
from dopd.reconcile.quiet import same_but_status
from dopd.reconcile.report import new_decision
from dopd.reconcile.scaling import Planned
from dopd.reconcile.status import clipped, load_and_plan, miss_share
from dopd.reconcile.stored import stored_status
from dopd.rollout import Flips
from dopd.workloads.meta import Manifest

Json = dict[str, Any]
LOOK_LASTS_SECONDS = 3.0
"""A pass that waits for its reading does with a look at gateways and engines for so long."""

Began = tuple[int, float]
"""Changes that were told of a resource when a pass began, and when that was."""


@dataclass(frozen=True)
class Plan:
    """What a pass planned, as far as anything follows from it.

    Attributes:
        planned: the plan.
        targets: workers that should serve, by role.
        flips: workers that may change their role.
    """

    planned: Planned
    targets: dict[Role, int]
    flips: Flips


@dataclass(frozen=True)
class Rest:
    """A whole pass that had nothing to do.

    Attributes:
        observed: what it saw.
        spec: of the resource.
        plan: what it planned.
        moved: what it did to the workers.
        found: its conditions, but for those that follow from the plan.
        settings: of the order of prompts.
        changes: that had been told of the resource before it.
        at_seconds: when it began.
    """

    observed: Observed
    spec: DisaggregatedInferenceSpec
    plan: Plan
    moved: Moved
    found: list[Finding]
    settings: Manifest
    changes: int
    at_seconds: float


class Rests:
    """What is remembered of resources at rest.

    Args:
        lists: is told of changes; None where nobody watches, and so nothing rests.
        monotonic: seconds that no step of the clock moves.
    """

    def __init__(self, lists: KeptLists | None, monotonic: Callable[[], float]) -> None:
        self._lists, self._monotonic = lists, monotonic
        self._rests: dict[Key, Rest] = {}
        self._looks: dict[Key, tuple[Observed, float]] = {}

    def begin(self, key: Key) -> Began:
        """A whole pass begins, so what was remembered of the one before is dropped."""
        self.forget(key)
        return self._lists.told(key) if self._lists else 0, self._monotonic()

    def keep(
        self,
        key: Key,
        began: Began,
        observed: Observed,
        plan: Plan,
        moved: Moved,
        found: Sequence[Finding],
        stored: Json,
    ) -> None:
        """A whole pass that wrote nothing but the status has ended, and `is_quiet` of what it found.

        Args:
            key: of the resource.
            began: what `begin` said.
            observed: what the pass saw.
            plan: what it planned.
            moved: what it did to the workers.
            found: its conditions.
            stored: the resource as it is stored now.
        """
        spec = observed.spec
        if self._lists is None or spec is None or not same_but_status(observed.resource, stored):
            return
        told, settings = plan_findings(observed, spec, plan.planned), order_settings(observed, spec, plan.planned)
        of_cluster = [finding for finding in found if finding not in told]
        self._lists.wrote(key, stored)
        observed = replace(observed, resource=bare(stored))
        self._rests[key] = Rest(observed, spec, plan, moved, of_cluster, settings, *began)
        self._looks[key] = observed, began[1]

    def told(self, key: Key, rest: Rest, stored: Json) -> None:
        """A pass at rest wrote the status.

        Args:
            key: of the resource.
            rest: what the pass began with.
            stored: the resource as it is stored now.
        """
        if self._lists is None or not same_but_status(rest.observed.resource, stored):
            self.forget(key)
        elif self._rests.get(key) is rest:
            self._lists.wrote(key, stored)
            self._rests[key] = replace(rest, observed=replace(rest.observed, resource=bare(stored)))

    def of(self, key: Key) -> Rest | None:
        """The rest of a resource, while it lasts."""
        rest = self._rests.get(key)
        if rest is None or self._lists is None or rest.changes != self._lists.told(key):
            return None
        return rest if self._monotonic() - rest.at_seconds < KEPT_SECONDS else None

    def look(self, key: Key) -> Observed | None:
        """The last look at gateways and engines, while it is young."""
        observed, at_seconds = self._looks.get(key, (None, 0.0))
        return observed if self._monotonic() - at_seconds < LOOK_LASTS_SECONDS else None

    def looked(self, key: Key, observed: Observed) -> None:
        """Gateways and engines were asked just now."""
        self._looks[key] = observed, self._monotonic()

    def look_anew(self, key: Key) -> None:
        """What waits in the engines is another than the last look says."""
        self._looks.pop(key, None)

    def forget(self, key: Key) -> None:
        """Drop what is remembered of a resource."""
        self._rests.pop(key, None)
        self._looks.pop(key, None)


def same_plan(rest: Rest, plan: Plan) -> bool:
    """Whether a plan leads to the same workers and the same settings. Pure.

    Args:
        rest: what a whole pass made of one.
        plan: the new one, of the `same_look`.
    """
    decisions = stored_status(rest.observed.resource).decisions
    return (
        (plan.targets, plan.flips) == (rest.plan.targets, rest.plan.flips)
        and not new_decision(decisions, plan.planned)
        and order_settings(rest.observed, rest.spec, plan.planned) == rest.settings
    )


def same_words(rest: Rest, plan: Plan, told: Sequence[Finding]) -> bool:
    """Whether the status says already what follows from a plan. Pure.

    Args:
        rest: with the status as it is stored.
        plan: the `same_plan`.
        told: conditions that follow from it.
    """
    stored = stored_status(rest.observed.resource)
    load, of_plan = load_and_plan(plan.planned, rest.spec.slo.attainment, stored)
    words = {(c.type, c.status, c.reason, c.message) for c in stored.conditions}
    return (
        load is stored.load
        and of_plan is stored.plan
        and miss_share(plan.planned, stored.miss_share) == stored.miss_share
        and all((f.type, f.status, f.reason, clipped(f.message, LONGEST_MESSAGE)) in words for f in told)
    )
