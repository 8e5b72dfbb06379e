"""The loads that the docs are about, and which of them constants may be chosen by.

What decides a constant, a default or a rule is looked at on loads of the split `chosen by` alone. `held out` are loads
on which nothing was chosen; once one was looked at for a choice it moves, and stays. `own` are generated: they show a
kind of load and stand for no service.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

LONG_PROMPTS = ("--slo-ttft", "15", "--slo-itl", "0.1")
"""Mooncake's prompts reach 126,000 tokens, which take seconds on an idle worker."""
STEPS = ("--within", "constant")


class Split(StrEnum):
    """What a load may be used for."""

    CHOSEN_BY = "chosen by"
    HELD_OUT = "held out"
    OWN = "own"


@dataclass(frozen=True)
class Load:
    """A trace, and how much of it for each model.

    Attributes:
        name: short, and unique.
        trace: file name without its ending, or `generated:NAME`.
        scale_8b: rate scale for the 8B model.
        scale_70b: rate scale for the 70B model; None where it is not run.
        split: what it may be used for.
        looked_at: when and for what, of those that were.
        options: further options of `dopd replay`.
        history: begin of the history in the trace, seconds; None without.
        clients: whether a file tells how bursty each client is.
    """

    name: str
    trace: str
    scale_8b: float
    scale_70b: float | None
    split: Split
    looked_at: str = ""
    options: tuple[str, ...] = ()
    history: float | None = None
    clients: bool = False


def part(start_hour: float, hours: float = 6) -> tuple[str, ...]:
    """Options for a part of a trace."""
    return "--from-seconds", f"{start_hour * 3600:g}", "--to-seconds", f"{(start_hour + hours) * 3600:g}"


def shortened(load: Load, hours: float) -> Load:
    """The first hours of a load, under a name that says so; a load that is known to be no longer as it is."""
    values = dict(zip(load.options[::2], load.options[1::2], strict=True))
    start = float(values.get("--from-seconds", 0.0))
    end = start + hours * 3600
    if float(values.get("--to-seconds", "inf")) <= end:
        return load
    values |= {"--from-seconds": f"{start:g}", "--to-seconds": f"{end:g}"}
    options = tuple(word for pair in values.items() for word in pair)
    return replace(load, name=f"{load.name}-first-{hours:g}h", options=options)


_LARGE, _MID, _R1 = "servegen-m-large-agg600s", "servegen-m-mid-agg600s", "servegen-deepseek-r1-agg600s"
AZURE_TWO_DAYS = "azure2024-conv-days1to2-60s"
"""Made of the requests of two days and the lengths of the first (`dopd.replay.lengths_of`)."""
_OLD, _TRIAL = "to 0.3, the planner before", "2026-11-29, trial of the peak ahead"
_CHOSEN, _HELD, _OWN = Split.CHOSEN_BY, Split.HELD_OUT, Split.OWN
WEEK_SECONDS = 7 * 86_400.0
_OFFICE_MONDAY = 14 * 24
"""Hour at which the third week of the office day begins."""

LOADS = (
    Load("azure2023-conv", "azure2023-conv", 20, 8, _CHOSEN, f"{_OLD}; {_TRIAL}"),
    Load("mooncake-conversation", "mooncake-conversation", 5, 2, _CHOSEN, f"{_OLD}; {_TRIAL}", LONG_PROMPTS),
    Load("mooncake-synthetic", "mooncake-synthetic", 5, 2, _CHOSEN, f"{_OLD}; {_TRIAL}", LONG_PROMPTS),
    Load("m-large-16", _LARGE, 0.3, 0.3, _CHOSEN, f"{_OLD}; {_TRIAL}", part(16), clients=True),
    Load("m-large-136", _LARGE, 0.3, 0.3, _CHOSEN, f"{_OLD}; {_TRIAL}", part(136), clients=True),
    Load("m-mid-0", _MID, 0.1, 0.1, _CHOSEN, f"{_OLD}; {_TRIAL}", part(0), clients=True),
    Load("m-mid-96", _MID, 0.1, 0.1, _CHOSEN, f"{_OLD}; {_TRIAL}", part(96), clients=True),
    Load("m-large-16-steps", _LARGE, 0.3, 0.3, _CHOSEN, f"{_OLD}; {_TRIAL}", (*part(16), *STEPS)),
    Load("m-mid-0-steps", _MID, 0.1, 0.1, _CHOSEN, f"{_OLD}; {_TRIAL}", (*part(0), *STEPS)),
    Load("deepseek-r1", _R1, 0.5, 0.2, _CHOSEN, _OLD),
    Load("azure2024-day1", "azure2024-conv-day1-60s", 1, 1, _CHOSEN, f"{_OLD}; counts: {_TRIAL}"),
    Load("m-mid-200", _MID, 0.03, 0.03, _HELD, "", part(200, 3), history=200 * 3600 - WEEK_SECONDS, clients=True),
    Load("m-mid-294", _MID, 0.03, 0.03, _HELD, "", part(294, 3), history=294 * 3600 - WEEK_SECONDS, clients=True),
    Load("m-large-200", _LARGE, 0.3, 0.3, _HELD, "", part(200), history=200 * 3600 - WEEK_SECONDS, clients=True),
    Load("m-large-320", _LARGE, 0.3, 0.3, _HELD, "", part(320), history=320 * 3600 - WEEK_SECONDS, clients=True),
    Load(
        "azure2024-day2", AZURE_TWO_DAYS, 1, 1, _CHOSEN, f"counts: {_TRIAL}", ("--from-seconds", "86400"), history=0.0
    ),
    Load("office-day", "generated:office-day", 1, None, _OWN, "", part(_OFFICE_MONDAY + 24 + 6, 14), history=0.0),
    Load("bursts", "generated:bursts", 1, None, _OWN, "", part(1, 1.5), history=0.0),
    Load("jumps", "generated:jumps", 1, None, _OWN, "", part(1, 3), history=0.0),
    Load("steps", "generated:steps", 1, None, _OWN, "", part(1, 3), history=0.0),
    Load("flat", "generated:flat", 1, None, _OWN, "", part(1, 3), history=0.0),
    Load("mix", "generated:mix", 1, None, _OWN, "", part(240 + 8, 6), history=240 * 3600 - WEEK_SECONDS),
)
