"""Draws the frontier of docs/scheduling.md: TTFT P90 of all prompts against what the longest tenth loses.

Usage: python docs/images/orders.py mooncake-conversation.csv.gz, from the repository root; a minute.
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.figure import Figure

from dopd.perf import EngineModel
from dopd.planning import Objectives
from dopd.replay.orders import MIX, Variant, poisson, serve
from dopd.replay.profiles import load_profile

HERE = Path(__file__).parent
SHARES = (0.1, 0.2, 0.33, 0.5, 0.7, 1.0)
WORKERS, AMPLE_DECODE, UTILISATION, REQUESTS = 4, 64, 0.9, 30_000
SHORTEST = "shortest first (SGLang's flag)"


def points(source: str, ttft_seconds: float) -> dict[str, list[tuple[float, float, float, str]]]:
    """For each order (TTFT p90, longest tenth's p99, its attainment in percent, label)."""
    model = EngineModel.from_profile(load_profile("llama-3.1-8b-h100"))
    trace = poisson(source, model, WORKERS, UTILISATION, REQUESTS, seed=1)
    objectives = Objectives(ttft_seconds, 0.1, 0.99)

    def point(variant: Variant, label: str) -> tuple[float, float, float, str]:
        result, _ = serve(trace, model, objectives, (WORKERS, AMPLE_DECODE), variant, seed=1)
        return result.ttft_p90, result.longest_ttft_p99, 100 * result.longest_attainment_ttft, label

    return {
        "first come, first served": [point(Variant("fcfs"), "")],
        SHORTEST: [point(Variant("shortest-first", most_unfinished=1), "")],
        "on time first, by lateShare": [point(Variant("on-time-first", share), f"{share:g}") for share in SHARES],
    }


def main(arguments: list[str]) -> None:
    """Draw both loads side by side."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    loads = (
        ("lengths of mooncake-conversation, TTFT 15 s", arguments[0], 15.0),
        ("nine short, one of 16,000; 1.5 s", MIX, 1.5),
    )
    axes = figure.subplots(2, 2, sharex="col")
    for column, (title, source, ttft_seconds) in enumerate(loads):
        for name, found in points(source, ttft_seconds).items():
            for row, place in enumerate((1, 2)):
                axis = axes[row][column]
                style = "o-" if len(found) > 1 else "s"
                axis.plot([point[0] for point in found], [point[place] for point in found], style, label=name, ms=6)
                for point in found:
                    axis.annotate(
                        point[3], (point[0], point[place]), xytext=(5, 5), textcoords="offset points", fontsize=8
                    )
        axes[0][column].set_title(title, fontsize=10)
        axes[0][column].set_ylabel("p99 of the longest tenth, s")
        axes[1][column].set_ylabel("longest tenth on time, %")
        axes[1][column].set_xlabel("TTFT P90 of all prompts, s")
        for row in (0, 1):
            axes[row][column].grid(alpha=0.3)
            axes[row][column].set_xlim(left=0)
    axes[0][0].legend(fontsize=8)
    figure.savefig(HERE / "order-frontier.png", dpi=110)


if __name__ == "__main__":
    main(sys.argv[1:])
