"""The policies by name, each as strong as it can be tuned.

A policy that has a knob is tried with several values, and the report shows the cheapest run that reaches the
attainment, or the one of highest attainment if none does, with the value that gave it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from dopd.planning.bounds import Pair
from dopd.replay.policies import static
from dopd.replay.policies.base import ScalingPolicy, Setting
from dopd.replay.policies.dopd import Dopd
from dopd.replay.policies.dynamo import DynamoLoad, DynamoSla
from dopd.replay.policies.hpa import Hpa
from dopd.replay.policies.paper import Paper
from dopd.replay.trace import Trace


@dataclass(frozen=True)
class Try:
    """One policy with one value of its knob.

    Attributes:
        label: the knob and its value; "" without a knob.
        start: counts at the beginning.
        policy: makes the policy; None for fixed counts.
    """

    label: str
    start: Pair
    policy: Callable[[], ScalingPolicy] | None


HINDSIGHT_FACTORS = (1.0, 1.15, 1.3, 1.5)
"""Factors on the load that policies with hindsight are tried with where prefixes are cached: what is cached depends on
the number of workers, so that a size taken from another replay may be too small."""

NAMES = ("dopd", "dopd-paper", "dynamo-sla", "dynamo-load", "hpa", "static-1-3", "static-peak", "oracle")
VARIANTS = ("dopd@flips", "dopd@no-forecast")
"""Run only when asked for: dopd that lets workers change their role; dopd without a forecaster."""


def tries(name: str, setting: Setting, trace: Trace) -> list[Try]:
    """What to run for a policy.

    Raises:
        ValueError: no policy of this name.
    """
    start = static.first_counts(setting, trace)
    if name == "dopd":
        return [Try("", start, lambda: Dopd(setting))]
    if name == "dopd@flips":
        return [Try("", start, lambda: Dopd(setting, role_switching=True))]
    if name == "dopd@no-forecast":
        return [Try("", start, lambda: Dopd(setting, forecaster=None))]
    if name == "dopd-paper":
        return [Try("", start, lambda: Paper(setting))]
    if name == "dynamo-sla":
        return [
            Try(
                f"interval {interval:g} s, objectives x {tightening:g}",
                start,
                lambda interval=interval, tightening=tightening: DynamoSla(setting, interval, tightening),  # type: ignore[misc]
            )
            for interval, tightening in ((180.0, 1.0), (180.0, 0.3), (60.0, 1.0), (60.0, 0.3))
        ]
    if name == "dynamo-load":
        return [
            Try(f"objectives x {factor:g}", start, lambda factor=factor: DynamoLoad(setting, factor))  # type: ignore[misc]
            for factor in (1.0, 0.3)
        ]
    if name == "hpa":
        return [
            Try(f"target {target:g}", start, lambda target=target: Hpa(setting, target))  # type: ignore[misc]
            for target in (0.3, 0.4, 0.55, 0.7)
        ]
    if name == "static-1-3":
        return [Try("", static.one_to_three(static.peak(setting, trace), setting), None)]
    if name == "static-peak":
        return [Try(label, static.peak(setting, trace, factor), None) for label, factor in _hindsight(trace)]
    if name == "oracle":
        return [
            Try(label, start, lambda factor=factor: static.Oracle(setting, trace, factor))  # type: ignore[misc]
            for label, factor in _hindsight(trace)
        ]
    raise ValueError(f"policy {name}: expected one of {', '.join(NAMES + VARIANTS)}")


def _hindsight(trace: Trace) -> list[tuple[str, float]]:
    if trace.uncached_tokens is None:
        return [("", 1.0)]
    return [(f"load x {factor:g}", factor) for factor in HINDSIGHT_FACTORS]
