"""The order of prompts in the prefill workers: the settings that they get, and what they make of them. Pure."""

from collections.abc import Mapping

from dopd.api.conditions import ConditionReason as Reason
from dopd.api.conditions import ConditionStatus as Status
from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.api.scheduling import SchedulingPolicy
from dopd.cluster import kinds
from dopd.reconcile.observe import Observed
from dopd.reconcile.scaling import Planned
from dopd.telemetry.prompt_order import PromptOrder
from dopd.workloads.engine_order import OWN_ORDER, engine_order
from dopd.workloads.meta import Manifest
from dopd.workloads.scheduling import PLUGIN_POLICIES, scheduling_config

NAMED_WORKERS = 3

_CAUSES = {
    "version": "it does not know this release of SGLang",
    "condition": "the engine has what prompts can not be ordered with (pipeline parallelism, priorities, ...)",
    "switched-off": "an error at its start, or several errors within a minute",
}
"""What the plugin's reasons mean."""

_PASSING = {"error", "settings"}
"""Reasons that are over with the pass or the file that had them; the order went on afterwards."""

Verdict = tuple[Status, Reason, str]
"""A condition without its type."""


def order_settings(observed: Observed, spec: DisaggregatedInferenceSpec, planned: Planned | None) -> Manifest:
    """The ConfigMap with the settings, from the spec and from what the latest plan knows."""
    profile = None if isinstance(observed.model, str) else observed.model
    reading = planned.reading if planned else None
    return scheduling_config(
        observed.owner,
        spec,
        engine=(planned.engine if planned else None) or profile,
        predicted_tokens=reading.prompt_tokens if reading else None,
        stored=observed.children.get((kinds.CONFIG_MAP.kind, observed.owner.child_name(Role.PREFILL))),
    )


def serves_on_time_first(spec: DisaggregatedInferenceSpec, orders: Mapping[str, PromptOrder]) -> bool | None:
    """Whether all prefill workers serve prompts in the order on-time-first; None while that is not known.

    Args:
        spec: of the resource.
        orders: what the workers that answered say, by pod name.
    """
    verdict = order_verdict(spec, orders)
    if verdict is None or spec.scheduling.policy is not SchedulingPolicy.ON_TIME_FIRST:
        return False
    return None if verdict[0] is Status.UNKNOWN else verdict[1] is Reason.PLUGIN_ORDERS


def order_verdict(spec: DisaggregatedInferenceSpec, orders: Mapping[str, PromptOrder]) -> Verdict | None:
    """Whether prompts are ordered as the spec asks; None with EngineDefault, which asks for nothing.

    Args:
        spec: of the resource.
        orders: what the workers that answered say, by pod name.
    """
    if spec.scheduling.policy is SchedulingPolicy.ENGINE_DEFAULT:
        return None
    if not orders:
        message = "no prefill worker has told its order yet: none is ready, or /metrics of the engine does not answer"
        return Status.UNKNOWN, Reason.NOT_SEEN, message
    wanted = PLUGIN_POLICIES[spec.scheduling.policy]
    plugged = {name: order for name, order in orders.items() if order.has_plugin}
    fallen = {name: order for name, order in plugged.items() if _gave_up(order)}
    if fallen:
        causes = sorted({cause for order in fallen.values() for cause in order.fallbacks})
        told = ", ".join(_CAUSES.get(cause, cause) for cause in causes if cause not in _PASSING)
        message = (
            f"{_named(fallen)}: the plugin left the order of prompts to the engine: {told}. Read the log of the worker;"
            " a new start tries again"
        )
        return Status.FALSE, Reason.FALLBACK, message
    late = {name: order for name, order in plugged.items() if order.policies != {wanted}}
    if late:
        message = (
            f"{_named(late)}: settings of another policy than {spec.scheduling.policy}. A change arrives within about"
            " a minute; if it does not, look at the volume named scheduling of the pod"
        )
        return Status.FALSE, Reason.OLD_SETTINGS, message
    if len(plugged) == len(orders):
        return Status.TRUE, Reason.PLUGIN_ORDERS, f"prompts are ordered by {spec.scheduling.policy}"
    return _without_plugin(spec)


def _gave_up(order: PromptOrder) -> bool:
    return not order.active and not _PASSING.issuperset(order.fallbacks)


def _without_plugin(spec: DisaggregatedInferenceSpec) -> Verdict:
    own = engine_order(spec)
    if own.flags:
        message = (
            f"image {spec.engine.image} has no plugin of dopd: SGLang's own {OWN_ORDER} orders the prompts, and no"
            " other field of spec.scheduling has an effect"
        )
        return Status.TRUE, Reason.ENGINE_POLICY, message
    message = (
        f"the engine's own order holds: image {spec.engine.image} has no plugin of dopd, and {OWN_ORDER} is not set,"
        f" since {own.why_not}. Use an image with the plugin; or set spec.scheduling.policy to EngineDefault, if that"
        " is meant"
    )
    return Status.FALSE, Reason.ENGINE_ORDER, message


def _named(orders: Mapping[str, PromptOrder]) -> str:
    names = sorted(orders)
    more = f" and {len(names) - NAMED_WORKERS} more" if len(names) > NAMED_WORKERS else ""
    return f"prefill {'workers' if len(names) > 1 else 'worker'} {', '.join(names[:NAMED_WORKERS])}{more}"
