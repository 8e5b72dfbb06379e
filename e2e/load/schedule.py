"""What is sent and when: read from a trace or made up evenly, cut, thinned or thickened, and compressed in time."""

import csv
import gzip
import io
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

COLUMNS = ("arrival_s", "input_tokens", "output_tokens")
_GZIP_MAGIC = b"\x1f\x8b"


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
    """Read a trace: CSV, gzip or not, with at least the columns `arrival_s`, `input_tokens` and `output_tokens`.

    Times are made relative to the first row.

    Raises:
        TraceError: the file cannot be read or breaks the format; names the line.
    """
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if content.startswith(_GZIP_MAGIC) else content).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error  # that of the system names no file: it is named already
        raise TraceError(f"trace {path}: {reason}; expected a CSV file, gzip or not") from error
    rows = csv.DictReader(io.StringIO(text, newline=""))
    missing = [name for name in COLUMNS if name not in (rows.fieldnames or [])]
    if missing:
        raise TraceError(f"trace {path}, line 1: no column {missing[0]}; expected a header with {','.join(COLUMNS)}")
    arrivals: list[Arrival] = []
    for row in rows:
        where = f"trace {path}, line {rows.line_num}"
        arrival = _arrival(row, where)
        if arrivals and arrival.at_seconds < arrivals[-1].at_seconds:
            raise TraceError(f"{where}: arrival_s {row['arrival_s']} is before that of the line above; sort the file")
        arrivals.append(arrival)
    if not arrivals:
        raise TraceError(f"trace {path}: no request after the header")
    return Schedule(_from_zero(arrivals))


def _from_zero(arrivals: Sequence[Arrival]) -> tuple[Arrival, ...]:
    return tuple(replace(a, at_seconds=a.at_seconds - arrivals[0].at_seconds) for a in arrivals)


def _arrival(row: dict[str, str | None], where: str) -> Arrival:
    return Arrival(
        _number(row, "arrival_s", where),
        _tokens(row, "input_tokens", where),
        _tokens(row, "output_tokens", where),
    )


def _number(row: dict[str, str | None], column: str, where: str) -> float:
    try:
        value = float(row[column] or "")
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise TraceError(f"{where}: {column} is {row[column]!r}; expected a number of at least 0")
    return value


def _tokens(row: dict[str, str | None], column: str, where: str) -> int:
    value = _number(row, column, where)
    if value < 1 or value != int(value):
        raise TraceError(f"{where}: {column} is {row[column]!r}; expected a whole number of at least 1")
    return int(value)
