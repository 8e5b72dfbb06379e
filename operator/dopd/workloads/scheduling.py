"""The settings that dopd's plugin orders prompts by, as a file in every prefill worker.

One ConfigMap for a resource, mounted as a folder: the kubelet brings a change into running pods within about a minute.
Values that are predicted or measured are written again only when they have moved by a tenth.
"""

import json
from itertools import pairwise
from typing import Any, TypeVar

from pydantic import Field, ValidationError, field_validator
from pydantic.alias_generators import to_camel

from dopd.api.base import Model, seconds
from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.api.scheduling import Batch, SchedulingPolicy
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
    old = _measured(stored) if stored and spec.scaling else _Measured()
    new = _Measured(
        predicted_tokens=None if predicted_tokens is None else _rounded(predicted_tokens),
        times=None if engine is None else _times(engine),
    )
    settings = {
        "version": VERSION,
        "policy": PLUGIN_POLICIES[spec.scheduling.policy],
        "ttftSeconds": spec.slo.ttft_seconds,
        "lateShare": spec.scheduling.late_share,
        "latePrompts": spec.scheduling.late_prompts,
        "mostUnfinished": spec.scheduling.most_unfinished,
        **_batch(spec.scheduling.batch),
        **_settled(old, new).model_dump(by_alias=True, exclude_none=True),
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": owner.metadata(Role.PREFILL),
        "data": {FILE: json.dumps(settings, indent=2) + "\n"},
    }


def _batch(batch: Batch | None) -> dict[str, Any]:
    """Left out where no batch is told apart, so that a file that needs none stays as it was."""
    if batch is None:
        return {}
    return {"batch": {"maxWaitSeconds": seconds(batch.max_wait)} if batch.max_wait else {}}


def scheduling_volume(owner: Owner) -> Manifest:
    """The folder as a volume; a pod starts without it, too."""
    return {"name": "scheduling", "configMap": {"name": owner.child_name(Role.PREFILL), "optional": True}}


def scheduling_mount() -> Manifest:
    """Where the volume stands. Not a single file (subPath): that one would never change."""
    return {"name": "scheduling", "mountPath": FOLDER, "readOnly": True}


class _Point(Model):
    tokens: float = Field(gt=0, allow_inf_nan=False)
    seconds: float = Field(ge=0, allow_inf_nan=False)


class _Times(Model):
    pass_points: list[_Point] = Field(min_length=1)
    attention_seconds: float = Field(ge=0, allow_inf_nan=False)
    transfer_seconds: float = Field(ge=0, allow_inf_nan=False)
    transfer_token_seconds: float = Field(ge=0, allow_inf_nan=False)

    @field_validator("pass_points")
    @classmethod
    def _ascending(cls, points: list[_Point]) -> list[_Point]:
        if any(b.tokens <= a.tokens or b.seconds < a.seconds for a, b in pairwise(points)):
            raise ValueError("expected ascending tokens, and seconds that never fall")
        return points


class _Measured(Model):
    """What is measured or predicted, as the file says it."""

    predicted_tokens: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    times: _Times | None = None


def _times(engine: EngineModel) -> _Times:
    times = service_times(engine)
    return _Times(
        pass_points=[_Point(tokens=tokens, seconds=_rounded(seconds)) for tokens, seconds in times.pass_points],
        attention_seconds=_rounded(times.attention_seconds),
        transfer_seconds=_rounded(times.transfer_seconds),
        transfer_token_seconds=_rounded(times.transfer_token_seconds),
    )


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _measured(config: Manifest) -> _Measured:
    """What a stored ConfigMap says of it, each of the two as far as it can be read."""
    try:
        settings = json.loads(config["data"][FILE])
        stored = {name: settings[name] for name in map(to_camel, _Measured.model_fields) if name in settings}
    except (KeyError, TypeError, ValueError, AttributeError):  # somebody's edit: written anew
        return _Measured()
    return _Measured.model_validate({name: value for name, value in stored.items() if _can_be_read(name, value)})


def _can_be_read(name: str, value: Any) -> bool:
    try:
        _Measured.model_validate({name: value})
    except ValidationError:
        return False
    return True


def _settled(old: _Measured, new: _Measured) -> _Measured:
    """Of each the new value; the old one while the new is not known, or no number of it moved by a tenth."""
    return _Measured(
        predicted_tokens=_kept(old.predicted_tokens, new.predicted_tokens),
        times=_kept(old.times, new.times),
    )


_Value = TypeVar("_Value", float | None, _Times | None)


def _kept(old: _Value, new: _Value) -> _Value:
    if new is None or old is None:
        return new if old is None else old
    before, after = _numbers(old), _numbers(new)
    same = len(before) == len(after)
    moved = any(abs(b - a) > WORTH_WRITING * abs(a) for a, b in zip(before, after, strict=False))
    return old if same and not moved else new


def _numbers(value: float | _Times) -> list[float]:
    if not isinstance(value, _Times):
        return [value]
    points = [number for point in value.pass_points for number in (point.tokens, point.seconds)]
    return [*points, value.attention_seconds, value.transfer_seconds, value.transfer_token_seconds]
