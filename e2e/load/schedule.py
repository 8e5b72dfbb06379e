"""What is sent and when: read from a trace or made up evenly, cut, thinned or thickened, and compressed in time."""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from dopd.replay.trace import load


class TraceError(ValueError):
    """A trace file cannot be used; the message names file, line, column and what was expected."""


@dataclass(frozen=True)
class Arrival:
    """One request of a schedule.

    Attributes:
        at_seconds: when it is sent, since the start of the schedule.
        input_tokens: length of its prompt.
        output_tokens: tokens that it asks for.
    """

    at_seconds: float
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class Schedule:
    """Requests in the order in which they are sent.

    Attributes:
        arrivals: the requests, by time.
        speedup: seconds of the trace in one second of the clock; times of arrivals are seconds of the clock.
    """

    arrivals: tuple[Arrival, ...]
    speedup: float = 1.0

    def __len__(self) -> int:
        return len(self.arrivals)

    def __iter__(self) -> Iterator[Arrival]:
        return iter(self.arrivals)

    @classmethod
    def steady(cls, *, requests_per_second: float, seconds: float, input_tokens: int, output_tokens: int) -> Self:
        """Equal requests at equal distances."""
        count = round(requests_per_second * seconds)
        return cls(tuple(Arrival(i / requests_per_second, input_tokens, output_tokens) for i in range(count)))

    @property
    def seconds(self) -> float:
        """Time of the last arrival."""
        return self.arrivals[-1].at_seconds if self.arrivals else 0.0

    def window(self, start_seconds: float = 0.0, length_seconds: float = math.inf) -> Self:
        """The arrivals of a window, with times from its start."""
        end = start_seconds + length_seconds
        inside = (a for a in self.arrivals if start_seconds <= a.at_seconds < end)
        return replace(self, arrivals=tuple(replace(a, at_seconds=a.at_seconds - start_seconds) for a in inside))

    def scaled(self, factor: float, seed: int = 0) -> Self:
        """The same load `factor` times as dense, the same each time for one seed.

        Below 1 each request is kept with that probability. Above 1 a request is repeated, each copy at a random moment
        of the gap that follows it, so that copies do not arrive as bursts.
        """
        if not factor > 0:
            raise ValueError(f"rate scale is {factor}; expected a number greater than zero")
        chance = random.Random(seed)
        taken: list[Arrival] = []
        for arrival, following in zip(self.arrivals, [*self.arrivals[1:], *self.arrivals[-1:]], strict=True):
            copies = math.floor(factor) + (chance.random() < factor % 1)
            gap = following.at_seconds - arrival.at_seconds
            offsets = [0.0, *(chance.random() * gap for _ in range(copies - 1))][:copies]
            taken += (replace(arrival, at_seconds=arrival.at_seconds + offset) for offset in offsets)
        return replace(self, arrivals=tuple(sorted(taken, key=lambda a: a.at_seconds)))

    def compressed(self, speedup: float) -> Self:
        """The same requests `speedup` times as fast."""
        if not speedup > 0:
            raise ValueError(f"speedup is {speedup}; expected a number greater than zero")
        faster = tuple(replace(a, at_seconds=a.at_seconds / speedup) for a in self.arrivals)
        return replace(self, arrivals=faster, speedup=self.speedup * speedup)

    def led_in(self, seconds: float, seed: int = 0) -> Self:
        """The same load after a lead-in: its first `seconds` once before, thinned so that they rise from nothing.

        A trace begins in the middle of a service's life; a server that has just started has none behind it. The rise is
        as slow as the lead-in allows, so that a forecaster does not learn from it that loads jump.
        """
        chance = random.Random(seed)
        start = self.window(0.0, seconds).arrivals
        lead = tuple(a for a in start if chance.random() < a.at_seconds / seconds)
        later = tuple(replace(a, at_seconds=a.at_seconds + seconds) for a in self.arrivals)
        return replace(self, arrivals=lead + later)

    def at_most(self, requests: int | None = None, seconds: float | None = None) -> Self:
        """The first `requests` requests that come within `seconds` of the clock."""
        kept = self.arrivals if seconds is None else [a for a in self.arrivals if a.at_seconds <= seconds]
        return replace(self, arrivals=tuple(kept[:requests]))


def read_trace(path: Path) -> Schedule:
    """Read a trace as `dopd replay` does: of any format that it reads, with times from the first request on.

    Raises:
        TraceError: the file cannot be read or breaks the format; names the line.
    """
    try:
        trace = load(path)
    except ValueError as error:
        raise TraceError(f"trace {error}") from error
    columns = (trace.arrival_seconds, trace.input_tokens, trace.output_tokens)
    return Schedule(tuple(map(Arrival, *(column.tolist() for column in columns))))
