"""Results as JSON and as a table for a terminal; `dopd.replay.page` makes a page of them."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from dopd.replay.fixed import Comparison
from dopd.replay.page import page
from dopd.replay.runner import Result


@dataclass(frozen=True)
class Report:
    """All policies on one trace.

    Attributes:
        trace: name of the trace.
        profile: name of the profile.
        facts: what else was the same for all: requests, objectives, start-up time, arrival process, simulator.
        policies: the chosen run of each policy.
        knobs: value of the knob of the chosen run, by policy.
        tries: attainment and GPU-hours of every run, by policy.
        load: what arrived over time: bin_seconds, requests_per_second, input_tokens_per_second.
        fixed: the split and engines that do both at equal GPUs; None unless asked for.
    """

    trace: str
    profile: str
    facts: dict[str, Any]
    policies: dict[str, Result]
    knobs: dict[str, str]
    tries: dict[str, list[dict[str, Any]]]
    load: dict[str, Any]
    fixed: Comparison | None = None

    @property
    def seconds(self) -> float:
        """Length of the trace."""
        return max(float(self.facts["seconds"]), 1.0)

    @property
    def cheapest_peer_gpu_hours(self) -> float | None:
        """GPU-hours of the cheapest policy that reaches the objective, dopd and the oracle apart; None without any."""
        return min(
            (
                r.gpu_hours
                for name, r in self.policies.items()
                if is_peer(name) and r.attainment >= self.facts["attainment"]
            ),
            default=None,
        )

    @property
    def oracle_gpu_hours(self) -> float | None:
        """GPU-hours of the oracle; None where it did not run."""
        return self.policies["oracle"].gpu_hours if "oracle" in self.policies else None

    def reversals_per_hour(self, result: Result) -> float:
        """Changes of direction of both roles' targets, an hour of the trace."""
        return result.reversals * 3600 / self.seconds

    def as_json(self) -> str:
        """The report as JSON."""
        policies = {
            name: asdict(result) | {"knob": self.knobs[name], "reversals_per_hour": self.reversals_per_hour(result)}
            for name, result in self.policies.items()
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
            "policy            attained    TTFT     ITL    GPU-h  TTFT p90  ITL p90 changes turns/h cached  knob",
        ]
        for name, r in self.policies.items():
            lines.append(
                f"{name:<17}{r.attainment:>9.2%}{r.attainment_ttft:>8.1%}{r.attainment_itl:>8.1%}{r.gpu_hours:>9.2f}"
                f"{r.ttft_p90:>9.2f}s{r.itl_p90 * 1e3:>7.1f}ms{r.changes:>8}{self.reversals_per_hour(r):>8.1f}"
                f"{r.cached_share:>7.0%}  {self.knobs[name]}"
            )
        if self.fixed:
            lines += ["", self.fixed.as_text()]
        return "\n".join(lines)

    def as_html(self) -> str:
        """The report as a page."""
        return page(self)


def is_peer(name: str) -> bool:
    """Whether dopd is compared with a policy: it is not dopd, in any form, and does not know the future."""
    return name != "oracle" and name.partition("@")[0] != "dopd"
