"""The settings that dopd's plugin orders prompts by, as a file in every prefill worker.

One ConfigMap for a resource, mounted as a folder: the kubelet brings a change into running pods within about a minute.
Values that are predicted or measured are written again only when they have moved by a tenth.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dopd.api.base import GROUP
from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.api.scheduling import SchedulingPolicy
from dopd.perf import EngineModel, PrefillTimes
from dopd.workloads.meta import Manifest, Owner

FOLDER = "/etc/dopd/scheduling"
FILE = "scheduling.json"
VERSION = 1
"""Of the file's form."""

PLUGIN_POLICIES = {
    SchedulingPolicy.ON_TIME_FIRST: "on-time-first",
    SchedulingPolicy.SHORTEST_FIRST: "shortest-first",
    SchedulingPolicy.ENGINE_DEFAULT: "engine-default",
}
"""What the plugin calls the policies."""

PROMPT_TOKENS_ANNOTATION = f"{GROUP}/predicted-prompt-tokens"
"""Mean prompt length that the transfer time in the file rests on, for the operator itself."""

WORTH_WRITING = 0.1
LEAST_OBJECTIVE_SHARE = 0.1
"""What is left of the objective where the transfer of a mean prompt alone takes all of it."""


@dataclass(frozen=True)
class PromptLengths:
    """Mean lengths of the prompts that are expected, tokens: whole, and without what the prefix cache holds."""

    tokens: float
    uncached_tokens: float


def scheduling_config(
    owner: Owner,
    spec: DisaggregatedInferenceSpec,
    *,
    engine: EngineModel | None = None,
    expected: PromptLengths | None = None,
    stored: Manifest | None = None,
) -> Manifest:
    """The ConfigMap with the settings.

    Args:
        owner: the resource.
        spec: its spec.
        engine: performance of one prefill worker; None while it is not known.
        expected: prompts that are expected; None while they are not known.
        stored: the ConfigMap as it is; None when there is none. What is not known now stays as it says, unless the
            resource does not scale: then nothing is predicted.
    """
    old = _Stored.of(stored) if stored and spec.scaling else _Stored()
    times = _settled(old.times, _times(engine) if engine else None)
    lengths = _settled(old.lengths, _lengths(expected) if expected else None)
    settings: dict[str, Any] = {
        "version": VERSION,
        "policy": PLUGIN_POLICIES[spec.scheduling.policy],
        "ttftSeconds": _prefill_objective_seconds(spec.slo.ttft_seconds, engine, lengths),
        "lateShare": spec.scheduling.late_share,
        "latePrompts": spec.scheduling.late_prompts,
        "mostUnfinished": spec.scheduling.most_unfinished,
    }
    extra: dict[str, Any] = {}
    if lengths:
        settings["predictedTokens"] = lengths["uncachedTokens"]
        extra["annotations"] = {PROMPT_TOKENS_ANNOTATION: f"{lengths['tokens']:g}"}
    if times:
        settings["times"] = times
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": owner.metadata(Role.PREFILL, **extra),
        "data": {FILE: json.dumps(settings, indent=2) + "\n"},
    }


def scheduling_volume(owner: Owner) -> Manifest:
    """The folder as a volume; a pod starts without it, too."""
    return {"name": "scheduling", "configMap": {"name": owner.child_name(Role.PREFILL), "optional": True}}


def scheduling_mount() -> Manifest:
    """Where the volume stands. Not a single file (subPath): that one would never change."""
    return {"name": "scheduling", "mountPath": FOLDER, "readOnly": True}


@dataclass(frozen=True)
class _Stored:
    """What a stored ConfigMap says, as far as it can be read."""

    times: Mapping[str, float] | None = None
    lengths: Mapping[str, float] | None = None

    @classmethod
    def of(cls, config: Manifest) -> "_Stored":
        try:
            settings = json.loads(config["data"][FILE])
            lengths = {
                "tokens": config["metadata"].get("annotations", {}).get(PROMPT_TOKENS_ANNOTATION),
                "uncachedTokens": settings.get("predictedTokens"),
            }
            return cls(_numbers(settings.get("times"), _TIMES), _numbers(lengths, lengths))
        except (KeyError, TypeError, ValueError, AttributeError):  # somebody's edit: written anew
            return cls()


_TIMES = {
    "leastSeconds": "least_seconds",
    "fixedSeconds": "fixed_seconds",
    "tokenSeconds": "token_seconds",
    "attentionSeconds": "attention_seconds",
}


def _times(engine: EngineModel) -> dict[str, float]:
    times = PrefillTimes.of(engine)
    return {name: _rounded(getattr(times, attribute)) for name, attribute in _TIMES.items()}


def _lengths(expected: PromptLengths) -> dict[str, float]:
    return {"tokens": _rounded(expected.tokens), "uncachedTokens": _rounded(expected.uncached_tokens)}


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _numbers(found: Mapping[str, Any] | None, names: Mapping[str, Any]) -> dict[str, float] | None:
    """The numbers of these names; None unless all are there and can be."""
    if not found or any(found.get(name) is None for name in names):
        return None
    numbers = {name: float(found[name]) for name in names}
    return numbers if all(math.isfinite(value) and value >= 0 for value in numbers.values()) else None


def _settled(old: Mapping[str, float] | None, new: Mapping[str, float] | None) -> Mapping[str, float] | None:
    """The new numbers; the old ones while the new are not known, or none of them moved by a tenth."""
    if new is None or old is None:
        return new or old
    return new if any(abs(new[name] - value) > WORTH_WRITING * value for name, value in old.items()) else old


def _prefill_objective_seconds(
    objective_seconds: float, engine: EngineModel | None, lengths: Mapping[str, float] | None
) -> float:
    """The objective, less what the KV cache of a mean prompt takes to move to decode."""
    if engine is None:
        return objective_seconds
    left = objective_seconds - engine.transfer_seconds(lengths["tokens"] if lengths else 0.0)
    return round(max(left, LEAST_OBJECTIVE_SHARE * objective_seconds), 4)
