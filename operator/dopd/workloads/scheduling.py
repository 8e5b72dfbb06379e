"""The settings that dopd's plugin orders prompts by, as a file in every prefill worker.

One ConfigMap for a resource, mounted as a folder: the kubelet brings a change into running pods within about a minute.
Values that are predicted or measured are written again only when they have moved by a tenth.
"""

import json
import math
from typing import Any

from pydantic.alias_generators import to_camel

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.api.scheduling import SchedulingPolicy
from dopd.perf import EngineModel, service_times
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

WORTH_WRITING = 0.1
"""A predicted or measured value that moved by less than this share is not written again."""


def scheduling_config(
    owner: Owner,
    spec: DisaggregatedInferenceSpec,
    *,
    engine: EngineModel | None = None,
    predicted_tokens: float | None = None,
    stored: Manifest | None = None,
) -> Manifest:
    """The ConfigMap with the settings.

    Args:
        owner: the resource.
        spec: its spec.
        engine: performance of one prefill worker; None while it is not known.
        predicted_tokens: mean of the uncached prompt tokens that is expected; None while it is not known.
        stored: the ConfigMap as it is; None when there is none. What is not known now stays as it says, unless the
            resource does not scale: then nothing is predicted.
    """
    old = _measured(stored) if stored and spec.scaling else {}
    new: _Measured = {}
    if predicted_tokens is not None:
        new["predictedTokens"] = _rounded(predicted_tokens)
    if engine is not None:
        new["times"] = _times(engine)
    settings = {
        "version": VERSION,
        "policy": PLUGIN_POLICIES[spec.scheduling.policy],
        "ttftSeconds": spec.slo.ttft_seconds,
        "lateShare": spec.scheduling.late_share,
        "latePrompts": spec.scheduling.late_prompts,
        "mostUnfinished": spec.scheduling.most_unfinished,
        **{name: _settled(old.get(name), new.get(name)) for name in _MEASURED if name in old or name in new},
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": owner.metadata(Role.PREFILL),
        "data": {FILE: json.dumps(settings, indent=2) + "\n"},
    }


def scheduling_volume(owner: Owner) -> Manifest:
    """The folder as a volume; a pod starts without it, too."""
    return {"name": "scheduling", "configMap": {"name": owner.child_name(Role.PREFILL), "optional": True}}


def scheduling_mount() -> Manifest:
    """Where the volume stands. Not a single file (subPath): that one would never change."""
    return {"name": "scheduling", "mountPath": FOLDER, "readOnly": True}


_Value = float | dict[str, float]
_Measured = dict[str, _Value]
_MEASURED = ("predictedTokens", "times")


def _times(engine: EngineModel) -> dict[str, float]:
    return {to_camel(name): _rounded(value) for name, value in vars(service_times(engine)).items()}


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _measured(config: Manifest) -> _Measured:
    """What a stored ConfigMap says of measured and predicted values, as far as it can be read."""
    try:
        settings = json.loads(config["data"][FILE])
        found = {name: settings[name] for name in _MEASURED if name in settings}
        return {name: _numbers(value) for name, value in found.items()}
    except (KeyError, TypeError, ValueError, AttributeError):  # somebody's edit: written anew
        return {}


def _numbers(value: Any) -> _Value:
    numbers = {name: float(number) for name, number in value.items()} if isinstance(value, dict) else float(value)
    for name, number in _flat(numbers).items():
        if not (math.isfinite(number) and (number >= 0 or name == "fixedSeconds")):
            raise ValueError(f"{name} {number}: expected a finite number of at least 0")
    return numbers


def _settled(old: _Value | None, new: _Value | None) -> _Value | None:
    """The new value; the old one while the new is not known, or no number of it moved by a tenth."""
    if new is None or old is None:
        return new if old is None else old
    before, after = _flat(old), _flat(new)
    same = before.keys() == after.keys()
    return old if same and all(abs(after[n] - v) <= WORTH_WRITING * abs(v) for n, v in before.items()) else new


def _flat(value: _Value) -> dict[str, float]:
    return value if isinstance(value, dict) else {"": value}
