"""Draw docs/images/why.svg from the JSON of the replay that README.md names.

python docs/images/why.py why.json
"""

import json
import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

MISSED, REACHED, OURS = "#b0b7bf", "#c84c09", "#0b6e99"
SHOWN = (
    (
        "targets 0.85 and 0.3, down after 300 s, up after 60 s, use over 15 s",
        "HPA, the best targets for this very load",
    ),
    ("targets 0.7 and 0.3, down after 300 s, use over 15 s", "HPA, 70 % and 30 %"),
    ("targets 0.3 and 0.3, down after 300 s, use over 15 s", "HPA, 30 % for both"),
    ("targets 0.4 and 0.4, down after 300 s, use over 15 s", "HPA, 40 % for both"),
)


def main(results: Path) -> None:
    """Bars of GPU-hours, pale where the objective is missed."""
    found = json.loads(results.read_text())
    tries = {run["knob"]: run for run in found["tries"]["hpa"]}
    dopd, goal = found["policies"]["dopd"], found["attainment"]
    rows = [("dopd, nothing to choose", dopd["gpu_hours"], f"{dopd['attainment']:.1%} on time", OURS)]
    for knob, name in SHOWN:
        run = tries[knob]
        missed = run["attainment"] < goal
        words = f"misses {goal:.0%}" if missed else f"{run['attainment']:.1%} on time"
        rows.append((name, run["gpu_hours"], words, MISSED if missed else REACHED))
    mpl.rcParams["svg.fonttype"] = "none"
    mpl.rcParams["svg.hashsalt"] = "dopd"
    figure = Figure(figsize=(8.4, 2.6), layout="constrained")
    axes = figure.subplots()
    rows.reverse()
    bars = axes.barh([row[0] for row in rows], [row[1] for row in rows], color=[row[3] for row in rows], height=0.62)
    axes.bar_label(bars, [f" {hours:.1f} GPU-hours, {words}" for _, hours, words, _ in rows], padding=2)
    axes.set_xlim(0, 1.55 * max(row[1] for row in rows))
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    figure.savefig(Path(__file__).with_name("why.svg"), metadata={"Date": None}, facecolor="white")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
