"""The honest table over many replays: first the median and the worst, then each row, losses shown too.

A row is bold where it reaches the objective in the mean over its seeds. What dopd costs is told as a share of what the
cheapest peer costs that reaches it, on the same order of prompts and on the order that engines have without us, and of
the offline optimum.
"""

import json
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from dopd.replay.policies.catalogue import OURS, is_peer
from dopd.replay.workers import FIRST_COME

HEADER = (
    "| load | model, start-up | order | world | policy | attained (least to most) | GPU-hours (least to most) "
    "| of the best peer, same order | of the best peer, fcfs | of the optimum | used: prefill, decode | turns/h "
    "| knob |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Entry:
    """The reports of one row.

    Attributes:
        load: its name.
        split: what it may be used for.
        looked_at: when and for what.
        model: of the profile.
        startup_seconds: of both roles.
        order: of prompts.
        world: in which ways it is worse than told; "" for none.
        reports: files.
    """

    load: str
    split: str
    looked_at: str
    model: str
    startup_seconds: float
    order: str
    world: str
    reports: tuple[Path, ...]


@dataclass(frozen=True)
class Compared:
    """The policies of one row.

    Attributes:
        entry: which row.
        goal: attainment asked for.
        policies: figures by policy, as in a report.
        at_least: GPU-hours below which no schedule comes; NaN if not told.
    """

    entry: Entry
    goal: float
    policies: dict[str, dict[str, Any]]
    at_least: float

    @classmethod
    def read(cls, entry: Entry) -> "Compared":
        """From its reports.

        Raises:
            ValueError, KeyError, TypeError, OSError: one is not what this version writes.
        """
        policies: dict[str, dict[str, Any]] = {}
        goal, at_least = math.nan, math.nan
        for path in entry.reports:
            content = json.loads(path.read_text(encoding="utf-8"))
            goal = content["attainment"]
            at_least = content.get("optimum_at_least_gpu_hours", at_least)
            policies |= content["policies"]
        return cls(entry, goal, policies, at_least)

    def reached(self, name: str) -> bool:
        """Whether a policy attains what is asked for."""
        return bool(self.policies[name]["attainment"] >= self.goal)

    @property
    def best_peer(self) -> tuple[str, float] | None:
        """The cheapest that reaches the objective, and its GPU-hours."""
        peers = [name for name in self.policies if is_peer(name) and self.reached(name)]
        name = min(peers, key=lambda peer: self.policies[peer]["gpu_hours"], default=None)
        return (name, self.policies[name]["gpu_hours"]) if name else None

    @property
    def optimum(self) -> float | None:
        """GPU-hours of the verified schedule, or of what is cheaper still; None where no schedule could be verified."""
        if "optimum" not in self.policies or not self.reached("optimum"):
            return None
        return min(float(p["gpu_hours"]) for name, p in self.policies.items() if self.reached(name))


def lines(row: Compared, on_fcfs: Compared | None) -> list[str]:
    """The lines of one row: dopd, the peers that reach the objective by cost, the others, the optimum."""

    def place(name: str) -> tuple[int, float]:
        group = 0 if name in OURS else 3 if name == "optimum" else 1 if row.reached(name) else 2
        return group, float(row.policies[name]["gpu_hours"])

    entry = row.entry
    start = f"| {entry.load} | {entry.model}, {entry.startup_seconds:g} s | {entry.order} | {entry.world or 'as told'} "
    found = []
    for name in sorted(row.policies, key=place):
        figures = row.policies[name]
        hours = figures["gpu_hours"]
        knob = figures["knob"]
        if name == "optimum" and not math.isnan(row.at_least):
            knob += f"; no schedule below {row.at_least:.2f}"
        found.append(
            f"{start}| {name} | {_attained(figures, row.goal)} | {_hours(figures)} | {_ratio(hours, row.best_peer)} "
            f"| {_ratio(hours, on_fcfs.best_peer if on_fcfs else None)} | {_share(hours, row.optimum)} "
            f"| {_percent(figures['prefill_use'])}, {_percent(figures['decode_use'])} "
            f"| {figures['reversals_per_hour']:.1f} | {knob} |"
        )
    return found


def summary(rows: Sequence[Compared], fcfs: Callable[[Compared], Compared | None]) -> list[str]:
    """Median and worst of what dopd costs, by split, order and world."""
    found = [
        "| loads | order | world | rows | dopd reaches | the optimum reaches | of the best peer, same order: median, "
        "worst | of the best peer, fcfs: median, worst | of the optimum: median, worst |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    kinds = dict.fromkeys((row.entry.split, row.entry.order, row.entry.world) for row in rows)
    for split, order, world in kinds:
        part = [
            row
            for row in rows
            if (row.entry.split, row.entry.order, row.entry.world) == (split, order, world) and _ours(row)
        ]
        if not part:
            continue
        ours = [(row, row.policies[_ours(row)]) for row in part]  # type: ignore[index]
        reached = [(row, figures["gpu_hours"]) for row, figures in ours if figures["attainment"] >= row.goal]
        same = [hours / row.best_peer[1] for row, hours in reached if row.best_peer]
        other = [hours / peer.best_peer[1] for row, hours in reached if (peer := fcfs(row)) and peer.best_peer]
        best = [hours / row.optimum for row, hours in reached if row.optimum]
        optima = sum(1 for row in part if row.optimum)
        found.append(
            f"| {split} | {order} | {world or 'as told'} | {len(part)} | {len(reached)} | {optima} | {_two(same)} "
            f"| {_two(other)} | {_two(best)} |"
        )
    return [*found, "", "Of rows in which dopd reaches the objective."]


def _ours(row: Compared) -> str | None:
    return next((name for name in row.policies if name in OURS), None)


def show(entries: Iterable[Entry]) -> int:
    """Print summary and rows, each split apart; 2 if a report is none, which is said in its place."""
    code, rows = 0, []
    for entry in entries:
        try:
            rows.append(Compared.read(entry))
        except (OSError, ValueError, KeyError, TypeError) as error:
            why = f"the key {error} is missing" if isinstance(error, KeyError) else str(error)
            names = ", ".join(map(str, entry.reports))
            print(f"{names}: {why}; expected what this version's `dopd replay --json` writes", file=sys.stderr)
            code = 2
    by_key = {_key(row.entry, row.entry.order): row for row in rows}

    def fcfs(row: Compared) -> Compared | None:
        return by_key.get(_key(row.entry, FIRST_COME))

    print("\n".join(summary(rows, fcfs)))
    for split in dict.fromkeys(row.entry.split for row in rows):
        part = [row for row in rows if row.entry.split == split]
        print(f"\n## Loads that are {split}\n")
        for load, looked_at in dict.fromkeys((row.entry.load, row.entry.looked_at) for row in part):
            print(f"- {load}: {'looked at ' + looked_at if looked_at else 'nothing was chosen by it'}")
        print(f"\n{HEADER}")
        for row in part:
            print("\n".join(lines(row, fcfs(row))))
    return code


def _key(entry: Entry, order: str) -> tuple[object, ...]:
    return entry.load, entry.model, entry.startup_seconds, entry.world, order


def _attained(figures: dict[str, Any], goal: float) -> str:
    """The mean, bold where it reaches the objective, and the range over the seeds."""
    text = f"{figures['attainment']:.2%}"
    each = [seed["attainment"] for seed in figures["seeds"]]
    marked = f"**{text}**" if figures["attainment"] >= goal else text
    return f"{marked} ({min(each):.2%} to {max(each):.2%})" if len(each) > 1 else marked


def _hours(figures: dict[str, Any]) -> str:
    each = [seed["gpu_hours"] for seed in figures["seeds"]]
    mean = f"{figures['gpu_hours']:.2f}"
    return f"{mean} ({min(each):.2f} to {max(each):.2f})" if len(each) > 1 else mean


def _ratio(hours: float, peer: tuple[str, float] | None) -> str:
    return f"{hours / peer[1]:.2f} ({peer[0]})" if peer else "none reached it"


def _share(hours: float, reference: float | None) -> str:
    return f"{hours / reference:.2f}" if reference else "-"


def _percent(share: float | None) -> str:
    return f"{share:.0%}" if share is not None and not math.isnan(share) else "-"


def _two(ratios: list[float]) -> str:
    return f"{median(ratios):.2f}, {max(ratios):.2f}" if ratios else "-"
