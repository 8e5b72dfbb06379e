"""The settings file, which the operator writes into a ConfigMap that is mounted as a folder.

A ConfigMap's folder is replaced whole, a minute or less after it was written; no restart, no port, no credentials.
"""

import json
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dopd_scheduling import ORDERS, Points, ServiceTimes, Settings

VERSION = 1
ENGINE_DEFAULT = "engine-default"
FILE_VARIABLE = "DOPD_SCHEDULING_FILE"
DEFAULT_FILE = "/etc/dopd/scheduling/scheduling.json"
LATE_PROMPTS = ("Serve", "Refuse")


@dataclass(frozen=True)
class Scheduling:
    """What the operator asks for; the defaults hold without a file.

    Attributes:
        policy: name of an order, or "engine-default" for SGLang's own.
        ttft_seconds: objective of the time to first token.
        late_share: share of the time for prompts that can not be on time, 0 to 1.
        refuse_late: whether a waiting prompt that can not be on time is ended early.
        predicted_tokens: where short ends and long begins, in uncached tokens.
        most_unfinished: prompts of which a part may be computed at a time.
        times: service times of this engine; None: learned from nothing.
        batch: whether requests of a priority below 0 stand behind all others.
        batch_wait_seconds: after so long such a prompt goes as one that is late.
    """

    policy: str = "on-time-first"
    ttft_seconds: float = 2.0
    late_share: float = Settings.late_share
    refuse_late: bool = False
    predicted_tokens: float = 1024.0
    most_unfinished: int = 3
    times: ServiceTimes | None = None
    batch: bool = False
    batch_wait_seconds: float = math.inf

    def for_order(self, times: ServiceTimes) -> Settings:
        """What an order goes by, with the service times that hold now."""
        return Settings(
            ttft_seconds=self.ttft_seconds,
            times=times,
            late_share=self.late_share,
            predicted_tokens=self.predicted_tokens,
            most_unfinished=self.most_unfinished,
            batch_wait_seconds=self.batch_wait_seconds,
        )


def parse(text: str) -> Scheduling:
    """Read the file's text.

    Raises:
        ValueError: names the field, its value and what is expected.
    """
    try:
        fields = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ValueError(f"expected an object, not {type(fields).__name__}")
    if fields.get("version") != VERSION:
        raise ValueError(
            f"version {fields.get('version')!r}: this plugin knows {VERSION}; use the image of this operator"
        )
    policies = (*ORDERS, ENGINE_DEFAULT)
    default = Scheduling()
    times, batch = fields.get("times"), fields.get("batch")
    if not (batch is None or isinstance(batch, dict)):
        raise ValueError(f"batch {batch!r}: expected an object")
    return Scheduling(
        policy=_choice(fields, "policy", policies, default.policy),
        ttft_seconds=_number(fields, "ttftSeconds", default.ttft_seconds, above=0),
        late_share=_number(fields, "lateShare", default.late_share, least=0, most=1),
        refuse_late=_choice(fields, "latePrompts", LATE_PROMPTS, "Serve") == "Refuse",
        predicted_tokens=_number(fields, "predictedTokens", default.predicted_tokens, least=0),
        most_unfinished=int(_number(fields, "mostUnfinished", default.most_unfinished, least=1, most=16)),
        times=None if times is None else _times(times),
        batch=batch is not None,
        batch_wait_seconds=_number(batch, "maxWaitSeconds", math.inf, above=0)
        if batch and "maxWaitSeconds" in batch
        else math.inf,
    )


def _times(fields: Any) -> ServiceTimes:
    if not isinstance(fields, dict):
        raise ValueError(f"times {fields!r}: expected an object")
    return ServiceTimes(
        pass_points=_points(fields.get("passPoints")),
        attention_seconds=_number(fields, "attentionSeconds", 0.0, least=0),
        transfer_seconds=_number(fields, "transferSeconds", 0.0, least=0),
        transfer_token_seconds=_number(fields, "transferTokenSeconds", 0.0, least=0),
    )


def _points(points: Any) -> Points:
    if not (isinstance(points, list) and points and all(isinstance(point, dict) for point in points)):
        raise ValueError(f"passPoints {points!r:.200}: expected a list of objects with tokens and seconds")
    read: list[tuple[float, float]] = []
    for point in points:
        more_than, least = read[-1] if read else (0.0, 0.0)
        tokens = _number(point, "tokens", None, above=more_than)
        read.append((tokens, _number(point, "seconds", None, least=least)))
    if not read[-1][1]:
        raise ValueError("passPoints: the last seconds are 0: expected more than 0")
    return tuple(read)


def _choice(fields: Mapping[str, Any], name: str, allowed: tuple[str, ...], default: str) -> str:
    value = fields.get(name, default)
    if value not in allowed:
        raise ValueError(f"{name} {value!r}: expected one of {', '.join(allowed)}")
    return str(value)


def _number(
    fields: Mapping[str, Any],
    name: str,
    default: float | None,
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
) -> float:
    value = fields.get(name, default)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # An integer of JSON may be too large for a float, which math.isfinite takes for an error.
    if not (number and abs(value) <= sys.float_info.max and least <= value <= most and value > above):
        limits = [f"above {above:g}"] * (above > -math.inf) + [f"at least {least:g}"] * (least > -math.inf)
        limits += [f"at most {most:g}"] * (most < math.inf)
        raise ValueError(f"{name} {value!r}: expected a number{' ' if limits else ''}{', '.join(limits)}")
    return float(value)


class SettingsFile:
    """Reads the file when it has changed, at most once a second; a bad one leaves the last good settings in force.

    Attributes:
        current: the settings in force.
        error: what is wrong with the file; None if nothing is.
    """

    def __init__(self, path: str | None = None) -> None:
        self.path = Path(path or os.environ.get(FILE_VARIABLE) or DEFAULT_FILE)
        self.current = Scheduling()
        self.error: str | None = None
        self._seen: tuple[int, int, int] | None = None
        self._next_look_seconds = -math.inf

    def refresh(self, now_seconds: float) -> bool:
        """Look at the file, if it is time to.

        Returns:
            Whether `current` or `error` is new.
        """
        if now_seconds < self._next_look_seconds:
            return False
        self._next_look_seconds = now_seconds + 1.0
        try:
            state = os.stat(self.path)
        except OSError:  # not mounted, or the operator has taken it away: what was asked for last holds
            return False
        seen = (state.st_ino, state.st_mtime_ns, state.st_size)
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            self.current, self.error = parse(self.path.read_text("utf-8")), None
        except (OSError, ValueError) as error:
            self.error = f"{self.path}: {error}"
        return True
