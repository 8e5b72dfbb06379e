"""The policies by name, each as strong as it can be tuned (`dopd.replay.policies.searches`)."""

from collections.abc import Callable
from dataclasses import replace

from dopd.perf import EngineModel
from dopd.replay.optimum import Optimum
from dopd.replay.policies import searches, static
from dopd.replay.policies.base import Setting
from dopd.replay.policies.dopd import Dopd
from dopd.replay.policies.paper import Paper
from dopd.replay.search import Search, Try, listed
from dopd.replay.trace import Trace

HINDSIGHT_FACTORS = (1.0, 1.15, 1.3, 1.5)
"""Factors on the load that policies with hindsight are tried with where prefixes are cached: what is cached depends on
the number of workers, so that a size taken from another replay may be too small."""

OURS = ("dopd", "dopd@flips", "dopd@no-forecast", "dopd@idle", "dopd@spare")
"""dopd itself, dopd that lets workers change their role, dopd that knows neither history nor forecaster, dopd that lets
no worker run after half an hour without a request, and dopd with a spare worker of each role."""
IDLE_AFTER_SECONDS = 1800.0
HINDSIGHT = ("optimum", "oracle")
"""Know all of the trace in advance: bounds, not peers."""
NAMES = (
    "dopd", "dopd-paper", "dynamo-sla", "dynamo-load", "hpa", "keda", "heteroscale", "tokenscale", "fixed", "optimum",
)  # fmt: skip
DEFAULT = ("dopd", "hpa", "keda", "fixed", "optimum")
"""Run when none is named: searches of all peers take a hundred replays."""
VARIANTS = ("dopd@flips", "dopd@no-forecast", "dopd@idle", "dopd@spare", "static-1-3", "static-peak", "oracle")
"""Run only when asked for."""


def is_peer(name: str) -> bool:
    """Whether dopd is compared with a policy: it is not dopd, in any form, and does not know when the load comes."""
    return name not in OURS and name not in HINDSIGHT and name.partition("@")[0] != "dopd"


def search(name: str, setting: Setting, trace: Trace, engine: EngineModel | None = None) -> Search:
    """What to run for a policy.

    Args:
        name: of the policy.
        setting: what it is told.
        trace: all of it, for what knows the future and for the searches of knobs.
        engine: what the engines are, where the profile that policies are told is wrong.

    Raises:
        ValueError: no policy of this name.
    """
    start = static.first_counts(setting, trace)
    # A team gives its autoscalers a maxReplicas: twice what the busiest minute needs.
    bounded = replace(setting, most=min(setting.most, 2 * max(static.peak(setting, trace))))
    known: dict[str, Callable[[], Search]] = {
        "dopd": lambda: listed([Try("", start, lambda: Dopd(setting))]),
        "dopd@flips": lambda: listed([Try("", start, lambda: Dopd(setting, role_switching=True))]),
        "dopd@no-forecast": lambda: listed([Try("", start, lambda: Dopd(setting, forecast=False))]),
        "dopd@idle": lambda: listed([Try("", start, lambda: Dopd(setting, idle_after_seconds=IDLE_AFTER_SECONDS))]),
        "dopd@spare": lambda: listed([Try("", start, lambda: Dopd(setting, spare=1))]),
        "dopd-paper": lambda: listed([Try("", start, lambda: Paper(setting))]),
        "dynamo-sla": lambda: searches.dynamo_sla(setting, start),
        "dynamo-load": lambda: searches.dynamo_load(setting, start),
        "hpa": lambda: searches.hpa(bounded, start),
        "keda": lambda: searches.keda(bounded, start),
        "heteroscale": lambda: searches.heteroscale(bounded, trace, start),
        "tokenscale": lambda: searches.tokenscale(bounded, start),
        "fixed": lambda: searches.fixed(setting, trace),
        "optimum": lambda: Optimum(setting, trace, engine).search(),
        "static-1-3": lambda: listed([Try("", static.one_to_three(static.peak(setting, trace), setting), None)]),
        "static-peak": lambda: listed(
            [Try(label, static.peak(setting, trace, factor), None) for label, factor in _hindsight(trace)]
        ),
        "oracle": lambda: listed(
            [
                Try(label, start, lambda factor=factor: static.Oracle(setting, trace, factor))  # type: ignore[misc]
                for label, factor in _hindsight(trace)
            ]
        ),
    }
    if name not in known:
        raise ValueError(f"policy {name}: expected one of {', '.join(NAMES + VARIANTS)}")
    return known[name]()


def _hindsight(trace: Trace) -> list[tuple[str, float]]:
    if trace.uncached_tokens is None:
        return [("", 1.0)]
    return [(f"load x {factor:g}", factor) for factor in HINDSIGHT_FACTORS]
