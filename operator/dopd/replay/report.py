"""Results as JSON and as a table for a terminal; `dopd.replay.page` makes a page of them."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from dopd.replay.fixed import Comparison
from dopd.replay.page import page
from dopd.replay.policies.catalogue import HINDSIGHT, is_peer
from dopd.replay.runner import Result
from dopd.replay.seeds import Chosen, spread


@dataclass(frozen=True)
class Report:
    """All policies on one trace.

    Attributes:
        trace: name of the trace.
        profile: name of the profile.
        facts: what else was the same for all: requests, objectives, start-up time, arrival process, simulator.
        chosen: the chosen run of each policy.
        load: what arrived over time: bin_seconds, requests_per_second, input_tokens_per_second.
        fixed: the split and engines that do both at equal GPUs; None unless asked for.
    """

    trace: str
    profile: str
    facts: dict[str, Any]
    chosen: dict[str, Chosen]
    load: dict[str, Any]
    fixed: Comparison | None = None

    @property
    def policies(self) -> dict[str, Result]:
        """What each policy attained, in the mean over the seeds."""
        return {name: chosen.result for name, chosen in self.chosen.items()}

    @property
    def knobs(self) -> dict[str, str]:
        """Value of the knob of each policy's run."""
        return {name: chosen.knob for name, chosen in self.chosen.items()}

    @property
    def tries(self) -> dict[str, list[dict[str, Any]]]:
        """Knob, attainment and GPU-hours of every run with the first seed, by policy.

        Of a run that was given up the attainment is the most, and the GPU-hours are the least that it could have had.
        """
        return {
            name: [
                {
                    "knob": knob, "attainment": result.attainment, "gpu_hours": result.gpu_hours,
                    "given_up_seconds": result.stopped_seconds,
                }
                for knob, result in chosen.tries
            ]
            for name, chosen in self.chosen.items()
        }  # fmt: skip

    @property
    def seconds(self) -> float:
        """Length of the trace."""
        return max(float(self.facts["seconds"]), 1.0)

    @property
    def cheapest_peer_gpu_hours(self) -> float | None:
        """GPU-hours of the cheapest peer that reaches the objective; None without any."""
        return min(
            (
                r.gpu_hours
                for name, r in self.policies.items()
                if is_peer(name) and r.attainment >= self.facts["attainment"]
            ),
            default=None,
        )

    @property
    def hindsight_gpu_hours(self) -> float | None:
        """GPU-hours of the optimum, or of the oracle where that alone ran; None without either."""
        return next((self.policies[name].gpu_hours for name in HINDSIGHT if name in self.policies), None)

    def reversals_per_hour(self, result: Result) -> float:
        """Changes of direction of both roles' targets, an hour of the trace."""
        return result.reversals * 3600 / self.seconds

    def as_json(self) -> str:
        """The report as JSON."""
        policies = {
            name: asdict(chosen.result)
            | {
                "knob": chosen.knob,
                "reversals_per_hour": self.reversals_per_hour(chosen.result),
                "seeds": [{"attainment": one.attainment, "gpu_hours": one.gpu_hours} for one in chosen.seeds],
            }
            for name, chosen in self.chosen.items()
        }
        content = {
            "trace": self.trace,
            "profile": self.profile,
            **self.facts,
            "policies": policies,
            "tries": self.tries,
            "load": self.load,
        }
        if self.fixed:
            content["fixed_counts"] = self.fixed.as_json()
        return json.dumps(content, indent=1)

    def as_text(self) -> str:
        """The report as a table."""
        facts = ", ".join(f"{key} {value}" for key, value in self.facts.items())
        lines = [
            f"{self.trace} on {self.profile}: {facts}",
            "policy            attained    TTFT     ITL    GPU-h  TTFT p90  ITL p90 changes turns/h "
            "prefill used decode cached  knob",
        ]
        for name, r in self.policies.items():
            lines.append(
                f"{name:<17}{r.attainment:>9.2%}{r.attainment_ttft:>8.1%}{r.attainment_itl:>8.1%}{r.gpu_hours:>9.2f}"
                f"{r.ttft_p90:>9.2f}s{r.itl_p90 * 1e3:>7.1f}ms{r.changes:>8.0f}{self.reversals_per_hour(r):>8.1f}"
                f"{r.prefill_use:>13.0%}{r.decode_use:>7.0%}{r.cached_share:>7.0%}  {self.knobs[name]}"
            )
            if r.flips:
                lines.append(f"{'':<17}{r.flips:.0f} workers changed their role")
            if r.cold:
                lines.append(f"{'':<17}{r.cold:.0f} requests found no worker and waited for one")
            each = self.chosen[name].seeds
            if len(each) > 1:
                (least, most), (cheapest, dearest) = spread(each, "attainment"), spread(each, "gpu_hours")
                lines.append(f"{'':<17}{least:.2%} to {most:.2%}, {cheapest:.2f} to {dearest:.2f} GPU-hours")
        if self.fixed:
            lines += ["", self.fixed.as_text()]
        return "\n".join(lines)

    def as_html(self) -> str:
        """The report as a page."""
        return page(self)
