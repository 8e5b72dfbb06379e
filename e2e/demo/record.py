"""One run as it was recorded, and the figures that are made from it. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from dopd.api.names import Role
from e2e.demo.fitting import BIN_SECONDS, Need
from e2e.demo.scenario import Scenario, Settings
from e2e.demo.seen import Sample, SeenDecision
from e2e.demo.watch import gpu_seconds, served_after_seconds
from e2e.demo.what_if import Outcome, WhatIf
from e2e.load import Outcome as Ending
from e2e.load import Result, Schedule, Summary, summarize


@dataclass(frozen=True)
class Attained:
    """Shares of the requests of one stretch that met their objectives."""

    at_seconds: float
    ttft: float
    itl: float


@dataclass(frozen=True)
class Peak:
    """The busiest stretch of the trace.

    Attributes:
        at_seconds: its start, since the load began.
        prefill: prefill workers that it needs.
        decode: decode workers that it needs.
        ready_seconds: since when as many served without a break; None if they did not when it began.
    """

    at_seconds: float
    prefill: int
    decode: int
    ready_seconds: float | None


@dataclass(frozen=True)
class Run:
    """A run, or the part of it that has been so far. Times are seconds of the clock since the load began.

    Attributes:
        scenario: what was played.
        settings: of the scenario's manifests.
        schedule: the load, lead-in included.
        needs: what each stretch needs by the operator's arithmetic, since the end of the lead-in.
        results: what became of the requests.
        samples: what was seen of the resource.
        decisions: of the operator.
    """

    scenario: Scenario
    settings: Settings
    schedule: Schedule
    needs: Sequence[Need]
    results: Sequence[Result]
    samples: Sequence[Sample]
    decisions: Sequence[SeenDecision]

    @property
    def lead_in_seconds(self) -> float:
        """End of the lead-in."""
        return self.scenario.lead_in_seconds

    @property
    def counted(self) -> list[Result]:
        """Results of the trace itself."""
        return [result for result in self.results if result.at_seconds >= self.lead_in_seconds]

    @property
    def lost(self) -> list[Result]:
        """Results that are not whole, those of the lead-in included."""
        return [result for result in self.results if result.outcome is not Ending.OK]

    @property
    def lead_seconds(self) -> Mapping[Role, float]:
        """From a start to a worker that serves: the median of what the operator measured while the load played.

        The profile's figure stands while it has not seen enough starts, as it does for the operator.
        """
        expected = self.settings.model.startup_seconds
        measured = {
            role: [
                seconds
                for sample in self.samples
                if sample.at_seconds <= self.schedule.seconds
                and (seconds := sample.load.lead_seconds.get(role, expected[role])) != expected[role]
            ]
            for role in Role
        }
        return {role: median(measured[role]) if measured[role] else expected[role] for role in Role}

    @property
    def gpu_seconds(self) -> float:
        """GPU time of the trace, in its own time."""
        return self.scenario.speedup * gpu_seconds(self.samples, self.lead_in_seconds, self.schedule.seconds)

    def summary(self) -> Summary:
        """The counted results in few numbers, in time of the trace."""
        speedup = self.scenario.speedup
        return summarize(self.counted, self.settings.objectives(speedup), speedup=speedup)

    def attained(self, width_seconds: float) -> list[Attained]:
        """Attainment by the time at which requests were sent, in stretches of equal width."""
        groups: dict[int, list[Result]] = defaultdict(list)
        for result in self.results:
            groups[int(result.at_seconds // width_seconds)].append(result)
        objectives = self.settings.objectives(1.0)
        stretches = []
        for number, group in sorted(groups.items()):
            of_group = summarize(group, objectives)
            stretches.append(
                Attained(number * width_seconds, of_group.attainment_ttft or 0.0, of_group.attainment_itl or 0.0)
            )
        return stretches

    def peak(self) -> Peak:
        """The stretch with most arrivals, and since when its workers served."""
        busiest = max(self.needs, key=lambda need: need.demand.requests_per_second)
        at = busiest.at_seconds + self.lead_in_seconds
        ready: float | None = None
        for sample in self.samples:
            if sample.at_seconds > at:
                break
            enough = sample.prefill.ready >= busiest.prefill and sample.decode.ready >= busiest.decode
            ready = (sample.at_seconds if ready is None else ready) if enough else None
        return Peak(at, busiest.prefill, busiest.decode, ready)

    def arrivals(self, width_seconds: float = BIN_SECONDS / 4) -> list[tuple[float, float]]:
        """(middle of a stretch, requests per second that arrived in it)."""
        counts: dict[int, int] = defaultdict(int)
        for arrival in self.schedule:
            counts[int(arrival.at_seconds // width_seconds)] += 1
        return [((n + 0.5) * width_seconds, counts[n] / width_seconds) for n in range(max(counts, default=-1) + 1)]


def figures(run: Run, other: WhatIf, first_token_seconds: float) -> dict[str, Any]:
    """The figures of a run as plain data.

    Latencies and GPU time are in time of the trace; `t` is in seconds of the clock since the trace began, negative in
    the lead-in. What was lost counts in the lead-in too.
    """
    summary, peak, lost = run.summary(), run.peak(), run.lost
    since = run.lead_in_seconds
    return summary.as_json() | {
        "scenario": run.scenario.name,
        "counted_requests": summary.requests,
        "requests": len(run.results),
        "ok": len(run.results) - len(lost),
        "failed": sum(result.outcome is Ending.FAILED for result in lost),
        "truncated": sum(result.outcome is Ending.TRUNCATED for result in lost),
        "first_error": lost[0].error if lost else "",
        "first_token_s": round(first_token_seconds, 2),
        "gpu_seconds": round(run.gpu_seconds),
        "lead_s": {role.value: round(seconds, 2) for role, seconds in run.lead_seconds.items()},
        "peak": {
            "t": round(peak.at_seconds - since, 1),
            "p": peak.prefill,
            "d": peak.decode,
            "ready_t": None if peak.ready_seconds is None else round(peak.ready_seconds - since, 1),
        },
        "decisions": [
            {
                "t": round(decision.at_seconds - since, 1),
                "p": decision.target[0],
                "d": decision.target[1],
                "reason": decision.reason,
                "served_after_s": served_after_seconds(decision, run.samples),
            }
            for decision in run.decisions
        ],
        "reactive": _outcome(other.reactive),
        "reactive_by_role": _outcome(other.reactive_by_role),
        "static": _outcome(other.static),
        "dopd_replayed": _outcome(other.dopd),
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "label": outcome.label,
        "attainment": outcome.attainment,
        "attainment_ttft": outcome.attainment_ttft,
        "attainment_itl": outcome.attainment_itl,
        "gpu_seconds": round(outcome.gpu_seconds),
    }
