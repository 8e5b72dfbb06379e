"""The formats in which traces are written and published, and what the cells of their columns may hold.

Times are told apart by their size, one unit a file: below 1e11 they are in the unit of the format (seconds but for
Mooncake, milliseconds), from the start of the trace or since the epoch; from 1e11 on in milliseconds, from 1e14 on in
microseconds and from 1e17 on in nanoseconds since the epoch, which are the years 1973 to 5138 each. What is no number
is a date and a time (ISO 8601), of UTC unless it says otherwise.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

MOST_TOKENS = (1e7, 1e6)
"""Of one prompt and of one answer: no model takes or gives more, and a replay of it still ends within a minute."""
MOST_REQUESTS = 40_000_000
"""Of one trace; the longest published one (a week of Azure's) has 27 million."""
MOST_SPAN_SECONDS = 400 * 86400.0
"""From the first request to the last: more is one time of another clock."""
_MOST_TOTAL = 1e15
_MOST_TIME = 1e20
EPOCH_UNITS = ((1e17, 1e-9, "nanoseconds"), (1e14, 1e-6, "microseconds"), (1e11, 1e-3, "milliseconds"))
"""Since the epoch: from which number on, how many seconds, and the name of the unit."""


class Kind(StrEnum):
    """What a row stands for."""

    REQUESTS = "requests"
    TOTALS = "totals"
    RATES = "rates"


@dataclass(frozen=True)
class Column:
    """What the cells of a column may hold: numbers of at least 0.

    Attributes:
        name: in the header.
        expected: what its numbers are, for messages.
        most: the greatest that it can mean.
        unit_seconds: of a time that is not since the epoch in a smaller unit; 0 for what is no time.
    """

    name: str
    expected: str
    most: float
    unit_seconds: float = 0.0


@dataclass(frozen=True)
class Format:
    """One way to write a trace.

    Attributes:
        name: for people.
        kind: what a row stands for.
        columns: the time, with totals and rates the requests, then prompt and output tokens.
        blocks: the column with the blocks of a prompt, if it may be there; requests only.
        block_tokens: tokens of one of them.
        besides: further columns by which the format is known.
    """

    name: str
    kind: Kind
    columns: tuple[Column, ...]
    blocks: str = ""
    block_tokens: int = 512
    besides: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns that must be there."""
        return tuple(column.name for column in self.columns)


def _time(name: str, unit_seconds: float = 1.0) -> Column:
    unit = "seconds" if unit_seconds == 1.0 else "milliseconds"
    return Column(name, unit, _MOST_TIME, unit_seconds)


def _requests(*names: str, unit_seconds: float = 1.0) -> tuple[Column, ...]:
    time, *tokens = names
    lengths = (Column(name, "a number of tokens", most) for name, most in zip(tokens, MOST_TOKENS, strict=True))
    return (_time(time, unit_seconds), *lengths)


def _totals(names: tuple[str, ...], of_requests: str, of_tokens: str) -> tuple[Column, ...]:
    time, requests, *tokens = names
    return (
        _time(time),
        Column(requests, of_requests, MOST_REQUESTS),
        *(Column(name, of_tokens, _MOST_TOTAL) for name in tokens),
    )


_TOTALS = ("t_s", "requests", "input_tokens", "output_tokens")
_RATES = ("t_s", "rate_rps_with_tokens", "input_tok_per_s", "output_tok_per_s")
_LENGTHS = ("timestamp", "input_length", "output_length")

FORMATS = (
    Format("requests", Kind.REQUESTS, _requests("arrival_s", "input_tokens", "output_tokens"), "hash_ids"),
    Format("totals", Kind.TOTALS, _totals(_TOTALS, "a number of requests", "a number of tokens")),
    Format("rates", Kind.RATES, _totals(_RATES, "a number per second", "a number per second")),
    Format("Azure", Kind.REQUESTS, _requests("TIMESTAMP", "ContextTokens", "GeneratedTokens")),
    Format("BurstGPT", Kind.REQUESTS, _requests("Timestamp", "Request tokens", "Response tokens")),
    Format("Qwen-Bailian", Kind.REQUESTS, _requests(*_LENGTHS), "hash_ids", block_tokens=16, besides=("chat_id",)),
    Format("Mooncake", Kind.REQUESTS, _requests(*_LENGTHS, unit_seconds=1e-3), "hash_ids"),
)
"""The first that fits is taken."""


def find(names: Collection[str]) -> Format | None:
    """The format whose columns are all among `names`."""
    there = set(names)
    return next((each for each in FORMATS if there.issuperset((*each.names, *each.besides))), None)


def expected() -> str:
    """All formats, for the message that refuses a header."""
    own = " or ".join(f"{', '.join(each.names)} ({each.name})" for each in FORMATS[:3])
    published = ", ".join(each.name for each in FORMATS[3:])
    return f"{own}, or a trace as {published} publish theirs"


def seconds_since_epoch(text: str) -> float:
    """A date and a time of ISO 8601.

    Raises:
        ValueError: it is none.
    """
    moment = datetime.fromisoformat(text.strip())
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
