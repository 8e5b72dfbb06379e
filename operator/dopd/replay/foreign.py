"""Runs in NVIDIA Dynamo's simulator, each in the environment that holds it (`make dynamo-replay`).

Every policy starts with the same counts, on the same profile, trace, objectives and start-up time. Dynamo's planner
is tried with its objectives tightened step by step, and with its target "latency", which needs none; the fixed
counts are those of the busiest minute and their neighbours, since that simulator queues otherwise than our formulas.
"""

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import dopd
import dopd_forecasting
import dopd_scheduling
from dopd.replay import search
from dopd.replay.policies import static
from dopd.replay.policies.base import Setting
from dopd.replay.runner import Result
from dopd.replay.trace import Trace

NAMES = ("dopd", "dynamo", "static-peak")
TIGHTENED = ((1.0, 1.0), (1 / 3, 1.0), (2 / 15, 1.0), (1 / 15, 0.3))
"""Shares of the TTFT and of the ITL objective that Dynamo's planner is told."""
_PACKAGES = Path(dopd.__file__).parents[1]
_PATH = dict.fromkeys(str(Path(package.__path__[0]).parent) for package in (dopd, dopd_forecasting, dopd_scheduling))
"""Folders of what the planner is made of: one where they are installed, three in a checkout."""
_PYTHON = Path(".venv-dynamo", "bin", "python")


@dataclass(frozen=True)
class Try(search.Try):
    """One run.

    Attributes:
        arguments: of `dopd.replay.dynamo_simulator`, beyond the common ones.
    """

    arguments: tuple[str, ...] = ()


def find_python(named: str | None) -> Path:
    """The Python that has the simulator: the named one, or that of the working directory or of the checkout.

    Raises:
        ValueError: there is none.
    """
    places = [Path(named)] if named else [_PYTHON, _PACKAGES.parent / _PYTHON]
    found = next((place for place in places if place.exists()), None)
    if found is None:
        raise ValueError(
            f"--simulator dynamo needs NVIDIA Dynamo's packages, and there is no {' nor '.join(map(str, places))}; run "
            "`make dynamo-replay` in a checkout, or name the Python that has them with --dynamo-python"
        )
    return found.absolute()  # not resolved: a link is what makes it the Python of its environment


def tries(name: str, setting: Setting, trace: Trace) -> list[Try]:
    """What to run for a policy.

    Raises:
        ValueError: no policy of this name runs in that simulator.
    """
    start = static.first_counts(setting, trace)
    if name == "dopd":
        return [Try("", start, None, ("--policy", "dopd"))]
    if name == "dynamo":
        objectives = setting.objectives
        settings = [
            {"ttft_ms": objectives.ttft_seconds * 1e3 * ttft, "itl_ms": objectives.itl_seconds * 1e3 * itl}
            for ttft, itl in TIGHTENED
        ]
        labels = [f"objectives {knob['ttft_ms']:.0f} ms, {knob['itl_ms']:.0f} ms" for knob in settings]
        return [
            Try(label, start, None, ("--policy", "dynamo", "--planner", json.dumps(knob)))
            for label, knob in [
                *zip(labels, settings, strict=True),
                ("target latency", {"optimization_target": "latency"}),
            ]
        ]
    if name == "static-peak":
        prefill, decode = static.peak(setting, trace)
        around = [(prefill, decode), (prefill - 1, decode), (prefill, decode - 1), (prefill + 1, decode)]
        return [Try(f"{p}+{d}", (p, d), None, ("--policy", "fixed")) for p, d in around if p and d]
    raise ValueError(f"policy {name}: the simulator dynamo runs {', '.join(NAMES)}")


def run(python: Path, common: list[str], attempt: Try) -> Result:
    """One run, in an environment of its own.

    Args:
        python: that has the simulator.
        common: trace, profile, objectives and what else is alike for all runs, as arguments.
        attempt: what to run.

    Raises:
        ValueError: it failed; with the end of what it said.
    """
    with tempfile.TemporaryDirectory(prefix="dopd-replay-") as folder:
        answer = Path(folder) / "result.json"
        prefill, decode = attempt.start
        command = [str(python), "-m", "dopd.replay.dynamo_simulator", *common, *attempt.arguments]
        command += ["--prefill", str(prefill), "--decode", str(decode), "--json", str(answer)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(_PATH), "DYN_LOG": "error"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            said = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
            raise ValueError(f"{python} -m dopd.replay.dynamo_simulator ended with {done.returncode}: {said[0]}")
        figures = json.loads(answer.read_text(encoding="utf-8"))
    return Result(**figures | {"timeline": tuple(tuple(row) for row in figures["timeline"])})
