"""Mistakes that people make, and the answers: field, value, what is expected, the fix, on one line.

Resources are judged by a real API server, command lines by the program. The same for the chart's values is in the
chart's own tests.
"""

import json
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
import yaml

from dopd.cli.main import main
from dopd.cluster import kinds

from .admission import GONE, INFERENCE, PROFILE, Json, changed, send


class Mistake(NamedTuple):
    """What is wrong, and the words of the answer that name it.

    Attributes:
        made: changes of a good manifest, or arguments of `dopd`.
        field: at fault.
        value: of it; "" where there is none, or more than one: of a rule over several fields the API server shows no
            value, and its bounds on the cost of rules allow no number in a message.
        expected: what may stand there.
        fix: what to do, where that is more than to write what is expected.
    """

    made: Json | tuple[str, ...]
    field: str
    value: str
    expected: str
    fix: str = ""


NIGHT = {"name": "night", "timeZone": "Europe/Berlin", "start": "0 22 * * *", "end": "0 6 * * *"}
FEWER = {**NIGHT, "prefill": {"min": 1, "max": 2}}
URL = "prometheus:9090"
MILLISECONDS = [{"tokens": 512, "seconds": 10.0}, {"tokens": 2048, "seconds": 50.0}]

RESOURCES = [
    Mistake({"spec.slo": {"ttftSeconds": 1500}}, "spec.slo.ttftSeconds", "1500", "at most 120", "1500 ms are 1.5"),
    Mistake({"spec.slo": {"attainment": 99}}, "spec.slo.attainment", "99", "at most 0.9999", "99 % are 0.99"),
    Mistake(
        {"spec.scaling.gpuBudget.max": 2},
        "spec.scaling.gpuBudget.max",
        "",
        "at least scaling.prefill.min * prefill.gpus + scaling.decode.min * decode.gpus",
        "raise it, or lower a min",
    ),
    Mistake(
        {"spec.scaling.prefill": {"min": 3, "max": 2}},
        "spec.scaling.prefill.min",
        "",
        "must not exceed max",
        "lower min or raise max",
    ),
    Mistake(
        {"spec.prefill.replicas": 2},
        "spec.prefill.replicas",
        "",
        "replicas and scaling exclude each other",
        "remove spec.prefill.replicas and spec.decode.replicas, or remove spec.scaling",
    ),
    Mistake(
        {"spec.scaling.profileRef": GONE},
        "spec.scaling",
        "",
        "names no EngineProfile",
        "set spec.scaling.profileRef, or spec.prefill.profileRef and spec.decode.profileRef",
    ),
    Mistake({"spec.scaling.mode": "Manual"}, "spec.scaling.mode", '"Manual"', '"Auto", "Advise", "Paused"'),
    Mistake(
        {"spec.telemetry": {"prometheusURL": URL}}, "telemetry.prometheusURL", URL, "begins with http://", "such as"
    ),
    Mistake(
        {"spec.engine.args": ["--tp-size", "2"]},
        "spec.engine.args",
        "--tp-size",
        "means --tp-size or --tensor-parallel-size",
        "remove it: say it in parallelism.tensor of its role",
    ),
    Mistake(
        {"spec.scaling.behavior": {"interval": "15"}}, "behavior.interval", '"15"', "a length of time", "such as 90s"
    ),
    Mistake(
        {"spec.scaling.schedules": [{**FEWER, "start": "22:00"}]},
        "spec.scaling.schedules[0].start",
        '"22:00"',
        "five cron fields",
        "such as 0 7 * * 1-5",
    ),
    Mistake(
        {"spec.scaling.schedules": [{**FEWER, "timeZone": "CEST"}]},
        "schedules[0].timeZone",
        "CEST",
        "IANA name of a time zone",
        "such as Europe/Berlin",
    ),
]
PROFILES = [
    Mistake(
        {"spec.prefill.points": MILLISECONDS},
        "spec.prefill.points",
        "",
        "at most 1 s and 5 ms a token",
        "the unit is seconds, and 46.1 ms are 0.0461",
    ),
    Mistake({"spec.source.date": "24.11.2026"}, "spec.source.date", "24.11.2026", "(YYYY-MM-DD)", "such as 2026-11-24"),
]
LOAD = ("--requests-per-second", "20", "--input-tokens", "2000", "--output-tokens", "200")
NAMED = ("--name", "p", "--model", "m", "--gpu", "g")
COMMANDS = [
    Mistake(("statu",), "statu", "", "expected one of status, explain, plan", "did you mean status?"),
    Mistake(("status", "--outptu", "json"), "--outptu", "", "no such option", "did you mean --output?"),
    Mistake(("status", "-o", "xml"), "--output", "xml", "expected one of table, wide, json, yaml"),
    Mistake(("status", "Llama_8B"), "RESOURCE", "Llama_8B", "lower-case letters, digits and '-'", "such as dopd"),
    Mistake(("explain",), "RESOURCE", "", "missing", "see dopd explain --help"),
    Mistake(("plan", "m", "--attainment", "99"), "--attainment", "99", "a share above 0 and below 1", "write 0.99"),
    Mistake(("plan", "m", "--slo-ttft", "1500ms"), "--slo-ttft", "1500ms", "expected seconds above 0", "such as 1.5"),
    Mistake(("plan", "m", "--gpu-budget", "0"), "--gpu-budget", "0", "a whole number of GPUs from 1"),
    Mistake(("plan", *LOAD), "--profile", "", "missing", "add it, or name a resource"),
    Mistake(
        ("plan", *LOAD, "--profile", "llama-8b"), "--profile", "llama-8b", "a .yaml file or one of", "llama-3.1-8b-h100"
    ),
    Mistake(
        ("plan", "m", "--spec", "slo.yaml"), "spec.slo.ttftSeconds", "1500", "less than or equal to 120", "slo.yaml"
    ),
    Mistake(
        ("plan", "m", "--spec", "typo.yaml"), "spec.scaling.gpuBugdet", "", "no such field", "did you mean gpuBudget?"
    ),
    Mistake(("replay",), "TRACE", "", "missing; expected a file of requests", "or --from RESOURCE"),
    Mistake(("replay", "--from", "m", "--since", "6"), "--since", "6", "a length of time", "such as 6h"),
    Mistake(
        ("replay", "t.csv", "--policies", "dop"), "--policies", "dop", "expected some of dopd", "did you mean dopd?"
    ),
    Mistake(("run", "--lease-seconds", "0"), "--lease-seconds", "0", "a number from 2 to 300"),
    Mistake(("doctor", "--kubeconfig", "gone"), "--kubeconfig", "gone", "a kubeconfig file that exists"),
    Mistake(("completion", "powershell"), "bash|zsh|fish", "powershell", "expected one of bash, zsh, fish"),
    Mistake(
        ("profile", "measure", *NAMED, "--decode-url", "http://d:1", "--prefill-url", "10.0.0.7:30000"),
        "--prefill-url",
        "10.0.0.7:30000",
        "expected a base URL",
        "such as http://10.0.0.7:30000",
    ),
]


def complete(mistake: Mistake, answer: str) -> None:
    for part in mistake[1:]:
        assert part in answer


def test_there_are_25():
    assert len(RESOURCES) + len(PROFILES) + len(COMMANDS) >= 25


@pytest.mark.parametrize("mistake", RESOURCES, ids=lambda mistake: mistake.field)
def test_a_resource(api: httpx.Client, crds: None, mistake: Mistake):
    assert isinstance(mistake.made, dict)
    answer = send(api, kinds.INFERENCE, changed(INFERENCE, mistake.made))
    assert answer.status_code == 422, answer.text
    complete(mistake, answer.json()["message"])


@pytest.mark.parametrize("mistake", PROFILES, ids=lambda mistake: mistake.field)
def test_a_profile(api: httpx.Client, crds: None, mistake: Mistake):
    assert isinstance(mistake.made, dict)
    answer = send(api, kinds.PROFILE, changed(PROFILE, mistake.made))
    assert answer.status_code == 422, answer.text
    complete(mistake, answer.json()["message"])


@pytest.mark.parametrize("mistake", COMMANDS, ids=lambda mistake: " ".join(mistake.made[:2]))
def test_a_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mistake: Mistake
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    for name, change in (
        ("slo.yaml", {"spec.slo": {"ttftSeconds": 1500}}),
        ("typo.yaml", {"spec.scaling.gpuBugdet": {"max": 8}}),
    ):
        (tmp_path / name).write_text(yaml.safe_dump(json.loads(json.dumps(changed(INFERENCE, change)))))
    assert isinstance(mistake.made, tuple)
    assert main(mistake.made) == 2
    said, complaint = capsys.readouterr()
    assert said == "", "nobody is shown a page of usage"
    assert len(complaint.splitlines()) == 1
    complete(mistake, complaint)
